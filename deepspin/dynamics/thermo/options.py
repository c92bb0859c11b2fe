# SPDX-License-Identifier: Apache-2.0
"""The input of ``dp-spin thermo``: its arguments, their checks and documentation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from dargs import Argument, Variant

from deepspin.dynamics.md.options import md_args
from deepspin.dynamics.md.sections import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    REPEAT,
    VECTOR,
    check_waves,
    finite_numbers,
    spins_args,
    structure_args,
    waves_of_rules,
    with_rules,
)
from deepspin.dynamics.thermo.motion import MODULI
from deepspin.utils.arguments import FILE, optional, required
from deepspin.utils.refused import bad

__all__ = ["gen_doc", "input_args", "normalize_thermo", "thermo_args"]


def _rises(value: Any) -> bool:
    good = finite_numbers(lambda x: x > 0)(value)
    return good and all(a < b for a, b in pairwise(value))


def _list_of(check: tuple) -> Callable[[Any], bool]:
    return lambda value: bool(value) and all(check[0](row) for row in value)


AUTO = "auto"
AT_LEAST_TWO = (finite_numbers(lambda x: x >= 2), "an integer >= 2")
LADDER = (
    lambda x: x == AUTO or _rises(x),
    'temperatures > 0 in K that rise, or "auto"',
)
SIZES = (_list_of(REPEAT), "a list of 3 integers >= 1 each")
VECTORS = (_list_of(VECTOR), "a list of 3 finite numbers each")
SHARE = (finite_numbers(lambda x: 0 < x < 1), "a number between 0 and 1")
SEED = (
    finite_numbers(lambda x: 0 <= x < 2**31),
    "an integer from 0 to 2**31 - 1, or null",
)
MODULI_CHOICE = (lambda x: x in MODULI, f"one of {', '.join(MODULI)}")
DATA = (
    lambda x: FILE[0](x) and Path(x).suffix in (".h5", ".hdf5"),
    "a file that ends in .h5 or .hdf5",
)


def _lattice() -> Argument:
    return optional("lattice", bool, True)(
        "Whether atoms move, too, in a fixed cell. Otherwise only the spins turn, and"
        " the temperature is theirs alone."
    )


def hmc_args() -> list[Argument]:
    """Make the arguments of the method `hmc`."""
    return [
        _lattice(),
        optional("leaps", int, 10, AT_LEAST_ONE)(
            "Leaps of a trajectory, each an evaluation of the model for all replicas."
        ),
        optional("exchange", bool, True)(
            "Whether replicas of neighbouring temperatures are exchanged, with"
            " Metropolis' probability."
        ),
        optional("acceptance", float, 0.7, SHARE)(
            "Share of the trajectories to accept; the equilibration adapts the"
            " timesteps to it."
        ),
        optional("moduli", str, "fixed", MODULI_CHOICE)(
            "Whether moduli of spins stay (``fixed``) or move, within the range that"
            " the model was trained on. The word then says with which measure: S² dS of"
            " all components (``vector``), S dS (``linear``), or dS, the modulus as a"
            " coordinate of its own (``scalar``)."
        ),
    ]


def langevin_args() -> list[Argument]:
    """Make the arguments of the method `langevin`."""
    return [
        _lattice(),
        required("timestep", float, POSITIVE)("Timestep in fs."),
        optional("steps", int, 20, AT_LEAST_ONE)("Steps from one sample to the next."),
        optional("relaxation_time", float, 100.0, POSITIVE)(
            "Time in fs in which the bath makes the atoms forget their velocities."
        ),
        optional("damping", float, 0.5, NOT_NEGATIVE)(
            "Gilbert's α, the strength of the bath of the spins, without dimension."
        ),
    ]


def method_args() -> Argument:
    """Make the section `method`."""
    hmc = (
        "Hybrid Monte Carlo: trajectories of all atoms and spins that are accepted or"
        " rejected. Exact whatever the timestep."
    )
    langevin = (
        "Dynamics in heat baths, as the ensembles ``langevin`` and ``spin`` of"
        " ``dp-spin md``. Its errors go with the square of the timestep."
    )
    choices = [
        Argument("hmc", dict, hmc_args(), doc=hmc),
        Argument("langevin", dict, langevin_args(), doc=langevin),
    ]
    variant = Variant("type", choices, doc="How samples are made.")
    return Argument(
        "method",
        dict,
        [],
        [variant],
        optional=True,
        default={"type": "hmc"},
        doc="What moves, and how.",
    )


def output_args() -> Argument:
    """Make the section `output`."""
    fields = [
        optional("data", str, "thermo.h5", DATA)(
            "HDF5 file of the samples, from which a restart goes on. The table and the"
            " picture have its name with .csv and .png."
        ),
        optional("save_freq", int, 100, AT_LEAST_ONE)(
            "Number of samples between two writings of the file."
        ),
    ]
    return Argument(
        "output", dict, fields, optional=True, default={}, doc="What is written."
    )


def thermo_args() -> list[Argument]:
    """Make the arguments of the input of ``dp-spin thermo``."""
    shared = {entry.name: entry for entry in md_args()}
    parts = structure_args().sub_fields.values()
    structure = [entry for entry in parts if entry.name != "repeat"]
    return [
        shared["model"],
        Argument("structure", dict, structure, doc="Atoms, cell and spins."),
        optional("sizes", list[list[int]], [[1, 1, 1]], SIZES)(
            "Copies of the cell along its three vectors, for each size to sample."
        ),
        spins_args(),
        required("temperature", [list[float], str], LADDER)(
            "Rising temperatures in K, a replica for each; all run at once. ``auto``"
            " takes a ladder around the ordering temperature that the exchange of the"
            " model tells (random-phase approximation, in the state that `spins`"
            " makes), close enough for replicas to be exchanged."
        ),
        method_args(),
        optional("equilibration", int, 200, AT_LEAST_ONE)(
            "Moves before the first sample."
        ),
        optional("samples", int, 1000, AT_LEAST_TWO)("Samples of each size."),
        optional("order_vectors", list[list[float]], [[0, 0, 0]], VECTORS)(
            "Wave vectors k of the order, in the reciprocal vectors of the file's cell:"
            " all that are equivalent, as small cells go from one to the other. The"
            " order parameter is ψ = sqrt(Σ_k m_k²), m_k being the mean of the"
            " directions of the spins, reversed where cos(k·R) < 0. [0, 0, 0] is a"
            " ferromagnet's."
        ),
        optional("seed", [int, None], None, SEED)(
            "Seed of all random numbers; null draws one."
        ),
        optional("field", [list[float], None], None, VECTOR)(
            "External magnetic field in T, which acts on the spins."
        ),
        shared["fixed_atoms"],
        shared["masses"],
        shared["fparam"],
        output_args(),
    ]


def normalize_thermo(data: dict) -> dict:
    """Check an input and fill in the defaults.

    Parameters
    ----------
    data : dict
        The input as it is written; keys that begin with an underscore are comments.

    Returns
    -------
    dict
        The complete input.

    Raises
    ------
    InputError
        At the first mistake.
    """
    given = {"output": {}, "method": {"type": "hmc"}, **data}
    data = with_rules(thermo_args(), given)
    waves = {f"order_vectors/{k}": v for k, v in enumerate(data["order_vectors"])}
    for size in data["sizes"]:
        check_waves(waves | waves_of_rules(data), size, "sizes")
    if len({tuple(size) for size in data["sizes"]}) < len(data["sizes"]):
        raise bad("sizes", data["sizes"], "different sizes")
    return data


def input_args() -> list[Argument]:
    """Make the whole tree; its anchors begin with ``thermo``."""
    text = "Input of ``dp-spin thermo``."
    return [Argument("thermo", dict, thermo_args(), doc=text)]


def gen_doc() -> str:
    """Document the arguments as reStructuredText, with an anchor for each."""
    return input_args()[0].gen_doc(make_anchor=True, make_link=True)
