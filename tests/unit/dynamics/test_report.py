# SPDX-License-Identifier: Apache-2.0
"""What a relaxation tells and leaves, of numbers made up."""

import logging
import signal
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from deepspin.atoms.structures import Structure
from deepspin.dynamics.relax.relaxation import Relaxation
from deepspin.dynamics.relax.report import Report, log_of
from deepspin.dynamics.relax.search import Changes
from deepspin.pictures.tables import read_table
from deepspin.utils.stopping import StopOnSignal

SPIN = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def atoms():
    return Structure(
        names=("Ni",),
        atype=np.zeros(2, int),
        coord=np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
        box=3.0 * np.eye(3),
        pbc=np.ones(3, bool),
        spin=SPIN,
        mass=np.full(2, 58.7),
        fixed=np.zeros(2, bool),
    )


def state(atoms, energy, steps, spin=SPIN):
    """Replicas with these energies, all converged."""
    n = len(energy)
    many = (n, 1, 1)
    energy = np.array(energy)
    return Relaxation(
        coord=np.tile(atoms.coord, many),
        spin=np.broadcast_to(spin, (n, 2, 3)),
        box=np.tile(atoms.box, many),
        energy=energy,
        enthalpy=energy,
        force=np.zeros((n, 2, 3)),
        force_mag=np.zeros((n, 2, 3)),
        virial=np.zeros((n, 3, 3)),
        fmax=np.full(n, 1e-4),
        tmax=np.full(n, 2e-5),
        smax=np.zeros(n),
        steps=np.array(steps),
        converged=np.ones(n, bool),
        stalled=np.zeros(n, bool),
        evaluations=7,
    )


class Model:
    precision, dropped = "float64", 0


def report(atoms, **changes):
    return Report("r.extxyz", atoms, Changes(**changes), StopOnSignal())


def test_log_has_a_line_for_each_step_of_each_replica(atoms):
    seen = report(atoms)
    seen(state(atoms, [-1.0, -2.0], [0, 0]))
    seen(state(atoms, [-1.5, -2.0], [1, 0]))
    end = state(atoms, [-1.5, -3.0], [1, 1])
    seen(end)
    seen.finish(end, Model())
    table = read_table(Path("r.log"))
    assert table.kind == "relaxation"
    one, two = table.replicas()
    np.testing.assert_array_equal(one["step"], [0, 1])
    np.testing.assert_array_equal(one["energy"], [-1.0, -1.5])
    np.testing.assert_array_equal(two["energy"], [-2.0, -3.0])


def test_states_are_written_lowest_last(atoms, caplog):
    """Those that are the same are counted."""
    caplog.set_level(logging.INFO)
    seen = report(atoms)
    other = np.array([SPIN, SPIN * [[1.0], [-1.0]] + [0.0, 0.0, 1.0], SPIN])
    end = state(atoms, [-3.0, -2.0, -3.0], [1, 2, 3], other)
    seen(replace(end, steps=np.zeros(3, int)))
    seen.finish(end, Model())
    images = ase.io.read("r.extxyz", ":")
    assert [image.get_potential_energy() for image in images] == [-2.0, -3.0]
    assert [image.info["found"] for image in images] == [1, 2]
    assert caplog.messages[-1] == "wrote 'r.extxyz' and 'r.log'"
    assert "3 of 3 converged in up to 3 steps and 7 evaluations" in caplog.messages


def test_changes_are_told(atoms, caplog):
    caplog.set_level(logging.INFO)
    seen = report(atoms)
    seen(state(atoms, [-1.0], [0]))
    end = state(atoms, [-1.25], [3], SPIN[:, [0, 2, 1]])
    seen.finish(replace(end, coord=end.coord + np.array([0.5, 0.0, 0.0])), Model())
    assert "energy: -1.25000000 eV, -0.25000000 eV from its start" in caplog.messages
    assert "atoms: moved up to 0.5000 Å (atom 0)" in caplog.messages
    assert "spins: turned up to 90.00° (atom 1)" in caplog.messages
    assert "spins of Ni: |S| 1.0000 to 2.0000 μ_B, |mean S| 1.1180 μ_B" in caplog.text


def test_what_did_not_converge(atoms, caplog):
    end = state(atoms, [-1.0, -1.0], [5, 2])
    not_there = np.zeros(2, bool)
    end = replace(end, converged=not_there, stalled=np.array([False, True]))
    seen = report(atoms)
    seen(end)
    model = Model()
    model.dropped = 3
    seen.finish(end, model)
    first, second, third = (r.getMessage() for r in caplog.records if r.levelno > 20)
    assert first.startswith("1 of 2 did not converge in 5 steps")
    assert second.startswith("1 of 2 find no way further down")
    assert third.startswith("the model leaves out neighbours")


def test_signal_stops_it_after_the_step_is_noted(atoms):
    seen = report(atoms)
    seen.stop.received = signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        seen(state(atoms, [-1.0], [0]))
    assert seen.last is seen.first is not None and len(seen.lines) == 1


def test_stress_is_told_where_the_cell_changes(atoms, caplog):
    caplog.set_level(logging.INFO)
    report(atoms, cell=True, pressure=1.0)(state(atoms, [-1.0], [0]))
    head, line = caplog.messages
    assert head.startswith("# step, enthalpy (eV)") and "stress (GPa)" in head
    assert len(line.split()) == 5


def test_name_of_the_log():
    assert log_of("a/b.extxyz") == Path("a/b.log")
