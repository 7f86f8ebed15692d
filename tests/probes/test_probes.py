"""State gradients and Jacobians against finite differences, a NumPy unrolling, and the chain rule."""

import keras
import numpy as np
import pytest

from rnnkit import probes
from rnnkit.probes import _jacobians

BATCH, TIME, FEATURES, UNITS = 3, 6, 2, 4
RECURRENT = {
    "SimpleRNN": lambda **k: keras.layers.SimpleRNN(UNITS, name="rnn", **k),
    "SimpleRNN, unrolled": lambda **k: keras.layers.SimpleRNN(UNITS, name="rnn", unroll=True, **k),
    "GRU": lambda **k: keras.layers.GRU(UNITS, name="rnn", **k),
    "GRU, reset before": lambda **k: keras.layers.GRU(UNITS, name="rnn", reset_after=False, **k),
    "LSTM": lambda **k: keras.layers.LSTM(UNITS, name="rnn", **k),
    "LSTM, backwards": lambda **k: keras.layers.LSTM(UNITS, name="rnn", go_backwards=True, **k),
    "LSTM, no bias": lambda **k: keras.layers.LSTM(UNITS, name="rnn", use_bias=False, **k),
    "LSTM, split kernels": lambda **k: keras.layers.LSTM(UNITS, name="rnn", implementation=1, **k),
    "stacked cells": lambda **k: keras.layers.RNN(
        [keras.layers.LSTMCell(3), keras.layers.GRUCell(UNITS)], name="rnn", **k
    ),
}


@pytest.fixture(autouse=True)
def _prepared(digits):
    keras.utils.set_random_seed(1)


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def batch(seed=0, time=TIME):
    draw = np.random.default_rng(seed)
    floats = keras.config.floatx()
    return draw.normal(size=(BATCH, time, FEATURES)).astype(floats), draw.normal(size=(BATCH, 1)).astype(floats)


def compiled(*layers, time=TIME, loss="mse"):
    model = keras.Sequential([keras.Input((time, FEATURES)), *layers])
    model.compile("sgd", loss)
    for variable in model.trainable_variables:  # biases too, so that no term is zero by chance
        variable.assign(np.random.default_rng(variable.shape[-1]).normal(0, 0.5, variable.shape))
    return model


class NudgedCell(keras.layers.Layer):
    """A cell that runs another one and adds `nudge` to one unit of one of its states at one step, each example its own.

    The independent reference: it changes the forward pass by a number, and differentiates nothing.
    """

    def __init__(self, cell, state, steps, units, nudge):
        super().__init__()
        self.cell, self.state_size, self.output_size = cell, [*np.ravel(cell.state_size), 1], cell.state_size
        self.state, self.steps, self.units, self.nudge = state, steps, units, nudge

    def call(self, inputs, states):
        *states, clock = states
        here = keras.ops.cast(keras.ops.equal(clock, self.steps[:, None]), inputs.dtype) * self.nudge
        unit = keras.ops.one_hot(self.units, UNITS, dtype=inputs.dtype)
        if isinstance(self.cell, keras.layers.LSTMCell) and self.state == 1:
            # h = o tanh(c), written out, so that the nudge of c is felt in h
            gates = keras.ops.matmul(inputs, self.cell.kernel) + keras.ops.matmul(states[0], self.cell.recurrent_kernel)
            i, f, g, o = keras.ops.split(gates if self.cell.bias is None else gates + self.cell.bias, 4, axis=-1)
            sigmoid = keras.ops.sigmoid
            c = sigmoid(f) * states[1] + sigmoid(i) * keras.ops.tanh(g) + here * unit
            new = [sigmoid(o) * keras.ops.tanh(c), c]
        else:
            _, new = self.cell(inputs, states)
            new = [new] if not isinstance(new, (list, tuple)) else list(new)
            new[self.state] = new[self.state] + here * unit
        return new[0], [*new, clock + 1]


def nudged_losses(model, x, y, state, places, nudge):
    """Return the loss for each (step, unit) of a state of layer `rnn`, nudged there alone.

    All in one pass: each place has a copy of the batch, and nothing in a model of these passes from example to example.
    """
    layer = model.get_layer("rnn")
    steps, units = np.repeat(places, len(x), axis=0).T
    nudged = keras.layers.RNN(
        NudgedCell(layer.cell, state, x.shape[1] - 1 - steps if layer.go_backwards else steps, units, nudge),
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
    )
    hidden = nudged(np.tile(x, (len(places), 1, 1)))
    for above in model.layers[1:]:
        hidden = above(hidden)
    errors = numpy(hidden).reshape(len(places), *y.shape) - y
    return (errors**2).mean(axis=tuple(range(1, errors.ndim)))


