"""The models that are measured, their data, and how they are trained."""

import numpy as np

import rnnkit
from rnnkit._backend import keras


def model(setting, kind=keras.Sequential, **compiling):
    """Return a compiled model: one recurrent layer, called "rnn", and `setting.dense` dense ones."""
    keras.utils.set_random_seed(0)
    network = kind(
        [
            keras.Input((None, 2)),
            getattr(keras.layers, setting.cell)(setting.units, name="rnn"),
            *(keras.layers.Dense(16) for _ in range(setting.dense - 1)),
            keras.layers.Dense(1),
        ]
    )
    network.compile(keras.optimizers.Adam(global_clipnorm=1.0), "mse", **({"jit_compile": setting.jit} | compiling))
    return network


def data(setting, batches=1):
    """Return inputs and targets for so many batches."""
    return rnnkit.tasks.adding_problem(n=setting.batch * batches, length=setting.steps, seed=0)


def batches(setting):
    """Return how many batches make an epoch: a tenth of a second or more."""
    return max(2, (3000 if setting.backend == "jax" else 1000) // setting.steps)


def fitting(setting, callbacks=lambda network, x, y: [], make=model, count=None):
    """Return `fit(epochs, more callbacks)`, which trains a fresh model.

    Args:
        setting: of the model.
        callbacks: gives those of its own, from the model and one batch.
        make: makes the model.
        count: batches an epoch.
    """
    x, y = data(setting, count or batches(setting))
    size = setting.batch

    def fit(epochs, more):
        network = make(setting)
        own = callbacks(network, x[:size], y[:size])
        network.fit(x, y, batch_size=size, epochs=epochs, shuffle=False, verbose=0, callbacks=[*own, *more])

    return fit


def training_step(network, x, y):
    """Return a function that takes one training step, from arrays to a loss."""
    return lambda: float(np.asarray(network.train_on_batch(x, y)).ravel()[0])
