# SPDX-License-Identifier: Apache-2.0
"""An input to start from, with the reasons for what is in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepspin.data.files import SCHEME, spelled
from deepspin.data.notes import Notes
from deepspin.data.systems import load_system
from deepspin.data.words import read_scheme
from deepspin.spins.invariant import Invariant
from deepspin.spins.schemes import DEFAULT
from deepspin.spins.types import ZERO_SPIN
from deepspin.survey.quality import torque_share
from deepspin.survey.scheme import Survey
from deepspin.survey.statistics import NeighborStat

log = logging.getLogger(__name__)

# neighbours fade out over so many Å before the cutoff
FADE = 0.5
NUMB_STEPS = 1_000_000
# an invariant model begins where the baseline ends, and its sums fade out from here (Å)
INVARIANT_STEPS, INVARIANT_SMOOTH = 10_000, 2.0
# a total torque below this share of independent spins' is that of no coupling
FREE_OF_SOC = 0.05


@dataclass(frozen=True)
class _Seen:
    """What systems hold: of all together, or frames and types of each."""

    labels: set[str]
    neighbors: NeighborStat
    frames: list[int]
    types: list[frozenset[int]]
    zeros: int
    torque: float
    undeclared: list[str]  # virtual atoms without a `spin_scheme.json`


def _look(data: Survey, rcut: float, scheme: str) -> _Seen:
    types_of = data.spin.types
    spin = Invariant(types_of) if scheme == "invariant" else data.spin
    neighbors = NeighborStat(data.type_map, spin, rcut)
    labels: set[str] = set()
    frames, types, zeros = [], [], 0
    systems, undeclared = [], []
    notes = Notes()
    for path in data.paths:
        system = load_system(path, data.type_map, data.spin, True, notes=notes)
        neighbors.add(system)
        systems.append(system)
        if system.layout == "virtual-atom" and read_scheme(path) is None:
            undeclared.append(path)
        labels |= system.labels.keys()
        frames.append(system.nframes)
        types.append(frozenset(np.unique(system.atype[system.atype >= 0]).tolist()))
        length = np.linalg.norm(system.spin, axis=-1)
        magnetic = types_of.is_magnetic(system.atype)
        zeros += int((length[magnetic] < ZERO_SPIN).sum())
    notes.tell()
    torque = torque_share(systems)
    return _Seen(labels, neighbors, frames, types, zeros, torque, undeclared)


# --- Options --------------------------------------------------------------------------


def propose(data: Survey, rcut: float, scheme: str = DEFAULT) -> dict[str, Any]:
    """Choose options for a training, and say why beside them.

    Parameters
    ----------
    data : Survey
        The data; what is doubtful about it is told.
    rcut : float
        Cutoff in Å.
    scheme : str
        How spins enter the model: `model/spin/type`.

    Returns
    -------
    dict
        The input, with reasons as ``_comment...``.
    """
    seen = _look(data, rcut, scheme)
    for doubt in data.doubts:
        log.warning("%s", doubt)
    if scheme == "invariant":
        return _invariant(data, seen, rcut)
    if seen.torque < FREE_OF_SOC:
        log.info(
            "torques add up to %.1f %% of what independent spins would have: the data "
            "are free of spin-orbit coupling, and the scheme `invariant` knows that "
            "exactly (doc/invariant.md); --scheme invariant writes an input for it",
            100 * seen.torque,
        )
    if seen.zeros:
        log.warning(
            "%d spins of types with spin are 0, which training refuses: remove these "
            "frames, or add a non-zero `env_protection` to the descriptor.",
            seen.zeros,
        )
    return {
        "_comment": "written by dp-spin init",
        "model": _model(data, seen, rcut),
        "learning_rate": {
            "_comment": "falls exponentially to stop_lr at the last step",
            "type": "exp",
            "start_lr": 1e-3,
            "stop_lr": 5.92e-6,
            "decay_steps": NUMB_STEPS // 100,
        },
        "loss": _loss(seen),
        "training": _training(data, seen),
    }


def _model(data: Survey, seen: _Seen, rcut: float) -> dict[str, Any]:
    largest = ", ".join(
        f"{n} of {name}"
        for name, n in zip(seen.neighbors.names, seen.neighbors.largest, strict=True)
    )
    spin: dict[str, Any] = {}
    for key, value in data.section.items():
        spin |= {f"_comment_{key}": data.reasons[key], key: value}
    return {
        "_comment_type_map": data.reasons["type_map"],
        "type_map": data.type_map,
        "descriptor": {
            "type": "se_e2_a",
            "_comment_rcut": "in Å: should reach the exchange that matters; the work "
            "grows with its cube",
            "rcut": rcut,
            "_comment_rcut_smth": f"neighbours fade out over the last {FADE} Å",
            "rcut_smth": round(rcut - FADE, 6),
            "_comment_sel": f"largest number of neighbours within rcut: {largest}; "
            "a tenth more, up to a multiple of 4, shared by a type and its spins",
            "sel": seen.neighbors.suggest(),
            "_comment_neuron": "sizes of the nets: those of DeePMD-kit's spin example",
            "neuron": [25, 50, 100],
            "axis_neuron": 16,
            "resnet_dt": False,
            "type_one_side": True,
            "precision": "float64",
            "seed": 1,
        },
        "fitting_net": {
            "neuron": [240, 240, 240],
            "resnet_dt": True,
            "precision": "float64",
            "seed": 1,
        },
        "spin": spin,
    }


def _invariant(data: Survey, seen: _Seen, rcut: float) -> dict[str, Any]:
    """Options of a training of the scheme `invariant`."""
    for path in seen.undeclared[:1]:
        log.warning(
            "'%s' has virtual atoms and no %s to say what they stand for, so this "
            "training would refuse it: dp-spin convert-data writes it with spins%s",
            path,
            SCHEME,
            f" (the same of {len(seen.undeclared) - 1} more)"
            * (len(seen.undeclared) > 1),
        )
    coupled = seen.torque >= FREE_OF_SOC
    if np.isnan(seen.torque):
        reason = "no magnetic forces tell; true if the data have spin-orbit coupling"
    else:
        reason = (
            f"torques add up to {seen.torque:.1%} of what independent spins would have,"
            f" so there is {'' if coupled else 'no '}spin-orbit coupling in the data"
        )
    training = _training(data, seen)
    del training["_comment_numb_steps"]
    return {
        "_comment": "written by dp-spin init; see doc/invariant.md",
        "model": {
            "_comment_type_map": data.reasons["type_map"],
            "type_map": data.type_map,
            "descriptor": {
                "type": "se_e2_a",
                "_comment_rcut": "in Å: should reach the exchange that matters; the "
                "work grows with its cube",
                "rcut": rcut,
                "_comment_rcut_smth": "sums over neighbours fade out from here on",
                "rcut_smth": min(INVARIANT_SMOOTH, round(rcut / 2, 6)),
                "_comment_sel": "neighbours of each type within rcut, and a tenth more",
                "sel": seen.neighbors.suggest(),
                "_comment_neuron": "mixtures of radial functions, which the nets take",
                "neuron": [8],
                "axis_neuron": 4,
                "seed": 1,
            },
            "fitting_net": {"neuron": [64, 64], "seed": 1},
            "spin": {
                "type": "invariant",
                "_comment_use_spin": data.reasons["use_spin"],
                "use_spin": data.section["use_spin"],
                "_comment_soc": reason,
                "soc": coupled,
                **{k: v for k, v in data.section.items() if k == "ignore_below"},
            },
        },
        "learning_rate": {
            "_comment": "falls exponentially to stop_lr at the last step",
            "type": "exp",
            "start_lr": 1e-3,
            "stop_lr": 1e-5,
            "decay_steps": INVARIANT_STEPS // 100,
        },
        "loss": {
            "_comment": "no prefactors: each term is divided by what the baseline "
            "leaves of it",
            "type": "ener_spin",
        },
        "training": {
            **training,
            "numb_steps": INVARIANT_STEPS,
            "disp_freq": 100,
            "save_freq": 1000,
        },
    }


# start and limit of the weight of each term
_WEIGHTS = {
    "energy": ("e", 0.02, 1),
    "force": ("fr", 1000, 1),
    "force_mag": ("fm", 10000, 10),
    "virial": ("v", 0.02, 1),
}


def _loss(seen: _Seen) -> dict[str, Any]:
    absent = [label for label in _WEIGHTS if label not in seen.labels]
    reason = "forces first, energies at the end"
    if absent:
        reason += f"; no {', '.join(absent)} in the data, so no such term"
    options: dict[str, Any] = {"_comment": reason, "type": "ener_spin"}
    for label, (term, start, limit) in _WEIGHTS.items():
        there = label in seen.labels
        options[f"start_pref_{term}"] = start if there else 0
        options[f"limit_pref_{term}"] = limit if there else 0
    return options


def _training(data: Survey, seen: _Seen) -> dict[str, Any]:
    held, reason = _held_out(data.paths, seen)
    train = [path for path in data.paths if path not in held] or data.paths
    return {
        "_comment_paths": "paths count from the folder that dp-spin train is run in",
        "training_data": {
            "_comment_batch_size": "as many frames as hold 32 atoms, virtual ones "
            "counted: small batches and many steps learn forces best",
            "systems": spelled(train),
            "batch_size": "auto",
        },
        "_comment_validation_data": reason,
        "validation_data": {"systems": spelled(held), "batch_size": 1, "numb_btch": 10},
        "_comment_numb_steps": "for production; a tenth of it, with decay_steps a tenth"
        " too, gives a first impression",
        "numb_steps": NUMB_STEPS,
        "seed": 1,
        "disp_file": "lcurve.out",
        "disp_freq": 1000,
        "save_freq": 10000,
    }


def _held_out(paths: list[str], seen: _Seen) -> tuple[list[str], str]:
    """Systems to validate with, and why these."""
    for k in np.argsort(seen.frames, kind="stable"):
        others = [own for n, own in enumerate(seen.types) if n != k]
        if others and seen.types[k] <= frozenset().union(*others):
            return [paths[k]], (
                f"'{paths[k]}', {seen.frames[k]} of {sum(seen.frames)} frames, is held "
                "out of training: the first of the smallest systems whose types the "
                "others have too. If its frames come from the same run as theirs, hold "
                "out another"
            )
    if len(paths) > 1:
        reason = "each system has types that no other has, so none can be held out"
    else:
        reason = "there is one system"
    return paths, (
        f"THE SAME AS THE TRAINING DATA, as {reason}: errors on it say nothing about "
        "new frames. Put some of its frames (set.* folders, with type.raw) into a "
        "system of their own and name that here"
    )


# --- Files ----------------------------------------------------------------------------


def comments(options: dict[str, Any], path: str = "") -> Iterator[str]:
    """Reasons with the options that they stand for."""
    for key, value in options.items():
        if isinstance(value, dict):
            yield from comments(value, f"{path}{key}/")
        elif key.startswith("_comment_"):
            name = key.removeprefix("_comment_")
            known = options.get(name)
            text = f" {json.dumps(known)}" if isinstance(known, list | float) else ""
            yield f"{path}{name}{text}: {value}"


def written(options: dict[str, Any], suffix: str) -> str:
    """Write an input with its reasons as JSON, or as YAML."""
    lines = _json(options) if suffix == ".json" else _yaml(options)
    return "\n".join(lines) + "\n"


def _json(options: dict[str, Any], indent: str = "") -> list[str]:
    lines, inner = [], indent + "  "
    for key, value in options.items():
        name = json.dumps(key)
        if isinstance(value, dict):
            first, *rest = _json(value, inner)
            lines += [f"{inner}{name}: {first}", *rest]
        else:
            lines.append(f"{inner}{name}: {json.dumps(value, ensure_ascii=False)}")
        lines[-1] += ","
    return ["{", *lines[:-1], lines[-1].removesuffix(","), f"{indent}}}"]


def _yaml(options: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in options.items():
        if key.startswith("_comment"):
            lines.append(f"{indent}# {value}")
        elif isinstance(value, dict):
            lines += [f"{indent}{key}:", *_yaml(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines
