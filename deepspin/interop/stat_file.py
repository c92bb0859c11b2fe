# SPDX-License-Identifier: Apache-2.0
"""Files of statistics, `training/stat_file`, in the form of DeePMD-kit's.

An HDF5 file, or a folder whose groups are folders and whose datasets are files of
numpy's without a suffix. In the group of the model's types ("Ni O") are
``bias_atom_energy`` and ``std_atom_energy`` (nkinds, 1), ``observed_type``, of a model
with frame parameters ``fparam`` (numb_fparam, 3), and a group for each cutoff and
`sel`, named by a digest of them: in it ``r_K`` and ``a_K``, (3,), for each kind K of
atoms. What has three columns are a number and sums of so many values and of their
squares. Kinds of atoms are the types, then virtual atoms; those of DeePMD-kit's PyTorch
backend are others ("Ni O Ni_spin O_spin"), so that its statistics stand in a group of
their own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepspin.data.dataset import DataSystem
from deepspin.data.files import HDF5_SUFFIXES, DataError
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.statistics import Statistics, watched
from deepspin.utils.hdf5 import reading
from deepspin.utils.outputs import claim, replacing
from deepspin.utils.refused import InputError

log = logging.getLogger(__name__)

# beside DeePMD-kit's datasets: what deepspin found the statistics from and for
NOTE = "deepspin"
BIAS, SPREAD = "bias_atom_energy", "std_atom_energy"
OBSERVED, FPARAM = "observed_type", "fparam"
# by atomic number, as DeePMD-kit sorts the types that there are
ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn"
    " Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce"
    " Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At"
    " Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn"
    " Nh Fl Mc Lv Ts Og"
).split()


def check(path: str, mode: str) -> None:
    """Refuse, before the work, a file that cannot be read or written.

    Parameters
    ----------
    path : str
        File or folder.
    mode : {"update", "read"}
        Whether what is missing may be written.

    Raises
    ------
    InputError, OutputError
        It is missing, or no such file; or cannot be written.
    """
    target = Path(path)
    if not target.exists():
        if mode == "read":
            raise InputError(
                f"`training/stat_file` is '{path}', which does not exist, and"
                ' `stat_file_mode` is "read". Correct the path, or use "update".'
            )
        claim(target, folder=_is_folder(target))
    elif target.is_file() and not h5py.is_hdf5(target):
        raise InputError(
            f"`training/stat_file` is '{path}', which is no HDF5 file. Give another"
            " path, or remove the file."
        )


def compute_stats(
    model: SpinEnergyModel,
    sample: Iterable[tuple[dict, dict]],
    path: str,
    mode: str,
    *,
    data: DataSystem,
    digest: str,
    atom_ener: Sequence[float | None] | None = None,
    rcond: float | None = None,
    protection: float = 1e-2,
) -> None:
    """Take a model's statistics from a file, or from data and write them there.

    Parameters
    ----------
    model : SpinEnergyModel
        A model with virtual atoms.
    sample : iterable of (inputs, labels)
        See `SpinEnergyModel.compute_stats`; not touched if the file has everything.
    path : str
        File with the suffix of HDF5, or folder.
    mode : {"update", "read"}
        Whether what is missing may be found from the data and written.
    data : DataSystem
        The data.
    digest : str
        Digest of it.
    atom_ener, rcond, protection
        See `SpinEnergyModel.compute_stats`.

    Raises
    ------
    DataError
        The file holds what cannot be right for these data.
    InputError
        It lacks something and may not be written.
    """
    settings = _settings(model, atom_ener, rcond)
    stored = _load(path, _names(model))
    note = _note(stored.pop(NOTE, None), path)
    changed = [k for k, v in settings.items() if k in note and note[k] != v]
    if changed:
        stored = {}
    found, missing = _read(model, stored, path, data)
    if not missing:
        _tell(note, digest, path)
        _put(model, Statistics(**found), protection)
        return
    told = f"it is for another {', '.join(changed)}" if changed else ", ".join(missing)
    if mode == "read":
        raise InputError(
            f"`training/stat_file` is '{path}', and `stat_file_mode` is \"read\", but"
            f" {told if changed else f'it has no {told}'} of these types, cutoff and"
            ' `sel`. Correct one of these, or use "update".'
        )
    if Path(path).exists():
        log.info("statistics are found anew, since in '%s' %s", path, told)
    own = _gather(model, sample, atom_ener, rcond)
    done = replace(own, **found)
    _save(path, _items(model, done, {**settings, "data": digest}))
    log.info("statistics written to '%s'", path)
    _put(model, done, protection)


def _gather(
    model: SpinEnergyModel,
    sample: Iterable[tuple[dict, dict]],
    atom_ener: Sequence[float | None] | None,
    rcond: float | None,
) -> Statistics:
    """Statistics of all kinds of atoms, from data."""
    rows: list[np.ndarray] = []
    found = model.spin.statistics(
        watched(sample, model.check_parameters, rows),
        model.descriptor,
        atom_ener,
        rcond,
        all_kinds=True,
    )
    if not rows:
        return found
    fparam = np.concatenate(rows)
    number = np.full(fparam.shape[1], float(len(fparam)))
    sums = np.stack([number, fparam.sum(axis=0), (fparam**2).sum(axis=0)], axis=1)
    return replace(found, fparam=sums)


def _put(model: SpinEnergyModel, found: Statistics, protection: float) -> None:
    """Set a model's statistics, the same from data as from the file."""
    model.spin.set_statistics(found, model.descriptor, model.fitting)
    if found.fparam is None:
        return
    number, total, squares = found.fparam.T
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 0.0))
    model.fitting.fparam_avg.assign(mean)
    model.fitting.fparam_inv_std.assign(1.0 / np.maximum(std, protection))


