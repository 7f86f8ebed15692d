"""The cells against Keras's own, and against the equations in NumPy; and under the probes."""

import keras
import numpy as np
import pytest
from fast import EAGER

import rnnkit
from rnnkit import probes
from rnnkit.layers import GRUCell, LSTMCell, SimpleRNNCell

BATCH, TIME, FEATURES, UNITS = 4, 12, 3, 5
PAIRS = {
    "SimpleRNN": (SimpleRNNCell, {}, keras.layers.SimpleRNN, {}),
    "SimpleRNN, relu": (SimpleRNNCell, {"activation": "relu"}, keras.layers.SimpleRNN, {"activation": "relu"}),
    "LSTM": (LSTMCell, {}, keras.layers.LSTM, {}),
    "LSTM, other activations": (
        LSTMCell,
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
        keras.layers.LSTM,
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    ),
    "GRU": (GRUCell, {}, keras.layers.GRU, {}),
    "GRU, reset before": (GRUCell, {"reset_after": False}, keras.layers.GRU, {"reset_after": False}),
}
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def batch():
    draw = np.random.default_rng(0)
    return draw.normal(size=(BATCH, TIME, FEATURES)).astype("float32"), draw.normal(size=(BATCH, 1)).astype("float32")


def twins(pair):
    """Build both layers, give them the same large weights, biases too; return two compiled models."""
    cell, ours, theirs, settings = pair
    models = []
    for rnn in (
        keras.layers.RNN(cell(UNITS, **ours), return_sequences=True, return_state=True, name="rnn"),
        theirs(UNITS, return_sequences=True, return_state=True, name="rnn", **settings),
    ):
        inputs = keras.Input((None, FEATURES))
        sequence, *states = rnn(inputs)
        joined = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(sequence), *states])
        model = keras.Model(inputs, [keras.layers.Dense(1, name="head")(joined), sequence, *states])
        model.compile(keras.optimizers.SGD(1.0), ["mse", *[None] * (1 + len(states))], **EAGER)
        models.append(model)
    draw = np.random.default_rng(1)
    weights = [draw.normal(0, 0.6, variable.shape) for variable in models[1].trainable_variables]
    for model in models:
        model.set_weights(weights)
    return models


def step(model, x, y):
    """Return by how much one step of gradient descent at rate 1 changes each weight: minus its gradient."""
    before = model.get_weights()
    model.train_on_batch(x, y)
    return [new - old for new, old in zip(model.get_weights(), before, strict=True)]


@each_pair
def test_the_weights_have_the_shapes_and_names_of_kerass(pair):
    ours, theirs = twins(pair)
    named = [
        {(variable.name, tuple(variable.shape)) for variable in model.trainable_variables} for model in (ours, theirs)
    ]
    assert named[0] == named[1]


@each_pair
def test_all_outputs_equal_kerass_to_1e_6(pair):
    x, _ = batch()
    ours, theirs = ([np.asarray(part) for part in model.predict(x, verbose=0)] for model in twins(pair))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-6)


@each_pair
def test_all_gradients_equal_kerass_to_1e_6(pair):
    x, y = batch()
    for one, other in zip(*(step(model, x, y) for model in twins(pair)), strict=True):
        scale = max(1, np.abs(other).max())  # gradients are read off weights in float32
        np.testing.assert_allclose(one / scale, other / scale, atol=1e-6)


@each_pair
def test_state_gradients_equal_kerass(pair, digits):
    x, y = batch()
    models = []
    for model in twins(pair):
        single = keras.Model(model.inputs, model.outputs[0])
        single.compile(loss="mse")
        models.append(single)
    ours, theirs = (probes.state_gradients(model, x, y)["rnn"] for model in models)
    assert set(ours) == set(theirs)
    for state in theirs:
        assert np.abs(theirs[state]).max() > 1e-3
        np.testing.assert_allclose(ours[state], theirs[state], atol=max(digits.atol, 1e-6))
    joint, others = (probes.state_jacobians(model, x, state="all") for model in models)
    np.testing.assert_allclose(joint, others, atol=1e-5)


@pytest.mark.parametrize("pair", [pair for name, pair in PAIRS.items() if "Simple" not in name])
def test_gates_equal_kerass(pair):
    x, _ = batch()
    ours, theirs = (probes.gates(model, x)["rnn"] for model in twins(pair))
    assert set(ours) == set(theirs)
    for gate in theirs:
        np.testing.assert_allclose(ours[gate], theirs[gate], atol=1e-6)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_lectures_gru_is_kerass_with_the_update_gate_negated(reset_after):
    x, _ = batch()
    layers = [keras.layers.RNN(GRUCell(UNITS, c, reset_after=reset_after)) for c in ("keras", "lecture")]
    for layer in layers:
        layer.build(x.shape)
    draw = np.random.default_rng(2)
    weights = [draw.normal(size=weight.shape).astype("float32") for weight in layers[0].get_weights()]
    layers[0].set_weights(weights)
    sign = np.repeat([-1, 1, 1], UNITS)
    layers[1].set_weights([weight * sign for weight in weights])
    one, other = (keras.ops.convert_to_numpy(layer(x)) for layer in layers)
    np.testing.assert_allclose(one, other, atol=1e-6)
    layers[1].set_weights(weights)
    assert np.abs(keras.ops.convert_to_numpy(layers[1](x)) - one).max() > 0.1


