"""Singular values of long products: against many digits, closed forms, determinants, and a rescaled plain product."""

import keras
import mpmath
import numpy as np
import pytest

from rnnkit import probes
from rnnkit.probes import _graded_svd

DIGITS = 700  # more than any product below spreads over


def exact(jacobians, block):
    """Return what `log_singular_values` should, by multiplying and decomposing with `DIGITS` decimal digits."""
    with mpmath.workdps(DIGITS):
        return np.array([_exact(example, block) for example in jacobians])


def _exact(jacobians, block):
    found, product = [], mpmath.eye(jacobians.shape[-1])
    for jacobian in [*jacobians[::-1], None]:
        part = mpmath.matrix(np.array(product.tolist())[block, block].tolist())
        values = mpmath.svd_r(part, compute_uv=False) if mpmath.norm(part) else [mpmath.mpf(0)] * part.rows
        smallest = values[0] * mpmath.mpf(10) ** (100 - DIGITS)
        found.insert(0, [float(mpmath.log(value)) if value > smallest else -np.inf for value in values])
        if jacobian is not None:
            product = product * mpmath.matrix(jacobian.tolist())
    return found


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def ones_and_zeros(*shape, zeros, seed=0):
    return np.random.default_rng(seed).random(shape) >= zeros


def steps(kernel, time):
    return np.broadcast_to(np.asarray(kernel, "float64"), (1, time, *np.shape(kernel)))