def _is_folder(path: Path) -> bool:
    return path.is_dir() or (not path.exists() and path.suffix not in HDF5_SUFFIXES)


def _settings(
    model: SpinEnergyModel, atom_ener: Sequence[float | None] | None, rcond: Any
) -> dict[str, Any]:
    """What statistics depend on and the names of groups do not tell."""
    descriptor = model.descriptor
    return {
        "virtual_scale": [float(x) for x in model.spin.meaning["virtual_scale"]],
        "exclude_types": sorted(sorted(map(int, p)) for p in descriptor.exclude_types),
        "env_protection": float(descriptor.env_protection),
        "atom_ener": None if atom_ener is None else list(atom_ener),
        "rcond": rcond,
    }


def _group(model: SpinEnergyModel) -> str:
    """Group of the environments: DeePMD-kit's digest of what they depend on."""
    descriptor = model.descriptor
    told = {
        "type": "se_a",
        "ntypes": len(descriptor.sel),
        "rcut": round(float(descriptor.rcut), 2),
        "rcut_smth": round(float(descriptor.rcut_smth), 2),
        "nsel": int(sum(descriptor.sel)),
        "sel": [int(n) for n in descriptor.sel],
        "mixed_types": False,
    }
    digest = hashlib.sha1(json.dumps(told).encode(), usedforsecurity=False).hexdigest()
    return f"{' '.join(model.type_map)}/{digest}"


def _kinds(model: SpinEnergyModel) -> int:
    return len(model.spin.scheme.energy_types)


def _names(model: SpinEnergyModel) -> dict[str, str]:
    """Where everything stands in the file, by short names."""
    top, group = " ".join(model.type_map), _group(model)
    rows = [f"{letter}_{k}" for k in range(_kinds(model)) for letter in "ra"]
    return {
        **{row: f"{group}/{row}" for row in rows},
        **{name: f"{top}/{name}" for name in (BIAS, SPREAD, OBSERVED, FPARAM)},
        NOTE: f"{top}/{NOTE}_{group.rpartition('/')[2]}",
    }


