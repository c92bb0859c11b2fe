# SPDX-License-Identifier: Apache-2.0
"""The fit of `input.json` by Keras' own `compile` and `fit`.

python train.py [--steps 400]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras

import deepspin

DATA = Path(__file__).parent.parent / "data"


def main() -> None:
    """Build the model, fit it, evaluate it, save it."""
    parser = argparse.ArgumentParser(description="Fit NiO with Keras.")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=20, help="reports on the way")
    parser.add_argument("--output", default="nio.keras")
    args = parser.parse_args()

    # the layers
    spin = deepspin.Spin(use_spin=[True, False], virtual_len=[0.4], spin_norm=[1.2737])
    descriptor = deepspin.DescrptSeA(
        rcut=5.6,
        rcut_smth=5.4,
        sel=[60, 60, 60],  # Ni, O, virtual atoms of Ni
        ntypes=2,
        neuron=[25, 50, 100],
        axis_neuron=16,
        type_one_side=True,
        seed=1,
    )
    fitting = deepspin.EnerFitting(
        ntypes=2, dim_descrpt=descriptor.dim_out, neuron=[240, 240, 240], seed=1
    )
    model = deepspin.SpinEnergyModel(["Ni", "O"], descriptor, fitting, spin)

    # the data
    train = deepspin.DataSystem(str(DATA / "train"), **model.data_spec, seed=1)
    valid = deepspin.DataSystem(str(DATA / "valid"), **model.data_spec, batch_size=1)
    model.compute_stats(train.sample(10))

    # the fit
    schedule = deepspin.ExpDecay(1e-3, args.steps, stop_lr=5.92e-6, decay_steps=100)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, epsilon=1e-8),
        loss=deepspin.EnerSpinLoss(start_lr=1e-3),
    )
    model.fit(
        train,
        epochs=args.epochs,
        steps_per_epoch=args.steps // args.epochs,
        validation_data=valid,
        validation_steps=10,
        verbose=2,
    )
    model.save(args.output)
    again = keras.saving.load_model(args.output)
    again.evaluate(valid, steps=10, verbose=2)


if __name__ == "__main__":
    main()