EVERYTHING = slice(None)
PRODUCTS = {
    "a batch": (draw(3, 20, 4, 4), EVERYTHING),
    "odd number of units": (draw(2, 20, 5, 5), EVERYTHING),
    "one unit": (steps([[0.1]], 400), EVERYTHING),
    "one step": (draw(2, 1, 3, 3), EVERYTHING),
    "no step": (np.empty((2, 0, 3, 3)), EVERYTHING),
    "growth": (1e5 * draw(1, 80, 3, 3), EVERYTHING),
    "rows of all sizes": (draw(2, 30, 4, 4) * 10 ** -np.abs(12 * draw(2, 30, 4, 1)), EVERYTHING),
    "columns of all sizes": (draw(2, 30, 4, 4) * 10 ** -np.abs(12 * draw(2, 30, 1, 4)), EVERYTHING),
    "diagonal": (steps(np.diag([1.0, 1e-3, 0.1]), 100), EVERYTHING),
    "diagonal, far apart in one step": (steps(np.diag([1e-25, 1.0]), 20), EVERYTHING),
    "upper triangle": (steps([[0.1, 1, 1], [0, 0.5, 1], [0, 0, 1]], 150), EVERYTHING),
    "lower triangle": (steps([[0.1, 0, 0], [1, 0.5, 0], [1, 1, 1]], 150), EVERYTHING),
    "one eigenvalue and one eigenvector": (steps([[0.9, 1, 0], [0, 0.9, 1], [0, 0, 0.9]], 150), EVERYTHING),
    "rotation": (steps([[0.48, -0.64], [0.64, 0.48]], 200), EVERYTHING),
    "dead units, dense kernel": (draw(1, 1, 6, 6) * ones_and_zeros(2, 20, 6, 1, zeros=0.05), EVERYTHING),
    "dead units, diagonal kernel": (
        np.diag([0.9, 0.5, 0.7, 0.8]) * ones_and_zeros(2, 20, 4, 1, zeros=0.02),
        EVERYTHING,
    ),
    "a unit that no other listens to": (draw(1, 30, 4, 4) * [1, 0, 1, 1], EVERYTHING),
    "nilpotent": (steps(np.triu(draw(4, 4), 1), 6), EVERYTHING),
    "zeros": (np.zeros((2, 3, 4, 4)), EVERYTHING),
    "first half of the states": (draw(2, 30, 6, 6), slice(0, 3)),
    "second half, rows of all sizes": (draw(2, 25, 6, 6) * 10 ** -np.abs(9 * draw(2, 25, 6, 1)), slice(3, 6)),
    "half of the states, dead units": (draw(2, 20, 4, 4) * ones_and_zeros(2, 20, 4, 1, zeros=0.3), slice(0, 2)),
    "half of the states, which do not meet": (draw(1, 9, 4, 4) * np.kron(np.eye(2), np.ones((2, 2))), slice(1, 3)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_values_are_those_of_a_product_with_many_digits(name):
    jacobians, block = PRODUCTS[name]
    values, expected = _graded_svd.log_singular_values(jacobians, block), exact(jacobians, block)
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)  # of the logarithm: a relative error of the value


def test_values_of_one_large_matrix_are_those_of_lapack():
    """Close to each other, as many are here, they take the most rotations."""
    jacobians = draw(4, 1, 40, 40) + 5 * np.eye(40)
    values = np.exp(_graded_svd.log_singular_values(jacobians)[:, 0])
    np.testing.assert_allclose(values, np.linalg.svd(jacobians[:, 0], compute_uv=False), rtol=1e-12)


def test_exact_zeros_are_met_in_these_tests():
    for name in ("dead units, dense kernel", "dead units, diagonal kernel", "half of the states, dead units"):
        values = _graded_svd.log_singular_values(*PRODUCTS[name])
        assert np.isneginf(values[:, 0]).any(), name
        assert np.isfinite(values[:, 0]).any(), name


def test_values_come_out_the_same_however_many_are_worked_on_at_once(monkeypatch):
    jacobians = draw(3, 20, 4, 4)
    at_once = _graded_svd.log_singular_values(jacobians)
    monkeypatch.setattr(_graded_svd, "_CHUNK", 3 * 4 * 4 * 6)
    np.testing.assert_allclose(_graded_svd.log_singular_values(jacobians), at_once, rtol=0, atol=1e-12)


def test_rotations_that_do_not_settle_are_an_error(monkeypatch):
    monkeypatch.setattr(_graded_svd, "_SWEEPS", 1)
    with pytest.raises(RuntimeError, match="must settle within 1 sweeps"):
        _graded_svd.log_singular_values(draw(1, 2, 6, 6))


def rescaled(jacobians, block):
    """Return the logarithm of the largest singular value of a block of the product, for which float64 is enough."""
    product, log_scale = np.eye(jacobians.shape[-1]), 0.0
    for jacobian in jacobians[::-1]:
        product = product @ jacobian
        log_scale += np.log(np.abs(product).max())
        product = product / np.abs(product).max()
    return log_scale + np.log(np.linalg.norm(product[block, block], 2))


# It is the length that takes the values apart; with 64 units there is only more to turn.
@pytest.mark.parametrize("units", [16, pytest.param(64, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("layer", [keras.layers.SimpleRNN, keras.layers.LSTM])
def test_a_thousand_steps_of_a_layer_as_keras_initialises_it(layer, units):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 2)), layer(units, name="rnn")])
    x = draw(1, 1000, 2)
    logs = probes.singular_values(model, x, log10=True)[0] * np.log(10)
    assert logs.shape == (1000, units)
    assert np.isfinite(logs).all()
    assert (np.diff(logs, axis=-1) <= 0).all()
    np.testing.assert_allclose(logs[-1], 0, atol=1e-12)
    jacobians = probes.state_jacobians(model, x, state="all")[0]
    for t in (0, 700):
        np.testing.assert_allclose(logs[t, 0], rescaled(jacobians[t + 1 :], slice(0, units)), rtol=0, atol=1e-8)
    if layer is keras.layers.SimpleRNN:
        # With one state there is no block to cut: the values multiply to the determinants, and the inverse has theirs.
        np.testing.assert_allclose(logs[0].sum(), np.linalg.slogdet(jacobians[1:])[1].sum(), rtol=0, atol=1e-6)
        inverses = np.linalg.inv(jacobians[1:])[::-1]
        np.testing.assert_allclose(-logs[0, -1], rescaled(inverses, EVERYTHING), rtol=0, atol=1e-6)


def diagonal_model(entries, length, activation="linear"):
    """A SimpleRNN whose units do not meet; return it with some inputs of the given length and its true entries."""
    recurrent = keras.layers.SimpleRNN(len(entries), activation, name="rnn")
    model = keras.Sequential([keras.Input((None, 2)), recurrent])
    kernel, _, bias = recurrent.get_weights()
    recurrent.set_weights([kernel, np.diag(entries), bias])
    entries = np.sort(np.diag(recurrent.get_weights()[1]).astype("float64"))[::-1]
    return model, np.ones((1, length, 2)), entries


