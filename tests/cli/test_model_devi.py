# SPDX-License-Identifier: Apache-2.0
"""`dp-spin model-devi`: formulas, files, selection, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_data
from peer import needs_peer, run_peer
from places import ROOT

import deepspin
from deepspin.data.systems import load_system
from deepspin.entrypoints import model_devi as verb
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.pictures.tables import read_table

VALID = ROOT / "examples" / "NiO" / "data" / "valid"
SYSTEM = VALID / "virtual-atom-16"
REFERENCE = ROOT / "tests" / "reference"
NATOMS, NFRAMES = 16, 4
# DeePMD-kit's columns, and ours after them
THEIRS = ["step", *(f"{k}_devi_{x}" for x in "vf" for k in ("max", "min", "avg"))]
THEIRS += ["devi_e"]
OURS = ["max_devi_fm", "min_devi_fm", "avg_devi_fm"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """Three model files that differ in their weights."""
    folder = tmp_path_factory.mktemp("models")
    files = []
    for seed in (1, 5, 9):
        files.append(str(folder / f"{seed}.keras"))
        save_model(make_model(seed=seed, neuron=(2, 4), axis_neuron=2), files[-1])
    return files


@pytest.fixture(scope="module")
def potentials(models):
    return dict(zip(models, map(deepspin.DeepSpin, models), strict=True))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder with a few frames: two sets, eight of the 16 atoms have spin."""
    monkeypatch.chdir(tmp_path)
    few("data")
    return tmp_path


def few(target, source=SYSTEM):
    """The first frames of a system, in two sets."""
    shutil.copytree(source, target)
    old = Path(target) / "set.000"
    (Path(target) / "set.001").mkdir()
    for file in old.glob("*.npy"):
        whole = np.load(file)[:NFRAMES]
        np.save(file, whole[:1])
        np.save(Path(target) / "set.001" / file.name, whole[1:])
    return target


@pytest.fixture
def run(models, potentials, monkeypatch, capsys):
    """Run the verb with three models; returns what it says."""
    monkeypatch.setattr(
        "deepspin.infer.deep_spin.DeepSpin", lambda file: potentials[str(file)]
    )

    def call(*args, status=0, models=models):
        given = ["model-devi", "-m", *models, "-s", "data"]
        assert main([*given, *map(str, args)]) == status
        return capsys.readouterr().err

    return call


def table(path="model_devi.out"):
    """Columns by name; of several systems one after another."""
    (head,) = {
        line
        for line in Path(path).read_text().splitlines()
        if line.startswith("# step")
    }
    names = head[1:].split()
    rows = np.loadtxt(path, ndmin=2)
    if "atm_devi_f(N)" not in names:
        assert names == THEIRS + OURS
        return dict(zip(names, rows.T, strict=True))
    atoms = (rows.shape[1] - len(THEIRS + OURS)) // 2
    wide = [*THEIRS, *["f"] * atoms, *OURS, *["fm"] * atoms]
    assert names == [*THEIRS, "atm_devi_f(N)", *OURS, "atm_devi_fm(N)"]
    found = {n: rows[:, wide.index(n)] for n in THEIRS + OURS}
    for name in ("f", "fm"):
        found[name] = rows[:, [w == name for w in wide]]
    return found


def read(path="data", potentials=None):
    model = next(iter(potentials.values())).model
    return load_system(path, model.type_map, model.spin.scheme)


def said(potentials, data):
    """What each model says of each frame, per atom where that is so."""
    results = {"energy": [], "virial": [], "force": [], "force_mag": []}
    for potential in potentials.values():
        frames = [
            potential.eval(data.coord[k], data.box[k], data.atype[k], data.spin[k])
            for k in range(data.nframes)
        ]
        for name, rows in results.items():
            rows.append(np.concatenate([frame[name] for frame in frames]))
    results = {name: np.array(rows) for name, rows in results.items()}
    for name in ("energy", "virial"):
        results[name] /= NATOMS
    return results


def three(values):
    return values.max(axis=1), values.min(axis=1), values.mean(axis=1)


def columns(deviation, magnetic):
    """Columns, from the deviation of each component."""
    virial = deviation["virial"].reshape(-1, 9)
    force, force_mag = (
        np.linalg.norm(deviation[n], axis=2) for n in ("force", "force_mag")
    )
    # root mean square of the nine components
    rms = np.sqrt((virial**2).mean(axis=1))
    values = [*three(virial)[:2], rms, *three(force), deviation["energy"]]
    values += three(force_mag[:, magnetic])
    return dict(zip([*THEIRS[1:], *OURS], values, strict=True))


