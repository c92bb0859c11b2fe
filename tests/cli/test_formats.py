# SPDX-License-Identifier: Apache-2.0
"""Data of other programs through the verbs, and every kind of file that we write."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import round_trips
import small_data
from ase.db import connect

import deepspin
from deepspin.data.files import read_system
from deepspin.data.find import find_systems
from deepspin.data.formats import atoms, extxyz
from deepspin.data.formats.stack import unstack
from deepspin.data.formats.table import FORMATS
from deepspin.main import build_parser, main

HBAR = 6.5821191e-4  # eV ps
LABELS = {
    "extxyz": {"energy", "force", "force_mag"},
    "traj": {"energy", "force", "force_mag"},
    "db": {"energy", "force", "force_mag"},
    "md": {"energy", "force", "force_mag"},
    "lammps-dump": {"force", "force_mag"},
    "lammps-data": set(),
}


@pytest.fixture(scope="module")
def frames():
    """Frames of `small_data`, as readers give them."""
    arrays, types = small_data.frames(4)
    return list(unstack("a", types, ["Ni", "O"], [arrays], True))


@pytest.fixture(scope="module")
def compiled(make_model):
    model = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
    loss = deepspin.EnerSpinLoss(start_lr=1e-3, start_pref_fr=1.0, start_pref_fm=1.0)
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)
    return model


def write(form, path, frames):
    """Write frames in a format, with numbers that Python prints."""
    if form == "extxyz":
        path.write_text("".join(map(extxyz.text_of, frames)))
    elif form == "traj":
        atoms.write_trajectory(path, frames)
    elif form == "db":
        for frame in frames:
            data = {"force_mag": frame.arrays["force_mag"]}
            connect(path).write(atoms.atoms_of(frame), data=data)
    elif form == "md":
        with h5py.File(path, "w") as file:
            file["type_map"], file["atype"] = [b"Ni", b"O"], [0] * 4 + [1] * 4
            file["pbc"], file["box"] = [True] * 3, frames[0].cell
            file["step"], file["time"] = [0, 1, 2, 3], np.arange(4.0)
            file["coord"] = [[frame.coord] for frame in frames]
            for name in ("spin", "energy", "force", "force_mag"):
                file[name] = [[frame.arrays[name]] for frame in frames]
    elif form == "lammps-dump":
        path.write_text("".join(map(dumped, frames)))
    else:
        path.write_text(data_file(frames[0]))


def rows_of(frame):
    """Columns of LAMMPS: type, positions, sp, direction, forces, fm in rad THz."""
    for k, symbol in enumerate(frame.symbols):
        spin, force = frame.arrays["spin"][k], frame.arrays["force"][k]
        modulus = float(np.linalg.norm(spin))
        way = spin / modulus if modulus else np.array([0, 0, 1.0])
        fm = frame.arrays["force_mag"][k] * modulus / HBAR
        numbers = [*frame.coord[k], modulus, *way, *force, *fm]
        yield 1 + (symbol == "O"), [repr(float(x)) for x in numbers]


def dumped(frame):
    side = repr(float(frame.cell[0, 0]))
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{len(frame.symbols)}\n"
    head += "ITEM: BOX BOUNDS pp pp pp\n" + f"0.0 {side}\n" * 3
    head += "ITEM: ATOMS id type x y z sp spx spy spz fx fy fz fmx fmy fmz\n"
    rows = enumerate(rows_of(frame), 1)
    return head + "".join(f"{k} {t} {' '.join(words)}\n" for k, (t, words) in rows)


def data_file(frame):
    side = repr(float(frame.cell[0, 0]))
    head = f"title\n\n{len(frame.symbols)} atoms\n2 atom types\n"
    head += "".join(f"0.0 {side} {a}lo {a}hi\n" for a in "xyz") + "\nAtoms # spin\n\n"
    rows = enumerate(rows_of(frame), 1)
    return head + "".join(
        f"{k} {t} {' '.join([*words[:3], *words[4:7], words[3]])}\n"
        for k, (t, words) in rows
    )


SUFFIXES = {
    **{"extxyz": "extxyz", "traj": "traj", "db": "db", "md": "h5"},
    **{"lammps-dump": "dump", "lammps-data": "lmp"},
}


@pytest.mark.parametrize("form", SUFFIXES)
def test_read_and_trained_on(form, tmp_path, frames, compiled):
    """Frames are those that were written; two steps change the model."""
    path = tmp_path / f"data.{SUFFIXES[form]}"
    write(form, path, frames)
    data = deepspin.DataSystem(str(path), **compiled.data_spec, batch_size=1, seed=1)
    (system,) = data.systems
    assert set(system.labels) == LABELS[form]
    tolerance = {"rtol": 1e-12, "atol": 1e-12}
    for k, frame in enumerate(frames[: system.nframes]):
        np.testing.assert_array_equal(system.coord[k], frame.coord)
        np.testing.assert_array_equal(system.box[k], frame.cell)
        np.testing.assert_allclose(system.spin[k], frame.arrays["spin"], **tolerance)
        for name, label in system.labels.items():
            wanted = frame.arrays[name]
            np.testing.assert_allclose(label[k], wanted, **tolerance)
    if not system.labels:  # a structure only
        return
    before = [weight.copy() for weight in compiled.get_weights()]
    history = compiled.fit(data, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = compiled.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_formats_are_all_tried():
    """And each has its row in the page."""
    theirs = set(FORMATS) - set(SUFFIXES)
    page = round_trips.PAGE.read_text("utf-8")
    assert theirs <= {"abacus", "deltaspin"}
    for form in FORMATS:
        assert f"| `{form}` |" in page, form


def test_table_of_round_trips(tmp_path):
    text = round_trips.PAGE.read_text("utf-8")
    shown = text.split(round_trips.BEGIN)[1].split(round_trips.END)[0]
    assert shown == round_trips.table(tmp_path), "python tests/round_trips.py"


# --- Verbs ----------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, frames):
    """Frames with columns of odd names."""
    text = "".join(map(extxyz.text_of, frames))
    text = text.replace("initial_magmoms", "M").replace("force_mag", "B")
    (tmp_path / "frames.txt").write_text(text)
    return tmp_path / "frames.txt"


NAMED = ["--format", "extxyz", "--spin-key", "M", "--force-mag-key", "B"]


def test_options_of_verbs_that_look_at_data(run, file, capfd):
    run("check-data", file, *NAMED, "--json", "found.json")
    assert "energy force force_mag" in " ".join(capfd.readouterr().out.split())
    run("neighbor-stat", "-s", file, *NAMED, "-r", "4")
    run("init", file, *NAMED[:2], "--use-spin", "Ni", "-o", "input.json", status=1)
    assert "read as extended XYZ, has no spins" in capfd.readouterr().err
    run("init", file, *NAMED, "-o", "input.json", status=1)
    assert "An input does not name columns" in capfd.readouterr().err
    run("convert-data", file, *NAMED, "-o", "npy")
    np.testing.assert_array_equal(
        np.load("npy/set.000/spin.npy")[0], small_data.frames(4)[0]["spin"][0].ravel()
    )
    text = file.read_text().replace(":M:", ":spins:").replace(":B:", ":mforce:")
    file.write_text(text)
    run("init", file, *NAMED[:2], "-o", "input.json")
    options = json.loads(Path("input.json").read_text())
    systems = options["training"]["training_data"]["systems"]
    assert systems == [f"extxyz:{file}"]
    (path,) = find_systems(systems)
    assert read_system(path)[1][0].nframes == 4
    run("convert-data", file, "-o", "other", status=1)
    assert "of no format that is recognised" in capfd.readouterr().err


def test_options_of_verbs_that_ask_a_model(run, file, make_model, tmp_path, capfd):
    model = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
    deepspin.save_model(model, tmp_path / "m.keras", {})
    run("test", "-m", "m.keras", "-s", file, *NAMED)
    assert "F-spin across RMSE" in capfd.readouterr().err
    run("model-devi", "-m", "m.keras", "-s", file, *NAMED, "--real_error")
    assert len(np.loadtxt("model_devi.out")) == 4
    run("change-bias", "m.keras", "-s", file, *NAMED, "-o", "b.keras")
    run("relax", file, "-m", "m.keras", *NAMED, "--steps", "1", "-o", "r.extxyz")
    (found,) = find_systems("r.extxyz")
    head, sets = read_system(found)
    assert head["type_map.raw"] == ["Ni", "O"]
    assert sets[0].nframes == 1
    listing = tmp_path / "list"
    listing.write_text(f"extxyz:{file}\n")
    run("test", "-m", "m.keras", "-f", listing, *NAMED[2:])


def test_choices_of_the_verb_are_the_kinds():
    from deepspin.data.writing import KINDS

    verbs = next(
        a for a in build_parser()._actions if "convert-data" in (a.choices or ())
    )
    actions = verbs.choices["convert-data"]._actions
    assert next(a for a in actions if a.dest == "to").choices == tuple(KINDS)


# --- Writing --------------------------------------------------------------------------


def convert(*args, status=0):
    assert main(["convert-data", *map(str, args)]) == status


def test_systems_of_other_atoms_in_one_file(tmp_path):
    arrays, types = small_data.frames(3)
    one = small_data.write(tmp_path / "one", arrays, types)
    fewer = {
        name: a if name in ("energy", "box") else a.reshape(3, 8, 3)[:, :7]
        for name, a in arrays.items()
    }
    two = small_data.write(tmp_path / "two", fewer, types[:7])
    convert(one, two, "-o", tmp_path / "all.extxyz")
    _, sets = read_system(find_systems(str(tmp_path / "all.extxyz"))[0])
    assert sets[0].arrays["real_atom_types"].tolist() == [
        *[[0] * 4 + [1] * 4] * 3,
        *[[0] * 4 + [1] * 3 + [-1]] * 3,
    ]
    convert(tmp_path / "all.extxyz", "-o", tmp_path / "npy")
    back = np.load(tmp_path / "npy/set.000/coord.npy").reshape(6, 8, 3)
    np.testing.assert_array_equal(back[3:, :7], fewer["coord"])
    convert(one, two, "-o", tmp_path / "mixed", "--to", "mixed")
    names = {path.name for path in (tmp_path / "mixed").iterdir()}
    assert names == {"8", "7"}


def test_systems_of_mixed_types_are_merged(tmp_path):
    """Types are numbered anew; frames stay what they were."""
    arrays, types = small_data.frames(3)
    one = small_data.write(tmp_path / "one", arrays, types)
    two = small_data.write(tmp_path / "two", arrays, 1 - types, names=("O", "Ni"))
    convert(one, two, "-o", tmp_path / "mixed", "--to", "mixed")
    head, sets = read_system(str(tmp_path / "mixed"))
    assert head["type_map.raw"] == ["Ni", "O"]
    assert len(sets) == 2
    for part in sets:
        assert part.arrays["real_atom_types"].tolist() == [types.tolist()] * 3
        np.testing.assert_array_equal(
            part.arrays["coord"], arrays["coord"].reshape(3, -1)
        )


def test_virtual_atoms_as_frames(tmp_path, capfd):
    arrays, types = small_data.with_virtual_atoms(*small_data.frames(2))
    folder = small_data.write(tmp_path / "virtual", arrays, types, names=None)
    options = ["-t", "Ni", "O", *round_trips.MODEL]
    convert(folder, "-o", tmp_path / "a.extxyz", *options)
    _, sets = read_system(find_systems(str(tmp_path / "a.extxyz"))[0])
    spin = small_data.frames(2)[0]["spin"].reshape(2, -1)
    np.testing.assert_allclose(sets[0].arrays["spin"], spin, atol=1e-13)
    convert(folder, "-o", tmp_path / "m", "--to", "mixed", status=1)
    assert "has no type_map.raw; mixed types are" in capfd.readouterr().err
    convert(folder, "-o", tmp_path / "m", "--to", "mixed", "--layout", "spin-files",
            *options)  # fmt: skip
    assert (tmp_path / "m/set.000/real_atom_types.npy").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "a", "--to", "extxyz"], "--to extxyz writes a file that ends in .ext"),
        (["-o", "a.h5", "--to", "raw"], "--to raw writes a folder. Received: 'a.h5'"),
        (
            ["-o", "a.traj", "--layout", "virtual-atom"],
            "--to traj is written with spins as they are",
        ),
    ],
)
def test_outputs_that_are_refused(run, tmp_path, capfd, args, message):
    small_data.write(tmp_path / "s", *small_data.frames(1))
    run("convert-data", "s", *args, status=1)
    assert message in capfd.readouterr().err


NAMES = ["a#b", "a b", "ü", "100%", "a'b", "[x]", "a:b", "a\nb", ".x", "type.raw"]


def test_names_with_any_legal_sign(tmp_path):
    """To HDF5 and back; the file and folders above have such names, too."""
    top = tmp_path / "to#p"
    for k, name in enumerate(NAMES):
        small_data.write(top / name, *small_data.frames(1, seed=k))
    convert(top, "-o", tmp_path / "da#ta.h5")
    convert(tmp_path / "da#ta.h5", "-o", tmp_path / "ba#ck")
    for name in NAMES:
        back = small_data.contents(tmp_path / "ba#ck" / name)
        assert back == small_data.contents(top / name), name
    convert(f"{tmp_path}/da#ta.h5#/a#b", "-o", tmp_path / "one")
    assert small_data.contents(tmp_path / "one") == small_data.contents(top / "a#b")


def test_names_that_hdf5_cannot_have(tmp_path, capfd):
    small_data.write(tmp_path / "a\udcff", *small_data.frames(1))
    convert(tmp_path / "a\udcff", "-o", tmp_path / "a.h5", status=1)
    assert "are not UTF-8, which names in HDF5 files must be" in capfd.readouterr().err
