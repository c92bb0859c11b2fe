# SPDX-License-Identifier: Apache-2.0
"""Numbers of data that are known, and everything in it that should be looked at."""

from __future__ import annotations

import json

import numpy as np
import pytest
from places import ROOT
from small_data import LATTICE, frames, with_virtual_atoms, write

from deepspin.entrypoints.check_data import check_data
from deepspin.main import main

EXAMPLE = ROOT / "examples/NiO"


def facts_of(folder, **options):
    return check_data(systems=[str(folder)], **options)["systems"][0]


# --- Numbers --------------------------------------------------------------------------


def test_numbers(tmp_path):
    arrays, types = frames(8)
    facts = facts_of(write(tmp_path / "s", arrays, types))
    assert facts["atoms"] == {"Ni": [4, 4], "O": [4, 4]}
    assert facts["cell"]["volume_per_atom"] == pytest.approx([LATTICE**3 / 8] * 2)
    assert facts["cell"]["lengths"] == [pytest.approx([LATTICE] * 2)] * 3
    energy, force = arrays["energy"] / 8, arrays["force"]
    assert facts["energy"]["mean"] == pytest.approx(energy.mean())
    assert facts["energy"]["std"] == pytest.approx(energy.std())
    assert facts["energy"]["outliers"] == []
    assert facts["force"]["rms"] == pytest.approx(np.sqrt((force**2).mean()))
    length = np.linalg.norm(force, axis=-1)
    frame, atom = np.unravel_index(length.argmax(), length.shape)
    at = f"atom {atom}, frame {frame} of '{tmp_path}/s/set.000'"
    assert facts["force"]["largest"] == {"value": pytest.approx(length.max()), "at": at}
    assert facts["force"]["net"]["value"] < 1e-12
    assert facts["spin"]["Ni"]["range"] == pytest.approx([1.27, 1.27])
    assert facts["virial"] is None


def test_magnetic_forces(tmp_path):
    arrays, types = frames(8)
    unit = arrays["spin"][:, :4] / 1.27
    across = np.cross(unit, np.random.default_rng(2).normal(size=3))
    arrays["force_mag"][:, :4] = 0.3 * unit + across
    facts = facts_of(write(tmp_path / "s", arrays, types))
    found = facts["force_mag"]
    assert found["mean_along"] == pytest.approx(0.3)
    assert found["rms_along"] == pytest.approx(0.3)
    rms = np.sqrt((across**2).sum(axis=-1).mean())
    assert found["rms_across"] == pytest.approx(rms)
    torque = np.cross(arrays["spin"], arrays["force_mag"])
    whole = (torque.sum(axis=1) ** 2).sum(axis=-1)
    apart = (torque**2).sum(axis=(1, 2))
    found = facts["torque"]
    assert found["all"] == pytest.approx(np.sqrt(whole.sum() / apart.sum()))
    worst = np.sqrt(whole.max() / apart.mean())  # of a frame like the others
    assert found["largest"]["value"] == pytest.approx(worst)
    assert found["largest"]["at"].startswith(f"frame {whole.argmax()} of")


def test_nearest(tmp_path):
    arrays, types = frames(3, step=0.0)
    arrays["coord"] = arrays["coord"].copy()
    arrays["coord"][1, 5] += [LATTICE, 0, 0.2]  # one O, also in another cell
    arrays["spin"] = np.where(types[:, None] == 0, [0.0, 0.0, 1.27], 0.0)
    arrays["spin"] = np.repeat(arrays["spin"][None], 3, axis=0)
    nearest = facts_of(write(tmp_path / "s", arrays, types))["nearest"]
    half = LATTICE / 2
    assert nearest["Ni-Ni"]["distance"] == pytest.approx(LATTICE / np.sqrt(2))
    assert nearest["Ni-O"]["distance"] == pytest.approx(half - 0.2)
    assert nearest["Ni-O"]["frame"] == f"frame 1 of '{tmp_path}/s/set.000'"
    assert 5 in nearest["Ni-O"]["atoms"]
    distance = half - 0.4 - 0.0  # a virtual atom and the O above
    assert nearest["O-Ni(spin)"]["distance"] == pytest.approx(distance)


def test_energies_follow_from_forces(tmp_path):
    """All factors are 1, in either layout; lengths do not change."""
    arrays, types = frames(8)
    write(tmp_path / "d/s", arrays, types)
    write(tmp_path / "d/v", *with_virtual_atoms(arrays, types), names=None)
    options = {"virtual_len": [0.4], "spin_norm": [1.2737]}
    result = check_data(systems=[str(tmp_path / "d")], **options)
    for facts in result["systems"]:
        assert facts["work"]["pairs"] == 7 * 8 / 2
        for name in ("force", "force_mag", "across"):
            assert facts["work"][name][0] == pytest.approx(1.0, abs=0.02)
        assert facts["work"]["along"] is None
    assert not any("times as much" in note for note in result["findings"])


