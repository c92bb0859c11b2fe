# SPDX-License-Identifier: Apache-2.0
"""``dp-spin test``: errors of a model on labelled data, as DeePMD-kit lists them."""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspin.entrypoints.common import Verbs, add_reading, add_verb, take

if TYPE_CHECKING:
    from deepspin.data.formats.table import Reading

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "test",
        test,
        "Compare a model with labelled data; errors per atom are per real atom.",
    )
    parser.add_argument(
        "-m",
        "--model",
        default="model.ckpt",
        help="model file, frozen model, prefix of checkpoints, or DeePMD-kit's .pb, "
        ".dp or .yaml (default: model.ckpt)",
    )
    _add_data(parser)
    _add_results(parser)


def _add_data(parser: ArgumentParser) -> None:
    """Declare what to compare with."""
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "-s", "--system", help="a system, or a folder searched for systems (default: .)"
    )
    data.add_argument(
        "-f", "--datafile", help="file with the path of one system on each line"
    )
    data.add_argument(
        "--train-data", metavar="INPUT", help="training systems of an input file"
    )
    data.add_argument(
        "--valid-data", metavar="INPUT", help="validation systems of an input file"
    )
    add_reading(parser)
    parser.add_argument(
        "-n",
        "--numb-test",
        type=int,
        default=0,
        help="frames of each system, 0 for all (default: 0)",
    )
    parser.add_argument(
        "--shuffle-test", action="store_true", help="choose the frames at random"
    )
    parser.add_argument("-r", "--rand-seed", type=int, help="seed of that choice")


def _add_results(parser: ArgumentParser) -> None:
    """Declare what else to compare, and what to write."""
    parser.add_argument(
        "-d",
        "--detail-file",
        metavar="PREFIX",
        help="write labels and predictions to PREFIX.e.out, .fr.out, .fm.out, .v.out, "
        "and those of e and v per atom to PREFIX.e_peratom.out, .v_peratom.out",
    )
    parser.add_argument(
        "-a", "--atomic", action="store_true", help="compare atom energies too"
    )
    parser.add_argument(
        "--plot",
        metavar="PICTURE",
        help="draw predictions against labels to this file (.png, .pdf or .svg)",
    )
    parser.add_argument(
        "--spin-rotation",
        nargs="?",
        type=int,
        const=8,
        default=0,
        metavar="N",
        help="also tell how much the energy changes when all spins of a frame are "
        "turned, by N rotations drawn at random (8 without N; seed -r), and when they "
        "are reversed: mean, rms and largest of |dE| in meV per atom",
    )


def test(
    *,
    model: str,
    system: str | None = None,
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
    detail_file: str | None = None,
    plot: str | None = None,
    **options: Any,
) -> dict[str, float]:
    """Compare a model with labels.

    Parameters
    ----------
    model : str
        Model file, frozen model, DeePMD-kit's ``.pb``, or the prefix of checkpoints.
    system : str, optional
        A system, or a folder that is searched for systems.
    datafile : str, optional
        A file with the path of one system on each line.
    train_data, valid_data : str, optional
        An input file whose training or validation systems are used.
    detail_file : str, optional
        Prefix of files with every label beside its prediction. Files of this prefix
        that an earlier test wrote are replaced, or removed if this one has no such
        label.
    plot : str, optional
        Picture of predictions against labels, all systems together.
    **options
        See `deepspin.infer.accuracy.Comparison`, and for files of other programs
        `deepspin.data.formats.table.Reading`.

    Returns
    -------
    dict
        Mean absolute and root-mean-square errors over all systems: ``mae_e``,
        ``rmse_e``, ``mae_ea`` (per real atom), ... With `spin_rotation` also what it
        does to the energy, in meV per atom: ``mean_rotation``, ``rms_rotation``,
        ``max_rotation`` and the like of ``flip``.
    """
    from deepspin.data.formats.table import Reading
    from deepspin.env import start_tensorflow
    from deepspin.infer.accuracy import Comparison, compare, load_labelled
    from deepspin.infer.details import claim_details, write_details
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.pictures.plots import claim_picture, draw_parity, save
    from deepspin.utils.outputs import locked

    reading, what = take(Reading, options), Comparison(**options)
    file = resolve_checkpoint(model)
    paths = _systems(system, datafile, train_data, valid_data, reading)
    ours = [] if detail_file is None else claim_details(detail_file)
    ours += [] if plot is None else [claim_picture(plot)]
    with locked(*ours):
        start_tensorflow()
        from deepspin.infer.deep_spin import DeepSpin

        potential = DeepSpin(file)
        systems = load_labelled(potential, paths, what.atomic)
        accuracy = compare(potential, systems, what)
        if detail_file is not None:
            write_details(accuracy, detail_file)
        if plot is not None:
            save(draw_parity(accuracy.panels), plot)
            log.info("drew %s", plot)
    return accuracy.errors


def _systems(
    system: str | None,
    datafile: str | None,
    train_data: str | None,
    valid_data: str | None,
    reading: Reading,
) -> list[str]:
    from deepspin.data.find import find_systems
    from deepspin.infer.systems import listed_systems, systems_of_input

    if datafile is not None:
        return listed_systems(Path(datafile), reading)
    if train_data is not None:
        return systems_of_input(train_data, "training_data")
    if valid_data is not None:
        return systems_of_input(valid_data, "validation_data")
    return find_systems(system if system is not None else ".", reading=reading)