def assert_columns(found, want):
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)
        assert np.abs(values).min() > 0, name


# --- Formulas -------------------------------------------------------------------------


def test_deviations(run, potentials):
    text = run("-f", 10)
    data = read(potentials=potentials)
    magnetic = data.atype[0] == 0
    assert 0 < magnetic.sum() < NATOMS
    deviation = {n: v.std(axis=0) for n, v in said(potentials, data).items()}
    want, found = columns(deviation, magnetic), table()
    assert_columns(found, want)
    np.testing.assert_array_equal(found["step"], [0, 10, 20, 30])
    largest = (want[f"max_devi_{x}"].max() for x in ("f", "fm"))
    text = text.splitlines()[-2]
    shown = [float(x) for x in re.findall(r"(\S+?)(?:,|$)", text)[1:]]
    np.testing.assert_allclose(shown, list(largest), rtol=1e-3)


def test_errors(run, potentials):
    """Root mean squares over the models of what labels say otherwise; of one, too."""
    data = read(potentials=potentials)
    magnetic = data.atype[0] == 0
    for models in (list(potentials), list(potentials)[:1]):
        run("--real_error", models=models)
        results = said({file: potentials[file] for file in models}, data)
        deviation = {}
        for name, values in results.items():
            label = data.labels[name]
            if name in ("energy", "virial"):
                label = label / NATOMS
            deviation[name] = np.sqrt(((values - label) ** 2).mean(axis=0))
        assert_columns(table(), columns(deviation, magnetic))


def test_missing_labels(run):
    """Their columns are NaN, never 0."""
    for file in Path("data").rglob("energy.npy"):
        file.unlink()
    run("--real_error")
    found = table()
    assert np.isnan(found.pop("devi_e")).all()
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize("real", [False, True])
def test_relative(run, potentials, real):
    """Divided by magnitudes of the mean, or of the labels, plus the level."""
    data = read(potentials=potentials)
    results, options = said(potentials, data), ["--real_error"] * real
    run("--atomic", *options)
    absolute = table()
    levels = {"relative": 0.2, "relative_v": 0.3, "relative_fm": 0.01}
    given = [word for k, v in levels.items() for word in (f"--{k}", v)]
    run("--atomic", *options, *given)
    found = table()
    mean = {name: values.mean(axis=0) for name, values in results.items()}
    if real:
        mean = {**data.labels, "virial": data.labels["virial"] / NATOMS}
    for name, column, level in (
        ("force", "f", 0.2),
        ("force_mag", "fm", 0.01),
    ):
        scale = np.linalg.norm(mean[name], axis=2) + level
        np.testing.assert_allclose(found[column], absolute[column] / scale, rtol=2e-6)
    scale = np.linalg.norm(mean["virial"].reshape(-1, 9), axis=1) + 0.3
    for kind in ("max", "min", "avg"):
        name = f"{kind}_devi_v"
        np.testing.assert_allclose(found[name], absolute[name] / scale, rtol=2e-6)
    np.testing.assert_array_equal(found["devi_e"], absolute["devi_e"])


def test_atoms(run, potentials):
    """In the order of the data; no magnetic force on types without spin."""
    run("--atomic")
    data, found = read(potentials=potentials), table()
    results = said(potentials, data)
    for name, column in (("force", "f"), ("force_mag", "fm")):
        want = np.linalg.norm(results[name].std(axis=0), axis=2)
        if column == "fm":
            want[:, data.atype[0] != 0] = np.nan
        np.testing.assert_allclose(found[column], want, rtol=1e-6)
    np.testing.assert_array_equal(found["f"].max(axis=1), found["max_devi_f"])
    np.testing.assert_array_equal(np.nanmin(found["fm"], 1), found["min_devi_fm"])


