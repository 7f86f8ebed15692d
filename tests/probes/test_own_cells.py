"""Cells of a user's own, against NumPy written out step by step: measured as they compute, or refused."""

import keras
import numpy as np
import pytest
from fast import EAGER

import rnnkit
from rnnkit import probes

BATCH, TIME, FEATURES, UNITS = 2, 4, 2, 3
ops = keras.ops


@pytest.fixture(autouse=True)
def _prepared(digits):
    keras.utils.set_random_seed(1)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(keras.config.floatx())


def filled(cell, sequences=False, **options):
    """Make a compiled model of one RNN layer and a Dense one, with weights of about 1."""
    rnn = keras.layers.RNN(cell, name="rnn", return_sequences=sequences, **options)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), rnn, keras.layers.Dense(1)])
    model.compile("sgd", "mse", **EAGER)
    for place, variable in enumerate(model.trainable_variables):
        variable.assign(np.random.default_rng(place).normal(0, 0.8, variable.shape))
    return model


def weights(model):
    return [np.asarray(keras.ops.convert_to_numpy(variable), "float64") for variable in model.trainable_variables]


# --- LSTM cells -----------------------------------------------------------------------------------------------------


class Peephole(keras.layers.LSTMCell):
    """Gers & Schmidhuber (2000): the gates read c too, the output gate the new one."""

    peep = 1.5

    def _compute_carry_and_output_fused(self, z, c_tm1):
        z_i, z_f, z_g, z_o = z
        i = self.recurrent_activation(z_i + self.peep * c_tm1)
        f = self.recurrent_activation(z_f + self.peep * c_tm1)
        c = f * c_tm1 + i * self.activation(z_g)
        return c, self.recurrent_activation(z_o + 2 * self.peep * c)


class ForgetFirst(keras.layers.LSTMCell):
    """The plain LSTM, which computes its forget gate first."""

    def call(self, inputs, states, training=False):
        h, c = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]


class NormalizedOutput(ForgetFirst):
    """One whose h reads a normalized c."""

    def call(self, inputs, states, training=False):
        h, c = states
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        spread = ops.sqrt(ops.mean(ops.square(c), axis=-1, keepdims=True) + 0.1)
        h = self.recurrent_activation(o) * self.activation(c / spread)
        return h, [h, c]


class OurPeephole(rnnkit.layers.LSTMCell):
    """A peephole in a subclass of rnnkit's cell."""

    def call(self, inputs, states):
        _, c = states
        gate = self.gates(inputs, states)
        c = gate["forget"] * c + gate["input"] * gate["candidate"]
        h = gate["output"] * ops.sigmoid(3 * c) * self.activation(c)
        return h, [h, c]


def lstm(model, x, y, peep=(0, 0), squash=lambda c: c, opened=lambda c: 1, nudge=0.0, state=1, step=None):
    """Return the gates and the loss of an LSTM; a state is nudged after one step, before anything reads it."""
    U, W, b, V, d = weights(model)
    h, c, seen = np.zeros((len(x), UNITS)), np.zeros((len(x), UNITS)), []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ U + h @ W + b, 4, axis=1)
        i, f, g = sigmoid(i + peep[0] * c), sigmoid(f + peep[0] * c), np.tanh(g)
        c = f * c + i * g + (nudge if (t, state) == (step, 1) else 0)
        o = sigmoid(o + peep[1] * c)
        h = o * np.tanh(squash(c)) * opened(c) + (nudge if (t, state) == (step, 0) else 0)
        seen.append((i, f, o, g))
    gates = dict(zip(("input", "forget", "output", "candidate"), np.moveaxis(np.array(seen), 0, 2), strict=True))
    return gates, ((h @ V + d - y) ** 2).mean()


