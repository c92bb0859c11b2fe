# SPDX-License-Identifier: Apache-2.0
"""The file of ``dp-spin exchange``: couplings and second derivatives, in JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.analysis.derivatives import ExchangeDerivatives
from deepspin.analysis.hamiltonian import (
    Curvature,
    Exchange,
    Pairs,
    Sites,
    SpinHamiltonian,
)
from deepspin.data.files import DataError
from deepspin.utils.limits import read_text
from deepspin.utils.outputs import replacing

FORMAT = "deepspin exchange 1"
CONVENTION = (
    "E = -1/2 sum_(i != j) e_i.J_ij.e_j + sum_i e_i.A_i.e_i in eV, e unit vectors: "
    "each pair of atoms counts once, J > 0 is ferromagnetic; pairs are listed both "
    "ways; "
    "`block` and `onsite` are d2E/de_i de_j across the spins; `derivatives` are "
    "dJ_ij/du in eV/Angstrom of one atom that moves, each pair once, u first"
)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What the file holds.

    Parameters
    ----------
    exchange : Exchange
        Couplings and second derivatives.
    cell : np.ndarray, shape (3, 3); or None
        Lattice vectors of the crystal's smallest cell without spins, in Å, all atoms
        considered; None for a molecule.
    models : tuple of str
        Of which models it is the mean.
    derivatives : tuple of ExchangeDerivatives
        With the positions of the atoms that were asked for.
    """

    exchange: Exchange
    cell: np.ndarray | None
    models: tuple[str, ...]
    derivatives: tuple[ExchangeDerivatives, ...] = ()


def save_exchange(path: str | Path, saved: Saved) -> None:
    """Write the file, whole or not at all."""
    hamiltonian, curvature = saved.exchange.hamiltonian, saved.exchange.curvature
    sites = hamiltonian.sites
    data = {
        "format": FORMAT,
        "convention": CONVENTION,
        "models": list(saved.models),
        "cell": _list(saved.cell),
        "box": _list(sites.box),
        "pbc": sites.pbc.tolist(),
        "sites": {
            "names": list(sites.names),
            "coord": _list(sites.coord),
            "moment": _list(sites.moment),
            "direction": _list(sites.direction),
            "modulus_force": _list(saved.exchange.modulus_force),
        },
        "couplings": {
            **_of_pairs(hamiltonian.pairs),
            "tensor": _list(hamiltonian.tensor),
        },
        "anisotropy": _list(hamiltonian.anisotropy),
        "curvature": {
            **_of_pairs(curvature.pairs),
            "block": _list(curvature.block),
            "onsite": _list(curvature.onsite),
            "torque": _list(curvature.torque),
        },
        "derivatives": [_of_derivatives(found) for found in saved.derivatives],
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(data) + "\n", encoding="utf-8")


def _list(values: np.ndarray | None) -> list | None:
    return None if values is None else values.tolist()


def _of_pairs(pairs: Pairs) -> dict[str, list]:
    return {
        name: getattr(pairs, name).tolist() for name in ("first", "second", "shift")
    }


def _of_derivatives(found: ExchangeDerivatives) -> dict[str, Any]:
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def load_exchange(path: str | Path) -> Saved:
    """Read the file of ``dp-spin exchange``.

    Raises
    ------
    FileNotFoundError, DataError
        There is none, or it is another or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"'{path}' does not exist, or is no file. `dp-spin exchange STRUCTURE -m "
            "MODEL` writes it."
        )
    try:
        data = json.loads(read_text(path))
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}")
        return _parsed(data)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"'{path}' is no whole file of `dp-spin exchange`, of the format "
            f"{FORMAT!r}: {type(error).__name__}: {text}. Write it again."
        ) from error


def _parsed(data: dict[str, Any]) -> Saved:
    rows = data["sites"]
    n = len(rows["names"])
    box = None if data["box"] is None else _array(data["box"], 3, 3)
    sites = Sites(
        box=box,
        pbc=np.array(data["pbc"], dtype=bool).reshape(3),
        coord=_array(rows["coord"], n, 3),
        names=tuple(map(str, rows["names"])),
        moment=_array(rows["moment"], n),
        direction=_array(rows["direction"], n, 3),
    )
    couplings, curved = data["couplings"], data["curvature"]
    pairs, all_pairs = _pairs(couplings, n), _pairs(curved, n)
    return Saved(
        exchange=Exchange(
            hamiltonian=SpinHamiltonian(
                sites=sites,
                pairs=pairs,
                tensor=_array(couplings["tensor"], len(pairs), 3, 3),
                anisotropy=_array(data["anisotropy"], n, 3, 3),
            ),
            curvature=Curvature(
                sites=sites,
                pairs=all_pairs,
                block=_array(curved["block"], len(all_pairs), 3, 3),
                onsite=_array(curved["onsite"], n, 3, 3),
                torque=_array(curved["torque"], n, 3),
            ),
            modulus_force=_array(rows["modulus_force"], n),
        ),
        cell=None if data["cell"] is None else _array(data["cell"], 3, 3),
        models=tuple(map(str, data["models"])),
        derivatives=tuple(_derivatives(d, n) for d in data.get("derivatives", ())),
    )


def _derivatives(rows: dict[str, Any], n: int) -> ExchangeDerivatives:
    count = len(rows["first"])
    sites = {
        k: np.array(rows[k], dtype=int).reshape(count) for k in ("first", "second")
    }
    if any(((site < 0) | (site >= n)).any() for site in sites.values()):
        raise ValueError(f"sites of derivatives must be from 0 to {n - 1}")
    return ExchangeDerivatives(
        atom=int(rows["atom"]),
        name=str(rows["name"]),
        within=float(rows["within"]),
        step=float(rows["step"]),
        **sites,
        first_shift=np.array(rows["first_shift"], dtype=int).reshape(count, 3),
        second_shift=np.array(rows["second_shift"], dtype=int).reshape(count, 3),
        vector=_array(rows["vector"], count, 3),
        tensor=_array(rows["tensor"], count, 3, 3, 3),
        error=_array(rows["error"], count, 3),
    )


def _array(values: Any, *shape: int) -> np.ndarray:
    array = np.array(values, dtype=float).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("numbers are not finite")
    return array


def _pairs(rows: dict[str, Any], n: int) -> Pairs:
    count = len(rows["first"])
    first, second = (np.array(rows[k], dtype=int) for k in ("first", "second"))
    pairs = Pairs(
        first=first.reshape(count),
        second=second.reshape(count),
        shift=np.array(rows["shift"], dtype=int).reshape(count, 3),
    )
    if count and not (
        0 <= min(first.min(), second.min()) <= max(first.max(), second.max()) < n
    ):
        raise ValueError(f"sites of pairs must be from 0 to {n - 1}")
    pairs.reverse()
    return pairs
