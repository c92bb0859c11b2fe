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
    begin.add_argument(
        "-t",
        "--finetune",
        metavar="MODEL",
        help="begin with the weights of this model, of any kind, at step 0, its energy "
        "bias changed so that it fits the training data best",
    )
    parser.add_argument(
        "--use-pretrain-script",
        action="store_true",
        help="take the section `model` of the model that -t, -i or -f begins with, not "
        "the input's",
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
    from deepspin.env import start_tensorflow
    from deepspin.modelfiles.find import resolve_checkpoint
    from deepspin.training.cluster import find_cluster
    from deepspin.utils.inputs import load_input, normalize

    content = load_input(input)
    if not options.get("use_pretrain_script"):  # which may give the section `model`
        content = normalize(content)  # a typo answers before TensorFlow loads
        _find_data(content["training"])
    names = ("restart", "init_model", "finetune")
    checkpoint = next((options[name] for name in names if options.get(name)), None)
    if checkpoint:  # and a wrong checkpoint
        resolve_checkpoint(checkpoint)
    cluster = find_cluster()
    if cluster is not None:  # and workers that cannot be
        cluster.check()
    start_tensorflow(alone=cluster is None)
    from deepspin.training.trainer import train as run

    run(content, **options)


def _find_data(training: dict) -> None:
    """Refuse a wrong path before TensorFlow loads."""
    from deepspin.data.find import find_systems

    for section in ("training_data", "validation_data"):
        data = training[section]
        if data:
            find_systems(data["systems"], data["rglob_patterns"])