def _load(path: str, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What there is of these, by short names."""
    root = Path(path)
    if not root.exists():
        return {}
    try:
        if root.is_dir():
            files = {name: root / place for name, place in names.items()}
            return {
                name: np.load(file, allow_pickle=False)
                for name, file in files.items()
                if file.is_file()
            }
        with reading(root) as file:
            return {
                name: file[place][()]
                for name, place in names.items()
                if isinstance(file.get(place), h5py.Dataset)
            }
    except Exception as error:  # h5py and numpy raise what they like on damaged files
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"`training/stat_file`: '{path}' cannot be read: {reason}. Remove it, or "
            "give another path."
        ) from error


def _save(path: str, items: Mapping[str, np.ndarray]) -> None:
    """Put arrays into the file, which is replaced as a whole."""
    root = Path(path)
    with replacing(root) as partial:
        if _is_folder(root):
            if root.exists():
                shutil.copytree(root, partial)
            for place, values in items.items():
                file = partial / place
                file.parent.mkdir(parents=True, exist_ok=True)
                with open(file, "wb") as stream:
                    np.save(stream, values)
            return
        if root.exists():
            shutil.copyfile(root, partial)
        with h5py.File(partial, "a") as file:
            for place, values in items.items():
                if place in file:
                    del file[place]
                file.create_dataset(place, data=values)


def _note(stored: np.ndarray | None, path: str) -> dict[str, Any]:
    if stored is None:
        return {}
    try:
        return json.loads(bytes(stored.item()).decode())
    except ValueError as error:
        raise DataError(
            f"`training/stat_file`: '{NOTE}' in '{path}' is damaged. Remove the file, "
            "or give another path."
        ) from error


def _read(
    model: SpinEnergyModel,
    stored: Mapping[str, np.ndarray],
    path: str,
    data: DataSystem,
) -> tuple[dict[str, Any], list[str]]:
    """Fields of `Statistics` that a file has, and what is missing."""
    nkinds, numb_fparam = _kinds(model), model.fitting.numb_fparam
    shapes: dict[str, tuple[int, ...]] = {BIAS: (nkinds, 1), SPREAD: (nkinds, 1)}
    shapes |= {FPARAM: (numb_fparam, 3)} if numb_fparam else {}
    shapes |= {f"{letter}_{k}": (3,) for k in range(nkinds) for letter in "ra"}
    for name in shapes.keys() & stored.keys():
        values = stored[name]
        fits = values.shape == shapes[name] and values.dtype.kind in "fiu"
        sums = shapes[name][-1] == 3
        if not (fits and np.isfinite(values).all()) or (
            sums and (values.T[[0, 2]] < 0).any()
        ):
            raise DataError(
                f"`training/stat_file`: {name} in '{path}' must be finite numbers of"
                f" shape {shapes[name]}{', none of them negative but sums' * sums}."
                f" Received: {values.tolist()}. Remove the file, or give another path."
            )
    found: dict[str, Any] = {}
    missing = []
    if all(f"{letter}_{k}" in stored for k in range(nkinds) for letter in "ra"):
        found["environment"] = environment = np.zeros((nkinds, 5))
        for k in range(nkinds):
            number, s, s2 = stored[f"r_{k}"]
            _, a, a2 = stored[f"a_{k}"]
            environment[k] = number, s, s2, a2, a
        _check_types(model, environment, path, data)
    else:
        missing.append("environments")
    if BIAS in stored and SPREAD in stored:
        found["bias"], found["spread"] = stored[BIAS][:, 0], float(stored[SPREAD][0, 0])
    elif "energy" in data.labels:
        missing.append("energy bias")
    if numb_fparam and FPARAM in stored:
        found["fparam"] = stored[FPARAM]
    elif numb_fparam:
        missing.append("frame parameters")
    return found, missing


def _check_types(
    model: SpinEnergyModel, environment: np.ndarray, path: str, data: DataSystem
) -> None:
    """Refuse statistics without atoms of a type that the data has."""
    types = sorted(set().union(*(np.unique(s.atype).tolist() for s in data.systems)))
    new = [model.type_map[t] for t in types if t >= 0 and environment[t, 0] == 0]
    if new:
        raise DataError(
            f"`training/stat_file`: the statistics in '{path}' are of data without"
            f" {' and '.join(new)}, which the training data has. Remove the file, or"
            " give another path."
        )


def _tell(note: Mapping[str, Any], digest: str, path: str) -> None:
    """Say that statistics are a file's, and of which data."""
    if note.get("data", digest) != digest:
        log.warning(
            "statistics are those of '%s', which are of other training data or batch "
            "sizes. Remove that file to find them anew",
            path,
        )
        return
    whose = "" if note else ", whatever data DeePMD-kit found them from"
    log.info("statistics are those of '%s'%s", path, whose)


def _items(
    model: SpinEnergyModel, found: Statistics, note: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Datasets by their place in the file."""
    arrays: dict[str, np.ndarray] = {}
    for k, (number, s, s2, a2, a) in enumerate(found.environment):
        arrays[f"r_{k}"] = np.array([number, s, s2])
        arrays[f"a_{k}"] = np.array([3.0 * number, a, a2])
    if found.bias is not None:
        arrays[BIAS] = found.bias[:, None]
        arrays[SPREAD] = np.full((len(found.bias), 1), found.spread)
    if found.fparam is not None:
        arrays[FPARAM] = found.fparam
    seen = sorted((model.type_map[t] for t in found.types), key=_number)
    arrays[OBSERVED] = np.array(seen, dtype="S")
    arrays[NOTE] = np.array(json.dumps(note).encode())
    names = _names(model)
    return {names[name]: values for name, values in arrays.items()}


def _number(name: str) -> int:
    """Atomic number; beyond all of them for another name."""
    return ELEMENTS.index(name) if name in ELEMENTS else len(ELEMENTS)
