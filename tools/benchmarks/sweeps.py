"""Eight seeds in worker processes against one seed in this process."""

import importlib.util
import os
import time

import numpy as np

import rnnkit
from benchmarks import paired
from benchmarks.rows import Row, Setting, missing
from rnnkit._backend import keras
from rnnkit.sweeps import _pool

TITLE = "Eight seeds for the price of few"
TEXT = (
    "A run of the size that the course trains: a GRU of 32 units on 2,000 sequences of 50 steps, batch of 64, eight "
    "epochs. Eight seeds of it by `rnnkit.sweeps.sweep` in two worker processes on JAX, against one `fit` of the same "
    "function on TensorFlow in this process, as a notebook would run it. Building, tracing and compiling the model is "
    "part of each, but for the last row: there the epochs after the first are counted, those of the eight added up and "
    "divided by the two workers that share them."
)
_WHY = "Two workers on two cores train four seeds each, one after the other; each run is traced anew by Keras."
ROWS = {
    "sweep": Row("eight seeds, workers running, everything compiled anew", "one fit on TensorFlow", 3.0, _WHY),
    "with start": Row("the same, and the workers started too", "one fit on TensorFlow", None),
    "second sweep": Row(
        "a second sweep in the same workers, which know the compiled step", "one fit on TensorFlow", 3.0, _WHY
    ),
    "epochs": Row("eight seeds, epochs after the first alone", "the same of one fit", 3.0, _WHY),
}


def settings(quick):
    return [Setting("tensorflow", True, "GRU", steps=50, units=32, variant="quick" if quick else "")]


def train(seed, examples=2000, epochs=8):
    """Train one small network; tell the loss, and the seconds of all epochs but the first."""

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.begun = self.begun if epoch else time.perf_counter()
            self.took = time.perf_counter() - self.begun

    x, y = rnnkit.tasks.adding_problem(n=examples, length=50, seed=seed)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(32), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(global_clipnorm=1.0), "mse")
    clock = Clock()
    fit = model.fit(x, y, batch_size=64, epochs=epochs, verbose=0, callbacks=[clock])
    return {"loss": fit.history["loss"][-1], "seconds": clock.took}


def _timed(function):
    begun = time.perf_counter()
    value = function()
    return time.perf_counter() - begun, value


def measure(setting, quick=False):
    # Nothing may be known from before: neither a compiled step nor a result.
    for kept in ("JAX_COMPILATION_CACHE_DIR", "RNNKIT_SWEEP_CACHE"):
        os.environ.pop(kept, None)
    if not importlib.util.find_spec("jax"):
        return dict.fromkeys(ROWS, missing("JAX is not installed here: the workers would run TensorFlow"))
    size = {"examples": [256], "epochs": [2]} if quick else {"examples": [2000], "epochs": [8]}
    one = {name: value for name, (value,) in size.items()}
    keras.utils.set_random_seed(0)
    train(0, examples=64, epochs=1)  # TensorFlow's own first use
    took = {"start": [], "cold": [], "warm": [], "one": [], "epochs": [], "one's epochs": []}
    for _ in range(1 if quick else 3):
        _pool.dismiss_all()
        start, _ = _timed(lambda: rnnkit.sweeps.sweep(_nothing, seeds=range(2)))
        cold, _ = _timed(lambda: rnnkit.sweeps.sweep(train, seeds=range(8), **size))
        alone, measured = _timed(lambda: train(0, **one))
        warm, result = _timed(lambda: rnnkit.sweeps.sweep(train, seeds=range(8), **size))
        workers = min(2, os.cpu_count())
        epochs = float(np.sum(result.values("seconds"))) / workers
        for name, seconds in zip(took, (start, cold, warm, alone, epochs, measured["seconds"]), strict=True):
            took[name].append(seconds)
    _pool.dismiss_all()
    return {
        "sweep": paired.summary(took["cold"], took["one"]),
        "with start": paired.summary(np.add(took["start"], took["cold"]), took["one"]),
        "second sweep": paired.summary(took["warm"], took["one"]),
        "epochs": paired.summary(took["epochs"], took["one's epochs"]),
    }


def _nothing(seed):
    return {"seed": seed}
