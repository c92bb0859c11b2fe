# SPDX-License-Identifier: Apache-2.0
"""``dp-spin thermo``: inputs, runs, what they write, restarts, stops; the example."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import invariant_models
import numpy as np
import pytest
from places import ROOT

from deepspin.atoms import units
from deepspin.atoms.structures import load_structure, save_structure
from deepspin.dynamics.core.fields import ModelFields
from deepspin.dynamics.thermo.data import RECORDS, load
from deepspin.dynamics.thermo.hybrid import HybridMonteCarlo
from deepspin.dynamics.thermo.options import gen_doc, normalize_thermo
from deepspin.dynamics.thermo.sampling import LangevinSampler
from deepspin.infer.deep_spin import DeepSpin
from deepspin.main import main
from deepspin.modelfiles.archive import save_model
from deepspin.pictures.tables import read_table
from deepspin.pictures.temperatures import draw_temperatures
from deepspin.utils.refused import InputError

METHODS = {
    "hmc": {"type": "hmc", "leaps": 2},
    "moduli": {"type": "hmc", "leaps": 2, "moduli": "vector"},
    "spins": {"type": "hmc", "leaps": 2, "lattice": False},
    "langevin": {"type": "langevin", "timestep": 0.2, "steps": 2},
    "spin bath": {"type": "langevin", "timestep": 0.2, "steps": 2, "lattice": False},
}
EXAMPLE = ROOT / "examples" / "NiO" / "thermo"


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, make_structure):
    """Folder with a model, and a structure of 8 atoms for it."""
    folder = tmp_path_factory.mktemp("thermo")
    model = make_model("NiO")
    save_model(model, folder / "m.keras", {})
    save_structure(folder / "s.extxyz", [make_structure(model)])
    return folder


@pytest.fixture
def given(files):
    """Input of a small run, to be changed."""
    return {
        "_comment": "small",
        "model": str(files / "m.keras"),
        "structure": {"file": str(files / "s.extxyz")},
        "sizes": [[1, 1, 1], [2, 1, 1]],
        "temperature": [200, 300, 450],
        "method": METHODS["hmc"],
        "equilibration": 3,
        "samples": 8,
        "seed": 3,
        "output": {"save_freq": 4},
    }


def write(content: dict, name: str = "input.json") -> str:
    Path(name).write_text(json.dumps(content))
    return name


def arrays(path: str) -> dict:
    """All numbers of a file of samples."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset) and name != "about"
                else found.update({f"{name}.{k}": v for k, v in item.attrs.items()})
            )
        )
    return found


def same(one: str, other: str) -> None:
    a, b = arrays(one), arrays(other)
    assert set(a) == set(b)
    assert len(a) > 20
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name], err_msg=name)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


# --- The input ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_complete_input_stays_the_same(given, method):
    given["spins"] = [{"type": "Ni", "modulus": 1.2, "direction": "random"}]
    once = normalize_thermo(given | {"method": METHODS[method]})
    assert normalize_thermo(once) == once
    assert json.loads(json.dumps(once)) == once


def test_defaults_are_documented(given):
    def keys(value):
        for key, inner in value.items() if isinstance(value, dict) else []:
            yield key
            yield from keys(inner)

    documented = set(re.findall(r"^ *(\w+): *$", gen_doc(), re.MULTILINE))
    for method in METHODS.values():
        assert set(keys(normalize_thermo(given | {"method": method}))) <= documented


def test_documentation_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["thermo", "--doc"])
    assert stop.value.code == 0
    assert "``thermo/method[hmc]/leaps``" in capsys.readouterr().out


