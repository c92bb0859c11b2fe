# SPDX-License-Identifier: Apache-2.0
"""Keras finds the package's classes by their names, though none is imported yet."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Stand:
    """Stands among Keras' custom objects for a class until a file names it."""

    def __init__(self, name: str, load: Callable[[str], Any]):
        self._name, self._load = name, load

    def from_config(self, config: dict) -> Any:
        """Import the class, which then takes this place, and make one of it."""
        return self._load(self._name).from_config(config)


class _WhenImported(MetaPathFinder):
    """Does something as soon as a module has been imported, once."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]):
        self._name, self._then = name, then

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as all others would, and do what is to be done after it."""
        if fullname != self._name:
            return None
        with contextlib.suppress(ValueError):  # another thread was here
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self._then(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register(package: str, names: Iterable[str], load: Callable[[str], Any]) -> None:
    """Have ``keras.saving.load_model`` know classes, whichever was imported first.

    Keras looks for the classes of a file among those that are registered, which happens
    as their modules are imported. This imports neither them nor Keras.

    Parameters
    ----------
    package : str
        That the classes are registered in.
    names : iterable of str
        The classes.
    load : callable
        Imports the class of a name.
    """

    def tell(keras: ModuleType) -> None:
        known = keras.saving.get_custom_objects()
        for name in names:
            known.setdefault(f"{package}>{name}", _Stand(name, load))

    if "keras" in sys.modules:
        tell(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _WhenImported("keras", tell))
