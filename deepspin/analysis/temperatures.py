# SPDX-License-Identifier: Apache-2.0
r"""Temperatures to sample around the ordering temperature that exchange tells.

The random-phase approximation is some 10 % below the exact temperature of classical
spins in three dimensions, mean field a third above. Replicas exchange if their energies
overlap: with the heat capacity C (in k_B) steps of :math:`T/\sqrt{C}` are accepted
about every other time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepspin.analysis.cells import primitive
from deepspin.analysis.exchange import exchange
from deepspin.analysis.ordering import ordering
from deepspin.atoms.structures import Structure
from deepspin.utils.refused import InputError

if TYPE_CHECKING:
    from deepspin.infer.deep_spin import DeepSpin

# of the temperature of the random-phase approximation: lowest, highest, and where order
# is expected to end
LOWEST, HIGHEST, EXPECTED = 0.8, 1.25, 1.05
# fewest and most temperatures
FEWEST, MOST = 8, 24
# heat capacity near the transition, in k_B: of each spin that turns, of each atom that
# moves (potential energy alone)
OF_SPIN, OF_ATOM = 2.0, 1.5


def ladder(
    potential: DeepSpin,
    structure: Structure,
    atoms: int,
    spins: int,
    fparam: Sequence[float] | None = None,
) -> list[float]:
    """Choose temperatures around the ordering temperature.

    Parameters
    ----------
    potential : DeepSpin
        The model.
    structure : Structure
        Atoms with spins in the ordered state.
    atoms, spins : int
        Numbers of atoms that move and of spins that turn in the largest cell.
    fparam : sequence of float, optional
        Frame parameters, for a model that takes some.

    Returns
    -------
    list of float
        Rising temperatures in K, to a tenth.

    Raises
    ------
    InputError
        Exchange tells no ordering temperature.
    """
    found = exchange(potential, primitive(structure), fparam=fparam)
    middle = ordering(found.hamiltonian).rpa
    if not middle > 0:
        raise InputError(
            '`temperature` "auto" needs an ordering temperature, and exchange in this '
            "state tells none (a plane, a chain, a molecule or weakly coupled layers). "
            "Give temperatures."
        )
    step = 1 / np.sqrt(OF_ATOM * atoms + OF_SPIN * spins)
    wanted = int(np.ceil(np.log(HIGHEST / LOWEST) / np.log1p(step))) + 1
    number = min(max(wanted, FEWEST), MOST)
    low, high = LOWEST, HIGHEST
    if wanted > MOST:  # closer around what is expected
        half = (1 + step) ** ((MOST - 1) / 2)
        low, high = EXPECTED / half, EXPECTED * half
    return [round(float(t), 1) for t in np.geomspace(low, high, number) * middle]
