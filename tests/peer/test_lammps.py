# SPDX-License-Identifier: Apache-2.0
"""Our .pb files in LAMMPS, and the example; see `peer.py` for how to run these."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from invariants import Frame, assert_close
from peer import (
    FPARAM,
    SIDES,
    as_lammps_wants,
    deep_pot,
    needs_lammps,
    read_state,
    run_lammps,
    start,
    with_tables,
    write_lammps_data,
    write_state,
)
from places import REFERENCE, ROOT

from deepspin.interop.deepmd import load_frozen
from deepspin.interop.graph import write_graph
from deepspin.pictures.tables import read_table

EXAMPLE = ROOT / "examples" / "NiO" / "lmp"


def doubled(frame: Frame, seed: int = 5) -> Frame:
    """Two cells along a, the atoms of the second displaced and its spins turned."""
    rng = np.random.default_rng(seed)
    moved = frame.coord + frame.box[0] + 0.1 * rng.normal(size=frame.coord.shape)
    turned = frame.spin @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return as_lammps_wants(
        Frame(
            coord=np.concatenate([frame.coord, moved]),
            box=frame.box * np.array([[2.0], [1.0], [1.0]]),
            atype=np.tile(frame.atype, 2),
            spin=np.concatenate([frame.spin, turned]),
            scale=np.tile(frame.scale, 2),
        )
    )


# arguments of make_model, types of the data file, options of write_graph, skin
CASES = {
    "one-side": ("NiO", {"type_one_side": True}, ["Ni", "O"], {}, 1.0),
    "two-sides": ("ONi", {"type_one_side": False}, ["O", "Ni"], {}, 1.0),
    "three-types": ("NiOFe", {"type_one_side": True}, ["O", "Fe", "Ni"], {}, 1.0),
    "protected": ("NiO", {"env_protection": 0.01}, ["Ni", "O"], {}, 1.0),
    "compressed": ("ONi", {"type_one_side": False}, ["O", "Ni"], {}, 1.0),
    "parameters": ("NiO", {"numb_fparam": 2}, ["Ni", "O"], {}, 1.0),
    "vacuum": ("NiO", {"type_one_side": False}, ["Ni", "O"], {}, 1.0),
    "no-skin": ("NiO", {"type_one_side": True}, ["Ni", "O"], {}, 0.0),
    "padded": (
        "NiO",
        {"type_one_side": True},
        ["Ni", "O"],
        {"pad_lammps_cutoff": True},
        0.0,
    ),
    "folded": (
        "NiOFe",
        {"type_one_side": True},
        ["Ni", "O", "Fe"],
        {"fold_atom_virial": True},
        1.0,
    ),
}


@pytest.fixture
def cases(make_model, make_nio, make_cluster, tmp_path):
    """Type map and frame of each case, its model and data written."""
    found = {}
    for name, (system, options, types, writing, _) in CASES.items():
        model = make_model(system, **options)
        if name == "compressed":
            model = with_tables(model)
        frame = doubled(make_nio(model))
        if name == "vacuum":  # one of two processes has no atoms
            cluster, box = make_cluster(model), np.diag([40.0, 20.0, 20.0])
            coord = cluster.coord + np.array([5.0, 8.0, 8.0])
            frame = replace(cluster, coord=coord, box=box)
        write_graph(model, tmp_path / f"{name}.pb", {}, **writing)
        write_lammps_data(tmp_path / f"{name}.data", frame, types, model.type_map)
        found[name] = model.type_map, frame
    return found


def states(suffix: str) -> str:
    """Input that evaluates all cases."""
    lines = ""
    for name, (_, _, types, _, skin) in CASES.items():
        pair = f"{name}.pb"
        if name == "parameters":
            pair += " fparam " + " ".join(map(str, FPARAM))
        lines += start(f"{name}.data", pair, types, skin)
        lines += "run 0 post no\n" + write_state(name + suffix)
    return lines


@needs_lammps
def test_same_numbers_as_deep_pot(cases, tmp_path):
    """Also in parallel, with types in another order, and the traps that we guard."""
    run_lammps(states(""), tmp_path)
    run_lammps(states("-2"), tmp_path, ranks=2)
    jobs = {k: [tmp_path / f"{k}.pb", names, [f]] for k, (names, f) in cases.items()}
    jobs["parameters"].append(FPARAM)
    answers = deep_pot(list(jobs.values()), tmp_path)
    for (name, (_, frame)), answer in zip(cases.items(), answers, strict=True):
        virial = answer["virial"][0]
        wanted = {field: answer[field][0] for field in ("energy", "force", "force_mag")}
        wanted["virial"] = virial[SIDES]
        alone = read_state(tmp_path, name, len(frame.atype))
        together = read_state(tmp_path, name + "-2", len(frame.atype))
        assert_close(together, alone, 1e-12)
        if name == "no-skin":
            lost = np.abs(alone["force"] - wanted["force"]).max()
            assert lost > 1e-4 * np.abs(wanted["force"]).max(), "skin does not matter"
            continue
        assert_close(alone, wanted, 1e-10)
        gap = np.abs(alone["atom_virials"] - virial.T).max()
        if name == "folded":
            assert gap < 1e-10 * np.abs(virial).max()
        else:
            assert gap > 1e-3 * np.abs(virial).max(), "fold_atom_virial does nothing"


def moved(atom: int, modulus: float, spin: np.ndarray, step: float) -> str:
    """Input that prints energies where an atom, then its spin, is a step away."""
    lines = f"group one id {atom + 1}\n"

    def energy():
        return 'run 0 post no\nprint "$(pe:%.17g)" append moved.txt\n'

    for axis in range(3):
        for sign in (1, -1):
            shift = np.zeros(3)
            shift[axis] = sign * step
            there, back = (" ".join(map(str, x)) for x in (shift, -shift))
            lines += f"displace_atoms one move {there} units box\n" + energy()
            lines += f"displace_atoms one move {back} units box\n"
    for axis in range(3 if modulus else 0):
        for sign in (1, -1):
            shift = np.zeros(3)
            shift[axis] = sign * step
            turned = " ".join(f"{x:.17g}" for x in spin + shift)
            length = np.linalg.norm(spin + shift)
            lines += f"set atom {atom + 1} spin/atom {length:.17g} {turned}\n"
            lines += energy()
    return lines


@needs_lammps
def test_forces_are_derivatives_in_lammps(make_model, make_nio, tmp_path):
    """Of the energy of LAMMPS, by moving an atom of each type, and by its spin."""
    model, step = make_model("NiOFe", type_one_side=False), 1e-4
    write_graph(model, tmp_path / "model.pb", {})
    frame = doubled(make_nio(model))
    write_lammps_data(tmp_path / "a.data", frame, ["O", "Fe", "Ni"], model.type_map)
    atoms = [int(np.flatnonzero(frame.atype == t)[-1]) for t in range(3)]
    first = start("a.data", "model.pb", ["O", "Fe", "Ni"])
    script = first + "run 0 post no\n" + write_state("a")
    for atom in atoms:
        modulus = np.linalg.norm(frame.spin[atom]) * frame.magnetic[atom]
        script += first + moved(atom, modulus, frame.spin[atom], step)
    run_lammps(script, tmp_path, ranks=2)
    state = read_state(tmp_path, "a", len(frame.atype))
    energies = np.loadtxt(tmp_path / "moved.txt")
    slopes = iter((energies[1::2] - energies[::2]) / (2 * step))
    found: dict = {"force": [], "force_mag": []}
    for atom in atoms:
        found["force"].append([next(slopes) for _ in range(3)])
        if frame.magnetic[atom]:
            found["force_mag"].append([next(slopes) for _ in range(3)])
    assert next(slopes, None) is None
    magnetic = [atom for atom in atoms if frame.magnetic[atom]]
    assert len(magnetic) == 2
    wanted = {"force": state["force"][atoms], "force_mag": state["force_mag"][magnetic]}
    assert_close(
        {name: np.array(values) for name, values in found.items()}, wanted, 1e-6
    )


@needs_lammps
def test_minimisation_and_dynamics(make_model, make_nio, tmp_path):
    """Spins relax where they are, atoms move at constant energy and leave the spins."""
    model = make_model("NiO", type_one_side=True)
    write_graph(model, tmp_path / "model.pb", {}, pad_lammps_cutoff=True)
    frame = doubled(make_nio(model))
    write_lammps_data(tmp_path / "a.data", frame, ["Ni", "O"], model.type_map)
    script = start("a.data", "model.pb", ["Ni", "O"])
    script += f"""
