# SPDX-License-Identifier: Apache-2.0
"""Our .pb files in DeePMD-kit's programs; see `peer.py` for how to run these."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import tiny
from invariants import FIELDS, Frame, assert_close
from invariants import run as evaluate
from peer import FPARAM, deep_pot, needs_peer, one_frame, run_dp, with_tables
from places import REFERENCE
from tiny import DATA

import deepspin
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.graph import write_graph

NOT_EVALUATED = ("stat_", "loss_", "left_handed")  # these DeePMD-kit gets wrong
REFERENCES = [
    path.stem
    for path in sorted(REFERENCE.glob("*.npz"))
    if not path.stem.startswith(NOT_EVALUATED)
]
# arguments of make_model
MODELS = {
    "one side": ("NiO", {"type_one_side": True}),
    "two sides": ("NiO", {"type_one_side": False}),
    "spin type second": ("ONi", {"type_one_side": True}),
    "spin type second, two sides": ("ONi", {"type_one_side": False}),
    "spin types first and last": ("NiOFe", {"type_one_side": True}),
    "spin types first and last, excluded": (
        "NiOFe",
        {"type_one_side": False, "exclude_types": [[0, 1], [1, 4], [2, 2]]},
    ),
    "atoms in vacuum": ("ONi", {"type_one_side": True, "vacuum_types": [1]}),
    "time steps": ("NiO", {"type_one_side": True, "resnet_dt": True}),
    "too many neighbours": ("ONi", {"type_one_side": True, "sel": [6, 5]}),
    "protected": ("NiOFe", {"type_one_side": True, "env_protection": 0.01}),
    "frame parameters": ("NiO", {"type_one_side": True, "numb_fparam": 2}),
    "compressed": ("NiO", {"type_one_side": True}),
    "compressed, two sides": ("ONi", {"type_one_side": False}),
    "single precision": ("ONi", {"type_one_side": True, "precision": "float32"}),
}


# DeePMD-kit's tables are quintic at a fixed step, others than ours
TOLERANCES = {"single precision": 1e-5, "compressed": 1e-8}
TOLERANCES["compressed, two sides"] = TOLERANCES["compressed"]
FIELDS_OF_REFERENCES = {field: field for field in FIELDS} | {"atom_ener": "atom_energy"}


def load_reference(name: str) -> tuple[str, dict, dict]:
    """Name of its model, its frames' arrays, and DeePMD-kit's numbers."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        case = dict(file)
    wanted = {field: case[key] for field, key in FIELDS_OF_REFERENCES.items()}
    return str(case["model"]), case, wanted


def frames_of(case: dict, model) -> list[Frame]:
    scale = model.spin.scheme.codec.scale_of(case["atype"])
    boxes = case.get("box", [None] * len(case["coord"]))
    return [
        Frame(coord, box, case["atype"], spin, scale)
        for coord, box, spin in zip(case["coord"], boxes, case["spin"], strict=True)
    ]


def compare(found: list[dict], wanted: dict[str, tuple[dict, float]]) -> None:
    """Compare case by case; wanted are numbers and tolerance of each, by name."""
    failures = []
    for answer, (name, (numbers, tolerance)) in zip(found, wanted.items(), strict=True):
        try:
            assert_close(answer, numbers, tolerance)
        except AssertionError as error:
            failures.append(f"{name}: {error}")
    assert not failures, "\n".join(failures)


@needs_peer
@pytest.mark.usefixtures("eagerly")
def test_deep_pot_gives_our_numbers(make_model, make_nio, make_cluster, tmp_path):
    """Models of every kind."""
    jobs, wanted = [], {}
    for name, (system, options) in MODELS.items():
        model = make_model(system, **options)
        if name.startswith("compressed"):
            model = with_tables(model)
        potential = deepspin.DeepSpin(model)
        path = tmp_path / f"{name}.pb"
        fparam = FPARAM[: model.fitting.numb_fparam]
        write_graph(model, path, {})
        groups = {name: [make_nio(model, seed=seed) for seed in (0, 1)]}
        if name == "one side":
            groups["open"] = [make_cluster(model)]
        for group, frames in groups.items():
            given = {"fparam": fparam} if fparam else {}
            jobs.append((path, model.type_map, frames, *given.values()))
            ours = evaluate(functools.partial(potential.eval, **given), *frames)
            tolerance = TOLERANCES.get(name, 1e-10)
            wanted[group] = {field: ours[field] for field in FIELDS}, tolerance
    compare(deep_pot(jobs, tmp_path), wanted)


