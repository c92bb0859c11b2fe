# SPDX-License-Identifier: Apache-2.0
"""Plain TensorFlow on a GPU, as far as it can be seen without one.

TensorFlow knows of every operation which kinds of devices have it, and XLA translates
for a GPU what a machine without one could not run.
"""

import re

import invariant_models
import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

import deepspin
from deepspin.infer.deep_spin import any_size
from deepspin.op.library import plain_tensorflow

ARGUMENTS = {"Placeholder", "_Arg"}  # of functions: no operations
BY_XLA, PLAIN = {"XLA_GPU_JIT"}, {"GPU", "DEFAULT"}  # DEFAULT is any device


@pytest.fixture(params=["ener_spin", "invariant"])
def model(request, make_model):
    """A model of each scheme, ready to train in plain TensorFlow."""
    if request.param == "invariant":
        model = invariant_models.build("NiO")
    else:
        model = make_model("NiO", neuron=(2, 4), resnet_dt=True)
    loss = deepspin.EnerSpinLoss(start_pref_v=0.1, limit_pref_v=0.1, start_pref_ae=0.1)
    schedule = deepspin.ExpDecay(1e-3, 100, stop_lr=1e-5, decay_steps=1)
    with plain_tensorflow():
        model.compile(optimizer=keras.optimizers.Adam(schedule), loss=loss)
        yield model


@pytest.fixture
def batch(model, make_nio, make_inputs, make_labels):
    inputs, _ = make_inputs(model, [make_nio(model, k) for k in range(2)])
    return inputs, make_labels(inputs)


def operations(function, *arguments):
    """Types of all operations of a function, and of those it calls."""
    traced = tf.function(function, autograph=False)
    graph = traced.get_concrete_function(*arguments).graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return {node.op for node in nodes} - ARGUMENTS


def lacking(types, devices):
    """Those of some operations that no device of these kinds has."""

    def found(name):
        return {
            k.device_type for k in kernels.get_registered_kernels_for_op(name).kernel
        }

    return {name for name in types if not found(name) & devices}


def test_every_operation_is_one_of_gpus(model, batch):
    """Steps of training and validation, and evaluations of any size."""
    types = operations(lambda *data: model.train_step(data), *batch)
    types |= operations(lambda *data: model.test_step(data), *batch)
    types |= operations(lambda inputs: model(inputs), any_size(model))
    assert "ResourceApplyAdam" in types  # the update is looked at, too
    assert lacking(types, BY_XLA) == set()
    if (
        tf.test.is_built_with_gpu_support()
    ):  # else TensorFlow has kernels for CPUs alone
        assert lacking(types, PLAIN) == set()


def test_others_are_noticed(make_model, make_nio, make_inputs):
    def on_the_host(x):
        return tf.strings.to_number(tf.strings.as_string(x), tf.float64)

    types = operations(on_the_host, tf.TensorSpec([2], tf.float64))
    assert {"AsString", "StringToNumber"} <= lacking(types, BY_XLA)
    by_python = operations(
        lambda x: tf.py_function(abs, [x], tf.float64), tf.TensorSpec([], tf.float64)
    )
    assert lacking(by_python, BY_XLA) == {"EagerPyFunc"}
    model = make_model("NiO")
    if not model.native:
        pytest.skip("deepspin was installed without kernels")
    inputs, _ = make_inputs(model, [make_nio(model)])
    ours = lacking(operations(lambda x: model(x), inputs), BY_XLA)
    assert any(name.startswith("Deepspin") for name in ours)


def test_xla_translates_a_step_for_a_gpu(model, batch):
    """Outputs, loss and its gradient, with nothing that asks the host."""
    variables = [*model.variables, *model.optimizer.variables]
    values = [tf.convert_to_tensor(v.value) for v in variables]

    def gradient(values, inputs, labels):
        """Of weights that are arguments: XLA translates no others without a GPU."""
        by_path = {v.path: x for v, x in zip(variables, values, strict=True)}
        weights = [by_path[v.path] for v in model.trainable_variables]
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(mapping), tf.GradientTape() as tape:
            tape.watch(weights)
            outputs = model(inputs, training=True)
            loss = model.compute_loss(inputs, labels, outputs)
        slopes = tape.gradient(loss, weights)
        assert all(slope is not None for slope in slopes)
        return outputs, loss, slopes

    translate = tf.function(gradient, autograph=False, jit_compile=True)
    text = translate.experimental_get_compiler_ir(values, *batch)(
        stage="hlo", platform_name="GPU"
    )
    found = set(re.findall(r"^\s*(?:ROOT )?\S+ = .*? ([a-z][a-z0-9-]*)\(", text, re.M))
    assert {"dot", "tanh", "gather", "scatter"} <= found
    assert not found & {"custom-call", "infeed", "outfeed", "send", "recv"}
