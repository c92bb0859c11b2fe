# SPDX-License-Identifier: Apache-2.0
"""Every layout gives the same internal form; every mistake is named."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
from layouts import (
    ATYPE,
    BOX,
    SCHEME,
    TYPE_MAP,
    WRITERS,
    assert_same,
    load,
    make,
    with_virtual,
    write_hdf5,
    write_npy,
)

from deepspin.data.files import DataError
from deepspin.data.systems import load_system, load_systems
from deepspin.spins.virtual import VirtualAtoms


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("layout", ["virtual-atom", "spin-files"])
def test_layouts(tmp_path, writer, layout):
    data = make()
    atype, arrays = (ATYPE, data) if layout == "spin-files" else with_virtual(data)
    system = load(WRITERS[writer](tmp_path / "s", atype, arrays))
    assert_same(system, data)
    assert system.layout == layout
    assert system.pbc
    assert (system.nframes, system.nloc) == (4, 5)
    assert system.atype.dtype == np.int32
    np.testing.assert_array_equal(system.atype, np.tile(ATYPE, (4, 1)))
    np.testing.assert_array_equal(system.natoms_loss, len(atype))


def test_one_frame(tmp_path):
    data = make(1)
    for name, write in WRITERS.items():
        assert_same(load(write(tmp_path / name, ATYPE, data)), data)
    one = {name: value.ravel() for name, value in data.items()}
    (tmp_path / "flat/set.000").mkdir(parents=True)
    (tmp_path / "flat/type.raw").write_text("1 0 1 0 1")
    for name, value in one.items():
        np.save(tmp_path / f"flat/set.000/{name}.npy", value)
    assert_same(load(tmp_path / "flat"), data)


def test_sets_are_concatenated(tmp_path):
    data = make(5)
    system = load(write_npy(tmp_path / "s", ATYPE, data, cuts=(0, 2, 3, None)))
    assert_same(system, data)
    assert system.where(2, 3) == f"atom 3, frame 0 of '{tmp_path}/s/set.001'"
    assert system.where(4) == f"frame 1 of '{tmp_path}/s/set.002'"


def test_shuffled_virtual_atoms(tmp_path):
    data = make()
    order = [5, 0, 1, 6, 2, 3, 7, 4]  # in relative order within each type
    path = write_npy(tmp_path / "s", *with_virtual(data, order))
    system = load(path)
    assert_same(system, data)
    np.testing.assert_array_equal(system.index[0], [1, 2, 4, 5, 7])


def test_atomic_energies_of_real_atoms_only(tmp_path):
    data = make()
    atype, arrays = with_virtual(data)
    arrays["atomic_ener"] = data["atom_ener"]
    del arrays["atom_ener"]
    assert_same(load(write_npy(tmp_path / "s", atype, arrays)), data)


@pytest.mark.parametrize("bounds", [[0.4], None])
def test_wrapped_virtual_atom(tmp_path, bounds):
    data = make()
    atype, arrays = with_virtual(data)
    arrays["coord"] = arrays["coord"].copy()
    arrays["coord"][1, 6] += BOX[0] - BOX[1]
    arrays["coord"][2, 7] -= 2 * BOX[2]
    scheme = SCHEME
    if bounds is None:
        scheme = VirtualAtoms.from_options([False, True], virtual_scale=[0.4 / 1.2737])
    system = load_system(write_npy(tmp_path / "s", atype, arrays), TYPE_MAP, scheme)
    np.testing.assert_allclose(system.spin, data["spin"], atol=1e-12)


@pytest.mark.parametrize(
    "names", [["Ni", "Fe", "O"], ["Ni", "Fe", "O", "Ni_spin"], ["Ni", "O"]]
)
def test_type_map_remap(tmp_path, names):
    data = make()
    real = np.where(ATYPE == 1, 0, names.index("O"))
    system = load(write_npy(tmp_path / "f", real, data, names))
    assert_same(system, data)
    np.testing.assert_array_equal(system.atype[0], ATYPE)
    _, arrays = with_virtual(data)
    extra = 3 if "Fe" in names else 2
    atype = np.array([*real, extra, extra, extra])
    for write in (write_npy, write_hdf5):
        system = load(write(tmp_path / write.__name__, atype, arrays, names))
        assert_same(system, data)
        np.testing.assert_array_equal(system.atype[0], ATYPE)


def test_two_spin_types_in_another_order(tmp_path):
    scheme = VirtualAtoms.from_options([True, False, True], [0.4, 0.3], [1.3, 2.0])
    data = make()
    real = np.array([2, 1, 0, 1, 2])  # Ni, O, Fe, O, Ni of the model Fe, O, Ni
    shift = np.array([0.4 / 1.3, 0.0, 0.3 / 2.0])[real][:, None] * data["spin"]
    moved = (data["coord"] + shift)[:, [0, 2, 4]]
    arrays = {
        "coord": np.concatenate([data["coord"], moved], axis=1),
        "box": data["box"],
    }
    for names, atype in (
        (None, [2, 1, 0, 1, 2, 4, 3, 4]),
        (["Ni", "O", "Fe"], [0, 1, 2, 1, 0, 3, 4, 3]),
    ):
        path = write_npy(tmp_path / f"s{atype[0]}", atype, arrays, names)
        system = load_system(path, ["Fe", "O", "Ni"], scheme)
        np.testing.assert_array_equal(system.atype[0], real)
        np.testing.assert_allclose(system.spin, data["spin"], atol=1e-12)
        assert system.labels == {}


def test_mixed_type(tmp_path):
    data = make(2)
    arrays = {k: v for k, v in data.items() if k != "atom_ener"}
    types = np.array([ATYPE, ATYPE])
    types[1, 3] = -1
    names = ["Ni", "O"]
    write_npy(tmp_path / "s", [0] * 5, arrays, names)
    swapped = np.where(types < 0, -1, 1 - types)
    np.save(tmp_path / "s/set.000/real_atom_types.npy", swapped)
    system = load(tmp_path / "s")
    np.testing.assert_array_equal(system.atype, [[1, 0, 1, 0, 1], [1, 0, 1, 1, -1]])
    np.testing.assert_array_equal(system.natoms_loss, [5, 4])
    np.testing.assert_array_equal(system.coord[1, :4], data["coord"][1, [0, 1, 2, 4]])
    for name in ("coord", "spin", "force", "force_mag", "atom_ener_coeff"):
        value = {**vars(system), **system.labels}[name]
        np.testing.assert_array_equal(value[0], data[name][0])
        assert (value[1, 4] == 0).all()


def test_mixed_type_with_virtual_atoms(tmp_path):
    data = make(2)
    atype, arrays = with_virtual(data)
    types = np.array([atype, atype])
    types[1, [4, 7]] = -1
    arrays["real_atom_types"] = types
    system = load(write_npy(tmp_path / "s", [0] * 8, arrays))
    np.testing.assert_array_equal(system.atype, [[1, 0, 1, 0, 1], [1, 0, 1, 0, -1]])
    np.testing.assert_array_equal(system.natoms_loss, [8, 6])
    np.testing.assert_allclose(system.spin[0], data["spin"][0], atol=1e-12)
    np.testing.assert_allclose(system.spin[1, :4], data["spin"][1, :4], atol=1e-12)


def test_left_handed_box(tmp_path):
    data = make()
    data["box"] = data["box"][:, [1, 0, 2]]
    assert np.linalg.det(data["box"][0]) < 0
    assert_same(load(write_npy(tmp_path / "s", ATYPE, data)), data)


def test_not_periodic(tmp_path, caplog):
    data = make()
    path = write_npy(tmp_path / "s", ATYPE, data)
    (tmp_path / "s/nopbc").touch()
    system = load(path)
    assert not system.pbc
    assert (system.box == 0).all()
    assert not caplog.records
    del data["box"]
    system = load(write_npy(tmp_path / "t", ATYPE, data))
    assert not system.pbc
    assert "has no box" in caplog.text


def test_no_spin_types_needs_no_spins(tmp_path):
    data = make()
    del data["spin"], data["force_mag"]
    system = load(write_npy(tmp_path / "s", [0] * 5, data))
    assert (system.spin == 0).all()
    assert "force_mag" not in system.labels
    assert system.layout == "spin-files"


def test_force_mag_of_other_types_is_zero(tmp_path):
    data = make()
    data["force_mag"] = np.ones((4, 5, 3))
    system = load(write_npy(tmp_path / "s", ATYPE, data))
    np.testing.assert_array_equal(system.labels["force_mag"][0, :, 0], ATYPE)


def test_other_modulus_warns_once(tmp_path, caplog):
    data = make()
    data["spin"][1] *= 1.5
    system = load(write_npy(tmp_path / "s", *with_virtual(data)))
    assert_same(system, data)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"'{system.path}': virtual atoms are not at `virtual_len`: "
        "|spin| of Ni is 1.2737 to 1.91055 μ_B instead of 1.2737."
    )


def test_zero_spin_on_request(tmp_path):
    data = make()
    data["spin"][1, 2] = 0
    system = load(write_npy(tmp_path / "s", ATYPE, data), allow_zero_spin=True)
    assert (system.spin[1, 2] == 0).all()


def change(name, index, value):
    def apply(data):
        data[name][index] = value

    return apply


def far_image(data):
    data["coord"][2, 3] = data["coord"][2, 1] + BOX[0] - 2 * BOX[1] + [0, 0, 0.05]


def on_virtual(data):
    data["coord"][1, 3] = data["coord"][1, 4] + 0.4 / 1.2737 * data["spin"][1, 4]


IN = r"frame 1 of '.*/s/set\.000'"
WRONG_FRAMES = {
    "nan": (change("force", (1, 2), np.nan), r"force.npy': nan in frame 1, atom 2 b"),
    "inf": (change("energy", 3, np.inf), r"energy.npy': inf in frame 3\. Remove"),
    "singular": (change("box", (1, 2), BOX[0]), IN + ": singular box .* `nopbc`"),
    "no box": (change("box", 1, 0.0), IN + ": singular box .* 0 Å apart"),
    "foreign": (
        change("spin", (1, 3, 0), 0.05),
        "atom 3, " + IN + r": \|spin\| = 0.05 but type 'O' is no spin type, and 0.05 μ",
    ),
    "zero": (
        change("spin", (1, 4), 0.0),
        "atom 4, " + IN + r": .* 'Ni' is a spin type; .* `env_protection`",
    ),
    "overlap": (far_image, "frame 2 .*: atom 1 and atom 3 .* 0.05 Å apart. Remove"),
    "on virtual": (on_virtual, IN + ": atom 3 and the virtual atom of atom 4 "),
}


@pytest.mark.parametrize("case", WRONG_FRAMES)
def test_wrong_frames(tmp_path, case):
    data = make()
    spoil, message = WRONG_FRAMES[case]
    spoil(data)
    path = write_npy(tmp_path / "s", ATYPE, data)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def replace(name, value):
    def apply(path):
        if value is None:
            (path / name).unlink()
        elif isinstance(value, str):
            (path / name).write_text(value)
        else:
            np.save(path / name, value)

    return apply


WRONG_FILES = {
    "no type": ("type.raw", None, r"has no type\.raw"),
    "text type": ("type.raw", "Ni O Ni O Ni", "type.raw' does not hold numbers"),
    "broken type": ("type.raw", "1 0 1 0 1.5", "integers from 0 on. Received: 1.5"),
    "negative type": ("type.raw", "1 0 1 0 -1", "integers from 0 on. Received: -1"),
    "large type": ("type.raw", "1 0 1 0 3", r"type 3, but with no type_map\.raw"),
    "few types": ("type.raw", "1 0 1", r"rows .* of 9 numbers \(3 atoms.*\(4, 15\)"),
    "unknown": ("type_map.raw", "O Fe", r"atoms of \['Fe'\], .* \['O', 'Ni'\]\. Add"),
    "short map": ("type_map.raw", "O", r"type 1, but with type_map\.raw \['O'\]"),
    "no coord": ("set.000/coord.npy", None, "coord.npy' is missing: every set"),
    "no frames": ("set.000/coord.npy", np.zeros((0, 15)), "holds no frames"),
    "fewer rows": ("set.000/energy.npy", np.zeros(3), r"must have 4 rows .*\(3,\)"),
    "columns": ("set.000/virial.npy", np.zeros((4, 6)), r"of 9 numbers .*\(4, 6\)"),
    "not npy": ("set.000/force.npy", "1 2 3", "force.npy' cannot be read"),
    "words": ("set.000/force.npy", np.array([["a"]] * 4), "does not hold numbers"),
    "no spin": ("set.000/spin.npy", None, "has no spins: no spin.npy, and no virtual"),
    "mixed": (
        "set.000/real_atom_types.npy",
        np.full((4, 5), -1),
        "frame 0 .* no atoms",
    ),
    "part": ("set.000/real_atom_types.npy", np.full((4, 5), 0.5), "Received: 0.5"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_files(tmp_path, case):
    name, value, message = WRONG_FILES[case]
    path = write_npy(tmp_path / "s", ATYPE, make())
    replace(name, value)(tmp_path / "s")
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_wrong_virtual_atoms(tmp_path):
    data = make()
    atype, arrays = with_virtual(data)
    both = write_npy(tmp_path / "both", atype, {**arrays, "spin": arrays["coord"]})
    with pytest.raises(DataError, match="virtual atoms in its types and also spin"):
        load(both)
    unpaired = write_npy(tmp_path / "unpaired", [*atype[:-1], 0], arrays)
    with pytest.raises(DataError, match="3 atoms of spin type 1 but 2 virtual atoms"):
        load(unpaired)
    arrays["coord"][:, 5:] = arrays["coord"][:, [6, 5, 7]]
    swapped = write_npy(tmp_path / "swapped", atype, arrays)
    with pytest.raises(
        DataError, match=r"atom 0, frame 0 .* `virtual_len` is 0\.4\. V"
    ):
        load(swapped)
    data["spin"][3, 2] = 0
    zero = write_npy(tmp_path / "zero", *with_virtual(data))
    with pytest.raises(
        DataError, match=r"atom 2, frame 3 .*\|spin\| = 0 but type 'Ni'"
    ):
        load(zero)
    short = {**with_virtual(make())[1], "force": make()["force"]}
    with pytest.raises(
        DataError, match=r"force\.npy' must have .* 24 numbers \(8 atoms"
    ):
        load(write_npy(tmp_path / "short", atype, short))


def test_type_map_of_the_scheme(tmp_path):
    with pytest.raises(ValueError, match="must name the 2 types"):
        load_system(tmp_path, ["Ni"], SCHEME)


def test_no_tensorflow():
    code = "import sys, deepspin.data.systems; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_complex_numbers(tmp_path):
    data = make()
    data["energy"] = data["energy"] + 1j
    with pytest.raises(DataError, match="complex"):
        load(write_npy(tmp_path / "sys", ATYPE, data))


ORDER = "Without type_map.raw, type 0 is O, 1 is Ni, in the order of the model's"


@pytest.mark.parametrize("names", [None, ["O", "Ni"]])
def test_order_of_types(tmp_path, names):
    """Data of Ni = 0, O = 1, read with the type map O, Ni: the message says so."""
    data = make()
    swapped = write_npy(tmp_path / "swapped", 1 - ATYPE, data, names)
    with pytest.raises(DataError, match="'O' is no spin type") as caught:
        load(swapped)
    assert (ORDER in str(caught.value)) == (names is None)
    atype, arrays = with_virtual(data)
    unpaired = write_npy(tmp_path / "u", [*1 - atype[:5], 2, 2, 2], arrays, names)
    with pytest.raises(DataError, match="2 atoms of spin type 1 but 3 virt") as caught:
        load(unpaired)
    assert ("Without type_map.raw" in str(caught.value)) == (names is None)
    four = {
        name: np.delete(arrays[name].reshape(4, 8, 3), [4, 7], axis=1)
        for name in ("coord", "force")
    }
    paired = write_npy(
        tmp_path / "p", [0, 1, 0, 1, 2, 2], {**four, "box": data["box"]}, names
    )
    with pytest.raises(DataError, match=r"its virtual atom is .* away") as caught:
        load(paired)
    assert ("Without type_map.raw" in str(caught.value)) == (names is None)


def test_oddities_are_told_once(tmp_path, caplog):
    """What is odd in several systems, in one line."""
    data = make()
    del data["box"]
    one = write_npy(tmp_path / "one", ATYPE, data)
    data["spin"] *= 5
    two = write_npy(tmp_path / "two", ATYPE, data)
    systems = load_systems([one, two], TYPE_MAP, SCHEME)
    assert [system.path for system in systems] == [one, two]
    box, spin = (record.getMessage() for record in caplog.records)
    assert box.startswith(f"'{one}' has no box")
    assert box.endswith("ends this warning. The same in 1 more of 2 systems.")
    assert "are the spins in μ_B?" in spin
    assert spin.endswith("?")


def test_singular_or_tiny(tmp_path):
    data = make()
    data["box"] *= 0.05
    with pytest.raises(DataError, match=r"tiny box .*0\.2\d* Å apart. Rows .* in Å"):
        load(write_npy(tmp_path / "tiny", ATYPE, data))
    data["box"] = np.tile(np.diag([1e12, 5.0, 5.0]), (4, 1, 1))
    with pytest.raises(DataError, match="singular box"):
        load(write_npy(tmp_path / "flat", ATYPE, data))


def test_numbers_beyond_physics(tmp_path):
    data = make()
    data["coord"][2, 1] = 1e16
    with pytest.raises(DataError, match=r"coord\.npy': 1e\+16 in frame 2, atom 1\."):
        load(write_npy(tmp_path / "s", ATYPE, data))