@needs_peer
def test_deepmd_kits_models_come_back(tmp_path):
    """Read and written again they have their stored numbers, and the living ones."""
    jobs, wanted, models = [], {}, {}
    for reference in REFERENCES:
        name, case, numbers = load_reference(reference)
        path = tmp_path / f"{name}.pb"
        if name not in models:
            models[name], _ = load_frozen(REFERENCE / f"{name}.pb")
            write_graph(models[name], path, {})
        frames = frames_of(case, models[name])
        fparam = [case["fparam"]] if "fparam" in case else []
        jobs.append((path, models[name].type_map, frames, *fparam))
        wanted[reference] = numbers, 1e-5 if name == "float32" else 1e-10
    living = ["base", "two_side"]
    for name in living:
        again = jobs[REFERENCES.index(name)]
        jobs.append((REFERENCE / f"{name}.pb", *again[1:]))
    answers = deep_pot(jobs, tmp_path)
    compare(answers[: len(REFERENCES)], wanted)
    for name, original in zip(living, answers[len(REFERENCES) :], strict=True):
        assert_close(answers[REFERENCES.index(name)], original, 1e-12)


@needs_peer
@pytest.mark.usefixtures("eagerly")
def test_models_of_other_backends(tmp_path):
    """Written as .pb: what DeePMD-kit's TensorFlow backend cannot have, it runs."""
    jobs, wanted, special = [], {}, 0
    for stored in sorted((REFERENCE / "dpmodel").glob("*.npz")):
        with np.load(stored) as file:
            case = dict(file)
        model = deepspin.load_model(stored.with_name(str(case["model"])))
        frames = frames_of(case, model)
        fparam = [case["fparam"]] if "fparam" in case else []
        special += model.spin.scheme.placeholders
        order = write_graph(model, tmp_path / f"{stored.stem}.pb", {})
        jobs.append((tmp_path / f"{stored.stem}.pb", model.type_map, frames, *fparam))
        assert sorted(order.type_map) == sorted(model.type_map)
        given = {"fparam": fparam[0]} if fparam else {}
        potential = functools.partial(deepspin.DeepSpin(model).eval, **given)
        ours = evaluate(potential, *frames)
        tolerance = 1e-5 if stored.stem == "float32" else 1e-10
        wanted[stored.stem] = {field: ours[field] for field in FIELDS}, tolerance
    assert special > 3
    compare(deep_pot(jobs, tmp_path), wanted)


# --- dp -------------------------------------------------------------------------------


@pytest.fixture
def trained(data, run, tmp_path):
    """A training on one frame, its two checkpoints and a compressed model as .pb."""
    one_frame(DATA / "train" / "virtual-atom-16", tmp_path / "system")
    data["model"]["spin"]["use_spin"] = [True, False]
    data["training"] |= {"numb_steps": 4, "save_freq": 2, "disp_freq": 1}
    data["training"]["training_data"]["systems"] = ["system"]
    del data["training"]["validation_data"]
    run("train", tiny.write(data))
    for step, name in ((2, "early"), (4, "model")):
        run("freeze", "-c", f"model.ckpt-{step}.keras", "-o", f"{name}.pb")
    run("compress", "-i", "model.ckpt-4.keras", "-o", "tables", "-t", "input.json")
    run("freeze", "-c", "tables", "-o", "tables.pb")
    base, _ = load_frozen(REFERENCE / "base.pb")
    write_graph(base, "base.pb", {})
    run("train", "input.json", "-f", "model.pb")
    Path("lcurve.out").rename("ours.out")
    del data["training"]["jit_compile"]
    tiny.write(data, "theirs.json")
    return tmp_path


