"""Gates against the published equations, written out in NumPy step by step; and recorded while a model trains."""

import keras
import numpy as np
import pytest
from fast import EAGER, FAST

import rnnkit
from rnnkit import probes

BATCH, TIME, FEATURES, UNITS = 3, 6, 2, 4
LAYERS = {
    "LSTM": (keras.layers.LSTM, {}),
    "LSTM, no bias": (keras.layers.LSTM, {"use_bias": False}),
    "LSTM, split kernels": (keras.layers.LSTM, {"implementation": 1}),
    "LSTM, other activations": (
        keras.layers.LSTM,
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    ),
    "LSTM, unrolled": (keras.layers.LSTM, {"unroll": True}),
    "LSTM, backwards": (keras.layers.LSTM, {"go_backwards": True}),
    "GRU": (keras.layers.GRU, {}),
    "GRU, no bias": (keras.layers.GRU, {"use_bias": False}),
    "GRU, split kernels": (keras.layers.GRU, {"implementation": 1}),
    "GRU, reset before": (keras.layers.GRU, {"reset_after": False}),
    "GRU, reset before, split kernels": (keras.layers.GRU, {"reset_after": False, "implementation": 1}),
    "GRU, reset before, no bias": (keras.layers.GRU, {"reset_after": False, "use_bias": False}),
    "GRU, other activations": (keras.layers.GRU, {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}),
    "GRU, backwards": (keras.layers.GRU, {"go_backwards": True}),
}
ACTIVATIONS = {
    "tanh": np.tanh,
    "softsign": lambda a: a / (1 + np.abs(a)),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "hard_sigmoid": lambda a: np.clip(a / 6 + 0.5, 0, 1),
}


def batch(seed=0, time=TIME):
    return np.random.default_rng(seed).normal(size=(BATCH, time, FEATURES))


def shaken(model):
    """Give every weight, biases too, numbers large enough that no term of an equation can hide."""
    for place, variable in enumerate(model.trainable_variables):
        variable.assign(np.random.default_rng(place).normal(0, 0.8, variable.shape))
    return model


def lstm(layer, x, h, c):
    """Gers, Schmidhuber & Cummins (2000) without peepholes: gates and states at every step."""
    outer, inner = ACTIVATIONS[layer.activation.__name__], ACTIVATIONS[layer.recurrent_activation.__name__]
    U, W, *b = (keras.ops.convert_to_numpy(variable) for variable in layer.cell.trainable_variables)
    (U_i, U_f, U_g, U_o), (W_i, W_f, W_g, W_o) = np.split(U, 4, axis=1), np.split(W, 4, axis=1)
    b_i, b_f, b_g, b_o = np.split(b[0], 4) if b else np.zeros(4)
    seen = {"input": [], "forget": [], "output": [], "candidate": [], "h": []}
    for x_t in np.moveaxis(x, 1, 0):
        i = inner(x_t @ U_i + h @ W_i + b_i)
        f = inner(x_t @ U_f + h @ W_f + b_f)
        g = outer(x_t @ U_g + h @ W_g + b_g)
        o = inner(x_t @ U_o + h @ W_o + b_o)
        c = f * c + i * g
        h = o * outer(c)
        for name, value in zip(seen, (i, f, o, g, h), strict=True):
            seen[name].append(value)
    return {name: np.stack(values, axis=1) for name, values in seen.items()}


def gru(layer, x, h):
    """Cho et al. (2014), equations 5-8, with Keras's place of the reset gate if `reset_after`."""
    outer, inner = ACTIVATIONS[layer.activation.__name__], ACTIVATIONS[layer.recurrent_activation.__name__]
    U, W, *b = (keras.ops.convert_to_numpy(variable) for variable in layer.cell.trainable_variables)
    (U_z, U_r, U_g), (W_z, W_r, W_g) = np.split(U, 3, axis=1), np.split(W, 3, axis=1)
    b = np.atleast_2d(b[0]) if b else np.zeros((1, 3))
    b_z, b_r, b_g = np.split(b[0], 3)
    d_z, d_r, d_g = np.split(b[1], 3) if len(b) == 2 else np.zeros(3)
    seen = {"update": [], "reset": [], "candidate": [], "h": []}
    for x_t in np.moveaxis(x, 1, 0):
        z = inner(x_t @ U_z + b_z + h @ W_z + d_z)
        r = inner(x_t @ U_r + b_r + h @ W_r + d_r)
        fed_back = r * (h @ W_g + d_g) if layer.reset_after else (r * h) @ W_g
        g = outer(x_t @ U_g + b_g + fed_back)
        h = z * h + (1 - z) * g
        for name, value in zip(seen, (z, r, g, h), strict=True):
            seen[name].append(value)
    return {name: np.stack(values, axis=1) for name, values in seen.items()}


