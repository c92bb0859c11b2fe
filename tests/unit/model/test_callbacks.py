# SPDX-License-Identifier: Apache-2.0
"""Each of Keras' own callbacks does what it is for.

They look at epochs and logs, whatever a step is made of, so the steps run eagerly.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import keras
import numpy as np
import pytest
import small_data
import tensorflow as tf

import deepspin
from deepspin.modelfiles.archive import load_model

EPOCHS = 3
RATE = 2.0**-10


@pytest.fixture(scope="module")
def build(make_model):
    """A compiled model, always the same."""

    def call(rate=RATE, **options):
        model = make_model("NiO", neuron=(2, 4), fit_neuron=(4, 4))
        model.compile(
            keras.optimizers.Adam(rate, **options),
            deepspin.EnerSpinLoss(),
            run_eagerly=True,
        )
        return model

    return call


@pytest.fixture(scope="module")
def data(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("called") / "s"
    system = small_data.write(folder, *small_data.frames(4))
    return deepspin.DataSystem(str(system), **build().data_spec, batch_size=2, seed=3)


@pytest.fixture(scope="module")
def fit(data):
    """Train some epochs, each with a validation."""

    def call(model, *callbacks, epochs=EPOCHS, verbose=0):
        return model.fit(
            data,
            epochs=epochs,
            validation_data=data,
            callbacks=list(callbacks),
            verbose=verbose,
        )

    return call


@pytest.fixture(scope="module")
def plain(build, fit):
    """What training gives without callbacks: history, and weights after each epoch."""
    model, weights = build(), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(model.get_weights())
    )
    return fit(model, keep).history, weights


def assert_same(model, weights):
    for found, want in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, want)


# -- one by one ------------------------------------------------------------------------


def history(model, fit, plain, folder, capsys):
    callback = keras.callbacks.History()
    assert fit(model, callback) is callback
    assert callback.history == plain[0]
    assert len(plain[0]["val_rmse_fm"]) == EPOCHS


def progress(model, fit, plain, folder, capsys):
    fit(model, keras.callbacks.ProgbarLogger(), verbose=2)
    printed = capsys.readouterr().out
    assert printed.count("val_rmse_fm:") == printed.count("Epoch ") == EPOCHS


def functions(model, fit, plain, folder, capsys):
    batches, epochs = [], []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(logs["rmse_e"]),
        on_epoch_end=lambda epoch, logs: epochs.append(logs),
    )
    fit(model, callback)
    assert len(batches) == 2 * EPOCHS
    want = {key: values[-1] for key, values in plain[0].items()}
    assert epochs[-1] == pytest.approx(want, rel=1e-12)


def table(model, fit, plain, folder, capsys):
    fit(model, keras.callbacks.CSVLogger(str(folder / "log.csv")))
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [float(row["val_rmse_fm"]) for row in rows]
    assert found == pytest.approx(plain[0]["val_rmse_fm"], rel=1e-12)


def checkpoint(model, fit, plain, folder, capsys):
    """The best one, whatever epoch that is, and the weights of each."""
    best = keras.callbacks.ModelCheckpoint(
        str(folder / "best.keras"), monitor="val_rmse_e", save_best_only=True
    )
    each = keras.callbacks.ModelCheckpoint(
        str(folder / "{epoch}.weights.h5"), save_weights_only=True
    )
    fit(model, best, each)
    epoch = int(np.argmin(plain[0]["val_rmse_e"]))
    assert_same(load_model(folder / "best.keras"), plain[1][epoch])
    for k in range(EPOCHS):
        model.load_weights(folder / f"{k + 1}.weights.h5")
        assert_same(model, plain[1][k])


def stopping(model, fit, plain, folder, capsys):
    callback = keras.callbacks.EarlyStopping(
        "val_rmse_fm", min_delta=1e9, restore_best_weights=True
    )
    found = fit(model, callback).history
    assert len(found["loss"]) == 2 and callback.stopped_epoch == 1
    assert_same(model, plain[1][0])


def plateau(model, fit, plain, folder, capsys):
    callback = keras.callbacks.ReduceLROnPlateau(
        "val_score", factor=0.5, patience=1, min_delta=1e9
    )
    found = fit(model, callback).history
    assert found["learning_rate"] == [RATE, RATE, RATE / 2]
    assert float(model.optimizer.learning_rate.numpy()) == RATE / 4
    assert found["loss"][:2] == plain[0]["loss"][:2]
    assert found["loss"][2] != plain[0]["loss"][2]  # so are the prefactors


def scheduler(model, fit, plain, folder, capsys):
    callback = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    found = fit(model, callback).history["learning_rate"]
    assert found == [RATE / 2, RATE / 4, RATE / 8]


def board(model, fit, plain, folder, capsys):
    """Where there is a tensorboard; it is named where there is none."""
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ImportError, match="`pip install tensorboard`"):
            fit(model, keras.callbacks.TensorBoard(str(folder)))
        assert int(model.optimizer.iterations.numpy()) == 0
        return
    fit(model, keras.callbacks.TensorBoard(str(folder), histogram_freq=1))
    found = {}
    for part in ("train", "validation"):
        (file,) = (folder / part).glob("events.out.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    np.testing.assert_allclose(found["epoch_rmse_e"][:EPOCHS], plain[0]["rmse_e"], 1e-6)
    assert any("matrix" in tag or "davg" in tag for tag in found), sorted(found)


def remote(model, fit, plain, folder, capsys):
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        fit(model, keras.callbacks.RemoteMonitor(root, send_as_json=True))
        server.shutdown()
        thread.join()
    assert [logs["epoch"] for logs in received] == list(range(EPOCHS))
    assert received[-1]["val_rmse_fm"] == pytest.approx(plain[0]["val_rmse_fm"][-1])


def averages(model, fit, plain, folder, capsys):
    """Validation looks at the averages, which are the model's at the end."""
    start = model.get_weights()
    with pytest.raises(ValueError, match="use_ema=True"):
        fit(model, keras.callbacks.SwapEMAWeights())
    model.set_weights(start)
    model.compile(
        keras.optimizers.Adam(RATE, use_ema=True, ema_momentum=0.5),
        model.loss_function,
        run_eagerly=True,
    )
    found = fit(model, keras.callbacks.SwapEMAWeights()).history
    assert found["loss"] == pytest.approx(plain[0]["loss"], rel=1e-12)
    assert found["val_rmse_e"] != pytest.approx(plain[0]["val_rmse_e"], rel=1e-6)
    moved, full = (
        max(np.abs(a - b).max() for a, b in zip(weights, start, strict=True))
        for weights in (model.get_weights(), plain[1][-1])
    )
    assert 0 < moved < full


