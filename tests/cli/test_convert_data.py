# SPDX-License-Identifier: Apache-2.0
"""Systems from one layout and kind of file to another, and back bit for bit."""

import h5py
import numpy as np
import pytest
from places import ROOT
from small_data import SCALE, contents, frames, with_virtual_atoms, write

import deepspin
from deepspin.data.files import DataError
from deepspin.data.find import find_systems
from deepspin.data.systems import load_system
from deepspin.main import main
from deepspin.spins.virtual import VirtualAtoms
from deepspin.survey.scheme import survey

NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
OPTIONS = ["--virtual-len", "0.4", "--spin-norm", "1.2737"]
EXAMPLE = ROOT / "examples/NiO/data/valid"


def convert(*args):
    assert main(["convert-data", *map(str, args)]) == 0


def refused(capfd, *args):
    """Error of the verb, in one line."""
    assert main(["convert-data", *map(str, args)]) == 1
    return capfd.readouterr().err.splitlines()[-1]


def same_frames(one, other):
    """Compare what two systems mean."""
    here = one.atype >= 0
    np.testing.assert_array_equal(one.atype, other.atype)
    np.testing.assert_array_equal(one.coord[here], other.coord[here])
    assert one.labels.keys() == other.labels.keys()
    for name, label in one.labels.items():
        np.testing.assert_array_equal(label, other.labels[name])


# --- There and back -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_spin_files_there_and_back(tmp_path, dtype):
    arrays, types = frames()
    arrays = {name: a.astype(dtype) for name, a in arrays.items()}
    first = write(tmp_path / "first", arrays, types)
    convert(first, "-o", tmp_path / "virtual", "--layout", "virtual-atom", *OPTIONS)
    convert(tmp_path / "virtual", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)
    for name in ("type.raw", "type_map.raw"):
        assert (tmp_path / "back" / name).read_text() == (first / name).read_text()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("wrapped", [False, True])
def test_virtual_atoms_there_and_back(tmp_path, dtype, wrapped):
    arrays, types = with_virtual_atoms(*frames())
    if wrapped:  # each by itself, apart from its owner
        edge = arrays["box"].reshape(-1, 3, 3)[0, 0, 0]
        arrays["coord"] = np.mod(arrays["coord"], edge)
    arrays = {name: a.astype(dtype) for name, a in arrays.items()}
    first = write(tmp_path / "first", arrays, types, names=None)
    options = ["-t", "Ni", "O", *OPTIONS]
    convert(first, "-o", tmp_path / "spin", "--layout", "spin-files", *options)
    convert(tmp_path / "spin", "-o", tmp_path / "back", "--layout", "virtual-atom")
    back, wanted = contents(tmp_path / "back"), contents(first)
    assert {name: back[name] for name in wanted} == wanted
    assert (tmp_path / "back/type.raw").read_text() == (first / "type.raw").read_text()


