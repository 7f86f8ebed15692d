"""The exercises of lesson 02: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import itertools
import math

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- accuracy_by --------------------------------------------------------------------------------------------------


def masks(right, value, edges, low=np.greater_equal, high=np.less):
    return [right[low(value, edges[k]) & high(value, edges[k + 1])].mean() for k in range(len(edges) - 1)]


def one_by_one(right, value, edges):
    found = [[] for _ in edges[1:]]
    for answer, number in zip(right, value, strict=True):
        for k in range(len(edges) - 1):
            if edges[k] <= number < edges[k + 1]:
                found[k].append(answer)
    return [sum(answers) / len(answers) for answers in found]


def histograms(right, value, edges):
    places = np.digitize(value, edges)
    return np.array([np.average(right[places == k]) for k in range(1, len(edges))])


@pytest.mark.parametrize("answer", [masks, one_by_one, histograms])
def test_accuracy_right(answer):
    expect("accuracy_by", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda r, v, e: masks(r, v, e, high=np.less_equal), "upper end belongs to the next range"),
        (lambda r, v, e: masks(r, v, e, low=np.greater), "lower end belongs to the range"),
        (lambda r, v, e: masks(r, v, e, low=np.greater, high=np.less_equal), "shifted up by one"),
        (lambda r, v, e: [r[(v >= a) & (v < b)].sum() for a, b in itertools.pairwise(e)], "number of right"),
        (lambda r, v, e: [(r & (v >= a) & (v < b)).mean() for a, b in itertools.pairwise(e)], "all examples"),
        (lambda r, v, e: masks(~r, v, e), "share of wrong"),
        (lambda r, v, e: [r[v < b].mean() for b in e[1:]], "Cut off the lower end"),
        (lambda r, v, e: [r[v >= a].mean() for a in e], "4 edges are the ends of 3 ranges"),
        (lambda r, v, e: r.mean(), "shape"),
        (
            lambda r, v, e: np.histogram(v, bins=e, weights=1.0 * r)[0] / np.histogram(v, bins=e)[0],
            "last range has its upper end",
        ),
        (lambda r, v, e: [r[v >= a & v < b].mean() for a, b in itertools.pairwise(e)], "in parentheses"),
        (lambda r, v, e: [r[v >= a and v < b].mean() for a, b in itertools.pairwise(e)], "in parentheses"),
        (lambda r, v, e: np.reshape(r, (7, 7)), "cannot reshape"),
    ],
)
def test_accuracy_wrong(answer, words):
    expect("accuracy_by", answer, "not yet", words)


# --- always_one ---------------------------------------------------------------------------------------------------


def simulated(count, seed):
    a, b = np.random.default_rng(seed).uniform(size=(2, count))
    return np.mean((a + b - 1) ** 2)


@pytest.mark.parametrize("answer", [1 / 6, 0.1667, 2 / 12, simulated(100_000, 1), np.float32(0.167)])
def test_always_one_right(answer):
    expect("always_one", answer, "correct", "digit wrong")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.1767, "number in print"),
        (0.177, "number in print"),
        (1 / 12, "variance of one"),
        (0.408, "standard deviation"),
        (1 / 3, "absolute error"),
        (7 / 6, "always answering 0"),
        (0.25, "Simulate"),
        (0.1593, "take more samples"),
        (0.18, "take more samples"),
        ("a sixth", "one number"),
        ([1 / 6, 2], "one number"),
    ],
)
def test_always_one_wrong(answer, words):
    expect("always_one", answer, "not yet", words)


# --- copy_memory_cost ---------------------------------------------------------------------------------------------


def summed_up(delay):
    steps = [0.0] * (delay + 10) + [-math.log(1 / 8)] * 10
    return sum(steps) / len(steps)


@pytest.mark.parametrize("answer", [lambda delay: 10 * np.log(8) / (delay + 20), summed_up])
def test_copy_cost_right(answer):
    expect("copy_memory_cost", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda delay: 10 * np.log2(8) / (delay + 20), "bits"),
        (lambda delay: np.log(8), "ten steps alone"),
        (lambda delay: 10 * np.log(8), "whole sequence"),
        (lambda delay: 10 * np.log(8) / delay, "ten symbols, the wait"),
        (lambda delay: 10 * np.log(8) / (delay + 10), "not `delay + 10`"),
        (lambda delay: 10 * np.log(10) / (delay + 20), "8 symbols, not 10"),
        (lambda delay: 10 * np.log(9) / (delay + 20), "8 symbols, not 9"),
        (lambda delay: np.log(9), "charge every step"),
        (lambda delay: np.log(8) / (delay + 20), "not one"),
        (lambda delay: 10 * np.log10(8) / (delay + 20), "decimal"),
        (lambda delay: 20 * np.log(8) / (delay + 20), "not twenty"),
        (lambda delay: 10 * (1 / 8) / (delay + 20), "probability"),
        (lambda delay: 10 * np.log(8) // (delay + 20), "rounds down"),
        (lambda delay: 10 * np.log(1 / 8) / (delay + 20), "positive"),
        (lambda delay: 0.1, "at delay 1, your cost is too small"),
        (lambda delay: 5.0, "at delay 1, your cost is too large"),
        (lambda delay: float("nan"), "not a number"),
    ],
)
def test_copy_cost_wrong(answer, words):
    expect("copy_memory_cost", answer, "not yet", words)


# --- my_sentence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("the writer of the books", "1 attractor; right is 'is'"),
        ("the writer of the books", "try three or four"),
        ("The letters of the doctor near the garden.", "2 attractors; right is 'are'"),
        ("the book behind the house with the teachers", "1 attractor;"),
    ],
)
def test_sentence_right(answer, words):
    expect("my_sentence", answer, "correct", words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("the writer of the books is", "leave the verb out"),
        ("the keys to the cabinet", "does not know 'keys'"),
        ("writer of the books", "build it as"),
        ("the writer the books", "build it as"),
        ("the writer", "no noun between"),
        ("the writer of the book", "right all the same"),
        ("the writer of the books near the house", "right all the same"),
        ("the book" + " of the books" * 5, "take fewer"),
        ("", "build it as"),
        (["the", "writer"], "as text"),
    ],
)
def test_sentence_wrong(answer, words):
    expect("my_sentence", answer, "not yet", words)


# --- choices and the quiz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "words"), [("a", "97 of 100"), ("b", "without any rule"), ("d", "letters a, b, c")])
def test_attractors_wrong(answer, words):
    expect("attractors_at_test", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["c", " C ", "(c)", "c."])
def test_attractors_right(answer):
    expect("attractors_at_test", answer, "correct", "outvote")
