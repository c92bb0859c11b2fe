# SPDX-License-Identifier: Apache-2.0
"""Damaged files of other programs: systems whose arrays fit together, or one error."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import warnings
from pathlib import Path

import abacus_text
import deltaspin_text
import numpy as np
import pytest
import small_data
from damage import damaged, fuzz, outcome
from hypothesis import given
from hypothesis import strategies as st

from deepspin.data.find import find_systems
from deepspin.data.formats import atoms, extxyz
from deepspin.data.formats.frame import Frame
from deepspin.data.systems import load_system
from deepspin.spins.virtual import VirtualAtoms

SCHEME = VirtualAtoms.from_options([True, False], [0.4], [1.2])
RNG = np.random.default_rng(0)
FRAMES = [
    Frame(
        "",
        ("Ni", "O"),
        RNG.normal(size=(2, 3)) + np.array([[0, 0, 0], [2, 0, 0]]),
        5 * np.eye(3) + 0.1 * RNG.normal(size=(3, 3)),
        {
            "spin": np.array([[0.3, -1.0, 0.5], [0, 0, 0]]),
            "energy": np.array(-3.5),
            "force": RNG.normal(size=(2, 3)),
            "force_mag": np.array([[0.1, 0.2, 0.3], [0, 0, 0]]),
            "virial": np.eye(3),
        },
    )
    for _ in range(2)
]
DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS xy xz yz pp pp pp
-0.5 4.75 -0.5
0.0 3.5 0.25
0.0 5.0 0.5
ITEM: ATOMS id type x y z fx fy fz sp spx spy spz fmx fmy fmz
2 2 1.5 2.0 2.5 0.1 0.2 0.3 0.0 0.0 0.0 1.0 7.0 7.0 7.0
1 1 1.0 0.0 -1.0 -0.1 -0.2 -0.3 2.0 0.6 0.0 0.8 10.0 -20.0 0.0
"""
DATA = """LAMMPS data file

2 atoms
2 atom types
-1.0 3.0 xlo xhi
0.0 5.0 ylo yhi
0.0 6.0 zlo zhi
0.5 1.0 -0.25 xy xz yz

Masses

1 58.69 # Ni
2 16.0 # O

Atoms # spin

2 2 1.0 2.0 3.0 0.0 0.0 1.0 0.0
1 1 0.5 0.0 0.0 0.6 0.8 0.0 5.0 1 0 0
"""
DATA = DATA.replace(" 1 0 0\n", "\n")


def write_extxyz(folder):
    (folder / "a.extxyz").write_text("".join(map(extxyz.text_of, FRAMES)))
    return "a.extxyz", "extxyz:a.extxyz"


def write_trajectory(folder):
    atoms.write_trajectory(folder / "a.traj", FRAMES)
    return "a.traj", "traj:a.traj"


def write_database(folder):
    from ase.db import connect

    with connect(folder / "a.db") as file:
        for frame in FRAMES:
            file.write(atoms.atoms_of(frame), data={"force_mag": np.ones((2, 3))})
    return "a.db", "db:a.db"


def write_dump(folder):
    (folder / "a.dump").write_text(DUMP * 2)
    return "a.dump", "lammps-dump:a.dump"


def write_data(folder):
    (folder / "a.lmp").write_text(DATA)
    return "a.lmp", "lammps-data:a.lmp"


def write_md(folder):
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["type_map"] = [b"O", b"Ni"]
        file["atype"] = [1, 0]
        file["pbc"] = [True] * 3
        file["box"] = 4 * np.eye(3)
        file["step"] = [0, 10, -1]
        file["time"] = [0.0, 20.0, 0.0]
        for name in ("coord", "spin", "force", "force_mag"):
            file[name] = RNG.normal(size=(3, 2, 2, 3))
        file["energy"] = RNG.normal(size=(3, 2))
        file["spin"][..., 1, :] = 0.0
    return "a.h5", "md:a.h5"


def write_abacus(folder, file="OUT.NiO/running_scf.log"):
    text = abacus_text.HEAD + abacus_text.step() + abacus_text.END
    abacus_text.write(folder / "run", text)
    return f"run/{file}", "abacus:run"


def write_abacus_structure(folder):
    return write_abacus(folder, "STRU")


def write_abacus_input(folder):
    return write_abacus(folder, "INPUT")


def write_deltaspin(folder):
    (folder / "run").mkdir()
    (folder / "run" / "OUTCAR").write_text(deltaspin_text.ONE.replace("Fe", "Ni"))
    return "run/OUTCAR", "deltaspin:run"


def write_for_dpdata(folder):
    (folder / "a.lmp").write_text(DATA)
    return "a.lmp", "dpdata/lammps/lmp:a.lmp"


def write_mixed(folder, file="set.000/real_atom_types.npy"):
    arrays, types = small_data.frames(2)
    arrays = {n: a for n, a in arrays.items()}
    arrays["real_atom_types"] = np.tile(types, (2, 1))
    small_data.write(folder / "a", arrays, 0 * types)
    return f"a/{file}", "a"


def write_mixed_names(folder):
    return write_mixed(folder, "type_map.raw")


KINDS = {
    "extxyz": write_extxyz,
    "traj": write_trajectory,
    "db": write_database,
    "lammps-dump": write_dump,
    "lammps-data": write_data,
    "md": write_md,
    "abacus": write_abacus,
    "abacus, STRU": write_abacus_structure,
    "abacus, INPUT": write_abacus_input,
    "deltaspin": write_deltaspin,
    "dpdata": write_for_dpdata,
    "mixed": write_mixed,
    "mixed, names": write_mixed_names,
}
NEEDS = {"traj": "ase", "db": "ase", "dpdata": "dpdata"}


@pytest.fixture(scope="module", params=KINDS)
def written(request, tmp_path_factory):
    """A folder with files of a kind, the file to damage, and what is read."""
    module = NEEDS.get(request.param)
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")
    folder = tmp_path_factory.mktemp("written")
    return folder, *KINDS[request.param](folder)


def load(folder, what):
    """All systems, checked to be such."""
    form, _, name = what.rpartition(":")
    place = f"{form}:{folder / name}" if form else str(folder / name)
    systems = [load_system(each, ["Ni", "O"], SCHEME) for each in find_systems(place)]
    for system in systems:
        nf, nloc = system.nframes, system.nloc
        assert nf > 0 and nloc > 0
        assert system.coord.shape == system.spin.shape == (nf, nloc, 3)
        for array in (system.coord, system.spin, system.box):
            assert np.isfinite(array).all()
        for name, label in system.labels.items():
            assert len(label) == nf
            assert np.isfinite(label[system.has(name)]).all()
    return systems


def test_whole(written):
    folder, _, what = written
    assert load(folder, what)


@pytest.mark.filterwarnings("ignore")  # of the libraries that read
@fuzz(40)
@given(data=st.data())
def test_damaged(written, data):
    source, file, what = written
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "here"
        shutil.copytree(source, folder)
        path = folder / file
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome(lambda: load(folder, what), folder)
