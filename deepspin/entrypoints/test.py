# SPDX-License-Identifier: Apache-2.0
"""``dp-spin test``: errors of a model on labelled data, as DeePMD-kit lists them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError, find_systems
from deepspin.data.systems import load_systems
from deepspin.entrypoints import spin_rotation as rotations
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.pictures.plots import QUANTITIES, Parity, claim_picture, draw_parity, save
from deepspin.utils.inputs import load_input, normalize
from deepspin.utils.outputs import OutputError, claim, replacing
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)


# by the suffix of their detail files: label and output of the model, whether divided by
# the number of real atoms, how errors are printed, and named in what `test` returns
LINES = {
    "e": ("energy", False, "Energy {}", "eV", "e"),
    "e_peratom": ("energy", True, "Energy {}/Natoms", "eV", "ea"),
    "fr": ("force", False, "Force atom {}", "eV/Å", "fr"),
    "fm": ("force_mag", False, "Force spin {}", "eV/uB", "fm"),
    "v": ("virial", False, "Virial {}", "eV", "v"),
    "v_peratom": ("virial", True, "Virial {}/Natoms", "eV", "va"),
    "ae": ("atom_ener", False, "Atomic ener {}", "eV", "ae"),
}
DRAWN = ("e_peratom", "fr", "fm", "v_peratom", "ae")
# frames evaluated in one call
BATCH = 8

# labels and predictions by suffix, rows of components
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


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
    plot: str | None = None,
    spin_rotation: int = 0,
) -> dict[str, float]:
    """Compare a model with labels.

    Parameters
    ----------
    model : str
        Model file, frozen model, DeePMD-kit's ``.pb``, or the prefix of checkpoints.
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
        Prefix of files with every label beside its prediction. Files of this prefix
        that an earlier test wrote are replaced, or removed if this one has no such
        label.
    atomic : bool
        Compare atom energies too.
    plot : str, optional
        Picture of predictions against labels, all systems together.
    spin_rotation : int
        Turn all spins of each frame by so many random rotations, and reverse them.

    Returns
    -------
    dict
        Mean absolute and root-mean-square errors over all systems: ``mae_e``,
        ``rmse_e``, ``mae_ea`` (per real atom), ... With `spin_rotation` also what it
        does to the energy, in meV per atom: ``mean_rotation``, ``rms_rotation``,
        ``max_rotation`` and the like of ``flip``.
    """
    if numb_test < 0:
        raise InputError(f"-n must be 0 (all) or more frames. Received: {numb_test}")
    if rand_seed is not None and rand_seed < 0:
        raise InputError(f"-r must be 0 or more. Received: {rand_seed}")
    if spin_rotation < 0:
        raise InputError(
            "--spin-rotation must be 0 (none) or more rotations. Received: "
            f"{spin_rotation}"
        )
    file = resolve_checkpoint(model)
    paths = _systems(system, datafile, train_data, valid_data)
    if detail_file is not None:
        _claim_details(detail_file)
    if plot is not None:
        claim_picture(plot)
    start_tensorflow()
    from deepspin.infer.deep_spin import DeepSpin

    potential = DeepSpin(file)
    systems = _load_data(potential, paths, atomic)
    random = np.random.default_rng(rand_seed)
    turns = np.random.default_rng(rand_seed or 0)
    total, changes = [], []
    for data in systems:
        chosen = np.arange(data.nframes)
        if shuffle_test:
            chosen = random.permutation(chosen)
        chosen = chosen[: numb_test or None]
        total.append(_test_system(potential, data, chosen, atomic))
        if spin_rotation:
            given = potential, data, chosen, spin_rotation
            changes.append(rotations.energy_changes(*given, turns))
            rotations.tell(changes[-1:])
    merged = _merge(total)
    if not merged:
        raise DataError("Nothing to compare: no label of an atom with spin.")
    errors = _errors(merged)
    _print_total(errors, len(systems))
    turned = rotations.tell(changes) if spin_rotation else {}
    if detail_file is not None:
        _write_details(detail_file, [data.path for data in systems], total)
    if plot is not None:
        save(draw_parity([Parity(s, *merged[s]) for s in DRAWN if s in merged]), plot)
        log.info("drew %s", plot)
    return {
        f"{kind}_{LINES[suffix][-1]}": value
        for suffix, kinds in errors.items()
        for kind, value in kinds.items()
    } | turned


def _systems(
    system: str | None,
    datafile: str | None,
    train_data: str | None,
    valid_data: str | None,
) -> list[str]:
    if datafile is not None:
        return _listed(Path(datafile))
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


def _listed(path: Path) -> list[str]:
    """Systems that a file lists, one on each line."""
    if not path.is_file():
        raise FileNotFoundError(f"No data file: '{path}' is not a file.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not text. -f takes a file with one path on each line; -s "
            "takes a system."
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"'{path}' names no system; one path on each line.")
    if names[0].startswith("{") or path.suffix in (".json", ".yaml", ".yml"):
        raise InputError(
            f"'{path}' is an input of a training. For its data say --valid-data "
            f"{path} or --train-data {path}; -f takes a list, one path on each line."
        )
    return [found for name in names for found in find_systems(name)]


def _claim_details(prefix: str) -> None:
    if not Path(prefix).name or prefix.endswith("/"):
        raise OutputError(
            f"-d takes the beginning of file names, such as 'results/detail'. Got "
            f"'{prefix}'."
        )
    for suffix in LINES:
        path = _detail(prefix, suffix)
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder. Give another prefix to -d.")
    claim(_detail(prefix, "e"))


def _detail(prefix: str, suffix: str) -> Path:
    return Path(f"{prefix}.{suffix}.out")


def _load_data(potential, paths: Sequence[str], atomic: bool) -> list:
    """Read all systems; refuse those with nothing to compare."""
    spec = potential.model.data_spec
    systems = load_systems(
        paths,
        spec["type_map"],
        spec["spin"],
        spec["allow_zero_spin"],
        spec["numb_fparam"],
    )
    for data in systems:
        if not any(name in data.labels for name in _arrays(atomic)):
            raise DataError(
                f"'{data.path}' has no label to test: no energy, force, force_mag or "
                "virial."
            )
    if atomic:
        without = [data.path for data in systems if "atom_ener" not in data.labels]
        if len(without) == len(systems):
            raise DataError(
                "-a compares atom energies, but no system has atom_ener.npy. Leave -a "
                "out."
            )
        for path in without:
            log.warning("'%s' has no atom_ener.npy: -a leaves it out", path)
    return systems


def _test_system(potential, data, chosen: Sequence[int], atomic: bool) -> Pairs:
    """Evaluate and print what DeePMD-kit prints of a system."""
    log.info("# ---------------output of dp-spin test--------------- ")
    log.info("# testing system : %s", data.path)
    pairs = _evaluate(potential, data, chosen, atomic)
    log.info("# number of test data : %d ", len(chosen))
    _print(_errors(pairs))
    log.info("# ----------------------------------------------- ")
    return pairs


def _arrays(atomic: bool) -> list[str]:
    names = dict.fromkeys(array for array, *_ in LINES.values())
    return [name for name in names if atomic or name != "atom_ener"]


def _evaluate(potential, data, chosen: Sequence[int], atomic: bool) -> Pairs:
    """Labels and predictions of some frames of a system."""
    names = [n for n in _arrays(atomic) if n in data.labels]
    rows: dict[str, list] = {n: [] for n in names}
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
            fparam=data.fparam[frames] if data.fparam.size else None,
        )
        for name in names:
            label, pred = data.labels[name][frames], result[name]
            if name in ("force", "force_mag", "atom_ener"):
                label = label[:, here]
            if name == "force_mag":
                magnetic = potential.is_magnetic(atype[here])
                label, pred = label[:, magnetic], pred[:, magnetic]
            width = {"energy": 1, "virial": 9, "atom_ener": 1}.get(name, 3)
            rows[name].append((label.reshape(-1, width), pred.reshape(-1, width)))
    natoms = (data.atype[chosen] >= 0).sum(axis=1)[:, None]
    pairs = {}
    for suffix, (array, per_atom, *_) in LINES.items():
        if array in rows:
            label, pred = map(np.concatenate, zip(*rows[array], strict=True))
            if per_atom:
                label, pred = label / natoms, pred / natoms
            if label.size:
                pairs[suffix] = label, pred
    return pairs


def _merge(total: Sequence[Pairs]) -> Pairs:
    """All systems together, each component counting once."""
    found = {suffix for pairs in total for suffix in pairs}
    return {
        suffix: tuple(
            np.concatenate([pairs[suffix][k] for pairs in total if suffix in pairs])
            for k in (0, 1)
        )
        for suffix in LINES
        if suffix in found
    }


def _errors(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Mean absolute and root-mean-square errors."""
    return {
        suffix: {
            "mae": float(np.mean(np.abs(pred - label))),
            "rmse": float(np.sqrt(np.mean((pred - label) ** 2))),
        }
        for suffix, (label, pred) in pairs.items()
    }


