# SPDX-License-Identifier: Apache-2.0
"""Our numbers beside DeePMD-kit's, with its weights; see `reference/README.md`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from places import REFERENCE

import deepspin
from deepspin.data.dataset import DataSystem
from deepspin.interop.deepmd import load_frozen
from deepspin.loss.learning_rate import SCHEDULES
from deepspin.model.ener import build_model
from deepspin.spins.virtual import VirtualAtoms
from deepspin.utils.inputs import normalize

CASES = sorted(REFERENCE.glob("*.npz"))
EVALUATED = [p for p in CASES if not p.stem.startswith(("stat_", "loss_"))]
STATISTICS = [p for p in CASES if "train_0_atype" in np.load(p).files]
LOSSES = [p for p in CASES if p.stem.startswith("loss_")]
OUTPUTS = {
    "energy": "energy",
    "atom_energy": "atom_ener",
    "force": "force",
    "force_mag": "force_mag",
    "virial": "virial",
    "atom_virial": "atom_virial",
}


def names(paths):
    return [p.stem for p in paths]


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def options_of(case) -> dict:
    """Normalised input of a reference case."""
    data = json.loads(str(case["input"]))
    data["training"].pop("validation_data", None)
    data["training"]["training_data"]["systems"] = ["unused"]
    data["training"]["numb_steps"] = 1
    return normalize(data)


def assert_close(ours, theirs, tolerance, what):
    scale = np.abs(theirs).max()
    error = np.abs(ours - theirs).max()
    assert error <= tolerance * scale, f"{what}: {error:.3e} of {scale:.3e}"


@pytest.fixture(scope="module")
def models():
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = deepspin.DeepSpin(load_frozen(REFERENCE / f"{name}.pb")[0])
        return cache[name]

    return get


def evaluate(models, case):
    return models(str(case["model"])).eval(
        case["coord"],
        case.get("box"),
        case["atype"],
        case["spin"],
        fparam=case.get("fparam"),
    )


@pytest.mark.parametrize("path", EVALUATED, ids=names(EVALUATED))
def test_same_weights_same_numbers(path, models):
    case = load(path)
    result = evaluate(models, case)
    tolerance = 1e-5 if path.stem == "float32" else 1e-10
    for theirs, ours in OUTPUTS.items():
        assert_close(result[ours], case[theirs], tolerance, theirs)


@pytest.mark.parametrize("path", EVALUATED, ids=names(EVALUATED))
def test_weights_are_not_trivial(path):
    """A comparison of zeros or of constants would prove nothing."""
    case = load(path)
    for key in ("force", "force_mag", "virial"):
        assert np.abs(case[key]).max() > 1e-6
    assert np.ptp(case["atom_energy"]) > 1e-6


def write_system(folder: Path, case: dict, k: int) -> None:
    (folder / "set.000").mkdir(parents=True)
    atype = case[f"train_{k}_atype"]
    np.savetxt(folder / "type.raw", atype, fmt="%d")
    arrays = ["coord", "box", "spin", "force", "force_mag", "virial", "energy"]
    for name in [*arrays, *(["fparam"] if "fparam" in case else [])]:
        array = case[f"train_{k}_{name}"]
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(len(array), -1))


@pytest.mark.parametrize("path", STATISTICS, ids=names(STATISTICS))
def test_statistics(path, tmp_path):
    case = load(path)
    options = options_of(case)
    model = build_model(options["model"])
    k = 0
    while f"train_{k}_atype" in case:
        write_system(tmp_path / f"sys_{k}", case, k)
        k += 1
    data = DataSystem(str(tmp_path), **model.data_spec, batch_size=1)
    sample = data.sample(options["model"]["data_stat_nbatch"])
    model.compute_stats(
        sample,
        atom_ener=options["model"]["fitting_net"]["atom_ener"] or None,
        rcond=options["model"]["fitting_net"]["rcond"],
        protection=options["model"]["data_stat_protect"],
    )
    ntypes = model.descriptor.ntypes
    for name in ("davg", "dstd"):
        ours = getattr(model.descriptor, name).numpy()
        np.testing.assert_allclose(ours, case[name][:ntypes], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        model.fitting.bias_atom_e.numpy(), case["bias_atom_e"], rtol=1e-10, atol=1e-12
    )
    for name in ("fparam_avg", "fparam_inv_std") if "fparam" in case else ():
        ours = getattr(model.fitting, name).numpy()
        np.testing.assert_allclose(ours, case[name], rtol=1e-10)


@pytest.mark.parametrize("path", LOSSES, ids=names(LOSSES))
@pytest.mark.parametrize("batch", ["one", "three", "no_virial"])
def test_loss(path, batch, models):
    case = load(path)
    options = options_of(case)
    pred = evaluate(models, case)
    frames = slice(0, 1) if batch == "one" else slice(None)
    scheme = VirtualAtoms.from_options(
        **{k: v for k, v in options["model"]["spin"].items() if k != "type"}
    )
    magnetic = scheme.types.is_magnetic(case["atype"]).astype(float)
    nf = len(case["energy"][frames])
    pred = {k: v[frames] for k, v in pred.items()}
    pred = {k: tf.constant(v) for k, v in pred.items()}
    pred["mask"] = np.ones((nf, case["atype"].size))
    pred["mask_mag"] = np.broadcast_to(magnetic, (nf, magnetic.size))
    labels = {k: case[k][frames] for k in ("energy", "force", "force_mag", "virial")}
    if batch == "no_virial":
        del labels["virial"]
    labels["natoms"] = np.full(nf, float(case[f"{batch}_natoms"][0]))
    start_lr = options["learning_rate"]["start_lr"]
    ours = ("type", "prefactors")
    loss_options = {k: v for k, v in options["loss"].items() if k not in ours}
    terms = ("e", "fr", "fm", "v")

    def make(only=None, **kwargs):
        chosen = dict(loss_options)
        for term in terms:
            if only not in (None, term):
                chosen |= {f"start_pref_{term}": 0.0, f"limit_pref_{term}": 0.0}
        return deepspin.EnerSpinLoss(**{**chosen, **kwargs}, start_lr=start_lr)

    # unweighted terms; ours carry 1/N where the formula has it
    natoms = labels["natoms"][0]
    mine = make().terms(labels, pred)
    for term in mine:
        scale = natoms if term in ("e", "v") else 1.0
        theirs = case[f"{batch}_l2_{term}"]
        if np.isnan(theirs):
            assert float(mine[term][2]) == 0.0
            continue
        np.testing.assert_allclose(float(mine[term][0]) * scale, theirs, rtol=1e-10)
    # what goes to lcurve.out
    shown = make().rmse(labels, pred)
    for term in terms:
        key = f"{batch}_shown_rmse_{term}"
        if key in case:
            np.testing.assert_allclose(
                float(shown[f"rmse_{term}"]), case[key], rtol=1e-10
            )
    # totals: DeePMD-kit's learning rate and prefactors are in float32
    for k, rate in enumerate(case[f"{batch}_learning_rate"]):
        here = {**labels, "learning_rate": np.float64(rate)}
        for only in (None, *terms):
            name = "all" if only is None else f"only_{only}"
            theirs = case[f"{batch}_total_{name}"][k]
            ours = float(make(only)(here, pred))
            np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-12)
        ours = float(make(intensive_ener_virial=True)(here, pred))
        theirs = case[f"{batch}_total_intensive"][k]
        np.testing.assert_allclose(ours, theirs, rtol=2e-6)


RATES = json.loads((REFERENCE / "lr_reference.json").read_text())["cases"]


@pytest.mark.parametrize("name", RATES)
def test_learning_rate(name):
    case = RATES[name]
    rate = {k: v for k, v in case["learning_rate"].items() if k != "type"}
    if not {"stop_lr", "stop_lr_ratio"} & set(rate):
        rate["stop_lr"] = case["stop_lr"]
    kind = SCHEDULES[case["learning_rate"].get("type", "exp")]
    schedule = kind(numb_steps=case["numb_steps"], **rate)
    assert getattr(schedule, "decay_steps", None) == case["decay_steps"]
    assert schedule.warmup_steps == case["warmup_steps"]
    ours = [float(schedule(k)) for k in case["steps"]]
    np.testing.assert_allclose(ours, case["lr"], rtol=1e-12)