@pytest.mark.parametrize("layout", ["spin-files-16", "virtual-atom-16"])
def test_example_through_hdf5(tmp_path, layout):
    convert(EXAMPLE / layout, "-o", tmp_path / "data.hdf5")
    assert find_systems(str(tmp_path / "data.hdf5")) == [
        f"{tmp_path}/data.hdf5#/{layout}"
    ]
    convert(tmp_path / "data.hdf5", "-o", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(EXAMPLE / layout)
    one, other = (
        load_system(str(p), ["Ni", "O"], NIO)
        for p in (f"{tmp_path}/data.hdf5#/{layout}", EXAMPLE / layout)
    )
    same_frames(one, other)
    np.testing.assert_array_equal(one.spin, other.spin)


def test_what_cannot_be_held_is_told(tmp_path, capfd):
    """Positions of virtual atoms hold spins to rounding of Å over `scale`."""
    convert(
        EXAMPLE / "spin-files-16",
        "-o",
        tmp_path / "v",
        "--layout",
        "virtual-atom",
        *OPTIONS,
    )
    said = capfd.readouterr().err.splitlines()[-1]
    one = load_system(str(EXAMPLE / "spin-files-16"), ["Ni", "O"], NIO)
    other = load_system(str(tmp_path / "v"), ["Ni", "O"], NIO)
    same_frames(one, other)
    worst = np.abs(one.spin - other.spin).max()
    assert 0 < worst < 1e-14
    assert f"differ by at most {worst:.1e} μ_B; spin_exact.npy keeps them" in said


def test_exact_spins_of_other_positions_are_not_used(tmp_path):
    arrays, types = frames()
    write(tmp_path / "first", arrays, types)
    convert(
        tmp_path / "first", "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS
    )
    file = tmp_path / "v/set.000/coord.npy"
    coord = np.load(file)
    coord[:, -1] += 1e-6
    np.save(file, coord)
    convert(tmp_path / "v", "-o", tmp_path / "s", "--layout", "spin-files")
    spin = np.load(tmp_path / "s/set.000/spin.npy").reshape(-1, 8, 3)
    moved = spin - arrays["spin"]
    assert moved[:, 3, 2] == pytest.approx(1e-6 * 1.2737 / 0.4, rel=1e-8)


def test_virtual_atoms_that_no_spin_places_to_the_bit(tmp_path):
    """Near 0, where floats are denser than what spins can reach."""
    arrays, types = frames(200)
    rng = np.random.default_rng(0)
    sites = 4.0 * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    arrays["coord"] = (
        sites - SCALE * arrays["spin"] + rng.normal(scale=1e-4, size=(200, 8, 3))
    )
    arrays, types = with_virtual_atoms(arrays, types)
    first = write(tmp_path / "first", arrays, types, names=None)
    options = ["-t", "Ni", "O", *OPTIONS]
    convert(first, "-o", tmp_path / "s", "--layout", "spin-files", *options)
    spin = np.load(tmp_path / "s/set.000/spin.npy").reshape(200, 8, 3)[:, :4]
    coord = np.load(tmp_path / "s/set.000/coord.npy").reshape(200, 8, 3)[:, :4]
    missed = coord + SCALE * spin != arrays["coord"][:, 8:]
    assert missed.mean() > 0.1
    convert(tmp_path / "s", "-o", tmp_path / "back", "--layout", "virtual-atom")
    back = contents(tmp_path / "back")
    assert {name: back[name] for name in contents(first)} == contents(first)


def test_new_spins_are_not_overruled_by_old_positions(tmp_path):
    arrays, types = with_virtual_atoms(*frames())
    edge = arrays["box"].reshape(-1, 3, 3)[0, 0, 0]
    wrapped = arrays | {"coord": np.mod(arrays["coord"], edge)}
    write(tmp_path / "first", wrapped, types, names=None)
    convert(
        tmp_path / "first",
        "-o",
        tmp_path / "s",
        "--layout",
        "spin-files",
        "-t",
        "Ni",
        "O",
        *OPTIONS,
    )
    assert (tmp_path / "s/set.000/coord_virtual.npy").is_file()
    np.save(tmp_path / "s/set.000/spin.npy", -np.load(tmp_path / "s/set.000/spin.npy"))
    convert(tmp_path / "s", "-o", tmp_path / "v", "--layout", "virtual-atom")
    coord = np.load(tmp_path / "v/set.000/coord.npy").reshape(-1, 12, 3)
    way = coord[:, 8:] - (arrays["coord"][:, :4] * 2 - arrays["coord"][:, 8:])
    np.testing.assert_allclose(way, np.round(way / edge) * edge, rtol=0, atol=1e-13)


def test_labels_of_all_kinds(tmp_path):
    """Also a magnetic force on O, which no virtual atom can hold."""
    arrays, types = frames(3)
    rng = np.random.default_rng(5)
    arrays["virial"] = rng.normal(size=(3, 9))
    arrays["atom_ener"] = rng.normal(size=(3, 8))
    arrays["fparam"] = rng.normal(size=(3, 2))
    arrays["force_mag"] = rng.normal(size=(3, 8, 3))
    first = write(tmp_path / "first", arrays, types)
    convert(first, "-o", tmp_path / "v.h5", "--layout", "virtual-atom", *OPTIONS)
    with h5py.File(tmp_path / "v.h5") as file:
        part = file["first/set.000"]
        assert part["atom_ener.npy"].shape == (3, 12)
        assert part["force.npy"].shape == (3, 36)
    convert(tmp_path / "v.h5", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)


def test_several_sets_and_open_systems(tmp_path):
    arrays, types = frames(5)
    del arrays["box"]
    first = write(tmp_path / "first", {n: a[:3] for n, a in arrays.items()}, types)
    (first / "nopbc").touch()
    (first / "set.001").mkdir()
    for name, array in arrays.items():
        np.save(first / "set.001" / f"{name}.npy", array[3:].reshape(2, -1))
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS)
    assert (tmp_path / "v/nopbc").exists()
    convert(tmp_path / "v", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)


