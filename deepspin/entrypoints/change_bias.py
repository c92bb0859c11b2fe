# SPDX-License-Identifier: Apache-2.0
"""``dp-spin change-bias``: fit the energy bias of a model to data, or set it."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin import __version__
from deepspin.entrypoints.common import (
    Verbs,
    add_force,
    add_reading,
    add_verb,
    check_model,
)

if TYPE_CHECKING:
    from deepspin.data.formats.table import Reading

log = logging.getLogger(__name__)

# how the command line calls `deepspin.training.bias.MODES`
MODES = {"change": "change-by-statistic", "set": "set-by-statistic"}


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "change-bias",
        change_bias,
        "Change the energy bias of a model, so that it fits the energies of data best.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model file, frozen model, prefix of checkpoints, or DeePMD-kit's .pb, "
        ".dp or .yaml",
    )
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "-s",
        "--system",
        nargs="+",
        help="systems, or folders searched for systems (default: .)",
    )
    data.add_argument(
        "-f", "--datafile", help="file with the path of one system on each line"
    )
    data.add_argument(
        "-b",
        "--bias-value",
        nargs="+",
        type=float,
        metavar="ENERGY",
        help="energies in eV of an atom of each type, in the order of the model's "
        "types, instead of data",
    )
    add_reading(parser)
    parser.add_argument(
        "-n",
        "--numb-batch",
        type=int,
        default=0,
        metavar="N",
        help="frames of each system, evenly spread, 0 for all (default: 0)",
    )
    parser.add_argument(
        "-m",
        "--mode",
        choices=list(MODES),
        default="change",
        help="change: add what fits the errors of the model best; set: what fits the "
        "energies themselves best, as before a training (default: change)",
    )
    parser.add_argument(
        "-o",
        "--output",
        help="model file to write, .keras (default: that of MODEL with _updated)",
    )
    add_force(parser)


def change_bias(
    *,
    model: str,
    system: Sequence[str] | None = None,
    datafile: str | None = None,
    bias_value: Sequence[float] | None = None,
    numb_batch: int = 0,
    mode: str = "change",
    output: str | None = None,
    force: bool = False,
    **reading_options: Any,
) -> None:
    """Write a model with another energy bias.

    Parameters
    ----------
    model : str
        Model of any kind that can be read; it is left as it is.
    system : sequence of str, optional
        Systems, or folders that are searched for systems.
    datafile : str, optional
        A file with the path of one system on each line.
    bias_value : sequence of float, optional
        Energies in eV of an atom of each type, instead of data.
    numb_batch : int
        Frames of each system, evenly spread, 0 for all.
    mode : {"change", "set"}
        See `deepspin.training.bias.change_bias`.
    output : str, optional
        File to write, ``.keras``.
    force : bool
        Whether it may replace what is there.
    **reading_options
        How to read files of other programs, see `deepspin.data.formats.table.Reading`.

    Raises
    ------
    FileNotFoundError, ValueError, DataError, OutputError
        There is no such model; data without energies, or a wrong number of values; the
        output exists or cannot be written.
    """
    from deepspin.data.formats.table import Reading
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.outputs import claim

    if numb_batch < 0:
        raise ValueError(
            f"-n must be 0 (all) or more frames of each system. Received: {numb_batch}"
        )
    source = resolve_checkpoint(model)
    check_model(source)
    target = _output(source, output)
    claim(target, force=force)
    reading = Reading(**reading_options)
    paths = [] if bias_value is not None else _systems(system, datafile, reading)
    start_tensorflow()
    from deepspin.data.dataset import DataSystem
    from deepspin.modelfiles.archive import load_model, load_with_metadata, save_model
    from deepspin.training import bias

    changed, metadata = load_with_metadata(source)
    if source.suffix == ".keras":  # with its optimizer, so that -r goes on from it
        changed = load_model(source)
    if bias_value is not None:
        found = bias.set_bias(changed, bias_value)
    else:
        bias.check_mode(changed, MODES[mode])
        data = DataSystem(paths, **changed.data_spec, batch_size="auto:512")
        found = bias.change_bias(changed, data, MODES[mode], frames=numb_batch)
    found.tell()
    metadata.pop("model", None)  # what a frozen model was made of: now as it is
    metadata = {"deepspin": __version__, "source": str(source), **metadata}
    save_model(changed, target, metadata)
    log.info("%s: %s model %s", source, " ".join(changed.type_map), target)


def _systems(
    system: Sequence[str] | None, datafile: str | None, reading: Reading
) -> list[str]:
    from deepspin.data.find import find_systems
    from deepspin.infer.systems import listed_systems

    if datafile is not None:
        return listed_systems(Path(datafile), reading)
    return find_systems(system if system is not None else ".", reading=reading)


def _output(source: Path, output: str | None) -> str:
    """Where the model goes."""
    from deepspin.modelfiles.find import FILE_SUFFIXES
    from deepspin.utils.outputs import OutputError

    if output is None:
        stem = source.stem if source.suffix in FILE_SUFFIXES else source.name
        return str(source.with_name(f"{stem}_updated.keras"))
    if Path(output).suffix.lower() in set(FILE_SUFFIXES) - {".keras"}:
        raise OutputError(
            f"change-bias writes .keras files. Received: '{output}'. `dp-spin freeze` "
            "makes a .pb or a SavedModel of one, and `dp-spin convert-to deepmd` a .dp."
        )
    return output if output.endswith(".keras") else f"{output}.keras"
