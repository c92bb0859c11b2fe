# SPDX-License-Identifier: Apache-2.0
"""From the input of ``dp-spin md`` to what runs: state, Hamiltonian, integrator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import Structure, load_structure
from deepspin.atoms.waves import collinear_signs, phases, repeated, sublattices
from deepspin.dynamics.core.fields import Fields, ModelFields, Zeeman
from deepspin.dynamics.core.integrators import Gilbert, Integrator, Langevin
from deepspin.dynamics.core.sphere import rotate_by
from deepspin.dynamics.core.state import State, thermal_velocity
from deepspin.dynamics.core.tspin import InertialIntegrator, thermal_spin_velocity
from deepspin.dynamics.md.options import replicas
from deepspin.utils.refused import InputError, bad

if TYPE_CHECKING:
    from deepspin.dynamics.md.lammps import Crew
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# spins of a system of single precision converge no better than this without baths
SINGLE_TOLERANCE = 1e-7
# streams of random directions: apart from those of a state by their length
_DIRECTIONS = 7


def build_state(options: dict, potential: DeepSpin) -> tuple[State, Structure]:
    """Atoms, spins and velocities to begin with.

    Parameters
    ----------
    options : dict
        The complete input; ``seed`` is a number or a list.
    potential : DeepSpin
        The model.

    Returns
    -------
    state : State
        All replicas.
    structure : Structure
        Their atoms; spins are those of the first replica.

    Raises
    ------
    InputError, DataError, ImportError, OSError
        The structure, or what the input says of it, is of no use.
    """
    part = options["structure"]
    cell = load_structure(part["file"], potential, part["frame"])
    structure, origin = repeated(cell, part["repeat"])
    structure = replace(
        structure,
        mass=_masses(structure, options["masses"]),
        fixed=structure.fixed | _numbered(origin, options["fixed_atoms"], cell.nloc),
    )
    seeds = seeds_of(options)
    magnetic = potential.is_magnetic(structure.atype)
    spin = _place_spins(options["spins"], structure, cell, origin, magnetic, seeds)
    kind = options["ensemble"]["type"]
    moves = kind != "spin"
    state = State(
        coord=np.broadcast_to(structure.coord, spin.shape),
        spin=spin,
        mass=structure.mass,
        atype=structure.atype,
        box=_boxes(structure, len(spin)),
        fixed=structure.fixed,
        still=moves and structure.nloc > 1 and not structure.fixed.any(),
        stream=seeds,
    )
    first = options["initial_temperature"]
    first = np.asarray(options["temperature"] if first is None else first)
    if moves:
        state.velocity = thermal_velocity(state, first)
    if kind == "tspin":
        mass = spin_masses(options, structure.names, state, potential)
        state.spin_velocity = thermal_spin_velocity(state, first, mass)
    return state, replace(structure, spin=spin[0])


def _boxes(structure: Structure, nrep: int) -> np.ndarray | None:
    if structure.box is None:
        return None
    return np.broadcast_to(structure.box, (nrep, 3, 3))


def seeds_of(options: dict) -> np.ndarray:
    """Seed of each replica, shape (nrep,)."""
    seed, nrep = options["seed"], replicas(options)
    if isinstance(seed, list):
        return np.broadcast_to(seed, nrep)
    return seed + np.arange(nrep)


def _numbered(origin: np.ndarray, numbers: list[int], nloc: int) -> np.ndarray:
    """Which atoms are copies of some of the file's atoms."""
    if numbers and max(numbers) >= nloc:
        raise InputError(
            f"There is no atom {max(numbers)}: the file has {nloc}, counted from 0."
        )
    return np.isin(origin, numbers)


def _masses(structure: Structure, given: dict[str, float]) -> np.ndarray:
    unknown = sorted(set(given) - set(structure.names))
    if unknown:
        raise InputError(
            f"`masses` names {', '.join(unknown)}; the types of the model are "
            f"{', '.join(structure.names)}."
        )
    mass = structure.mass.copy()
    for name, value in given.items():
        mass[structure.atype == structure.names.index(name)] = value
    without = sorted({structure.names[t] for t in structure.atype[np.isnan(mass)]})
    if without:
        raise InputError(
            f"Types {', '.join(without)} are no elements. Give their masses in amu: "
            f'`masses` {{"{without[0]}": ...}}.'
        )
    return mass


