# SPDX-License-Identifier: Apache-2.0
"""State, Hamiltonian and integrator of a run of dynamics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepspin.atoms.structures import Structure, load_structure
from deepspin.atoms.waves import collinear_signs, phases, repeated, sublattices
from deepspin.dynamics.core.barostat import CellRescaling
from deepspin.dynamics.core.baths import Gilbert, Langevin, LatticeBath
from deepspin.dynamics.core.chains import NoseHoover
from deepspin.dynamics.core.fields import Fields, ModelFields, Zeeman
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.quantum import QuantumBath
from deepspin.dynamics.core.ramps import Ramp, all_of
from deepspin.dynamics.core.state import State, thermal_velocity
from deepspin.dynamics.core.tspin import (
    InertialIntegrator,
    spin_dof,
    thermal_spin_velocity,
)
from deepspin.dynamics.md.lammps import LammpsFields
from deepspin.dynamics.md.rules import Placing, copies_of
from deepspin.dynamics.md.settings import Ensemble, Setup
from deepspin.utils.refused import InputError, bad

if TYPE_CHECKING:
    from deepspin.dynamics.md.crew import Crew
    from deepspin.infer.deep_spin import DeepSpin

log = logging.getLogger(__name__)

# without baths, spins converge no better than this in single precision
SINGLE_TOLERANCE = 1e-7


def build_state(setup: Setup, potential: DeepSpin) -> tuple[State, Structure]:
    """Build the atoms, spins and velocities that a run begins with.

    Parameters
    ----------
    setup : Setup
        What the input says of them.
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
    part = setup.structure
    cell = load_structure(part.file, potential, part.frame)
    structure, origin = repeated(cell, part.repeat)
    structure = replace(
        structure,
        mass=_masses(structure, setup.masses),
        fixed=structure.fixed | copies_of(origin, setup.fixed_atoms, cell.nloc),
    )
    magnetic = potential.is_magnetic(structure.atype)
    spin = Placing(structure, cell, origin, magnetic, setup.seeds).placed(setup.spins)
    moves = setup.ensemble.lattice
    state = State(
        coord=np.broadcast_to(structure.coord, spin.shape),
        spin=spin,
        mass=structure.mass,
        atype=structure.atype,
        box=_boxes(structure, setup.nrep),
        fixed=structure.fixed,
        still=moves and structure.nloc > 1 and not structure.fixed.any(),
        stream=setup.seeds,
    )
    first = setup.first_kelvin
    if moves:
        state.velocity = thermal_velocity(state, first)
    if setup.ensemble.inertial:
        mass = spin_masses(setup.ensemble, structure.names, state, potential)
        state.spin_velocity = thermal_spin_velocity(state, first, mass)
    return state, replace(structure, spin=spin[0])


def _boxes(structure: Structure, nrep: int) -> np.ndarray | None:
    if structure.box is None:
        return None
    return np.broadcast_to(structure.box, (nrep, 3, 3))


def _masses(structure: Structure, given: Mapping[str, float]) -> np.ndarray:
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


