# SPDX-License-Identifier: Apache-2.0
"""``dp-spin train``: fit a model as an input file says."""

from __future__ import annotations

from deepspin.data.files import find_systems
from deepspin.env import start_tensorflow
from deepspin.modelfiles.find import resolve_checkpoint
from deepspin.utils.inputs import load_input, normalize


def train(
    *,
    input: str,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    output: str = "out.json",
    skip_neighbor_stat: bool = False,
) -> None:
    """Check the input, then import TensorFlow and train; see `deepspin.train`."""
    options = normalize(load_input(input))  # a typo answers before TensorFlow loads
    for section in ("training_data", "validation_data"):  # so does a wrong path
        data = options["training"][section]
        if data:
            find_systems(data["systems"], data["rglob_patterns"])
    if restart or init_model:  # and a wrong checkpoint
        resolve_checkpoint(restart or init_model)
    start_tensorflow()
    from deepspin.training.trainer import train as run

    run(
        options,
        init_model=init_model,
        restart=restart,
        init_frz_model=init_frz_model,
        output=output,
        skip_neighbor_stat=skip_neighbor_stat,
    )
