"""The exercises of lesson 04: right answers in several styles pass, the usual wrong ones are told what is wrong."""

from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

import rnnkit
from rnnkit import sweeps
from rnnkit.course.exercises import catalogue, evaluate
from rnnkit.course.exercises.lesson_04 import _why_unsolved, recall_updates

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "04_gru.ipynb"
ops = keras.ops


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


@pytest.fixture(autouse=True, scope="module")
def _dismissed_at_the_end():
    yield
    sweeps._pool.dismiss_all()


# --- gru_step -----------------------------------------------------------------------------------------------------


def split_step(x, h, U, W, b):
    """As the lesson's cell begins, in Keras."""
    x_z, x_r, x_g = ops.split(x @ U + b[0], 3, axis=-1)
    h_z, h_r, h_g = ops.split(h @ W + b[1], 3, axis=-1)
    z, r = ops.sigmoid(x_z + h_z), ops.sigmoid(x_r + h_r)
    return h + (1 - z) * (ops.tanh(x_g + r * h_g) - h)


def sliced_step(x, h, U, W, b):
    """In NumPy, one block at a time."""
    u = len(W)
    z, r = (
        1 / (1 + np.exp(-(x @ U[:, part] + b[0, part] + h @ W[:, part] + b[1, part])))
        for part in (slice(0, u), slice(u, 2 * u))
    )
    g = np.tanh(x @ U[:, 2 * u :] + b[0, 2 * u :] + r * (h @ W[:, 2 * u :] + b[1, 2 * u :]))
    return z * h + (1 - z) * g


def through_the_library(x, h, U, W, b):
    cell = rnnkit.layers.GRUCell(len(W))
    cell.build(x.shape)
    cell.set_weights([U, W, b])
    return cell(x, [h])[0]


@pytest.mark.parametrize("answer", [split_step, sliced_step, through_the_library])
def test_step_right(answer):
    expect("gru_step", answer, "correct")


def wrong_step(keep=True, sigmoid=ops.sigmoid, tanh=ops.tanh, order="zrg", candidate=None):
    def step(x, h, U, W, b):
        from_x = dict(zip(order, ops.split(x @ U + b[0], 3, axis=-1), strict=True))
        from_h = dict(zip(order, ops.split(h @ W + b[1], 3, axis=-1), strict=True))
        z, r = sigmoid(from_x["z"] + from_h["z"]), sigmoid(from_x["r"] + from_h["r"])
        u = len(W)
        inside = (
            from_x["g"] + r * from_h["g"]
            if candidate is None
            else candidate(from_x["g"], from_h["g"], r, h, W[:, 2 * u :], b[1, 2 * u :])
        )
        g = tanh(inside)
        return z * h + (1 - z) * g if keep else (1 - z) * h + z * g

    return step


def one_tanh(which):
    def step(x, h, U, W, b):
        x_z, x_r, x_g = ops.split(x @ U + b[0], 3, axis=-1)
        h_z, h_r, h_g = ops.split(h @ W + b[1], 3, axis=-1)
        z = (ops.tanh if which == "z" else ops.sigmoid)(x_z + h_z)
        r = (ops.tanh if which == "r" else ops.sigmoid)(x_r + h_r)
        return z * h + (1 - z) * ops.tanh(x_g + r * h_g)

    return step


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wrong_step(keep=False), "the wrong way round"),
        (wrong_step(order="rzg"), "mixed up"),
        (wrong_step(tanh=ops.sigmoid), "comes out of a sigmoid"),
        (wrong_step(sigmoid=ops.tanh), "come out of tanh"),
        (wrong_step(sigmoid=lambda a: a), "no sigmoid around"),
        (wrong_step(tanh=lambda a: a), "no tanh around"),
        (lambda x, h, U, W, b: split_step(x, h, U, W, [b[0], 0]), "second bias row is missing"),
        (lambda x, h, U, W, b: split_step(x, h, U, W, [0, b[1]]), "first bias row is missing"),
        (lambda x, h, U, W, b: split_step(x, h, U, W, [0, 0]), "both bias rows are missing"),
        (one_tanh("z"), "update gate z comes out of tanh"),
        (one_tanh("r"), "reset gate r comes out of tanh"),
        (wrong_step(candidate=lambda x_g, h_g, r, h, W, d: x_g + h_g), "reset gate is missing"),
        (wrong_step(candidate=lambda x_g, h_g, r, h, W, d: r * (x_g + h_g)), "also multiplies the input's part"),
        (wrong_step(candidate=lambda x_g, h_g, r, h, W, d: x_g + (r * h) @ W + d), "acts too early"),
        (wrong_step(candidate=lambda x_g, h_g, r, h, W, d: x_g + r * (h @ W) + d), "second bias row"),
        (lambda x, h, U, W, b: x @ U, "shape"),
        (lambda x, h, U, W, b: [split_step(x, h, U, W, b)], "shape"),
        (lambda x, h, U, W, b: x @ W, ""),
    ],
)
def test_step_wrong(answer, words):
    expect("gru_step", answer, "not yet", words)


def test_the_step_of_the_lesson_is_open():
    lesson = nbformat.read(LESSON, as_version=4)
    (cell,) = (cell for cell in lesson.cells if cell.id == "exercise-gru-step")
    names = {"ops": ops, "rnnkit": rnnkit}
    exec(cell.source.replace('rnnkit.check("gru_step", gru_step)', ""), names)
    expect("gru_step", names["gru_step"], "not attempted yet")


