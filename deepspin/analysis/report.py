# SPDX-License-Identifier: Apache-2.0
"""What exchange and its consequences look like in print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepspin.analysis.beyond import TERMS, Beyond
from deepspin.analysis.derivatives import ExchangeDerivatives
from deepspin.analysis.hamiltonian import Exchange, Shell, SpinHamiltonian
from deepspin.analysis.ordering import Ordering

# shells that are printed if no number is asked for, and pairs of derivatives
SHELLS, STRONGEST = 8, 12


def couplings(
    exchange: Exchange,
    samples: Sequence[Exchange] = (),
    *,
    number: int = SHELLS,
    tolerance: float,
) -> str:
    """Table of the shells, with conventions.

    Parameters
    ----------
    exchange : Exchange
        The mean.
    samples : sequence of Exchange
        Of what, if of several.
    number : int
        Shells to print, from near to far.
    tolerance : float
        See `SpinHamiltonian.shells`.
    """
    hamiltonian = exchange.hamiltonian
    shells = hamiltonian.shells(tolerance)
    errors = errors_of(hamiltonian, shells[:number], [s.hamiltonian for s in samples])
    anisotropic = any(s.dmi > 1e-9 or s.anisotropy > 1e-9 for s in shells)
    lines = [
        "Exchange in meV: E = -sum_(i<j) J_ij e_i.e_j, unit vectors e, each pair once, "
        "J > 0 ferromagnetic\n",
        f"  {'pair':<10}{'r (Å)':>8}{'number':>8}{'e_i.e_j':>9}{'J':>11}"
        f"{'in shell':>10}"
        + (f"{'± samples':>11}" if len(samples) > 1 else "")
        + (f"{'|D|':>10}{'|Γ|':>10}" if anisotropic else "")
        + "\n",
    ]
    for shell, error in zip(shells[:number], errors, strict=True):
        lines.append(
            f"  {'-'.join(shell.names):<10}{shell.distance:8.3f}{shell.number:8.3g}"
            f"{shell.relation:9.3f}{1e3 * shell.exchange:11.4f}"
            f"{_within(shell.spread):>10}"
            + (f"{1e3 * error:11.4f}" if len(samples) > 1 else "")
            + (
                f"{1e3 * shell.dmi:10.4f}{1e3 * shell.anisotropy:10.4f}"
                if anisotropic
                else ""
            )
            + "\n"
        )
    if len(shells) > number:
        rest = sum(abs(s.exchange) * s.number for s in shells[number:])
        lines.append(
            f"  and {len(shells) - number} more shells up to "
            f"{shells[-1].distance:.2f} Å; sum of their |J| times number "
            f"{1e3 * rest:.3g} meV\n"
        )
    return "".join([*lines, _conventions(hamiltonian), _sites(exchange)])


def _within(spread: float) -> str:
    """Spread of equal pairs, unless it is rounding."""
    return "" if spread < 1e-9 else f"± {1e3 * spread:.4f}"


def errors_of(
    hamiltonian: SpinHamiltonian,
    shells: Sequence[Shell],
    samples: Sequence[SpinHamiltonian],
) -> np.ndarray:
    """Standard deviation over samples of the mean J of shells, (nshells,), in eV."""
    if len(samples) < 2:
        return np.zeros(len(shells))
    here = _keys(hamiltonian)
    means = np.zeros((len(samples), len(shells)))
    for k, sample in enumerate(samples):
        there = dict(zip(_keys(sample), sample.exchange.tolist(), strict=True))
        j = np.array([there.get(key, 0.0) for key in here])
        means[k] = [j[shell.members].mean() for shell in shells]
    return means.std(axis=0, ddof=1)


def _keys(hamiltonian: SpinHamiltonian) -> list[tuple[int, ...]]:
    pairs = hamiltonian.pairs
    rows = np.column_stack([pairs.first, pairs.second, pairs.shift]).tolist()
    return [tuple(row) for row in rows]


def _conventions(hamiltonian: SpinHamiltonian) -> str:
    moments = hamiltonian.sites.moment
    lines = ["  The same in other conventions: J/2 where each pair counts twice (TB2J)"]
    if np.ptp(moments) < 1e-3 * moments.mean():
        m = moments.mean()
        lines.append(
            f"; J/{m**2:.4f} = J/m² for moments m = {m:.4f} μ_B in place of e; "
            f"-J/S² for E = +sum J S.S with spins of length S (S = m/2 = {m / 2:.4f})"
        )
    else:
        lines.append(
            "; J/(m_i m_j) for moments in place of e; -J/(S_i S_j) for E = +sum J S.S"
        )
    return "".join(lines) + "\n"


def _sites(exchange: Exchange) -> str:
    """Anisotropy of the sites, and whether the state is one at rest."""
    lines = []
    values, axes = np.linalg.eigh(exchange.hamiltonian.anisotropy)
    if np.abs(values).max(initial=0.0) > 1e-9:
        lines.append("On-site anisotropy E = e.A.e: lowest axis, and energies in meV\n")
        for k, (name, own, axis) in enumerate(
            zip(exchange.hamiltonian.sites.names, values, axes, strict=True)
        ):
            place = " ".join(f"{x:7.3f}" for x in axis[:, 0])
            energies = " ".join(f"{1e3 * x:9.4f}" for x in own)
            lines.append(f"  {k:4d} {name:<4} {place}   {energies}\n")
    lines.append(
        f"Left in this state: magnetic forces across the spins up to "
        f"{exchange.largest_torque:.2e} eV/μ_B, along them up to "
        f"{np.abs(exchange.modulus_force).max():.2e} eV/μ_B\n"
    )
    return "".join(lines)


def order(found: Ordering) -> str:
    """Ordering vector, temperatures and stiffness."""
    lines = ["Order of the Heisenberg model\n"]
    if found.cell is not None:
        q = found.wave_vector
        cartesian = np.linalg.inv(found.cell) @ q * 2 * np.pi
        lines.append(
            f"  wave vector {_vector(q, '.4f')} in reciprocal vectors of the cell "
            f"{'; '.join(_vector(row, '.3f') for row in found.cell)} Å,\n"
            f"  {_vector(cartesian, '.4f')} 1/Å\n"
        )
    lines.append(
        f"  mean field {found.mean_field:8.1f} K, random phases {_rpa(found.rpa)}, "
        "both of classical spins; times (S + 1)/S for quantum spins of length S\n"
    )
    if np.isfinite(found.stiffness).all():
        a = np.linalg.eigvalsh(found.stiffness)
        lines.append(
            "  stiffness of this state (meV/Å), along its axes: "
            + _vector(1e3 * a, ".3f")
            + ("; negative: it does not last\n" if a[0] < -1e-9 else "\n")
        )
    if np.isfinite(found.dispersion).all():
        d = np.linalg.eigvalsh(found.dispersion)
        lines.append(f"  D of magnons, ħω = D q² (meV Å²): {_vector(1e3 * d, '.2f')}\n")
    return "".join(lines)


def derivatives(found: ExchangeDerivatives, hamiltonian: SpinHamiltonian) -> str:
    """How the strongest couplings change as an atom moves."""
    pairs, names = hamiltonian.pairs, hamiltonian.sites.names
    keys = np.column_stack([pairs.first, pairs.second, pairs.shift]).tolist()
    known = dict(zip(map(tuple, keys), hamiltonian.exchange.tolist(), strict=True))
    lines = [
        f"dJ/du in meV/Å as atom {found.atom} ({found.name}) moves alone, at fixed "
        "spins: J of above, pairs once, site and cell of each\n",
        f"  {'pair':<10}{'first':>14}{'second':>16}{'r (Å)':>8}{'J (meV)':>11}"
        f"{'dJ/dx':>11}{'dJ/dy':>11}{'dJ/dz':>11}\n",
    ]
    slopes, lengths = 1e3 * found.exchange, np.linalg.norm(found.vector, axis=1)
    for k in range(min(len(found), STRONGEST)):
        i, j = int(found.first[k]), int(found.second[k])
        one, two = found.first_shift[k], found.second_shift[k]
        value = known.get((i, j, *(two - one).tolist()), 0.0)
        row = "".join(f"{x + 0.0:11.4f}" for x in slopes[k])
        lines.append(
            f"  {names[i] + '-' + names[j]:<10}{_place(i, one):>14}{_place(j, two):>16}"
            f"{lengths[k]:8.3f}{1e3 * value:11.4f}{row}\n"
        )
    lines.append(
        f"  {len(found)} pairs with a site within {found.within:g} Å of it change, the "
        f"strongest of {np.linalg.norm(slopes, axis=1).max(initial=0.0):.4g} meV/Å; "
        f"differences of {found.step:g} Å, wrong by "
        f"{1e3 * found.error.max(initial=0.0):.1e} meV/Å or less\n"
    )
    return "".join(lines)


def _place(site: int, cell: np.ndarray) -> str:
    """A site with its cell, unless it is in the first."""
    return f"{site} {_vector(cell, 'd').replace(' ', '')}" if cell.any() else f"{site}"


def _rpa(value: float) -> str:
    if np.isnan(value):
        return "not converged"
    return f"{value:8.1f} K" if value else "no order (a plane, a chain or a molecule)"


def _vector(values: np.ndarray, form: str) -> str:
    return "(" + ", ".join(format(x + 0, form) for x in values) + ")"


def residuals(found: Beyond) -> str:
    """How far the Hamiltonian holds."""
    lines = [
        "Spins turned by up to 180°: what is left, root mean square over "
        f"{found.states} states\n",
        f"  {'':<34}{'energy (meV/turned spin)':>26}{'field (meV)':>13}\n",
    ]
    names = {
        "labels": "the states themselves",
        "derivatives": "J of the second derivatives",
        "bilinear": "J fitted to such states",
        "biquadratic": "and B (e_i.e_j)²",
        "three-site": "and Y (e_i.e_j)(e_i.e_k)",
    }
    for key in ("labels", "derivatives", *TERMS):
        energy, field = 1e3 * found.energy[key], 1e3 * found.field[key]
        lines.append(f"  {names[key]:<34}{energy:26.4f}{field:13.4f}\n")
    lines.append(f"  {'pair':<10}{'r (Å)':>8}{'J':>11}{'B':>11}{'Y':>11}  (meV)\n")
    for k, shell in enumerate(found.shells):
        row = "".join(f"{1e3 * found.terms[name][k]:11.4f}" for name in ("J", "B", "Y"))
        lines.append(f"  {'-'.join(shell.names):<10}{shell.distance:8.3f}{row}\n")
    return "".join(lines)