def differences(model, x, y, state, places, step):
    """Return the central difference of the loss for each (step, unit): the sum over the batch, which all is nudged."""
    up, down = (nudged_losses(model, x, y, state, places, nudge) for nudge in (step, -step))
    return (up - down) / (2 * step)


@pytest.mark.parametrize("name", ["LSTM, no bias", "LSTM, split kernels"])
def test_state_gradients_are_the_central_differences(name, digits):
    """Of the layers that the zoo does not have; of those that it has, test_every_model.py knows it."""
    model = compiled(RECURRENT[name](return_sequences=True), keras.layers.Dense(1))
    x, y = batch()
    target = np.repeat(y[:, None], TIME, axis=1)
    measured = probes.state_gradients(model, x, target)["rnn"]
    assert list(measured) == ["h", "c"]
    places = [(step, unit) for step in range(TIME) for unit in (0, 3)]
    for place, (state, gradients) in enumerate(measured.items()):
        assert gradients.shape == (BATCH, TIME, UNITS), state
        summed = [gradients[:, step, unit].sum() for step, unit in places]
        np.testing.assert_allclose(differences(model, x, target, place, places, digits.step), summed, atol=digits.atol)


def unrolled_gradients(model, x, y):
    """Backpropagation through time in NumPy, for h_t = tanh(x_t U + h_{t-1} W + b) and a mean squared error."""
    U, W, b, V, d = (numpy(variable) for variable in model.trainable_variables)
    h, states = np.zeros((len(x), UNITS)), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ U + h @ W + b)
        states.append(h)
    gradient = (2 * (h @ V + d - y) / y.size) @ V.T
    gradients = [gradient]
    for h in reversed(states[1:]):
        gradient = (gradient * (1 - h**2)) @ W.T
        gradients.append(gradient)
    return np.stack(gradients[::-1], axis=1)


def test_state_gradients_are_those_of_a_numpy_unrolling(digits):
    model = compiled(RECURRENT["SimpleRNN"](), keras.layers.Dense(1), time=None)
    x, y = batch(time=40)
    measured = probes.state_gradients(model, x, y)["rnn"]["h"]
    np.testing.assert_allclose(measured, unrolled_gradients(model, x, y), rtol=digits.rtol, atol=1e-12)


def test_last_output_alone_still_gives_a_gradient_at_every_step():
    model = compiled(RECURRENT["GRU"](), keras.layers.Dense(1))
    gradients = probes.state_gradients(model, *batch())["rnn"]["h"]
    assert (np.abs(gradients).max(axis=(0, 2)) > 1e-6).all()


def test_stacked_bidirectional_and_nested_layers_each_have_their_own_key():
    inner = keras.Sequential([keras.Input((TIME, 2 * UNITS)), keras.layers.GRU(UNITS, name="rnn")], name="inner")
    model = compiled(
        keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True, name="lstm"), name="both"),
        keras.layers.RNN(
            [keras.layers.GRUCell(5), keras.layers.LSTMCell(2 * UNITS)], return_sequences=True, name="two"
        ),
        inner,
        keras.layers.Dense(1),
    )
    measured = probes.state_gradients(model, *batch())
    shapes = {(layer, state): array.shape[1:] for layer, states in measured.items() for state, array in states.items()}
    assert shapes == {
        ("both/forward_lstm", "h"): (TIME, UNITS),
        ("both/forward_lstm", "c"): (TIME, UNITS),
        ("both/backward_lstm", "h"): (TIME, UNITS),
        ("both/backward_lstm", "c"): (TIME, UNITS),
        ("two/cell_0", "h"): (TIME, 5),
        ("two/cell_1", "h"): (TIME, 2 * UNITS),
        ("two/cell_1", "c"): (TIME, 2 * UNITS),
        ("inner/rnn", "h"): (TIME, UNITS),
    }
    for states in measured.values():
        for array in states.values():
            assert np.abs(array).max() > 0


def test_gradient_of_a_lower_layer_comes_through_all_layers_above(digits):
    """In a stack, nudging the state of the lower layer is nudging what the upper one reads: finite differences."""
    lower, upper = RECURRENT["SimpleRNN"](return_sequences=True), keras.layers.LSTM(UNITS, name="top")
    model = compiled(lower, upper, keras.layers.Dense(1))
    x, y = batch()
    gradients = probes.state_gradients(model, x, y, layers="rnn")["rnn"]["h"]
    places = [(0, 1), (TIME - 1, 1)]
    summed = [gradients[:, step, unit].sum() for step, unit in places]
    np.testing.assert_allclose(differences(model, x, y, 0, places, digits.step), summed, atol=digits.atol)


