# SPDX-License-Identifier: Apache-2.0
"""Which types of atoms are magnetic: all that most of the package needs to know.

And what types are called where spins have names, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# spins shorter than this (μ_B) are zero
ZERO_SPIN = 1e-8
# moments of atoms without spin below this (μ_B) are what neighbours polarise
SMALL_MOMENT = 0.05
# |spin| in μ_B that is reckoned with where nothing tells
UNKNOWN_SPIN = 5.0


@dataclass(frozen=True)
class SpinTypes:
    """Which types carry a spin.

    Parameters
    ----------
    use_spin : tuple of bool, length ntypes
        Whether each type does.
    ignore_below : float
        Moments in μ_B below this are left out in data, on types without spin.
    """

    use_spin: tuple[bool, ...]
    ignore_below: float = SMALL_MOMENT

    @classmethod
    def of(
        cls, use_spin: Sequence[bool], ignore_below: float = SMALL_MOMENT
    ) -> SpinTypes:
        """Take any sequence of flags."""
        return cls(tuple(map(bool, use_spin)), float(ignore_below))

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.use_spin)

    @cached_property
    def spin_types(self) -> tuple[int, ...]:
        """Indices of the types with spin."""
        return tuple(t for t, magnetic in enumerate(self.use_spin) if magnetic)

    def is_magnetic(self, atype: np.ndarray) -> np.ndarray:
        """Whether each atom's type carries a spin (False for atype -1)."""
        return np.array([*self.use_spin, False])[atype]


def spin_name(owner: str) -> str:
    """Name the type of the virtual atoms of atoms: that of Ni is ``Ni_spin``."""
    return f"{owner}_spin"


def split_names(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of real types, and the owners' names of those of virtual atoms."""
    virtual = {spin_name(owner): owner for owner in names}
    virtual = {name: virtual[name] for name in names if name in virtual}
    return [name for name in names if name not in virtual], virtual


def full_names(names: Sequence[str], use_spin: Sequence[bool]) -> list[str]:
    """Names of real types, then those of the virtual atoms of all that have a spin."""
    flags = zip(names, use_spin, strict=True)
    return [*names, *(spin_name(name) for name, magnetic in flags if magnetic)]
