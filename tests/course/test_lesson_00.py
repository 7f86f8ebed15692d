"""The checks of lesson 00 against right and wrong answers, and the notation table of that lesson against Keras."""

import keras
import numpy as np
import pytest

from rnnkit.course.exercises import catalogue, evaluate

# --- right answers, in several styles ---------------------------------------------------------------------------


def keras_weights_as_a_tuple(W_x, W_h, b):
    return np.transpose(W_x), np.swapaxes(W_h, 0, 1), np.array(b, "float32")


def keras_weights_by_loops(W_x, W_h, b):
    kernel = [[W_x[i, j] for i in range(len(W_x))] for j in range(W_x.shape[1])]
    recurrent_kernel = [[W_h[i, j] for i in range(len(W_h))] for j in range(len(W_h))]
    return [kernel, recurrent_kernel, list(b)]


def backward_as_a_list(W_h, h, dL_dh_T):
    rows = [np.asarray(dL_dh_T)]
    for h_t in h[:0:-1]:
        rows.insert(0, (rows[0] * (1 - h_t * h_t)) @ W_h)
    return rows


def backward_by_scalars(W_h, h, dL_dh_T):
    g = np.zeros(h.shape)
    g[len(h) - 1] = dL_dh_T
    for t in range(len(h) - 1, 0, -1):
        for j in range(h.shape[1]):
            for i in range(h.shape[1]):
                g[t - 1, j] += W_h[i, j] * (1 - h[t, i] ** 2) * g[t, i]
    return g


def backward_in_float32(W_h, h, dL_dh_T):
    return catalogue()["backward"].reference(*(np.asarray(part, "float32") for part in (W_h, h, dL_dh_T)))


def backward_by_jacobians(W_h, h, dL_dh_T):
    g = [np.asarray(dL_dh_T)]
    for t in reversed(range(1, len(h))):
        g.append((np.diag(1 - h[t] ** 2) @ W_h).T @ g[-1])
    return np.array(g[::-1])


def weight_by_loops(h, g):
    total = np.zeros((h.shape[1], h.shape[1]))
    for t in range(1, len(h)):
        total += np.outer((1 - h[t] ** 2) * g[t], h[t - 1])
    return total.tolist()


def weight_by_einsum(h, g):
    return np.einsum("ti,tj->ij", (1 - h[1:] ** 2) * g[1:], h[:-1])


def weight_in_float32(h, g):
    return weight_by_einsum(h.astype("float32"), g.astype("float32"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("to_keras", keras_weights_as_a_tuple),
        ("to_keras", keras_weights_by_loops),
        ("backward", backward_as_a_list),
        ("backward", backward_by_scalars),
        ("backward", backward_in_float32),
        ("backward", backward_by_jacobians),
        ("recurrent_weight_gradient", weight_by_loops),
        ("recurrent_weight_gradient", weight_by_einsum),
        ("recurrent_weight_gradient", weight_in_float32),
        ("gate_held_open", "a"),
        ("gate_held_open", "A "),
        ("growing_gradient", 1.5 * np.eye(2)),
        ("growing_gradient", [[0.0, -1.6], [1.6, 0.0]]),
        ("growing_gradient", np.array([[0, -1.5], [1.5, 0]], "float32")),
        ("quiz_00", "bcabc"),
        ("quiz_00", ("b", "c", "a", "b", "c")),
    ],
)
def test_a_right_answer_in_any_style_is_correct(name, answer):
    outcome = evaluate(name, answer)
    assert outcome.status == "correct", outcome.message


def test_a_gradient_that_grows_with_small_eigenvalues_is_told_about():
    outcome = evaluate("growing_gradient", [[-0.95, 4.0], [0.0, -0.95]])
    assert outcome.status == "correct"
    assert "non-normal" in outcome.message
    assert "non-normal" not in evaluate("growing_gradient", 1.5 * np.eye(2)).message


# --- wrong answers, and what is said of them --------------------------------------------------------------------


def sweep(step):
    """Make a `backward` whose row t - 1 is `step(W_h, h, t, g_t)`."""

    def answer(W_h, h, dL_dh_T):
        g = np.zeros_like(h)
        g[-1] = dL_dh_T
        for t in reversed(range(1, len(h))):
            g[t - 1] = step(W_h, h, t, g[t])
        return g

    return answer


