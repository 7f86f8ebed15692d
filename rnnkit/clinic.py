"""The gradient clinic of lesson 09: eight sick training runs, three unseen tasks, and the examination of cures.

A patient is a function of a seed that makes a compiled model, a data set, and a number of updates. Model and optimizer
are the learner's to change; data, updates and batches are the clinic's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rnnkit import probes, recorders, tasks
from rnnkit._backend import keras

LAYERS = keras.layers
BATCH = 32


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# --- data ---------------------------------------------------------------------------------------------------------


def _digits(pixels=1.0, flat=False):
    x, y = tasks.digits_by_row()
    x = pixels * (x.reshape(len(x), -1) if flat else x)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


def _recall(length, n=1_600):
    return tuple(tasks.first_symbol_recall(n=m, length=length, symbols=4, seed=s) for m, s in ((n, 0), (500, 1)))


def _order(length, n=3_200):
    return tuple(tasks.temporal_order(n=m, length=length, seed=s) for m, s in ((n, 0), (500, 1)))


def _padded(n, seed, length=60):
    draw = np.random.default_rng(seed)
    words = draw.integers(1, 13, size=(n, length))
    end = draw.integers(5, 11, size=n)
    words[np.arange(length) >= end[:, None]] = 0
    return words.astype("int32"), ((words[:, 0] - 1) // 3).astype("int32")


def _sentences():
    return tuple(tasks.tickets(n=m, distance=10, seed=s) for m, s in ((1_600, 0), (500, 1)))


# --- the broken cells ---------------------------------------------------------------------------------------------


def saturated(seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8)), LAYERS.SimpleRNN(32, name="rnn"), LAYERS.Dense(10, name="head")])
    model.compile(keras.optimizers.SGD(0.1), crossentropy())
    return model


def deep(seed):
    keras.utils.set_random_seed(seed)
    small = keras.initializers.RandomNormal(stddev=0.1)
    stack = [LAYERS.Dense(32, "tanh", kernel_initializer=small, name=f"dense_{n}") for n in range(1, 17)]
    model = keras.Sequential([keras.Input((64,)), *stack, LAYERS.Dense(10, name="head")])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), crossentropy())
    return model


def leaking(seed):
    keras.utils.set_random_seed(seed)
    words = len(tasks.TICKETS_WORDS)
    rnn = LAYERS.Bidirectional(LAYERS.GRU(32, return_sequences=True, name="rnn"))
    model = keras.Sequential([keras.Input((17,), dtype="int32"), LAYERS.Embedding(words, 16), rnn, LAYERS.Dense(words, name="head")])
    model.compile(keras.optimizers.Adam(0.01), crossentropy())
    return model


def vanishing(seed):
    keras.utils.set_random_seed(seed)
    small = keras.initializers.RandomNormal(stddev=0.05)
    rnn = LAYERS.SimpleRNN(32, recurrent_initializer=small, name="rnn")
    model = keras.Sequential([keras.Input((30, 4)), rnn, LAYERS.Dense(4, name="head")])
    model.compile(keras.optimizers.Adam(0.005), crossentropy())
    return model


def throttled(seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8)), LAYERS.GRU(32, name="rnn"), LAYERS.Dense(10, name="head")])
    model.compile(keras.optimizers.SGD(0.3, global_clipnorm=0.001), crossentropy())
    return model


def padded(seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((60,), dtype="int32"), LAYERS.Embedding(13, 8), LAYERS.GRU(32, name="rnn"), LAYERS.Dense(4, name="head")])
    model.compile(keras.optimizers.Adam(0.01), crossentropy())
    return model


def exploding(seed):
    keras.utils.set_random_seed(seed)
    orthogonal = keras.initializers.Orthogonal(gain=1.5)
    rnn = LAYERS.SimpleRNN(32, recurrent_initializer=orthogonal, name="rnn")
    model = keras.Sequential([keras.Input((20, 6)), rnn, LAYERS.Dense(4, name="head")])
    model.compile(keras.optimizers.SGD(0.3), crossentropy())
    return model


def forgetful(seed):
    keras.utils.set_random_seed(seed)
    rnn = LAYERS.LSTM(32, unit_forget_bias=False, name="rnn")
    model = keras.Sequential([keras.Input((50, 4)), rnn, LAYERS.Dense(4, name="head")])
    model.compile(keras.optimizers.Adam(0.005), crossentropy())
    return model