def by_hand(layer, x, initial=None):
    """Return the gates of a layer, and `"h"`, indexed by input position."""
    zeros = np.zeros((len(x), layer.units))
    read = x[:, ::-1] if layer.go_backwards else x
    if isinstance(layer, keras.layers.LSTM):
        seen = lstm(layer, read, *(initial or (zeros, zeros)))
    else:
        seen = gru(layer, read, *(initial or (zeros,)))
    return {name: values[:, ::-1] for name, values in seen.items()} if layer.go_backwards else seen


def assert_same(measured, expected, digits):
    assert list(measured) == [name for name in expected if name != "h"]
    for name, values in measured.items():
        np.testing.assert_allclose(values, expected[name], rtol=digits.rtol, atol=digits.atol * 1e-1, err_msg=name)


@pytest.mark.parametrize("name", LAYERS)
def test_gates_are_those_of_the_published_equations(name, digits):
    make, settings = LAYERS[name]
    layer = make(UNITS, name="rnn", **settings)
    model = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)]))
    x = batch()
    assert_same(probes.gates(model, x)["rnn"], by_hand(layer, x), digits)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRU, backwards"])
def test_the_layers_own_output_follows_from_its_gates(name, digits):
    make, settings = LAYERS[name]
    layer = make(UNITS, name="rnn", return_sequences=True, **settings)
    model, x = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), layer])), batch()
    gates = probes.gates(model, x)["rnn"]
    if layer.go_backwards:
        gates = {gate: values[:, ::-1] for gate, values in gates.items()}
    states, c = [np.zeros((BATCH, UNITS))], 0
    for t in range(TIME):
        if "forget" in gates:
            c = gates["forget"][:, t] * c + gates["input"][:, t] * gates["candidate"][:, t]
            states.append(gates["output"][:, t] * np.tanh(c))
        else:
            z = gates["update"][:, t]
            states.append(z * states[-1] + (1 - z) * gates["candidate"][:, t])
    np.testing.assert_allclose(
        np.stack(states[1:], axis=1), model.predict(x, verbose=0), rtol=digits.rtol, atol=digits.atol * 1e-1
    )


def test_an_initial_state_is_where_the_gates_start_from(digits):
    read, said = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    _, *states = keras.layers.LSTM(UNITS, return_state=True, name="encoder")(read)
    decoded = keras.layers.LSTM(UNITS, return_sequences=True, name="decoder")(said, initial_state=states)
    model = shaken(keras.Model([read, said], keras.layers.Dense(1)(decoded)))
    x = [batch(0), batch(1)]
    measured = probes.gates(model, x)
    final = [keras.ops.convert_to_numpy(state) for state in keras.Model(read, states)(x[0])]
    assert_same(measured["encoder"], by_hand(model.get_layer("encoder"), x[0]), digits)
    assert_same(measured["decoder"], by_hand(model.get_layer("decoder"), x[1], final), digits)


def test_stacked_bidirectional_and_nested_layers_each_have_their_own_key(digits):
    inner = keras.Sequential([keras.Input((TIME, UNITS)), keras.layers.GRU(UNITS, name="rnn")], name="inner")
    cells = [keras.layers.GRUCell(5), keras.layers.SimpleRNNCell(3), keras.layers.LSTMCell(UNITS)]
    both = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True, name="lstm"), name="both")
    stack = keras.layers.RNN(cells, return_sequences=True, name="stack")
    model = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), both, stack, inner, keras.layers.Dense(1)]))
    x = batch()
    measured = probes.gates(model, x)
    assert list(measured) == ["both/forward_lstm", "both/backward_lstm", "stack/cell_0", "stack/cell_2", "inner/rnn"]
    for half in (both.forward_layer, both.backward_layer):
        assert_same(measured[f"both/{half.name}"], by_hand(half, x), digits)
    # The same cells, each in a layer of its own: GRU(5), then the rest.
    above = keras.ops.convert_to_numpy(both(x))
    lone = keras.layers.GRU(5)
    lone.build(above.shape)
    lone.set_weights(cells[0].get_weights())
    assert_same(measured["stack/cell_0"], by_hand(lone, above), digits)
    states = keras.ops.convert_to_numpy(stack(above))
    assert_same(measured["inner/rnn"], by_hand(inner.layers[0], states), digits)
    below = keras.layers.RNN(cells[:2], return_sequences=True)(above)
    top = keras.layers.LSTM(UNITS)
    top.build(below.shape)
    top.set_weights(cells[2].get_weights())
    assert_same(measured["stack/cell_2"], by_hand(top, keras.ops.convert_to_numpy(below)), digits)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "LSTM, backwards", "LSTM, unrolled", "GRU", "GRU, backwards"])
