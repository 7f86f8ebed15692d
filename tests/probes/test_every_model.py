"""Every kind of model: recorded norms against the steps that weights really take, probes against nudged forward passes.

Plain gradient descent moves a weight by learning rate times gradient, so that its steps tell the norm of the gradient,
whatever the model, the optimizer's inside and the backend.
"""

from itertools import pairwise

import keras
import numpy as np
import pytest
from fast import EAGER, FAST
from slow_reference import loss, slope, slopes, states_of
from training import Weights
from zoo import (
    BATCH,
    FEATURES,
    IN_TRAINING,
    LEARNING_RATE,
    ONLY_WEIGHTS,
    TIME,
    UNITS,
    ZOO,
    compiled,
    everything,
    numbers,
    stack,
)

import rnnkit
from rnnkit import probes

layers = keras.layers


@pytest.fixture(autouse=True)
def _prepared(digits):
    keras.utils.set_random_seed(1)


# What meets the recorder in another way once it is traced: gradients in rows, more calls than layers, streams, states.
TRACED = (
    "sequential",
    "functional with several inputs and outputs",
    "subclassed",
    "shared embedding and dense",
    "stacked cells with mask",
    "custom cell",
    "stateful",
    "encoder and decoder",
    "dropout",
    "normalisation",
    "regularizers",
    "convolutional state",
    "shared recurrent layer",
)


def how_often(name, compiling):
    """Return the marks of a model's case: of those that are traced, one is for every day."""
    if compiling is EAGER or name == "sequential":
        return ()
    return pytest.mark.slow if name in TRACED else pytest.mark.thorough


@pytest.mark.parametrize(
    ("name", "compiling"),
    [
        pytest.param(
            name,
            compiling,
            marks=how_often(name, compiling),
            id=f"{name}-{'traced' if compiling is FAST else 'eager'}",
        )
        for name in ZOO | ONLY_WEIGHTS
        for compiling in ([FAST] if name in TRACED or FAST == EAGER else [EAGER, FAST])
    ],
)
def test_recorded_norms_are_those_of_the_steps_that_the_weights_take(name, compiling):
    if name == "stateful" and keras.backend.backend() == "torch":
        pytest.skip("Keras cannot train a stateful layer on torch")
    model, x, y, keys, _ = (ZOO | ONLY_WEIGHTS)[name]()
    model.run_eagerly = "run_eagerly" in compiling
    recorder, weights = rnnkit.GradientRecorder(), Weights()
    model.fit(x, y, batch_size=BATCH, epochs=3, callbacks=[recorder, weights], verbose=0)
    assert sorted(recorder.history) == sorted(keys)
    assert recorder.steps.tolist() == [0, 1, 2]
    rounding = 10 * np.finfo(keras.config.floatx()).eps  # of weights of about 1
    for place, key in enumerate(keys):
        steps = [np.linalg.norm(after[place] - before[place]) for before, after in pairwise(weights.seen)]
        assert min(steps) > 0, key
        np.testing.assert_allclose(
            recorder.history[key], np.array(steps) / LEARNING_RATE, rtol=1e-5, atol=rounding, err_msg=key
        )
    np.testing.assert_allclose(recorder.global_norm, np.linalg.norm(list(recorder.history.values()), axis=0), rtol=1e-5)


def every_slope(name, model, x, y, recurrent, cell, place, directions, epsilon, training):
    """Return the central differences along the directions (time, batch, units), one by one where examples meet."""
    if training or name in ("regularizers", "stateful"):
        return [
            slope(model, x, y, recurrent, cell, place, step, direction, epsilon, training=training)
            for step, direction in enumerate(directions)
        ]
    return slopes(model, x, y, recurrent, cell, place, directions, epsilon)


@pytest.mark.parametrize(("name", "training"), [(name, False) for name in ZOO] + [(name, True) for name in IN_TRAINING])
def test_state_gradients_are_central_differences_of_nudged_forward_passes(name, training, digits):
    model, x, y, _, recurrent = ZOO[name]()
    slow = loss(model, x, y, recurrent.values())
    reported = model.evaluate(x, y, batch_size=BATCH, return_dict=True, verbose=0)["loss"]
    np.testing.assert_allclose(slow, reported, rtol=1e-6)  # so the reference is Keras's own model
    before = everything(model)
    measured = probes.state_gradients(model, x, y, training=training)
    after = everything(model)
    assert before[1:] == after[1:]
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)

    states = {key: found for name, layer in recurrent.items() for key, found in states_of(name, layer).items()}
    assert {(key, state) for key, found in measured.items() for state in found} == set(states)
    draw = np.random.default_rng(5)
    for (key, state), (cell, place, size) in states.items():
        gradients = measured[key][state]
        assert gradients.shape == (BATCH, TIME, size)
        assert np.abs(gradients).max() > 1e-6
        directions = draw.normal(size=(TIME, BATCH, size)).astype(gradients.dtype)
        directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
        differences = every_slope(name, model, x, y, recurrent.values(), cell, place, directions, digits.step, training)
        measured_slopes = (gradients.swapaxes(0, 1) * directions).sum(axis=(1, 2))
        np.testing.assert_allclose(measured_slopes, differences, rtol=1e-5, atol=digits.atol, err_msg=f"{key} {state}")