def test_raw_files(tmp_path):
    arrays, types = frames(2)
    folder = tmp_path / "raw"
    folder.mkdir()
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("Ni O\n")
    for name, array in arrays.items():
        np.savetxt(folder / f"{name}.raw", array.reshape(2, -1))
    convert(folder, "-o", tmp_path / "npy")
    for name, array in arrays.items():
        written = np.load(tmp_path / "npy/set.000" / f"{name}.npy")
        np.testing.assert_array_equal(written, array.reshape(2, -1))


def test_mixed_types(tmp_path):
    """Frames of one system with other atoms each, some with fewer."""
    arrays, types = frames(2)
    types = np.stack([types, np.where(np.arange(8) == 7, -1, types)])
    types[1, [0, 5]] = [1, 0]
    spin = np.where((types == 0)[..., None], 1.2, 0.0) + np.zeros((2, 8, 3))
    arrays |= {"spin": spin, "force_mag": 0.1 * spin}
    arrays["force"][1, 7] = arrays["coord"][1, 7] = 0
    arrays["real_atom_types"] = types.astype(np.int32)
    first = write(tmp_path / "first", arrays, np.zeros(8))
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS)
    assert (tmp_path / "v/type_map.raw").read_text().split() == ["Ni", "O", "Ni_spin"]
    convert(tmp_path / "v", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)


def test_spin_types_come_first(tmp_path):
    """DeePMD-kit wants them first; they may be anywhere in type_map.raw."""
    arrays, types = frames(names=("O", "Ni"))
    first = write(tmp_path / "first", arrays, types, names=("O", "Ni"))
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS)
    named = (tmp_path / "v/type_map.raw").read_text().split()
    assert named == ["Ni", "O", "Ni_spin"]
    written = np.loadtxt(tmp_path / "v/type.raw", dtype=int)
    assert written.tolist() == [*(1 - types), *[2] * 4]
    assert survey(str(tmp_path / "v")).type_map == ["Ni", "O"]
    other = VirtualAtoms.from_options([False, True], virtual_scale=[SCALE])
    for names, scheme in ((["Ni", "O"], NIO), (["O", "Ni"], other)):
        for present in ("both", "no type_map.raw"):  # as an older deepspin wrote it
            if present != "both":
                (tmp_path / "v/type_map.raw").rename(tmp_path / "moved")
            system = load_system(str(tmp_path / "v"), names, scheme)
            want = types if names[0] == "O" else 1 - types
            np.testing.assert_array_equal(system.atype[0], want)
            np.testing.assert_allclose(system.spin, arrays["spin"], rtol=0, atol=1e-14)
            np.testing.assert_array_equal(
                system.labels["force_mag"], arrays["force_mag"]
            )
        (tmp_path / "moved").rename(tmp_path / "v/type_map.raw")


def test_contradictions_of_the_scheme(tmp_path):
    """Between what virtual atoms were placed with and what the model says."""
    first = write(tmp_path / "first", *frames())
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS)
    path = str(tmp_path / "v")
    longer = VirtualAtoms.from_options([True, False], [0.5], [1.2737])
    with pytest.raises(DataError, match=r"of Ni at 0\.314.*of the model is 0\.392557"):
        load_system(path, ["Ni", "O"], longer)
    near = VirtualAtoms.from_options([True, False], virtual_scale=[0.3140])
    system = load_system(path, ["Ni", "O"], near)  # as DeePMD-kit's example has it
    np.testing.assert_allclose(system.spin, frames()[0]["spin"], rtol=0, atol=1e-14)
    of_oxygen = VirtualAtoms.from_options([False, True], virtual_scale=[SCALE])
    with pytest.raises(DataError, match="Ni_spin, which hold the spins of Ni, but"):
        load_system(path, ["Ni", "O"], of_oxygen)
    of_both = VirtualAtoms.from_options([True, True], virtual_scale=[SCALE, SCALE])
    with pytest.raises(DataError, match="has no spins of O, which `use_spin` gives"):
        load_system(path, ["Ni", "O"], of_both)
    (tmp_path / "v/type_map.raw").write_text("O Ni Ni_spin")
    with pytest.raises(DataError, match=r"names its types O Ni Ni_spin.*Ni O Ni_spin"):
        load_system(path, ["Ni", "O"], NIO)