def test_masked_steps_are_nan_and_the_others_are_those_of_the_short_sequence(name, sequences, digits):
    make, settings = LAYERS[name]
    layer, above = make(UNITS, name="rnn", return_sequences=sequences, **settings), [keras.layers.GRU(3, name="top")]
    layers = [layer, *(above if sequences else []), keras.layers.Dense(1)]
    model = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.Masking(), *layers]))
    x = batch()
    x[0, 4:] = 0  # padded right, left, in the middle
    x[1, :2] = 0
    x[2, 3] = 0
    plain = keras.ops.convert_to_numpy(model(x))
    measured = probes.gates(model, x)
    for example, kept in enumerate([[0, 1, 2, 3], [2, 3, 4, 5], [0, 1, 2, 4, 5]]):
        short = by_hand(layer, x[example : example + 1, kept])
        for gate, values in measured["rnn"].items():
            np.testing.assert_allclose(values[example, kept], short[gate][0], rtol=digits.rtol, atol=digits.atol * 0.1)
            assert np.isnan(np.delete(values[example], kept, axis=0)).all()
        if sequences and not layer.go_backwards:
            reread = by_hand(above[0], short["h"])
            np.testing.assert_allclose(
                measured["top"]["update"][example, kept], reread["update"][0], rtol=digits.rtol, atol=digits.atol * 0.1
            )
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), plain)


def test_under_a_mask_what_the_layer_hands_on_is_what_it_hands_on_unwatched(digits):
    """A layer above that reads every step, masked ones too, tells."""
    lower = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True), name="both")
    single = keras.layers.GRU(UNITS, return_sequences=True, name="single")
    masked = keras.Input((TIME, FEATURES))
    hidden = single(lower(keras.layers.Masking()(masked)))
    top = keras.layers.LSTM(3, name="top")
    model = shaken(keras.Model(masked, [hidden, top(1.0 * hidden)]))  # the product has no mask
    x = batch()
    x[0, 4:], x[1, :2] = 0, 0
    hidden = keras.ops.convert_to_numpy(model(x)[0])
    assert_same(probes.gates(model, x)["top"], by_hand(top, hidden), digits)


@pytest.mark.parametrize("recurrent_dropout", [0, 0.3])
def test_with_dropout_the_output_of_the_training_pass_follows_from_the_gates(recurrent_dropout, digits):
    layer = keras.layers.GRU(
        UNITS, dropout=0.4, recurrent_dropout=recurrent_dropout, seed=0, return_sequences=True, name="rnn"
    )
    model, x = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), layer])), batch()
    with keras.StatelessScope():  # draws the same masks again
        output = keras.ops.convert_to_numpy(model(x, training=True))
    gates = probes.gates(model, x, training=True)["rnn"]
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), output[:, :-1]], axis=1)
    follows = gates["update"] * before + (1 - gates["update"]) * gates["candidate"]
    np.testing.assert_allclose(follows, output, rtol=digits.rtol, atol=digits.atol * 0.1)
    assert not np.allclose(gates["update"], probes.gates(model, x)["rnn"]["update"], rtol=1e-2)


def test_half_precision_comes_out_as_float32():
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES)), keras.layers.GRU(UNITS, dtype="mixed_bfloat16", name="rnn")]
    )
    x = batch().astype("float32")
    update = probes.gates(model, x)["rnn"]["update"]
    assert update.dtype == "float32"
    np.testing.assert_allclose(update, by_hand(model.layers[0], x)["update"], atol=0.02)


def test_the_model_is_as_it_was():
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES), batch_size=BATCH),
            keras.layers.LSTM(UNITS, stateful=True, dropout=0.3, seed=0, name="rnn"),
        ]
    )
    layer = model.layers[0]
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    attributes = set(vars(model)), set(vars(layer)), set(vars(layer.cell))
    activations = layer.cell.activation, layer.cell.recurrent_activation
    first = probes.gates(model, batch(), training=True)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    assert (layer.cell.activation, layer.cell.recurrent_activation) == activations
    attributes[2].add("_dropout_mask"), attributes[2].add("_recurrent_dropout_mask")  # Keras's own, as after any call
    assert (set(vars(model)), set(vars(layer))) == attributes[:2]
    assert set(vars(layer.cell)) <= attributes[2]
    again = probes.gates(model, batch(), training=True)
    np.testing.assert_array_equal(first["rnn"]["forget"], again["rnn"]["forget"])


