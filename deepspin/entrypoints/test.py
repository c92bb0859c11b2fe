# SPDX-License-Identifier: Apache-2.0
"""``dp-spin test``: errors of a model on labelled data, as DeePMD-kit lists them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepspin.env import start_tensorflow
from deepspin.utils.files import DataError, find_systems
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.system import load_system

log = logging.getLogger(__name__)

# name, what is printed, unit
LINES = (
    ("e", "Energy {}        ", "eV"),
    ("ea", "Energy {}/Natoms ", "eV"),
    ("fr", "Force atom {}    ", "eV/Å"),
    ("fm", "Force spin {}    ", "eV/uB"),
    ("v", "Virial {}        ", "eV"),
    ("va", "Virial {}/Natoms ", "eV"),
    ("ae", "Atomic ener {}   ", "eV"),
)
VIRIAL_NAMES = ("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz")
# frames evaluated in one call
BATCH = 8


def test(
    *,
    model: str,
    system: str | None = None,
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
    numb_test: int = 0,
    shuffle_test: bool = False,
    rand_seed: int | None = None,
    detail_file: str | None = None,
    atomic: bool = False,
) -> dict[str, float]:
    """Compare a model with labels.

    Parameters
    ----------
    model : str
        Model file (``.keras`` or DeePMD-kit's ``.pb``), or the prefix of checkpoints.
    system : str, optional
        A system, or a folder that is searched for systems.
    datafile : str, optional
        A file with the path of one system on each line.
    train_data, valid_data : str, optional
        An input file whose training or validation systems are used.
    numb_test : int
        Frames of each system, 0 for all.
    shuffle_test : bool
        Choose and order the frames at random.
    rand_seed : int, optional
        Seed of that.
    detail_file : str, optional
        Prefix of files with every label beside its prediction.
    atomic : bool
        Compare atom energies too.

    Returns
    -------
    dict
        Mean absolute and root-mean-square errors over all systems: ``mae_e``,
        ``rmse_e``, ``mae_ea`` (per real atom), ...
    """
    if numb_test < 0:
        raise ValueError(f"-n must be 0 (all) or more frames. Received: {numb_test}")
    paths = _systems(system, datafile, train_data, valid_data)
    if detail_file is not None:
        Path(detail_file).parent.mkdir(parents=True, exist_ok=True)
    start_tensorflow()
    from deepspin.infer.deep_spin import DeepSpin
    from deepspin.training.callbacks import resolve_checkpoint

    file = model if model.endswith(".pb") else resolve_checkpoint(model)
    potential = DeepSpin(file)
    spec = potential.model.data_spec
    systems = [
        load_system(p, spec["type_map"], spec["spin"], spec["allow_zero_spin"])
        for p in paths
    ]
    random = np.random.default_rng(rand_seed)
    total = []
    for k, data in enumerate(systems):
        log.info("# ---------------output of dp-spin test--------------- ")
        log.info("# testing system : %s", data.path)
        chosen = np.arange(data.nframes)
        if shuffle_test:
            chosen = random.permutation(chosen)
        chosen = chosen[: numb_test or None]
        pairs, natoms = _evaluate(potential, data, chosen, atomic)
        if not pairs:
            raise DataError(
                f"'{data.path}' has no label to test: no energy, force, force_mag or "
                "virial."
            )
        errors = _errors(pairs, natoms)
        total.append(errors)
        log.info("# number of test data : %d ", len(chosen))
        _print(errors)
        log.info("# ----------------------------------------------- ")
        if detail_file is not None:
            _write_details(detail_file, data.path, pairs, natoms, append=k > 0)
    average = _average(total)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(systems))
    log.info("# per atom means per real atom")
    _print(average)
    log.info("# ----------------------------------------------- ")
    return {
        f"{kind}_{name}": value[kind]
        for name, value in average.items()
        for kind in ("mae", "rmse")
    }


def _systems(
    system: str | None,
    datafile: str | None,
    train_data: str | None,
    valid_data: str | None,
) -> list[str]:
    if datafile is not None:
        if not Path(datafile).is_file():
            raise FileNotFoundError(f"No data file: '{datafile}' is not a file.")
        lines = Path(datafile).read_text(encoding="utf-8").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise DataError(f"'{datafile}' names no system; one path on each line.")
        return [path for name in names for path in find_systems(name)]
    for file, section in (
        (train_data, "training_data"),
        (valid_data, "validation_data"),
    ):
        if file is not None:
            data = normalize(load_input(file))["training"][section]
            if not data:
                raise DataError(f"'{file}' has no `training/{section}`.")
            return find_systems(data["systems"], data["rglob_patterns"])
    return find_systems(system if system is not None else ".")


def _evaluate(
    potential, data, chosen: Sequence[int], atomic: bool
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Labels and predictions by name, rows of atoms that count; atoms of each frame."""
    names = ["energy", "force", "force_mag", "virial"] + ["atom_ener"] * atomic
    names = [n for n in names if n in data.labels]
    pred: dict[str, list] = {n: [] for n in names}
    label: dict[str, list] = {n: [] for n in names}
    scheme = potential.model.spin.scheme
    constant = (data.atype[chosen] == data.atype[chosen[0]]).all()
    size = BATCH if constant else 1
    for first in range(0, len(chosen), size):
        frames = chosen[first : first + size]
        atype = data.atype[frames[0]]
        here = atype >= 0
        result = potential.eval(
            data.coord[frames][:, here],
            data.box[frames] if data.pbc else None,
            atype[here],
            data.spin[frames][:, here],
        )
        for name in names:
            truth, guess = data.labels[name][frames], result[name]
            if name in ("force", "force_mag", "atom_ener"):
                truth = truth[:, here]
            if name == "force_mag":
                magnetic = scheme.is_magnetic(atype[here])
                truth, guess = truth[:, magnetic], guess[:, magnetic]
            width = {"energy": 1, "virial": 9, "atom_ener": 1}.get(name, 3)
            label[name].append(truth.reshape(-1, width))
            pred[name].append(guess.reshape(-1, width))
    natoms = (data.atype[chosen] >= 0).sum(axis=1)
    pairs = {n: (np.concatenate(label[n]), np.concatenate(pred[n])) for n in names}
    return {n: p for n, p in pairs.items() if p[0].size}, natoms


_SHORT = {"energy": "e", "force": "fr", "force_mag": "fm", "virial": "v"}


def _errors(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], natoms: np.ndarray
) -> dict[str, dict]:
    """Errors of one system: mae, rmse and the number of components behind them."""
    rows = {}
    for name, (label, pred) in pairs.items():
        diff = pred - label
        rows[_SHORT.get(name, "ae")] = diff
        if name in ("energy", "virial"):
            rows[_SHORT[name] + "a"] = diff / natoms[:, None]
    return {
        name: {
            "mae": float(np.mean(np.abs(diff))),
            "rmse": float(np.sqrt(np.mean(diff**2))),
            "size": diff.size,
        }
        for name, diff in rows.items()
    }


