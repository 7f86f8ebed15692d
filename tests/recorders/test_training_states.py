"""dL/dh_t of the training batch: the same as a probe of that batch, and training goes on as if nobody listened."""

import keras
import numpy as np
import pytest
from fast import FAST, slow_but
from training import Stops

import rnnkit
from rnnkit import probes

layers = keras.layers
TIME, BATCH, EXAMPLES = 5, 8, 20  # the last batch is a smaller one
BATCHES = [slice(0, 8), slice(8, 16), slice(16, 20)]


def data(words=False):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(EXAMPLES, TIME, 2)).astype("float32")
    if words:
        x = draw.integers(0, 4, size=(EXAMPLES, TIME))
        x[:, -1] = 3  # no sequence is empty
    return x, draw.normal(size=(EXAMPLES, 1)).astype("float32")


def shared():
    inputs = keras.Input((TIME, 2))
    rnn = layers.GRU(3, name="rnn")
    ahead, back = rnn(inputs), rnn(keras.ops.flip(inputs, axis=1))
    return keras.Model(inputs, layers.Dense(1)(layers.Subtract()([ahead, back])))


def stack(*parts, shape=(TIME, 2)):
    return keras.Sequential([keras.Input(shape), *parts, layers.Dense(1, name="head")])


def masked():
    return stack(layers.Embedding(4, 2, mask_zero=True), layers.GRU(3, name="rnn"), shape=(TIME,))


MODELS = {
    "SimpleRNN": lambda: stack(layers.SimpleRNN(3, name="rnn")),
    "LSTM": lambda: stack(layers.LSTM(3, name="rnn")),
    "rnnkit's LSTM": lambda: stack(layers.RNN(rnnkit.layers.LSTMCell(3), name="rnn")),
    "two layers": lambda: stack(layers.LSTM(3, return_sequences=True, name="low"), layers.GRU(2, name="top")),
    "bidirectional": lambda: stack(layers.Bidirectional(layers.LSTM(3, name="rnn"), name="both")),
    "stacked cells": lambda: stack(layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], name="rnn")),
    "masked": masked,
    "shared": shared,
}


def build(name, rate=0.0, optimizer=None, **compiling):
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    model.compile(optimizer or keras.optimizers.SGD(rate), "mse", **(FAST | compiling))
    return model


def fit(model, *callbacks, epochs=2, words=False, **options):
    x, y = data(words)
    settings = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **settings)


def probed(model, words=False):
    """What a probe of each batch measures, one after the other, by layer and state."""
    x, y = data(words)
    measured = [probes.state_gradient_norms(model, x[rows], y[rows])() for rows in BATCHES]
    return {key: np.stack([one[key] for one in measured]) for key in measured[0]}


@pytest.mark.parametrize("name", slow_but(["SimpleRNN", "LSTM"], MODELS))
def test_it_is_what_a_probe_of_each_batch_measures(name):
    model, flow = build(name), rnnkit.StateGradientRecorder(every=1)
    fit(model, flow, words=name == "masked")  # at a learning rate of 0 both epochs see the same weights
    expected = probed(model, words=name == "masked")
    assert list(flow.history) == list(expected)
    assert flow.steps.tolist() == [0, 1, 2, 3, 4, 5]
    for key, norms in expected.items():
        assert flow.history[key].shape == (6, TIME)
        np.testing.assert_allclose(flow.history[key], np.concatenate([norms, norms]), rtol=2e-5, atol=1e-9)
        assert norms.max() > 1e-4


def steps_by_hand(weights, x, y, rate):
    """Norms of dL/dh_t of h_t = tanh(x_t U + h_{t-1} W + b), prediction h_T V + d, while plain descent goes on."""
    U, W, b, V, d = (weight.astype("float64") for weight in weights)
    norms = []
    for rows in BATCHES:
        states = [np.zeros((len(x[rows]), len(W)))]
        for t in range(TIME):
            states.append(np.tanh(x[rows, t] @ U + states[-1] @ W + b))
        error = 2 * (states[-1] @ V + d - y[rows]) / len(states[-1])
        moved = [np.zeros_like(weight) for weight in (U, W, b)] + [states[-1].T @ error, error.sum(0)]
        by_state, seen = error @ V.T, []
        for t in reversed(range(TIME)):
            seen.append(np.linalg.norm(by_state, axis=1).mean())
            inside = by_state * (1 - states[t + 1] ** 2)
            for total, part in zip(moved, (x[rows, t].T @ inside, states[t].T @ inside, inside.sum(0)), strict=False):
                total += part
            by_state = inside @ W.T
        norms.append(seen[::-1])
        U, W, b, V, d = (weight - rate * by for weight, by in zip((U, W, b, V, d), moved, strict=True))
    return np.array(norms)


def test_it_is_that_of_the_weights_of_the_moment():
    model, flow = build("SimpleRNN", rate=0.5), rnnkit.StateGradientRecorder(every=1)
    weights = model.get_weights()
    fit(model, flow, epochs=1)
    np.testing.assert_allclose(flow.history["rnn"], steps_by_hand(weights, *data(), 0.5), rtol=1e-4)


