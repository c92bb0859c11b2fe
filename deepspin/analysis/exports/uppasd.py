# SPDX-License-Identifier: Apache-2.0
"""Files of UppASD: inpsd.dat, posfile, momfile, jfile and kfile.

With anything but isotropic exchange the jfile has whole tensors (``do_jtensor 1``,
``calc_jtensor F``). Vectors of Dzyaloshinskii and Moriya in a file of their own are not
written: what their sign means has changed between versions.

References
----------
.. [1] B. Skubic, J. Hellsvik, L. Nordström and O. Eriksson, J. Phys.: Condens. Matter
   20, 315203 (2008), https://doi.org/10.1088/0953-8984/20/31/315203
.. [2] https://github.com/UppASD/UppASD-manual, "Core input files" and "Hamiltonian
   parameters"
"""

from __future__ import annotations

import numpy as np

from deepspin.analysis.exports.bonds import (
    MRY,
    Program,
    axes,
    cell,
    cells,
    comments,
    constant_line,
    fractional,
    has_all,
    integers,
    matters,
    numbers,
)
from deepspin.analysis.hamiltonian import SpinHamiltonian


def uppasd_files(hamiltonian: SpinHamiltonian, heading: list[str]) -> dict[str, str]:
    """Write all files; only inpsd.dat may have comments.

    Parameters
    ----------
    hamiltonian : SpinHamiltonian
        As `prepared` gives it.
    heading : list of str
        Lines of a comment.
    """
    sites = hamiltonian.sites
    spins = [integers(k, k) for k in range(1, sites.n + 1)]
    places = [
        f"{site} {numbers(place)}\n"
        for site, place in zip(spins, fractional(sites), strict=True)
    ]
    # the second number is the kind of atom on a site of an alloy: always the first
    moments = [
        f"{k} 1 {moment:.16e} {numbers(e)}\n"
        for k, (moment, e) in enumerate(
            zip(sites.moment.tolist(), sites.direction, strict=True), start=1
        )
    ]
    strength, axis, constant = axes(hamiltonian.anisotropy)
    kfile = "".join(
        f"{i + 1} 1 {numbers(strength[i, k] * MRY)} 0.0 {numbers(axis[i, k])} 0.0\n"
        for k in range(2)
        for i in range(sites.n)
    )
    return {
        "inpsd.dat": _inpsd(hamiltonian, heading + constant_line(constant), strength),
        "posfile": "".join(places),
        "momfile": "".join(moments),
        "jfile": _jfile(hamiltonian),
        "kfile": kfile,
    }


def _tensors(hamiltonian: SpinHamiltonian) -> bool:
    """Whether there is more than isotropic exchange."""
    rest = hamiltonian.tensor - hamiltonian.exchange[:, None, None] * np.eye(3)
    return matters(hamiltonian, rest)


def _jfile(hamiltonian: SpinHamiltonian) -> str:
    """A row for each direction of a pair: sites, cell, and J or J_xx, J_xy, ..."""
    pairs = hamiltonian.pairs
    values = hamiltonian.tensor if _tensors(hamiltonian) else hamiltonian.exchange
    # each direction of a pair is a term of its own, so it has half of the coupling
    values = values * MRY / 2
    return "".join(
        f"{integers(i + 1, j + 1, *shift)} {numbers(value)}\n"
        for i, j, shift, value in zip(
            pairs.first, pairs.second, pairs.shift, values, strict=True
        )
    )


def _inpsd(
    hamiltonian: SpinHamiltonian, heading: list[str], strength: np.ndarray
) -> str:
    sites = hamiltonian.sites
    boundary = " ".join("P" if periodic else "0" for periodic in sites.pbc)
    one, two, three = (numbers(vector) for vector in cell(sites))
    text = comments("#", heading)
    text += f"simid deepspin\nncell {integers(*cells(hamiltonian))}\nBC {boundary}\n"
    text += f"cell {one}\n     {two}\n     {three}\nalat 1.0e-10\nSym 0\n\n"
    text += "posfiletype D\nmaptype 2\nposfile ./posfile\nmomfile ./momfile\n"
    # calc_jtensor F: the jfile has tensors; they would be made of its first numbers
    tensors = "do_jtensor 1\ncalc_jtensor F\n" if _tensors(hamiltonian) else ""
    text += f"{tensors}exchange ./jfile\n"
    if matters(hamiltonian, strength):
        text += "anisotropy ./kfile\nmult_axis Y\n"
    text += "\n# from here on: an example, which begins with the moments of momfile\n"
    text += "Initmag 3\nip_mode N\nmode S\ntemp 0.0\ndamping 0.1\ntimestep 1.0e-16\n"
    return text + "Nstep 1000\nplotenergy 1\ndo_avrg Y\n"


UPPASD = Program(
    title="UppASD",
    sentence="`inpsd.dat`, `posfile`, `momfile`, `jfile` and `kfile`",
    files=("inpsd.dat", "posfile", "momfile", "jfile", "kfile"),
    convention=(
        "E = - sum_{i != j} e_i.J.e_j + sum_i K (e_i.u)^2, in mRy",
        "Each pair counts twice, as i,j and as j,i. J > 0 is ferromagnetic, K < 0 an "
        "easy axis. e are unit vectors.",
        "Rows of jfile: i, j, cell of j in lattice vectors, then J, or with do_jtensor "
        "1 the matrix J_xx J_xy J_xz J_yx J_yy J_yz J_zx J_zy J_zz.",
        "Versions that do not transpose this matrix as they read it (before the line "
        "'j_tmp = transpose(j_tmp)' in inputhandler_ext.f90) take D with the wrong "
        "sign.",
        "Rows of kfile: the first axis of all sites, then the second (mult_axis Y).",
    ),
    write=uppasd_files,
    limits=has_all,
)