def test_a_diagonal_kernel_gives_the_powers_of_its_entries():
    model, x, entries = diagonal_model([0.1, 1.0], 800)
    distance = np.arange(799, -1, -1.0)[:, None]
    logs = probes.singular_values(model, x, log10=True)[0]
    np.testing.assert_allclose(logs, distance * np.log10(entries), rtol=1e-14, atol=1e-14)
    assert logs[0, 1] < -798
    values = probes.singular_values(model, x)[0]
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(values[-300:], (entries**distance)[-300:], rtol=1e-12)
    assert values[0, 1] == 0  # 1e-799 is no float64


def test_values_too_large_for_float64_are_infinite_only_as_plain_numbers():
    model, x, entries = diagonal_model([10.0, 1.0], 400)
    assert np.isposinf(probes.singular_values(model, x)[0, 0, 0])
    logs = probes.singular_values(model, x, log10=True)[0, 0]
    np.testing.assert_allclose(logs, 399 * np.log10(entries), rtol=1e-14, atol=1e-14)


def test_a_dead_unit_is_an_exact_zero():
    keras.utils.set_random_seed(0)
    recurrent = keras.layers.SimpleRNN(5, "relu", name="rnn")
    model = keras.Sequential([keras.Input((None, 2)), recurrent])
    kernel, recurrent_kernel, _ = recurrent.get_weights()
    recurrent.set_weights([kernel, 0.1 * recurrent_kernel, np.array([9, 9, -9, 9, 9])])
    logs = probes.singular_values(model, draw(2, 50, 2), log10=True)
    assert np.isneginf(logs[:, :-1, 4]).all()
    assert np.isfinite(logs[:, :, :4]).all()
    np.testing.assert_array_equal(probes.singular_values(model, draw(2, 50, 2))[:, :-1, 4], 0)


@pytest.mark.parametrize("layer", [keras.layers.SimpleRNN, keras.layers.LSTM])
def test_a_backward_layer_gives_the_values_of_its_mirror_image_mirrored(layer):
    x = draw(2, 60, 2)
    values = []
    for backwards in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((None, 2)), layer(4, go_backwards=backwards, name="rnn")])
        values.append(probes.singular_values(model, x[:, ::-1] if backwards else x, log10=True))
    np.testing.assert_allclose(values[1][:, ::-1], values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("probe", [probes.singular_values, probes.lyapunov_exponents])
def test_jacobians_that_are_not_finite_are_refused(probe):
    model, x, _ = diagonal_model([1.0, np.nan], 5)
    with pytest.raises(ValueError, match=r"must be finite.*Received: NaN .* from step 0 on.*'rnn'.*get_weights"):
        probe(model, x)


class TestLyapunovExponents:
    def test_of_a_diagonal_kernel_are_the_logarithms_of_its_entries(self):
        model, x, entries = diagonal_model([0.25, 2.0, 0.01], 500)
        np.testing.assert_allclose(probes.lyapunov_exponents(model, x), [np.log(entries)], rtol=1e-12)

    def test_of_a_dead_unit_are_minus_infinity(self):
        model, x, _ = diagonal_model([0.5, 0.0], 50)
        np.testing.assert_allclose(probes.lyapunov_exponents(model, x), [[np.log(0.5), -np.inf]])

    @pytest.mark.parametrize(
        "layer",
        [
            lambda: keras.layers.LSTM(4, name="rnn"),
            lambda: keras.layers.LSTM(4, go_backwards=True, name="rnn"),
            lambda: keras.layers.RNN([keras.layers.GRUCell(3), keras.layers.LSTMCell(2)], name="rnn"),
        ],
        ids=["LSTM", "LSTM, backwards", "stacked cells"],
    )
    def test_sum_to_the_mean_logarithm_of_the_determinants_and_begin_with_the_rate_of_the_product(self, layer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((None, 2)), layer()])
        x = draw(2, 200, 2)
        exponents = probes.lyapunov_exponents(model, x)
        jacobians = probes.state_jacobians(model, x, state="all")
        assert exponents.shape == (2, jacobians.shape[-1])
        assert (np.diff(exponents, axis=-1) <= 0).all()
        np.testing.assert_allclose(exponents.sum(axis=-1), np.linalg.slogdet(jacobians)[1].mean(axis=-1), rtol=1e-6)
        if model.get_layer("rnn").go_backwards:
            jacobians = jacobians[:, ::-1]
        rates = [rescaled(example, EVERYTHING) / 200 for example in jacobians]
        np.testing.assert_allclose(exponents[:, 0], rates, rtol=1e-8)
