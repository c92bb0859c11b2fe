# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in its folder, and whether another goes on from it exactly."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deepspin import __version__, env
from deepspin.data.dataset import DataSystem
from deepspin.data.environments import environments
from deepspin.interop.files import POINTER
from deepspin.modelfiles.find import find_checkpoints
from deepspin.op.library import operations
from deepspin.spins.schemes import Scheme
from deepspin.utils.inputs import changed
from deepspin.utils.outputs import set_aside

log = logging.getLogger(__name__)

# frames looked at at once
AT_ONCE = 256
# sections of the input that decide about numbers
_DECISIVE = ("model", "learning_rate", "optimizer", "loss", "training")
_FREE = (
    *("systems", "rglob_patterns"),  # the fingerprint of the data tells more
    *("disp_file", "disp_freq", "disp_training", "disp_avg", "time_training"),
    *("save_ckpt", "save_dir", "save_freq", "max_ckpt_keep", "ema_ckpt_keep"),
    *("tensorboard", "tensorboard_log_dir", "tensorboard_freq"),
    *("profiling", "profiling_file"),
    *("enable_profiler", "validation_data", "stat_file", "stat_file_mode"),
)


# --- Files ----------------------------------------------------------------------------


def set_aside_earlier(
    prefix: Path,
    others: Sequence[Path],
    restart: Path | None,
    step: int,
    further: Sequence[Path] = (),
) -> None:
    """Make way for a run: nothing that an earlier one wrote is overwritten.

    A restart in the folder of its checkpoint keeps what is older than that; what came
    later is set aside.

    Parameters
    ----------
    prefix : Path
        Beginning of the names of the run's checkpoints.
    others : sequence of Path
        Its other files.
    restart : Path, optional
        Checkpoint that it goes on from.
    step : int
        Its step.
    further : sequence of Path
        Prefixes of other models that it saves.
    """
    saved: list[tuple[int, Path]] = []
    for start in (prefix, *further):
        for partial in start.parent.glob(f".{start.name}-*.partial.keras"):
            partial.unlink()  # of a run that was killed
        saved += find_checkpoints(start).items()
    own = [path.resolve() for path in find_checkpoints(prefix).values()]
    if restart is None or restart.resolve() not in own:
        set_aside([*others, prefix.parent / POINTER, *(path for _, path in saved)])
    else:
        later = [path for number, path in saved if number > step]
        set_aside(later, copies=others)


# --- Exactness ------------------------------------------------------------------------


def describe(options: dict, data: DataSystem) -> dict:
    """Metadata of a run's checkpoints: what made them."""
    return {
        "deepspin": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "engine": _engine(options),
        "input": options,
        "data": fingerprint(data),
        "min_nbor_dist": data.nearest,
        "nearest": name_pairs(nearest_pairs(data), data.type_map, data.spin),
        "spin_range": spin_range(data),
        "environments": environments(data),
    }


def _engine(options: dict) -> dict:
    """What else decides about the last bits."""
    cores = len(os.sched_getaffinity(0))
    threading = tf.config.threading
    return {
        "intra_threads": threading.get_intra_op_parallelism_threads() or cores,
        "inter_threads": threading.get_inter_op_parallelism_threads() or cores,
        "kernels": operations() is not None,
        "instructions": env.instruction_set(),
        "xla": options["training"]["jit_compile"],
        "cpu": _cpu(),
        "numpy": np.__version__,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    return next(names, platform.machine())


def fingerprint(data: DataSystem) -> str:
    """Digest of all frames, and of how they are drawn."""
    digest = hashlib.blake2b(digest_size=16)
    for system in data.systems:
        labels = [system.labels[name] for name in sorted(system.labels)]
        given = (system.atype, system.coord, system.box, system.spin, system.fparam)
        for array in (*given, *labels):
            for part in _parts(len(array)):
                digest.update(np.ascontiguousarray(array[part]).tobytes())
    digest.update(repr((data.batch_sizes, data.probabilities.tolist())).encode())
    return digest.hexdigest()


def _parts(nframes: int) -> Iterator[slice]:
    """Frames, some at a time: arrays may be in files."""
    for first in range(0, nframes, AT_ONCE):
        yield slice(first, first + AT_ONCE)


def spin_range(data: DataSystem) -> dict[str, list[float]]:
    """Smallest and largest abs(spin) in μ_B of each type with spin."""
    result = {}
    for t in data.spin.types.spin_types:
        moduli = [
            np.linalg.norm(s.spin[part][s.atype[part] == t], axis=-1)
            for s in data.systems
            for part in _parts(s.nframes)
        ]
        values = np.concatenate(moduli)
        if values.size:
            result[data.type_map[t]] = [float(values.min()), float(values.max())]
    return result


def nearest_pairs(data: DataSystem) -> np.ndarray:
    """Nearest distance in Å of each type of neighbour from each type of atom.

    Shape (ntypes, number of types of neighbours), infinite where there is no pair.
    """
    nearest = np.full((data.spin.ntypes, data.spin.nblocks), np.inf)
    blocks = np.array(data.spin.list_blocks)
    for k, system in enumerate(data.systems):
        for atype, own in zip(system.atype, data.neighbors(k), strict=True):
            there = atype >= 0
            place = atype[there][:, None], blocks
            np.minimum.at(nearest, place, own.closest[there])
    return nearest


def name_pairs(
    nearest: np.ndarray, type_map: Sequence[str], spin: Scheme
) -> dict[str, dict[str, float]]:
    """Distances of `nearest_pairs` by names; those that there are."""
    names = spin.neighbor_names(type_map)
    return {
        centre: {n: float(r) for n, r in zip(names, row, strict=True) if r < np.inf}
        for centre, row in zip(type_map, nearest, strict=True)
    }


def unname_pairs(stored: dict, type_map: Sequence[str], spin: Scheme) -> np.ndarray:
    """Undo `name_pairs`."""
    names = spin.neighbor_names(type_map)
    rows = [stored.get(centre, {}) for centre in type_map]
    return np.array([[row.get(name, np.inf) for name in names] for row in rows])


def warn_of_differences(stored: dict, now: dict, name: str) -> None:
    """Say what keeps a restarted run from equalling an uninterrupted one.

    Parameters
    ----------
    stored, now : dict
        Metadata of the checkpoint and of this run, see `describe`.
    name : str
        The checkpoint.
    """
    found = []
    for part in ("deepspin", "keras", "tensorflow"):
        found += _compare(stored.get(part), now[part], part)
    engine = stored.get("engine", {})
    if engine:  # before there were kernels, none were recorded
        engine = {"kernels": False, **engine}
    found += _compare(engine, now["engine"], "")
    for section in _DECISIVE:
        ours = now["input"].get(section)
        found += _compare(stored.get("input", {}).get(section, ours), ours, section)
    if stored.get("data", now["data"]) != now["data"]:
        found.append("the training data")
    if found:
        log.warning(
            "this run will not equal an uninterrupted one bit for bit; since '%s' was "
            "written, these have changed: %s",
            name,
            "; ".join(found),
        )


def _compare(there: object, here: object, name: str) -> list[str]:
    """Differences as ``name: there -> here``, of what was recorded there."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            row
            for key in changed(there, here, _FREE)
            if key in there
            for row in _compare(there[key], here.get(key), f"{name}/{key}".strip("/"))
        ]
    return [f"{name}: {there} -> {here}"] if there not in (here, None) else []