run 0 post no
{write_state("before")}
min_style spin/lbfgs
min_modify line spin_none norm max
minimize 0.0 1.0e-7 200 1000
{write_state("relaxed")}
reset_timestep 0
velocity all create 300.0 1972
fix lattice all nve
timestep 0.001
thermo 1
fix energies all print 1 "$(pe) $(etotal)" file energies.txt screen no
run 20
{write_state("moved")}
unfix lattice
fix lattice all nve/spin lattice frozen
run 5
{write_state("nve-spin")}
"""
    run_lammps(script, tmp_path)
    states = {
        name: read_state(tmp_path, name, len(frame.atype))
        for name in ("before", "relaxed", "moved", "nve-spin")
    }
    before, relaxed, moved = (states[k] for k in ("before", "relaxed", "moved"))
    torque = {k: np.cross(x["spin"], x["force_mag"]) for k, x in states.items()}
    assert relaxed["energy"] < before["energy"] - 1e-3 * abs(before["energy"])
    assert np.abs(torque["relaxed"]).max() < 1e-3 * np.abs(torque["before"]).max()
    np.testing.assert_allclose(relaxed["coord"], before["coord"], atol=1e-13)
    length = [np.linalg.norm(x["spin"], axis=1) for x in (before, relaxed)]
    np.testing.assert_allclose(length[1], length[0], rtol=1e-12)
    potential, total = np.loadtxt(tmp_path / "energies.txt").T
    assert np.ptp(total) < 1e-3 * np.ptp(potential)
    np.testing.assert_array_equal(moved["spin"], relaxed["spin"])
    # what the documentation says of it; it does not feel the model
    np.testing.assert_array_equal(states["nve-spin"]["spin"], moved["spin"])


@needs_lammps
@pytest.mark.parametrize("name", ["base", "two_side"])
def test_what_deepmd_kit_froze_runs_the_same(name, tmp_path):
    """Read and written again, its model takes the same way through 20 steps."""
    original = REFERENCE / f"{name}.pb"
    model, _ = load_frozen(original)
    write_graph(model, tmp_path / "ours.pb", {})
    (tmp_path / "theirs.pb").write_bytes(original.read_bytes())
    with np.load(REFERENCE / f"{name}.npz") as case:
        atype = case["atype"]
        scale = model.spin.scheme.codec.scale_of(atype)
        arrays = [case[key][0] for key in ("coord", "box", "spin")]
    frame = as_lammps_wants(Frame(*arrays[:2], atype, arrays[2], scale))
    write_lammps_data(tmp_path / "a.data", frame, ["Ni", "O"], model.type_map)
    script = ""
    for whose in ("ours", "theirs"):
        script += start("a.data", f"{whose}.pb", ["Ni", "O"])
        script += "velocity all create 300.0 1972\nfix 1 all nve\nrun 20\n"
        script += write_state(whose)
        script += f"write_dump all custom {whose}.txt id x y z fx fy fz c_point[*] "
        script += "modify sort id\n"
    run_lammps(script, tmp_path)
    ours, theirs = (read_state(tmp_path, k, len(atype)) for k in ("ours", "theirs"))
    assert_close(ours, theirs, 1e-12)
    digits = [(tmp_path / f"{whose}.txt").read_text() for whose in ("ours", "theirs")]
    assert digits[0] == digits[1], "as LAMMPS prints them, to six digits"


@needs_lammps
def test_atoms_that_come_nearer(make_model, tmp_path):
    """No skin replaces the padded cutoff, if lists are kept until an atom has moved.

    Two atoms beyond cutoff and skin approach, each by less than half the skin, until
    one is within reach of the other's virtual atom.
    """
    model, skin, way = make_model("NiO", type_one_side=True), 1.0, 0.48
    apart = model.descriptor.rcut + skin + 0.03
    atype = np.array([0, 1])
    frame = Frame(
        coord=np.array([[10.0 + apart, 10.0, 10.0], [10.0, 10.0, 10.0]]),
        box=25.0 * np.eye(3),
        atype=atype,
        spin=np.array([[-1.2737, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        scale=model.spin.scheme.codec.scale_of(atype),
    )
    names, script = ["Ni", "O"], ""
    write_lammps_data(tmp_path / "a.data", frame, names, model.type_map)
    for name, padded in (("plain", False), ("padded", True)):
        write_graph(model, tmp_path / f"{name}.pb", {}, pad_lammps_cutoff=padded)
        script += (
            start("a.data", f"{name}.pb", names, skin)
            + f"""