def not_a_number(model, fit, plain, folder, capsys):
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    model.loss_function.fm_longitudinal = float("nan")
    fit(model, keras.callbacks.TerminateOnNaN(), count)
    assert steps == [0]


CASES = {
    "History": history,
    "ProgbarLogger": progress,
    "LambdaCallback": functions,
    "CSVLogger": table,
    "ModelCheckpoint": checkpoint,
    "EarlyStopping": stopping,
    "ReduceLROnPlateau": plateau,
    "LearningRateScheduler": scheduler,
    "TensorBoard": board,
    "RemoteMonitor": remote,
    "SwapEMAWeights": averages,
    "TerminateOnNaN": not_a_number,
}
# BackupAndRestore and CallbackList: see test_feeding.py; Orbax is not installed
ELSEWHERE = {"Callback", "CallbackList", "BackupAndRestore", "OrbaxCheckpoint"}


@pytest.mark.parametrize("name", CASES)
def test_callback(name, build, fit, plain, tmp_path, capsys):
    CASES[name](build(), fit, plain, tmp_path, capsys)


def test_all_are_here():
    """Those of later versions of Keras, too."""
    there = {name for name, kind in vars(keras.callbacks).items() if type(kind) is type}
    assert there <= {*CASES, *ELSEWHERE}
    assert set(CASES) <= there


def test_rates_that_a_schedule_sets(build, fit):
    """Told before the first step."""
    model = build(deepspin.ExpDecay(RATE, 9, stop_lr=1e-5))
    for callback in (
        keras.callbacks.ReduceLROnPlateau("val_score", patience=99),
        keras.callbacks.LearningRateScheduler(lambda epoch: RATE),
    ):
        with pytest.raises(ValueError, match=r"sets the learning rate, which a sched"):
            fit(model, callback)
    assert int(model.optimizer.iterations.numpy()) == 0
