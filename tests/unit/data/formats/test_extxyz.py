# SPDX-License-Identifier: Apache-2.0
"""Extended XYZ: numbers as they stand in the text, and texts that are wrong."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.formats import extxyz
from deepspin.data.formats.columns import UNCONVERGED
from deepspin.data.formats.frame import Dropped, Frame

HEAD = 'Lattice="4 0 0 0 5 0 1 0 6" Properties=species:S:1:pos:R:3:'
TEXT = f"""2
{HEAD}spin:R:3:forces:R:3:mforce:R:3 energy=-3.5 virial="1 2 3 4 5 6 7 8 9" step=4
Ni 0.1 0.2 0.3 1 -2 0.5 0.01 0.02 0.03 -0.1 -0.2 -0.3
O 1 2 3 0 0 0 -0.01 -0.02 -0.03 0 0 0
"""


def frames(text, tmp_path, **names):
    path = Path(tmp_path) / "a.extxyz"
    path.write_text(text, encoding="utf-8")
    return list(extxyz.read(path, names))


def test_numbers_are_those_of_the_text(tmp_path):
    (frame,) = frames(TEXT, tmp_path)
    assert frame.symbols == ("Ni", "O")
    assert frame.place == f"frame 0 of '{tmp_path}/a.extxyz'"
    np.testing.assert_array_equal(frame.coord, [[0.1, 0.2, 0.3], [1, 2, 3]])
    np.testing.assert_array_equal(frame.cell, [[4, 0, 0], [0, 5, 0], [1, 0, 6]])
    found = frame.arrays
    assert set(found) == {"spin", "force", "force_mag", "energy", "virial"}
    assert found["energy"] == -3.5
    np.testing.assert_array_equal(found["spin"], [[1, -2, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(found["force"][0], [0.01, 0.02, 0.03])
    np.testing.assert_array_equal(found["force_mag"][0], [-0.1, -0.2, -0.3])
    # column by column, as ASE has it
    np.testing.assert_array_equal(found["virial"], [[1, 4, 7], [2, 5, 8], [3, 6, 9]])
    atoms = ase.io.read(tmp_path / "a.extxyz")
    np.testing.assert_array_equal(atoms.info["virial"], found["virial"])
    np.testing.assert_array_equal(atoms.cell.array, frame.cell)


def test_what_is_written_is_read(tmp_path):
    """By us and by ASE, to the bit."""
    rng = np.random.default_rng(0)
    given = Frame(
        "",
        ("Ni", "O", "Ni"),
        rng.normal(size=(3, 3)),
        5 * np.eye(3) + rng.normal(size=(3, 3)),
        {
            "spin": rng.normal(size=(3, 3)),
            "energy": np.array(-1 / 3),
            "force": rng.normal(size=(3, 3)),
            "force_mag": rng.normal(size=(3, 3)),
            "virial": rng.normal(size=(3, 3)),
            "atom_ener": rng.normal(size=3),
            "fparam": rng.normal(size=2),
        },
    )
    (found,) = frames(extxyz.text_of(given), tmp_path)
    np.testing.assert_array_equal(found.coord, given.coord)
    np.testing.assert_array_equal(found.cell, given.cell)
    assert found.arrays.keys() == given.arrays.keys()
    for name, array in given.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    atoms = ase.io.read(tmp_path / "a.extxyz")
    np.testing.assert_array_equal(
        atoms.get_initial_magnetic_moments(), given.arrays["spin"]
    )
    np.testing.assert_array_equal(atoms.get_forces(), given.arrays["force"])
    np.testing.assert_array_equal(atoms.info["virial"], given.arrays["virial"])
    symmetric = (given.arrays["virial"] + given.arrays["virial"].T) / 2
    np.testing.assert_allclose(
        -atoms.get_volume() * atoms.get_stress(voigt=False), symmetric, atol=1e-12
    )


def test_open_boundaries_and_several_frames(tmp_path):
    text = "\n1\nProperties=species:S:1:pos:R:3:magmoms:R:1\nFe 0 0 0 2.5\n"
    one, two = frames(2 * text, tmp_path)
    assert one.cell is None
    np.testing.assert_array_equal(two.arrays["spin"], [[0, 0, 2.5]])
    (flat,) = frames(TEXT.replace("step=4", 'pbc="F F F"'), tmp_path)
    assert flat.cell is None


def test_moments_along_z_are_told_once(tmp_path, caplog):
    text = "1\nProperties=species:S:1:pos:R:3:magmoms:R:1\nFe 0 0 0 2.5\n"
    frames(3 * text, tmp_path)
    (said,) = caplog.messages
    assert "magmoms are N numbers, not N x 3: along z" in said


def test_labels_of_other_names_are_told(tmp_path, caplog):
    text = TEXT.replace("energy", "REF_energy").replace("forces", "dft_forces")
    frames(2 * text, tmp_path)
    (said,) = caplog.messages
    assert "REF_energy, dft_forces are not read" in said
    caplog.clear()
    frames(text.replace("mforce:", "ref_mforce:"), tmp_path, force_mag="ref_mforce")
    assert "mforce" not in caplog.text


def test_a_stress_is_a_virial(tmp_path):
    """Of ASE's sign: V = -volume times stress, here of 4 x 5 x 6 Å³."""
    text = TEXT.replace('virial="1 2 3 4 5 6 7 8 9"', 'stress="1 0 0 0 2 0 0 0 3"')
    (frame,) = frames(text, tmp_path)
    np.testing.assert_allclose(
        frame.arrays["virial"], -120 * np.diag([1.0, 2, 3]), rtol=1e-14
    )