LSTMS = {
    "peephole": (Peephole, {"peep": (1.5, 3.0)}),
    "forget gate first": (ForgetFirst, {}),
    "h of a normalized c": (
        NormalizedOutput,
        {"squash": lambda c: c / np.sqrt((c**2).mean(axis=-1, keepdims=True) + 0.1)},
    ),
    "peephole of rnnkit's cell": (OurPeephole, {"opened": lambda c: sigmoid(3 * c)}),
}


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.tensorflow)])
@pytest.mark.parametrize("name", LSTMS)
def test_state_gradients_of_an_lstm_of_ones_own_are_central_differences_of_its_equations(name, jit_compile, digits):
    cell, equations = LSTMS[name]
    model, x, y = filled(cell(UNITS)), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    measured = probes.prepare_state_gradients(model, x, y, jit_compile=jit_compile)()["rnn"]
    for state, key in enumerate("hc"):
        for place in np.ndindex(BATCH, TIME, UNITS):
            nudge = np.zeros((BATCH, UNITS))
            nudge[place[0], place[2]] = 1e-5
            up, down = (
                lstm(model, x, y, nudge=sign * nudge, state=state, step=place[1], **equations)[1] for sign in (1, -1)
            )
            np.testing.assert_allclose(measured[key][place], (up - down) / 2e-5, rtol=1e-4, atol=digits.atol)
    assert np.abs(measured["c"]).min() > 1e-5


@pytest.mark.parametrize("name", ["peephole", "forget gate first", "h of a normalized c"])
def test_gates_of_an_lstm_of_ones_own_have_the_names_of_its_equations(name, digits):
    cell, equations = LSTMS[name]
    model, x, y = filled(cell(UNITS)), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    expected, _ = lstm(model, x, y, **equations)
    measured = probes.gates(model, x)["rnn"]
    assert set(measured) == set(expected)
    for gate, values in measured.items():
        np.testing.assert_allclose(values, expected[gate], rtol=digits.rtol, atol=digits.atol)


class ResetFirst(keras.layers.GRUCell):
    """The plain GRU of Cho et al. (2014), which computes its reset gate first."""

    def call(self, inputs, states, training=False):
        h = states[0]
        x_z, x_r, x_g = ops.split(ops.matmul(inputs, self.kernel), 3, axis=-1)
        W_z, W_r, W_g = ops.split(ops.convert_to_tensor(self.recurrent_kernel), 3, axis=-1)
        r = self.recurrent_activation(x_r + ops.matmul(h, W_r))
        z = self.recurrent_activation(x_z + ops.matmul(h, W_z))
        h = z * h + (1 - z) * self.activation(x_g + ops.matmul(r * h, W_g))
        return h, [h]


def test_gates_of_a_gru_of_ones_own_have_the_names_of_its_equations(digits):
    model, x = filled(ResetFirst(UNITS, use_bias=False)), numbers(BATCH, TIME, FEATURES)
    plain = filled(keras.layers.GRUCell(UNITS, use_bias=False, reset_after=False))
    plain.set_weights(model.get_weights())
    measured, expected = (probes.gates(of, x)["rnn"] for of in (model, plain))
    assert set(measured) == set(expected)
    for gate, values in measured.items():
        np.testing.assert_allclose(values, expected[gate], rtol=digits.rtol, atol=digits.atol)


def test_in_a_stack_and_under_a_mask_each_cell_is_found_by_its_key(digits):
    cells = [ForgetFirst(UNITS), keras.layers.LSTMCell(UNITS), Peephole(UNITS)]
    layers = [keras.layers.Masking(), keras.layers.RNN(cells, name="rnn"), keras.layers.Dense(1)]
    x, y = numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    x[0, 3:] = 0
    found, weights_of_first = [], None
    for first in (cells[0], keras.layers.LSTMCell(UNITS)):
        cells[0] = first
        layers[1] = keras.layers.RNN(cells, name="rnn")
        model = keras.Sequential([keras.Input((TIME, FEATURES)), *layers])
        model.compile(loss="mse")
        first.set_weights(weights_of_first or first.get_weights())
        weights_of_first = first.get_weights()
        found.append((probes.gates(model, x), probes.state_gradients(model, x, y)))
    (own_gates, own), (plain_gates, plain) = found
    assert list(own) == ["rnn/cell_0", "rnn/cell_1", "rnn/cell_2"]
    for key in own:
        assert set(own_gates[key]) == set(plain_gates[key])
        for gate, values in own_gates[key].items():
            np.testing.assert_allclose(values, plain_gates[key][gate], rtol=digits.rtol, atol=digits.atol)
        for state, values in own[key].items():
            np.testing.assert_allclose(values, plain[key][state], rtol=10 * digits.rtol, atol=digits.atol * 0.1)


