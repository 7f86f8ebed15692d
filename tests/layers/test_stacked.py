"""Stacked recurrent layers against wiring by hand, and against a plain loop; and under the probes and recorders."""

import keras
import numpy as np
import pytest
from fast import EAGER

import rnnkit
from rnnkit import probes
from rnnkit.layers import StackedRNN

BATCH, TIME, FEATURES, UNITS, DEPTH = 4, 6, 3, 5, 3
SKIPS = ("none", "residual", "dense")
each_kind = pytest.mark.parametrize("skips", SKIPS)
KINDS = {
    "SimpleRNN": keras.layers.SimpleRNN,
    "GRU": keras.layers.GRU,
    "LSTM": keras.layers.LSTM,
    "Bidirectional": lambda units, name, **settings: keras.layers.Bidirectional(
        keras.layers.GRU(units, name=f"inside_{name}", **settings), name=name
    ),
}


def layers(kind="SimpleRNN", depth=DEPTH, **settings):
    return [KINDS[kind](UNITS, return_sequences=True, name=f"rnn_{k}", **settings) for k in range(1, depth + 1)]


def batch():
    draw = np.random.default_rng(0)
    return draw.normal(size=(BATCH, TIME, FEATURES)).astype("float32"), draw.normal(size=(BATCH, 2)).astype("float32")


def by_hand(x, layers, skips):
    """Wire the layers in Keras's functional way."""
    heard = [x]
    for place, layer in enumerate(layers):
        if skips == "dense":
            said = layer(keras.layers.concatenate(heard) if place else x)
        else:
            said = layer(heard[-1])
            if skips == "residual" and place > 0:
                said = keras.layers.add([heard[-1], said])
        heard.append(said)
    return keras.layers.concatenate(heard) if skips == "dense" else heard[-1]


def twins(skips, kind="SimpleRNN"):
    """Return two compiled models of the same large weights: one of a StackedRNN, the other wired by hand."""
    models = []
    for wire in (lambda x, parts: StackedRNN(parts, skips, name="stack")(x), lambda x, parts: by_hand(x, parts, skips)):
        inputs = keras.Input((None, FEATURES))
        last = wire(inputs, layers(kind))[:, -1]
        model = keras.Model(inputs, keras.layers.Dense(2, name="head")(last))
        model.compile(keras.optimizers.SGD(0.5), "mse", **EAGER)
        models.append(model)
    draw = np.random.default_rng(1)
    weights = [draw.normal(0, 0.5, variable.shape) for variable in models[1].trainable_variables]
    for model in models:
        model.set_weights(weights)
    return models


def plain_loop(model, x, skips, nudged=None, amount=0.0):
    """Run a stack of SimpleRNNs in NumPy, time outside, layers inside; return the head's answers.

    At the place `nudged`, (layer, time), `amount` is added to unit 2 of the state of example 1.
    """
    *weights, head, head_bias = (weight.astype("float64") for weight in model.get_weights())
    cells = [weights[start : start + 3] for start in range(0, len(weights), 3)]
    states = [np.zeros((len(x), UNITS)) for _ in cells]
    for t in range(x.shape[1]):
        heard = [x[:, t].astype("float64")]
        for place, (kernel, recurrent, bias) in enumerate(cells):
            reads = np.concatenate(heard, axis=1) if skips == "dense" else heard[-1]
            states[place] = np.tanh(reads @ kernel + states[place] @ recurrent + bias)
            if (place, t) == nudged:
                states[place][1, 2] += amount
            heard.append(states[place] + (heard[-1] if skips == "residual" and place else 0))
    top = np.concatenate(heard, axis=1) if skips == "dense" else heard[-1]
    return top @ head + head_bias


@each_kind
def test_the_stack_computes_what_a_plain_loop_does(skips):
    model, _ = twins(skips)
    x, _ = batch()
    np.testing.assert_allclose(model.predict(x, verbose=0), plain_loop(model, x, skips), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("skips", "kind"), [("none", "SimpleRNN"), ("residual", "LSTM"), ("dense", "GRU"), ("dense", "Bidirectional")]
)
def test_the_stack_is_the_wiring_by_hand_in_its_answers_and_its_training(skips, kind):
    ours, theirs = twins(skips, kind)
    x, y = batch()
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), atol=1e-5)
    for model in (ours, theirs):
        model.train_on_batch(x, y)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


@each_kind
def test_state_gradients_are_those_of_the_wiring_by_hand(skips):
    ours, theirs = twins(skips)
    x, y = batch()
    mine, other = (probes.state_gradients(model, x, y) for model in (ours, theirs))
    assert list(mine) == [f"stack/rnn_{k}" for k in range(1, DEPTH + 1)]
    for k in range(1, DEPTH + 1):
        assert np.abs(other[f"rnn_{k}"]["h"]).min(axis=(0, 2)).max() > 0
        np.testing.assert_allclose(mine[f"stack/rnn_{k}"]["h"], other[f"rnn_{k}"]["h"], atol=1e-5)


