# SPDX-License-Identifier: Apache-2.0
"""Mistakes in what dynamics and relaxations begin with."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .row import Mistake, Step
from .steps import model, structure, text
from .valid import write_json

TITLE = "Dynamics and relaxation"
ABOUT = (
    "Mistakes in the input of `dp-spin md`, here `md.json`, in what was typed after "
    "`relax`, and in the structure that both begin with, `nio.xyz`: NiO with four "
    'atoms. `temperature` is 300, `ensemble/type` "nve". Atoms count from 0.'
)
MD = {
    "model": "model.keras",
    "structure": {"file": "nio.xyz"},
    "ensemble": {"type": "nve"},
    "temperature": 300.0,
    "timestep": 0.5,
    "steps": 1,
    "seed": 1,
}


def moved(did: str, says: str, given: dict, how: str = "md md.json", **more) -> Mistake:
    """A mistake in the input of dynamics or what it names; see `dynamics`."""
    shows = "\n".join(f"{p}: {json.dumps(v)}" for p, v in given.items())
    steps = dynamics(given, **more)
    return Mistake(TITLE, did, how, says, steps, shows=shows)


def relaxed(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """A mistake in a relaxation."""
    steps = (structure(), model("model.keras"), *steps)
    how = f"relax {how} -m model.keras"
    return Mistake(TITLE, did, how, says, steps)


def dynamics(given: dict, restart: dict | None = None, **changes) -> Sequence[Step]:
    """Write an input of ``dp-spin md``, what it names, and a restart file perhaps.

    Parameters
    ----------
    given : dict
        Keys of the input that are changed.
    restart : dict, optional
        The same for a run before, whose restart file is there.
    **changes
        See `structure`.
    """

    def step() -> None:
        from deepspin.main import main

        structure(**changes)()
        model("model.keras")()
        if restart is not None:
            write_json("before.json", MD | restart)
            assert main(["md", "before.json", "-o", "before.out.json"]) == 0
        write_json("md.json", MD | given)

    return (step,)


ROWS = {
    "lists of other lengths": moved(
        "Ask for three temperatures and two seeds.",
        "`seed` is [1, 2]; expected one number, or one for each of 3 replicas. The "
        "longest list of `seed` and `temperature` says how many there are.",
        {"temperature": [100, 200, 300], "seed": [1, 2]},
    ),
    "spins is no list": moved(
        "Give one rule for spins without brackets.",
        '`spins` is {"type": "Ni", "modulus": 1.2}; expected a list of objects, rules '
        "for the spins.",
        {"spins": {"type": "Ni", "modulus": 1.2}},
    ),
    "rule with a typo": moved(
        "Mistype a key in a rule for spins.",
        "`spins`, rule 1: `typ` is not a key of the input: did you mean `type`?",
        {"spins": [{"type": "Ni", "modulus": 1.2}, {"typ": "Ni"}]},
    ),
    "spiral without a wave": moved(
        "Give a spiral no wave vector.",
        "`spins`, rule 0 has an `axis` without a `wave_vector`; give both, for a "
        "spiral.",
        {"spins": [{"axis": [0, 0, 1]}]},
    ),
    "wave that does not fit": moved(
        "Give a wave vector that one cell cannot hold.",
        "`spins/0/wave_vector` is [0.5, 0, 0]; expected a wave that fits into 1 x 1 x "
        "1 cells. Change it, or `structure/repeat`.",
        {"spins": [{"wave_vector": [0.5, 0, 0]}]},
    ),
    "wave with nodes": moved(
        "Give a wave vector whose nodes are at atoms.",
        "Some spins are at the nodes of the wave of a wave vector, cos(q·R) = 0, and "
        "so on neither sublattice. Move the origin of the structure, or give an "
        "`axis`, for a spiral.",
        {
            "structure": {"file": "nio.xyz", "repeat": [2, 1, 1]},
            "spins": [{"wave_vector": [0.5, 0, 0]}],
        },
    ),
    "wave without a cell": moved(
        "Give a cluster a wave vector.",
        "A wave vector needs a periodic cell, and the structure has none. Use `atoms` "
        "of the rules of `spins`.",
        {"spins": [{"wave_vector": [1, 0, 0]}]},
        pbc="F F F",
    ),
    "copies of a cluster": moved(
        "Repeat a cluster.",
        "`structure/repeat` is [1, 1, 2]; expected 1 along directions that are not "
        "periodic.",
        {"structure": {"file": "nio.xyz", "repeat": [1, 1, 2]}},
        pbc="F F F",
    ),
    "frequency of no field": moved(
        "Give the frequency of a field, and no field.",
        "`field_frequency` needs a `field` that alternates. Give one.",
        {"field_frequency": 1.0},
    ),
    "coloured noise on its way": moved(
        "Ramp the temperature of a bath with a quantum spectrum.",
        '`ensemble/spectrum` is "quantum", which needs Langevin\'s bath at a constant '
        "temperature in a fixed cell. Change that, or `temperature`.",
        {
            "ensemble": {"type": "langevin", "spectrum": "quantum"},
            "temperature": [[0, 300], [9, 10]],
        },
    ),
    "high colour": moved(
        "Ask for coloured noise of periods shorter than two timesteps.",
        "`ensemble/spectrum_cutoff` is 2000; expected at most 1000 THz with this "
        "timestep.",
        {
            "ensemble": {
                **{"type": "langevin", "spectrum": "quantum"},
                **{"spectrum_cutoff": 2000},
            }
        },
    ),
    "chain at 0 K": moved(
        "Ask for a chain of Nosé and Hoover at 0 K.",
        "`temperature` is 0; expected above 0 K in a chain of Nosé and Hoover.",
        {"ensemble": {"type": "nose-hoover"}, "temperature": 0},
    ),
    "ramp of a field that alternates": moved(
        "Ramp a field that alternates.",
        "`field_frequency` needs a constant `field`. Received: a ramp. Give one of the "
        "two.",
        {"field": [[0, 0, 0, 1], [9, 0, 0, 5]], "field_frequency": 1.0},
    ),
    "pressure without a bath": moved(
        "Ask for a pressure without a bath of the atoms.",
        "`ensemble/relaxation_time` is null; expected a time in fs. A `pressure` needs "
        "atoms in a bath.",
        {"ensemble": {"type": "langevin", "relaxation_time": None, "pressure": 0}},
    ),
    "pressure with fixed atoms": moved(
        "Fix an atom in a cell that changes.",
        "`fixed_atoms` is [0]; expected no atoms, for all move with the cell. Give no "
        "`ensemble/pressure`.",
        {"ensemble": {"type": "langevin", "pressure": 0}, "fixed_atoms": [0]},
    ),
    "pressure on a cluster": moved(
        "Press on a cluster.",
        "`ensemble/pressure` needs a structure that is periodic in three directions. "
        "Received: F F F",
        {"ensemble": {"type": "langevin", "pressure": 1.0}},
        pbc="F F F",
    ),
    "one file for two": moved(
        "Give log and restart file the same name.",
        '`output` is ["a.npz", null, "a.npz"]; expected three different files.',
        {"output": {"log": "a.npz", "trajectory": None, "restart": "a.npz"}},
    ),
    "no structure": moved(
        "Mistype the structure's file.",
        "No structure: 'noi.xyz' does not exist.",
        {"structure": {"file": "noi.xyz"}},
    ),
    "element of no type": moved(
        "Begin with an element that the model does not know.",
        "'nio.xyz' has atoms of Fe; the model knows Ni, O. Take a model that knows all "
        "of them.",
        {},
        symbols="Fe Ni O O",
    ),
    "no moments": moved(
        "Begin with atoms without moments.",
        "The structure has no spins, but atoms of Ni need them. Add a column "
        "initial_magmoms:R:3 in μ_B to an extended XYZ file, or say "
        "atoms.set_initial_magnetic_moments(...) in ASE before writing it, or give "
        "rules in `spins` of the input.",
        {},
        spin=None,
    ),
    "half of the moments": moved(
        "Give moments without directions.",
        "The structure has no spins, and no rule of `spins` gives atom 0 of the file "
        "(Ni) both a modulus and a direction.",
        {"spins": [{"type": "Ni", "modulus": 1.2}]},
        spin=None,
    ),
    "frame that is not there": moved(
        "Begin with a frame that is not there.",
        "ASE cannot read frame 7 of 'nio.xyz': {...}",
        {"structure": {"file": "nio.xyz", "frame": 7}},
    ),
    "frame that is not in the data": moved(
        "Begin with a frame that the data does not have.",
        "'data' has 2 frames. Received: 7",
        {"structure": {"file": "data", "frame": 7}},
    ),
    "atom that is not there": moved(
        "Fix an atom that is not there.",
        "There is no atom 4: the file has 4, counted from 0.",
        {"fixed_atoms": [4]},
    ),
    "mass of another element": moved(
        "Give the mass of an element that is not there.",
        "`masses` names Fe; the types of the model are Ni, O.",
        {"masses": {"Fe": 55.8}},
    ),
    "rule for another element": moved(
        "Give a rule for spins of another element.",
        '`spins/0/type` is "Fe"; expected one of Ni, O.',
        {"spins": [{"type": "Fe", "modulus": 2.2}]},
    ),
    "inertia of atoms without spin": moved(
        "Give the inertia of spins for the wrong type.",
        '`ensemble/spin_mass` is {"O": 1.0}; expected masses of Ni.',
        {"ensemble": {"type": "tspin", "spin_mass": {"O": 1.0}}},
    ),
    "inertia without spins": moved(
        "Move moduli where there are no spins.",
        'The structure has no atoms with spin, which the ensemble "tspin" is for.',
        {"ensemble": {"type": "tspin", "spin_mass": 1.0}},
        symbols="O O O O",
    ),
    "restart of fewer replicas": moved(
        "Go on with more temperatures than there were.",
        "The restart file has 1 replicas, the input 2. Give as many temperatures, or "
        "seeds.",
        {"temperature": [300.0, 400.0]},
        "md md.json -r md.restart.npz",
        restart={},
    ),
    "restart of another ensemble": moved(
        "Go on with moduli that did not move before.",
        'The restart file is of another ensemble, the input asks for "tspin". Begin '
        "anew, with the last frame as `structure`.",
        {"ensemble": {"type": "tspin", "spin_mass": 1.0}},
        "md md.json -r md.restart.npz",
        restart={},
    ),
    "damaged restart": Mistake(
        TITLE,
        "Go on from a file that is no restart file.",
        "md md.json -r bad.npz",
        "'bad.npz' is damaged, or no restart file of dp-spin md (File is not a zip "
        "file). Go on from another one, or begin anew.",
        [*dynamics({}), text("bad.npz", "no")],
    ),
    "axis of free spins": relaxed(
        "Give an axis to spins that may turn.",
        "nio.xyz --axis 0 0 1",
        "--axis takes 3 numbers, not all 0, and goes with --spins collinear. Received: "
        "0 0 1 with --spins directions",
    ),
    "axis across the spins": relaxed(
        "Lay collinear spins along an axis that is perpendicular to them.",
        "nio.xyz --spins collinear --axis 1 0 0",
        "The spin of atom 0 is perpendicular to its axis, so it has no sign. Turn it a "
        "little, or choose another axis.",
    ),
    "no starts": relaxed(
        "Ask for no starts.",
        "nio.xyz --starts 0",
        "--starts must be 1 or more, --steps and --seed not negative. Received: 0, "
        "1000, 0",
    ),
    "starts of fixed spins": relaxed(
        "Ask for many starts with spins that are fixed.",
        "nio.xyz --starts 3 --spins fixed",
        "--starts needs spins that may change. Received: none",
    ),
    "limit of zero": relaxed(
        "Ask for forces of exactly 0.",
        "nio.xyz --fmax 0",
        "--fmax, --tmax and --smax must be above 0. Received: 0 0.0001 0.01",
    ),
    "pressure on a fixed cell": relaxed(
        "Press on a cell that may not change.",
        "nio.xyz --pressure 5",
        "--pressure takes a finite number of GPa, and goes with --cell. Received: 5 "
        "without --cell",
    ),
    "atoms to fix": relaxed(
        "Fix an atom that is not there.",
        "nio.xyz --fix-atoms 9",
        "--fix-atoms takes numbers from 0 to 3, ranges such as 0-3, types (Ni, O) or "
        "all. Received: 9",
    ),
    "cell of a cluster": relaxed(
        "Relax the cell of a cluster.",
        "cluster.xyz --cell",
        "--cell takes structures that are periodic in three directions. Received: F F "
        "F",
        structure(pbc="F F F", name="cluster.xyz"),
    ),
    "structure without spins to write": relaxed(
        "Write to a file that cannot hold spins.",
        "nio.xyz -o relaxed.vasp",
        "'relaxed.vasp' must end in .extxyz, .xyz, .traj: these formats hold spins.",
    ),
    "nothing to relax": relaxed(
        "Fix everything.",
        "nio.xyz --fix-atoms all --spins fixed",
        "Nothing may change: positions, spins and cell are fixed. Free some.",
    ),
    "structure to relax": relaxed(
        "Mistype the structure to relax.",
        "noi.xyz",
        "No structure: 'noi.xyz' does not exist.",
    ),
}
