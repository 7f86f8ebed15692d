"""The exercises of lesson 03: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate
from rnnkit.course.exercises.lesson_03 import memory_ratios


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


def ops():
    import keras

    return keras.ops


# --- lstm_step ----------------------------------------------------------------------------------------------------


def split_at_once(x, h, c, U, W, b):
    i, f, g, o = ops().split(x @ U + h @ W + b, 4, axis=-1)
    c = ops().sigmoid(f) * c + ops().sigmoid(i) * ops().tanh(g)
    return ops().sigmoid(o) * ops().tanh(c), c


def gate_by_gate(x, h, c, U, W, b):
    n = h.shape[-1]

    def part(k):
        columns = slice(k * n, (k + 1) * n)
        return ops().matmul(x, U[:, columns]) + ops().matmul(h, W[:, columns]) + b[columns]

    i, f, o = (1 / (1 + ops().exp(-part(k))) for k in (0, 1, 3))
    c = f * c + i * ops().tanh(part(2))
    return [o * ops().tanh(c), c]


def in_tensorflow(x, h, c, U, W, b):
    import tensorflow as tf

    i, f, g, o = tf.split(tf.concat([x, h], 1) @ tf.concat([U, W], 0) + b, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


@pytest.mark.parametrize("answer", [split_at_once, gate_by_gate, in_tensorflow])
def test_step_right(answer):
    expect("lstm_step", answer, "correct")


def mistaken(
    order="ifgo", squash="tanh", gate="sigmoid", out=True, swapped=False, old=False, back=True, keep=True, tied=False
):
    def answer(x, h, c, U, W, b):
        raw = dict(zip(order, ops().split(x @ U + (h @ W if back else 0) + b, 4, axis=-1), strict=True))
        i, f, o = (getattr(ops(), gate)(raw[name]) for name in "ifo")
        f = 1 - i if tied else f
        g = raw["g"] if squash == "identity" else getattr(ops(), squash)(raw["g"])
        new = (i * c + f * g) if swapped else (f if keep else 1) * c + i * g
        shown = c if old else new
        return o * (ops().tanh(shown) if out else shown), new

    return answer


def in_numpy(x, h, c, U, W, b):
    i, f, g, o = np.split(np.asarray(x) @ np.asarray(U) + np.asarray(h) @ np.asarray(W) + np.asarray(b), 4, axis=-1)
    c = np.asarray(c) / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    return np.tanh(c) / (1 + np.exp(-o)), c


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *a: split_at_once(*a)[::-1], "Return h first"),
        (lambda *a: split_at_once(*a)[0], "return h, c"),
        (mistaken(order="fiog"), "i, f, g, o"),
        (mistaken(order="ifog"), "i, f, g, o"),
        (mistaken(squash="sigmoid"), "through a sigmoid"),
        (mistaken(gate="tanh"), "A gate went through tanh".lower()),
        (mistaken(out=False), "misses a tanh"),
        (mistaken(old=True), "old c"),
        (mistaken(swapped=True), "mixed up"),
        (mistaken(back=False), "h_{t-1} is missing"),
        (mistaken(keep=False), "forget gate is missing"),
        (lambda x, h, c, U, W, b: split_at_once(x, h, c, U, W, 0 * b), "bias b is missing"),
        (lambda x, h, c, U, W, b: split_at_once(x, h, 0 * c, U, W, b), "old c is not kept"),
        (mistaken(squash="identity"), "candidate g misses its tanh"),
        (mistaken(tied=True), "f = 1 - i"),
        (in_numpy, "no gradient comes through"),
        (lambda x, h, c, U, W, b: split_at_once(x, h, c, W, U, b), "code raised"),
        (lambda x, h, c, U, W, b: (2 * h, c), "wrong in"),
    ],
)
def test_step_wrong(answer, words):
    expect("lstm_step", answer, "not yet", words)


# --- forget_product -----------------------------------------------------------------------------------------------


def walk_back(last, f):
    gradients = [last]
    for t in range(len(f) - 1, 0, -1):
        gradients.append(gradients[-1] * f[t])
    return np.stack(gradients[::-1])


def cumulative(last, f):
    after = np.concatenate([f[1:], np.ones_like(f[:1])])
    return last * np.cumprod(after[::-1], axis=0)[::-1]


def of_lists(last, f):
    return [list(last * np.prod(f[t + 1 :], axis=0)) for t in range(len(f))]


@pytest.mark.parametrize("answer", [walk_back, cumulative, of_lists])
def test_product_right(answer):
    expect("forget_product", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda last, f: walk_back(last, f)[::-1], "order is reversed"),
        (lambda last, f: walk_back(last, f)[:-1], "The last step has one too"),
        (lambda last, f: last * np.cumprod(f[::-1], axis=0)[::-1], "one factor too many"),
        (lambda last, f: last * np.cumprod(f, axis=0), "from the first step on"),
        (lambda last, f: walk_back(last, np.roll(f, 1, axis=0)), "wrong step"),
        (lambda last, f: walk_back(np.ones(3), f), "`last` is missing"),
        (lambda last, f: walk_back(last, np.full_like(f, f.mean())), "mean gate"),
        (lambda last, f: np.stack([last * f[t + 1 :].sum(axis=0) for t in range(6)]), "multiplies"),
        (lambda last, f: last, "shape"),
    ],
)
def test_product_wrong(answer, words):
    expect("forget_product", answer, "not yet", words)


# --- bias_for_half_life -------------------------------------------------------------------------------------------


def by_bisection(steps):
    low, high = -20.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-middle))) ** steps < 0.5 else (low, middle)
    return low


@pytest.mark.parametrize(
    "answer",
    [
        lambda steps: np.log(0.5 ** (1 / steps) / (1 - 0.5 ** (1 / steps))),
        lambda steps: -np.log(2 ** (1 / steps) - 1),
        by_bisection,
    ],
)
def test_half_life_right(answer):
    expect("bias_for_half_life", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda steps: 0.5 ** (1 / steps), "gate itself"),
        (lambda steps: np.log(2 ** (1 / steps) - 1), "sign is turned"),
        (lambda steps: -np.log(np.exp(1 / steps) - 1), "1/e"),
        (lambda steps: np.log(0.5) / np.log(1 / (1 + np.exp(-steps))), "half-life of a bias"),
        (np.log, "ln(steps) is close"),
        (lambda steps: -np.log(2) / steps, "logarithm of f"),
        (lambda steps: np.log(steps / np.log(2)), "approximation"),
        (lambda steps: 0.5**steps, "gate of one half"),
        (lambda steps: np.log(0.5**steps / (1 - 0.5**steps)), "the root"),
        (lambda steps: np.log(0.5) / np.log(steps), "without the sigmoid"),
        (lambda steps: np.log(2 * steps - 1), "not f = 1 - 1 / (2 n)"),
        (lambda steps: np.ones(3), "one number"),
        (lambda steps: 3.0, "wrong in"),
    ],
)
def test_half_life_wrong(answer, words):
    expect("bias_for_half_life", answer, "not yet", words)


# --- my_lstm_bias -------------------------------------------------------------------------------------------------


def bias(forget, inputs=0.0, units=32):
    return np.repeat([inputs, forget, 0.0, 0.0], units)


def from_rnnkit(units, length, seed):
    from rnnkit.initializers import Chrono

    return Chrono(length, seed=seed)((4 * units,))


def quiet_output(units, length, seed):
    return np.repeat([0.0, 6.0, 0.0, -4.0], units)


@pytest.mark.parametrize("answer", [from_rnnkit, quiet_output, lambda units, length, seed: bias(5.3, -5.3)])
def test_bias_right(answer):
    expect("my_lstm_bias", answer, "correct", "five seeds")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda units, length, seed: bias(1.0), "still vanishes"),
        (lambda units, length, seed: bias(-5.0), "still vanishes"),
        (lambda units, length, seed: bias(6.0), "it grows"),
        (lambda units, length, seed: bias(3.0), "by the roads through h"),
        (lambda units, length, seed: bias(0.0, 5.3), "the order is i, f, g, o"),
        (lambda units, length, seed: bias(-5.3, 5.3), "the order is i, f, g, o"),
        (lambda units, length, seed: np.full(32, 3.0), "(32,)"),
        (lambda units, length, seed: np.full(128, np.nan), "NaN"),
        (lambda units, length, seed: lambda shape: shape, "not yet a bias"),
    ],
)
def test_bias_wrong(answer, words):
    expect("my_lstm_bias", answer, "not yet", words)


def test_memory_ratios_of_an_lstm_that_forgets_at_once():
    assert memory_ratios([bias(-100.0, -100.0)]) == [0.0]


# --- choices and the quiz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "words"), [("a", "Keeping"), ("c", "stays in the sum"), ("d", "letters a, b, c")])
def test_without_forget_gate_wrong(answer, words):
    expect("without_forget_gate", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", " B ", "(b)", "b."])
def test_without_forget_gate_right(answer):
    expect("without_forget_gate", answer, "correct", "to let go")