def frame_of(system: Path) -> Frame:
    """The frame of a system of NiO with virtual atoms."""
    atype = np.loadtxt(system / "type.raw", dtype=int)
    coord, box = (np.load(system / "set.000" / f"{k}.npy") for k in ("coord", "box"))
    coord, scale = coord.reshape(-1, 3), 0.4 / 1.2737
    spin = np.zeros((16, 3))
    spin[atype[:16] == 0] = (coord[16:] - coord[:16][atype[:16] == 0]) / scale
    scales = np.where(atype[:16] == 0, scale, 0.0)
    return Frame(coord[:16], box.reshape(3, 3), atype[:16], spin, scales)


@needs_peer
def test_programs_of_deepmd_kit(trained):
    """Each takes our files and says what it should."""
    data = ["-s", "system"]
    said = run_dp(
        [
            ["show", "model.pb", "type-map", "descriptor", "fitting-net"],
            ["test", "-m", "model.pb", *data, "-d", "detail"],
            ["model-devi", "-m", "model.pb", "early.pb", *data, "-o", "devi.out"],
            ["eval-desc", "-m", "base.pb", *data, "-o", "ours"],
            ["eval-desc", "-m", REFERENCE / "base.pb", *data, "-o", "theirs"],
            ["compress", "-i", "model.pb", "-o", "compressed.pb"],
            ["transfer", "-r", "model.pb", "-O", "early.pb", "-o", "transferred.pb"],
            ["convert-from", "2.0", "-i", "model.pb", "-o", "converted.pb"],
            ["train", "theirs.json", "-f", "model.pb", "--skip-neighbor-stat"],
        ],
        trained,
    )
    assert "The type_map is ['Ni', 'O']" in said
    frame, names = frame_of(trained / "system"), ["Ni", "O"]
    early, ours = (
        evaluate(deepspin.DeepSpin(f"previous-1/model.ckpt-{step}.keras").eval, frame)
        for step in (2, 4)
    )
    # what they write
    files = "transferred", "converted", "tables", "compressed"
    answers = deep_pot([(f"{name}.pb", names, [frame]) for name in files], trained)
    for answer, wanted, tolerance in zip(
        answers, (early, ours, ours, ours), (1e-12, 1e-12, 1e-8, 1e-8), strict=True
    ):
        assert_close(answer, {field: wanted[field] for field in FIELDS}, tolerance)
    assert_close(answers[2], {field: answers[3][field] for field in FIELDS}, 1e-8)
    # what they print
    detail = {k: np.loadtxt(f"detail.{k}.out", ndmin=2) for k in ("e", "fr", "v")}
    np.testing.assert_allclose(detail["e"][:, 1], ours["energy"], rtol=1e-10)
    for key, name in (("fr", "force"), ("v", "virial")):
        wanted = ours[name].reshape(len(detail[key]), -1)
        found = detail[key][:, wanted.shape[1] :]
        assert_close({name: found}, {name: wanted}, 1e-10)
    apart = {name: (ours[name] - early[name])[0] / 2 for name in ours}
    points = [apart["force"], apart["force_mag"][frame.magnetic]]
    norms = np.linalg.norm(np.concatenate(points), axis=1)
    devi = np.loadtxt("devi.out")
    wanted = [norms.max(), norms.min(), norms.mean()]
    np.testing.assert_allclose(devi[4:7], wanted, rtol=1e-4)
    one, other = (
        np.load(f"{whose}/system.npy")[:, :16] for whose in ("ours", "theirs")
    )
    assert_close({"descriptor": one}, {"descriptor": other}, 1e-12)
    first = [Path(name).read_text().splitlines() for name in ("ours.out", "lcurve.out")]
    (ours_step, *_), (their_step, *_) = (
        [line.split() for line in lines if not line.startswith("#")] for lines in first
    )
    assert ours_step == their_step
