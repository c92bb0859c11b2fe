# SPDX-License-Identifier: Apache-2.0
"""`dp-spin test`: its lines, detail files and picture, and what it refuses."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from deepspin.data.augmentation import random_rotations
from deepspin.entrypoints import test as verb
from deepspin.infer import details as files_of
from deepspin.infer.accuracy import load_labelled
from deepspin.infer.deep_spin import DeepSpin
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.pictures import plots

VALID = ROOT / "examples" / "NiO" / "data" / "valid"
SYSTEM = VALID / "virtual-atom-16"
OTHER = VALID / "spin-files-32"
# suffix of the detail file: lines that are printed, unit, columns
PRINTED = {
    "e": ("Energy {}", "eV", 1),
    "e_peratom": ("Energy {}/Natoms", "eV", 1),
    "fr": ("Force atom {}", "eV/Å", 3),
    "fm": ("Force spin {}", "eV/uB", 3),
    "v": ("Virial {}", "eV", 9),
    "v_peratom": ("Virial {}/Natoms", "eV", 9),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory, make_model):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(make_model(neuron=(2, 4), fit_neuron=(4,), axis_neuron=2), path)
    return str(path)


@pytest.fixture(scope="module")
def potential(model_file):
    """The model; the same one for all tests, since the first call takes a while."""
    return DeepSpin(model_file)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(model_file, potential, monkeypatch, capsys):
    """Run the verb with the tiny model; returns what it says."""
    monkeypatch.setattr("deepspin.infer.deep_spin.DeepSpin", lambda file: potential)

    def call(*args, status=0, model=model_file):
        assert main(["test", "-m", model, *map(str, args)]) == status
        return capsys.readouterr().err

    return call


def copy_system(target, without=(), source=SYSTEM):
    shutil.copytree(source, target)
    for name in without:
        (Path(target) / "set.000" / f"{name}.npy").unlink()
    return target


def details(prefix="detail"):
    """Labels and predictions of all detail files."""
    found = {p.name.split(".")[1]: p for p in Path().glob(f"{prefix}.*.out")}
    return {s: np.hsplit(np.loadtxt(p, ndmin=2), 2) for s, p in found.items()}


# --- Results --------------------------------------------------------------------------


def test_lines_are_the_detail_files(run):
    """Each line is the mean of what its name says, over all systems together."""
    Path("both").mkdir()
    copy_system("both/a")
    copy_system("both/b", source=OTHER)
    text = run("-s", "both", "-n", 2, "-d", "detail")
    whole = text[text.index("weighted average") :]
    tables = details()
    assert tables.keys() == PRINTED.keys()
    for suffix, (label, pred) in tables.items():
        line, unit, width = PRINTED[suffix]
        assert label.shape[1] == width
        mae = np.mean(np.abs(pred - label))
        rmse = np.sqrt(np.mean((pred - label) ** 2))
        assert rmse != pytest.approx(mae, rel=5e-6)
        for kind, value in (("MAE", mae), ("RMSE", rmse)):
            pattern = rf"{line.format(kind):<20}: (\S+) {unit}\n"
            (shown,) = re.findall(pattern, whole)
            assert float(shown) == pytest.approx(value, rel=2e-6)


def test_what_it_returns(model_file, potential):
    result = verb.test(model=model_file, system=str(SYSTEM), numb_test=3)
    data = np.load(SYSTEM / "set.000" / "energy.npy")[:3].ravel()
    names = "e ea fr fm fm_along fm_across v va"
    names = {f"{k}_{n}" for k in ("mae", "rmse") for n in names.split()}
    assert result.keys() == names
    (system,) = load_labelled(potential, [str(SYSTEM)], False)
    guess = potential.eval(
        system.coord[:3], system.box[:3], system.atype[0], system.spin[:3]
    )
    diff = guess["energy"] - data
    assert result["mae_e"] == pytest.approx(np.mean(np.abs(diff)), rel=1e-12)
    assert result["rmse_e"] == pytest.approx(np.sqrt(np.mean(diff**2)), rel=1e-12)
    assert result["rmse_ea"] == pytest.approx(result["rmse_e"] / 16, rel=1e-12)


@pytest.mark.parametrize("has_virial", [True, False])
def test_picture_is_the_detail_files(run, monkeypatch, has_virial):
    saved, save = [], plots.save

    def keep(picture, path):
        saved.append(picture)
        save(picture, path)

    monkeypatch.setattr(plots, "save", keep)
    copy_system("system", [] if has_virial else ["virial"])
    text = run("-s", "system", "-n", 3, "-d", "detail", "--plot", "new/p.png")
    assert "drew new/p.png" in text
    assert Path("new/p.png").read_bytes().startswith(b"\x89PNG")
    (picture,) = saved
    tables = details()
    suffixes = ["e_peratom", "fr", "fm", *["v_peratom"] * has_virial]
    assert len(picture.axes) == len(suffixes)
    units = {"e": "eV/atom", "fr": "eV/Å", "fm": plots.MAGNETIC, "v": "eV/atom"}
    for axis, suffix in zip(picture.axes, suffixes, strict=True):
        label, pred = tables[suffix]
        shift = label.mean() if suffix == "e_peratom" else 0.0
        points = axis.lines[0].get_xydata()
        np.testing.assert_allclose(points[:, 0], label.ravel() - shift, atol=1e-12)
        np.testing.assert_allclose(points[:, 1], pred.ravel() - shift, atol=1e-12)
        assert axis.get_xlabel().endswith(f"({units[suffix.split('_')[0]]})")
        assert axis.get_xlabel().startswith("reference ")


def test_verb_plot_takes_the_detail_files(run, monkeypatch):
    run("-s", SYSTEM, "-n", 1, "-d", "detail")
    files = sorted(map(str, Path().glob("detail.*.out")))
    assert len(files) == 6
    assert main(["plot", *files, "-o", "p.svg"]) == 0
    assert "</svg>" in Path("p.svg").read_text()


# --- Detail files ---------------------------------------------------------------------


def test_detail_files_of_an_earlier_test(run):
    """What this one has no label for would be taken for its own: it goes."""
    copy_system("few", ["virial"])
    for name in ("notes.out", "other.v.out"):
        Path(name).write_text("mine")
    run("-s", SYSTEM, "-n", 2, "-d", "detail")
    assert details()["v"][0].shape == (2, 9)
    text = run("-s", "few", "-n", 1, "-d", "detail")
    for suffix in ("v", "v_peratom"):
        line = f"removed detail.{suffix}.out of an earlier test: no such label here"
        assert line in text
    tables = details()
    assert tables.keys() == {"e", "e_peratom", "fr", "fm"}
    assert tables["e"][0].shape == (1, 1)
    for name in ("notes.out", "other.v.out"):
        assert Path(name).read_text() == "mine"


def test_systems_in_a_detail_file(run):
    """Each system has its header, even where its label is missing in the first."""
    Path("all").mkdir()
    copy_system("all/a", ["energy"])
    copy_system("all/b")
    run("-s", "all", "-n", 2, "-d", "detail")
    heads = {
        p.name: [line for line in p.read_text().splitlines() if line.startswith("#")]
        for p in Path().glob("detail.*.out")
    }
    assert heads["detail.e_peratom.out"] == ["# all/b (per real atom): data_e pred_e"]
    force = ": data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    assert heads["detail.fr.out"] == [f"# all/a{force}", f"# all/b{force}"]


def test_full_disk_leaves_the_old_files(run, monkeypatch):
    run("-s", SYSTEM, "-n", 1, "-d", "detail")
    before = {p.name: p.read_bytes() for p in Path().iterdir()}
    whole = files_of._write_table

    def write(file, path, suffix, pair):
        if suffix == "fm":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(file, path, suffix, pair)

    monkeypatch.setattr(files_of, "_write_table", write)
    text = run("-s", SYSTEM, "-n", 2, "-d", "detail", status=1)
    assert text.splitlines()[-1] == (
        "dp-spin: error: 'detail.fm.out' cannot be written: No space left on device. "
        "Free some space, or write elsewhere."
    )
    assert {p.name: p.read_bytes() for p in Path().iterdir()} == before


def test_failure_leaves_the_old_files(run, monkeypatch):
    run("-s", SYSTEM, "-n", 1, "-d", "detail", "--plot", "p.png")
    before = {p.name: p.read_bytes() for p in Path().iterdir()}

    def fail(*args, **options):
        raise ValueError("no")

    monkeypatch.setattr(DeepSpin, "eval", fail)
    run("-s", SYSTEM, "-n", 2, "-d", "detail", "--plot", "p.png", status=1)
    assert {p.name: p.read_bytes() for p in Path().iterdir()} == before


# --- Atom energies --------------------------------------------------------------------


def test_atom_energies(run):
    Path("all").mkdir()
    copy_system("all/with")
    copy_system("all/without")
    nf = len(np.load("all/with/set.000/energy.npy"))
    energies = np.random.default_rng(0).normal(size=(nf, 16))
    np.save("all/with/set.000/atom_ener.npy", energies)
    text = run("-s", "all", "-n", 2, "-a", "-d", "detail")
    assert "dp-spin: warning: 'all/without' has no atom_ener.npy" in text
    assert "'all/with' has no atom_ener.npy" not in text
    np.testing.assert_array_equal(details()["ae"][0].ravel(), energies[:2].ravel())
    assert text.count("Atomic ener MAE") == 2  # of the system, and in all
    text = run("-s", "all", "-n", 2)
    assert "Atomic ener" not in text


# --- Spins turned ---------------------------------------------------------------------


def energy_changes(potential, frame, turns):
    """Changes in meV per atom, one evaluation each."""
    coord, box, atype, spin = frame
    energies = [
        potential.eval(coord, box, atype, spin @ turn.T)["energy"][0]
        for turn in (np.eye(3), *turns)
    ]
    return 1e3 * (np.array(energies[1:]) - energies[0]) / len(atype)


def test_spins_turned(run, potential, model_file):
    """Mean, rms and largest, of each system and in all, of what they say."""
    Path("both").mkdir()
    copy_system("both/a")
    copy_system("both/b", source=OTHER)
    text = run("-s", "both", "-n", 2, "--spin-rotation", 3, "-r", 4)
    random, changes = np.random.default_rng(4), []
    for data in load_labelled(potential, ["both/a", "both/b"], False):
        for k in range(2):
            frame = data.coord[k], data.box[k], data.atype[k], data.spin[k]
            turns = [*random_rotations(3, random), -np.eye(3)]
            changes.append(energy_changes(potential, frame, turns))
    changes = np.abs(changes)
    blocks = text.split("# |dE| when all spins turn")[1:]
    heads = ["(2 frames, 3 rotations of each)"] * 2 + [
        "(4 frames, 3 rotations of each)"
    ]
    assert [block.split(" or ")[0].strip() for block in blocks] == heads
    for block, rows in zip(blocks, (changes[:2], changes[2:], changes), strict=True):
        for name, values in (("rotation", rows[:, :3]), ("flip", rows[:, 3:])):
            rms = np.sqrt(np.mean(values**2))
            for kind, want in zip(
                ("mean", "rms", "max"), (values.mean(), rms, values.max()), strict=True
            ):
                pattern = rf"{f'Spin {name} {kind}':<20}: (\S+) meV/atom\n"
                (shown,) = re.findall(pattern, block)
                assert float(shown) == pytest.approx(want, rel=2e-6)
    assert changes.min() > 1e-7
    result = verb.test(
        model=model_file, system="both", numb_test=2, rand_seed=4, spin_rotation=3
    )
    assert result["max_flip"] == pytest.approx(changes[:, 3].max(), rel=1e-9)
    assert result["mean_rotation"] == pytest.approx(changes[:, :3].mean(), rel=1e-9)


def test_seed_of_turned_spins(run):
    """The same without a seed each time; with another, others; 8 by default."""
    one, same, other = (
        run("-s", SYSTEM, "-n", 1, *args, "--spin-rotation")
        for args in ([], [], ["-r", 5])
    )
    assert one == same
    assert "1 frames, 8 rotations of each" in other
    lines = [re.findall("Spin rotation rms.*", text) for text in (one, other)]
    assert lines[0] != lines[1]
    lines = [re.findall("Spin flip rms.*", text) for text in (one, other)]
    assert lines[0] == lines[1]
    assert "Spin" not in run("-s", SYSTEM, "-n", 1).replace("Force spin", "")


# --- Data -----------------------------------------------------------------------------


def test_list_of_systems(run):
    lines = f"\ufeff{SYSTEM}\n\n  {OTHER}  \n"
    Path("list.txt").write_text(lines, encoding="utf-8")
    text = run("-f", "list.txt", "-n", 1)
    assert "# number of systems : 2" in text


def test_order_at_random(run):
    """The seed decides which frames; without --shuffle-test they are the first."""
    energies = np.load(SYSTEM / "set.000" / "energy.npy").ravel()
    chosen = []
    for args in ([], ["-r", 1], ["--shuffle-test", "-r", 1]):
        run("-s", SYSTEM, "-n", 4, "-d", "detail", *args)
        chosen.append(details()["e"][0].ravel())
    np.testing.assert_allclose(chosen[0], energies[:4], rtol=1e-15)
    np.testing.assert_array_equal(chosen[1], chosen[0])
    order = np.random.default_rng(1).permutation(len(energies))[:4]
    np.testing.assert_allclose(chosen[2], energies[order], rtol=1e-15)


# --- Mistakes -------------------------------------------------------------------------

S = ["-s", str(SYSTEM)]
CASES = {
    "frames": ([*S, "-n", "-1"], "-n must be 0 .all. or more frames. Received: -1"),
    "seed": ([*S, "-r", "-1"], "-r must be 0 or more. Received: -1"),
    "turns": (
        [*S, "--spin-rotation", "-2"],
        "--spin-rotation must be 0 .none. or more rotations. Received: -2",
    ),
    "suffix": ([*S, "--plot", "p.jpg"], "A picture must end in .*Got 'p.jpg'."),
    "picture": ([*S, "--plot", "d.png"], "'d.png' is a folder. Give a file .*"),
    "taken": ([*S, "--plot", "list.txt/p.png"], "'list.txt/p.png' cannot be .*"),
    "prefix": ([*S, "-d", "new/"], "-d takes the beginning of file names.*'new/'."),
    "detail": ([*S, "-d", "x"], "'x.fm.out' is a folder. Give another prefix to -d."),
    "input": (
        ["-f", "input.json"],
        "'input.json' is an input of a training. For its data say --valid-data "
        "input.json or --train-data input.json; -f takes a list.*",
    ),
    "input by another name": (["-f", "in.txt"], "'in.txt' is an input of a training.*"),
    "binary list": (
        ["-f", "bin"],
        "'bin' is not text. -f takes a file with one path.*",
    ),
    "empty list": (["-f", "empty"], "'empty' names no system; one path on each line."),
    "absent list": (["-f", "no"], "No data file: 'no' is not a file."),
    "no validation": (
        ["--valid-data", "input.json"],
        "'input.json' has no `training/validation_data`.",
    ),
}


@pytest.fixture
def files(folder):
    content = {
        "model": {
            "type_map": ["Ni", "O"],
            "descriptor": {"type": "se_e2_a", "sel": [9, 9], "rcut": 4.0},
            "fitting_net": {},
            "spin": {"use_spin": ["Ni"], "virtual_len": [0.4], "spin_norm": [1.2737]},
        },
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": [str(SYSTEM)]}, "numb_steps": 1},
    }
    for name in ("input.json", "in.txt"):
        Path(name).write_text("\n" + json.dumps(content))
    Path("list.txt").write_text(f"{SYSTEM}\n")
    Path("bin").write_bytes(b"\x89HDF\xff")
    Path("empty").write_text("\n \n")
    for name in ("d.png", "x.fm.out"):
        Path(name).mkdir()


@pytest.mark.parametrize("case", CASES)
def test_mistakes(case, files, folder, run, monkeypatch):
    """Told before TensorFlow is loaded: one line, and nothing is written."""
    before = sorted(folder.rglob("*"))

    def start():
        raise AssertionError("too late")

    monkeypatch.setattr("deepspin.env.start_tensorflow", start)
    args, message = CASES[case]
    text = run(*args, status=1)
    assert re.fullmatch(f"dp-spin: error: {message}\n", text)
    assert sorted(folder.rglob("*")) == before


def test_missing_model_is_told_first(run, monkeypatch):
    monkeypatch.setattr(
        "deepspin.env.start_tensorflow", lambda: pytest.fail("too late")
    )
    text = run(*S, "-d", "new/detail", model="absent.keras", status=1)
    assert re.fullmatch("dp-spin: error: No .*'absent.keras'.*\n", text)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("without", "args", "message"),
    [
        ((), ["-a"], "-a compares atom energies, but no system has atom_ener.npy."),
        (("energy", "force", "virial"), [], "'system' has no label to test: .*"),
    ],
    ids=["no atom energies", "no labels"],
)
def test_nothing_to_compare(run, monkeypatch, without, args, message):
    """Told before the evaluation."""
    copy_system("system", without)
    monkeypatch.setattr(DeepSpin, "eval", lambda *args: pytest.fail("too late"))
    text = run("-s", "system", *args, status=1)
    assert re.search(f"^dp-spin: error: {message}", text, re.MULTILINE)