def test_example():
    """The torques of its Hamiltonian add up to 0, frames are far from each other."""
    input = str(EXAMPLE / "se_e2_a/input.json")
    result = check_data(systems=[str(EXAMPLE / "data/valid")], input=input)
    assert [facts["frames"] for facts in result["systems"]] == [10, 20, 10, 20]
    assert all(facts["torque"]["all"] < 1e-13 for facts in result["systems"])
    assert all(facts["work"] is None for facts in result["systems"])
    assert result["findings"] == []


# --- Frames that occur twice ----------------------------------------------------------


def test_frames_in_training_and_validation(tmp_path):
    arrays, types = frames(6)
    write(tmp_path / "train", arrays, types)
    write(tmp_path / "valid", {n: a[4:] for n, a in arrays.items()}, types)
    options = json.loads((EXAMPLE / "se_e2_a/input.json").read_text())
    options["training"]["training_data"]["systems"] = str(tmp_path / "train")
    options["training"]["validation_data"]["systems"] = str(tmp_path / "valid")
    (tmp_path / "input.json").write_text(json.dumps(options))
    # the other one is found through the input
    result = check_data(
        systems=[str(tmp_path / "train")], input=str(tmp_path / "input.json")
    )
    assert len(result["systems"]) == 1
    assert [twin["roles"] for twin in result["twins"]] == [
        ["training", "validation"]
    ] * 2
    assert any("2 frames are in both training and" in n for n in result["findings"])


# --- What to look at ------------------------------------------------------------------


def in_bohr(arrays):
    return {"coord": arrays["coord"] * 1.8897, "box": arrays["box"] * 1.8897}


def crowded(arrays):
    coord = arrays["coord"].copy()
    coord[2, 1] = coord[2, 0] + [0.5, 0, 0]
    return {"coord": coord}


def one_off(name, frame, value):
    def change(arrays):
        array = arrays[name].copy()
        array[frame] += value
        return {name: array}

    return change


def random_torques(arrays):
    own = np.random.default_rng(3).normal(size=arrays["spin"].shape)
    return {"force_mag": np.where(arrays["spin"] != 0, own, 0.0)}


def projected(arrays):
    unit = arrays["spin"] / 1.27
    force_mag = arrays["force_mag"]
    along = (force_mag * unit).sum(axis=-1, keepdims=True)
    return {"force_mag": force_mag - along * unit}


def times(name, factor):
    return lambda arrays: {name: arrays[name] * factor}


def doubled(arrays):
    return {name: np.concatenate([a, a[2:3]]) for name, a in arrays.items()} | {
        "energy": np.append(arrays["energy"], arrays["energy"][2] + 0.5)
    }


def a_zero(arrays):
    spin = arrays["spin"].copy()
    spin[1, 2] = 0.0
    return {"spin": spin}


FINDINGS = {
    "bohr": (in_bohr, "apart, which is far: are coord and box in bohr? In bohr"),
    "crowded": (crowded, "0.50 Å apart, which is near"),
    "outlier": (one_off("energy", 3, 50.0), "far from the median: frame 3 of"),
    "net force": (one_off("force", 2, 0.1), "forces do not add up to 0"),
    "torque": (random_torques, "do not add up to 0"),
    "projected": (projected, "has no part along the spin"),
    "zero force_mag": (times("force_mag", 0.0), "force_mag is 0 everywhere"),
    "sign": (times("force_mag", -1.0), "-1.01 ± 0.00 times as much as force_mag says"),
    "sign, too": (times("force_mag", -1.0), "is its sign turned?"),
    "unit of force": (times("force", 2.0), "0.50 ± 0.00 times as much as force says"),
    "unit vectors": (times("spin", 1 / 1.27), "all |S| are 1: are these unit vectors?"),
    "long spins": (times("spin", 20.0), "|S| of Ni exceeds 12: are the spins in μ_B?"),
    "zero spin": (a_zero, "1 spins of types with spin are 0"),
    "twins": (doubled, "1 frames occur twice"),
    "energies of twins": (doubled, "Their energies differ by up to 0.5 eV"),
}


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings(tmp_path, capsys, finding):
    change, message = FINDINGS[finding]
    arrays, types = frames(10, seed=4)
    write(tmp_path / "good", arrays, types)
    write(tmp_path / "bad", arrays | change(arrays), types)
    good = check_data(systems=[str(tmp_path / "good")])
    assert good["findings"] == []
    assert capsys.readouterr().out.endswith("Nothing to look at.\n")
    bad = check_data(systems=[str(tmp_path / "bad")])
    assert any(message in note for note in bad["findings"]), bad["findings"]
    out = capsys.readouterr().out
    for number, note in enumerate(bad["findings"], start=1):
        assert f"  {number}. {note}\n" in out


@pytest.mark.parametrize("label", ["energy", "force", "force_mag"])
def test_a_missing_label(tmp_path, label):
    arrays, types = frames(8)
    del arrays[label]
    result = check_data(systems=[str(write(tmp_path / "s", arrays, types))])
    (note,) = result["findings"]
    assert f"no {label} in '{tmp_path}/s'" in note
    assert result["systems"][0][label] is None