@pytest.mark.parametrize("options", [(), ("--atomic",)])
def test_plot_reads_it(run, options):
    """Of several systems, too, and with columns of atoms between the others."""
    few("other", VALID / "virtual-atom-32")
    run("-s", ".", "-f", "5", *options)
    blocks = [np.loadtxt(text) for text in split_at_headers("model_devi.out")]
    found = read_table(Path("model_devi.out"))
    assert [Path(name).name for name in found.systems] == ["data", "other"]
    assert found.columns == ["system", *THEIRS, *OURS]
    for number, block in enumerate(blocks):
        rows = found.values[found.values[:, 0] == number, 1:]
        atoms = (block.shape[1] - len(THEIRS + OURS)) // 2
        first = len(THEIRS)
        ours = block[:, first + atoms :][:, : len(OURS)]
        np.testing.assert_array_equal(rows, np.hstack([block[:, :first], ours]))
    assert main(["plot", "model_devi.out"]) == 0


def split_at_headers(path):
    """Lines of each block."""
    parts = re.split(r"^# .*\n# step.*\n", Path(path).read_text(), flags=re.MULTILINE)
    return [part.splitlines() for part in parts[1:]]


def test_equal_models_do_not_disagree(run, models):
    run(models=[models[1]] * 3)
    for name, values in table().items():
        assert name == "step" or np.abs(values).max() < 1e-14


def test_python(models, run):
    """What is returned is what is written."""
    (found,) = verb.model_devi(models=models, system="data", output="new/x.out")
    assert found.shape == (NFRAMES, 11)
    np.testing.assert_allclose(found, np.loadtxt("new/x.out"), rtol=1e-6)


def test_many_frames(run, monkeypatch):
    run()
    whole = Path("model_devi.out").read_bytes()
    monkeypatch.setattr("deepspin.infer.deviation.CHUNK", 3)
    run()
    pieces = table()
    Path("model_devi.out").write_bytes(whole)
    for name, values in table().items():
        np.testing.assert_allclose(pieces[name], values, rtol=1e-5, err_msg=name)


def test_mixed_types(run, potentials):
    """Frames of different compositions, some with fewer atoms."""
    arrays, types = small_data.frames(3)
    rows = np.stack([types, np.roll(types, 1), types])
    rows[2, -1] = -1
    small_data.write("mixed", {**arrays, "real_atom_types": rows}, np.zeros(8, int))
    spin = np.load("mixed/set.000/spin.npy").reshape(3, 8, 3)
    spin[:] = [0.3, 0.4, 1.1]
    spin[rows != 0] = 0
    np.save("mixed/set.000/spin.npy", spin.reshape(3, -1))
    run("-s", "mixed", "--atomic")
    found = table()
    data = read("mixed", potentials)
    for k in range(3):
        here = data.atype[k] >= 0
        forces = [
            p.eval(
                data.coord[k, here],
                data.box[k],
                data.atype[k, here],
                data.spin[k, here],
            )["force"][0]
            for p in potentials.values()
        ]
        want = np.linalg.norm(np.std(forces, axis=0), axis=1)
        np.testing.assert_allclose(found["f"][k, here], want, rtol=1e-6)
        np.testing.assert_allclose(found["max_devi_f"][k], want.max(), rtol=1e-6)
    assert np.isnan(found["f"][2, ~here]).all() and (~here).sum() == 1


# --- Files ----------------------------------------------------------------------------


def test_form(run):
    """DeePMD-kit's: a header for each system, columns of its widths."""
    Path("both").mkdir()
    shutil.copytree("data", "both/a")
    shutil.copytree("data", "both/b")
    run("-s", "both")
    lines = Path("model_devi.out").read_text().splitlines()
    assert len(lines) == 2 * (2 + NFRAMES)
    assert [lines[k] for k in (0, 2 + NFRAMES)] == ["# both/a", "# both/b"]
    names = "".join(f"{name:19s}" for name in [*THEIRS[1:], *OURS])
    assert lines[1] == lines[3 + NFRAMES] == f"# {'step':10s}{names}"
    for line in lines[2 : 2 + NFRAMES]:
        assert re.fullmatch(r" {11}\d(?: +\d\.\d{6}e[+-]\d\d){10}", line)
        assert len(line) == 12 + 10 * 19


def test_replaces_what_is_there(run):
    Path("model_devi.out").write_text("old")
    Path("model_devi.candidates").write_text("old")
    run()
    assert len(table()["step"]) == NFRAMES
    assert not Path("model_devi.candidates").exists()


def test_ignored_option(run):
    assert "warning: -S has no effect" in run("-S", "set")


# --- Selection ------------------------------------------------------------------------


