"""The exercises of lesson 01: right answers in several styles pass, the usual wrong ones are told what is wrong."""

import numpy as np
import pytest

from rnnkit.course.exercises import evaluate
from rnnkit.course.exercises.lesson_01 import kernel_ratio


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


# --- backpropagate_states -----------------------------------------------------------------------------------------


def backwards_loop(last, h, W):
    gradients = [last]
    for t in range(len(h) - 1, 0, -1):
        gradients.append((gradients[-1] * (1 - h[t] ** 2)) @ W.T)
    return np.stack(gradients[::-1])


def filled_array(last, h, W):
    gradients = np.zeros_like(h)
    gradients[-1] = last
    for t in reversed(range(len(h) - 1)):
        gradients[t] = W @ (gradients[t + 1] * (1 - h[t + 1] ** 2))
    return gradients


def jacobians_and_lists(last, h, W):
    gradients = [list(last)]
    for t in range(len(h) - 1, 0, -1):
        jacobian = np.diag(1 - h[t] ** 2) @ W.T  # dh_t / dh_{t-1}
        gradients.insert(0, list(jacobian.T @ np.array(gradients[0])))
    return gradients


def in_float32(last, h, W):
    return filled_array(*(np.float32(array) for array in (last, h, W)))


def going_back(last, h, step, first=1, forwards=False):
    """Fill row t - 1 by `step(t, row t)`, for t from the last one to `first`, or the other way round."""
    gradients = np.zeros_like(h)
    gradients[-1] = last
    for t in range(first, len(h))[:: 1 if forwards else -1]:
        gradients[t - 1] = step(t, gradients[t])
    return gradients


@pytest.mark.parametrize("answer", [backwards_loop, filled_array, jacobians_and_lists, in_float32])
def test_backpropagation_right(answer):
    expect("backpropagate_states", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda last, h, W: backwards_loop(last, h, W)[::-1], "order is reversed"),
        (lambda last, h, W: backwards_loop(last, h, W.T), "wrong way round"),
        (lambda last, h, W: backwards_loop(last, 0 * h, W), "slopes are missing"),
        (lambda last, h, W: backwards_loop(last, np.roll(h, 1, axis=0), W), "wrong step"),
        (
            lambda last, h, W: backwards_loop(last, np.emath.sqrt(h), W).real,
            "1 - h**2, not 1 - h",
        ),
        (lambda last, h, W: backwards_loop(last, np.tanh(h), W), "without another tanh"),
        (lambda last, h, W: backwards_loop(last, h, W)[:-1], "The last step has one too"),
        (lambda last, h, W: backwards_loop(last, h, W).T, "shape"),
        (lambda last, h, W: last, "shape"),
        (lambda last, h, W: h @ last @ W, "ValueError"),
        (lambda last, h, W: going_back(last, h, lambda t, g: W @ ((1 - h[t] ** 2) * g), first=2), "one step early"),
        (lambda last, h, W: going_back(last, h, lambda t, g: W @ ((1 - h[t] ** 2) * g), first=0), "row t - 1 = -1"),
        (lambda last, h, W: going_back(last, h, lambda t, g: W @ ((1 + h[t] ** 2) * g)), "with a minus"),
        (lambda last, h, W: going_back(last, h, lambda t, g: W @ (h[t] ** 2 * g)), "h**2 alone"),
        (lambda last, h, W: going_back(last, h, lambda t, g: W @ ((1 - h[t] ** 2) * last)), "starts again"),
        (lambda last, h, W: going_back(0 * last, h, lambda t, g: W @ ((1 - h[t] ** 2) * g)), "all rows are 0"),
        (
            lambda last, h, W: going_back(last, h, lambda t, g: W @ ((1 - h[t] ** 2) * g), forwards=True),
            "runs forwards, though",
        ),
        (lambda last, h, W: backwards_loop(last, np.concatenate([h[:1], h]), W)[:-1], "gone through a step already"),
        (lambda last, h, W: going_back(last, h, lambda t, g: np.diag(1 - h[t] ** 2) @ W.T @ g), "is not transposed"),
        (
            lambda last, h, W: going_back(last, h, lambda t, g: (1 - h[t - 1] ** 2) * (W @ g)),
            "and the slope is that of",
        ),
    ],
)
def test_backpropagation_wrong(answer, words):
    expect("backpropagate_states", answer, "not yet", words)


def kernel_before_slope(last, h, W):
    gradients = [last]
    for t in range(len(h) - 1, 0, -1):
        gradients.append((gradients[-1] @ W.T) * (1 - h[t] ** 2))
    return np.stack(gradients[::-1])


def test_backpropagation_in_the_wrong_order():
    expect("backpropagate_states", kernel_before_slope, "not yet", "kernel comes before the slope")


# --- predicted_rate -----------------------------------------------------------------------------------------------


def radius(W):
    return max(abs(value) for value in np.linalg.eigvals(W))


