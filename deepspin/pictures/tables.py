# SPDX-License-Identifier: Apache-2.0
"""Result files as tables of numbers."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepspin.data.files import DataError
from deepspin.pictures.plots import QUANTITIES

log = logging.getLogger(__name__)

# a word of the header that stands for a column of each atom
ATOMIC = "atm_devi"
# what the first lines of logs begin with
HEADS = {
    "dynamics": ["step", "replica", "time"],
    "relaxation": ["step", "replica", "energy"],
}
# and tables of temperatures, whose values are separated by commas
TEMPERATURES = "natoms,temperature (K),"


@dataclass(frozen=True)
class ResultTable:
    """What a file holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        "learning curve", "dynamics", "relaxation", "temperatures", "deviations", or the
        quantity of a detail file (see `plots.QUANTITIES`).
    columns : list of str
        Their names.
    values : np.ndarray
        Numbers, shape (lines, columns).
    systems : list of str
        Of deviations: the systems that the column ``system`` counts; "" for one without
        a name.
    """

    path: Path
    kind: str
    columns: list[str]
    values: np.ndarray
    systems: Sequence[str] = ()

    def require(self, names: Iterable[str]) -> None:
        """Raise a DataError if a column is not there."""
        for name in names:
            if name not in self.columns:
                raise DataError(
                    f"'{self.path}' has no column '{name}', only "
                    f"{', '.join(self.columns)}. Is it of another version, or cut?"
                )

    def replicas(self) -> list[dict[str, np.ndarray]]:
        """Columns of each replica by name, of a file that has several."""
        columns = dict(zip(self.columns, self.values.T, strict=True))
        rows = [columns["replica"] == k for k in np.unique(columns["replica"])]
        return [{name: v[chosen] for name, v in columns.items()} for chosen in rows]


def read_table(path: Path) -> ResultTable:
    """Read a result file.

    A last line without its end is left out: it may be half written. Where a run was
    restarted from an earlier step, the lines written last count.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ResultTable
        Its columns and numbers.

    Raises
    ------
    DataError
        It is none, or has no numbers.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        log.warning("'%s': the last line is not complete; left out", path)
    if not text.strip():
        raise DataError(f"'{path}' is empty.")
    if text.startswith(TEMPERATURES):
        kind, (head, _, rows) = "temperatures", text.partition("\n")
        columns, text = head.split(","), rows.replace(",", " ")
    else:
        kind, columns = _columns(path, text)
    if kind == "deviations":
        return _deviations(path, text)
    values = _numbers(path, text)
    _check_width(path, values, len(columns))
    if not np.isfinite(values).any():
        raise DataError(f"'{path}' has no numbers but nan.")
    if kind == "learning curve":
        if not np.isfinite(values[:, 0]).all():
            raise DataError(f"'{path}' has a step that is no number.")
        values = _last_written(values)
    return ResultTable(path, kind, columns, values)


def _columns(path: Path, text: str) -> tuple[str, list[str]]:
    """Kind of a file and the names of its columns, from its comments."""
    comments = re.findall("^#.*$", text, re.MULTILINE)
    head = comments[0][1:] if text.lstrip().startswith("#") else ""
    first = head.split()
    if first[:1] == ["step"] and any(n.startswith("rmse") for n in first):
        for line in comments:
            if line[1:].split()[:1] == ["step"] and line[1:].split() != first:
                raise DataError(
                    f"'{path}' changes its columns: runs of different losses are in "
                    "it. Split it."
                )
        return "learning curve", first
    for kind, begin in HEADS.items():
        if first[:3] == begin:
            return kind, first
    if any(re.match(r"#\s*step\s.*max_devi_f", line) for line in comments):
        return "deviations", []
    columns = head.rpartition(": ")[2].split()
    for suffix, quantity in QUANTITIES.items():
        expected = [f"{k}_{c}" for k in ("data", "pred") for c in quantity.components]
        if columns == expected and suffix.endswith("peratom") == (
            "_peratom." in path.name
        ):
            return suffix, columns
    raise DataError(
        f"'{path}' is no result file: a learning curve (its first line begins with "
        "'# step rmse'), a log of dp-spin md ('# step replica time') or relax ('# step "
        "replica energy'), a table of thermo ('natoms,temperature'), a file of "
        "model-devi ('# step max_devi_v'), or a detail file of test -d ('# system: "
        "data_fx ...')."
    )


def _check_width(path: Path, values: np.ndarray, width: int) -> None:
    if values.size == 0:
        raise DataError(f"'{path}' has no numbers yet, only a header.")
    if values.shape[1] != width:
        raise DataError(
            f"'{path}' has {values.shape[1]} numbers in a line, but its header names "
            f"{width}."
        )


def _numbers(path: Path, text: str) -> np.ndarray:
    rows = io.StringIO(text)
    try:
        if all(line.startswith("#") or not line.strip() for line in rows):
            return np.empty((0, 0))
        rows.seek(0)
        return np.loadtxt(rows, ndmin=2)
    except ValueError as error:
        message = str(error).partition(";")[0].rstrip(".")
        raise DataError(f"'{path}' is not a table of numbers: {message}.") from error


def _last_written(values: np.ndarray) -> np.ndarray:
    """Lines whose step no later line repeats or precedes."""
    later = np.minimum.accumulate(values[::-1, 0])[::-1]
    return values[np.append(values[:-1, 0] < later[1:], True)]


# --- Deviations of models: a table for each system, each with a header ----------------


def _deviations(path: Path, text: str) -> ResultTable:
    """Read the file of ``model-devi``, ours, DeePMD-kit's or that of LAMMPS.

    Columns of atoms are left out. A force without spins is called ``fr`` by LAMMPS.
    """
    names: list[str] = []
    systems: list[str] = []
    parts, begun = [], ""
    for block in re.split(r"^(?=#\s*step\s)", text, flags=re.MULTILINE):
        head, _, rows = block.partition("\n")
        if re.match(r"#\s*step\s", head):
            found, values = _of_system(path, head[1:].split(), rows)
            if names and found != names:
                raise DataError(f"'{path}' changes its columns. Split it.")
            names = found
            if len(values):
                number = np.full((len(values), 1), len(systems))
                parts.append(np.hstack([number, values]))
                systems.append(begun)
        comments = re.findall("^#(.*)$", rows, re.MULTILINE) or [head[1:]]
        begun = comments[-1].strip()
    if not parts:
        raise DataError(f"'{path}' has no numbers yet, only a header.")
    values = np.concatenate(parts)
    if not np.isfinite(values[:, 2:]).any():
        raise DataError(f"'{path}' has no numbers but nan.")
    return ResultTable(path, "deviations", ["system", *names], values, systems)


def _of_system(path: Path, header: list[str], rows: str) -> tuple[list, np.ndarray]:
    """Names and numbers of the columns that are not of single atoms."""
    names = [name for name in header if not name.startswith(ATOMIC)]
    values = _numbers(path, rows)
    if values.size == 0:
        return names, values
    if "max_devi_fr" in header:  # LAMMPS does not name those of atoms, which come last
        values = values[:, : len(header)]
    atomic = len(header) - len(names)
    natoms, rest = divmod(values.shape[1] - len(names), max(atomic, 1))
    if rest or natoms < 0 or not atomic:
        _check_width(path, values, len(header))
    wide = [natoms if name.startswith(ATOMIC) else 1 for name in header]
    kept = np.repeat([not name.startswith(ATOMIC) for name in header], wide)
    return [name.replace("devi_fr", "devi_f") for name in names], values[:, kept]
