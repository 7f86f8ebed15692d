"""The exercises of lesson 05: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate
from rnnkit.course.exercises.lesson_05 import cliff, descents, my_step


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- clip_by_global_norm ------------------------------------------------------------------------------------------


def norm(gradients):
    return np.linalg.norm(np.concatenate([np.ravel(gradient) for gradient in gradients]))


def early_return(gradients, threshold):
    if norm(gradients) <= threshold:
        return gradients
    return [threshold / norm(gradients) * gradient for gradient in gradients]


def as_keras_does(gradients, threshold):
    return tuple(gradient * threshold / max(threshold, norm(gradients)) for gradient in gradients)


def by_loops(gradients, threshold):
    total = 0.0
    for gradient in gradients:
        for number in gradient.flat:
            total += number**2
    factor = min(1.0, threshold / total**0.5) if total else 1.0
    return [(factor * gradient).tolist() for gradient in gradients]


def in_place(gradients, threshold):
    size = norm(gradients)
    if size > threshold:
        for gradient in gradients:
            gradient *= threshold / size
    return gradients


def into_the_list(gradients, threshold):
    factor = min(1, threshold / norm(gradients)) if norm(gradients) else 1
    for index, gradient in enumerate(gradients):
        gradients[index] = factor * gradient
    return gradients


def from_keras(gradients, threshold):
    import keras

    return keras.optimizers.SGD(global_clipnorm=threshold)._clip_gradients(
        [keras.ops.convert_to_tensor(gradient) for gradient in gradients]
    )


@pytest.mark.parametrize("answer", [early_return, as_keras_does, by_loops, from_keras])
def test_clip_right(answer):
    expect("clip_by_global_norm", answer, "correct")


def scaled_by(factor):
    """A wrong clip: gradients above the threshold are multiplied by factor(gradients, threshold)."""

    def clip(gradients, threshold):
        if norm(gradients) <= threshold:
            return gradients
        return [gradient * factor(gradients, threshold) for gradient in gradients]

    return clip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda g, c: [part * min(1, c / np.linalg.norm(part)) for part in g], "that is `clipnorm`"),
        (lambda g, c: [np.clip(part, -c, c) for part in g], "clipping by value"),
        (lambda g, c: g, "as they were"),
        (lambda g, c: [part * c / norm(g) for part in g], "made longer"),
        (lambda g, c: [part / max(1, norm(g)) for part in g], "threshold of 0.5"),
        (scaled_by(lambda g, c: c / norm(g) ** 2), "square root is missing"),
        (scaled_by(lambda g, c: c / sum(np.linalg.norm(part) for part in g)), "norms of the arrays are added up"),
        (scaled_by(lambda g, c: c / np.mean([np.linalg.norm(part) for part in g])), "norms of the arrays are averaged"),
        (scaled_by(lambda g, c: c / (norm(g) + c)), "without anything added"),
        (scaled_by(lambda g, c: c / np.linalg.norm(g[0])), "the norm of one of the arrays"),
        (scaled_by(lambda g, c: c / np.linalg.norm(g[-1])), "the norm of one of the arrays"),
        (scaled_by(lambda g, c: c / np.sqrt(norm(g))), "root is taken twice"),
        (scaled_by(lambda g, c: c**2 / norm(g)), "no square"),
        (lambda g, c: [part * c / np.sqrt(np.sum(g**2)) for part in g], "for gradient in gradients"),
        (scaled_by(lambda g, c: c / max(np.abs(part).max() for part in g)), "not the largest number"),
        (scaled_by(lambda g, c: c / max(np.linalg.norm(part) for part in g)), "not the largest of the arrays' norms"),
        (scaled_by(lambda g, c: c / np.sqrt(np.mean(np.concatenate([part.ravel() for part in g]) ** 2))), "averaged"),
        (scaled_by(lambda g, c: c / sum(np.abs(part).sum() for part in g)), "absolute values are added up"),
        (scaled_by(lambda g, c: norm(g) / c), "upside down"),
        (lambda g, c: [part * np.minimum(1, c / np.float64(norm(g)) * norm(g) / norm(g)) for part in g], "0 / 0"),
        (lambda g, c: np.concatenate([part.ravel() for part in g]), "return a list of arrays"),
        (lambda g, c: [part.ravel() for part in early_return(g, c)], "keeps its shape"),
        (lambda g, c: early_return(g[:2], c), "one for each of the 3"),
        (lambda g, c: g / 3.0, "for gradient in gradients"),
        (lambda g, c: [part * min(1, c / np.linalg.norm(g)) for part in g], "Go through the list"),
        (lambda g, c: np.ones(2) + np.ones(3), "ValueError"),
        (in_place, "belongs to the caller"),
        (into_the_list, "belongs to the caller"),
    ],
)
def test_clip_wrong(answer, words):
    expect("clip_by_global_norm", answer, "not yet", words)


# --- threshold_from -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda norms, times=1.0: times * np.mean([number for number in norms if np.isfinite(number)]),
        lambda norms, times=1.0: np.ma.masked_invalid(norms).mean() * times,
        lambda norms, times=1.0: float(np.nanmean(np.where(np.isinf(norms), np.nan, norms))) * times,
    ],
)
def test_threshold_right(answer):
    expect("threshold_from", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda norms, times=1.0: times * np.mean(norms), "ends in Inf or NaN"),
        (lambda norms, times=1.0: times * np.nanmean(norms), "ends in Inf gives"),
        (lambda norms, times=1.0: times * np.median(norms), "the median"),
        (lambda norms, times=1.0: times * np.max(norms), "the largest norm"),
        (lambda norms, times=1.0: times * np.sqrt(np.mean(np.square(norms))), "root mean square"),
        (lambda norms, times=1.0: times * norms[-1], "that is the last norm"),
        (lambda norms, times=1.0: times * norms[:-1].mean(), "you leave out the last norm"),
        (lambda norms, times=1.0: times * np.sum(norms), "the sum"),
        (lambda norms, times=1.0: np.mean(norms[np.isfinite(norms)]), "`times` has no effect"),
        (lambda norms, times=1.0: times * np.nan_to_num(norms, posinf=0).mean(), "still counted"),
        (lambda norms, times=1.0: times * norms, "one number"),
        (lambda norms, times=1.0: np.mean(norms) / times, "divided by `times`"),
        (lambda norms, times=1.0: np.mean(norms) + times - 1, "times=5"),
    ],
)
def test_threshold_wrong(answer, words):
    expect("threshold_from", answer, "not yet", words)


# --- my_step ------------------------------------------------------------------------------------------------------


def shrinking(point, gradient):
    return point - 0.2 * gradient / (1 + np.linalg.norm(gradient))


def clipped_as_a_list(point, gradient):
    return (point - 0.1 * gradient * min(1, 0.3 / max(abs(gradient)))).tolist()


@pytest.mark.parametrize("answer", [shrinking, clipped_as_a_list])
def test_own_rule_right(answer):
    expect("my_step", answer, "correct", "of 20 descents")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda point, gradient: point - 0.1 * gradient, "Limit what the wall can do"),
        (lambda point, gradient: point - 0.001 * gradient / (1 + np.linalg.norm(gradient)), "too short"),
        (lambda point, gradient: point - 0.2 * np.clip(gradient, -0.3, 0.3), "Shorten it without turning it"),
        (lambda point, gradient: point - 0.1 * gradient * (np.linalg.norm(gradient) < 0.5), "stay stuck"),
        (lambda point, gradient: 0.1 * gradient, "return the step"),
        (lambda point, gradient: point + 0.1 * gradient, "uphill"),
        (lambda point, gradient: (point - 0.1 * gradient)[0], "array of two numbers"),
        (lambda point, gradient: point, "you stay where you are"),
        (lambda point, gradient: point - 0.1 * [gradient], "clip([gradient], threshold)[0]"),
        (lambda point, gradient: point - 0.05 * gradient / np.linalg.norm(gradient), "too long to settle"),
    ],
)
def test_own_rule_wrong(answer, words):
    expect("my_step", answer, "not yet", words)


def test_the_examiner_descends_as_a_plain_loop_does():
    draw = np.random.default_rng(0)
    starts = np.array([draw.uniform(4.7, 5.2, 20), draw.uniform(-2.4, -1.7, 20)]).T
    ends = []
    for point in starts[:3]:
        for _ in range(400):
            point = my_step(point, cliff(*point)[1])
        ends.append(cliff(*point)[0])
    np.testing.assert_allclose(descents(my_step)[0][:3], ends, rtol=1e-6)


def test_the_gradient_of_the_cliff_agrees_with_small_differences():
    point, nudge = np.array([4.6, -2.0]), 1e-6
    slopes = [(cliff(*(point + step))[0] - cliff(*(point - step))[0]) / (2 * nudge) for step in nudge * np.eye(2)]
    np.testing.assert_allclose(cliff(*point)[1], slopes, rtol=1e-5)


# --- choices and the quiz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"), [("a", "three times longer"), ("c", "longer still"), ("d", "letters a, b, c")]
)
def test_rate_wrong(answer, words):
    expect("three_times_the_rate", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", " B "])
def test_rate_right(answer):
    expect("three_times_the_rate", answer, "correct", "a third")
