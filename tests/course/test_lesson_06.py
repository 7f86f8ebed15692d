"""The exercises of lesson 06: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import functools

import keras
import numpy as np
import pytest

from rnnkit.course.exercises import evaluate
from rnnkit.course.exercises.lesson_06 import by_depth, highway_from_gru, measure_blocks
from rnnkit.layers import DenselyConnected, Highway, Residual


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- by_depth -----------------------------------------------------------------------------------------------------


def by_counting(history, weight):
    norms = []
    while f"layer_{len(norms) + 1:02}/{weight}" in history:
        norms.append(history[f"layer_{len(norms) + 1:02}/{weight}"][0])
    return norms


def by_splitting(history, weight):
    parts = {tuple(name.split("/")): norms[0] for name, norms in history.items()}
    middle = {key[0]: norm for key, norm in parts.items() if key[0] not in ("first", "head") and key[1:] == (weight,)}
    return np.array([middle[layer] for layer in sorted(middle)])


@pytest.mark.parametrize("answer", [by_counting, by_splitting, lambda h, weight: tuple(by_depth(h, weight))])
def test_by_depth_right(answer):
    expect("by_depth", answer, "correct")


def picked(history, weight, keep=lambda name: name.startswith("layer_") and "gate" not in name, take=0, order=sorted):
    names = order(name for name in history if keep(name) and name.endswith(f"/{weight}"))
    return np.array([history[name][take] for name in names])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (functools.partial(picked, take=-1), "norms of the last step"),
        (lambda h, w: [np.mean(h[f"layer_{n:02}/{w}"]) for n in range(1, 13)], "means over the steps"),
        (lambda h, w: picked(h, w)[::-1], "wrong order"),
        (functools.partial(picked, order=list), "take the names in order"),
        (lambda h, w: picked(h, "kernel"), "`weight` has no effect"),
        (functools.partial(picked, keep=lambda name: name.startswith("layer_")), "the gates too"),
        (functools.partial(picked, keep=lambda name: "gate" not in name), "`first` and `head`"),
        (functools.partial(picked, take=slice(None)), "return all steps"),
        (lambda h, w: [h[name][0] for name in sorted(h) if name.startswith("layer_")], "kernels and biases"),
        (lambda h, w: picked(h, w)[0], "return 12 numbers"),
        (lambda h, w: {name: h[name][0] for name in h}, "TypeError"),
    ],
)
def test_by_depth_wrong(answer, words):
    expect("by_depth", answer, "not yet", words)


def test_by_depth_reads_a_real_recording():
    import rnnkit

    def tanh(name):
        return keras.layers.Dense(4, "tanh", name=name)

    model = keras.Sequential(
        [
            keras.Input((4,)),
            tanh("first"),
            Highway(tanh("layer_01"), name="layer_01"),
            Residual(tanh("layer_02"), name="layer_02"),
            tanh("layer_03"),
            keras.layers.Dense(1, name="head"),
        ]
    )
    model.compile("sgd", "mse")
    recorder = rnnkit.GradientRecorder()
    model.fit(np.ones((8, 4)), np.ones((8, 1)), batch_size=4, callbacks=[recorder], verbose=0)
    expected = [recorder.history[f"layer_{number:02}/bias"][0] for number in (1, 2, 3)]
    np.testing.assert_array_equal(by_depth(recorder.history, "bias"), expected)


# --- highway_from_gru ---------------------------------------------------------------------------------------------


def by_splits(W, b):
    (W_z, _, W_h), (b_z, _, b_h) = np.split(W, 3, axis=1), np.split(b, 3)
    return W_h, b_h, -W_z, -b_z


def by_reshape(W, b):
    units = W.shape[0]
    blocks, biases = W.reshape(units, 3, units), b.reshape(3, units)
    return [blocks[:, 2].tolist(), biases[2].tolist(), (-1 * blocks[:, 0]).tolist(), (-1 * biases[0]).tolist()]


@pytest.mark.parametrize("answer", [by_splits, by_reshape])
def test_highway_right(answer):
    expect("highway_from_gru", answer, "correct")


def parts(W, b):
    return *np.split(W, 3, axis=1), *np.split(b, 3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], parts(W, b)[0], parts(W, b)[3]], "z says keep"),
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], -parts(W, b)[0], parts(W, b)[3]], "b_T has not"),
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], parts(W, b)[0], -parts(W, b)[3]], "W_T has not"),
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], 1 - parts(W, b)[0], 1 - parts(W, b)[3]], "sigmoid(1 - a)"),
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], -parts(W, b)[0], 1 - parts(W, b)[3]], "is 1 - b_z"),
        (lambda W, b: [parts(W, b)[2], parts(W, b)[5], -parts(W, b)[1], -parts(W, b)[4]], "the second; z has"),
        (lambda W, b: [parts(W, b)[1], parts(W, b)[4], -parts(W, b)[0], -parts(W, b)[3]], "The order is z, r"),
        (lambda W, b: [-parts(W, b)[0], -parts(W, b)[3], parts(W, b)[2], parts(W, b)[5]], "each other's place"),
        (lambda W, b: [-part for part in highway_from_gru(W, b)[:2]] + highway_from_gru(W, b)[2:], "Only the gate's"),
        (lambda W, b: [np.transpose(part) for part in highway_from_gru(W, b)], "are transposed"),
        (lambda W, b: highway_from_gru(W, b)[:2], "four arrays"),
        (lambda W, b: [W, b, -W, -b], "W_H should have the shape (4, 4)"),
        (lambda W, b: [2 * part for part in highway_from_gru(W, b)], "W_H is 2 times"),
    ],
)
def test_highway_wrong(answer, words):
    expect("highway_from_gru", answer, "not yet", words)


def test_the_reference_turns_a_gru_into_a_highway_layer():
    draw = np.random.default_rng(0)
    W, b, h = draw.normal(size=(3, 9)), draw.normal(size=9), draw.normal(size=(5, 3))
    W_H, b_H, W_T, b_T = highway_from_gru(W, b)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    z, candidate = sigmoid(h @ W[:, :3] + b[:3]), np.tanh(h @ W[:, 6:] + b[6:])
    T = sigmoid(h @ W_T + b_T)
    np.testing.assert_allclose(T * np.tanh(h @ W_H + b_H) + (1 - T) * h, z * h + (1 - z) * candidate)


# --- my_block -----------------------------------------------------------------------------------------------------


def normalised(layer):
    return Residual(keras.Sequential([keras.layers.BatchNormalization(), layer, keras.layers.Rescaling(0.3)]))


def scaled(layer):
    return Residual(keras.Sequential([layer, keras.layers.Rescaling(0.3)]))


@pytest.mark.parametrize("answer", [lambda layer: Highway(layer, gate_bias=-3.5), scaled, normalised, DenselyConnected])
def test_block_right(answer):
    expect("my_block", answer, "correct", "the gradient below is")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda layer: layer, "It fades"),
        (lambda layer: Highway(layer, gate_bias=-1.0), "It fades"),
        (Residual, "explodes"),
        (lambda layer: keras.layers.Identity(), "is not used"),
        (lambda layer: "Residual", "return a Keras layer"),
        (lambda layer: layer.units, "return a Keras layer"),
    ],
)
def test_block_wrong(answer, words):
    expect("my_block", answer, "not yet", words)


def test_a_block_that_is_always_the_same_is_told_so():
    once = scaled(keras.layers.Dense(32, "tanh"))
    expect("my_block", lambda layer: once, "not yet", "the same layer each time")


def test_blocks_that_do_nothing_pass_on_everything():
    passed, size, used = measure_blocks(lambda layer: keras.layers.Identity(), depth=3)
    assert passed == pytest.approx(1, rel=1e-5)
    assert 0.1 < size < 1
    assert used == 0


# --- the choice and the quiz --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "words"), [("a", "0.48"), ("c", "mean of x and H(x)"), ("d", "letters a, b, c")])
def test_gate_bias_wrong(answer, words):
    expect("gate_bias_of_minus_four", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", "(B)"])
def test_gate_bias_right(answer):
    expect("gate_bias_of_minus_four", answer, "correct", "0.48")
