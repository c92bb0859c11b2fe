# SPDX-License-Identifier: Apache-2.0
"""Predictions against labels, from the files of ``dp-spin test -d detail``.

Needs matplotlib: ``python plot.py se_e2_a/detail -o ../../doc/nio.png``
"""

from __future__ import annotations

import argparse

import matplotlib.pyplot as plt
import numpy as np

PANELS = (("fr", "force", "eV/Å"), ("fm", "magnetic force", "eV/μ$_B$"))


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detail", help="prefix given to dp-spin test -d")
    parser.add_argument("-o", "--output", default="nio.png")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    for axis, (suffix, name, unit) in zip(axes, PANELS, strict=True):
        label, pred = np.split(np.loadtxt(f"{args.detail}.{suffix}.out"), 2, axis=1)
        rmse = np.sqrt(np.mean((label - pred) ** 2))
        ends = [min(label.min(), pred.min()), max(label.max(), pred.max())]
        axis.plot(ends, ends, color="0.7", lw=1)
        axis.plot(label.ravel(), pred.ravel(), ".", ms=2, alpha=0.6, color="#2a5caa")
        axis.set(
            xlabel=f"exact {name} ({unit})",
            ylabel=f"predicted {name} ({unit})",
            title=f"rmse {rmse:.3f} {unit}",
            aspect="equal",
        )
    figure.savefig(args.output, dpi=120)


if __name__ == "__main__":
    main()
