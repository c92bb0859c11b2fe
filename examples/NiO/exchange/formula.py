#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exchange and spin waves of a model beside the formula of the example data.

``python formula.py exchange.json`` compares what ``dp-spin exchange`` wrote with the
couplings of `../data/exchange.json`, on the same cell.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepspin.analysis.files import load_exchange
from deepspin.analysis.hamiltonian import SpinHamiltonian
from deepspin.analysis.magnons import magnons
from deepspin.analysis.ordering import ordering
from deepspin.analysis.paths import path_of

FORMULA = Path(__file__).resolve().parents[1] / "data" / "exchange.json"


def formula(hamiltonian: SpinHamiltonian, shells: list[dict]) -> SpinHamiltonian:
    """Couplings of the formula at the places of the model's."""
    length = np.linalg.norm(hamiltonian.pairs.vectors(hamiltonian.sites), axis=1)
    j = np.zeros_like(length)
    for shell in shells:
        j[np.abs(length - shell["r"]) < 0.01] = shell["J"]
    return replace(hamiltonian, tensor=j[:, None, None] * np.eye(3))


def main(file: str) -> None:
    """Print couplings, temperatures and spin waves of both."""
    saved = load_exchange(file)
    ours = saved.exchange.hamiltonian
    known = json.loads(FORMULA.read_text(encoding="utf-8"))
    exact = formula(ours, known["shells"])
    rows = [
        (f"J_{k + 1} (meV)", 1e3 * one.exchange, 1e3 * two.exchange)
        for k, (one, two) in enumerate(
            zip(ours.shells()[:2], exact.shells()[:2], strict=True)
        )
    ]
    one, two = ordering(ours), ordering(exact)
    rows += [
        ("mean field (K)", one.mean_field, two.mean_field),
        ("random phases (K)", one.rpa, two.rpa),
    ]
    way = path_of(saved.cell, None, 200)
    waves = way.within(ours.sites.box)
    model = magnons(saved.exchange.curvature, waves).energy
    both = magnons(exact.curvature(), waves).energy
    rows.append(("highest spin wave (meV)", 1e3 * model.max(), 1e3 * both.max()))
    sys.stdout.write(f"{'':<26}{'model':>10}{'formula':>10}\n")
    for name, a, b in rows:
        sys.stdout.write(f"{name:<26}{a:10.3f}{b:10.3f}\n")
    away = np.abs(model - both)
    sys.stdout.write(
        f"spin waves along the path differ by {1e3 * away.mean():.3f} meV on average, "
        f"{1e3 * away.max():.3f} meV at most\n"
    )
    steep = both > 0.05 * both.max()
    sys.stdout.write(
        f"those above 5 % of the highest by {100 * (away / both)[steep].max():.2f} % "
        "at most\n"
    )


if __name__ == "__main__":
    main(sys.argv[1])
