# SPDX-License-Identifier: Apache-2.0
"""Keras loads what it saved, whichever of the two was imported first."""

import subprocess
import sys

import keras
import pytest
import small_data

import deepspin
import deepspin.modelfiles.archive

# parts of layers, which no file names
PARTS = {"ResidualDense", "EmbeddingTable"}

ORDERS = {
    "deepspin first": "import deepspin\nassert 'keras' not in sys.modules",
    "keras first": "import keras\nimport deepspin",
}
LOAD = """
import keras
assert not [m for m in sys.modules if m.startswith("deepspin.model.")]
model = keras.saving.load_model(sys.argv[1])
copy = keras.models.clone_model(model)
for thing in (copy, model.loss_function, model.optimizer._learning_rate):
    print(type(thing).__name__)
print(int(model.optimizer.iterations.numpy()))
"""


def test_every_saved_class_is_told_of():
    found = {
        name.removeprefix("deepspin>"): known
        for name, known in keras.saving.get_custom_objects().items()
        if name.startswith("deepspin>")
    }
    assert set(found) - PARTS == set(deepspin._SAVED)
    for name, known in found.items():
        assert isinstance(known, type), f"a stand is left: {name}"


@pytest.fixture(scope="module")
def saved(make_model, tmp_path_factory):
    """File of a compiled model after a step."""
    folder = tmp_path_factory.mktemp("saved")
    system = small_data.write(folder / "s", *small_data.frames(2))
    model = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
    schedule = deepspin.ExpDecay(1e-3, 100, stop_lr=1e-4)
    model.compile(
        keras.optimizers.Adam(schedule), deepspin.EnerSpinLoss(), jit_compile=False
    )
    data = deepspin.DataSystem(str(system), **model.data_spec, batch_size=2)
    model.fit(data, verbose=0)
    model.save(folder / "m.keras")
    return folder / "m.keras"


@pytest.mark.parametrize("order", ORDERS)
def test_keras_loads_in_a_new_process(order, saved):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{ORDERS[order]}\n{LOAD}", str(saved)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["SpinEnergyModel", "EnerSpinLoss", "ExpDecay", "1"]