def test_two_spin_types(tmp_path):
    arrays, types = frames(3)
    types = np.where(np.arange(8) < 2, 2, types)  # Fe, O, Ni
    first = write(tmp_path / "first", arrays, types, names=("Ni", "O", "Fe"))
    lengths = ["--virtual-len", "0.4", "0.3", "--spin-norm", "1.2", "2.0"]
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *lengths)
    assert np.loadtxt(tmp_path / "v/type.raw").tolist()[8:] == [3, 3, 4, 4]
    convert(tmp_path / "v", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)


def test_a_model_sees_the_same(tmp_path, make_model):
    folder = EXAMPLE / "spin-files-16"
    convert(folder, "-o", tmp_path / "v.hdf5", "--layout", "virtual-atom", *OPTIONS)
    potential = deepspin.DeepSpin(make_model("NiO"))
    results = []
    for path in (str(folder), f"{tmp_path}/v.hdf5#/spin-files-16"):
        s = load_system(path, ["Ni", "O"], NIO)
        results.append(potential.eval(s.coord[:3], s.box[:3], s.atype[0], s.spin[:3]))
    for name, value in results[0].items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(results[1][name] / scale, value / scale, atol=1e-12)


# --- Several systems ------------------------------------------------------------------


def test_names_below_the_common_folder(tmp_path):
    arrays, types = frames(2)
    for name in ("train/a", "train/b", "valid/a"):
        write(tmp_path / "data" / name, arrays, types)
    folders = [tmp_path / "data/train", tmp_path / "data/valid/a"]
    convert(*folders, "-o", tmp_path / "npy")
    convert(*folders, "-o", tmp_path / "one.h5")
    for name in ("train/a", "train/b", "valid/a"):
        assert (tmp_path / "npy" / name / "type.raw").is_file()
    assert find_systems(str(tmp_path / "one.h5")) == [
        f"{tmp_path}/one.h5#/{name}" for name in ("train/a", "train/b", "valid/a")
    ]


def test_both_layouts_become_one(tmp_path, capfd):
    arrays, types = frames(2)
    write(tmp_path / "data/s", arrays, types)
    write(tmp_path / "data/v", *with_virtual_atoms(arrays, types), names=None)
    out = tmp_path / "out"
    said = refused(capfd, tmp_path / "data", "-o", out, "--layout", "spin-files")
    assert "such as --virtual-len 0.4 --spin-norm 1.2737" in said
    assert not out.exists()
    convert(tmp_path / "data", "-o", out, "--layout", "spin-files", *OPTIONS)
    assert (out / "s/set.000/spin.npy").is_file()
    assert (out / "v/set.000/spin.npy").is_file()


# --- Mistakes -------------------------------------------------------------------------


def test_output_is_there(tmp_path, capfd):
    first = write(tmp_path / "first", *frames(2))
    second = write(tmp_path / "second", *frames(3))
    before = contents(second)
    assert "exists" in refused(capfd, first, "-o", second)
    assert contents(second) == before
    convert(first, "-o", second, "--force")
    assert contents(second) == contents(first)


def test_folders_that_are_no_data_stay(tmp_path, capfd):
    first = write(tmp_path / "first", *frames(2))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("dear")
    said = refused(capfd, first, "-o", tmp_path / "home", "--force")
    assert "without systems, so it is not replaced" in said
    assert (tmp_path / "home/thesis.tex").read_text() == "dear"


@pytest.mark.parametrize("output", [".", "first", "first/set.000", "first/new"])
def test_output_among_the_data(tmp_path, capfd, output):
    first = write(tmp_path / "first", *frames(2))
    before = contents(first)
    said = refused(capfd, first, "-o", tmp_path / output, "--force")
    assert "Choose another output" in said
    assert contents(first) == before
    assert len(list(tmp_path.rglob("*"))) == len(list(first.rglob("*"))) + 1