def _average(total: list[dict[str, dict]]) -> dict[str, dict]:
    """Errors over all systems, each component counting once."""
    result = {}
    for name in dict.fromkeys(n for errors in total for n in errors):
        rows = [errors[name] for errors in total if name in errors]
        size = sum(row["size"] for row in rows)
        mae = sum(row["mae"] * row["size"] for row in rows) / size
        square = sum(row["rmse"] ** 2 * row["size"] for row in rows) / size
        result[name] = {"mae": mae, "rmse": float(np.sqrt(square)), "size": size}
    return result


def _print(errors: dict[str, dict]) -> None:
    for name, text, unit in LINES:
        for kind in ("mae", "rmse"):
            if name in errors:
                head = f"{text.format(kind.upper()):<20s}"
                log.info("%s: %e %s", head, errors[name][kind], unit)


def _write_details(
    prefix: str,
    system: str,
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    natoms: np.ndarray,
    *,
    append: bool,
) -> None:
    """Write PREFIX.e.out, .fr.out, .fm.out, .v.out: labels, then predictions."""
    tables = []
    for name, (label, pred) in pairs.items():
        short = _SHORT.get(name, "ae")
        components = {
            "energy": ["e"],
            "atom_ener": ["ae"],
            "force": ["fx", "fy", "fz"],
            "force_mag": ["fmx", "fmy", "fmz"],
            "virial": [f"v{n}" for n in VIRIAL_NAMES],
        }[name]
        tables.append((short, components, label, pred))
        if name in ("energy", "virial"):
            per = natoms[:, None]
            tables.append((f"{short}_peratom", components, label / per, pred / per))
    for suffix, components, label, pred in tables:
        columns = [f"{k}_{c}" for k in ("data", "pred") for c in components]
        note = " (per real atom)" if suffix.endswith("peratom") else ""
        with open(f"{prefix}.{suffix}.out", "ab" if append else "wb") as file:
            np.savetxt(
                file,
                np.hstack([label, pred]),
                header=f"{system}{note}: {' '.join(columns)}",
            )