def right_backward(W_h, h, dL_dh_T):
    return catalogue()["backward"].reference(W_h, h, dL_dh_T)


def shares(h, g):
    return [np.outer((1 - h[t] ** 2) * g[t], h[t - 1]) for t in range(1, len(h))]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda W_x, W_h, b: [W_x, W_h, b], "`kernel` is W_x as it stands"),
        (lambda W_x, W_h, b: [W_x.T, W_h, b], "`recurrent_kernel` is W_h as it stands"),
        (lambda W_x, W_h, b: [W_x.T, np.linalg.inv(W_h), b], "is the inverse"),
        (lambda W_x, W_h, b: [W_h.T, W_x.T, b], "wrong order"),
        (lambda W_x, W_h, b: [W_x.T, W_h.T, b[:, None]], "`bias` is a column"),
        (lambda W_x, W_h, b: [W_x.T, W_h.T, b, b], "received 4 parts"),
        (lambda W_x, W_h, b: [W_x.T, W_h.T], "received 2 parts"),
        (lambda W_x, W_h, b: W_x.T, "received ndarray"),
        (lambda W_x, W_h, b: [W_x.T, -W_h.T, b], "opposite sign"),
        (lambda W_x, W_h, b: [W_x.T, W_h.T, "b"], "should be numbers"),
    ],
)
def test_a_wrong_to_keras_is_told_what_is_wrong(answer, told):
    outcome = evaluate("to_keras", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sweep(lambda W, h, t, g: W @ ((1 - h[t] ** 2) * g)), "needs its transpose"),
        (sweep(lambda W, h, t, g: W.T @ ((1 - h[t - 1] ** 2) * g)), "one step off"),
        (sweep(lambda W, h, t, g: W.T @ g), "is missing"),
        (sweep(lambda W, h, t, g: W.T @ ((1 - h[t]) * g)), "lacks the square"),
        (sweep(lambda W, h, t, g: W.T @ ((1 - np.tanh(h[t]) ** 2) * g)), "without another tanh"),
        (sweep(lambda W, h, t, g: (1 - h[t] ** 2) * (W.T @ g)), "in the wrong order: going"),
        (sweep(lambda W, h, t, g: (1 - h[t - 1] ** 2) * (W.T @ g)), "and the slope is that of h[t-1]"),
        (sweep(lambda W, h, t, g: 0 * g), "only the last row"),
        (sweep(lambda W, h, t, g: W.T @ ((1 + h[t] ** 2) * g)), "with a minus"),
        (sweep(lambda W, h, t, g: W.T @ (h[t] ** 2 * g)), "h[t]**2 alone"),
        (sweep(lambda W, h, t, g: W.T * ((1 - h[t] ** 2) * g)), "is W @ v"),
        (sweep(lambda W, h, t, g: W.T @ ((1 - h[t] ** 2) * g) + (t == 3)), "the first wrong one is row 2."),
        (sweep(lambda W, h, t, g: [0, 1] @ g), "the first wrong one is row 5."),
        (lambda W, h, last: sweep(lambda W, h, t, g: W.T @ ((1 - h[t] ** 2) * last))(W, h, last), "starts again"),
        (lambda W, h, last: right_backward(W, h, last)[::-1], "backwards in time"),
        (lambda W, h, last: right_backward(W, h, last)[1:], "also for h[0]"),
        (lambda W, h, last: right_backward(W, h, last)[:-1], "the last row, dL/dh_T, is missing"),
        (lambda W, h, last: right_backward(W, h, last).T, "a row for each step"),
        (lambda W, h, last: right_backward(W, h, last) / (len(h) - 1), "times what it should be"),
        (lambda W, h, last: right_backward(W, h, last)[0], "should have shape (7, 2)"),
        (lambda W, h, last: -right_backward(W, h, last), "opposite sign"),
        (lambda W, h, last: right_backward(W, h, last) if len(W) == 2 else h * 0, "with three units"),
        (lambda W, h, last: None if len(h) else 1, "returned None"),
    ],
)
def test_a_wrong_backward_is_told_what_is_wrong(answer, told):
    outcome = evaluate("backward", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda h, g: sum(shares(h, g)).T, "transposed"),
        (lambda h, g: np.mean(shares(h, g), axis=0), "averaged"),
        (lambda h, g: shares(h, g)[-1], "the last step's share alone"),
        (lambda h, g: shares(h, g)[0], "the first step's share alone"),
        (shares, "Add them up"),
        (lambda h, g: ((1 - h[1:] ** 2) * g[1:]).T @ h[1:], "W_h saw h[t-1]"),
        (lambda h, g: ((1 - h[:-1] ** 2) * g[:-1]).T @ h[:-1], "so use g[t]"),
        (lambda h, g: ((1 - h[:-1] ** 2) * g[1:]).T @ h[:-1], "slope is one step off"),
        (lambda h, g: g[1:].T @ h[:-1], "is missing"),
        (lambda h, g: sum(shares(h, g)[:-1]), "the last step's share is missing"),
        (lambda h, g: sum(shares(h, g)[1:]), "the first step's share is missing"),
        (lambda h, g: ((1 - h**2) * g).T @ np.roll(h, 1, axis=0), "Begin at t = 1"),
        (lambda h, g: ((1 - h[1:] ** 2) * g[:-1]).T @ h[:-1], "g is one step off"),
        (lambda h, g: ((1 - h[1:]) * g[1:]).T @ h[:-1], "lacks the square"),
        (lambda h, g: ((1 + h[1:] ** 2) * g[1:]).T @ h[:-1], "with a minus"),
        (lambda h, g: ((1 - np.tanh(h[1:]) ** 2) * g[1:]).T @ h[:-1], "without another tanh"),
        (lambda h, g: g.T @ h, "and the slope of tanh is missing"),
        (lambda h, g: np.outer(((1 - h[1:] ** 2) * g[1:]).sum(axis=0), h[:-1].sum(axis=0)), "two sums over time"),
        (lambda h, g: sum(shares(h, g)).sum(axis=0), "should have shape (2, 2); received (2,)"),
    ],
)
def test_a_wrong_weight_gradient_is_told_what_is_wrong(answer, told):
    outcome = evaluate("recurrent_weight_gradient", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.eye(2), "makes only 1 times"),
        (0.5 * np.eye(2), "makes only 0.0039 times"),
        ([[0, 100], [0, 0]], "makes only 0 times"),
        (5 * np.eye(2), "its flat ends"),
        ([[1, 10], [0, 1]], "its flat ends"),
        (np.eye(3), "received shape (3, 3)"),
        (1.5, "received shape ()"),
        (np.full((2, 2), np.nan), "received NaN"),
        ("1.5", "2 by 2"),
    ],
)
def test_a_gradient_that_does_not_grow_is_told_why(answer, told):
    outcome = evaluate("growing_gradient", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


@pytest.mark.parametrize(
    ("answer", "told"), [("b", "the lecture's u = 1"), ("c", "reset gate"), ("d", "a, b, c"), (1, "a, b, c")]
)
def test_a_wrong_gate_is_told_why(answer, told):
    outcome = evaluate("gate_held_open", answer)
    assert outcome.status == "not yet"
    assert told in outcome.message


# --- stubs ------------------------------------------------------------------------------------------------------


def stub_to_keras(W_x, W_h, b):
    return ...


def stub_backward(W_h, h, dL_dh_T):
    g = np.zeros_like(h)
    g[-1] = dL_dh_T
    for t in reversed(range(1, len(h))):
        g[t - 1] = ...
    return g


def stub_weight(h, g):
    return ...


@pytest.mark.parametrize(
    ("name", "stub"),
    [
        ("to_keras", stub_to_keras),
        ("backward", stub_backward),
        ("recurrent_weight_gradient", stub_weight),
        ("gate_held_open", ...),
        ("growing_gradient", ...),
        ("quiz_00", [...] * 5),
    ],
)
def test_what_the_lesson_comes_with_is_not_attempted(name, stub):
    assert evaluate(name, stub).status == "not attempted yet"


# --- the notation table, against Keras --------------------------------------------------------------------------

DRAW = np.random.default_rng(0).normal
X, H, C = DRAW(size=(4, 2)), DRAW(size=(4, 3)), DRAW(size=(4, 3))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def built(cell):
    """Return a cell with random weights, biases too, and those weights in float64."""
    cell.build((None, 2))
    weights = [DRAW(size=weight.shape) for weight in cell.get_weights()]
    cell.set_weights(weights)
    return cell, weights


def test_keras_multiplies_from_the_right():
    cell, (kernel, recurrent_kernel, bias) = built(keras.layers.SimpleRNNCell(3))
    W_x, W_h = kernel.T, recurrent_kernel.T
    out, _ = cell(X.astype("float32"), [H.astype("float32")])
    lecture = np.stack([np.tanh(W_h @ h + W_x @ x + bias) for x, h in zip(X, H, strict=True)])
    np.testing.assert_allclose(out, lecture, atol=1e-5)


def test_a_layers_outputs_count_from_0():
    layer = keras.layers.SimpleRNN(3, return_sequences=True)
    x = DRAW(size=(1, 5, 2)).astype("float32")
    outputs = np.asarray(layer(x))
    last_only = keras.layers.SimpleRNN(3)
    last_only.build(x.shape)
    last_only.set_weights(layer.get_weights())
    for t in range(1, 6):
        np.testing.assert_allclose(outputs[:, t - 1], last_only(x[:, :t]), atol=1e-6)


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gru_is_that_of_the_table(reset_after):
    cell, (kernel, recurrent_kernel, bias) = built(keras.layers.GRUCell(3, reset_after=reset_after))
    assert bias.shape == ((2, 9) if reset_after else (9,))
    to_input, to_state = bias if reset_after else (bias, np.zeros(9))
    (x_z, x_r, x_h), (U_z, U_r, U_h) = np.split(X @ kernel + to_input, 3, 1), np.split(recurrent_kernel, 3, 1)
    b_z, b_r, b_h = np.split(to_state, 3)
    z, r = sigmoid(x_z + H @ U_z + b_z), sigmoid(x_r + H @ U_r + b_r)
    candidate = np.tanh(x_h + (r * (H @ U_h + b_h) if reset_after else (r * H) @ U_h))
    out, _ = cell(X.astype("float32"), [H.astype("float32")])
    np.testing.assert_allclose(out, z * H + (1 - z) * candidate, atol=1e-5)


def test_the_lstm_is_that_of_the_table():
    cell, (kernel, recurrent_kernel, bias) = built(keras.layers.LSTMCell(3))
    i, f, c_new, o = np.split(X @ kernel + H @ recurrent_kernel + bias, 4, axis=1)
    c = sigmoid(f) * C + sigmoid(i) * np.tanh(c_new)
    out, (_, c_out) = cell(X.astype("float32"), [H.astype("float32"), C.astype("float32")])
    np.testing.assert_allclose(c_out, c, atol=1e-5)
    np.testing.assert_allclose(out, sigmoid(o) * np.tanh(c), atol=1e-5)


def test_keras_defaults_are_those_of_the_table():
    for layer in (keras.layers.SimpleRNN(16), keras.layers.GRU(16), keras.layers.LSTM(16)):
        layer.build((None, None, 2))
        recurrent_kernel = layer.get_weights()[1]
        # For the gated layers the matrix (units, gates x units) is orthogonal as a whole: its rows are orthonormal.
        np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(16), atol=1e-5)
    assert keras.layers.GRU(2).reset_after
    lstm = keras.layers.LSTM(3)
    lstm.build((None, None, 2))
    np.testing.assert_array_equal(lstm.get_weights()[2], [0] * 3 + [1] * 3 + [0] * 6)


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [("clipnorm", [0.6, 0.8], [0.6, 0.8]), ("global_clipnorm", [0.2683, 0.3578], [0.5367, 0.7155])],
)
def test_the_two_clipping_rules_are_those_of_the_table(rule, first, second):
    weights = [keras.Variable([0.0, 0.0]), keras.Variable([0.0, 0.0])]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, **{rule: 1.0})
    optimizer.apply([keras.ops.array([3.0, 4.0]), keras.ops.array([6.0, 8.0])], weights)
    np.testing.assert_allclose(-weights[0].numpy(), first, atol=1e-3)
    np.testing.assert_allclose(-weights[1].numpy(), second, atol=1e-3)