class TestErrors:
    """Each names the rule, what was received and the next step."""

    def test_no_gates_at_all(self):
        model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.SimpleRNN(3, name="rnn")])
        message = (
            r"Gates are read from .*GRUCell. Received: layer 'rnn' with a SimpleRNNCell. For its states use rnnkit"
        )
        for layers in (None, "rnn"):
            with pytest.raises(ValueError, match=message):
                probes.gates(model, batch(), layers=layers)

    def test_no_recurrent_layer(self):
        model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.Dense(1)], name="plain")
        with pytest.raises(ValueError, match=r"A recurrent layer .* is needed.*'plain'"):
            probes.gates(model, batch())

    def test_a_layer_without_gates_asked_for_beside_one_with(self):
        layers = keras.layers.SimpleRNN(3, return_sequences=True, name="lower"), keras.layers.GRU(3, name="upper")
        model = keras.Sequential([keras.Input((TIME, FEATURES)), *layers])
        assert list(probes.gates(model, batch())) == ["upper"]
        with pytest.raises(
            ValueError, match=r"Received: layer 'lower' with a SimpleRNNCell. Leave it out with layers="
        ):
            probes.gates(model, batch(), layers=["lower", "upper"])
        with pytest.raises(
            ValueError, match=r"must be one of \['lower', 'upper'\]. Received: 'uper'. Did you mean 'upper'"
        ):
            probes.gates(model, batch(), layers="uper")

    def test_a_cell_that_computes_its_gates_in_another_way(self):
        class Coupled(keras.layers.LSTMCell):
            def call(self, inputs, states, training=False):
                forget = self.recurrent_activation(inputs @ self.kernel[:, : self.units])
                c = forget * states[1] + (1 - forget)
                return c, [c, c]

        model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.RNN(Coupled(3), name="own")])
        with pytest.raises(ValueError, match=r"layer 'own', whose Coupled made 1 such calls instead of 3.*layers="):
            probes.gates(model, batch())
        assert "activation" in vars(model.layers[0].cell)

    def test_a_batch_that_does_not_fit(self):
        model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.GRU(3)])
        with pytest.raises(ValueError, match=r"shape of the model's input.*\(6, 2\)"):
            probes.gates(model, batch()[0])


# --- while a model trains ------------------------------------------------------------------------------------------


def build(cell=keras.layers.LSTM, optimizer="sgd", **compiling):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), cell(UNITS, name="rnn"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **(EAGER | compiling))
    return shaken(model)


def fit(model, *callbacks, **options):
    x = np.random.default_rng(5).normal(size=(32, TIME, FEATURES))
    return model.fit(x, x[:, 0, :1], batch_size=8, shuffle=False, verbose=0, callbacks=list(callbacks), **options)


