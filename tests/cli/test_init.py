# SPDX-License-Identifier: Apache-2.0
"""Inputs written for data: what is in them, why, and that they train."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from small_data import frames, with_virtual_atoms, write

from deepspin.data.dataset import DataSystem
from deepspin.entrypoints.init import init
from deepspin.main import main
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils.inputs import load_input, normalize

EXAMPLE = ROOT / "examples/NiO/data"
NIO = VirtualAtoms.from_options([True, False], [0.4], [1.2737])
NAMES = {"type_map": ["Ni", "O"], "spin_norm": [1.2737]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("layout", "names", "suffix"),
    [("spin-files", {}, "json"), ("virtual-atom", NAMES, "yaml")],
)
def test_trains(here, layout, names, suffix):
    """Two steps with smaller nets, in the layout and the format."""
    folders = [str(EXAMPLE / f"valid/{layout}-{n}") for n in (16, 32)]
    init(systems=folders, output=f"input.{suffix}", rcut=3.5, **names)
    options = load_input(f"input.{suffix}")
    options["model"]["descriptor"] |= {"neuron": [4], "axis_neuron": 2}
    options["model"]["fitting_net"]["neuron"] = [4]
    options["learning_rate"]["decay_steps"] = 1
    options["training"] |= {"numb_steps": 2, "disp_freq": 1, "jit_compile": False}
    Path("small.json").write_text(json.dumps(options))
    assert main(["train", "small.json"]) == 0
    curve = np.loadtxt("lcurve.out")
    assert curve[-1, 0] == 2
    assert np.isfinite(curve).all()


def test_what_it_says(here, caplog):
    caplog.set_level(logging.INFO, logger="deepspin")
    written = init(systems=[str(EXAMPLE / "train/spin-files-16")], rcut=4.0)
    read = load_input("input.json")
    assert read == written
    options = normalize(read)
    assert options["model"]["type_map"] == ["Ni", "O"]
    assert options["model"]["spin"]["use_spin"] == [True, False]
    assert options["model"]["spin"]["spin_norm"] == [1.2722]
    data = DataSystem(str(EXAMPLE / "train/spin-files-16"), ["Ni", "O"], NIO, 4.0)
    assert options["model"]["descriptor"]["sel"] == data.suggest_sel(1.1)
    assert options["loss"]["start_pref_v"] == 0.02
    # the reasons are told, too
    reason = read["model"]["spin"]["_comment_spin_norm"]
    assert "1.058 to 1.425 μ_B on Ni" in reason
    assert f"model/spin/spin_norm [1.2722]: {reason}" in caplog.messages
    assert (
        "THE SAME AS THE TRAINING DATA" in read["training"]["_comment_validation_data"]
    )


def test_yaml_says_the_same(here):
    folder = str(EXAMPLE / "valid/spin-files-16")
    written = init(systems=[folder], output="a.yaml", rcut=4.0)
    assert normalize(load_input("a.yaml")) == normalize(written)
    text = Path("a.yaml").read_text()
    assert "    # neighbours fade out over the last 0.5 Å\n    rcut_smth: 3.5\n" in text


def test_labels_that_are_not_there(here):
    arrays, types = frames(3)
    del arrays["force_mag"]
    write(here / "s", arrays, types)
    loss = init(systems=["s"], rcut=3.0)["loss"]
    assert "no force_mag, virial in the data" in loss["_comment"]
    assert [loss[f"start_pref_{term}"] for term in ("e", "fr", "fm", "v")] == [
        0.02,
        1000,
        0,
        0,
    ]


def test_spins_that_are_0(here, caplog):
    arrays, types = frames(3)
    arrays["spin"][1, 2] = 0.0
    write(here / "s", arrays, types)
    init(systems=["s"], rcut=3.0)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("1 spins of types with spin are 0")


def test_held_out_system(here):
    """The smallest one whose types the others have."""
    for name, nframes in (("a", 5), ("b", 3), ("c", 4)):
        write(here / "d" / name, *frames(nframes))
    training = init(systems=["d"], rcut=3.0)["training"]
    assert training["validation_data"]["systems"] == ["d/b"]
    assert training["training_data"]["systems"] == ["d/a", "d/c"]
    assert "'d/b', 3 of 12 frames, is held out" in training["_comment_validation_data"]


def test_systems_with_types_of_their_own(here):
    arrays, types = frames(3)
    write(here / "d/a", arrays, types)
    write(here / "d/b", arrays, types, names=("Fe", "O"))
    training = init(systems=["d"], rcut=3.0)["training"]
    both = ["d/a", "d/b"]
    assert training["training_data"]["systems"] == both
    assert training["validation_data"]["systems"] == both
    assert "none can be held out" in training["_comment_validation_data"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["s", "-o", "input.txt"], "'input.txt' must end in .json, .yaml, .yml."),
        (["s", "-o", "there.json"], "'there.json' exists."),
        (["s", "-r", "0.2"], "-r must be a cutoff above 0.5 Å. Received: 0.2"),
        (["v"], "'v' has no type_map.raw"),
        (["absent"], "does not exist"),
        (["bare"], "`loss` has all weights at 0"),
    ],
)
def test_mistakes(here, capfd, args, message):
    arrays, types = frames(2)
    write(here / "s", arrays, types)
    write(here / "v", *with_virtual_atoms(arrays, types), names=None)
    bare = {name: arrays[name] for name in ("coord", "box", "spin")}
    write(here / "bare", bare, types)
    (here / "there.json").write_text("mine")
    assert main(["init", *args]) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]
    names = sorted(p.name for p in here.iterdir())
    assert names == ["bare", "s", "there.json", "v"]
    assert (here / "there.json").read_text() == "mine"


def test_force(here):
    write(here / "s", *frames(2))
    (here / "input.json").write_text("mine")
    assert main(["init", "s", "-r", "3", "--force"]) == 0
    assert load_input("input.json")["model"]["type_map"] == ["Ni", "O"]


@pytest.mark.parametrize("layout", ["spin-files", "virtual-atom"])
def test_the_scheme_invariant(here, layout, caplog):
    """An input that trains, in either layout, with spin-orbit coupling as data say."""
    caplog.set_level(logging.INFO, logger="deepspin")
    folders = [str(EXAMPLE / f"valid/{layout}-{n}") for n in (16, 32)]
    init(systems=folders, rcut=3.5, scheme="invariant")
    assert "no spin-orbit coupling in the data" in caplog.text
    options = load_input("input.json")
    assert options["model"]["spin"]["soc"] is False
    if layout == "virtual-atom":  # the same training
        return
    options["model"]["spin"]["baseline"] = {"nradial": 3, "ncross": 0}
    options["model"]["fitting_net"]["neuron"] = [4]
    options["learning_rate"]["decay_steps"] = 1
    options["training"] |= {"numb_steps": 2, "disp_freq": 1, "jit_compile": False}
    Path("small.json").write_text(json.dumps(options))
    assert main(["train", "small.json"]) == 0
    assert np.isfinite(np.loadtxt("lcurve.out")).all()


def test_the_scheme_invariant_is_told_of(here, caplog):
    caplog.set_level(logging.INFO, logger="deepspin")
    init(systems=[str(EXAMPLE / "train/spin-files-16")], rcut=4.0)
    assert "--scheme invariant writes an input for it" in caplog.text


def test_torques_that_do_not_add_up(here, caplog):
    """With a net torque `soc` is true; virtual atoms unexplained are told of."""
    arrays, types = frames(2)
    arrays["force_mag"] = arrays["force_mag"] + 0.3 * (types == 0)[:, None]
    write(here / "spins", arrays, types)
    written = init(systems=["spins"], rcut=3.5, scheme="invariant")
    assert written["model"]["spin"]["soc"] is True
    write(here / "virtual", *with_virtual_atoms(*frames(2)))
    init(systems=["virtual"], rcut=3.5, scheme="invariant", output="v.json", **NAMES)
    assert "no spin_scheme.json to say what they stand for" in caplog.text
