# SPDX-License-Identifier: Apache-2.0
"""``dp-spin train``: fit a model as an input file says."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from deepspin.entrypoints.common import Verbs, add_completed_input, add_verb


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, common, "train", train, "Train a model as an input file says."
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
    add_completed_input(parser)
    parser.add_argument(
        "--skip-neighbor-stat",
        action="store_true",
        help="do not report neighbours before training",
    )


def train(*, input: str, **options: Any) -> None:
    """Check the input, then import TensorFlow and train.

    Parameters
    ----------
    input : str
        Input file.
    **options
        Those of `deepspin.train`.
    """
    from deepspin.data.files import find_systems
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.utils.inputs import load_input, normalize

    content = normalize(load_input(input))  # a typo answers before TensorFlow loads
    for section in ("training_data", "validation_data"):  # so does a wrong path
        data = content["training"][section]
        if data:
            find_systems(data["systems"], data["rglob_patterns"])
    checkpoint = options.get("restart") or options.get("init_model")
    if checkpoint:  # and a wrong checkpoint
        resolve_checkpoint(checkpoint)
    start_tensorflow()
    from deepspin.training.trainer import train as run

    run(content, **options)
