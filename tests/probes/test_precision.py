"""State gradients in float64: against backpropagation written out in NumPy, and against each model's own precision."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from slow_reference import numpy
from zoo import BATCH, IN_TRAINING, ZOO, everything

import rnnkit
from rnnkit import probes

FEATURES, UNITS = 2, 16


@pytest.fixture(autouse=True)
def _prepared():
    keras.utils.set_random_seed(1)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def simple_rnn(x, U, W, b):
    """Return the states h_t, and `back(t, dh, dc)`, which leads dL/dh_t to dL/dh_{t-1}; the others do alike."""
    h = [np.zeros((len(x), len(W)))]
    for t in range(x.shape[1]):
        h.append(np.tanh(x[:, t] @ U + h[-1] @ W + b))
    return h[1:], lambda t, dh, dc: ((dh * (1 - h[t + 1] ** 2)) @ W.T, dc, dc)


def lstm(x, U, W, b):
    h, c, gates = [np.zeros((len(x), len(W)))], [np.zeros((len(x), len(W)))], []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ U + h[-1] @ W + b, 4, axis=-1)
        gates.append((sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)))
        i, f, g, o = gates[-1]
        c.append(f * c[-1] + i * g)
        h.append(o * np.tanh(c[-1]))

    def back(t, dh, dc):
        i, f, g, o = gates[t]
        dc = dc + dh * o * (1 - np.tanh(c[t + 1]) ** 2)
        parts = dc * g * i * (1 - i), dc * c[t] * f * (1 - f), dc * i * (1 - g**2), dh * np.tanh(c[t + 1]) * o * (1 - o)
        return np.concatenate(parts, axis=-1) @ W.T, dc * f, dc

    return h[1:], back


def gru(x, U, W, b):
    h, gates = [np.zeros((len(x), len(W)))], []
    for t in range(x.shape[1]):
        reads, holds = np.split(x[:, t] @ U + b[0], 3, axis=-1), np.split(h[-1] @ W + b[1], 3, axis=-1)
        z, r = (sigmoid(reads[k] + holds[k]) for k in (0, 1))
        candidate = np.tanh(reads[2] + r * holds[2])
        gates.append((z, r, candidate, holds[2]))
        h.append(z * h[-1] + (1 - z) * candidate)

    def back(t, dh, dc):
        z, r, candidate, held = gates[t]
        inner = dh * (1 - z) * (1 - candidate**2)
        parts = dh * (h[t] - candidate) * z * (1 - z), inner * held * r * (1 - r), inner * r
        return dh * z + np.concatenate(parts, axis=-1) @ W.T, dc, dc

    return h[1:], back


CELLS = {"SimpleRNN": (simple_rnn, 1), "LSTM": (lstm, 4), "GRU": (gru, 3)}


def backpropagated(cell, weights, x, y, sequences):
    """Return dL/dh_t and dL/dc_t, (batch, time, units), for a mean squared error; all in NumPy's float64."""
    *recurrent, V, d = (weight.astype("float64") for weight in weights)
    states, back = CELLS[cell][0](x.astype("float64"), *recurrent)
    time, dh, dc, all_dh, all_dc = x.shape[1], 0.0, np.zeros_like(states[0]), [], []
    for t in reversed(range(time)):
        if sequences or t == time - 1:
            dh = dh + 2 * (states[t] @ V + d - (y[:, t] if sequences else y)) / y.size @ V.T
        all_dh.append(dh)
        dh, dc, whole = back(t, dh, dc)
        all_dc.append(whole)
    return {"h": np.stack(all_dh[::-1], axis=1), "c": np.stack(all_dc[::-1], axis=1)}


def orthogonal(draw, rows, columns):
    wide = rows < columns
    q, r = np.linalg.qr(draw.normal(size=(columns, rows) if wide else (rows, columns)))
    q = q * np.sign(np.diag(r))
    return q.T if wide else q


def long_task(cell, time, sequences=False):
    """Return a model with weights such as Keras draws by default, though the same on each backend, and a batch."""
    draw, parts = np.random.default_rng(1), CELLS[cell][1]
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            getattr(keras.layers, cell)(UNITS, return_sequences=sequences, name="rnn"),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    kernel, _, bias, head, offset = model.get_weights()
    glorot = [draw.uniform(-1, 1, w.shape) * np.sqrt(6 / sum(w.shape)) for w in (kernel, head)]
    model.set_weights([glorot[0], orthogonal(draw, UNITS, parts * UNITS), bias, glorot[1], offset])
    x = draw.uniform(-1, 1, (2, time, FEATURES)).astype("float32")
    return model, x, draw.normal(size=(2, time, 1) if sequences else (2, 1)).astype("float32")


def assert_near(measured, expected, rtol):
    """Compare with the largest value of each time step, which may be 1e-200."""
    scale = np.abs(expected).max(axis=(0, 2), keepdims=True)
    assert (scale > 0).all()
    np.testing.assert_allclose(measured / scale, expected / scale, rtol=0, atol=rtol)


