# SPDX-License-Identifier: Apache-2.0
"""Frames of files and systems, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import frames, with_virtual_atoms, write

from deepspin.data.files import DataError
from deepspin.survey.frames import read_frames

ase = pytest.importorskip("ase")
ase_io = pytest.importorskip("ase.io")


def test_systems_in_either_layout(tmp_path):
    arrays, types = frames(3)
    one = write(tmp_path / "one", arrays, types)
    two = write(tmp_path / "two", *with_virtual_atoms(arrays, types), names=None)
    options = {"type_map": ["Ni", "O"], "virtual_len": [0.4], "spin_norm": [1.2737]}
    for path in (one, two):
        found = read_frames([str(path)], **options)
        assert [f.place for f in found] == [
            f"frame {k} of '{path}/set.000'" for k in range(3)
        ]
        for k, frame in enumerate(found):
            assert frame.symbols == ("Ni",) * 4 + ("O",) * 4
            assert np.array_equal(frame.coord, arrays["coord"][k])
            assert frame.cell.ravel().tolist() == arrays["box"][k].tolist()
            assert frame.arrays["spin"] == pytest.approx(arrays["spin"][k], abs=1e-12)


def test_files_of_ase(tmp_path):
    atoms = ase.Atoms("NiO", [[0, 0, 0], [1, 1, 1]], cell=[3, 3, 3], pbc=True)
    atoms.set_initial_magnetic_moments([[0, 0.6, 0.8], [0, 0, 0]])
    alone = ase.Atoms("Ni", [[0, 0, 0]])
    ase_io.write(tmp_path / "md.extxyz", [atoms, alone])
    first, second = read_frames([str(tmp_path / "md.extxyz")])
    assert first.place == f"frame 0 of '{tmp_path}/md.extxyz'"
    assert first.symbols == ("Ni", "O")
    assert first.arrays["spin"].tolist() == [[0, 0.6, 0.8], [0, 0, 0]]
    assert first.cell.tolist() == np.diag([3.0, 3, 3]).tolist()
    assert second.cell is None and "spin" not in second.arrays


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "md.extxyz").write_text("2\n\nNi 0 0\n")
    with pytest.raises(DataError, match="ASE cannot read"):
        read_frames([str(tmp_path / "md.extxyz")])
    atoms = ase.Atoms("Ni", [[0, 0, 0]])
    atoms.set_array("initial_magmoms", np.zeros((1, 3)))
    atoms.set_array("spin", np.ones((1, 3)))
    ase_io.write(tmp_path / "two.extxyz", atoms)
    with pytest.raises(DataError, match="two kinds of spins, which differ"):
        read_frames([str(tmp_path / "two.extxyz")])
