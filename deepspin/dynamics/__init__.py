# SPDX-License-Identifier: Apache-2.0
"""How atoms and spins move: spin-lattice dynamics of replicas of one system.

The building blocks of programs of your own. Only a model imports TensorFlow.
`deepspin.dynamics.relax` has relaxations, `deepspin.dynamics.core.observables` and
`deepspin.atoms.waves` measurements, `deepspin.atoms.units` the units.
"""

from deepspin.atoms.structures import Structure, load_structure, save_structure
from deepspin.dynamics.core.barostat import CellRescaling
from deepspin.dynamics.core.baths import Gilbert, Langevin
from deepspin.dynamics.core.chains import NoseHoover
from deepspin.dynamics.core.fields import Fields, ModelFields, Response, Zeeman
from deepspin.dynamics.core.integrators import Integrator
from deepspin.dynamics.core.quantum import QuantumBath
from deepspin.dynamics.core.ramps import Ramp
from deepspin.dynamics.core.state import DynamicsError, State, thermal_velocity
from deepspin.dynamics.core.tspin import InertialIntegrator, thermal_spin_velocity
from deepspin.dynamics.relax.manifold import Freedom
from deepspin.dynamics.thermo.hybrid import HybridMonteCarlo
from deepspin.dynamics.thermo.sampling import LangevinSampler

__all__ = [
    "CellRescaling",
    "DynamicsError",
    "Fields",
    "Freedom",
    "Gilbert",
    "HybridMonteCarlo",
    "InertialIntegrator",
    "Integrator",
    "Langevin",
    "LangevinSampler",
    "ModelFields",
    "NoseHoover",
    "QuantumBath",
    "Ramp",
    "Response",
    "State",
    "Structure",
    "Zeeman",
    "load_structure",
    "save_structure",
    "thermal_spin_velocity",
    "thermal_velocity",
]