def order_signs(
    vector: Sequence[float] | np.ndarray | None,
    repeat: Sequence[int],
    structure: Structure,
    magnetic: np.ndarray,
) -> np.ndarray | None:
    """Signs of the staggered order, shape (nloc,); None if there is no such order.

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


def star_signs(
    vectors: Sequence[float] | Sequence[Sequence[float]] | None,
    repeat: Sequence[int],
    structure: Structure,
    magnetic: np.ndarray,
) -> np.ndarray | None:
    """Signs of one staggered order or of several, (nwaves, nloc), see `order_signs`."""
    waves = [None] if vectors is None else [*np.atleast_2d(vectors)]
    signs = [order_signs(wave, repeat, structure, magnetic) for wave in waves]
    return None if any(s is None for s in signs) else np.stack(signs)


# --- Equations of motion --------------------------------------------------------------


def build_fields(
    setup: Setup,
    potential: DeepSpin,
    state: State,
    pbc: np.ndarray,
    crew: Crew | None = None,
) -> Fields:
    """Build the Hamiltonian: the model, here or in LAMMPS, and a field if given."""
    model = ModelFields(potential, state.atype, state.box, pbc=pbc, fparam=setup.fparam)
    fields = model if crew is None else LammpsFields(crew, model)
    if setup.tesla is None:
        return fields
    return Zeeman(fields, setup.tesla, setup.field_frequency)


def build_integrator(
    setup: Setup, fields: Fields, state: State, potential: DeepSpin
) -> Integrator | InertialIntegrator:
    """Build the integrator of the ensemble that the input asks for."""
    ensemble = setup.ensemble
    lattice_bath, barostat = _lattice_bath(setup), _barostat(setup)
    if ensemble.inertial:
        return InertialIntegrator(
            fields,
            setup.timestep,
            spin_masses(ensemble, potential.type_map, state, potential),
            spin_range=spin_range_of(state, potential),
            refuse=ensemble.beyond_range == "refuse",
            lattice_bath=lattice_bath,
            spin_bath=_inertial_bath(setup),
            barostat=barostat,
        )
    spin_bath = _damping_bath(setup)
    single = potential.precision == "float32" and not (lattice_bath or spin_bath)
    return Integrator(
        fields,
        setup.timestep,
        lattice=ensemble.lattice,
        spins=ensemble.spins,
        lattice_bath=lattice_bath,
        spin_bath=spin_bath,
        barostat=barostat,
        tolerance=SINGLE_TOLERANCE if single else None,
    )


def _lattice_bath(setup: Setup) -> LatticeBath | None:
    given, time = setup.ensemble, setup.ensemble.relaxation_time
    if time is None or given.spectrum == "classical":
        return _bath(setup, setup.lattice_kelvin, time)
    cutoff = given.spectrum_cutoff
    return QuantumBath(all_of(setup.lattice_kelvin), 1 / time, given.spectrum, cutoff)


def _bath(
    setup: Setup, kelvin: np.ndarray | Ramp, time: float | None
) -> Langevin | NoseHoover | None:
    """Build the bath of what has inertia, if it has a relaxation time (fs)."""
    if time is None:
        return None
    if setup.ensemble.chained:
        return NoseHoover(kelvin, time, setup.ensemble.chain_length)
    return Langevin(kelvin, 1 / time)


def build_reservoir(
    setup: Setup, integrator: Integrator | InertialIntegrator
) -> Callable[[State], np.ndarray] | None:
    """Build what tells the energy (eV) in the chains of each replica.

    None unless the energy with that is conserved: there are chains, and nothing else
    that does work.
    """
    lattice, spin = integrator.lattice_bath, integrator.spin_bath
    baths = [bath for bath in (lattice, spin) if bath is not None]
    chained = bool(baths) and all(isinstance(bath, NoseHoover) for bath in baths)
    works = integrator.barostat is not None or setup.ramps or setup.field_frequency
    if not chained or works:
        return None
    spins = spin_dof(getattr(integrator, "spin_mass", np.zeros(0)))

    def energy(state: State) -> np.ndarray:
        found = np.zeros(state.nrep)
        if isinstance(lattice, NoseHoover):
            found += lattice.energy(state.lattice_chain, state.dof, state.nrep)
        if isinstance(spin, NoseHoover):
            found += spin.energy(state.spin_chain, spins, state.nrep)
        return found

    return energy


def _damping_bath(setup: Setup) -> Gilbert | None:
    damping = setup.ensemble.damping
    return Gilbert(setup.spin_kelvin, damping) if damping else None


def _inertial_bath(setup: Setup) -> Langevin | NoseHoover | None:
    return _bath(setup, setup.spin_kelvin, setup.ensemble.spin_relaxation_time)


def _barostat(setup: Setup) -> CellRescaling | None:
    given = setup.ensemble
    if given.pressure is None:
        return None
    return CellRescaling(
        pressure=np.array(given.pressure, dtype=float),
        temperature=setup.lattice_kelvin,
        relaxation_time=given.pressure_relaxation_time,
        compressibility=given.compressibility,
        coupling=given.pressure_coupling,
    )


def check_cell(setup: Setup, state: State, pbc: np.ndarray) -> None:
    """Refuse atoms whose cell cannot change, if the input asks for a pressure.

    Raises
    ------
    InputError
        There is a direction that is not periodic, or an atom that is fixed.
    """
    if setup.ensemble.pressure is None:
        return
    if state.box is None or not pbc.all():
        raise InputError(
            "`ensemble/pressure` needs a structure that is periodic in three "
            f"directions. Received: {' '.join('FT'[int(x)] for x in pbc)}"
        )
    if state.fixed.any():
        raise InputError(
            "With `ensemble/pressure` all atoms move with the cell, but the structure "
            f"fixes {np.count_nonzero(state.fixed)} of them, such as atom "
            f"{np.argmax(state.fixed)}. Free them, or give no pressure."
        )


def spin_masses(
    ensemble: Ensemble, names: Sequence[str], state: State, potential: DeepSpin
) -> np.ndarray:
    """Inertia of each spin in eV fs²/μ_B², shape (nloc,), 0 where there is none."""
    given = ensemble.spin_mass
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


def spin_range_of(state: State, potential: DeepSpin) -> np.ndarray | None:
    """Moduli that the model was trained on, (nloc, 2); None if not known."""
    known = potential.metadata.get("spin_range")
    if not known:
        log.warning(
            "the model file does not tell which moduli of spins it was trained on: "
            "look at them yourself"
        )
        return None
    ranges = np.array([known.get(name, (0.0, np.inf)) for name in potential.type_map])
    return ranges[state.atype]