def test_labels_of_some_frames(tmp_path, capsys):
    """Counted, and the other frames are measured as if they were alone."""
    arrays, types = frames(12)
    has = np.arange(12) % 4 != 1
    kept = {name: values[has] for name, values in arrays.items()}
    (alone,) = check_data(systems=[str(write(tmp_path / "b", kept, types))])["systems"]
    for label in ("energy", "force", "force_mag"):
        arrays[label][~has] = np.nan
    result = check_data(systems=[str(write(tmp_path / "s", arrays, types))])
    (own,) = result["systems"]
    assert own["missing"] == {"energy": 3, "force": 3, "force_mag": 3}
    assert "energy(9) force(9) force_mag(9)" in capsys.readouterr().out
    text = "force_mag is missing in 3 of 12 frames of"
    assert any(text in note for note in result["findings"])
    for label in ("energy", "force", "force_mag", "torque"):
        for name, value in own[label].items():
            if not isinstance(value, dict | list):
                assert value == pytest.approx(alone[label][name], rel=1e-10), name
    assert own["work"]["pairs"] == alone["work"]["pairs"]
    for name in ("force", "force_mag"):
        assert own["work"][name][0] == pytest.approx(1.0, abs=0.01)
    longest = own["force"]["largest"]
    assert longest["value"] == pytest.approx(alone["force"]["largest"]["value"])
    assert longest["at"].startswith("atom ")


def test_advice_is_for_the_system(tmp_path):
    """A label that others have is not to be switched off for all."""
    arrays, types = frames(8)
    write(tmp_path / "d/a", arrays, types)
    other, _ = frames(8, seed=5)
    del other["force_mag"]
    write(tmp_path / "d/b", other, types)
    found = check_data(systems=[str(tmp_path / "d")])["findings"]
    (note,) = [note for note in found if "force_mag" in note]
    assert note == (
        f"no force_mag in '{tmp_path}/d/b', but in others: these systems do not count "
        "in its loss. If it was calculated, add it to them."
    )


def test_systems_that_do_not_fit_together(tmp_path):
    """Other energies for the same composition, a virial only here, a type nowhere."""
    arrays, types = frames(8)
    write(tmp_path / "d/a", arrays, types)
    other, _ = frames(8, seed=9)
    other |= {"energy": other["energy"] + 30.0, "virial": np.ones((8, 9))}
    write(tmp_path / "d/b", other, types)
    result = check_data(systems=[str(tmp_path / "d")], type_map=["Ni", "O", "Fe"])
    virial, energy, absent = result["findings"]
    assert "no virial in" in virial
    assert "have the same composition but 3.7" in energy
    assert "no atoms of Fe anywhere" in absent


def test_clusters(tmp_path):
    """Open systems have no cell; anywhere in space they are the same."""
    arrays, types = frames(6)
    del arrays["box"]
    moved = arrays | {"coord": arrays["coord"] + [30.0, 0.0, 5.0]}
    for name, own in (("a", arrays), ("b", moved)):
        (write(tmp_path / "d" / name, own, types) / "nopbc").touch()
    result = check_data(systems=[str(tmp_path / "d")])
    assert [facts["cell"] for facts in result["systems"]] == [None, None]
    assert len(result["twins"]) == 6


# --- The verb -------------------------------------------------------------------------


def test_json_and_tables(tmp_path, capsys):
    folder = write(tmp_path / "s", *frames(8))
    file = tmp_path / "out.json"
    assert main(["check-data", str(folder), "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written == json.loads(json.dumps(check_data(systems=[str(folder)])))
    assert written["spin"]["spin_norm"] == [1.27]
    out = capsys.readouterr().out
    assert (
        f"  0         8  Ni:4 O:4  spin-files  energy force force_mag  {folder}" in out
    )
    assert "  Ni-Ni" in out


def test_unreadable_systems_are_named_and_others_shown(tmp_path, capfd):
    arrays, types = frames(4)
    write(tmp_path / "d/good", arrays, types)
    far = arrays | {"coord": np.zeros((4, 8, 3))}
    write(tmp_path / "d/bad", far, types)
    write(tmp_path / "d/worse", far, types)
    file = tmp_path / "out.json"
    assert main(["check-data", str(tmp_path / "d"), "--json", str(file)]) == 1
    out, err = capfd.readouterr()
    assert f"{tmp_path}/d/good" in out
    first, last = err.splitlines()[-2:]
    assert first.startswith("dp-spin: error: frame 0 of")
    assert "d/worse" in last
    assert last.endswith("(2 of 3 systems cannot be read)")
    written = json.loads(file.read_text())
    assert len(written["unreadable"]) == 2
    assert len(written["systems"]) == 1


def test_mistakes(tmp_path, monkeypatch, capfd):
    write(tmp_path / "s", *frames(2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for args, message in (
        (["s", "--json", "file/out.json"], "cannot be written"),
        (["absent", "--json", "out.json"], "does not exist"),
        (["s", "-i", "absent.json"], "There is no input file"),
    ):
        assert main(["check-data", *args]) == 1
        assert message in capfd.readouterr().err.splitlines()[-1]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "s"]