def test_backward_half_of_a_bidirectional_layer_is_indexed_by_input_step(digits):
    """Its last state is the one after reading x[:, 0]; that one alone meets the loss directly."""
    model = compiled(
        keras.layers.Bidirectional(keras.layers.SimpleRNN(UNITS, name="simple_rnn"), name="both"), keras.layers.Dense(1)
    )
    x, y = batch()
    backward = probes.state_gradients(model, x, y)["both/backward_simple_rnn"]["h"]
    V = numpy(model.layers[-1].kernel)
    direct = (2 * (model.predict(x, verbose=0) - y) / y.size) @ V[UNITS:].T
    np.testing.assert_allclose(backward[:, 0], direct, rtol=digits.rtol)


def test_masked_steps_hold_zero_and_the_others_what_the_short_sequence_has(digits):
    layers = keras.layers.Masking(), keras.layers.LSTM(UNITS, name="rnn"), keras.layers.Dense(1)
    model = compiled(*layers)
    x, y = batch()
    x[:, 4:] = 0
    padded = probes.state_gradients(model, x, y)["rnn"]
    short_model = keras.Sequential([keras.Input((4, FEATURES)), *layers])
    short_model.compile(loss="mse")
    short = probes.state_gradients(short_model, x[:, :4], y)["rnn"]
    for state in ("h", "c"):
        assert (padded[state][:, 4:] == 0).all()
        np.testing.assert_allclose(padded[state][:, :4], short[state], rtol=digits.rtol)


@pytest.mark.parametrize("name", RECURRENT)
def test_joint_jacobians_are_central_differences_of_the_cell(name, digits):
    model = compiled(RECURRENT[name](), keras.layers.Dense(1))
    layer, (x, _) = model.get_layer("rnn"), batch()
    jacobians = probes.state_jacobians(model, x, state="all")
    sizes = np.array(keras.tree.flatten(layer.cell.state_size))
    assert jacobians.shape == (BATCH, TIME, sizes.sum(), sizes.sum())

    def cell(inputs, joint):
        states = np.split(joint, np.cumsum(sizes)[:-1], axis=-1)
        if isinstance(layer.cell, keras.layers.StackedRNNCells):
            states = [states[:2], states[2:]]
        return np.concatenate([numpy(s) for s in keras.tree.flatten(layer.cell(inputs, states)[1])], axis=-1)

    order = range(TIME)[::-1] if layer.go_backwards else range(TIME)
    joint = np.zeros((BATCH, sizes.sum()), x.dtype)
    for t in order:
        # Each unit nudged alone, in a copy of the batch of its own.
        nudge = np.repeat(digits.step * np.eye(sizes.sum()), BATCH, axis=0).astype(x.dtype)
        copies = [np.tile(array, (sizes.sum(), 1)) for array in (x[:, t], joint)]
        up, down = (cell(copies[0], copies[1] + sign * nudge) for sign in (1, -1))
        difference = ((up - down) / (2 * digits.step)).reshape(sizes.sum(), BATCH, sizes.sum())
        np.testing.assert_allclose(jacobians[:, t].transpose(2, 0, 1), difference, atol=digits.atol)
        joint = cell(x[:, t], joint)


def test_the_block_of_a_state_is_its_own():
    model, (x, _) = compiled(RECURRENT["LSTM"](), keras.layers.Dense(1)), batch()
    joint = probes.state_jacobians(model, x, state="all")
    for place, state in enumerate(("h", "c")):
        block = slice(place * UNITS, (place + 1) * UNITS)
        np.testing.assert_array_equal(probes.state_jacobians(model, x, state=state), joint[..., block, block])


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU"])
def test_jacobians_chain_into_the_state_gradients(name, digits):
    model = compiled(RECURRENT[name](), keras.layers.Dense(1))
    x, y = batch()
    jacobians, gradients = probes.state_jacobians(model, x), probes.state_gradients(model, x, y)["rnn"]["h"]
    chained = np.einsum("btij,bti->btj", jacobians[:, 1:], gradients[:, 1:])
    np.testing.assert_allclose(chained, gradients[:, :-1], rtol=100 * digits.rtol)


def test_singular_values_are_those_of_the_plain_product():
    model = compiled(RECURRENT["LSTM"](), keras.layers.Dense(1))
    x, _ = batch()
    values = probes.singular_values(model, x)
    jacobians = probes.state_jacobians(model, x, state="all")
    for t in range(TIME):
        product = np.broadcast_to(np.eye(2 * UNITS), (BATCH, 2 * UNITS, 2 * UNITS))
        for later in range(t + 1, TIME):
            product = jacobians[:, later] @ product
        expected = np.linalg.svd(product[:, :UNITS, :UNITS], compute_uv=False)
        np.testing.assert_allclose(values[:, t], expected, rtol=1e-8, atol=1e-15)


