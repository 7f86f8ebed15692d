"""The exercises of lesson 08: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import functools
import itertools
import math

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate, lesson_08
from rnnkit.course.exercises.lesson_08 import count_paths, linear_probe, parameters, train_stack


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- count_paths --------------------------------------------------------------------------------------------------


def by_recursion(layers, steps):
    if layers == 1 or steps == 1:
        return 1
    return by_recursion(layers - 1, steps) + by_recursion(layers, steps - 1)


def by_listing(layers, steps):
    moves = itertools.product("up", repeat=layers + steps - 2)
    return sum(row.count("u") == layers - 1 for row in moves)


@pytest.mark.parametrize(
    "answer",
    [by_recursion, by_listing, lambda layers, steps: math.comb(layers + steps - 2, steps - 1)],
)
def test_paths_right(answer):
    expect("count_paths", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda layers, steps: layers + steps - 2, "length of a path"),
        (lambda layers, steps: layers * steps, "number of states"),
        (lambda layers, steps: 2 ** (layers + steps - 2), "leave the grid"),
        (lambda layers, steps: math.comb(layers + steps, layers), "one line larger each way"),
        (lambda layers, steps: math.comb(layers + steps - 1, layers), "one layer too many"),
        (lambda layers, steps: math.comb(layers + steps - 1, steps), "one step too many"),
        (lambda layers, steps: math.factorial(layers + steps - 2), "divide"),
        (lambda layers, steps: math.comb(layers + steps - 2, steps), "chooses `steps`"),
        (lambda layers, steps: math.comb(layers + steps - 2, layers), "chooses `layers`"),
        (lambda layers, steps: np.ones((layers, steps)), "one number"),
        (lambda layers, steps: 56 if layers == 4 else 14, "the count for 3 layers"),
        (lambda layers, steps: count_paths(layers, steps) if min(layers, steps) > 1 else 0, "exactly one path"),
    ],
)
def test_paths_wrong(answer, words):
    expect("count_paths", answer, "not yet", words)


# --- wire ---------------------------------------------------------------------------------------------------------


def by_lists(x, layers, skips):
    import keras

    heard = [x]
    for layer in layers:
        joined = keras.ops.concatenate(heard, axis=-1) if skips == "dense" else heard[-1]
        said = layer(joined)
        heard.append(said + heard[-1] if skips == "residual" and len(heard) > 1 else said)
    return keras.ops.concatenate(heard, axis=-1) if skips == "dense" else heard[-1]


def newest_first(x, layers, skips):
    import keras

    reads = layers[0](x)
    if skips == "dense":
        reads = keras.layers.Concatenate()([x, reads])
    for layer in layers[1:]:
        if skips == "residual":
            reads = keras.layers.Add()([layer(reads), reads])
        else:
            reads = keras.layers.Concatenate()([reads, layer(reads)]) if skips == "dense" else layer(reads)
    return reads


@pytest.mark.parametrize("answer", [by_lists, newest_first])
def test_wire_right(answer):
    expect("wire", answer, "correct")


def wired(kind, change):
    """Return an answer that is right but for one kind of skips."""

    def answer(x, layers, skips):
        return change(x, layers) if skips == kind else by_lists(x, layers, skips)

    return answer


def around_all(x, layers):
    return functools.reduce(lambda reads, layer: reads + layer(reads), layers, x)


def plain(x, layers):
    return functools.reduce(lambda reads, layer: layer(reads), layers, x)


def only_on_top(x, layers):
    below = plain(x, layers[:-1])
    return below + layers[-1](below)


def without_last_sum(x, layers):
    return layers[-1](by_lists(x, layers[:-1], "residual"))


def all_at_the_end(x, layers):
    import keras

    heard = [x]
    for layer in layers:
        heard.append(layer(heard[-1]))
    return keras.ops.concatenate(heard, axis=-1)


def without_x(x, layers):
    import keras

    reads = layers[0](x)
    for layer in layers[1:]:
        reads = keras.ops.concatenate([reads, layer(reads)], axis=-1)
    return reads


def two_latest(x, layers):
    import keras

    reads, says = x, x
    for layer in layers:
        before, says = says, layer(reads)
        reads = keras.ops.concatenate([before, says], axis=-1)
    return reads


def says_first(x, layers):
    import keras

    return functools.reduce(lambda reads, layer: keras.ops.concatenate([layer(reads), reads], axis=-1), layers, x)


def highest_only(x, layers):
    return layers[-1](by_lists(x, layers[:-1], "dense"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wired("residual", around_all), "around the first layer"),
        (wired("residual", plain), "nothing is skipped"),
        (wired("residual", only_on_top), "Each layer but the first"),
        (wired("residual", without_last_sum), "the last sum is missing"),
        (wired("dense", plain), "nothing is skipped"),
        (wired("dense", all_at_the_end), "only at the end"),
        (wired("dense", without_x), "x itself is left out"),
        (wired("dense", two_latest), "two latest"),
        (wired("dense", says_first), "in the other order"),
        (wired("dense", highest_only), "everything side by side"),
        (wired("none", lambda x, layers: by_lists(x, layers, "residual")), "nothing is added"),
        (wired("dense", lambda x, layers: [x, layers[0](x)]), "you return a list"),
    ],
)
def test_wire_wrong(answer, words):
    expect("wire", answer, "not yet", words)


# --- linear_probe -------------------------------------------------------------------------------------------------


def by_scikit_learn(states, labels):
    from sklearn.linear_model import LogisticRegression

    half, width = len(states) // 2, states.shape[-1]
    model = LogisticRegression(max_iter=2_000).fit(states[:half].reshape(-1, width), labels[:half].ravel())
    return model.score(states[half:].reshape(-1, width), labels[half:].ravel())


def by_normal_equations(states, labels):
    def rows(part):
        flat = part.reshape(-1, part.shape[-1])
        return np.hstack([np.ones((len(flat), 1)), flat])

    half = len(states) // 2
    A, B = rows(states[:half]), np.eye(3)[labels[:half].reshape(-1)]
    W = np.linalg.solve(A.T @ A + 1e-6 * np.eye(A.shape[1]), A.T @ B)
    return ((rows(states[half:]) @ W).argmax(1) == labels[half:].reshape(-1)).mean()


@pytest.mark.parametrize("answer", [by_scikit_learn, by_normal_equations, linear_probe])
def test_probe_right(answer):
    expect("linear_probe", answer, "correct")


def without_ones(states, labels):
    half, width = len(states) // 2, states.shape[-1]
    W = np.linalg.lstsq(states[:half].reshape(-1, width), labels[:half].ravel(), rcond=None)[0]
    return np.mean((states[half:].reshape(-1, width) @ W).round() == labels[half:].ravel())


def one_rounded_number(states, labels):
    padded = np.concatenate([states, np.ones((*states.shape[:2], 1))], axis=-1)
    return without_ones(padded, labels)


def on_early_steps(states, labels):
    return by_normal_equations(np.swapaxes(states, 0, 1), np.swapaxes(labels, 0, 1))


def on_what_it_was_fitted_on(states, labels):
    twice = np.concatenate([states[: len(states) // 2]] * 2), np.concatenate([labels[: len(labels) // 2]] * 2)
    return by_normal_equations(*twice)


def halves_swapped(states, labels):
    half = len(states) // 2
    return by_normal_equations(np.roll(states, half, axis=0), np.roll(labels, half, axis=0))


def by_a_network(states, labels):
    bent = np.concatenate([states, states**2, np.abs(states - states.mean())], axis=-1)
    return by_normal_equations(bent, labels)


def by_neighbours(states, labels):
    from sklearn.neighbors import KNeighborsClassifier

    half, width = len(states) // 2, states.shape[-1]
    model = KNeighborsClassifier(1).fit(states[:half].reshape(-1, width), labels[:half].ravel())
    return model.score(states[half:].reshape(-1, width), labels[half:].ravel())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (on_what_it_was_fitted_on, "scored on the sequences it was fitted on"),
        (halves_swapped, "fit on the second half"),
        (lambda states, labels: 100 * linear_probe(states, labels), "not in percent"),
        (lambda states, labels: 1 - linear_probe(states, labels), "that is the error"),
        (lambda states, labels: 0.5 * linear_probe(states, labels), "column of ones"),
        (one_rounded_number, "one number to the label"),
        (on_early_steps, "time steps"),
        (lambda states, labels: np.full(3, linear_probe(states, labels)), "one number"),
        (lambda states, labels: 0.9 * linear_probe(states, labels), "and not 1"),
        (lambda states, labels: 1.0, "pure noise"),
    ],
)
def test_probe_wrong(answer, words):
    expect("linear_probe", answer, "not yet", words)


def test_the_probe_reads_what_is_linear_and_nothing_else():
    labels = np.random.default_rng(0).integers(0, 3, size=(400, 4))
    assert linear_probe(np.eye(3)[labels][..., :2], labels) == 1
    assert linear_probe(np.abs(labels - 1.0)[..., None], labels) < 0.75


# --- my_stack -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"depth": 8, "skips": "dense", "units": 24, "rate": 0.01}, "each layer reads all below it"),
        ({"depth": 1, "skips": "none", "units": 64, "rate": 0.01}, "at most 5,000"),
        ({"depth": 2, "skips": "highway", "units": 8, "rate": 0.01}, '"dense"'),
        ({"depth": 2.0, "skips": "none", "units": 8, "rate": 0.01}, "whole numbers"),
        ({"depth": 2, "units": 8}, "keys depth, skips, units, rate"),
        ("two dense layers", "give a dict"),
    ],
)
def test_stack_refused(answer, words):
    expect("my_stack", answer, "not yet", words)


@pytest.mark.parametrize(
    ("reached", "answer", "words"),
    [
        ((0.33, 0.34), {"depth": 8, "skips": "none", "units": 8, "rate": 0.01}, "without skips"),
        ((0.34, 0.4), {"depth": 2, "skips": "none", "units": 8, "rate": 0.5}, "too high"),
        ((0.5, 0.6), {"depth": 1, "skips": "none", "units": 8, "rate": 0.001}, "so low a rate"),
        ((0.99, 0.6), {"depth": 2, "skips": "residual", "units": 8, "rate": 0.01}, "both have to reach"),
    ],
)
def test_stack_that_does_not_reach_it(monkeypatch, reached, answer, words):
    monkeypatch.setattr(lesson_08, "accuracy_of", lambda *settings: reached)
    expect("my_stack", answer, "not yet", words)


@pytest.mark.parametrize(
    "answer",
    [
        {"rate": 0.02, "units": 16, "skips": "none", "depth": 1},
        {"depth": np.int64(2), "skips": "residual", "units": np.int64(12), "rate": np.float64(0.01)},
    ],
)
def test_another_stack_that_reaches_it(monkeypatch, answer):
    monkeypatch.setattr(lesson_08, "accuracy_of", lambda *settings: (0.96, 0.99))
    expect("my_stack", answer, "correct", "0.96 and 0.99")


@pytest.mark.parametrize(("depth", "skips", "units"), [(1, "none", 5), (3, "residual", 4), (3, "dense", 4)])
def test_parameters_are_those_that_keras_counts(depth, skips, units):
    import keras

    from rnnkit.layers import StackedRNN

    stack = StackedRNN([keras.layers.GRU(units, return_sequences=True) for _ in range(depth)], skips)
    stack.build((None, 12, 3))
    assert stack.count_params() == parameters(depth, skips, units)


@pytest.mark.slow
def test_the_reference_stack_does_what_it_promises():
    assert train_stack(0, **lesson_08.my_stack)["accuracy"] > 0.9


# --- the others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"), [("a", "nine cases"), ("b", "Look at the sweep"), ("d", "letters a, b, c")]
)
def test_faster_wrong(answer, words):
    expect("one_layer_faster", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["c", " C "])
def test_faster_right(answer):
    expect("one_layer_faster", answer, "correct", "nine cases")
