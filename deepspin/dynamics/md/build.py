# SPDX-License-Identifier: Apache-2.0
"""From the input of ``dp-spin md`` to what runs: state, Hamiltonian, integrator."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import Structure, load_structure
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
# least |cos| of the phase of a site that is on one sublattice or the other
CLEAR = 0.1
# spins are collinear if so much of their squares is along one axis
COLLINEAR = 0.9
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


def repeated(cell: Structure, repeat: list[int]) -> tuple[Structure, np.ndarray]:
    """Copies of a cell, and the number in the cell of each atom.

    Raises
    ------
    InputError
        Copies along what is no lattice vector.
    """
    ncopies = int(np.prod(repeat))
    origin = np.tile(np.arange(cell.nloc), ncopies)
    if ncopies == 1:
        return cell, origin
    if cell.box is None or not cell.pbc[np.array(repeat) > 1].all():
        raise bad(
            "structure/repeat", repeat, "1 along directions that are not periodic"
        )
    steps = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), axis=-1)
    shift = steps.reshape(-1, 1, 3) @ cell.box
    return replace(
        cell,
        atype=cell.atype[origin],
        coord=(cell.coord + shift).reshape(-1, 3),
        box=cell.box * np.array(repeat)[:, None],
        spin=None if cell.spin is None else cell.spin[origin],
        mass=cell.mass[origin],
        fixed=cell.fixed[origin],
    ), origin


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


def phases(
    wave_vector: list[float], coord: np.ndarray, box: np.ndarray | None
) -> np.ndarray:
    """Phases q·R of atoms, shape (nloc,); q in the reciprocal vectors of a box."""
    if box is None:
        raise InputError(
            "A wave vector needs a periodic cell, and the structure has none. Use "
            "`atoms` of the rules of `spins`."
        )
    return 2 * np.pi * (coord @ np.linalg.inv(box)) @ np.array(wave_vector)


def sublattices(phase: np.ndarray) -> np.ndarray:
    """Return +1 and -1: the signs of the cosines of phases."""
    wave = np.cos(phase)
    if len(wave) and np.abs(wave).min() < CLEAR:
        raise InputError(
            "Some spins are at the nodes of the wave of a wave vector, cos(q·R) = 0, "
            "and so on neither sublattice. Move the origin of the structure, or give "
            "an `axis`, for a spiral."
        )
    return np.sign(wave)


def order_signs(
    options: dict, structure: Structure, magnetic: np.ndarray
) -> np.ndarray | None:
    """Signs of the staggered order, shape (nloc,); None if there is none to tell.

    Those of `order_vector`, or else of the structure's spins along the axis that they
    are collinear to.
    """
    if not magnetic.any():
        return None
    signs = np.zeros(structure.nloc)
    if options["order_vector"] is not None:
        box = structure.box
        if box is not None:
            box = box / np.array(options["structure"]["repeat"])[:, None]
        phase = phases(options["order_vector"], structure.coord, box)
        signs[magnetic] = sublattices(phase[magnetic])
        return signs
    spin = structure.spin[magnetic]
    modulus = np.linalg.norm(spin, axis=1, keepdims=True)
    unit = spin / np.where(modulus > 0, modulus, 1.0)
    values, axes = np.linalg.eigh(unit.T @ unit / len(unit))
    along = unit @ axes[:, -1]
    if values[-1] < COLLINEAR or not along.all():
        return None
    signs[magnetic] = np.sign(along)
    return signs * (signs[magnetic][0])


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
