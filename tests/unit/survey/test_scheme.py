# SPDX-License-Identifier: Apache-2.0
"""What data without a description tells."""

import numpy as np
import pytest
from places import ROOT
from small_data import SCALE, frames, with_virtual_atoms, write

from deepspin.data.files import DataError
from deepspin.data.systems import load_system
from deepspin.spins.types import SMALL_MOMENT
from deepspin.survey.scheme import survey
from deepspin.utils.refused import InputError

EXAMPLE = ROOT / "examples/NiO"


def test_spin_files(tmp_path):
    arrays, types = frames()
    found = survey(str(write(tmp_path / "s", arrays, types)))
    assert found.type_map == ["Ni", "O"]
    assert found.section == {
        "use_spin": [True, False],
        "virtual_len": [0.4],
        "spin_norm": [1.27],
    }
    assert found.spin.codec.scale == (0.4 / 1.27, 0.0)
    assert found.doubts == []
    assert found.reasons.keys() == {"type_map", *found.section}
    assert "1.27 to 1.27 μ_B on Ni" in found.reasons["spin_norm"]


def test_virtual_atoms(tmp_path):
    """Their distance tells `virtual_len`, nothing tells `spin_norm`."""
    arrays, types = with_virtual_atoms(*frames(), scale=0.3 / 1.27)
    edge = arrays["box"].reshape(-1, 3, 3)[0, 0, 0]
    arrays["coord"] = np.mod(arrays["coord"], edge)  # some apart from their owners
    arrays["coord"][:, 8:] += 3 * edge  # all of them
    write(tmp_path / "v", arrays, types, names=None)
    found = survey(str(tmp_path / "v"), type_map=["Ni", "O"])
    assert found.section == {
        "use_spin": [True, False],
        "virtual_len": [0.3],
        "spin_norm": [1.2737],
    }
    (doubt,) = found.doubts
    assert "`spin_norm` 1.2737 μ_B (Ni in NiO) is assumed" in doubt
    norm = survey(str(tmp_path / "v"), type_map=["Ni", "O"], spin_norm=[1.27])
    system = load_system(str(tmp_path / "v"), norm.type_map, norm.spin)
    np.testing.assert_allclose(system.spin, frames()[0]["spin"], rtol=0, atol=1e-13)
    assert norm.doubts == []


@pytest.mark.parametrize("names", [["Ni", "O", "Ni_spin"], ["O", "Ni"]])
def test_owners_of_virtual_atoms(tmp_path, names):
    """By name, or by what lies where."""
    arrays, types = frames(names=names)
    magnetic = names.index("Ni")
    given = with_virtual_atoms(arrays, types, magnetic)
    found = survey(str(write(tmp_path / "v", *given, names=names)))
    assert found.type_map == names[:2]
    assert found.spin.types.spin_types == (magnetic,)


def test_owners_are_as_many_as_virtual_atoms(tmp_path):
    arrays, types = frames()
    types = np.where(np.arange(8) < 2, 2, types)
    arrays["spin"][:, :2] = 0.0
    given = with_virtual_atoms(arrays, types)
    assert given[1].tolist() == [2, 2, 0, 0, 1, 1, 1, 1, 3, 3]
    folder = write(tmp_path / "v", *given, names=("Ni", "O", "Fe"))
    assert survey(str(folder)).section["use_spin"] == [True, False, False]


def test_two_spin_types(tmp_path):
    arrays, types = frames()
    types = np.where(np.arange(8) < 2, 2, types)
    arrays["spin"][:, :2] *= 2.0
    found = survey(str(write(tmp_path / "s", arrays, types, names=("Ni", "O", "Fe"))))
    assert found.section["use_spin"] == [True, False, True]
    assert found.section["spin_norm"] == [1.27, 2.54]
    one = survey(str(tmp_path / "s"), virtual_len=[0.3], spin_norm=[1.0, 2.0])
    assert one.spin.codec.scale == (0.3, 0.0, 0.15)


def test_type_maps_of_several_systems(tmp_path):
    arrays, types = frames()
    write(tmp_path / "d/a", arrays, types)
    write(tmp_path / "d/b", arrays, types, names=("Fe", "O"))
    found = survey(str(tmp_path / "d"))
    assert found.type_map == ["Ni", "O", "Fe"]
    assert found.section["use_spin"] == [True, False, True]


