# SPDX-License-Identifier: Apache-2.0
"""What verbs share: declarations of options, and checks before TensorFlow starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from deepspin.utils.terminal import say

Options = TypeVar("Options")
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs,
    common: argparse.ArgumentParser,
    name: str,
    call: Callable[..., Any],
    text: str,
) -> argparse.ArgumentParser:
    """Declare a verb: what it calls, with its options as keywords, and its purpose."""
    parser = verbs.add_parser(name, parents=[common], help=text, description=text)
    parser.set_defaults(call=call)
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """Declare the systems that a verb reads."""
    parser.add_argument(
        "systems", nargs="+", metavar="DATA", help="systems, or folders to search"
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare how files of other programs are to be read."""
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="format of the data, where its name and its head do not tell it; a path "
        "may also say it, FORMAT:PATH",
    )
    parser.add_argument(
        "--spin-key",
        metavar="COLUMN",
        help="column of spins in files of other programs (default: usual names)",
    )
    parser.add_argument(
        "--force-mag-key",
        metavar="COLUMN",
        help="column of their magnetic forces, -dE/dspin (default: usual names)",
    )


def add_spin(parser: argparse.ArgumentParser) -> None:
    """Declare how data is to be understood; the data tells most of it."""
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
        "--ignore-below",
        type=float,
        metavar="MOMENT",
        help="leave out moments of types that are all below this, in μ_B, and give "
        "these no spin (default: 0.05)",
    )
    parser.add_argument(
        "-i",
        "--input",
        metavar="INPUT",
        help="take all of these from the input file of a training instead",
    )
    add_reading(parser)


def add_force(parser: argparse.ArgumentParser) -> None:
    """Declare the option that lets outputs be replaced."""
    parser.add_argument(
        "--force", action="store_true", help="replace what is at the output"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare the model that a verb writes in another form."""
    parser.add_argument(
        "-c",
        "--checkpoint",
        default=".",
        metavar="CKPT",
        help="model file, prefix of checkpoints, or folder with the file `checkpoint` "
        "(default: .)",
    )


def add_deepmd(parser: argparse.ArgumentParser) -> None:
    """Declare options of what is written for DeePMD-kit and LAMMPS."""
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


def add_completed_input(parser: argparse.ArgumentParser) -> None:
    """Declare where an input goes after its defaults are filled in."""
    parser.add_argument(
        "-o",
        "--output",
        default="out.json",
        help="where to write the input with all defaults filled in (default: out.json)",
    )


def add_doc(parser: argparse.ArgumentParser, write: Callable[[], str]) -> None:
    """Declare the option that prints the documentation of an input file."""
    parser.add_argument(
        "--doc",
        action=_PrintInput,
        nargs=0,
        const=write,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="print the documentation of the input file, as rst, and exit",
    )


class _PrintInput(argparse.Action):
    """Print what an input file may hold."""

    def __call__(
        self, parser: argparse.ArgumentParser, *_: object, **__: object
    ) -> None:
        say(self.const() + "\n")
        parser.exit()


def take(kind: Callable[..., Options], options: dict[str, Any]) -> Options:
    """Make a dataclass of the options that are its fields, and remove them."""
    names = [name for name in signature(kind).parameters if name in options]
    return kind(**{name: options.pop(name) for name in names})


def check_model(source: Path) -> None:
    """Refuse a model that is damaged or too new, before TensorFlow starts."""
    from deepspin.interop.files import is_deepmd
    from deepspin.modelfiles.find import read_config, read_metadata

    read_metadata(source)
    if not is_deepmd(source):
        read_config(source)


def claim_frozen(output: str, force: bool) -> None:
    """Make sure that a frozen model can be written, see `deepspin.utils.outputs.claim`.

    Parameters
    ----------
    output : str
        Folder to write.
    force : bool
        Whether it may replace a frozen model.
    """
    from deepspin.modelfiles.find import FILE_SUFFIXES, is_frozen
    from deepspin.utils.outputs import OutputError, claim

    suffix = Path(output).suffix
    if suffix.lower() in FILE_SUFFIXES:
        raise OutputError(
            f"'{output}' would be a folder, a SavedModel, but '{suffix}' is the ending "
            "of a file. Choose another name; `dp-spin convert-to deepmd -c MODEL` "
            "writes .pb, .dp and .yaml, of compressed models .pb."
        )
    claim(output, force=force, folder=True)
    if Path(output).exists() and not is_frozen(output):
        raise OutputError(
            f"'{output}' is no frozen model, so it is not replaced. Choose another "
            "output."
        )