# --- Spins ----------------------------------------------------------------------------


def _place_spins(
    rules: list[dict],
    structure: Structure,
    cell: Structure,
    origin: np.ndarray,
    magnetic: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """Spins of all replicas, (nrep, nloc, 3): those of the file, changed by rules."""
    known = structure.spin is not None
    spin = structure.spin if known else np.zeros_like(structure.coord)
    modulus = np.linalg.norm(spin, axis=1)
    direction = spin / np.where(modulus > 0, modulus, 1.0)[:, None]
    direction = np.broadcast_to(direction, (len(seeds), *spin.shape)).copy()
    for number, rule in enumerate(rules):
        chosen = magnetic & _chosen(rule, number, structure, origin, cell.nloc)
        if rule["modulus"] is not None:
            modulus[chosen] = rule["modulus"]
        if rule["direction"] == "random":
            direction[:, chosen] = _random(seeds, structure.nloc, number)[:, chosen]
        elif rule["direction"] is not None:
            given = np.array(rule["direction"], dtype=float)
            direction[:, chosen] = given / np.linalg.norm(given)
        if rule["wave_vector"] is not None:
            direction[:, chosen] = _waved(rule, structure, cell, direction, chosen)
    spin = modulus[:, None] * direction
    if not known and not spin[0, magnetic].any(axis=1).all():
        if rules:
            atom = int(np.flatnonzero(magnetic & ~spin[0].any(axis=1))[0])
            raise InputError(
                "The structure has no spins, and no rule of `spins` gives atom "
                f"{origin[atom]} of the file ({structure.symbols[atom]}) both a modulus"
                " and a direction."
            )
        structure.with_spins(magnetic, ", or give rules in `spins` of the input")
    return spin


def _chosen(
    rule: dict, number: int, structure: Structure, origin: np.ndarray, nloc: int
) -> np.ndarray:
    """Atoms that a rule is for."""
    chosen = np.ones(structure.nloc, dtype=bool)
    if rule["type"] is not None:
        if rule["type"] not in structure.names:
            names = ", ".join(structure.names)
            raise bad(f"spins/{number}/type", rule["type"], f"one of {names}")
        chosen = structure.atype == structure.names.index(rule["type"])
    if rule["atoms"] is not None:
        chosen &= _numbered(origin, rule["atoms"], nloc)
    return chosen


def _random(seeds: np.ndarray, nloc: int, number: int) -> np.ndarray:
    """Random directions, (nrep, nloc, 3)."""
    drawn = [
        np.random.default_rng([_DIRECTIONS, number, seed]).normal(size=(nloc, 3))
        for seed in seeds
    ]
    vectors = np.stack(drawn)
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def _waved(
    rule: dict,
    structure: Structure,
    cell: Structure,
    direction: np.ndarray,
    chosen: np.ndarray,
) -> np.ndarray:
    """Directions (nrep, chosen, 3), reversed or turned by a wave."""
    phase = phases(rule["wave_vector"], structure.coord, cell.box)[chosen]
    here = direction[:, chosen]
    if rule["axis"] is None:
        return here * sublattices(phase)[:, None]
    axis = np.array(rule["axis"], dtype=float)
    turn = phase[:, None] * axis / np.linalg.norm(axis)
    return rotate_by(here, np.broadcast_to(turn, here.shape))


def order_signs(
    vector: list[float] | None,
    repeat: Sequence[int],
    structure: Structure,
    magnetic: np.ndarray,
) -> np.ndarray | None:
    """Signs of the staggered order, shape (nloc,); None if there is none to tell.

    Parameters
    ----------
    vector : sequence of 3 float, optional
        Its wave vector, in the reciprocal vectors of the cell that is repeated; None
        for the order of the structure's spins, if these are collinear.
    repeat : sequence of 3 int
        How often that cell is repeated in the structure.
    structure : Structure
        Atoms with spins.
    magnetic : np.ndarray of bool, shape (nloc,)
        Atoms of types with spin.
    """
    if not magnetic.any():
        return None
    if vector is None:
        found = collinear_signs(structure.spin[magnetic])
    else:
        box = structure.box
        if box is not None:
            box = box / np.array(repeat)[:, None]
        phase = phases(vector, structure.coord, box)
        found = sublattices(phase[magnetic])
    if found is None:
        return None
    signs = np.zeros(structure.nloc)
    signs[magnetic] = found
    return signs


# --- Equations of motion --------------------------------------------------------------


def build_fields(
    options: dict,
    potential: DeepSpin,
    state: State,
    pbc: np.ndarray,
    crew: Crew | None = None,
) -> Fields:
    """Build the Hamiltonian: the model, here or in LAMMPS, in a field perhaps."""
    engine = ModelFields if crew is None else crew.fields
    fields: Fields = engine(
        potential, state.atype, state.box, pbc=pbc, fparam=options["fparam"]
    )
    if options["field"] is None:
        return fields
    return Zeeman(fields, options["field"], options["field_frequency"])


def build_integrator(
    options: dict, fields: Fields, state: State, potential: DeepSpin
) -> Integrator | InertialIntegrator:
    """Build the integrator of the ensemble that the input asks for."""
    kind, timestep = options["ensemble"]["type"], options["timestep"]
    lattice_bath, spin_bath = _lattice_bath(options), _spin_bath(options)
    if kind == "tspin":
        return InertialIntegrator(
            fields,
            timestep,
            spin_masses(options, potential.type_map, state, potential),
            spin_range=_spin_range(state, potential),
            refuse=options["ensemble"]["beyond_range"] == "refuse",
            lattice_bath=lattice_bath,
            spin_bath=spin_bath,
        )
    single = potential.precision == "float32" and not (lattice_bath or spin_bath)
    return Integrator(
        fields,
        timestep,
        lattice=kind != "spin",
        spins=kind != "lattice",
        lattice_bath=lattice_bath,
        spin_bath=spin_bath,
        tolerance=SINGLE_TOLERANCE if single else None,
    )


def _lattice_bath(options: dict) -> Langevin | None:
    time = options["ensemble"].get("relaxation_time")
    return None if time is None else Langevin(_kelvin(options["temperature"]), 1 / time)


def _spin_bath(options: dict) -> Gilbert | Langevin | None:
    part = options["ensemble"]
    temperature = part.get("spin_temperature")
    temperature = options["temperature"] if temperature is None else temperature
    if part.get("damping"):
        return Gilbert(_kelvin(temperature), part["damping"])
    if part.get("spin_relaxation_time"):
        return Langevin(_kelvin(temperature), 1 / part["spin_relaxation_time"])
    return None


def _kelvin(temperature: float | list[float]) -> np.ndarray:
    return np.array(temperature, dtype=float)


def spin_masses(
    options: dict, names: list[str], state: State, potential: DeepSpin
) -> np.ndarray:
    """Inertia of each spin in eV fs²/μ_B², shape (nloc,), 0 where there is none."""
    given = options["ensemble"]["spin_mass"]
    magnetic = potential.is_magnetic(state.atype)
    used = sorted({names[t] for t in state.atype[magnetic]})
    if not used:
        raise InputError(
            'The structure has no atoms with spin, which the ensemble "tspin" is for.'
        )
    table = given if isinstance(given, dict) else dict.fromkeys(used, given)
    missing = sorted(set(used) - set(table))
    unknown = sorted(set(table) - set(names))
    if missing or unknown:
        raise bad("ensemble/spin_mass", given, f"masses of {', '.join(used)}")
    masses = np.array([table.get(name, 0.0) for name in names])
    return np.where(magnetic, masses[state.atype], 0.0)


def _spin_range(state: State, potential: DeepSpin) -> np.ndarray | None:
    """Moduli that the model was trained on, (nloc, 2); None if it does not tell."""
    known = potential.metadata.get("spin_range")
    if not known:
        log.warning(
            "the model file does not tell which moduli of spins it was trained on: "
            "look at them yourself"
        )
        return None
    ranges = np.array([known.get(name, (0.0, np.inf)) for name in potential.type_map])
    return ranges[state.atype]
