"""Initializers against NumPy's eigenvalues, and against the layers that use them."""

import re

import keras
import numpy as np
import pytest

import rnnkit
from rnnkit.initializers import Chrono, GateBias, SpectralRadius
from rnnkit.layers import GRUCell, LSTMCell


@pytest.mark.parametrize("radius", [0.3, 1.0, 1.5])
def test_spectral_radius_is_as_asked_and_the_largest_singular_value_above_it(radius):
    matrix = np.asarray(SpectralRadius(radius, seed=4)((24, 24)))
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(radius, rel=1e-4)
    assert np.linalg.svd(matrix, compute_uv=False)[0] > 1.2 * radius


def test_it_serves_and_is_saved_as_a_recurrent_initializer(tmp_path):
    model = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.SimpleRNN(5, recurrent_initializer=SpectralRadius(0.7, seed=0))]
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[0].cell.recurrent_initializer
    assert again.get_config() == {"radius": 0.7, "seed": 0}
    W = model.layers[0].get_weights()[1]
    np.testing.assert_allclose(np.asarray(again((5, 5))), W)


def test_without_a_seed_every_matrix_is_another():
    assert not np.allclose(SpectralRadius(1.0)((4, 4)), SpectralRadius(1.0)((4, 4)))


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), float("inf"), "large"])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="`radius` must be"):
        SpectralRadius(radius)


def test_a_shape_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"square matrix.*\(2, 4\).*recurrent_initializer"):
        SpectralRadius(0.9)((2, 4))


# --- gate biases --------------------------------------------------------------------------------------------------


def built(layer):
    layer.build((None, None, 2))
    return layer.get_weights()[2]


@pytest.mark.parametrize(
    "layer",
    [
        lambda bias: keras.layers.LSTM(3, bias_initializer=bias, unit_forget_bias=False),
        lambda bias: keras.layers.RNN(LSTMCell(3, bias_initializer=bias)),
    ],
)
def test_a_gate_bias_goes_to_its_gate_of_an_lstm(layer):
    assert built(layer(GateBias(forget=2.0, input=-1))).tolist() == [-1] * 3 + [2] * 3 + [0] * 6


def our_gru(units, **settings):
    return keras.layers.RNN(GRUCell(units, **settings))


@pytest.mark.parametrize("make", [keras.layers.GRU, our_gru])
@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gate_bias_goes_to_its_gate_of_a_gru(make, reset_after):
    bias = built(make(3, bias_initializer=GateBias(update=2.0), reset_after=reset_after))
    assert bias.shape == ((2, 9) if reset_after else (9,))
    assert np.atleast_2d(bias)[0].tolist() == [2] * 3 + [0] * 6
    assert not np.atleast_2d(bias)[1:].any()


def test_a_gate_bias_is_what_the_gate_stands_at():
    lstm = keras.layers.LSTM(4, bias_initializer=GateBias(forget=3.0), unit_forget_bias=False, name="rnn")
    gru = keras.layers.GRU(4, bias_initializer=GateBias(update=-1.0), name="rnn")
    for layer, gate, at in ((lstm, "forget", 3.0), (gru, "update", -1.0)):
        model = keras.Sequential([keras.Input((None, 2)), layer])
        measured = rnnkit.probes.gates(model, np.zeros((1, 5, 2)))["rnn"][gate]
        np.testing.assert_allclose(measured, 1 / (1 + np.exp(-at)), atol=1e-6)


def test_chrono_draws_what_the_paper_says():
    f_bias, i_bias = (np.split(np.asarray(Chrono(50, seed=0)((40_000,))), 4)[place] for place in (1, 0))
    np.testing.assert_array_equal(f_bias, -i_bias)
    memory = np.exp(f_bias)  # even on [1, 49]
    assert memory.min() >= 1
    assert memory.max() <= 49 + 1e-3
    np.testing.assert_allclose(np.quantile(memory, [0.25, 0.5, 0.75]), [13, 25, 37], atol=1)
    gru = np.asarray(Chrono(50, cell="gru", seed=0)((2, 30_000)))
    assert (gru[1] == 0).all()
    assert (gru[0, 10_000:] == 0).all()
    np.testing.assert_array_equal(gru[0, :10_000], f_bias)
    np.testing.assert_array_equal(np.asarray(Chrono(50, cell="gru", seed=0)((30_000,))), gru[0])


HALF = r"one of the two pieces.*unit_forget_bias=False"


@pytest.mark.parametrize("bias", [GateBias(forget=3.0), Chrono(80, seed=0)])
def test_half_a_bias_is_refused(bias):
    layer = keras.layers.LSTM(8, bias_initializer=bias)  # unit_forget_bias is on
    with pytest.raises(ValueError, match=HALF):
        layer.build((None, None, 2))


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.rnn = keras.layers.LSTM(8, bias_initializer=GateBias(forget=3.0))

    def call(self, inputs):
        return self.rnn(inputs)


@pytest.fixture
def _forgotten():
    """Let Keras forget, at the end, the variables that it could not give values to; it would try again and again."""
    yield
    keras.utils.clear_session()


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras tries to build it once before it calls it
def test_half_a_bias_is_refused_where_the_variables_get_their_values_late():
    # On JAX Keras hides why, and trips over what its first attempt left behind.
    words = "already initialized" if keras.backend.backend() == "jax" else HALF
    with pytest.raises(ValueError, match=words):
        _Subclassed()(np.ones((2, 5, 2), "float32"))


@pytest.mark.parametrize(
    ("bias", "shape"),
    [
        (GateBias(forget=1), (2, 12)),
        (GateBias(forget=1), (10,)),
        (GateBias(update=1), (3, 12)),
        (GateBias(update=1), (8,)),
        (GateBias(update=1), (1, 2, 9)),
        (Chrono(9, cell="gru"), (8,)),
    ],
)
def test_a_shape_that_is_no_bias_is_refused(bias, shape):
    with pytest.raises(ValueError, match=rf"whole bias.*{re.escape(str(shape))}"):
        bias(shape)


@pytest.mark.parametrize("gates", [{}, {"forget": 1, "update": 1}, {"candidate": 1}, {"forgot": 1}])
def test_gates_of_no_cell_are_refused(gates):
    with pytest.raises(ValueError, match=r"names gates of an LSTM .* or of a GRU"):
        GateBias(**gates)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "large", None])
def test_a_bias_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="finite number"):
        GateBias(forget=value)


@pytest.mark.parametrize("longest", [2, -1, float("nan"), "long"])
def test_a_length_that_is_none_is_refused(longest):
    with pytest.raises(ValueError, match="`longest` must be"):
        Chrono(longest)


def test_a_cell_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"'lstm' or 'gru'.*'rnn'"):
        Chrono(20, cell="rnn")


@pytest.mark.parametrize("bias", [GateBias(forget=3.0, input=-1.0), Chrono(80, seed=4)])
def test_gate_biases_are_saved_with_their_layer(bias, tmp_path):
    lstm = keras.layers.LSTM(5, bias_initializer=bias, unit_forget_bias=False)
    model = keras.Sequential([keras.Input((None, 2)), lstm])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[0].cell.bias_initializer
    assert again.get_config() == bias.get_config()
    np.testing.assert_array_equal(np.asarray(again((20,))), model.layers[0].get_weights()[2])
