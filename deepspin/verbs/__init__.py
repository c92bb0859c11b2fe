# SPDX-License-Identifier: Apache-2.0
"""The verbs of ``dp-spin`` and their options; imports no TensorFlow."""

from __future__ import annotations

import argparse

from deepspin import __version__
from deepspin.verbs.common import add_force as _add_force
from deepspin.verbs.common import add_verb as _add
from deepspin.verbs.use import add_md, add_model_devi, add_relax, add_thermo


def build_parser() -> argparse.ArgumentParser:
    """Declare all sub-commands and their options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show debug messages and the traceback of an error",
    )
    common.add_argument(
        "-l", "--log-path", metavar="LOG", help="also write messages to this file"
    )
    parser = argparse.ArgumentParser(
        prog="dp-spin",
        description="Deep potentials with atomic spins.",
        epilog="`dp-spin VERB -h` explains a verb.",
    )
    parser.add_argument(
        "--version", action="version", version=f"deepspin {__version__}"
    )
    verbs = parser.add_subparsers(title="verbs", dest="verb", required=True)
    for add in (
        _add_init,
        _add_check_data,
        _add_neighbor_stat,
        _add_convert_data,
        _add_train,
        _add_plot,
        _add_test,
        add_model_devi,
        add_relax,
        add_md,
        add_thermo,
        _add_freeze,
        _add_compress,
        _add_show,
        _add_convert_from,
        _add_convert_to,
        _add_doc,
    ):
        add(verbs, common)
    return parser


def _add_spin(parser) -> None:
    """Options that say how data is to be understood; the data tells most of it."""
    parser.add_argument(
        "-t",
        "--type-map",
        nargs="+",
        metavar="TYPE",
        help="names of the types (default: those of type_map.raw)",
    )
    parser.add_argument(
        "--use-spin",
        nargs="+",
        metavar="TYPE",
        help="names of the types with spin (default: those whose spins are not 0)",
    )
    parser.add_argument(
        "--virtual-len",
        nargs="+",
        type=float,
        metavar="LENGTH",
        help="distance in Å of a virtual atom, for each type with spin (default: as "
        "they lie in the data, otherwise 0.4)",
    )
    parser.add_argument(
        "--spin-norm",
        nargs="+",
        type=float,
        metavar="NORM",
        help="|spin| in μ_B at that distance, for each type with spin (default: the "
        "mean of the data; 1.2737 if there are only virtual atoms)",
    )
    parser.add_argument(
        "-i",
        "--input",
        metavar="INPUT",
        help="take all of these from the input file of a training instead",
    )


def _add_init(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "init",
        "deepspin.entrypoints.init:init",
        "Write an input to start from for given data, with the reasons.",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="DATA", help="systems, or folders to search"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="input.json",
        help="file to write, .json or .yaml (default: input.json)",
    )
    parser.add_argument(
        "-r", "--rcut", type=float, default=6.0, help="cutoff in Å (default: 6.0)"
    )
    _add_spin(parser)
    _add_force(parser)


def _add_check_data(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "check-data",
        "deepspin.entrypoints.check_data:check_data",
        "Look data over: ranges, outliers, distances, torques, duplicates.",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="DATA", help="systems, or folders to search"
    )
    _add_spin(parser)
    parser.add_argument(
        "--json", metavar="FILE", help="also write what was found to this file"
    )


def _add_neighbor_stat(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "neighbor-stat",
        "deepspin.entrypoints.neighbor_stat:neighbor_stat",
        "Count neighbours, virtual atoms included, and suggest sel.",
    )
    parser.add_argument(
        "-s",
        "--system",
        nargs="+",
        default=["."],
        metavar="DATA",
        help="systems, or folders to search (default: .)",
    )
    parser.add_argument(
        "-r",
        "--rcut",
        type=float,
        help="cutoff in Å (default: that of -i, otherwise 6.0)",
    )
    _add_spin(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="also draw the distributions to this file (.png, .pdf or .svg)",
    )


def _add_convert_data(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "convert-data",
        "deepspin.entrypoints.convert_data:convert_data",
        "Write systems in another layout: spin files or virtual atoms, npy or HDF5.",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="DATA", help="systems, or folders to search"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder to write, or HDF5 file (.hdf5 or .h5)",
    )
    parser.add_argument(
        "--layout",
        choices=("spin-files", "virtual-atom", "same"),
        default="same",
        help="how to store the spins (default: same)",
    )
    _add_spin(parser)
    _add_force(parser)


def _add_plot(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "plot",
        "deepspin.entrypoints.plot:plot",
        "Draw learning curves (lcurve.out), logs of md and relax, trajectories, tables "
        "of thermo, deviations of models, or detail files of test.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="one file, or several of a kind to compare runs: learning curves, logs of "
        "md or relax, trajectories of md, tables of thermo, files of model-devi, "
        "detail files of test",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="file to write, .png, .pdf or .svg (default: beside the first file)",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="names of the runs"
    )
    parser.add_argument(
        "--log-x", action="store_true", help="logarithmic axis of steps"
    )
    parser.add_argument("--linear-y", action="store_true", help="linear axis of errors")


def _add_freeze(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "freeze",
        "deepspin.entrypoints.freeze:freeze",
        "Write a model as a TensorFlow SavedModel that runs without deepspin, or as "
        "DeePMD-kit's .pb.",
    )
    _add_checkpoint(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="frozen_model",
        help="folder to write, or for DeePMD-kit and LAMMPS a file that ends in .pb "
        "(default: frozen_model)",
    )
    _add_deepmd(parser)
    _add_force(parser)


def _add_convert_to(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "convert-to",
        "deepspin.entrypoints.convert_to:convert_to",
        "Write a model in a form of other programs.",
    )
    parser.add_argument(
        "target", choices=("deepmd",), help="whose: DeePMD-kit's, which LAMMPS reads"
    )
    _add_checkpoint(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="model.pb",
        help="file to write: .pb, a frozen model of the TensorFlow backend, for LAMMPS "
        "and DeePMD-kit; .dp or .yaml, from which `dp convert-backend` makes models of "
        "its other backends (default: model.pb)",
    )
    _add_deepmd(parser)
    _add_force(parser)


def _add_checkpoint(parser) -> None:
    parser.add_argument(
        "-c",
        "--checkpoint",
        default=".",
        metavar="CKPT",
        help="model file, prefix of checkpoints, or folder with the file `checkpoint` "
        "(default: .)",
    )


def _add_deepmd(parser) -> None:
    """Options of what is written for DeePMD-kit and LAMMPS."""
    parser.add_argument(
        "--fold-atom-virial",
        action="store_true",
        help=".pb: add the virial of each virtual atom to that of its atom, so that "
        "LAMMPS' stresses per atom sum up to the pressure; DeePMD-kit's own .pb files "
        "keep them apart and LAMMPS leaves them out",
    )
    parser.add_argument(
        "--pad-lammps-cutoff",
        action="store_true",
        help=".pb: announce a cutoff that reaches the virtual atoms of all neighbours, "
        "so that LAMMPS' lists hold all that the model sees; otherwise they must be "
        "made in every step, with a skin as long as the way to a virtual atom, or "
        "numbers are wrong without a word",
    )


def _add_compress(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "compress",
        "deepspin.entrypoints.compress:compress",
        "Replace the embedding nets of a model by tables, as exact as asked for.",
    )
    parser.add_argument(
        "-i",
        "--input",
        default="frozen_model",
        metavar="MODEL",
        help="frozen model, model file, prefix of checkpoints, or DeePMD-kit's .pb or "
        ".dp (default: frozen_model)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="compressed_model",
        help="folder to write, like that of freeze (default: compressed_model)",
    )
    parser.add_argument(
        "-t",
        "--training-script",
        metavar="INPUT",
        help="input file whose data tells how near atoms come, and on which the error "
        "is measured (default: distances that the model's training recorded)",
    )
    parser.add_argument(
        "--tol",
        type=float,
        help="largest error of forces and magnetic forces, relative to their rms "
        "(default: 1e-9; 1e-4 for models in float32)",
    )
    parser.add_argument(
        "-s",
        "--step",
        type=float,
        help="widest piece of a table in s, 1/Å; an upper limit, where DeePMD-kit's is "
        "the width of each piece (default: as wide as --tol allows)",
    )
    parser.add_argument(
        "-e",
        "--extrapolate",
        type=float,
        default=5.0,
        help="tables reach to so many times the largest 1/r of the data; nearer pairs "
        "are extrapolated by straight lines (default: 5)",
    )
    parser.add_argument(
        "-f",
        "--frequency",
        type=int,
        default=1,
        help="look for pairs beyond the tables in one of so many evaluations, -1 for "
        "never (default: 1)",
    )
    _add_force(parser)


def _add_show(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "show",
        "deepspin.entrypoints.show:show",
        "Tell what is in a model file.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model file, frozen model, prefix of checkpoints, or DeePMD-kit's .pb, "
        ".dp or .yaml",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def _add_train(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "train",
        "deepspin.entrypoints.train:train",
        "Train a model as an input file says.",
    )
    parser.add_argument("input", metavar="INPUT", help="input file, JSON or YAML")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "-i",
        "--init-model",
        metavar="MODEL",
        help="begin with the weights of this checkpoint, at step 0",
    )
    begin.add_argument(
        "-r",
        "--restart",
        metavar="CKPT",
        help="go on from this checkpoint (file, or prefix such as model.ckpt)",
    )
    begin.add_argument(
        "-f",
        "--init-frz-model",
        metavar="FROZEN",
        help="begin with the weights of this frozen DeePMD-kit spin model (.pb)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        help="where to write the input with all defaults filled in (default: out.json)",
    )
    parser.add_argument(
        "--skip-neighbor-stat",
        action="store_true",
        help="do not report neighbours before training",
    )


def _add_test(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "test",
        "deepspin.entrypoints.test:test",
        "Compare a model with labelled data; errors per atom are per real atom.",
    )
    parser.add_argument(
        "-m",
        "--model",
        default="model.ckpt",
        help="model file, frozen model, prefix of checkpoints, or DeePMD-kit's .pb, "
        ".dp or .yaml (default: model.ckpt)",
    )
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


def _add_convert_from(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "convert-from",
        "deepspin.entrypoints.convert:convert_from",
        "Take over a spin model of DeePMD-kit.",
    )
    parser.add_argument(
        "source",
        metavar="MODEL",
        help="frozen model (.pb), checkpoint of the TensorFlow backend (model.ckpt, or "
        "its folder), or model in DeePMD-kit's own form (.dp, .yaml)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="model.keras",
        help="model file to write (default: model.keras)",
    )
    _add_force(parser)


def _add_doc(verbs, common) -> None:
    parser = _add(
        verbs,
        common,
        "doc-train-input",
        "deepspin.entrypoints.doc:doc_train_input",
        "Print the documentation of the input file.",
    )
    parser.add_argument(
        "--out-type",
        default="rst",
        choices=("rst", "json", "json_schema"),
        help="format (default: rst)",
    )
