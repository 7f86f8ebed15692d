"""The exercises of lesson 07: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- both_ways ----------------------------------------------------------------------------------------------------


def flipped(read, read_back, x):
    return np.concatenate((read(x), np.flip(read_back(np.flip(x, axis=1)), axis=1)), axis=2)


def step_by_step(read, read_back, x):
    steps = x.shape[1]
    backward = read_back(np.stack([x[:, steps - 1 - t] for t in range(steps)], axis=1))
    return np.dstack([read(x), np.stack([backward[:, steps - 1 - t] for t in range(steps)], axis=1)]).tolist()


def as_keras_tensors(read, read_back, x):
    import keras

    parts = [keras.ops.convert_to_tensor(part) for part in (read(x), read_back(x[:, ::-1])[:, ::-1].copy())]
    return keras.ops.concatenate(parts, axis=-1)


@pytest.mark.parametrize("answer", [flipped, step_by_step, as_keras_tensors])
def test_both_ways_right(answer):
    expect("both_ways", answer, "correct")


def beside(one, other):
    return np.concatenate([one, other], axis=-1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda read, back, x: beside(read(x), back(x[:, ::-1])), "in the order of reading"),
        (lambda read, back, x: beside(read(x), back(x)), "has read from the left as well"),
        (lambda read, back, x: beside(read(x), back(x)[:, ::-1]), "Turn the words round before"),
        (lambda read, back, x: beside(read(x), back(x[::-1])[::-1]), "would turn round the batch"),
        (lambda read, back, x: beside(read(x), read(x[:, ::-1])[:, ::-1]), "its own weights"),
        (lambda read, back, x: beside(back(x[:, ::-1])[:, ::-1], read(x)), "forward ones first"),
        (lambda read, back, x: beside(read(x), back(x[..., ::-1])[:, ::-1]), "features were turned round. Time"),
        (lambda read, back, x: beside(read(x), back(x[..., ::-1])[..., ::-1]), "those of the states. Time is axis 1"),
        (lambda read, back, x: beside(read(x), back(x[:, ::-1]))[:, ::-1], "only the backward states"),
        (lambda read, back, x: np.concatenate([read(x), back(x[:, ::-1])[:, ::-1]], axis=1), "follow each other"),
        (lambda read, back, x: np.concatenate([read(x), back(x[:, ::-1])[:, ::-1]]), "one below the other"),
        (lambda read, back, x: read(x) + back(x[:, ::-1])[:, ::-1], "merged"),
        (lambda read, back, x: (read(x), back(x[:, ::-1])[:, ::-1]), "return one array"),
        (lambda read, back, x: beside(read(x), back(x[..., :1])), "a reader reads"),
    ],
)
def test_both_ways_wrong(answer, words):
    expect("both_ways", answer, "not yet", words)


# --- four_reviews -------------------------------------------------------------------------------------------------


def four(thing="movie", adverb="terribly", aside="", good="exciting", bad="dull", ending=" !"):
    return [f"the {thing} was {no}{adverb} {aside}{how}{ending}" for no in ("", "not ") for how in (good, bad)]


@pytest.mark.parametrize(
    "answer", [four(), four("cast", "awfully", ", to my taste , ", "fresh", "stale"), tuple(four(ending="!"))[::-1]]
)
def test_four_reviews_right(answer):
    expect("four_reviews", answer, "correct", "could be praise or blame")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([*four()[:3], "the plot was not terribly dull !"], "gives one of them away"),
        ([*four()[:3], "the movie was not terribly boring !"], 'with another "not"'),
        ([four()[0]] * 4, "with another adjective"),
        (four()[:2] * 2, 'with another "not"'),
        ([*four()[:3], "the movie was not awfully dull !"], "different adverbs"),
        (four()[:3], "a list of four strings"),
        ("the movie was terribly exciting !", "a list of four strings"),
        ([*four()[:3], "the movie was not terribly bad !"], "'bad' is not among the words"),
        ([*four()[:3], "the movie was terribly not dull !"], "is no review"),
        ([*four()[:3], "the movie was not terribly dull"], "is no review"),
        ([*four()[:3], "the plot was not terribly dull and the movie was not terribly dull !"], "several clauses"),
    ],
)
def test_four_reviews_wrong(answer, words):
    expect("four_reviews", answer, "not yet", words)


# --- max_over_words -----------------------------------------------------------------------------------------------


def by_rows(states, mask):
    return np.array([review[real].max(axis=0) for review, real in zip(states, mask, strict=True)])


def with_a_masked_array(states, mask):
    return np.ma.masked_array(states, np.broadcast_to(~mask[..., None], states.shape)).max(axis=1).data


def by_subtracting(states, mask):
    return (states - 1e9 * (1 - mask[..., np.newaxis])).max(axis=1).tolist()


@pytest.mark.parametrize("answer", [by_rows, with_a_masked_array, by_subtracting])
def test_max_right(answer):
    expect("max_over_words", answer, "correct")


def in_place(states, mask):
    states[~mask] = -np.inf
    return states.max(axis=1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda states, mask: states.max(axis=1), "taken along"),
        (lambda states, mask: (states * mask[..., None]).max(axis=1), "larger than any negative"),
        (lambda states, mask: np.where(mask[..., None], states, 0).max(axis=1), "larger than any negative"),
        (lambda states, mask: (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None], "the mean over real"),
        (lambda states, mask: states.mean(axis=1), "the mean over all"),
        (lambda states, mask: states[range(len(states)), mask.sum(axis=1) - 1], "last real word"),
        (lambda states, mask: np.where(mask[..., None], -np.inf, states).max(axis=1), "upside down"),
        (lambda states, mask: np.where(mask[..., None], states, np.inf).min(axis=1), "the smallest"),
        (lambda states, mask: np.where(mask[..., None], states, -np.inf).max(axis=2), "Take it over time"),
        (lambda states, mask: states[mask].max(axis=0), "pooled together"),
        (in_place, "have changed"),
        (lambda states, mask: np.where(mask, states, -np.inf).max(axis=1), "third: mask[:, :, None]"),
        (lambda states, mask: np.where(mask[..., None], states, -1).max(axis=1), "only -np.inf is"),
    ],
)
def test_max_wrong(answer, words):
    expect("max_over_words", answer, "not yet", words)


# --- choices and the quiz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "words"), [("a", "only add them"), ("c", "more than"), ("d", "letters a, b, c")])
def test_no_hidden_layer_wrong(answer, words):
    expect("no_hidden_layer", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", " B "])
def test_no_hidden_layer_right(answer):
    expect("no_hidden_layer", answer, "correct", "goes by the adjective")
