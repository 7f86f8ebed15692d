"""Runs as long and sequences as deep as users have them; `make test-hard` runs these."""

import _thread
import contextlib
import threading
import time

import keras
import numpy as np
import psutil
import pytest
from fast import FAST

import rnnkit
from rnnkit import probes
from rnnkit._backend import _interrupts

pytestmark = pytest.mark.thorough
MB = 2**20


def compiled(cell=keras.layers.GRU, units=3, features=2, optimizer=None, **settings):
    keras.utils.set_random_seed(0)
    stack = [keras.Input((None, features)), cell(units, name="rnn", **settings), keras.layers.Dense(1, name="head")]
    model = keras.Sequential(stack)
    model.compile(optimizer or keras.optimizers.SGD(0.0), "mse", **FAST)
    return model


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def numpy(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class Memory(keras.callbacks.Callback):
    """Note how much memory the process holds, in MB, every so many steps."""

    def __init__(self, every):
        super().__init__()
        self.every, self.held = every, []

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.every == 0:
            self.held.append(psutil.Process().memory_info().rss / MB)


def test_a_hundred_thousand_steps_are_all_there_in_bounded_memory():
    """At a learning rate of 0 the same example gives the same norms, so that a row lost or displaced would show."""
    steps, period = 100_000, 1_000
    x, y = (
        np.tile(part, (steps // period, *[1] * (part.ndim - 1))) for part in (numbers(period, 3, 2), numbers(period, 1))
    )
    recorder, flow, memory = rnnkit.GradientRecorder(["max"]), rnnkit.StateGradientRecorder(every=1), Memory(10_000)
    compiled().fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[recorder, flow, memory])
    assert recorder.steps.tolist() == flow.steps.tolist() == list(range(steps))
    for norms in (*recorder.history.values(), *recorder.measured["max"].values(), recorder.global_norm):
        assert norms[:period].std() > 0
        np.testing.assert_array_equal(norms.reshape(-1, period), np.tile(norms[:period], (steps // period, 1)))
    states = flow.history["rnn"]
    np.testing.assert_array_equal(states.reshape(-1, period, 3), np.tile(states[:period], (steps // period, 1, 1)))
    print(f"memory held: {[round(held) for held in memory.held]} MB")
    rows = steps * 4 * (2 * 5 + 1 + 3 + 4)  # numbers and step indices, twice over
    assert max(memory.held) - memory.held[1] < 3 * rows / MB + 50


def test_five_thousand_time_steps():
    """A linear network with an orthogonal kernel, whose gradient is known at every distance."""
    length, gain = 5_000, 0.999
    model = compiled(
        keras.layers.SimpleRNN,
        activation="linear",
        recurrent_initializer=keras.initializers.Orthogonal(gain=gain, seed=0),
    )
    x, y = 0.01 * numbers(2, length, 2), numbers(2, 1)
    expected = gain ** np.arange(length - 1, -1, -1.0)
    norms = np.linalg.norm(probes.state_gradients(model, x, y, dtype="float64")["rnn"]["h"], axis=-1)
    np.testing.assert_allclose(norms / norms[:, -1:], np.tile(expected, (2, 1)), rtol=1e-3)
    logs = probes.singular_values(model, x[:1], log10=True)[0]
    np.testing.assert_allclose(logs, np.log10(expected)[:, None] * np.ones(3), atol=1e-3)
    recorder, flow = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(every=1)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[recorder, flow])
    assert np.isfinite(recorder.global_norm).all()
    assert flow.history["rnn"].shape == (2, length)
    np.testing.assert_allclose(flow.history["rnn"][0], norms.mean(axis=0), rtol=1e-3)


def test_fifty_million_weights():
    model = compiled(units=4_000, features=16)
    assert model.count_params() > 48_000_000
    x, y = numbers(2, 3, 16), numbers(2, 1)
    recorder, flow = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(x, y, every=1)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[recorder, flow])
    assert recorder.global_norm[0] == pytest.approx(recorder.global_norm[1], rel=1e-5)
    assert recorder.global_norm[0] > 0
    assert flow.history["rnn"].shape == (2, 3)


def test_ten_recorders_at_once_and_the_training_is_the_same_to_the_bit(tmp_path):
    x, y = numbers(48, 6, 2), numbers(48, 1)
    settings = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
    plain, recorded = (compiled(optimizer=keras.optimizers.Adam(0.01, clipnorm=0.1)) for _ in range(2))
    history = plain.fit(x, y, **settings).history
    measures = [[], ["max"], ["update_ratio", "zero_fraction"], ["histogram"]]
    gradients = [rnnkit.GradientRecorder(measures=asked) for asked in measures]
    gradients.append(rnnkit.GradientRecorder(log_dir=tmp_path))
    flows = [rnnkit.StateGradientRecorder(x[:4], y[:4], every=every) for every in (1, 5)]
    if keras.backend.backend() == "tensorflow":  # elsewhere a compiler may round what is overheard in another way
        flows.append(rnnkit.StateGradientRecorder(every=1))
    gates = [rnnkit.GateRecorder(x[:4], every=every) for every in (1, 7)]
    assert recorded.fit(x, y, callbacks=[*gradients, *flows, *gates], **settings).history == history
    for expected, found in zip(*(numpy(m.variables + m.optimizer.variables) for m in (plain, recorded)), strict=True):
        np.testing.assert_array_equal(found, expected)
    for recorder in gradients:
        np.testing.assert_array_equal(recorder.global_norm, gradients[0].global_norm)
        assert recorder.steps.tolist() == list(range(36))
    np.testing.assert_array_equal(flows[0].history["rnn"][::5], flows[1].history["rnn"])
    np.testing.assert_array_equal(gates[0].history["rnn"]["update"][::7], gates[1].history["rnn"]["update"])


INTERRUPTS = 100


class Interrupt(keras.callbacks.Callback):
    """Interrupt the training after so many seconds, but not while Keras traces its own step.

    There TensorFlow may crash, with rnnkit or without.
    """

    def __init__(self, seconds):
        super().__init__()
        self._timer, self._tracing = threading.Timer(seconds, _thread.interrupt_main), contextlib.ExitStack()
        self._timer.daemon = True

    def on_train_begin(self, logs=None):
        self._timer.start()

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self._tracing.enter_context(_interrupts.held())

    def on_train_batch_end(self, batch, logs=None):
        self._tracing.close()

    def stop(self):
        """Leave no interrupt behind."""
        self._timer.cancel()
        self._timer.join()


# Python cannot raise an interrupt out of a destructor: it reports it, and training goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_random_moments_lose_nothing_and_leave_nothing():
    """Callbacks and their tracing included; each time, what was recorded is how the whole run begins, to the bit."""
    x, y = numbers(300, 6, 2), numbers(300, 1)
    settings = {"batch_size": 2, "shuffle": False, "verbose": 0}

    def trained(seconds):
        """Train, interrupted after so many seconds; return the model, its recorders and whether it came to that."""
        model = compiled(optimizer=keras.optimizers.Adam(0.01, global_clipnorm=0.1))
        model.optimizer.build(model.trainable_variables)  # which Keras cannot finish after an interrupt
        recorders = rnnkit.GradientRecorder(), rnnkit.StateGradientRecorder(x[:4], y[:4], every=1)
        interrupt, interrupted = Interrupt(seconds), False
        try:
            model.fit(x, y, epochs=2, callbacks=[*recorders, interrupt], **settings)
            interrupt.stop()
        except KeyboardInterrupt:
            interrupted = True
        return model, *recorders, interrupted

    whole, all_norms, all_flow, _ = trained(3_600)
    began = time.perf_counter()
    trained(3_600)
    usual, took, count = {*vars(whole)}, time.perf_counter() - began, 0
    draw = np.random.default_rng(0)
    for _ in range(4 * INTERRUPTS):  # some come after the last step
        if count == INTERRUPTS:
            break
        model, norms, flow, interrupted = trained(draw.uniform(0.01, 0.8 * took))
        count += interrupted
        assert norms.steps.tolist() == list(range(len(norms.steps)))
        np.testing.assert_array_equal(norms.global_norm, all_norms.global_norm[: len(norms.steps)])
        for name, each in norms.history.items():
            np.testing.assert_array_equal(each, all_norms.history[name][: len(norms.steps)])
        for name, each in flow.history.items():
            assert len(each) == len(flow.steps)
            np.testing.assert_array_equal(each, all_flow.history[name][: len(each)])
        if interrupted and keras.backend.backend() == "jax":
            continue  # there Keras loses the weights in the middle of an epoch, with rnnkit or without
        done = int(numpy([model.optimizer.iterations])[0])
        assert done - 1 <= len(norms.steps) <= done
        model.fit(x[:2], y[:2], **settings)
        assert {*vars(model)} <= usual
        assert {*vars(model.optimizer)} <= {*vars(whole.optimizer)}
        assert "rnnkit" not in type(model.train_function).__module__
    assert count == INTERRUPTS
