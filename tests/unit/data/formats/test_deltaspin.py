# SPDX-License-Identifier: Apache-2.0
"""DeltaSpin's outputs: numbers by hand, and all that must not be read."""

from __future__ import annotations

import numpy as np
import pytest
from deltaspin_text import (
    CELL,
    COORD,
    END,
    ENERGY,
    FINAL,
    FORCE,
    FORCE_MAG,
    HEAD,
    ONE,
    REACHED,
    SPIN,
    VIRIAL,
    iterations,
    results,
    rows,
)

from deepspin.data.files import DataError
from deepspin.data.formats import deltaspin
from deepspin.data.formats.frame import Dropped, Frame


def outcar(tmp_path, text, name="run"):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "OUTCAR").write_text(text)
    return folder


def read(path):
    return list(deltaspin.read(path))


def reasons(path):
    return [item.reason if isinstance(item, Dropped) else None for item in read(path)]


def check_whole(frame, energy=ENERGY, spin=SPIN, force_mag=FORCE_MAG):
    assert frame.symbols == ("Fe", "Fe", "O")
    assert np.array_equal(frame.cell, CELL)
    assert np.array_equal(frame.coord, COORD)
    arrays = dict(frame.arrays)
    assert float(arrays.pop("energy")) == pytest.approx(energy, abs=1e-12)
    assert np.array_equal(arrays.pop("force"), FORCE)
    assert arrays.pop("virial") == pytest.approx(VIRIAL, rel=1e-9)
    assert arrays.pop("spin") == pytest.approx(spin, abs=1e-12)
    assert arrays.pop("force_mag") == pytest.approx(force_mag, abs=1e-12)
    assert not arrays


# --- VASP 6 ---------------------------------------------------------------------------


def test_numbers_by_hand(tmp_path):
    folder = outcar(tmp_path, ONE)
    (frame,) = read(folder)
    assert frame.place == f"step 1 of '{folder}/OUTCAR'"
    check_whole(frame)
    check_whole(*read(folder / "OUTCAR"))
    assert deltaspin.matches(folder) and deltaspin.matches(folder / "OUTCAR")


def test_tables_before_the_forces(tmp_path):
    text = HEAD + iterations() + FINAL + REACHED + results() + END
    check_whole(*read(outcar(tmp_path, text)))


def test_two_steps(tmp_path):
    second = iterations(2) + REACHED + results(-18.0) + FINAL + END
    one, two = read(outcar(tmp_path, ONE.replace(END, "") + second))
    check_whole(one)
    check_whole(two, energy=-18.0)


def test_an_ordinary_outcar_is_not_ours(tmp_path):
    folder = outcar(tmp_path, HEAD + iterations() + REACHED + results() + END)
    assert not deltaspin.matches(folder)
    assert not deltaspin.matches(tmp_path)
    (folder / "OUTCAR").write_text("")
    assert not deltaspin.matches(folder)
    # one that has not come to its tables is
    (folder / "OUTCAR").write_text(f" LDELTASPIN = .TRUE.\n M_DELTASPIN = 1\n{HEAD}")
    assert deltaspin.matches(folder)
    assert read(folder) == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("SCF convergence        : reached", "SCF convergence : not reached", "elec"),
        ("loop because EDIFF is reached", "loop EDIFF was not reached", "electrons"),
        ("Moment constraint      : reached", "Moment constraint : unavailable", "mome"),
        ("Moment constraint      : reached", "Moment constraint : not reached", "mome"),
        ("8.0856E-08", "8.0856E-06", "moments are not where the constraints"),
        ("0.0072313466", "         NaN", "no numbers"),
        ("2.6769999642", "99.0000000000", "placeholders (99.0)"),
        ("-17.12345678", "************", "no numbers"),
    ],
)
def test_what_must_not_be_read(tmp_path, old, new, reason):
    assert old in ONE
    (found,) = reasons(outcar(tmp_path, ONE.replace(old, new)))
    assert reason in found


def test_atoms_whose_moments_are_not_told(tmp_path):
    """Those of a type of which no moment is told have none."""
    text = ONE.replace(rows(SPIN), rows(SPIN, atoms=(1,)))
    text = text.replace(rows(FORCE_MAG), rows(FORCE_MAG, atoms=(1,)))
    (found,) = reasons(outcar(tmp_path, text))
    assert "some atoms are not written, of a type of which others are" in found


def test_files_that_are_cut_off(tmp_path):
    """Wherever the file ends, no frame has a number that it should not have."""
    folder = outcar(tmp_path, ONE)
    for end in range(len(HEAD + iterations()), len(ONE), 7):
        (folder / "OUTCAR").write_text(ONE[:end])
        for item in read(folder):
            if isinstance(item, Dropped):
                assert item.reason == "the file ends before it does"
            else:
                assert end >= ONE.index("0.0600000000") + 12
                check_whole(item)