class Zoneout(keras.layers.LSTMCell):
    """Krueger et al. (2016): a part of the old c stays."""

    def call(self, inputs, states, training=False):
        h, (_, c) = super().call(inputs, states, training=training)
        c = 0.3 * states[1] + 0.7 * c
        return h, [h, c]


class Coupled(keras.layers.LSTMCell):
    """Greff et al. (2017): the input gate is 1 minus the forget gate."""

    def call(self, inputs, states, training=False):
        z = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel)
        _, f, g, o = ops.split(z, 4, axis=-1)
        f = self.recurrent_activation(f)
        c = f * states[1] + (1 - f) * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]


class UpdateIsWritten(ResetFirst):
    """A GRU with the other convention."""

    def call(self, inputs, states, training=False):
        h, _ = super().call(inputs, states)
        return states[0] + inputs[:, :1] * h, [states[0] + inputs[:, :1] * h]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            Zoneout,
            r"subclass of LSTMCell must satisfy c_t = forget .*layer 'rnn' with a Zoneout, which does not. Leave",
        ),
        (Coupled, r"made 2 such calls instead of 3, .* subclass rnnkit.layers.LSTMCell, whose method `gates`"),
        (
            UpdateIsWritten,
            r"subclass of GRUCell must satisfy h_t = update .*with a UpdateIsWritten, which does not.*subclass rnnkit",
        ),
    ],
)
def test_a_cell_that_computes_something_else_is_refused(cell, told):
    model, x, y = filled(cell(UNITS, use_bias=False)), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    asked = [lambda: probes.gates(model, x)]
    if issubclass(cell, keras.layers.LSTMCell):
        asked.append(lambda: probes.state_gradients(model, x, y))
    for ask in asked:
        with pytest.raises(ValueError, match=rf"(?s)^A.*{told}"):
            ask()
    assert probes.state_jacobians(model, x, state="all").shape[:2] == (BATCH, TIME)


def test_gates_that_the_batch_does_not_tell_apart_are_refused():
    model = filled(ForgetFirst(UNITS))
    model.set_weights([0 * weight for weight in model.get_weights()])
    with pytest.raises(ValueError, match="for which more than one order of its gates does"):
        probes.gates(model, numbers(BATCH, TIME, FEATURES))


class OwnLoop(keras.layers.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


def test_a_layer_with_a_loop_of_its_own_is_refused():
    model = keras.Sequential([keras.Input((TIME, FEATURES)), OwnLoop(UNITS, name="rnn"), keras.layers.Dense(1)])
    model.compile(loss="mse")
    for ask in (probes.gates, probes.state_jacobians, lambda *given: probes.state_gradients(*given, numbers(BATCH, 1))):
        with pytest.raises(ValueError, match=r"^States .*'rnn', whose OwnLoop overrides inner_loop.*RNN\(cell\)"):
            ask(model, numbers(BATCH, TIME, FEATURES))


def test_in_the_training_step_there_is_no_probe_batch_to_check_such_a_cell_on():
    model, x, y = filled(Peephole(UNITS)), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    with pytest.raises(ValueError, match=r"^An LSTM cell .* checked on a probe batch.*StateGradientRecorder\(x, y\)"):
        model.fit(x, y, verbose=0, callbacks=[rnnkit.StateGradientRecorder(every=1)])
    model, recorder = filled(Peephole(UNITS)), rnnkit.StateGradientRecorder(x, y)
    model.fit(x, y, verbose=0, callbacks=[recorder])
    assert list(recorder.history) == ["rnn", "rnn/c"]


# --- states that are matrices ----------------------------------------------------------------------------------------


class FastWeights(keras.layers.Layer):
    """Ba et al. (2016): a vector h, and a matrix that keeps what h has been."""

    state_size = (UNITS, (UNITS, UNITS))
    output_size = UNITS

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, UNITS)), ops.zeros((batch_size, UNITS, UNITS))]

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], UNITS), name="kernel")

    def call(self, inputs, states):
        h, A = states
        h = ops.tanh(ops.matmul(inputs, self.kernel) + ops.einsum("bij,bj->bi", A, h))
        return h, [h, 0.9 * A + ops.einsum("bi,bj->bij", h, h)]