@pytest.mark.parametrize(
    "answer",
    [
        lambda W, h: np.abs(np.linalg.eigvals(W)).max() * (1 - h**2).mean(),
        lambda W, h: radius(W) * np.mean([1 - np.square(example) for example in h]),
        lambda W, h: np.array([float(radius(W) - radius(W) * np.mean(h * h))]).squeeze(),
    ],
)
def test_rate_right(answer):
    expect("predicted_rate", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda W, h: np.linalg.norm(W, 2) * np.mean(1 - h**2), "largest singular value"),
        (lambda W, h: np.linalg.norm(W) * np.mean(1 - h**2), "no eigenvalue"),
        (lambda W, h: radius(W) * np.sum(1 - h**2), "slopes are added up"),
        (lambda W, h: radius(W), "spectral radius alone"),
        (lambda W, h: np.mean(1 - h**2), "mean slope alone"),
        (lambda W, h: np.linalg.eigvals(W).real.max() * np.mean(1 - h**2), "largest real part"),
        (lambda W, h: np.abs(np.linalg.eigvals(W)).mean() * np.mean(1 - h**2), "averages the absolute eigenvalues"),
        (lambda W, h: abs(np.linalg.eigvals(W).max()) * np.mean(1 - h**2), "goes by real parts"),
        (lambda W, h: abs(np.linalg.eigvals(W)[0]) * np.mean(1 - h**2), "they come in no order"),
        (lambda W, h: abs(np.linalg.eigvalsh(W)).max() * np.mean(1 - h**2), "symmetric"),
        (lambda W, h: abs(np.linalg.eig(W)[1]).max() * np.mean(1 - h**2), "the vectors"),
        (lambda W, h: radius(W) * np.mean(1 - h), "1 - h**2, not 1 - h"),
        (lambda W, h: radius(W) * np.mean(1 - abs(h)), "instead of the absolute value"),
        (lambda W, h: radius(W) * np.max(1 - h**2), "largest slope"),
        (lambda W, h: radius(W) * np.mean(1 - h[:, -1] ** 2), "last step only"),
        (lambda W, h: radius(W) * np.mean(1 - np.tanh(h) ** 2), "without another tanh"),
        (lambda W, h: radius(W) * (1 - h.mean() ** 2), "1 minus the square of the average"),
        (lambda W, h: radius(W) * (1 - h**2).mean(axis=0), "one number"),
        (lambda W, h: max(np.linalg.eigvals(W), key=abs) * 1j * np.mean(1 - h**2), "complex"),
    ],
)
def test_rate_wrong(answer, words):
    expect("predicted_rate", answer, "not yet", words)


# --- my_kernel ----------------------------------------------------------------------------------------------------


def rotation(units, seed, gain=1.0):
    return gain * np.linalg.qr(np.random.default_rng(seed).normal(size=(units, units)))[0]


def initializer(seed):
    import keras

    return keras.initializers.Orthogonal(gain=1.25, seed=seed)


def from_keras(units, seed):
    return initializer(seed)((units, units))


@pytest.mark.slow
@pytest.mark.parametrize("answer", [lambda units, seed: rotation(units, seed, 1.2), from_keras])
def test_kernel_right(answer):
    expect("my_kernel", answer, "correct", "five seeds")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda units, seed: 0.1 * np.random.default_rng(seed).normal(size=(units, units)), "it still vanishes"),
        (lambda units, seed: rotation(units, seed, 0.9), "it still vanishes"),
        (lambda units, seed: np.eye(units), "1.2 times this matrix does no better"),
        (lambda units, seed: np.zeros((units, units)), "another kind of matrix"),
        (lambda units, seed: 1.2 * np.eye(units), "1.2 times this matrix does no better"),
        (lambda units, seed: rotation(32, seed, 1.2), "Use `units`"),
        (lambda units, seed: rotation(units, None, 1.2), "twice with the same seed"),
        (lambda units, seed: initializer(seed), "Call it"),
        (lambda units, seed: rotation(units, seed, 2.0), "it explodes"),
        (lambda units, seed: np.ones(units), "shape (32,)"),
        (lambda units, seed: np.full((units, units), np.nan), "NaN"),
    ],
)
def test_kernel_wrong(answer, words):
    expect("my_kernel", answer, "not yet", words)


def test_kernel_ratio_obeys_the_bound_of_the_largest_singular_value():
    assert kernel_ratio(np.zeros((32, 32)), seed=0)[0] == 0
    assert 0 < kernel_ratio(0.9 * np.eye(32), seed=0)[0] < 0.9**99 * 1.001


def test_kernel_ratio_sees_the_slopes_of_the_network_that_it_measures():
    import keras

    from rnnkit import tasks

    x, _ = tasks.adding_problem(n=32, length=100, seed=0)
    kernel = rotation(32, 0, 1.2)
    draw = keras.initializers.GlorotUniform(seed=0)
    layer = keras.layers.SimpleRNN(32, kernel_initializer=draw, return_sequences=True)
    layer(x)
    layer.set_weights([layer.get_weights()[0], kernel, np.zeros(32)])
    slopes = 1 - keras.ops.convert_to_numpy(layer(x)) ** 2
    assert kernel_ratio(kernel, seed=0)[1] == pytest.approx(slopes.mean(), rel=1e-3)


@pytest.mark.slow
def test_a_kernel_that_does_not_read_its_seed_is_told_so_though_it_is_right():
    expect("my_kernel", lambda units, seed: rotation(units, 2, 1.2), "correct", "All five seeds give the same matrix")


# --- choices and the quiz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"), [("a", "kernel alone"), ("c", "never all of them"), ("d", "letters a, b, c")]
)
def test_gain_wrong(answer, words):
    expect("gain_of_two", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", " B "])
def test_gain_right(answer):
    expect("gain_of_two", answer, "correct", "next cell")