def test_file_and_folder_of_one_name(tmp_path, capfd):
    arrays, types = frames(2)
    write(tmp_path / "data/a", arrays, types)
    convert(tmp_path / "data/a", "-o", tmp_path / "a.h5")
    convert(tmp_path / "a.h5", "-o", tmp_path / "data/x.hdf5")
    write(tmp_path / "data/x/a", arrays, types)
    said = refused(capfd, tmp_path / "data", "-o", tmp_path / "out")
    assert "would both be written as 'x/a'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["spin-files", "virtual-atom"])
def test_missing_labels_there_and_back(tmp_path, layout):
    """Rows of NaN, and a set without energies; spins small on O, too."""
    arrays, types = frames()
    arrays["force"][1] = arrays["force_mag"][1] = np.nan
    arrays["spin"][2, 5] = [0.0, 0.01, 0.02]
    first = write(tmp_path / "first", arrays, types)
    arrays.pop("energy")
    np.save(first / "set.000/virial.npy", np.full((8, 9), np.nan))
    write(tmp_path / "more", arrays, types)
    (tmp_path / "more/set.000").rename(first / "set.001")
    convert(first, "-o", tmp_path / "v.hdf5", "--layout", layout, *OPTIONS)
    convert(tmp_path / "v.hdf5", "-o", tmp_path / "back", "--layout", "spin-files")
    assert contents(tmp_path / "back") == contents(first)
    one, other = (
        load_system(str(path), ["Ni", "O"], NIO)
        for path in (first, f"{tmp_path}/v.hdf5#/first")
    )
    same_frames(one, other)
    for name in ("energy", "force", "force_mag", "virial"):
        np.testing.assert_array_equal(one.has(name), other.has(name))
    np.testing.assert_array_equal(one.has("energy"), [True] * 8 + [False] * 8)
    assert one.has("force").sum() == 14


def test_one_of_the_forces_in_a_frame(tmp_path, capfd):
    arrays, types = frames(2)
    arrays["force_mag"][1] = np.nan
    first = write(tmp_path / "first", arrays, types)
    said = refused(capfd, first, "-o", tmp_path / "v", "--layout", "virtual-atom")
    assert "frame 1 of" in said
    assert "has no force_mag: with virtual atoms one file holds" in said
    convert(first, "-o", tmp_path / "same")
    assert contents(tmp_path / "same") == contents(first)


def test_types_for_deepmd(tmp_path, capfd):
    """What DeePMD-kit's `type_map` must be is said, and deepspin's may be that."""
    first = write(tmp_path / "first", *frames(names=("O", "Ni")), names=("O", "Ni"))
    convert(first, "-o", tmp_path / "v", "--layout", "virtual-atom", *OPTIONS)
    assert '`model/type_map` is ["Ni", "O", "Ni_spin"]' in capfd.readouterr().err


def test_only_one_of_the_forces(tmp_path, capfd):
    arrays, types = frames(2)
    del arrays["force_mag"]
    first = write(tmp_path / "first", arrays, types)
    said = refused(capfd, first, "-o", tmp_path / "v", "--layout", "virtual-atom")
    assert "has no force_mag: with virtual atoms one file holds" in said
    assert [p.name for p in tmp_path.iterdir()] == ["first"]


def test_other_names_than_written(tmp_path, capfd):
    write(tmp_path / "first", *frames(2))
    convert(tmp_path / "first", "-o", tmp_path / "v", "--layout", "virtual-atom")
    said = refused(
        capfd,
        tmp_path / "v",
        "-o",
        tmp_path / "s",
        "-t",
        "O",
        "Fe",
        "--layout",
        "spin-files",
    )
    assert "spin_scheme.json names the types Ni O, but `type_map` has no Ni" in said
    (tmp_path / "v/spin_scheme.json").write_text("{")
    said = refused(
        capfd, tmp_path / "v", "-o", tmp_path / "s", "--layout", "spin-files"
    )
    assert "spin_scheme.json of" in said
    assert "is damaged" in said
    assert not (tmp_path / "s").exists()