@pytest.fixture
def deviations(run):
    run()
    return table()


def select(deviations, bounds):
    """Accurate, candidates, and failed frames by the rule of active learning."""
    low = np.any([deviations[n] >= lo for n, (lo, _) in bounds.items()], axis=0)
    high = np.any([deviations[n] >= hi for n, (_, hi) in bounds.items()], axis=0)
    return [np.flatnonzero(x) for x in (~low & ~high, low & ~high, high)]


@pytest.mark.parametrize("names", [["f"], ["fm"], ["f", "fm"]])
def test_selection(run, deviations, names):
    bounds, args = {}, []
    for name in names:
        values = np.sort(deviations[f"max_devi_{name}"])
        pair = values[0] * 1.0001, (values[-2] + values[-1]) / 2
        bounds[f"max_devi_{name}"] = pair
        args += ["--select" if name == "f" else "--select-fm", *pair]
    accurate, candidates, failed = select(deviations, bounds)
    assert len(candidates) and len(failed)
    text = run(*args)
    counts = f"{len(accurate)} frames are accurate, {len(candidates)} candidates"
    assert counts in text and f"{len(failed)} beyond the bounds" in text
    lines = Path("model_devi.candidates").read_text().splitlines()
    assert lines[0] == "# system frame max_devi_f max_devi_fm"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["data", str(frame)] for frame in candidates
    ]
    for line, frame in zip(lines[1:], candidates, strict=True):
        want = [deviations[f"max_devi_{n}"][frame] for n in ("f", "fm")]
        np.testing.assert_allclose(list(map(float, line.split()[2:])), want, rtol=1e-6)


@pytest.mark.parametrize("target", ["chosen", "chosen.hdf5"])
def test_extraction(run, deviations, potentials, target):
    """Candidates as they are in the data, bit for bit, from sets of several systems."""
    Path("both").mkdir()
    shutil.copytree("data", "both/a")
    few("both/b", VALID / "spin-files-16")
    run("-s", "both")
    values = table()["max_devi_f"].reshape(2, NFRAMES)
    low = np.sort(values[0])[1] * 0.999
    high = 1.001 * values.max()
    run("-s", "both", "--select", low, high, "--extract", target)
    chosen = [np.flatnonzero((v >= low) & (v < high)) for v in values]
    assert 0 < len(chosen[0]) < NFRAMES
    for name, frames in zip("ab", chosen, strict=True):
        if not len(frames):
            continue
        path = f"{target}#/{name}" if target.endswith("5") else f"{target}/{name}"
        old, new = read(f"both/{name}", potentials), read(path, potentials)
        assert new.layout == old.layout and new.nframes == len(frames)
        for field in ("coord", "box", "spin", "atype"):
            np.testing.assert_array_equal(
                getattr(new, field), getattr(old, field)[frames], err_msg=field
            )
        assert new.labels.keys() == old.labels.keys()
        for field, values in old.labels.items():
            np.testing.assert_array_equal(new.labels[field], values[frames])


def test_extraction_of_none(run, deviations):
    run("--select", 1e3, 1e4, "--extract", "chosen")
    assert not Path("chosen").exists()
    assert len(Path("model_devi.candidates").read_text().splitlines()) == 1


def test_extraction_replaces_if_forced(run, deviations):
    args = ["--select", 0, 1e4, "--extract", "chosen"]
    run(*args)
    text = run(*args, status=1)
    assert "'chosen' exists. Choose another output, or replace it with --force" in text
    run(*args, "--force")
    assert sorted(p.name for p in Path("chosen").iterdir()) == [
        "set.000",
        "set.001",
        "spin_scheme.json",
        "type.raw",
    ]


# --- Mistakes -------------------------------------------------------------------------