def test_columns_that_are_named(tmp_path):
    text = TEXT.replace("mforce:R:3", "B:R:3").replace("spin:R:3", "m:R:3")
    (frame,) = frames(text, tmp_path)
    assert not {"spin", "force_mag"} & set(frame.arrays)
    (frame,) = frames(text, tmp_path, spin="m", force_mag="B")
    np.testing.assert_array_equal(frame.arrays["spin"][0], [1, -2, 0.5])
    np.testing.assert_array_equal(frame.arrays["force_mag"][0], [-0.1, -0.2, -0.3])
    # one of two that differ
    two = TEXT.replace("forces:R:3", "magnetic_moments:R:3")
    with pytest.raises(DataError, match="differ: spin and magnetic_moments"):
        frames(two, tmp_path)
    (frame,) = frames(two, tmp_path, spin="magnetic_moments")
    np.testing.assert_array_equal(frame.arrays["spin"][0], [0.01, 0.02, 0.03])


def test_what_a_calculation_began_with(tmp_path):
    """Initial moments count only where there are no others."""
    text = TEXT.replace("forces:R:3", "initial_magmoms:R:3")
    with pytest.raises(DataError, match="differ: spin and initial_magmoms"):
        frames(text, tmp_path)
    (frame,) = frames(text.replace("spin:", "magmoms:"), tmp_path)
    np.testing.assert_array_equal(frame.arrays["spin"][0], [1, -2, 0.5])


def test_electrons_that_have_not_converged(tmp_path):
    one, two = frames(TEXT + TEXT.replace("step=4", "scf_converged=F"), tmp_path)
    assert isinstance(one, Frame)
    (relaxed,) = frames(TEXT.replace("step=4", "converged=F"), tmp_path)
    assert isinstance(relaxed, Frame)  # atoms that are not at rest
    assert two == Dropped(f"frame 1 of '{tmp_path}/a.extxyz'", UNCONVERGED)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\n", "two\n", "frame 0 of .* begins with 'two' where its number of atoms"),
        ("O 1 2 3 0 0 0 -0.01 -0.02 -0.03 0 0 0\n", "", "cut off: 1 of 2 atoms"),
        (" -0.3\nO", "\nO", r"atom 0 has 12 columns and Properties names 13"),
        ("Ni 0.1", "Ni x.1", "column pos does not hold numbers.*another order"),
        ("species:S:1:pos:R:3", "pos:R:3:species:S:1", "column pos does not hold"),
        ("spin:R:3", "spin:R", "Properties must be NAME:KIND:WIDTH"),
        ("forces:R:3", "spin:R:3", "each name once"),
        ("pos:R:3", "xyz:R:3", "needs the columns species:S:1 and pos:R:3"),
        ("spin:R:3:forces:R:3", "spin:R:2:forces:R:4", "spin must be N or N x 3"),
        ('"4 0 0 0 5 0 1 0 6"', '"4 5 6"', "Lattice is not 9 numbers"),
        ("step=4", 'pbc="T T F"', "periodic in some directions only"),
        ("step=4", 'stress="1 0 0 0 1 0 0 0 1"', "its virial is not minus its stress"),
        ("mforce:R:3", "mforce:R:2:tag:R:1", r"mforce, taken as force_mag.*\(2, 2\)"),
    ],
)
def test_texts_that_are_wrong(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(DataError, match=message):
        frames(TEXT.replace(old, new, 1), tmp_path)


def test_no_text(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="is not text, so no extended XYZ"):
        list(extxyz.read(tmp_path / "a.xyz", {}))
