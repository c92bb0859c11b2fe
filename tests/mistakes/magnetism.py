# SPDX-License-Identifier: Apache-2.0
"""Mistakes on the way from a model to exchange, spin waves and spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .row import Mistake, Step
from .steps import cut, model, structure

TITLE = "Exchange and spin waves"
ABOUT = (
    "Mistakes with `exchange`, `magnons` and `spectrum`. `exchange.json` has one Fe "
    "with six neighbours, `md.h5` is a trajectory of 20 frames."
)


def done(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """A mistake with these verbs."""
    return Mistake(TITLE, did, how, says, steps)


def exchange(box: bool = True, torque: float = 0.0) -> Step:
    """What ``dp-spin exchange`` writes."""

    def step() -> None:
        from spin_models import CUBE, lattice

        from deepspin.analysis.files import Saved, save_exchange
        from deepspin.analysis.hamiltonian import Exchange

        h = lattice(CUBE, 0.01)
        curvature = replace(h.curvature(), torque=np.array([[torque, 0.0, 0.0]]))
        found = Exchange(hamiltonian=h, curvature=curvature, modulus_force=np.zeros(1))
        cell = h.sites.box if box else None
        save_exchange("exchange.json", Saved(exchange=found, cell=cell, models=()))

    return step


def trajectory(nframes: int = 20, spin: float = 1.0, power: float = 1.0) -> Step:
    """What ``dp-spin md`` writes."""

    def step() -> None:
        import h5py

        with h5py.File("md.h5", "w") as file:
            file["type_map"], file["atype"] = np.array(["Fe"], dtype="S"), [0]
            file["step"] = np.arange(nframes)
            file["time"] = np.arange(nframes) ** power
            file["coord"] = np.zeros((nframes, 1, 1, 3))
            file["spin"] = np.full((nframes, 1, 1, 3), spin)
            file["box"] = 4 * np.eye(3)

    return step


ROWS = {
    "exchange without spins": done(
        "asked for exchange between atoms that have no spin",
        "exchange nio.xyz -m model.keras",
        "The structure has no atoms with spin, so there is no exchange. The "
        "model has spins on Ni.",
        structure("O O O O"),
        model("model.keras"),
    ),
    "exchange for a program": done(
        "exchange for a program that is not known",
        "exchange nio.xyz -m model.keras --export vasp",
        "Spin Hamiltonians are not written for vasp; they are for tb2j, "
        "uppasd, vampire, spirit, spinw, sunny.",
        structure("Ni Ni O O"),
        model("model.keras"),
    ),
    "exchange shells": done(
        "no shells",
        "exchange nio.xyz -m model.keras --shells 0",
        "--shells must be at least 1. Received: 0",
    ),
    "exchange beyond": done(
        "too few states to tell how far exchange holds",
        "exchange nio.xyz -m model.keras --beyond 2",
        "--beyond needs 8 states or more. Received: 2",
    ),
    "exchange tolerance": done(
        "shells that are no distance wide",
        "exchange nio.xyz -m model.keras --tolerance 0",
        "--tolerance must be a distance above 0 in Å. Received: 0",
    ),
    "magnons without a file": done(
        "spin waves of a file that is not there",
        "magnons exchange.json",
        "'exchange.json' does not exist, or is no file. `dp-spin exchange "
        "STRUCTURE -m MODEL` writes it.",
    ),
    "magnons of half a file": done(
        "spin waves of a file that is cut",
        "magnons exchange.json",
        "'exchange.json' is no whole file of `dp-spin exchange`, of the "
        "format 'deepspin exchange 1': JSONDecodeError: {...}. Write it "
        "again.",
        exchange(),
        cut("exchange.json", 300),
    ),
    "magnons of a state that turns": done(
        "spin waves about a state that is not at rest",
        "magnons exchange.json",
        "The state is not stationary: magnetic forces across the spins up "
        "to 0.01 eV/μ_B (site 0, 0.001 allowed), and spin waves are those "
        "about a state at rest. Relax it with `dp-spin relax`, or allow for "
        "more with --tmax.",
        exchange(torque=0.02),
    ),
    "magnons of a molecule": done(
        "spin waves of a molecule",
        "magnons exchange.json",
        "The structure is not periodic, so its spin waves have no wave "
        "vector and no path. `dp-spin exchange` of a periodic one is "
        "needed.",
        exchange(box=False),
    ),
    "magnons of no moment": done(
        "a moment without its type",
        "magnons exchange.json --moment 2",
        "--moment takes TYPE=MOMENT with a moment above 0 in μ_B and one of "
        "the types Fe. Received: 2",
        exchange(),
    ),
    "magnons along letters": done(
        "a path of points that the lattice lacks",
        "magnons exchange.json --path GQ",
        "--path GQ is no path of this lattice, whose special points are G, M, R, X.",
        exchange(),
    ),
    "magnons along a point": done(
        "a path of one point",
        "magnons exchange.json --path 0,0,0",
        "--path needs two corners or more. Received: 0,0,0",
        exchange(),
    ),
    "magnons along two numbers": done(
        "a corner of a path with two numbers",
        "magnons exchange.json --path 0,0 1,1",
        "--path takes wave vectors as three numbers each, such as "
        "0.5,0.5,0.5, or one word of names such as GXWKGL. Received: 0,0",
        exchange(),
    ),
    "magnons nowhere": done(
        "a path whose corners are the same",
        "magnons exchange.json --path 0,0,0 0,0,0",
        "--path leads nowhere: all its corners are the same.",
        exchange(),
    ),
    "spectrum without a file": done(
        "a spectrum of a file that is not there",
        "spectrum md.h5",
        "There is no file 'md.h5'.",
    ),
    "spectrum of few frames": done(
        "a spectrum of few frames",
        "spectrum md.h5",
        "'md.h5' has 5 frames after 0 ps; a spectrum needs 16 or more.",
        trajectory(5),
    ),
    "spectrum of uneven frames": done(
        "a spectrum of frames that are not evenly spaced",
        "spectrum md.h5",
        "Frames of 'md.h5' are 1 to 6.45155 fs apart, and a spectrum needs "
        "even steps. Write it in one run, or leave out its beginning with "
        "--skip.",
        trajectory(power=1.5),
    ),
    "spectrum of no spins": done(
        "a spectrum where nothing has a spin",
        "spectrum md.h5",
        "'md.h5' has no spins.",
        trajectory(spin=0),
    ),
    "spectrum of a wave that does not fit": done(
        "a wave vector that does not fit into the cell",
        "spectrum md.h5 --q 0.4,0,0",
        "The wave vector (0.6283, 0.0000, 0.0000) 1/Å does not fit into the "
        "cell of the trajectory; the nearest that does is (0.0000, 0.0000, "
        "0.0000) 1/Å.",
        trajectory(),
    ),
    "spectrum in pieces": done(
        "more parts than a trajectory has",
        "spectrum md.h5 --segments 9",
        "9 segments of 20 frames have 4 frames each, and 16 are needed. Take fewer.",
        trajectory(),
    ),
    "spectrum of the future": done(
        "a time to skip that is negative",
        "spectrum md.h5 --skip=-1",
        "--skip must be a time of 0 ps or more. Received: -1",
        trajectory(),
    ),
}