def test_dropout_is_drawn_alike_each_time_until_training_goes_on():
    """The masks are those that the next training step would draw; measuring does not use them up."""
    model, x, y, *_ = ZOO["dropout"]()
    first, again = (probes.state_gradients(model, x, y, training=True)["rnn"]["h"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, probes.state_gradients(model, x, y)["rnn"]["h"])
    weights = model.get_weights()
    model.fit(x, y, verbose=0)
    model.set_weights(weights)
    assert not np.allclose(first, probes.state_gradients(model, x, y, training=True)["rnn"]["h"])


def each_call(number):
    """Two calls of one layer, or one call each of two layers, `one` and `two`."""
    made = [layers.LSTM(UNITS, name=name) for name in ("one", "two")[:number]]
    left, right = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    both = layers.Subtract()([made[0](left), made[-1](right)])
    model = compiled(keras.Model([left, right], layers.Dense(1, name="head")(both)))
    return model, made


def test_a_shared_layer_has_states_of_its_own_in_each_call():
    """As two layers of equal weights have."""
    (shared, (one,)), (apart, two) = each_call(1), each_call(2)
    for layer in two:
        layer.set_weights(one.get_weights())
    apart.get_layer("head").set_weights(shared.get_layer("head").get_weights())
    x, y = [numbers(BATCH, TIME, FEATURES, seed=seed) for seed in (0, 1)], numbers(BATCH, 1)
    measured, expected = probes.state_gradients(shared, x, y), probes.state_gradients(apart, x, y)
    assert list(measured) == ["one", "one/call_2"]
    for call, layer in zip(measured, ("one", "two"), strict=True):
        for state in "hc":
            np.testing.assert_allclose(measured[call][state], expected[layer][state], rtol=1e-5, atol=1e-7)


def test_a_layer_inside_time_distributed_has_states_in_each_of_its_sequences():
    each = layers.TimeDistributed(layers.GRU(UNITS, name="rnn"), name="each")
    model = compiled(keras.Sequential([keras.Input((2, TIME, FEATURES)), each, layers.Flatten(), layers.Dense(1)]))
    x, y = numbers(BATCH, 2, TIME, FEATURES), numbers(BATCH, 1)
    measured = probes.state_gradients(model, x, y)
    assert list(measured) == ["each/rnn", "each/rnn/call_2"]

    left, right = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    apart = [layers.GRU(UNITS, name=name) for name in ("left", "right")]
    joined = layers.Concatenate()([apart[0](left), apart[1](right)])
    reference = compiled(keras.Model([left, right], layers.Dense(1)(joined)))
    for layer in apart:
        layer.set_weights(each.get_weights())
    reference.layers[-1].set_weights(model.layers[-1].get_weights())
    expected = probes.state_gradients(reference, [x[:, 0], x[:, 1]], y)
    for call, layer in zip(measured, ("left", "right"), strict=True):
        np.testing.assert_allclose(measured[call]["h"], expected[layer]["h"], rtol=1e-5, atol=1e-7)


class Projected(layers.SimpleRNNCell):
    """A cell whose output is computed from its state."""

    def call(self, sequence, states, training=False):
        h, new = super().call(sequence, states, training=training)
        return 2 * h, new


def test_of_a_cell_whose_output_is_computed_the_state_is_what_it_hands_on():
    """At the last step nothing is handed on; before, its share arrives by way of all later steps."""
    projected = stack(layers.RNN(Projected(UNITS, name="cell"), name="rnn"))
    plain = stack(layers.SimpleRNN(UNITS, name="rnn"))
    plain.model.set_weights(projected.model.get_weights())
    head = plain.model.layers[-1]
    head.set_weights([2 * head.get_weights()[0], head.get_weights()[1]])
    measured, total = (probes.state_gradients(of.model, of.x, of.y)["rnn"]["h"] for of in (projected, plain))
    np.testing.assert_array_equal(measured[:, -1], 0)
    np.testing.assert_allclose(measured[:, :-1], total[:, :-1], rtol=1e-5, atol=1e-8)
