# SPDX-License-Identifier: Apache-2.0
"""Domains of a frame: what their energies give adds up to what the frame's gives."""

from __future__ import annotations

import itertools

import invariant_models
import numpy as np
import pytest
import tensorflow as tf
from peer import with_tables

from deepspin.infer import domain
from deepspin.infer.deep_spin import DeepSpin
from deepspin.infer.domain import DomainPotential, Listed

FPARAM = np.array([0.7, -1.2])


@pytest.fixture(scope="module")
def models(make_model):
    return {
        "kernels": make_model("NiOFe"),
        "even": make_model("NiO", time_reversal=True),
        "parameters": make_model("NiO", numb_fparam=2),
        "tables": with_tables(make_model("NiO")),
        "invariant": invariant_models.build("NiOFe", walls=True, soc=True),
    }


@pytest.fixture
def eager():
    """Evaluate without graphs, which take longer to make in plain TensorFlow."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def images(frame, reach):
    """Positions of atoms, then of all images within `reach` of one; whose all are."""
    shifts = sorted(itertools.product(range(-3, 4), repeat=3), key=np.any)
    everywhere = np.concatenate([frame.coord + np.dot(s, frame.box) for s in shifts])
    atom = np.tile(np.arange(len(frame.coord)), len(shifts))
    apart = np.linalg.norm(everywhere[:, None] - frame.coord, axis=2).min(axis=1)
    keep = (apart < reach) | (np.arange(len(atom)) < len(frame.coord))
    return everywhere[keep], atom[keep]


def listed(coord, ncentres, cutoff):
    """All within a little more than `cutoff` of each centre, itself among them."""
    apart = np.linalg.norm(coord[:ncentres, None] - coord, axis=2)
    rows = [np.flatnonzero(row < cutoff + 0.1) for row in apart]
    start = np.cumsum([0, *map(len, rows)])
    partners = np.concatenate([*rows, np.zeros(0, int)])
    return Listed(start, partners, len(coord), cutoff)


def total(potential, frame, parts, fparam=None, reach=1.0):
    """Sum over domains, forces by numbers of atoms."""
    cutoff = potential.rcut + reach
    everywhere, atom = images(frame, cutoff)
    nloc = len(frame.coord)
    result = {"energy": 0.0, "virial": np.zeros((3, 3))}
    result |= {name: np.zeros((nloc, 3)) for name in ("force", "force_mag")}
    for part in parts:
        others = np.setdiff1d(np.arange(len(atom)), part)
        order = np.array([*part, *others])
        coord, own = everywhere[order], atom[order]
        near = listed(coord, len(part), cutoff)
        share = potential.eval_domain(
            coord, frame.spin[own], frame.atype[own], near, fparam
        )
        for name in ("energy", "virial"):
            result[name] = result[name] + getattr(share, name)
        for name in ("force", "force_mag"):
            np.add.at(result[name], own, getattr(share, name))
    return result


def assert_same(found, wanted):
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name][0], rtol=1e-12, atol=1e-12)


def check(kind, models, make_nio, monkeypatch):
    """Of two domains, and of one that comes through memory centre by centre."""
    model = models[kind]
    frame, fparam = make_nio(model), FPARAM if kind == "parameters" else None
    given = (frame.coord, frame.box, frame.atype, frame.spin)
    potential = DomainPotential(model)
    wanted = potential.eval(*given, fparam=fparam)
    parts = [[0, 6, 2, 5], [7, 3, 4, 1], []]
    assert_same(total(potential, frame, parts, fparam), wanted)
    calls, whole = [], potential._domains
    potential._domains = lambda inputs: calls.append(1) or whole(inputs)
    monkeypatch.setattr(domain, "MEMORY", 1.0)
    assert_same(total(potential, frame, [range(8)], fparam), wanted)
    assert len(calls) == 8


@pytest.mark.parametrize("kind", ["kernels", "even", "tables"])
def test_sum_over_domains(kind, models, make_nio, monkeypatch):
    check(kind, models, make_nio, monkeypatch)


@pytest.mark.parametrize("kind", ["parameters", "invariant"])
def test_sum_over_domains_without_kernels(kind, models, make_nio, monkeypatch, eager):
    check(kind, models, make_nio, monkeypatch)


def test_far_virtual_atoms(make_model, make_nio):
    """So far from their owners that candidates of these do not tell theirs."""
    model = make_model("NiO")
    frame = make_nio(model)
    frame.spin[:4] *= 4.0  # 1.5 Å, of a cutoff of 3.3 Å
    wanted = DeepSpin(model).eval(frame.coord, frame.box, frame.atype, frame.spin)
    parts = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert_same(total(DomainPotential(model), frame, parts, reach=2.0), wanted)


def test_candidates_of_too_short_a_list(models, make_nio):
    """A list that ends before the cutoff is not relied on."""
    model = models["kernels"]
    frame = make_nio(model)
    wanted = DeepSpin(model).eval(frame.coord, frame.box, frame.atype, frame.spin)
    everywhere, atom = images(frame, 4.3)
    near = listed(everywhere, 8, 2.0)
    share = DomainPotential(model).eval_domain(
        everywhere, frame.spin[atom], frame.atype[atom], near
    )
    np.testing.assert_allclose(share.energy, wanted["energy"][0], rtol=1e-12)


def test_atoms_at_the_same_place(models, make_nio):
    model = models["invariant"]
    frame = make_nio(model)
    coord = frame.coord.copy()
    coord[5] = coord[2]
    with pytest.raises(ValueError, match="are at the same place"):
        DomainPotential(model).eval_domain(
            coord, frame.spin, frame.atype, listed(coord, 3, 3.3)
        )


def test_pairs_beyond_tables(models, make_nio):
    """Told as `DeepSpin.eval` tells it."""
    model = models["tables"]
    frame = make_nio(model)
    coord = frame.coord.copy()
    coord[5] = coord[2] + [0.1, 0.0, 0.0]
    with pytest.raises(RuntimeError, match="nearer than the tables"):
        DomainPotential(model).eval_domain(
            coord, frame.spin, frame.atype, listed(coord, 8, 3.8)
        )