def fast_weights(K, x, h, A, nudge_h=0, nudge_A=0, step=None):
    """Return the states (h, A) before each step, and after the last; they are nudged after one step."""
    trajectory = [(h, A)]
    for t in range(x.shape[1]):
        new = np.tanh(x[:, t] @ K + np.einsum("bij,bj->bi", A, h))
        A = 0.9 * A + np.einsum("bi,bj->bij", new, new) + (nudge_A if t == step else 0)
        h = new + (nudge_h if t == step else 0)
        trajectory.append((h, A))
    return trajectory


def zeros():
    return np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS, UNITS))


def test_state_gradients_by_a_matrix_are_central_differences(digits):
    model, x, y = filled(FastWeights()), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    K, V, d = weights(model)
    measured = probes.state_gradients(model, x, y)["rnn"]
    assert {state: array.shape for state, array in measured.items()} == {
        "h": (BATCH, TIME, UNITS),
        "state_1": (BATCH, TIME, UNITS, UNITS),
    }

    def loss(**nudges):
        return ((fast_weights(K, x, *zeros(), **nudges)[-1][0] @ V + d - y) ** 2).mean()

    for state, name in (("h", "nudge_h"), ("state_1", "nudge_A")):
        for place in np.ndindex(measured[state].shape):
            example, step, *entry = place
            nudge = np.zeros(zeros()[state != "h"].shape)
            nudge[(example, *entry)] = 1e-5
            up, down = (loss(**{name: sign * nudge, "step": step}) for sign in (1, -1))
            np.testing.assert_allclose(measured[state][place], (up - down) / 2e-5, rtol=1e-4, atol=digits.atol)
    norms = probes.state_gradient_norms(model, x, y)()["rnn/state_1"]
    expected = np.sqrt((measured["state_1"] ** 2).sum(axis=(2, 3))).mean(axis=0)
    np.testing.assert_allclose(norms, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("masked", [False, True])
def test_jacobians_of_a_matrix_are_central_differences(masked, digits):
    if masked and keras.backend.backend() == "jax":
        pytest.skip("Keras's loop on JAX does not take a mask beside a state that is a matrix")
    model, x = filled(FastWeights(), sequences=True), numbers(BATCH, TIME, FEATURES)
    if masked:
        x[1, 2] = 0
        parts = [keras.layers.Masking(), *model.layers]
        model = keras.Sequential([keras.Input((TIME, FEATURES)), *parts])
    (K, *_) = weights(model)
    joint = probes.state_jacobians(model, x, state="all")
    total = UNITS + UNITS**2
    assert joint.shape == (BATCH, TIME, total, total)
    np.testing.assert_array_equal(probes.state_jacobians(model, x, state="state_1"), joint[..., UNITS:, UNITS:])
    trajectory = fast_weights(K, x, *zeros())

    def step(t, row):
        h, A = row[:, :UNITS], row[:, UNITS:].reshape(BATCH, UNITS, UNITS)
        _, (h, A) = fast_weights(K, x[:, t : t + 1], h, A)
        return np.concatenate([h, A.reshape(BATCH, -1)], axis=1)

    for t in range(2 if masked else TIME):
        h, A = trajectory[t]
        row = np.concatenate([h, A.reshape(BATCH, -1)], axis=1)
        for entry, direction in enumerate(np.eye(total) * 1e-5):
            difference = (step(t, row + direction) - step(t, row - direction)) / 2e-5
            np.testing.assert_allclose(joint[:, t, :, entry], difference, rtol=1e-4, atol=digits.atol)
    if masked:
        np.testing.assert_array_equal(joint[1, 2], np.eye(total))
    assert probes.singular_values(model, x).shape == (BATCH, TIME, UNITS)
    assert probes.lyapunov_exponents(model, x).shape == (BATCH, total)


def test_the_training_step_is_recorded_too(digits):
    model, x, y = filled(FastWeights()), numbers(BATCH, TIME, FEATURES), numbers(BATCH, 1)
    expected = probes.state_gradient_norms(model, x, y)()
    recorder = rnnkit.StateGradientRecorder(every=1)
    model.fit(x, y, verbose=0, callbacks=[recorder])
    assert list(recorder.history) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(recorder.history[key][0], values, rtol=1e-4, atol=1e-7)