class TestGateRecorder:
    def test_records_the_statistics_of_the_probe_before_the_steps_it_names(self):
        frozen, x = build(optimizer=keras.optimizers.SGD(0.0)), batch()
        recorder = rnnkit.GateRecorder(x, every=3)
        fit(frozen, recorder, epochs=2)
        assert recorder.steps.tolist() == [0, 3, 6]
        gates = probes.gates(frozen, x)["rnn"]
        assert list(recorder.history) == list(recorder.spread) == list(recorder.saturation) == ["rnn"]
        assert list(recorder.history["rnn"]) == list(recorder.spread["rnn"]) == list(gates)
        assert list(recorder.saturation["rnn"]) == ["input", "forget", "output"]
        for gate, values in gates.items():
            mean = [values[:, t].mean() for t in range(TIME)]
            np.testing.assert_allclose(recorder.history["rnn"][gate], np.tile(mean, (3, 1)), rtol=1e-5)
            for found, share in zip(recorder.spread["rnn"][gate], (0.1, 0.9), strict=True):
                np.testing.assert_allclose(found, np.tile(np.quantile(values, share, axis=(0, 2)), (3, 1)), rtol=1e-5)
        for gate, parts in recorder.saturation["rnn"].items():
            for part, saturated in zip(parts, (gates[gate] < 0.1, gates[gate] > 0.9), strict=True):
                np.testing.assert_allclose(part, np.tile(saturated.mean(axis=(0, 2)), (3, 1)))
        assert sum(parts.sum() for parts in recorder.saturation["rnn"].values()) > 0

    def test_masked_steps_do_not_count(self):
        layers = keras.layers.Masking(), keras.layers.GRU(UNITS, name="rnn"), keras.layers.Dense(1)
        model, x = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), *layers])), batch()
        x[0, 2:], x[:, 5] = 0, 0
        values = probes.gates(model, x)["rnn"]["reset"]
        measured = probes.gate_statistics(model, x)()["rnn"]["reset"]
        assert np.isnan([values[5] for values in measured]).all()
        kept = values[1:, 3].ravel()
        low, high = np.quantile(kept, [0.1, 0.9])
        expected = {"mean": kept.mean(), "low": low, "high": high}
        expected |= {"closed": np.mean(kept < 0.1), "opened": np.mean(kept > 0.9)}
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(measured, name)[3], value, rtol=1e-5)

    def test_compiled_by_xla_or_not_the_records_are_the_same(self):
        layers = keras.layers.Masking(), keras.layers.LSTM(UNITS, name="rnn"), keras.layers.Dense(1)
        model, x = shaken(keras.Sequential([keras.Input((TIME, FEATURES)), *layers])), batch()
        x[0, 2:] = 0
        model.compile(keras.optimizers.SGD(0.0), "mse", **FAST)
        plain, compiled = rnnkit.GateRecorder(x, every=2), rnnkit.GateRecorder(x, every=2, jit_compile=True)
        fit(model, plain, compiled)
        for of_plain, of_compiled in ((plain.history, compiled.history), (plain.spread, compiled.spread)):
            for gate, values in of_plain["rnn"].items():
                np.testing.assert_allclose(of_compiled["rnn"][gate], values, rtol=1e-4)

    def test_later_records_show_the_trained_model(self):
        recorder, model = rnnkit.GateRecorder(batch(), every=4), build()
        fit(model, recorder, epochs=2)
        untrained, after_an_epoch = build(), build()
        fit(after_an_epoch, epochs=1)
        for record, then in enumerate((untrained, after_an_epoch)):
            expected = probes.gates(then, batch())["rnn"]["forget"].mean(axis=(0, 2))
            np.testing.assert_allclose(recorder.history["rnn"]["forget"][record], expected, rtol=1e-5)

    def test_trained_weights_are_the_same_to_the_bit(self):
        plain, recorded = build(keras.layers.GRU, "adam"), build(keras.layers.GRU, "adam")
        history = fit(plain, epochs=2).history
        assert fit(recorded, rnnkit.GateRecorder(batch(), every=3), epochs=2).history == history
        for expected, weight in zip(plain.get_weights(), recorded.get_weights(), strict=True):
            np.testing.assert_array_equal(expected, weight)

    @pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on torch")
    def test_several_steps_an_execution_record_at_the_next_chance(self):
        recorder = rnnkit.GateRecorder(batch(), every=3)
        fit(build(steps_per_execution=2, run_eagerly=False, **FAST), recorder, epochs=2)
        assert recorder.steps.tolist() == [0, 4, 6]

    def test_each_fit_begins_anew(self):
        recorder, model = rnnkit.GateRecorder(batch(), every=4), build()
        fit(model, recorder, epochs=2)
        fit(model, recorder, epochs=1)
        assert recorder.steps.tolist() == [0]
        assert recorder.history["rnn"]["forget"].shape == (1, TIME)

    def test_no_record_yet_and_bad_settings(self):
        recorder = rnnkit.GateRecorder(batch())
        assert recorder.history == recorder.spread == recorder.saturation == {}
        assert recorder.steps.tolist() == []
        with pytest.raises(ValueError, match=r"`every` must be a whole number of at least 1. Received: every=0"):
            rnnkit.GateRecorder(batch(), every=0)
        with pytest.raises(ValueError, match="Did you mean 'rnn'"):
            fit(build(), rnnkit.GateRecorder(batch(), layers="rn"))
        with pytest.raises(ValueError, match="SimpleRNNCell"):
            fit(build(keras.layers.SimpleRNN), rnnkit.GateRecorder(batch()))


def test_a_layer_that_runs_twice_has_gates_in_each_call():
    inputs, layer = keras.Input((TIME, FEATURES)), keras.layers.GRU(UNITS, name="rnn")
    twice = probes.gates(keras.Model(inputs, layer(inputs) + layer(2 * inputs)), batch())
    once = keras.Model(inputs, layer(inputs))
    assert list(twice) == ["rnn", "rnn/call_2"]
    for key, x in ("rnn", batch()), ("rnn/call_2", 2 * batch()):
        for gate, values in probes.gates(once, x)["rnn"].items():
            np.testing.assert_allclose(twice[key][gate], values, rtol=1e-6)
