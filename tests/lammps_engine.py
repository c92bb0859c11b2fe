# SPDX-License-Identifier: Apache-2.0
"""Evaluate models or run dynamics in LAMMPS' parts of a cell, where it is installed.

    mpirun -n 2 python lammps_engine.py jobs.json

A job is a list of words: `md FOLDER ARGUMENTS...` runs `dp-spin md` in a folder, with
LAMMPS; `fields MODEL GIVEN ANSWER` evaluates the model twice for the npz file GIVEN,
which holds `coord`, `spin`, `atype`, `pbc`, and `box` and `fparam` perhaps; `broken
MODEL GIVEN ANSWER` does so too, but the last process fails in between.
"""

import json
import os
import sys
import traceback

import numpy as np

from deepspin.dynamics.core.fields import ModelFields
from deepspin.dynamics.md import crew as module
from deepspin.dynamics.md.lammps import LammpsFields
from deepspin.main import main

FIELDS = ("energy", "force", "force_mag", "virial")


def evaluate(name, model, given, answer, crew):
    from deepspin.env import start_tensorflow

    start_tensorflow()
    from deepspin import DeepSpin

    with np.load(given) as file:
        case = dict(file)
    coord, spin = case.pop("coord"), case.pop("spin")
    box = case.pop("box", None)
    inner = ModelFields(DeepSpin(model), case.pop("atype"), box, **case)
    fields = LammpsFields(crew, inner)
    first = fields(coord, spin)
    fields(coord[::-1] + 0.3, spin)
    again = fields(coord, spin)
    found = {key: getattr(first, key) for key in FIELDS}
    for key, value in found.items():
        np.testing.assert_array_equal(getattr(again, key), value)
    np.savez(answer, **found)


def break_down(crew):
    """Have this process fail at its next evaluation."""
    module.PATIENCE = 0.5

    def fail(*args):
        raise MemoryError("no memory")

    module.Decomposition.respond = fail


def run(job):
    if job[0] == "md":
        os.chdir(job[1])
        assert main(["md", *job[2:], "--engine", "lammps"]) == 0
        return
    with module.Crew() as crew:
        if job[0] == "broken" and crew.comm.rank == crew.size - 1:
            break_down(crew)
        if crew.first:
            evaluate(*job, crew)
        else:
            crew.serve()


try:
    with open(sys.argv[1]) as file:
        for one in json.load(file):
            run(one)
except BaseException:  # the others would wait for this process
    traceback.print_exc()
    os._exit(1)