def test_a_step_without_a_return():
    def gru_step(x, h, U, W, b):
        split_step(x, h, U, W, b)

    expect("gru_step", gru_step, "not yet", "returned None")


# --- to_lecture ---------------------------------------------------------------------------------------------------


def by_hand(weights):
    U, W, b = weights
    sign = np.repeat([-1, 1, 1], len(W))
    return [U * sign, W * sign, b * sign]


def by_concatenation(weights):
    units = weights[1].shape[0]
    return tuple(np.concatenate([-w[..., :units], w[..., units:]], axis=-1) for w in weights)


def in_place(weights):
    for weight in weights:
        weight[..., : len(weights[1])] *= -1
    return weights


@pytest.mark.parametrize("answer", [by_hand, by_concatenation, in_place])
def test_to_lecture_right(answer):
    expect("to_lecture", answer, "correct")


def signed(signs, chosen=(True, True, True)):
    def turn(weights):
        sign = np.repeat(signs, len(weights[1]))
        return [weight * sign if which else weight for weight, which in zip(weights, chosen, strict=True)]

    return turn


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda weights: weights, "nothing has changed"),
        (signed([-1, -1, -1]), "all columns are negated"),
        (signed([1, -1, 1]), "that is the reset gate"),
        (signed([-1, 1, 1], (True, True, False)), "the bias still"),
        (signed([-1, 1, 1], (True, False, True)), "the recurrent kernel still"),
        (signed([-1, 1, 1], (False, True, True)), "the kernel still"),
        (
            lambda weights: [np.concatenate([1 - w[..., :4], w[..., 4:]], axis=-1) for w in weights],
            "not the weights",
        ),
        (lambda weights: by_hand(weights)[0], "list of the three weights"),
        (lambda weights: [w.T for w in by_hand(weights)], "shape"),
    ],
)
def test_to_lecture_wrong(answer, words):
    expect("to_lecture", answer, "not yet", words)


def test_turned_weights_compute_the_same():
    draw = np.random.default_rng(3)
    weights = [draw.normal(size=size) for size in ((2, 15), (5, 15), (2, 15))]
    x = draw.normal(size=(4, 9, 2)).astype("float32")
    states = []
    for convention, given in (("keras", weights), ("lecture", catalogue()["to_lecture"].reference(weights))):
        layer = keras.layers.RNN(rnnkit.layers.GRUCell(5, convention=convention), return_sequences=True)
        layer.build(x.shape)
        layer.set_weights(given)
        states.append(np.asarray(layer(x)))
    np.testing.assert_allclose(states[0], states[1], atol=1e-6)


# --- my_layer -----------------------------------------------------------------------------------------------------


def chrono():
    return keras.layers.GRU(20, bias_initializer=rnnkit.initializers.Chrono(80, "gru", seed=0))


def own_cell():
    return keras.layers.RNN(rnnkit.layers.GRUCell(16, bias_initializer=rnnkit.initializers.GateBias(update=3.0)))


@pytest.mark.parametrize("answer", [catalogue()["my_layer"].reference, chrono, own_cell])
def test_layer_right(answer):
    expect("my_layer", answer, "correct", "all three seeds")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: keras.layers.GRU(16), "0 of 3 seeds"),
        (lambda: keras.layers.LSTM(32), "2,000 are allowed"),
        (lambda: keras.layers.GRU(16, return_sequences=True), "return_sequences"),
        (lambda: keras.Sequential([keras.layers.GRU(16)]), "the recurrent layer alone"),
        (lambda: "GRU", "received str"),
    ],
)
def test_layer_wrong(answer, words):
    expect("my_layer", answer, "not yet", words)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (keras.layers.SimpleRNN(8), "has no gate"),
        (keras.layers.GRU(8), "What does its gate do"),
        (keras.layers.LSTM(8), "What does its gate do"),
        (keras.layers.GRU(8, use_bias=False), "What does its gate do"),
        (keras.layers.GRU(8, bias_initializer=rnnkit.initializers.GateBias(update=-3.0)), "wrong way round"),
        (
            keras.layers.LSTM(8, bias_initializer=rnnkit.initializers.GateBias(forget=3.0), unit_forget_bias=False),
            "right idea",
        ),
        (keras.layers.RNN(rnnkit.layers.GRUCell(8, convention="lecture", bias_initializer="ones")), "wrong way round"),
        (keras.layers.GRU(8, bias_initializer="ones"), "bias of 2, a half-life of about 5 steps"),
    ],
)
def test_a_layer_that_fails_is_told_what_kind_of_start_it_had(layer, words):
    layer.build((None, 40, 4))
    assert words in _why_unsolved(layer)


def test_too_large_a_layer_is_not_trained():
    assert np.isnan(recall_updates(0, lambda: keras.layers.GRU(64))["updates"])


# --- the choices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("letter", "words"), [("a", ".73"), ("b", "starts at .5"), ("d", "one of the letters")])
def test_recall_first_wrong(letter, words):
    expect("recall_first", letter, "not yet", words)


@pytest.mark.parametrize("letter", ["C", "c", "(c)", " c) "])
def test_recall_first_right(letter):
    expect("recall_first", letter, "correct", "keeps lengths")
