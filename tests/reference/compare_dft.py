#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Compare deepspin with what `make_dft_reference.py` wrote: one line for each case.

    python tests/reference/compare_dft.py DIR

DIR is the ``--out`` of that script. The figures are the largest difference over the
largest value, in float64.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from deepspin import DeepSpin

NAMES = {
    "energy": "energy",
    "atom_energy": "atom_ener",
    "force": "force",
    "force_mag": "force_mag",
    "virial": "virial",
    "atom_virial": "atom_virial",
}


def compare(case: Path) -> dict[str, float]:
    """Relative differences by name."""
    model = case.with_suffix(".pb")
    if not model.is_file():  # other frames for the model "full"
        model = case.with_name("full.pb")
    with np.load(case) as file:
        theirs = dict(file)
    ours = DeepSpin(model).eval(
        theirs["coord"], theirs.get("box"), theirs["atype"], theirs["spin"]
    )
    return {
        name: float(np.abs(ours[own] - theirs[name]).max() / np.abs(theirs[name]).max())
        for name, own in NAMES.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    cases = sorted(folder.glob("*.npz"))
    if not cases:
        raise SystemExit(f"no .npz in '{folder}': run make_dft_reference.py first")
    sys.stdout.write(f"{'case':<18}" + "".join(f"{n:>13}" for n in NAMES) + "\n")
    for case in cases:
        row = "".join(f"{value:13.0e}" for value in compare(case).values())
        sys.stdout.write(f"{case.stem:<18}{row}\n")


if __name__ == "__main__":
    main()
