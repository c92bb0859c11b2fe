# SPDX-License-Identifier: Apache-2.0
"""Verbs and options of DeePMD-kit's ``dp`` that ``dp-spin`` has not, and what to do."""

from __future__ import annotations

import re

_BACKENDS = "deepspin runs on TensorFlow alone: leave it out"
_BRANCHES = "models have one branch: leave it out"
_HARDWARE = "there is no NVNMD hardware for models with spins"

VERBS = {
    "convert-backend": "`convert-to` writes DeePMD-kit's formats, and all that reads "
    "models reads them",
    "embed": "`deepspin.load_model(...).descriptors(inputs)` from Python",
    "eval-desc": "`deepspin.load_model(...).descriptors(inputs)` from Python",
    "gui": "`init` writes an input, and `doc-train-input` says what its options mean",
    "pretrained": "there are no pretrained models with spins",
    "train-nvnmd": _HARDWARE,
    "transfer": "`train -i MODEL` begins with the weights of a model, DeePMD-kit's .pb "
    "with -f",
}
OPTIONS = {
    **dict.fromkeys(("-b", "--backend"), _BACKENDS),
    **dict.fromkeys(("--tf", "--tensorflow", "--tf2", "--tensorflow2"), _BACKENDS),
    **dict.fromkeys(
        ("--pt", "--pytorch", "--pt-expt", "--pytorch-exportable"), _BACKENDS
    ),
    **dict.fromkeys(("--pd", "--paddle", "--jax", "--np", "--numpy"), _BACKENDS),
    **dict.fromkeys(("--dp", "--dpmodel"), _BACKENDS),
    **dict.fromkeys(("--head", "--model-branch"), _BRANCHES),
    **dict.fromkeys(("-w", "--nvnmd-weight"), _HARDWARE),
    **dict.fromkeys(
        ("-n", "--node-names"), "a frozen model always has all that is evaluated"
    ),
    **dict.fromkeys(
        ("-S", "--set-prefix"), "sets are the folders `set.*`: leave it out"
    ),
    **dict.fromkeys(("-m", "--mpi-log"), "there is one process: leave it out"),
    **dict.fromkeys(
        ("-c", "--checkpoint-folder"), "`-i MODEL` takes checkpoints and their folder"
    ),
    **dict.fromkeys(("-i", "--input-model"), "give the file alone"),
    "--output-model": "here it is `--output`",
    "--log-level": "-v shows debug messages, and -l writes them to a file",
    "--force-load": "`train -i` takes models of the same sizes: leave it out",
    "--lower-kind": "it is of DeePMD-kit's PyTorch backend: leave it out",
    "--hessian": "`deepspin.DeepSpin(...).hessian` takes any model",
    "--multi-task": "there is one task: leave it out",
    "--mixed-type": "neighbours are always counted type by type: leave it out",
    "--one-type": "neighbours are always counted type by type: leave it out",
}


def answer(message: str) -> str | None:
    """What to say instead of argparse's message, if it is of something of ``dp``."""
    verb = re.search(r"argument verb: invalid choice: '([^']+)'", message)
    if verb and verb[1] in VERBS:
        return f"`{verb[1]}` is a verb of DeePMD-kit: {VERBS[verb[1]]}."
    if message.startswith("unrecognized arguments: "):
        for word in message.split()[2:]:
            option = word.partition("=")[0]
            if option in OPTIONS:
                return f"`{option}` is an option of DeePMD-kit: {OPTIONS[option]}."
    return None
