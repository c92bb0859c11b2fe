# SPDX-License-Identifier: Apache-2.0
"""Deviations of models as they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawings import (
    DEVIATIONS,
    MAGNETIC,
    boxes,
    legend,
    panels,
    relaxation,
)

from deepspin.pictures import plots

OURS = ["max_devi_fm", "min_devi_fm", "avg_devi_fm"]


def deviations(path, names, systems, seed=0):
    """Write a block for each system (name, frames, atoms); returns columns by name."""
    rng = np.random.default_rng(seed)
    blocks = []
    with open(path, "w") as file:
        for system, frames, atoms in systems:
            wide = [atoms if name.startswith("atm") else 1 for name in names]
            values = np.round(rng.uniform(1e-4, 0.1, (frames, sum(wide))), 8)
            values = np.column_stack([10.0 * np.arange(frames), values])
            if system:
                file.write(f"# {system}\n")
            file.write(f"#{'step':>11s} " + " ".join(names) + "\n")
            np.savetxt(file, values, fmt="%.8g")
            first = np.cumsum([1, *wide[:-1]])
            found = dict(zip(names, values[:, first].T, strict=True))
            blocks.append({"step": values[:, 0], **found})
    return blocks


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        ([*DEVIATIONS, *OURS], ["force", "magnetic force", "energy", "virial"]),
        (DEVIATIONS, ["force", "energy", "virial"]),
        ([*DEVIATIONS[:-1], "atm_devi_f(N)"], ["force", "virial"]),
        (
            [n.replace("devi_f", "devi_fr") for n in DEVIATIONS[:-1]] + OURS,
            ["force", "magnetic force", "virial"],
        ),
    ],
    ids=["ours", "DeePMD-kit's", "of atoms", "of LAMMPS"],
)
def test_deviations_are_the_file(figure, names, titles):
    (block,) = deviations("md.out", names, [("data/a", 7, 4)])
    block = {name.replace("devi_fr", "devi_f"): v for name, v in block.items()}
    picture = figure("md.out")
    axes = panels(picture)
    assert list(axes) == titles
    units = {"force": "eV/Å", "magnetic force": MAGNETIC}
    for title, axis in axes.items():
        assert axis.get_ylabel() == f"deviation ({units.get(title, 'eV/atom')})"
        assert (axis.get_xlabel(), axis.get_yscale()) == ("step", "log")
        name = {"force": "f", "magnetic force": "fm", "virial": "v"}.get(title)
        strong, weak = (f"max_devi_{name}", f"avg_devi_{name}")
        found = {line.get_alpha(): line.get_xydata() for line in axis.lines}
        np.testing.assert_array_equal(found[1.0][:, 0], block["step"])
        if title == "energy":
            np.testing.assert_array_equal(found[1.0][:, 1], block["devi_e"])
            assert len(found) == 1
        else:
            np.testing.assert_array_equal(found[1.0][:, 1], block[strong])
            np.testing.assert_array_equal(found[0.4][:, 1], block[weak])
    assert legend(picture) == ["largest", "mean"]


def test_deviations_of_atoms_without_names(figure):
    """As LAMMPS' option `atomic` appends them."""
    names = [n.replace("devi_f", "devi_fr") for n in DEVIATIONS[:-1]] + OURS
    (block,) = deviations("md.out", names, [("", 3, 0)])
    lines = Path("md.out").read_text().splitlines()
    more = [f"{line} 0.1 0.2" for line in lines[1:]]
    Path("md.out").write_text("\n".join([lines[0], *more, ""]))
    axis = panels(figure("md.out"))["magnetic force"]
    found = {line.get_alpha(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(found[1.0], block["max_devi_fm"])
    np.testing.assert_array_equal(found[0.4], block["avg_devi_fm"])


def test_deviations_of_systems(figure):
    """One after the other, whatever their numbers of atoms; files side by side."""
    names = [*DEVIATIONS, "atm_devi_f(N)", *OURS, "atm_devi_fm(N)"]
    systems = [("data/a", 3, 4), ("data/b#/c", 2, 6)]
    blocks = deviations("md.out", names, systems)
    picture = figure("md.out")
    assert legend(picture) == ["a", "b#/c", "largest", "mean"]
    axis = panels(picture)["magnetic force"]
    strong = [line.get_xydata() for line in axis.lines if line.get_alpha() == 1]
    assert axis.get_xlabel() == "frame"
    for points, block, place in zip(strong, blocks, ([0, 1, 2], [3, 4]), strict=True):
        np.testing.assert_array_equal(points[:, 0], place)
        np.testing.assert_array_equal(points[:, 1], block["max_devi_fm"])
    deviations("other.out", DEVIATIONS, [("", 4, 0)])
    both = figure("md.out", "other.out", "--labels", "old", "new")
    assert legend(both) == ["old", "new", "largest", "mean"]
    assert {line.get_color() for line in panels(both)["force"].lines} == set(
        plots.COLORS[:2]
    )


@pytest.mark.parametrize("kind", ["relaxation", "deviations"])
def test_other_labels_do_not_overlap(figure, kind):
    if kind == "relaxation":
        relaxation("a.log", nrep=12)
    else:
        systems = [(f"data/{'long' * 9}-{k}", 3, 2) for k in range(5)]
        deviations("a.log", [*DEVIATIONS, *OURS], systems)
    for group in boxes(figure("a.log")):
        for k, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:k])