BACKEND = keras.backend.backend()
OPTIONS = [{"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}, {"steps_per_execution": 2}]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(
            options,
            name,
            marks=() if name == "SimpleRNN" or options == {"run_eagerly": True} else pytest.mark.slow,
            id=f"{options}-{name}",
        )
        for name in ("SimpleRNN", "LSTM", "two layers", "masked")
        for options in OPTIONS
    ],
)
def test_training_goes_on_as_if_nobody_listened(options, name):
    """On TensorFlow to the bit, unless XLA compiles the loop, which is another one now and may round in its own way.

    On JAX and torch the layers have other ways to run, without a loop of single steps, which round differently too.
    """
    if BACKEND == "torch" and ("steps_per_execution" in options or options.get("jit_compile")):
        pytest.skip("Keras on torch takes one step a call; torch.compile is tried by hand")
    exact = BACKEND == "tensorflow" and not options.get("jit_compile")
    rounding = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    words = name == "masked"
    plain, heard = (build(name, optimizer=keras.optimizers.Adam(0.01, clipnorm=0.1), **options) for _ in range(2))
    losses = fit(plain, words=words).history
    flow = rnnkit.StateGradientRecorder(every=1)
    before = [sorted(vars(layer)) for layer in heard.layers]
    np.testing.assert_allclose(
        fit(heard, flow, rnnkit.GradientRecorder(), words=words).history["loss"], losses["loss"], **rounding
    )
    assert before == [sorted(vars(layer)) for layer in heard.layers]
    assert len(flow.steps) == 6
    variables = (model.trainable_variables + model.optimizer.variables for model in (plain, heard))
    for expected, variable in zip(*variables, strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (variable, expected)), **rounding)


def test_every_so_many_steps():
    flow, each = rnnkit.StateGradientRecorder(every=4), rnnkit.StateGradientRecorder(every=1)
    for recorder in (flow, each):
        fit(build("SimpleRNN", rate=0.1), recorder, epochs=4)
    assert flow.steps.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(flow.history["rnn"], each.history["rnn"][::4])


def test_loss_scaling_is_taken_out_and_a_skipped_step_has_no_record():
    def fitted(optimizer):
        model, flow = build("LSTM", optimizer=optimizer), rnnkit.StateGradientRecorder(every=1)
        kernel = model.get_layer("head").kernel
        kernel.assign(kernel / 64)  # so that of all gradients that of the head's bias alone is too large at first
        x, y = data()
        model.fit(x, 16 * y, batch_size=BATCH, shuffle=False, epochs=5, verbose=0, callbacks=[flow])
        return flow

    flow = fitted(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), initial_scale=2.0**127))
    assert 0 < len(flow.steps) < 15
    plain = fitted(keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(flow.history["rnn"], plain.history["rnn"][flow.steps], rtol=1e-5)


def test_a_sample_weight_counts():
    model, flow = build("SimpleRNN"), rnnkit.StateGradientRecorder(every=1)
    x, y = data()
    fit(model, flow, epochs=1, sample_weight=np.arange(EXAMPLES, dtype="float32"))
    gradients = probes.state_gradients(model, x[:8], y[:8], sample_weight=np.arange(8, dtype="float32"))["rnn"]["h"]
    np.testing.assert_allclose(flow.history["rnn"][0], np.linalg.norm(gradients, axis=-1).mean(0), rtol=1e-5)


def test_after_an_interrupt_the_records_are_there_and_the_model_is_clean():
    model, flow = build("SimpleRNN", rate=0.1), rnnkit.StateGradientRecorder(every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, flow, Stops(KeyboardInterrupt, at=1))
    assert flow.steps.tolist() == [0, 1]
    assert flow.history["rnn"].shape == (2, TIME)
    assert "inner_loop" not in vars(model.layers[0])
    fit(model, flow, epochs=1)
    assert flow.steps.tolist() == [0, 1, 2]


def test_what_cannot_be_recorded_is_refused():
    _, y = data()
    for wrong in ({"y": y}, {"dtype": "float64"}, {"jit_compile": True}):
        with pytest.raises(ValueError, match="belong to a probe batch"):
            rnnkit.StateGradientRecorder(**wrong)
    frozen = build("LSTM")
    frozen.layers[0].trainable = False
    with pytest.raises(ValueError, match="'rnn', which is frozen"):
        fit(frozen, rnnkit.StateGradientRecorder())
    with pytest.raises(ValueError, match="A recurrent layer must be one of"):
        fit(build("LSTM"), rnnkit.StateGradientRecorder(layers="head"))
    with pytest.raises(ValueError, match="Received: two for layer 'rnn'"):
        fit(build("LSTM"), rnnkit.StateGradientRecorder(), rnnkit.StateGradientRecorder())


def test_batches_of_several_lengths_are_refused():
    keras.utils.set_random_seed(0)
    model = stack(layers.GRU(3, name="rnn"), shape=(None, 2))
    model.compile(keras.optimizers.SGD(0.1), "mse", **FAST)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.ones((4, 5 + index, 2), "float32"), np.ones((4, 1), "float32")

    with pytest.raises(Exception, match=r"sequences of one length") as raised:
        model.fit(Batches(), callbacks=[rnnkit.StateGradientRecorder(every=1)], shuffle=False, verbose=0)
    assert "Pass" in str(raised.value) or "pass" in str(raised.value)
