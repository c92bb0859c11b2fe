# SPDX-License-Identifier: Apache-2.0
"""Our .pb files in DeePMD-kit's programs; see `peer.py` for how to run these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from invariants import FIELDS, Frame, assert_close, run
from peer import deep_pot, needs_peer

import deepspin
from deepspin.interop.deepmd import load_frozen
from deepspin.interop.graph import write_graph

REFERENCE = Path(__file__).parent / "reference"
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
    "single precision": ("ONi", {"type_one_side": True, "precision": "float32"}),
}


FIELDS_OF_REFERENCES = {field: field for field in FIELDS} | {"atom_ener": "atom_energy"}


def load_reference(name: str) -> tuple[str, dict, dict]:
    """Name of its model, its frames' arrays, and DeePMD-kit's numbers."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        case = dict(file)
    wanted = {field: case[key] for field, key in FIELDS_OF_REFERENCES.items()}
    return str(case["model"]), case, wanted


def frames_of(case: dict, model) -> list[Frame]:
    scale = model.spin.scheme.scale_of(case["atype"])
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
def test_deep_pot_gives_our_numbers(make_model, make_nio, make_cluster, tmp_path):
    """Models of every kind."""
    jobs, wanted = [], {}
    for name, (system, options) in MODELS.items():
        model = make_model(system, **options)
        potential = deepspin.DeepSpin(model)
        path = tmp_path / f"{name}.pb"
        write_graph(model, path, {})
        groups = {name: [make_nio(model, seed=seed) for seed in (0, 1)]}
        if name == "one side":
            groups["open"] = [make_cluster(model)]
        for group, frames in groups.items():
            jobs.append((path, model.type_map, frames))
            ours = run(potential.eval, *frames)
            tolerance = 1e-5 if name == "single precision" else 1e-10
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