def test_singular_values_of_a_linear_orthogonal_network_are_its_gain_to_the_power_of_the_distance(digits):
    """Known in closed form, at a length at which float32 would have underflowed; of 800 factors, each is rounded."""
    recurrent = keras.layers.SimpleRNN(
        UNITS, activation="linear", recurrent_initializer=keras.initializers.Orthogonal(gain=0.5, seed=0), name="rnn"
    )
    model = keras.Sequential([keras.Input((None, FEATURES)), recurrent])
    values = probes.singular_values(model, np.ones((1, 800, FEATURES)))
    expected = 0.5 ** np.arange(799, -1, -1.0)[:, None] * np.ones(UNITS)
    np.testing.assert_allclose(values[0], expected, rtol=10 * digits.rtol)


def test_a_batch_of_another_size_than_the_model_was_built_with_is_fine():
    model = keras.Sequential([keras.layers.GRU(UNITS, name="rnn"), keras.layers.Dense(1)])
    model.compile(loss="mse")
    x, y = batch()
    model.build(x.shape)
    assert probes.state_gradients(model, x[:1], y[:1])["rnn"]["h"].shape == (1, TIME, UNITS)


def test_singular_values_of_a_backward_layer_end_at_the_first_input():
    model = compiled(RECURRENT["LSTM, backwards"](), keras.layers.Dense(1))
    values = probes.singular_values(model, batch()[0])
    np.testing.assert_allclose(values[:, 0], 1)
    assert values[:, -1].max() < 1


def test_masked_steps_are_the_identity_jacobian():
    model = compiled(keras.layers.Masking(), keras.layers.GRU(UNITS, name="rnn"), keras.layers.Dense(1))
    x, _ = batch()
    x[1, 2] = 0
    jacobians = probes.state_jacobians(model, x)
    np.testing.assert_array_equal(jacobians[1, 2], np.eye(UNITS))
    assert not np.allclose(jacobians[0, 2], np.eye(UNITS))


@pytest.mark.parametrize("at_once", [1, 4, 7])
def test_jacobians_in_parts_are_those_measured_at_once(monkeypatch, at_once, digits):
    """18 steps in 18, 5 or 3 parts, which do not all divide them."""
    model, (x, _) = compiled(RECURRENT["GRU"](), keras.layers.Dense(1)), batch()
    whole = probes.state_jacobians(model, x)
    monkeypatch.setattr(_jacobians, "_ENTRIES", at_once * UNITS**2)
    np.testing.assert_allclose(probes.state_jacobians(model, x), whole, atol=digits.atol)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_prepared_jacobians_are_those_of_the_weights_at_that_moment(jit_compile, digits):
    model, (x, _) = compiled(RECURRENT["LSTM, backwards"](), keras.layers.Dense(1)), batch()
    measure = probes.prepare_state_jacobians(model, x, state="all", jit_compile=jit_compile)
    for scale, examples in ((1, BATCH), (2, BATCH), (1, 2)):
        model.set_weights([scale * weight for weight in model.get_weights()])
        expected = probes.state_jacobians(model, x[:examples], state="all")
        np.testing.assert_allclose(measure(x[:examples]), expected, atol=digits.atol)


def snapshot(model):
    everything = model.variables + model.metrics_variables + model.optimizer.variables
    return [numpy(variable) for variable in everything]