group left type 2
group right type 1
fix left left move linear 100.0 0.0 0.0
fix right right move linear -100.0 0.0 0.0
timestep 0.0001
run {round(way / 0.01)}
"""
            + write_state(name)
        )
    said = run_lammps(script, tmp_path)
    assert said.count("Neighbor list builds = 0") == 2
    end = replace(frame, coord=frame.coord + np.array([[-way, 0, 0], [way, 0, 0]]))
    (wanted,) = deep_pot([(tmp_path / "plain.pb", model.type_map, [end])], tmp_path)
    plain, padded = (read_state(tmp_path, k, 2) for k in ("plain", "padded"))
    fields = {k: wanted[k][0] for k in ("energy", "force", "force_mag")}
    assert_close(padded, fields, 1e-10)
    assert abs(plain["energy"] - fields["energy"]) > 1e-3, "lists were complete"


@needs_lammps
def test_model_deviation(make_model, make_nio, tmp_path):
    """Energies of the first model; the columns are differences of DeepPot's numbers."""
    models = [make_model("NiO", type_one_side=True, seed=seed) for seed in (1, 2)]
    frame = doubled(make_nio(models[0]))
    names, paths = ["Ni", "O"], [tmp_path / f"{k}.pb" for k in range(2)]
    for model, path in zip(models, paths, strict=True):
        write_graph(model, path, {})
    write_lammps_data(tmp_path / "a.data", frame, names, models[0].type_map)
    pair = "0.pb 1.pb out_file md.out out_freq 1 atomic"
    script = start("a.data", pair, names) + "run 0 post no\n" + write_state("a")
    run_lammps(script, tmp_path)
    one, other = deep_pot([(path, names, [frame]) for path in paths], tmp_path)
    state = read_state(tmp_path, "a", len(frame.atype))
    assert_close(state, {k: one[k][0] for k in ("energy", "force", "force_mag")}, 1e-10)
    found = np.loadtxt(tmp_path / "md.out")
    header = (tmp_path / "md.out").read_text().splitlines()[0]
    assert re.findall(r"\w+_devi_\w+", header) == [
        f"{kind}_devi_{of}"
        for of in ("v", "fr", "fm")
        for kind in ("max", "min", "avg")
    ]
    virial = np.abs(one["virial"] - other["virial"])[0] / 2 / len(frame.atype)
    wanted = [virial.max(), virial.min(), np.sqrt((virial**2).mean())]
    for name in ("force", "force_mag"):
        apart = np.linalg.norm(one[name] - other[name], axis=-1)[0] / 2
        wanted += [apart.max(), apart.min(), apart.mean()]
    np.testing.assert_allclose(found[1:10], wanted, rtol=1e-5, atol=1e-12)
    drawn = read_table(tmp_path / "md.out")  # by dp-spin plot
    np.testing.assert_array_equal(drawn.values, [[0, *found[:10]]])
    assert drawn.columns[5:8] == ["max_devi_f", "min_devi_f", "avg_devi_f"]