@pytest.mark.parametrize("cell", CELLS)
def test_a_thousand_steps_hold_no_spurious_zero(cell):
    model, x, y = long_task(cell, 1000)
    wide = probes.state_gradients(model, x, y, dtype="float64")["rnn"]
    plain = probes.state_gradients(model, x, y)["rnn"]
    expected = backpropagated(cell, model.get_weights(), x, y, sequences=False)
    assert plain.keys() == wide.keys() == ({"h", "c"} if cell == "LSTM" else {"h"})
    for state, gradients in wide.items():
        assert (plain[state] == 0).any(axis=(0, 2)).sum() > 300  # of 1000 steps
        assert np.abs(expected[state]).min() < 1e-60
        assert gradients.dtype == "float64"
        assert not (gradients == 0).any()
        assert_near(gradients, expected[state], rtol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_what_each_step_adds_is_added_in_float64_too(cell):
    model, x, y = long_task(cell, 60, sequences=True)
    expected = backpropagated(cell, model.get_weights(), x, y, sequences=True)
    for state, gradients in probes.state_gradients(model, x, y, dtype="float64")["rnn"].items():
        assert_near(gradients, expected[state], rtol=1e-12)
        assert_near(probes.state_gradients(model, x, y)["rnn"][state], expected[state], rtol=1e-4)


def test_norms_are_those_of_the_gradients():
    model, x, y = long_task("GRU", 400)
    gradients = probes.state_gradients(model, x, y, dtype="float64")["rnn"]["h"]
    measure = probes.state_gradient_norms(model, x, y, dtype="float64")
    for _ in range(2):
        norms = measure()["rnn"]
        assert norms.dtype == "float64"
        np.testing.assert_allclose(norms, np.linalg.norm(gradients, axis=-1).mean(axis=0), rtol=1e-12)
    assert norms[0] < 1e-60


def faint(loss):
    """Return a loss so small that float32, anywhere on the way back, would make 0 of its gradient."""
    function = keras.losses.get(loss)
    return lambda y, prediction: 1e-60 * function(y, prediction)


def precisions(model):
    """What is changed for a measurement, on the model and around it."""
    return (
        [(layer.dtype_policy, layer.dtype, layer.compute_dtype) for layer in model._flatten_layers()],
        [tensor.dtype for tensor in getattr(model, "inputs", None) or []],
        {loss.dtype for loss in [model._compile_loss, *(p.loss for p in model._compile_loss._flat_losses or ())]},
        keras.backend.result_type("float64", "float32"),
        keras.ops.ones(1).dtype,
    )


AGREEING = [
    "bidirectional, sequences, masked",
    "custom cell",
    "dropout",
    "embedding with mask",
    "encoder and decoder",
    "functional with several inputs and outputs",
    "layers inside a layer",
    "nested",
    "normalisation",
    "regularizers",
    "stacked cells with mask",
    "stateful",
    "subclassed",
]


@pytest.mark.parametrize(("name", "training"), [(n, False) for n in AGREEING] + [(n, True) for n in IN_TRAINING])
def test_agrees_with_the_own_precision_of_a_model_and_leaves_it_as_it_was(name, training):
    model, x, y, *_ = ZOO[name]()
    model.predict(x, batch_size=BATCH, verbose=0)  # Keras's layers make some of their attributes when they first run
    own = probes.state_gradients(model, x, y, training=training)
    scale = 1.0
    if name != "regularizers":  # they add to the loss what is not faint
        scale = 1e-60
        weights = {"value": 0.5, "kind": 2.0} if isinstance(y, dict) else None
        model.compile("sgd", keras.tree.map_structure(faint, model.loss), weights)
    if isinstance(y, dict):
        model.evaluate(x, y, batch_size=BATCH, verbose=0)  # a metric of each loss is made when they are first needed
    before, held = everything(model), precisions(model)
    wide = probes.state_gradients(model, x, y, training=training, dtype="float64")
    after = everything(model)
    assert (before[1:], held) == (after[1:], precisions(model))
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert wide.keys() == own.keys()
    for layer, states in own.items():
        for state, gradients in states.items():
            assert wide[layer][state].dtype == "float64"
            largest = np.abs(gradients).max()
            np.testing.assert_allclose(
                wide[layer][state] / scale, gradients, rtol=0, atol=2e-5 * largest, err_msg=f"{layer} {state}"
            )


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["nested", "normalisation", "regularizers"])
def test_is_what_a_model_built_in_float64_gives(name, digits):
    """Elsewhere Keras has no float64 of its own to compare with."""
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    model, x, y, *_ = ZOO[name]()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    double, *_ = ZOO[name]()
    for variable, held in zip(double.variables, model.variables, strict=True):
        variable.assign(numpy(held).astype(variable.dtype))
    expected = probes.state_gradients(double, x, y)
    for layer, states in probes.state_gradients(model, x, y, dtype="float64").items():
        for state, gradients in states.items():
            largest = np.abs(gradients).max()
            np.testing.assert_allclose(gradients, expected[layer][state], rtol=0, atol=1e-12 * largest)