MISTAKES = {
    "typo": ({"temprature": 1}, "`temprature` is not a key .* `temperature`"),
    "falling": (
        {"temperature": [300, 200]},
        "temperatures > 0 in K that rise",
    ),
    "zero": ({"temperature": [0, 200]}, "expected temperatures > 0 in K that rise"),
    "method": ({"method": {"type": "mc"}}, '"mc"; expected one of "hmc", "langevin"'),
    "timestep": ({"method": {"type": "langevin"}}, "`method/timestep` is missing"),
    "moduli": (
        {"method": {"type": "hmc", "moduli": "free"}},
        "`method/moduli` is .* one of fixed, vector, linear, scalar",
    ),
    "ramp": ({"field": [[0, 0, 0, 1], [1, 0, 0, 2]]}, "`field` is "),
    "other method": ({"method": {"type": "hmc", "damping": 1}}, "method/damping"),
    "acceptance": (
        {"method": {"type": "hmc", "acceptance": 1.0}},
        "a number between 0 and 1",
    ),
    "sizes": ({"sizes": [[1, 1]]}, "a list of 3 integers >= 1 each"),
    "same sizes": ({"sizes": [[1, 1, 1], [1, 1, 1]]}, "expected different sizes"),
    "wave": ({"order_vectors": [[0.5, 0, 0]]}, "fits into 1 x 1 x 1 cells.*`sizes`"),
    "rule": ({"spins": [{"wave_vector": [0.5, 0, 0]}]}, "fits into 1 x 1 x 1 cells"),
    "vectors": ({"order_vectors": [[1, 0]]}, "a list of 3 finite numbers each"),
    "samples": ({"samples": 1}, "`samples` is 1; expected an integer >= 2"),
    "data": ({"output": {"data": "a.npz"}}, "ends in .h5 or .hdf5"),
    "repeat": ({"structure": {"file": "s", "repeat": [2, 2, 2]}}, "structure/repeat"),
    "no model": ({"model": "no.keras"}, "there is no file 'no.keras'"),
    "no structure": ({"structure": {"file": "no.xyz"}}, "'no.xyz' does not exist"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_the_input(case, run, given, capsys):
    change, message = MISTAKES[case]
    run("thermo", write(given | change), status=1)
    assert re.fullmatch(rf"dp-spin: error: .*{message}.*", said(capsys))
    assert [p.name for p in Path().iterdir()] == ["input.json"]


def test_neither_input_nor_samples(run, capsys):
    run("thermo", status=1)
    assert "either an input file, or samples with --analyse" in said(capsys)
    run("thermo", "a.json", "--analyse", "a.h5", status=1)
    run("thermo", "--analyse", "a.h5", status=1)
    assert "No samples: 'a.h5' does not exist" in said(capsys)


# --- Runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_run(method, run, given):
    given["method"] = METHODS[method]
    run("thermo", write(given))
    names = {"input.json", "out.json", "thermo.h5", "thermo.csv", "thermo.png"}
    assert {p.name for p in Path().iterdir()} == names
    assert json.loads(Path("out.json").read_text()) == normalize_thermo(given)
    head, *rows = Path("thermo.csv").read_text().splitlines()
    table = np.array([row.split(",") for row in rows], dtype=float)
    columns = dict(zip(head.split(","), table.T, strict=True))
    assert columns["natoms"].tolist() == [8] * 3 + [16] * 3
    assert columns["temperature (K)"].tolist() == [200, 300, 450] * 2
    assert (columns["nsamples"] == 8).all()
    assert not columns["trusted"].any()
    assert np.isfinite(columns["heat capacity error (k_B/atom)"]).all()
    assert np.isfinite(columns["exchange"]).tolist() == (
        [True, True, False] * 2 if given["method"]["type"] == "hmc" else [False] * 6
    )
    _, (small, big) = load("thermo.h5")
    samples = small.samples()
    assert (small.state.nloc, big.state.nloc) == (8, 16)
    assert samples.dof == (21 if small.lattice else 0)
    modulus = np.linalg.norm(small.state.spin, axis=2)
    moves = np.ptp(modulus, axis=0).max() > 1e-3
    assert moves == (method == "moduli")
    np.testing.assert_allclose(columns["modulus (mu_B)"][0], 1.2, atol=0.3)
    if not small.lattice:
        np.testing.assert_array_equal(np.ptp(small.state.coord, axis=0), 0)
    with h5py.File("thermo.h5") as file:
        for name, unit in RECORDS.items():
            assert file[f"size-1/{name}"].attrs["unit"] == unit


def test_samples_are_those_of_the_states(run, given):
    """The last sample is of the last state, as the sampler would tell."""
    run("thermo", write(given | {"order_vectors": [[0, 0, 0], [1, 0, 0]]}))
    _, runs = load("thermo.h5")
    for size in runs:
        samples, state = size.samples(), size.state
        magnetic = state.atype == 0
        np.testing.assert_array_equal(size.signs[0], magnetic)
        np.testing.assert_array_equal(samples.energy[-1], size.sampler["energy"])
        mean = state.spin.sum(axis=1) / magnetic.sum()
        np.testing.assert_allclose(samples.magnetisation[-1], mean, rtol=1e-14)
        units = state.spin[:, magnetic]
        units = units / np.linalg.norm(units, axis=2, keepdims=True)
        found = (size.signs[1, magnetic][:, None] * units).mean(axis=1)
        np.testing.assert_allclose(samples.order[-1, :, 1], found, rtol=1e-12)


def test_one_temperature_in_a_field(run, given, files):
    """Fixed atoms stay; the energy is that of the model and of the field."""
    given |= {"temperature": [50], "sizes": [[1, 1, 1]], "fixed_atoms": [0, 5]}
    given |= {"field": [0, 0, 30.0], "samples": 2}
    run("thermo", write(given))
    _, (size,) = load("thermo.h5")
    state = size.state
    first = load_structure(files / "s.extxyz", DeepSpin(given["model"])).coord
    still = (state.coord[0] == first).all(axis=1)
    assert np.flatnonzero(still).tolist() == [0, 5]
    assert size.samples().dof == 18
    model = ModelFields(DeepSpin(given["model"]), state.atype, state.box)
    alone = model(state.coord, state.spin).energy
    zeeman = -units.MU_B * 30.0 * state.spin[0, :, 2].sum()
    np.testing.assert_allclose(size.records["energy"][-1], alone + zeeman, rtol=1e-12)
    assert size.records["exchange"][-1].shape == (0,)


def test_earlier_results_make_way(run, given):
    given["sizes"] = [[1, 1, 1]]
    run("thermo", write(given))
    run("thermo", write(given))
    assert sorted(p.name for p in Path("previous-1").iterdir()) == [
        *("out.json", "thermo.csv", "thermo.h5", "thermo.png")
    ]
    same("thermo.h5", "previous-1/thermo.h5")  # by the seed


# --- Going on -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_more_samples(method, run, given):
    """A restart equals an uninterrupted run bit for bit."""
    given["method"] = METHODS[method]
    run("thermo", write(given | {"samples": 9, "output": {"data": "all.h5"}}))
    run("thermo", write(given | {"samples": 5}))
    run("thermo", write(given | {"samples": 9}), "-r", "thermo.h5")
    same("thermo.h5", "all.h5")
    assert Path("thermo.csv").read_text() == Path("all.csv").read_text()
    assert not Path("previous-1/thermo.h5").exists()


@pytest.mark.parametrize("moves", [2, 7, 14], ids=["tuning", "first", "second"])
def test_signals(moves, run, given, monkeypatch, capsys):
    """A signal finishes the move, saves all and tells how to go on."""
    run("thermo", write(given | {"output": {"data": "all.h5"}}))
    advance, made = HybridMonteCarlo.advance, []

    def interrupted(self, *args, **kwargs):
        made.append(0)
        if len(made) == moves:
            signal.raise_signal(signal.SIGTERM)
        return advance(self, *args, **kwargs)

    monkeypatch.setattr(HybridMonteCarlo, "advance", interrupted)
    run("thermo", write(given), status=143)
    assert "stopped by SIGTERM; go on with -r thermo.h5" in said(capsys)
    assert sum(size.done for size in load("thermo.h5")[1]) == moves
    run("thermo", "input.json", "-r", "thermo.h5")
    same("thermo.h5", "all.h5")


def test_failures_keep_what_there_is(run, given, monkeypatch, capsys):
    advance, made = LangevinSampler.advance, []

    def failing(self, *args, **kwargs):
        made.append(0)
        if len(made) == 7:
            raise ValueError("Out of order.")
        return advance(self, *args, **kwargs)

    given |= {"method": METHODS["langevin"], "sizes": [[1, 1, 1]]}
    run("thermo", write(given | {"output": {"data": "all.h5"}}))
    monkeypatch.setattr(LangevinSampler, "advance", failing)
    run("thermo", write(given), status=1)
    assert "Out of order. Go on with -r thermo.h5, from move 6 of 8 atoms" in said(
        capsys
    )
    run("thermo", "input.json", "-r", "thermo.h5")
    same("thermo.h5", "all.h5")


def test_going_on_elsewhere(run, given):
    """The file that a run goes on from stays as it is."""
    given["sizes"] = [[1, 1, 1]]
    run("thermo", write(given))
    before = Path("thermo.h5").read_bytes()
    run("thermo", write(given | {"output": {"data": "b.h5"}}), "-r", "thermo.h5")
    assert Path("thermo.h5").read_bytes() == before
    same("b.h5", "thermo.h5")


def test_restart_of_something_else(run, given, capsys):
    given["sizes"] = [[1, 1, 1]]
    run("thermo", write(given))
    before = Path("thermo.h5").read_bytes()
    for change, message in (
        ({"temperature": [1, 2, 3]}, "other values of `temperature`"),
        ({"equilibration": 4, "seed": 5}, "of `equilibration`, `seed`"),
    ):
        run("thermo", write(given | change), "-r", "thermo.h5", status=1)
        assert message in said(capsys)
    Path("other.h5").write_bytes(b"abc")
    run("thermo", write(given), "-r", "other.h5", status=1)
    assert "'other.h5' is damaged, or no file of dp-spin thermo" in said(capsys)
    assert Path("thermo.h5").read_bytes() == before


def test_restart_with_another_model(run, given, files, make_model, capsys):
    given["sizes"] = [[1, 1, 1]]
    run("thermo", write(given))
    save_model(make_model("NiO", seed=7), "other.keras", {})
    given |= {"model": "other.keras", "samples": 9}
    run("thermo", write(given), "-r", "thermo.h5")
    assert "made, these have changed: weights" in said(capsys)


def test_analyse(run, given):
    run("thermo", write(given))
    table = Path("thermo.csv").read_text()
    Path("thermo.csv").unlink()
    Path("thermo.png").unlink()
    run("thermo", "--analyse", "thermo.h5")
    assert Path("thermo.csv").read_text() == table
    assert Path("thermo.png").stat().st_size > 20_000


@pytest.mark.parametrize("wave", [0, 0.25])
def test_another_order(wave, run, given, capsys):
    """Spins that have ordered otherwise than looked for are told of, each time."""
    given["method"] = METHODS["spin bath"] | {"timestep": 1e-3}
    rule = {"type": "Ni", "modulus": 1.2, "direction": [0, 1, 1]}
    given["spins"] = [{**rule, "wave_vector": [wave, 0, 0], "axis": [1, 0, 0]}]
    given |= {"sizes": [[4, 1, 1]], "temperature": [1, 2]}
    told = (
        "32 atoms at 1, 2 K: spins have ordered in another wave than `order_vectors`; "
        "at 1 K (0.25 0 0) has the weight 1.00, those have 0.00."
    )
    for command in (write(given), "--analyse thermo.h5"):
        run("thermo", *command.split())
        text = said(capsys)
        assert (told in text) == ("another wave" in text) == (wave != 0)


def test_analyse_without_samples(run, given, monkeypatch, capsys):
    advance = HybridMonteCarlo.advance

    def interrupted(self, *args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return advance(self, *args, **kwargs)

    monkeypatch.setattr(HybridMonteCarlo, "advance", interrupted)
    run("thermo", write(given), status=130)
    run("thermo", "--analyse", "thermo.h5", status=1)
    assert "'thermo.h5' has no samples yet" in said(capsys)


def test_plot(run, given, capsys):
    run("thermo", write(given))
    run("plot", "thermo.csv", "thermo.csv", "--labels", "a", "b", "-o", "both.png")
    assert Path("both.png").stat().st_size > 20_000
    run("plot", "thermo.csv", "--log-x", status=1)
    assert "--log-x and --linear-y are for learning curves" in said(capsys)


def test_hollow_points(run, given):
    """Those of averages that are not to be trusted, and only those."""
    run("thermo", write(given))
    table = read_table(Path("thermo.csv"))
    for doubted in ([], [1], [0, 5]):
        table.values[:, table.columns.index("trusted")] = 1
        table.values[doubted, table.columns.index("trusted")] = 0
        figure = draw_temperatures([table], [""])
        for axis in figure.axes:
            points = [x for x in axis.lines if x.get_markerfacecolor() == "white"]
            drawn = np.concatenate(
                [x.get_xdata()[np.isfinite(x.get_ydata())] for x in points]
            )
            assert drawn.tolist() == [given["temperature"][k % 3] for k in doubted]
        texts = [x.get_text() for x in figure.legends[0].get_texts()]
        assert ("too few samples, or drifting" in texts) == bool(doubted)


# --- The example ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    """The example's module, and the generator of its data."""
    sys.path[:0] = [str(EXAMPLE), str(EXAMPLE.parent)]
    try:
        import exact
        import generate

        yield exact, generate
    finally:
        del sys.path[:2]


def test_exact_hamiltonian_is_that_of_the_data(exact):
    """Of replicas that move on, in cells that hold several images of a pair."""
    exact, generate = exact
    rng = np.random.default_rng(0)
    for natoms in (16, 32):
        ideal, box, atype = generate.rock_salt(natoms)
        potential = exact.ExactPotential()
        for width in (0.02, 0.3):
            coord = ideal + width * rng.uniform(-1, 1, size=(2, natoms, 3))
            spin = rng.normal(size=coord.shape) * (atype == 0)[:, None]
            found = potential.eval(coord, np.stack([box] * 2), atype, spin)
            for replica in range(2):
                labels = generate.evaluate(coord[replica], box, atype, spin[replica])
                for name in ("energy", "force", "force_mag"):
                    scale = np.abs(labels[name]).max()
                    apart = found[name][replica] - labels[name]
                    assert np.abs(apart).max() < 1e-12 * scale, name


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("model", "model"),
        ("exact", "model"),
        ("invariant", "invariant"),
        ("exact_near", "invariant"),
    ],
)
def test_inputs_of_the_example(name, model):
    """Complete inputs whose files are there; both sample in the same way."""
    options = normalize_thermo(
        json.loads((EXAMPLE / f"{name}.json").read_text("utf-8"))
    )
    assert (EXAMPLE / options["structure"]["file"]).is_file()
    other = json.loads((EXAMPLE / f"{model}.json").read_text("utf-8"))
    for key in ("sizes", "spins", "method", "equilibration", "order_vectors"):
        assert options[key] == normalize_thermo(other)[key]
    assert options["output"]["data"] == f"{name}.h5"


def test_the_page_shows_the_example():
    page = (EXAMPLE.parents[2] / "doc" / "thermo.md").read_text("utf-8")
    shown = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    given = json.loads((EXAMPLE / "model.json").read_text("utf-8"))
    same = normalize_thermo(given) | {"seed": None}
    same["output"]["save_freq"] = 100
    assert normalize_thermo(shown) == same


def test_example_runs(exact, tmp_path, monkeypatch, capsys):
    exact, _ = exact
    monkeypatch.chdir(tmp_path)
    given = json.loads((EXAMPLE / "exact.json").read_text("utf-8"))
    given |= {"sizes": [[1, 1, 1]], "equilibration": 20, "samples": 40}
    given["structure"] = {"file": str(EXAMPLE / "nio.extxyz")}
    assert exact.main([write(given)]) == 0
    _, (size,) = load("exact.h5")
    samples = size.samples()
    order = np.sqrt(samples.order_square).mean(axis=0)
    assert (order > 0.8).all()  # so few spins are ordered at any of these
    assert (samples.acceptance.mean(axis=0) > 0.4).all()
    assert exact.main(["--compare", "exact.h5"]) == 0
    assert "the peak of the susceptibility of 16 atoms" in capsys.readouterr().out
    assert exact.main(["--compare", "exact.h5", "exact.h5"]) == 0
    assert (
        "exact.h5 has the order that exact.h5 has +0.0 +- " in capsys.readouterr().out
    )


def test_shift_in_temperature(exact):
    """Curves of one shape, the first 3 K colder: its order is that 3 K further on."""
    module, _ = exact
    warm = np.array([280.0, 300.0, 320.0])

    def curve(offset, natoms=432):
        values = {"order": 1.0 - 0.002 * (warm + offset)}
        samples = SimpleNamespace(natoms=natoms, temperature=warm)
        return SimpleNamespace(samples=samples, value=values, error={"order": warm**0})

    kelvin, error = module.shift([curve(3.0), curve(9.0, 8)], [curve(0.0)])
    assert kelvin == pytest.approx(3.0)
    assert error == pytest.approx(500 * np.sqrt(2 / 3))
    for other in (curve(0.0, 8), curve(-30.0)):  # another size, too far for a slope
        assert np.isnan(module.shift([curve(0.0)], [other])).all()


def test_temperatures_by_exchange(given, tmp_path, monkeypatch, capsys):
    """A ladder is chosen, written out, and kept by a restart."""
    monkeypatch.chdir(tmp_path)
    save_model(invariant_models.build(), "i.keras", {})
    cell = ROOT / "examples" / "NiO" / "exchange" / "nio.extxyz"
    given |= {
        "model": "i.keras",
        "structure": {"file": str(cell)},
        "sizes": [[1, 1, 1]],
    }
    given |= {"temperature": "auto", "method": METHODS["spins"]}
    assert main(["thermo", write(given)]) == 0
    chosen = json.loads(Path("out.json").read_text())["temperature"]
    assert len(chosen) >= 8
    assert chosen == sorted(chosen)
    assert "temperatures (K): " in capsys.readouterr().err
    given["samples"] = 10
    assert main(["thermo", write(given), "-r", "thermo.h5"]) == 0
    assert json.loads(Path("out.json").read_text())["temperature"] == chosen
    with pytest.raises(InputError, match="auto"):
        normalize_thermo({**given, "temperature": "automatic"})