def test_from_an_input():
    found = survey(
        str(EXAMPLE / "data/valid"), input=str(EXAMPLE / "se_e2_a/input.json")
    )
    assert found.type_map == ["Ni", "O"]
    assert found.spin.codec.scale == (SCALE, 0.0)
    assert len(found.paths) == 4


def test_small_spins(tmp_path):
    """Below 0.05 μ_B they are none, otherwise doubtful; --ignore-below decides."""
    arrays, types = frames()
    arrays["spin"][:, 4:] = [0.03, 0.04, 0.0]
    path = str(write(tmp_path / "s", arrays, types))
    found = survey(path)
    assert found.section["use_spin"] == [True, True]
    (small,) = found.doubts
    assert "|spin| of O is 0.05 μ_B on average" in small
    assert "--ignore-below 0.055" in small
    for below, size in ((None, 0.03), (0.055, 0.05)):
        arrays["spin"][:, 4:] = [0.0, size, 0.0]
        path = str(write(tmp_path / f"{size}", arrays, types))
        found = survey(path, ignore_below=below)
        assert found.section["use_spin"] == [True, False]
        assert len(found.section["spin_norm"]) == 1
        assert found.spin.types.ignore_below == (below or SMALL_MOMENT)
        assert ("ignore_below" in found.section) == (below is not None)
        assert f"up to {size} μ_B of O, below" in found.reasons["use_spin"]
        assert found.doubts == []
    arrays["spin"][:, :4] = 0.0
    with pytest.raises(DataError, match=r"but up to 0\.05 μ_B of O, below 0\.06 μ_B"):
        survey(str(write(tmp_path / "none", arrays, types)), ignore_below=0.06)
    with pytest.raises(InputError, match=r"--ignore-below must be 0 or more.*-1"):
        survey(path, ignore_below=-1.0)


MISTAKES = {
    "no names": ("v", {}, DataError, "no type_map.raw, .* with -t, .* such as -t Ni O"),
    "both": ("", {"type_map": ["Ni", "O"]}, DataError, "has spin.npy but .*v' has"),
    "no spins": ("none", {}, DataError, "no spins in this data"),
    "vary": ("vary", {"type_map": ["Ni", "O"]}, DataError, "0.4 to 1.2 Å away"),
    "strange": ("v", {"type_map": ["Ni"]}, DataError, "are no virtual atoms either"),
    "too few": ("bare", {"type_map": ["Ni"]}, DataError, "type 1 is not among Ni,"),
    "other names": (
        "s",
        {"type_map": ["Fe", "O"]},
        InputError,
        "also has Ni. Give all",
    ),
    "twice": ("s", {"type_map": ["Ni", "Ni"]}, InputError, "-t names a type twice"),
    "use_spin": ("s", {"use_spin": ["Fe"]}, InputError, "--use-spin must name some of"),
    "number": ("s", {"virtual_len": [1, 2]}, InputError, "--virtual-len must be one"),
    "sign": ("s", {"spin_norm": [-1.0]}, InputError, "Received: -1"),
    "input too": (
        "s",
        {"type_map": ["Ni", "O"], "input": "input.json"},
        InputError,
        "-i already says types and spins",
    ),
    "absent": ("absent", {}, DataError, "does not exist"),
}


def test_types_that_could_be_any(tmp_path):
    arrays, types = frames(2)
    write(tmp_path / "a", arrays, types)
    write(tmp_path / "b", arrays, types, names=("O", "Ni"))
    write(tmp_path / "c", arrays, types, names=None)
    with pytest.raises(DataError, match=r"/c' has no type_map\.raw, and those"):
        survey(str(tmp_path))
    assert survey(str(tmp_path), type_map=["Ni", "O"]).type_map == ["Ni", "O"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    arrays, types = frames(3)
    write(folder / "s", arrays, types)
    write(folder / "v", *with_virtual_atoms(arrays, types), names=None)
    write(folder / "other/bare", arrays, types, names=None)
    write(folder / "other/none", arrays | {"spin": 0 * arrays["spin"]}, types)
    longer = arrays | {"spin": arrays["spin"] * np.array([1, 2, 3])[:, None, None]}
    vary = with_virtual_atoms(longer, types, scale=0.4 / 1.27)
    write(folder / "other/vary", *vary, names=None)
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(data, mistake):
    path, options, error, message = MISTAKES[mistake]
    root = data / "other" if path in ("none", "vary", "bare") else data
    with pytest.raises(error, match=message):
        survey(
            [str(data / "s"), str(data / "v")] if not path else str(root / path),
            **options,
        )