def deep(policy=None):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6, FEATURES)),
            keras.layers.LSTM(4, return_sequences=True, dropout=0.3, recurrent_dropout=0.3, seed=1, dtype=policy),
            keras.layers.BatchNormalization(dtype=policy),
            keras.layers.Dropout(0.3, seed=2, dtype=policy),
            keras.layers.GRU(3, name="rnn", dtype=policy),
            keras.layers.Dense(1, dtype=policy),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse")
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(0, 0.5, w.shape) ** 2 if w.dtype == "float32" else w for w in model.get_weights()])
    return model, draw.normal(size=(8, 6, FEATURES)).astype("float32"), draw.normal(size=(8, 1)).astype("float32")


def test_a_model_in_half_precision_gives_what_one_in_single_does():
    """Both hold the same weights in float32, and only compute otherwise."""
    model, x, y = deep("mixed_float16")
    measured = probes.state_gradients(model, x, y, dtype="float64")
    model, x, y = deep()
    for layer, expected in zip(measured, probes.state_gradients(model, x, y, dtype="float64").values(), strict=True):
        for state, gradients in expected.items():
            np.testing.assert_allclose(measured[layer][state], gradients, rtol=1e-12)


def after_training(model, x, y):
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return numpy(model.variables + model.optimizer.variables)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True])
def test_training_goes_on_as_if_nothing_had_been_measured(failing):
    """To the bit, dropout and all, and after an error in the loss as well."""
    twin, x, y = deep()
    expected = after_training(twin, x, y)
    own = precisions(twin)
    model, x, y = deep()
    if failing:

        def broken(y, prediction):
            raise RuntimeError("broken loss")

        model.compile(model.optimizer, broken)
        with pytest.raises(RuntimeError, match="broken loss"):
            probes.state_gradients(model, x, y, training=True, dtype="float64")
        model.compile(model.optimizer, "mse")
    else:
        probes.state_gradients(model, x, y, training=True, dtype="float64")
        probes.state_gradient_norms(model, x, y, dtype="float64")()
    for with_probe, without in zip(after_training(model, x, y), expected, strict=True):
        np.testing.assert_array_equal(with_probe, without)
    assert precisions(model) == own
    assert not {"call", "get_dropout_mask"} & {name for layer in model._flatten_layers() for name in vars(layer)}


@pytest.mark.slow
def test_recorder_passes_it_on():
    model, x, y = long_task("GRU", 400)
    flow = rnnkit.StateGradientRecorder(x, y, every=2, dtype="float64")
    first = probes.state_gradient_norms(model, x, y, dtype="float64")()["rnn"]
    model.fit(x, y, batch_size=1, epochs=2, callbacks=[flow], verbose=0)
    assert flow.history["rnn"].dtype == "float64"
    np.testing.assert_allclose(flow.history["rnn"][0], first, rtol=1e-12)
    assert (flow.history["rnn"] > 0).all()


class TestRefusals:
    @pytest.mark.parametrize("dtype", ["float16", "double", np.float64])
    def test_another_type(self, dtype):
        model, x, y = long_task("GRU", 3)
        with pytest.raises(ValueError, match=r"^`dtype` must be None.*or 'float64'. Received: dtype=.*Pass dtype="):
            probes.state_gradients(model, x, y, dtype=dtype)
        with pytest.raises(ValueError, match=r"^`dtype` must be None.*or 'float64'. Received: dtype="):
            model.fit(x, y, callbacks=[rnnkit.StateGradientRecorder(x, y, dtype=dtype)], verbose=0)

    def test_quantized_weights(self):
        _, x, y = long_task("GRU", 3)
        head = keras.layers.Dense(1, name="head", dtype="int8_from_float32")  # as model.quantize("int8") makes it
        model = keras.Sequential([keras.Input((3, FEATURES)), keras.layers.GRU(3), head])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=r"floating point.*'head', quantized to int8. Measure the model as it was"):
            probes.state_gradients(model, x, y, dtype="float64")

    def test_a_device_without_float64(self, monkeypatch):
        if keras.backend.backend() != "torch":
            pytest.skip("only torch runs on Apple's mps")
        from rnnkit._backend import torch  # imports torch itself, which is not always there

        apple = SimpleNamespace(device=SimpleNamespace(type="mps"))
        monkeypatch.setattr(torch, "ops", SimpleNamespace(zeros=lambda shape: apple))
        model, x, y = long_task("GRU", 3)
        with pytest.raises(ValueError, match=r"^float64 needs a device.*Apple's mps.*KERAS_TORCH_DEVICE"):
            probes.state_gradients(model, x, y, dtype="float64")