CASES = {
    "one model": (["-m", "x.keras"], "-m takes 2 or more .* --real_error .*: 1"),
    "frequency": (["-f", 0], "-f must be 1 or more steps. Received: 0"),
    "level": (["--relative", 0], "--relative must be above 0. Received: 0"),
    "level fm": (["--relative_fm", "nan"], "--relative_fm must be above 0.*nan"),
    "order": (["--select", 0.3, 0.1], "a lower and a higher bound. Received: 0.3 0.1"),
    "nothing to extract by": (["--extract", "y"], "--extract writes what --select or"),
    "inside the data": (
        ["--select", 0.1, 0.2, "--extract", "data/y"],
        "'data/y' is, holds or lies in the data 'data'",
    ),
    "no data": (["-s", "absent"], "'absent'"),
    "folder": (["-o", "data"], "'data' is a folder"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes(case, run, folder, monkeypatch):
    """Told before TensorFlow is loaded: one line, and nothing is written."""
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(
        "deepspin.env.start_tensorflow", lambda: pytest.fail("too late")
    )
    args, message = CASES[case]
    text = run(*args, status=1)
    assert re.search(f"^dp-spin: error: .*{message}", text)
    assert text.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_missing_model(run, monkeypatch):
    monkeypatch.setattr(
        "deepspin.env.start_tensorflow", lambda: pytest.fail("too late")
    )
    text = run(models=["no.keras", "none.keras"], status=1)
    assert "there is no file 'no.keras'" in text


def test_models_that_do_not_fit(run, potentials, models, make_model):
    potentials["other.keras"] = deepspin.DeepSpin(make_model("ONi"))
    Path("other.keras").touch()
    text = run(models=[models[0], "other.keras"], status=1)
    assert "do not fit together: types" in text and "['O', 'Ni']" in text
    del potentials["other.keras"]


def test_scales_that_do_not_fit(run, potentials, models, make_model):
    """Virtual atoms are not the same spins to all; spin files are."""
    model = make_model("NiO", neuron=(2, 4), axis_neuron=2)
    other = deepspin.SpinEnergyModel(
        model.type_map,
        model.descriptor,
        model.fitting,
        deepspin.Spin([True, False], [0.3], [1.2737]),
    )
    potentials["other.keras"] = deepspin.DeepSpin(other)
    Path("other.keras").touch()
    given = [models[0], "other.keras"]
    text = run(models=given, status=1)
    assert "'data' holds virtual atoms, which mean other spins to each" in text
    few("files", VALID / "spin-files-16")
    run("-s", "files", models=given)
    assert len(table()["step"]) == NFRAMES
    del potentials["other.keras"]


def test_no_labels(run):
    for name in ("energy", "virial"):
        for file in Path("data").rglob(f"{name}.npy"):
            file.unlink()
    run("--real_error", "--select", 0.1, 0.2)
    for file in Path("data").rglob("force.npy"):
        file.unlink()
    text = run("--real_error", status=1)
    assert "error: 'data' has no labels to compare with, as --real_error asks" in text
    run()  # deviations need none


def test_no_forces_to_select_by(run):
    for file in Path("data").rglob("force.npy"):
        file.unlink()
    text = run("--real_error", "--select", 0.1, 0.2, status=1)
    assert "error: 'data' has no force to select frames by." in text


# --- Beside DeePMD-kit ----------------------------------------------------------------


@needs_peer
@pytest.mark.parametrize("options", [[], ["--real_error"]], ids=["deviation", "error"])
def test_as_deepmd_kit(options, folder):
    """Energies and virials are its own, which it divides by virtual atoms too.

    Its deviations of forces are over real and virtual atoms together; where the largest
    one is on a real atom, it is ours.
    """
    models = [str(REFERENCE / f"{name}.pb") for name in ("base", "resnet_dt")]
    given = ["model-devi", "-m", *models, "-s", "data", "-f", "5", *options]
    assert main([*given, "-o", "ours.out"]) == 0
    run_peer("dp", "--tf", *given, "-o", "theirs.out", folder=folder)
    ours, theirs = table("ours.out"), np.loadtxt("theirs.out").T
    theirs = dict(zip(THEIRS, theirs, strict=True))
    np.testing.assert_array_equal(ours["step"], theirs["step"])
    extended = (NATOMS + 8) / NATOMS
    for name in ("max_devi_v", "min_devi_v", "avg_devi_v", "devi_e"):
        np.testing.assert_allclose(ours[name], extended * theirs[name], rtol=2e-6)
    own = ours["max_devi_f"]
    real = own > ours["max_devi_fm"]
    np.testing.assert_allclose(own[real], theirs["max_devi_f"][real], rtol=1e-5)
    assert real.any()
    heads = [Path(f).read_text().splitlines()[:2] for f in ("ours.out", "theirs.out")]
    assert heads[0][0] == heads[1][0]
    assert heads[0][1].startswith(heads[1][1])
