# SPDX-License-Identifier: Apache-2.0
"""How well dynamics without baths conserve energy and moduli, and run back in time.

    python benchmarks/drift.py MODEL --structure examples/NiO/md/nio.extxyz

Antiferromagnetic NiO is brought to a temperature by baths, and goes on without them
from there, by ``dp-spin md``. Three parts, each printed as soon as it is known:

order       the same fraction of a picosecond with several timesteps: the swing of the
            energy must go with the square of the timestep
reversal    forwards and backwards again, with spins converged to rounding
drift       the slope of the energy over a long run, with its error from the slopes of
            its tenths; and the largest change of a modulus
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import sys
from pathlib import Path

import h5py
import numpy as np

from deepspin.dynamics.md.options import normalize_md
from deepspin.env import start_tensorflow

WARM_UP = 1000  # fs, in baths
WARM = "bath.restart.npz"
SHORT = 100.0  # fs, of the runs that show the order
REVERSED = 250  # steps, each way


def main() -> None:
    """Run all three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--structure", required=True, help="cubic cell of NiO")
    parser.add_argument("--repeat", type=int, nargs=3, default=[2, 4, 4])
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--timesteps", type=float, nargs="+", default=[0.4, 0.2, 0.1])
    parser.add_argument("--timestep", type=float, default=0.2, help="of the long run")
    parser.add_argument("--time", type=float, default=50.0, help="ps, of the long run")
    parser.add_argument("--folder", default="drift", help="where runs are written")
    args = parser.parse_args()
    args.model, args.structure = map(os.path.abspath, (args.model, args.structure))
    Path(args.folder).mkdir(exist_ok=True)
    os.chdir(args.folder)
    start_tensorflow()
    warm_up(args)
    show_order(args)
    show_reversal(args)
    show_drift(args)


def given(args: argparse.Namespace, name: str, timestep: float, time: float) -> dict:
    """Input of a run of `time` fs without baths, from the warm atoms."""
    every = max(round(2 / timestep), 1)
    return {
        "model": args.model,
        "structure": {"file": args.structure, "repeat": args.repeat},
        "spins": [
            {
                "type": "Ni",
                "modulus": 1.2737,
                "direction": [1, 1, -2],
                "wave_vector": [0.5, 0.5, 0.5],
            }
        ],
        "ensemble": {"type": "nve"},
        "temperature": args.temperature,
        "timestep": timestep,
        "steps": round(time / timestep),
        "seed": 1,
        "output": {
            "log": f"{name}.log",
            "log_freq": every,
            "trajectory": f"{name}.h5",
            "trajectory_freq": 50 * every,
            "restart": f"{name}.restart.npz",
        },
    }


def warm_up(args: argparse.Namespace) -> None:
    """Bring the atoms to the temperature, unless an earlier run has."""
    from deepspin.dynamics.md.run import run

    if not Path(WARM).exists():
        options = given(args, "bath", 0.5, WARM_UP)
        baths = {"type": "langevin", "relaxation_time": 50.0, "damping": 0.1}
        run(normalize_md({**options, "ensemble": baths}), output="bath.json")


def start(args: argparse.Namespace, timestep: float):
    """Warm atoms and the integrator."""
    from deepspin.dynamics.md.build import build_fields, build_integrator
    from deepspin.dynamics.md.restart import RestartFile
    from deepspin.dynamics.md.settings import MdSettings
    from deepspin.infer.deep_spin import DeepSpin

    setup = MdSettings.of(normalize_md(given(args, "nve", timestep, SHORT))).setup
    potential = DeepSpin(args.model)
    warm = RestartFile.load(WARM)
    state = warm.state
    state.forget()
    fields = build_fields(setup, potential, state, warm.structure.pbc)
    return state, build_integrator(setup, fields, state, potential)


def energy_of(state, integrator) -> float:
    """Energy of the first replica in eV per atom."""
    from deepspin.dynamics.core.observables import kinetic_energy

    found = integrator.fields(state.coord, state.spin, state.time)
    return float((found.energy + kinetic_energy(state))[0] / state.nloc)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_order(args: argparse.Namespace) -> None:
    """Print the swing of the energy by timesteps."""
    before = None
    for timestep in args.timesteps:
        state, integrator = start(args, timestep)
        steps = round(SHORT / timestep)
        energies = [energy_of(state, integrator)]
        for step in range(steps):
            integrator.step(state)
            if step % 10 == 9:
                energies.append(energy_of(state, integrator))
        swing = np.std(energies)
        per_step = integrator.evaluations / steps
        ratio = "" if before is None else f", 1/{before / swing:.2f} of the one before"
        say(
            f"order: {timestep:g} fs: energy swings by {swing:.2e} eV/atom rms{ratio}; "
            f"{per_step:.2f} evaluations a step",
        )
        before = swing


def show_reversal(args: argparse.Namespace) -> None:
    """Print how far from the start a way there and back ends."""
    from deepspin.dynamics.core.integrators import Integrator

    state, integrator = start(args, args.timestep)
    begin = copy.deepcopy(state)
    for sign in (1, -1):
        state.forget()
        back = Integrator(integrator.fields, sign * args.timestep, tolerance=1e-13)
        for _ in range(REVERSED):
            back.step(state)
        if sign == 1:
            far = np.abs(state.coord - begin.coord).max()
    coord, spin = (
        np.abs(getattr(state, name) - getattr(begin, name)).max()
        for name in ("coord", "spin")
    )
    say(
        f"reversal: {REVERSED} steps of {args.timestep:g} fs take an atom {far:.2f} Å "
        f"away; back again all are at the start to {coord:.1e} Å and {spin:.1e} μ_B",
    )


def show_drift(args: argparse.Namespace) -> None:
    """Print the slope of the energy, and how moduli change."""
    from deepspin.dynamics.md.run import run

    options = given(args, "nve", args.timestep, 1000 * args.time)
    options["steps"] += round(WARM_UP / 0.5)  # those of the bath count
    restart = "nve.restart.npz" if Path("nve.restart.npz").exists() else WARM
    with contextlib.suppress(KeyboardInterrupt):  # what there is by then is shown
        run(normalize_md(options), restart=restart, output="nve.json")
    table = np.loadtxt("nve.log")
    with h5py.File("nve.h5") as file:
        spin = file["spin"][:]
    nloc, time, energy = spin.shape[2], table[:, 2], table[:, 3]
    modulus = np.linalg.norm(spin, axis=-1)
    change = np.abs(modulus - modulus[0]).max() / modulus.max()
    slope = np.polyfit(time, energy / nloc, 1)[0]
    tenths = [
        np.polyfit(t, e / nloc, 1)[0]
        for t, e in zip(*(np.array_split(x, 10) for x in (time, energy)), strict=True)
    ]
    evaluations = (table[-1, -1] - table[0, -1]) / (table[-1, 0] - table[0, 0])
    error = np.std(tenths) / np.sqrt(len(tenths) - 1)
    say(
        f"drift: {slope:.2e} eV/atom/ps over {np.ptp(time):.2f} ps, {nloc} atoms, "
        f"{args.timestep:g} fs (tenths: {np.mean(tenths):.1e} ± {error:.1e}); "
        f"swing {energy.std() / nloc:.1e} eV/atom; moduli change by {change:.1e} at "
        f"most; {evaluations:.2f} evaluations a step",
    )


if __name__ == "__main__":
    main()