@each_kind
def test_a_state_gradient_is_the_small_difference_of_a_plain_loop(skips):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the loss is compared in float64")
    model, _ = twins(skips)
    x, y = batch()
    exact = probes.state_gradients(model, x, y, dtype="float64")
    for layer, t in [(0, 0), (1, 3), (DEPTH - 1, TIME - 1)]:
        up, down = (np.mean((plain_loop(model, x, skips, (layer, t), step) - y) ** 2) for step in (1e-5, -1e-5))
        here = exact[f"stack/rnn_{layer + 1}"]["h"][1, t, 2]
        assert here == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-9)


def test_a_residual_stack_has_no_connection_round_its_first_layer():
    """Not even where the features are as many as the units."""
    x = np.random.default_rng(0).normal(size=(BATCH, TIME, UNITS)).astype("float32")
    parts = layers(depth=2)
    said = keras.ops.convert_to_numpy(StackedRNN(parts, "residual")(x))
    lower = parts[0](x)
    np.testing.assert_allclose(said, keras.ops.convert_to_numpy(lower + parts[1](lower)), atol=1e-6)


def test_recorders_tell_the_layers_apart():
    model, _ = twins("dense")
    x, y = batch()
    recorder, flow = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(x, y, every=1)
    model.fit(x, y, epochs=2, batch_size=BATCH, callbacks=[recorder, flow], verbose=0)
    assert {f"stack/rnn_{k}/recurrent_kernel" for k in range(1, DEPTH + 1)} <= set(recorder.history)
    assert np.shape(flow.history["stack/rnn_2"]) == (2, TIME)


@each_kind
def test_one_step_or_all(skips):
    x, _ = batch()
    whole = StackedRNN(layers(), skips)
    steps = keras.ops.convert_to_numpy(whole(x))
    width = FEATURES + DEPTH * UNITS if skips == "dense" else UNITS
    assert steps.shape == (BATCH, TIME, width)
    assert whole.compute_output_shape((None, None, FEATURES)) == (None, None, width)
    whole.return_sequences = False
    np.testing.assert_allclose(keras.ops.convert_to_numpy(whole(x)), steps[:, -1], atol=1e-6)


@pytest.mark.parametrize(("skips", "side"), [("none", "left"), ("residual", "right"), ("dense", "right")])
def test_padding_does_not_count(skips, side):
    """The last step that is not masked is the answer for the sequence alone."""
    x, _ = batch()
    x = np.where(np.abs(x) < 1e-3, 0.5, x)  # nothing but padding is 0
    padded = np.zeros((BATCH, TIME + 3, FEATURES), "float32")
    padded[:, slice(3, None) if side == "left" else slice(TIME)] = x
    stack = StackedRNN(layers("GRU"), skips, return_sequences=False)
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, stack(keras.layers.Masking()(inputs)))
    alone = keras.ops.convert_to_numpy(stack(x))
    np.testing.assert_allclose(model.predict(padded, verbose=0), alone, atol=1e-5)


@each_kind
def test_the_lower_part_of_a_stack_is_a_stack_of_the_same_weights(skips):
    x, _ = batch()
    parts = layers()
    whole = keras.ops.convert_to_numpy(StackedRNN(parts, skips)(x))
    lower = keras.ops.convert_to_numpy(StackedRNN(parts[:2], skips)(x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(StackedRNN(parts, skips)(x)), whole, atol=1e-6)
    if skips == "dense":
        np.testing.assert_allclose(whole[..., :-UNITS], lower, atol=1e-6)
    else:
        assert lower.shape == whole.shape


def test_the_mask_goes_on_with_the_sequence_only():
    inputs = keras.layers.Masking()(keras.Input((None, FEATURES)))
    assert StackedRNN(layers()).compute_mask(inputs, "mask") == "mask"
    assert StackedRNN(layers(), return_sequences=False).compute_mask(inputs, "mask") is None


def test_a_saved_stack_comes_back(tmp_path):
    model, _ = twins("dense")
    x, _ = batch()
    model.save(tmp_path / "stack.keras")
    again = keras.models.load_model(tmp_path / "stack.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    assert list(probes.state_gradients(again, *batch())) == [f"stack/rnn_{k}" for k in range(1, DEPTH + 1)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StackedRNN([]), "at least one"),
        (lambda: StackedRNN(layers(), "highway"), "none, residual, dense"),
        (lambda: StackedRNN([keras.layers.GRUCell(3)]), "keras.layers.RNN"),
        (lambda: StackedRNN([keras.layers.Dense(3)]), "made of recurrent layers"),
        (lambda: StackedRNN([keras.layers.GRU(3)]), "return_sequences=True"),
        (lambda: StackedRNN([keras.layers.GRU(3, return_sequences=True, return_state=True)]), "return_state=True"),
        (lambda: StackedRNN([keras.layers.GRU(3, return_sequences=True, go_backwards=True)]), "order of time"),
        (lambda: StackedRNN(layers(depth=1) * 2), "weights of its own"),
        (
            lambda: StackedRNN([keras.layers.GRU(units, return_sequences=True) for units in (3, 4)], skips="residual")(
                np.ones((1, 2, 3))
            ),
            "equally wide",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