# --- the example ----------------------------------------------------------------------


def test_data_file_of_the_example(tmp_path):
    """It is what its script writes, without net spin, its types side by side."""
    script = EXAMPLE / "make_data.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    text = (EXAMPLE / "nio.data").read_text()
    assert (tmp_path / "nio.data").read_text() == text
    rows = [line.split() for line in text.split("Atoms # spin")[1].splitlines() if line]
    spin = np.array([row[5:] for row in rows], float)
    magnetic = np.array([row[1] == "Ni" for row in rows])
    assert magnetic.sum() == 32
    np.testing.assert_array_equal(spin[:, 3] > 0, magnetic)
    assert np.sign(spin[magnetic, 2]).sum() == 0
    np.testing.assert_allclose(np.linalg.norm(spin[:, :3], axis=1), 1.0, atol=1e-6)


@needs_lammps
def test_example_runs(make_model, tmp_path):
    """With a small model, and shortened; molecular dynamics on two processes."""
    model = make_model("NiO", type_one_side=True)
    write_graph(model, tmp_path / "model.pb", {})
    (tmp_path / "nio.data").write_bytes((EXAMPLE / "nio.data").read_bytes())
    relax = (EXAMPLE / "in.minimize").read_text()
    assert relax.count(" 1000\n") == 2
    relax = re.sub(r"(minimize +\S+ +\S+) +\d+ +1000", r"\1 3 10", relax)
    run_lammps(relax, tmp_path)
    assert "nan" not in (tmp_path / "minimize.dump").read_text()
    dynamics = (EXAMPLE / "in.md").read_text()
    assert "\nrun             200\n" in dynamics
    dynamics = dynamics.replace("run             200", "run 20")
    dynamics = dynamics.replace("nio.data", "nio.relaxed")
    run_lammps(dynamics, tmp_path, ranks=2)
    frames = (tmp_path / "md.dump").read_text().split("ITEM: TIMESTEP")[1:]
    assert len(frames) == 2 and "nan" not in frames[-1]
