# SPDX-License-Identifier: Apache-2.0
"""What dpdata reads, read through it."""

import sys

import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.formats import through_dpdata

POSCAR = """made by hand
1.0
4.0 0.0 0.0
0.0 5.0 0.0
1.0 0.0 6.0
Ni O
1 1
Cartesian
0.5 0.0 0.0
1.0 2.0 3.0
"""
LAMMPS = """LAMMPS data file

2 atoms
2 atom types
0.0 4.0 xlo xhi
0.0 5.0 ylo yhi
0.0 6.0 zlo zhi
0.0 0.0 0.0 xy xz yz

Atoms # spin

1 2 0.5 0.0 0.0 0.6 0.8 0.0 5.0
2 1 1.0 2.0 3.0 0.0 0.0 1.0 0.5
"""


def test_a_format_without_labels(tmp_path):
    pytest.importorskip("dpdata")
    (tmp_path / "POSCAR").write_text(POSCAR)
    (frame,) = through_dpdata.read(tmp_path / "POSCAR", "vasp/poscar")
    assert frame.symbols == ("Ni", "O")
    np.testing.assert_allclose(frame.coord, [[0.5, 0, 0], [1, 2, 3]])
    np.testing.assert_allclose(frame.cell, [[4, 0, 0], [0, 5, 0], [1, 0, 6]])
    assert frame.arrays == {}


def test_spins(tmp_path):
    """Moduli times directions; types without names are numbers."""
    pytest.importorskip("dpdata")
    (tmp_path / "a.lmp").write_text(LAMMPS)
    (frame,) = through_dpdata.read(tmp_path / "a.lmp", "lammps/lmp")
    assert frame.symbols == ("2", "1")
    np.testing.assert_allclose(frame.arrays["spin"], [[3, 4, 0], [0, 0, 0.5]])


def test_what_dpdata_cannot_read(tmp_path):
    pytest.importorskip("dpdata")
    (tmp_path / "a").write_text("nothing")
    with pytest.raises(DataError, match=r"no format 'vasp'. It has .*vasp/outcar"):
        list(through_dpdata.read(tmp_path / "a", "vasp"))
    with pytest.raises(DataError, match=r"dpdata cannot read .* as vasp/poscar: "):
        list(through_dpdata.read(tmp_path / "a", "vasp/poscar"))


def test_without_dpdata(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dpdata", None)
    with pytest.raises(ImportError, match=r"pip install dpdata"):
        list(through_dpdata.read(tmp_path / "a", "vasp/poscar"))
