# SPDX-License-Identifier: Apache-2.0
"""Models that DeePMD-kit's own form of models holds, and how to evaluate them."""

from __future__ import annotations

import numpy as np
from invariants import Frame
from places import REFERENCE

import deepspin
from deepspin.interop.read_dpmodel import load_dpmodel

STORED = REFERENCE / "dpmodel"
CASES = sorted(path.stem for path in STORED.glob("*.npz"))
FPARAM = np.array([[0.3, -0.7]])


def load_case(name: str):
    with np.load(STORED / f"{name}.npz") as file:
        case = dict(file)
    return load_dpmodel(STORED / str(case["model"]))[0], case


def evaluate_case(model, case) -> dict:
    magnetic = model.spin.scheme.types.is_magnetic(case["atype"])[:, None]
    more = {"fparam": case["fparam"]} if "fparam" in case else {}
    spin = np.where(magnetic, case["spin"], 0.0)
    potential = deepspin.DeepSpin(model)
    return potential.eval(case["coord"], case["box"], case["atype"], spin, **more)


def frame_of(model, case, number=0) -> Frame:
    scale = model.spin.scheme.codec.scale_of(case["atype"])
    arrays = (case[name][number] for name in ("coord", "box"))
    spin = case["spin"][number] * (scale > 0)[:, None]
    return Frame(*arrays, case["atype"], spin, scale)


def evaluate(model, frame: Frame) -> dict:
    more = {"fparam": FPARAM} if model.fitting.numb_fparam else {}
    potential = deepspin.DeepSpin(model)
    return potential.eval(frame.coord, frame.box, frame.atype, frame.spin, **more)


def tolerance_of(name: str) -> float:
    return 1e-5 if name in ("float32", "single precision") else 1e-10


BACKBONE, DESCRIPTOR = ("backbone_model",), ("backbone_model", "descriptor")
