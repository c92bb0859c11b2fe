# SPDX-License-Identifier: Apache-2.0
"""Trees of options and arrays, in the two forms that DeePMD-kit has for them.

HDF5 (``.dp``): the tree is JSON in the attribute ``json``, with the names of data sets
in place of arrays, below keys ``@variables``. YAML: arrays are objects that say so.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from deepspin.utils import hdf5
from deepspin.utils.limits import check_readable, check_tree
from deepspin.utils.outputs import replacing

HDF5 = ".dp"


def write_tree(path: str | Path, tree: dict) -> None:
    """Write a tree, whole or not at all.

    Parameters
    ----------
    path : str
        File to write: HDF5 if it ends in ``.dp``, else YAML.
    tree : dict
        Dicts, lists, numbers, text; arrays below keys ``@variables`` only.
    """
    write = _write_hdf5 if Path(path).suffix == HDF5 else _write_yaml
    with replacing(path) as partial:
        write(partial, tree)


def _write_hdf5(path: Path, tree: dict) -> None:
    with hdf5.writing(path, "w") as file:
        numbers = itertools.count()

        def store(array: np.ndarray) -> str:
            return file.create_dataset(f"variable_{next(numbers):04d}", data=array).name

        text = json.dumps(_mapped(tree, store), separators=(",", ":"))
        # of variable length: HDF5 keeps attributes below 64 kB otherwise
        file.attrs.create("json", text, dtype=h5py.string_dtype())


def _write_yaml(path: Path, tree: dict) -> None:
    import yaml

    def describe(array: np.ndarray) -> dict:
        kind = {"@class": "np.ndarray", "@is_variable": True, "@version": 1}
        return {**kind, "dtype": array.dtype.name, "value": array.tolist()}

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with open(path, "w", encoding="utf-8") as file:
        yaml.dump(_mapped(tree, describe), file, Dumper=dumper)


def _mapped(tree: object, change: Callable[[np.ndarray], object]) -> object:
    """Copy a tree with something else in place of arrays."""
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_mapped(value, change) for value in tree]
    return change(tree) if isinstance(tree, np.ndarray) else tree


def read_tree(path: str | Path) -> dict:
    """Read a tree that this package or DeePMD-kit wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No model: '{path}' is not a file.")
    check_readable(path)
    read = _read_hdf5 if path.suffix == HDF5 else _read_yaml
    try:
        tree = read(path)
    except Exception as error:  # HDF5 and YAML raise what they like on damaged files
        raise ValueError(
            f"'{path}' is damaged, or no model of DeePMD-kit "
            f"({' '.join(str(error).split())}). Write it again."
        ) from error
    if not isinstance(tree, dict):
        raise ValueError(f"'{path}' is no model of DeePMD-kit: it holds no object.")
    return tree


def _read_hdf5(path: Path) -> object:
    with hdf5.reading(path) as file:
        tree = json.loads(file.attrs["json"])
        return _with_arrays(tree, lambda name: file[name][()])


def _read_yaml(path: Path) -> object:
    import yaml

    def array(value: object) -> object:
        if isinstance(value, dict) and value.get("@class") == "np.ndarray":
            return np.array(value["value"], dtype=value["dtype"])
        return value

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(path, encoding="utf-8") as file:
        tree = yaml.load(file, Loader=loader)
    check_tree(tree)
    return _with_arrays(tree, array)


def _with_arrays(
    tree: object, find: Callable[[object], object], inside: bool = False
) -> object:
    """Copy a tree with arrays found for what stands for them."""
    if isinstance(tree, dict) and not tree.get("@is_variable"):
        return {
            key: _with_arrays(value, find, inside or key == "@variables")
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_with_arrays(value, find, inside) for value in tree]
    return find(tree) if inside and tree is not None else tree