def test_files_of_two_calculations(tmp_path):
    text = ONE.replace("     2   Fe  1  1  1", "     2    O  1  1  1")
    with pytest.raises(DataError, match="among its moments, but its atoms are Fe Fe O"):
        read(outcar(tmp_path, text))


def test_definitions_of_moments_are_not_mixed(tmp_path):
    other = ONE.replace("MOMENT_DEF = 0", "MOMENT_DEF = 2")
    both = ONE + other.replace("Iteration    1(", "Iteration    2(")
    with pytest.raises(DataError, match="DELTASPIN_MOMENT_DEF = 0 and 2"):
        read(outcar(tmp_path, both, "both"))
    one, two = outcar(tmp_path, ONE, "one"), outcar(tmp_path, other, "two")
    again = outcar(tmp_path, ONE, "again")
    deltaspin.check_alike([one, again / "OUTCAR", tmp_path])
    with pytest.raises(DataError, match=r"= 0, '.*two' of 2: these are different"):
        deltaspin.check_alike([one, again, two])


# --- The first DeltaSpin --------------------------------------------------------------

OLD_SPIN = np.array([[0.35, 0.0, 2.677], [-0.35, 0.0, 2.677], [0.001, 0.0, -0.002]])
OLD_FORCE = np.array([[0.1, -0.2, 0.3], [0.01, 0.02, 0.03], [0, 0, 0]])


def oszicar(penalty=0.25, spin=OLD_SPIN, force=OLD_FORCE, off=1e-9, ionic=1):
    text = "DAV:   1    -0.170000000E+02   -0.17E+02   -0.1E+01  4   0.1E+01\n"
    for times in (100.0, 1.0):  # an electronic step before the last one
        text += f"\n E_p = {penalty * times:12.5E}\n<lVp>=  0.25000E+00\n DBL =  0.1\n"
        text += " RMS =   1.000000000000E-09\n"
        text += " ion                     MW_current                  delta_MW\n"
        for k, row in enumerate(spin):
            numbers = [*row, off * times, 0, 0]
            text += f"{k + 1:3}" + "".join(f"{v:18.9f}" for v in numbers) + "\n"
        text += " ion                     M_current\n"
        for k in range(len(spin)):
            text += f"{k + 1:3}" + "".join(f"{v:18.9f}" for v in (5, 5, 5)) + "\n"
        text += " lambda                                       Magnetic Force    \n"
        for k, row in enumerate(force * times):
            numbers = [*-row, *row]
            text += f"{k + 1:3}" + "".join(f"{v:16.8E}" for v in numbers) + "\n"
        text += "  \n"
    return (
        f"{text}   {ionic} F= -.17E+02 E0= -.17E+02  d E =-.1E-08  mag=  0.0 0.0 5.3\n"
    )


OLD = HEAD + iterations() + REACHED + results() + END


def old(tmp_path, moments, text=OLD):
    folder = outcar(tmp_path, text)
    (folder / "OSZICAR").write_text(moments)
    return folder


def test_the_penalty_is_taken_off(tmp_path):
    folder = old(tmp_path, oszicar())
    assert deltaspin.matches(folder) and deltaspin.matches(folder / "OUTCAR")
    (frame,) = read(folder)
    check_whole(frame, ENERGY - 0.25, OLD_SPIN, OLD_FORCE)


def test_steps_of_both_files_belong_together(tmp_path):
    text = OLD.replace(END, "") + iterations(2) + REACHED + results(-18.0) + END
    folder = old(tmp_path, oszicar() + oszicar(-0.5, -OLD_SPIN, ionic=2), text)
    one, two = read(folder)
    check_whole(one, ENERGY - 0.25, OLD_SPIN, OLD_FORCE)
    check_whole(two, -17.5, -OLD_SPIN, OLD_FORCE)


def test_moments_that_miss_their_targets(tmp_path):
    folder = old(tmp_path, oszicar(off=2e-5))
    unmet = "its moments are not where the constraints want them"
    assert reasons(folder) == [unmet]
    (folder / "INCAR").write_text("NSC = 100\n SCDIFF = 1E-5 # looser\n")
    assert reasons(folder) == [None]
    free = np.where(np.arange(3) == 0, 0.0, OLD_FORCE)  # nothing acts on x
    (folder / "OSZICAR").write_text(oszicar(off=0.5, force=free))
    assert reasons(folder) == [None]


def test_electrons_that_did_not_converge(tmp_path):
    """The iterations are as many as are allowed, and VASP 5 says nothing."""
    text = OLD.replace(iterations() + REACHED, iterations(last=3))
    assert reasons(old(tmp_path, oszicar(), text)) == [
        "its electrons have not converged"
    ]


def test_oszicar_that_is_cut_off(tmp_path):
    whole = oszicar()
    folder = old(tmp_path, whole)
    for end in range(len(whole) // 2, len(whole), 7):
        (folder / "OSZICAR").write_text(whole[:end])
        (item,) = read(folder)
        assert isinstance(item, Dropped)
    (folder / "OSZICAR").write_text(whole)
    assert isinstance(read(folder)[0], Frame)