@pytest.mark.parametrize("convention", ["keras", "lecture"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gru_does_what_its_docstring_says(convention, reset_after):
    draw = np.random.default_rng(3)
    x, h = draw.normal(size=(BATCH, FEATURES)), draw.normal(size=(BATCH, UNITS))
    cell = GRUCell(UNITS, convention, reset_after)
    cell.build(x.shape)
    cell.set_weights([draw.normal(size=weight.shape) for weight in cell.get_weights()])
    U, W, bias = cell.get_weights()
    b, d = bias if reset_after else (bias, np.zeros(3 * UNITS))
    (U_z, U_r, U_g), (W_z, W_r, W_g) = np.split(U, 3, 1), np.split(W, 3, 1)
    (b_z, b_r, b_g), (d_z, d_r, d_g) = np.split(b, 3), np.split(d, 3)
    z = sigmoid(x @ U_z + h @ W_z + b_z + d_z)
    r = sigmoid(x @ U_r + h @ W_r + b_r + d_r)
    g = np.tanh(x @ U_g + b_g + r * (h @ W_g + d_g)) if reset_after else np.tanh(x @ U_g + (r * h) @ W_g + b_g)
    expected = z * h + (1 - z) * g if convention == "keras" else (1 - z) * h + z * g
    received, (state,) = cell(keras.ops.convert_to_tensor(x, "float32"), [keras.ops.convert_to_tensor(h, "float32")])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(received), expected, atol=1e-5)
    assert state is received


def test_the_lstm_starts_as_kerass_does():
    ours, theirs = keras.layers.RNN(LSTMCell(UNITS)), keras.layers.LSTM(UNITS)
    for layer in (ours, theirs):
        layer.build((None, None, FEATURES))
    np.testing.assert_array_equal(ours.get_weights()[2], theirs.get_weights()[2])


@pytest.mark.parametrize(
    "cell",
    [
        SimpleRNNCell(UNITS, "relu"),
        LSTMCell(UNITS, recurrent_activation="hard_sigmoid"),
        GRUCell(UNITS, "lecture", reset_after=False),
        LSTMCell(UNITS, rnnkit.initializers.Chrono(30, seed=1)),
    ],
    ids=lambda cell: cell.name,
)
def test_a_saved_model_is_the_same_when_loaded(cell, tmp_path):
    x, _ = batch()
    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.RNN(cell), keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-7)
    assert again.layers[0].cell.get_config() == cell.get_config()


class Without(LSTMCell):
    """An LSTM with some gates always open, as in Greff et al. (2017)."""

    missing = ()

    def gates(self, inputs, states):
        gates = super().gates(inputs, states)
        return gates | {name: keras.ops.ones_like(gates[name]) for name in self.missing}


def test_an_lstm_made_from_ours_is_probed_as_what_it_is():
    x, y = batch()
    cell = Without(UNITS, bias_initializer="zeros")
    cell.missing = ("forget", "output")
    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.RNN(cell, name="rnn"), keras.layers.Dense(1)])
    model.compile(loss="mse")
    gates = probes.gates(model, x)["rnn"]
    assert (gates["forget"] == 1).all()
    assert 0 < gates["input"].min() < gates["input"].max() < 1
    measured = probes.state_gradients(model, x, y)["rnn"]
    # With o = 1 and f = 1: dL/dc_T = dL/dh_T * (1 - h_T^2).
    h = keras.ops.convert_to_numpy(model.layers[0](x))
    np.testing.assert_allclose(measured["c"][:, -1], measured["h"][:, -1] * (1 - h**2), atol=1e-6)


def test_a_stack_of_them_is_probed_like_a_stack_of_kerass():
    x, _ = batch()
    stack = [LSTMCell(UNITS), GRUCell(UNITS)]
    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.RNN(stack, name="rnn")])
    model.compile(loss="mse")
    assert set(probes.gates(model, x)) == {"rnn/cell_0", "rnn/cell_1"}
    assert set(probes.state_gradients(model, x, np.zeros((BATCH, UNITS)))["rnn/cell_0"]) == {"h", "c"}


def test_a_cell_that_hides_its_gates_is_told():
    class Hidden(LSTMCell):
        def call(self, inputs, states):
            return states[0], states

    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.RNN(Hidden(UNITS), name="rnn")])
    with pytest.raises(ValueError, match=r"one call of its method `gates`.*made 0 such calls"):
        probes.gates(model, batch()[0])


@pytest.mark.parametrize("units", [0, -1, 2.5, "many", True])
def test_units_that_are_none_are_refused(units):
    with pytest.raises(ValueError, match="`units` must be"):
        LSTMCell(units)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match=r"'keras' .* or 'lecture'.*'pytorch'"):
        GRUCell(4, "pytorch")
