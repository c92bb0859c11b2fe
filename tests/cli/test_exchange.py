# SPDX-License-Identifier: Apache-2.0
"""``dp-spin exchange``, ``magnons`` and ``spectrum``: files, prints, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import h5py
import invariant_models
import numpy as np
import pytest
from places import ROOT

import deepspin
from deepspin.analysis.files import load_exchange
from deepspin.analysis.magnons import magnons
from deepspin.atoms.structures import load_structure, save_structure
from deepspin.data.files import DataError
from deepspin.entrypoints.exchange import exchange
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.utils.outputs import OutputError
from deepspin.utils.refused import InputError

pytestmark = pytest.mark.any_version
CELL = ROOT / "examples" / "NiO" / "exchange" / "nio.extxyz"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two models, the magnetic cell, and what `exchange` wrote of them."""
    folder = tmp_path_factory.mktemp("exchange")
    for seed in (1, 2):
        save_model(invariant_models.build(seed=seed), folder / f"m{seed}.keras")
    atoms = load_structure(CELL, deepspin.DeepSpin(folder / "m1.keras"))
    moved = [
        replace(
            atoms,
            coord=atoms.coord + 0.02 * np.random.default_rng(k).normal(size=(4, 3)),
        )
        for k in range(2)
    ]
    save_structure(folder / "hot.extxyz", moved)
    turned = atoms.spin.copy()
    turned[0] = np.roll(turned[0], 1) + 0.3 * turned[0]
    save_structure(folder / "turned.extxyz", [replace(atoms, spin=turned)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exchange(structure=str(CELL), model=["m1.keras"])
        exchange(structure="turned.extxyz", model=["m1.keras"], output="turned.json")
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)


def table(text: str) -> list[list[str]]:
    """Rows of shells."""
    return [line.split() for line in text.splitlines() if line.startswith("  Ni-Ni")]


def test_several_models_and_frames(here, capsys):
    saved = exchange(
        structure=str(CELL), model=["m1.keras", "m2.keras"], output="two.json", shells=2
    )
    rows = table(capsys.readouterr().out)
    assert len(rows) == 2
    second = exchange(structure=str(CELL), model=["m2.keras"], output="2.json")
    capsys.readouterr()
    each = [load_exchange("exchange.json"), second]
    j = [x.exchange.hamiltonian.shells()[0].exchange for x in each]
    assert float(rows[0][4]) == pytest.approx(1e3 * np.mean(j), abs=6e-5)
    assert float(rows[0][-1]) == pytest.approx(1e3 * np.std(j, ddof=1), abs=6e-5)
    assert saved.models == ("m1.keras", "m2.keras")
    hot = exchange(
        structure="hot.extxyz", model=["m1.keras"], frames=[0, 1], output="hot.json"
    )
    (row, *_) = table(capsys.readouterr().out)
    assert (float(row[1]), float(row[2])) == (pytest.approx(2.95, abs=0.05), 12)
    assert hot.exchange.hamiltonian.sites.n == 2
    assert Path("hot.png").stat().st_size > 1000


def test_from_a_structure_to_magnons(here, capsys):
    command = ["exchange", str(CELL), "-m", "m1.keras", "-o", "x.json", "--beyond", "8"]
    assert main([*command, "--relax-moduli", "--orientations", "1"]) in (0, 1)
    assert main(command) == 0
    out = capsys.readouterr().out
    for words in ("each pair once", "mean field", "what is left", "wave vector"):
        assert words in out
    path = ["--path", "0,0,0", "0.25,0,0", "--points", "5", "--mesh", "4"]
    assert main(["magnons", "x.json", *path, "--moment", "Ni=2"]) == 0
    with open("magnons.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curvature = load_exchange("x.json").exchange.curvature
    q = [[float(rows[-1][f"q_{axis} (1/A)"]) for axis in "xyz"]]
    inside = np.array(q) @ curvature.sites.box.T / (2 * np.pi)
    found = magnons(curvature, inside, np.full(2, 2.0)).energy[0]
    assert float(rows[-1]["E_2 (meV)"]) == pytest.approx(1e3 * found[1], rel=1e-6)
    assert len(rows) == 6
    assert Path("magnons.png").stat().st_size > 1000


def test_derivatives(here, capsys):
    """Of an oxygen atom of the cell: printed, written, read again."""
    command = ["exchange", str(CELL), "-m", "m1.keras", "-o", "d.json"]
    more = ["--derivatives", "2", "--derivatives-within", "2.5"]
    assert main([*command, *more]) == 0
    out = capsys.readouterr().out
    rows = out[out.index("as atom 2 (O) moves") :].splitlines()[2:]
    (found,) = load_exchange("d.json").derivatives
    assert (found.atom, found.name, found.within) == (2, "O", 2.5)
    assert found.error.max() < 1e-6 < np.abs(found.exchange).max()
    first = [float(x) for x in rows[0].split()[-3:]]
    np.testing.assert_allclose(first, 1e3 * found.exchange[0], atol=6e-5)
    assert f"{len(found)} pairs with a site within 2.5 Å" in rows[-1]
    again = json.loads(Path("d.json").read_text(encoding="utf-8"))
    again["derivatives"][0]["first"][0] = 7
    Path("e.json").write_text(json.dumps(again), encoding="utf-8")
    with pytest.raises(DataError, match="sites of derivatives"):
        load_exchange("e.json")


def test_outputs_are_not_replaced(here):
    for call in (
        lambda: exchange(structure=str(CELL), model=["m1.keras"]),
        lambda: exchange(
            structure=str(CELL), model=["m1.keras"], output="no/such.json"
        ),
    ):
        if Path("no").exists():
            break
        with pytest.raises(OutputError, match="--force"):
            call()
        Path("no").mkdir()
    assert main(["magnons", "exchange.json", "--path", "GX", "--points", "4"]) == 0
    assert main(["magnons", "exchange.json", "--path", "GX", "--points", "4"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shells": 0}, "--shells must be at least 1"),
        ({"beyond": 3}, "8 states or more"),
        ({"tolerance": -1.0}, "--tolerance must be a distance"),
        ({"derivatives": [4]}, "atoms from 0 to 3. Received: 4"),
        ({"derivatives": [0], "derivatives_within": -1.0}, "--derivatives-within must"),
        ({"derivatives": [0], "frames": [0, 0]}, "one model and one frame"),
        ({"derivatives": [0], "relax_moduli": True}, "are at fixed spins"),
    ],
)
def test_options_of_no_use(here, options, message):
    with pytest.raises(InputError, match=message):
        exchange(structure=str(CELL), model=["m1.keras"], output="y.json", **options)


def test_frames_of_other_atoms(here):
    potential = deepspin.DeepSpin("m1.keras")
    atoms = load_structure(CELL, potential)
    fewer = replace(
        atoms,
        atype=atoms.atype[:3],
        coord=atoms.coord[:3],
        spin=atoms.spin[:3],
        mass=atoms.mass[:3],
        fixed=atoms.fixed[:3],
    )
    save_structure("mixed.extxyz", [atoms, fewer])
    with pytest.raises(InputError, match="same atoms"):
        exchange(
            structure="mixed.extxyz", model=["m1.keras"], output="y.json", frames=[0, 1]
        )


def refused(capsys, *command: str) -> str:
    assert main(list(command)) == 1
    return capsys.readouterr().err


def test_magnons_refuse(here, capsys):
    for option, message in (
        (["--points", "1"], "--points must be at least 2"),
        (["--mesh", "0"], "--mesh must be at least 1"),
        (["--moment", "Fe=2"], "TYPE=MOMENT"),
        (["--moment", "Ni=-2"], "TYPE=MOMENT"),
        (["--path", "GZZZ"], "special points are"),
    ):
        assert message in refused(capsys, "magnons", "exchange.json", *option)
    assert "no whole file" in refused(capsys, "magnons", "m1.keras")
    assert "not stationary" in refused(capsys, "magnons", "turned.json")


def spirals(path: str, steps: int = 64) -> None:
    """Spins that turn together with 50 meV."""
    time = 2.0 * np.arange(steps)
    angle = 0.050 / 0.6582119569 * time
    spin = np.zeros((steps, 1, 2, 3))
    spin[..., 0] = np.cos(angle)[:, None, None]
    spin[..., 1] = np.sin(angle)[:, None, None]
    with h5py.File(path, "w") as file:
        file["type_map"] = np.array(["Ni", "O"], dtype="S")
        file["atype"] = [0, 0]
        file["step"], file["time"] = np.arange(steps), time
        file["coord"] = np.tile([[0, 0, 0], [2.0, 0, 0]], (steps, 1, 1, 1))
        file["spin"], file["box"] = spin, np.diag([4.0, 5, 5])


def test_spectrum(here, capsys):
    spirals("t.h5")
    command = ["spectrum", "t.h5", "--repeat", "2", "1", "1", "--q", "1,0,0", "0.5,0,0"]
    assert main([*command, "--compare", "exchange.json", "--segments", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert float(rows[0].split()[3]) == pytest.approx(50, abs=5)
    assert len(rows[0].split()) == 4 + 2
    with open("spectrum.csv", encoding="utf-8") as file:
        found = np.loadtxt(file, delimiter=",", skiprows=1)
    assert found[found[:, 1].argmax(), 0] == pytest.approx(50, abs=30)
    assert "exists" in refused(capsys, *command)
    command[1:1] = ["--force"]
    for option, message in (
        (["--segments", "0"], "--segments must be at least 1"),
        (["--skip", "-1"], "--skip must be"),
        (["--q", "0.3,0,0"], "does not fit"),
        (["--q", "a"], "three numbers"),
        (["--skip", "1"], "needs 16 or more"),
    ):
        assert message in refused(capsys, *command, *option)


def test_structures_without_spins(here):
    text = CELL.read_text().splitlines()
    bare = [text[0], text[1].replace(":initial_magmoms:R:3", "")]
    Path("bare.extxyz").write_text(
        "\n".join([*bare, *(" ".join(row.split()[:4]) for row in text[2:])]) + "\n"
    )
    with pytest.raises(DataError, match="no spins"):
        exchange(structure="bare.extxyz", model=["m1.keras"], output="y.json")