def test_probes_leave_the_model_as_it_was():
    model = compiled(
        keras.layers.LSTM(UNITS, stateful=False, dropout=0.3, name="rnn"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(1),
    )
    x, y = batch()
    model.fit(x, y, verbose=0)
    before = snapshot(model)
    attributes = set(vars(model)), set(vars(model.get_layer("rnn")))
    probes.state_gradients(model, x, y, training=True)
    probes.singular_values(model, x)
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (set(vars(model)), set(vars(model.get_layer("rnn")))) == attributes


def test_a_failing_loss_leaves_the_layer_as_it_was():
    def broken(y, prediction):
        raise RuntimeError("broken loss")

    model = compiled(RECURRENT["GRU"](), keras.layers.Dense(1), loss=broken)
    with pytest.raises(RuntimeError, match="broken loss"):
        probes.state_gradients(model, *batch())
    assert "inner_loop" not in vars(model.get_layer("rnn"))


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM"])
def test_norms_compiled_by_xla_are_those_of_the_gradients(name):
    model = compiled(RECURRENT[name](), keras.layers.Dense(1))
    x, y = batch()
    measured = probes.state_gradient_norms(model, x, y, jit_compile=True)()
    for state, gradients in probes.state_gradients(model, x, y)["rnn"].items():
        expected = np.linalg.norm(gradients, axis=-1).mean(axis=0)
        np.testing.assert_allclose(measured["rnn" if state == "h" else f"rnn/{state}"], expected, rtol=1e-4)


def test_sample_weights_scale_the_gradient_of_their_example(digits):
    model = compiled(RECURRENT["GRU"](), keras.layers.Dense(1))
    x, y = batch()
    plain = probes.state_gradients(model, x, y)["rnn"]["h"]
    weighted = probes.state_gradients(model, x, y, sample_weight=np.array([1.0, 3.0, 0.0]))["rnn"]["h"]
    np.testing.assert_allclose(weighted, plain * np.array([1.0, 3.0, 0.0])[:, None, None], rtol=digits.rtol)


class TestErrors:
    """Each names the rule, what was received and the next step."""

    def model(self):
        return compiled(RECURRENT["GRU"](), keras.layers.Dense(1))

    def test_model_without_recurrent_layer(self):
        with pytest.raises(
            ValueError, match=r"recurrent layer .* is needed.*Received: model 'plain'.*GradientRecorder"
        ):
            probes.state_jacobians(
                keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="plain"), np.ones(3)
            )

    def test_unbuilt_model(self):
        with pytest.raises(ValueError, match=r"must be built.*keras.Input"):
            probes.state_gradients(keras.Sequential([keras.layers.GRU(3)]), *batch())

    def test_not_a_model(self):
        with pytest.raises(TypeError, match=r"Keras model is needed.*Received: 'rnn'"):
            probes.state_gradients("rnn", *batch())

    def test_uncompiled_model(self):
        model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.GRU(3)])
        with pytest.raises(ValueError, match=r"must be compiled with a loss.*model.compile"):
            probes.state_gradients(model, *batch())

    def test_unknown_layer(self):
        with pytest.raises(ValueError, match=r"must be one of \['rnn'\]. Received: 'rnm'. Did you mean 'rnn'"):
            probes.state_gradients(self.model(), *batch(), layers="rnm")

    def test_layer_left_out_where_there_are_two(self):
        model = compiled(
            RECURRENT["GRU"](return_sequences=True), keras.layers.GRU(2, name="top"), keras.layers.Dense(1)
        )
        with pytest.raises(ValueError, match=r"One recurrent layer.*\['rnn', 'top'\].*layer='rnn'"):
            probes.state_jacobians(model, batch()[0])

    def test_jacobians_of_a_layer_that_runs_twice(self):
        inputs, layer = keras.Input((TIME, FEATURES)), keras.layers.GRU(UNITS, name="rnn")
        model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs) + layer(2 * inputs)))
        with pytest.raises(ValueError, match=r"^Jacobians .* runs once. Received: layer 'rnn', which runs 2 times"):
            probes.singular_values(model, batch()[0])

    def test_convolutional_state(self):
        layers = keras.layers.Reshape((TIME, FEATURES, 1)), keras.layers.ConvLSTM1D(2, 1, name="conv")
        model = compiled(*layers, keras.layers.Flatten(), keras.layers.Dense(1))
        with pytest.raises(ValueError, match=r"^States .* reads \(batch, time, features\).*'conv'.*layers="):
            probes.state_gradients(model, *batch())

    def test_unknown_state(self):
        with pytest.raises(ValueError, match=r"state must be one of \['h', 'all'\]. Received: 'c'"):
            probes.state_jacobians(self.model(), batch()[0], state="c")

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.ones((0, TIME, FEATURES)), r"at least one example.*shape \(0, 6, 2\)"),
            (np.ones((TIME, FEATURES)), r"shape of the model's input.*shape \(6, 2\).*x\[:1\] keeps"),
            (np.ones((BATCH, TIME, 5)), r"shape of the model's input.*\(3, 6, 5\)"),
            (np.full((BATCH, TIME, FEATURES), np.nan), r"must be finite.*36 NaN"),
            (np.ones((BATCH + 1, TIME, FEATURES)), "same number of examples"),
            (np.array([[1], [1, 2]], dtype=object), "array of Python objects.*pad_sequences"),
        ],
    )
    def test_batch_that_does_not_fit(self, x, message):
        with pytest.raises(ValueError, match=message):
            probes.state_gradients(self.model(), x, batch()[1])