def _print(errors: dict[str, dict[str, float]]) -> None:
    for suffix, kinds in errors.items():
        _, _, text, unit, _ = LINES[suffix]
        for kind, value in kinds.items():
            log.info("%-20s: %e %s", text.format(kind.upper()), value, unit)


def _print_total(errors: dict[str, dict[str, float]], nsystems: int) -> None:
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", nsystems)
    log.info("# per atom means per real atom")
    _print(errors)
    log.info("# ----------------------------------------------- ")


def _write_details(prefix: str, paths: Sequence[str], total: Sequence[Pairs]) -> None:
    """Write PREFIX.e.out, .fr.out, .fm.out, .v.out ...: labels, then predictions.

    All of them or none; those of an earlier test that have no successor go.
    """
    written = _merge(total)
    with ExitStack() as stack:
        for suffix in written:
            partial = stack.enter_context(replacing(_detail(prefix, suffix)))
            with open(partial, "wb") as file:
                for path, pairs in zip(paths, total, strict=True):
                    if suffix in pairs:
                        _write_table(file, path, suffix, pairs[suffix])
    for suffix in LINES:
        stale = _detail(prefix, suffix)
        if suffix not in written and stale.exists():
            stale.unlink()
            log.info("removed %s of an earlier test: no such label here", stale)


def _write_table(
    file, path: str, suffix: str, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    components = QUANTITIES[suffix].components
    columns = [f"{kind}_{c}" for kind in ("data", "pred") for c in components]
    note = " (per real atom)" if LINES[suffix][1] else ""
    header = f"{path}{note}: {' '.join(columns)}"
    np.savetxt(file, np.hstack(pair), header=header, encoding="utf-8")
