# SPDX-License-Identifier: Apache-2.0
"""Write verbs and options of DeePMD-kit's `dp`: python make_command_line.py FILE."""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

from deepmd.main import main_parser


def options(parser):
    """Names of the options of a parser."""
    return [name for action in parser._actions for name in action.option_strings]


def main(path):
    """Write the file."""
    parser = main_parser()
    verbs = {
        name: options(verb)
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, verb in action.choices.items()
    }
    table = {"deepmd-kit": version("deepmd-kit"), "": options(parser), **verbs}
    Path(path).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
