# SPDX-License-Identifier: Apache-2.0
"""``dp-spin convert-from``: take over a frozen DeePMD-kit model."""

from __future__ import annotations

import logging
from pathlib import Path

from deepspin import __version__
from deepspin.env import start_tensorflow
from deepspin.utils.outputs import claim

log = logging.getLogger(__name__)


def convert_from(*, frozen: str, output: str, force: bool = False) -> None:
    """Read a frozen TensorFlow spin model and write it as a deepspin model.

    Parameters
    ----------
    frozen : str
        ``.pb`` file of DeePMD-kit's TensorFlow backend, not compressed.
    output : str
        File to write; ``.keras`` is appended where it is missing.
    force : bool
        Whether it may replace what is there.

    Raises
    ------
    FileNotFoundError, ValueError, OutputError
        The output exists or cannot be written; otherwise see
        `deepspin.interop.deepmd.FrozenGraph`.
    """
    if not output.endswith(".keras"):
        output += ".keras"
    if not Path(frozen).is_file():
        raise FileNotFoundError(f"No frozen model: '{frozen}' is not a file.")
    claim(output, force=force)
    start_tensorflow()
    from deepspin.interop.deepmd import load_frozen
    from deepspin.training.serialization import save_model

    model, options = load_frozen(frozen)
    save_model(
        model,
        output,
        {"deepspin": __version__, "source": frozen, "input": {"model": options}},
    )
    log.info("%s: %s model %s", frozen, " ".join(model.type_map), output)
