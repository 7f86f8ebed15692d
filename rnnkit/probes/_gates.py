"""The gates of LSTM and GRU layers at every time step, and their statistics."""

from collections.abc import Callable
from functools import partial

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras
from rnnkit._instrument import gate_capture, rnn_loop
from rnnkit._instrument.batch import as_batch


def gates(model, x, *, layers=None, training=False):
    """Measure the gates of LSTM and GRU layers at every time step, in one forward pass.

    The values are those that the layer's own cell computes, captured where it applies its activations; of the cells in
    `rnnkit.layers`, and of others made from them, what their method `gates` returns. With * for the elementwise
    product, Keras's conventions are

        LSTM: c_t = forget * c_{t-1} + input * candidate,   h_t = output * activation(c_t)
        GRU:  h_t = update * h_{t-1} + (1 - update) * candidate

    so that a GRU whose update gate is near 1 *keeps* its state (in Cho et al. too; other texts swap the two terms, and
    so does `rnnkit.layers.GRUCell(convention="lecture")`).
    The reset gate scales what the candidate sees of h_{t-1}: after its product with the recurrent kernel (Keras's
    default, `reset_after=True`) or before it. A subclass of Keras's cells is checked on the batch: its gates get the
    names with which these equations hold, to rounding. Each call traces the model, so that it sees every change of it;
    to measure again and again, use `prepare_gates`.

    Args:
        model: a built Keras model with at least one LSTM or GRU layer.
        x: inputs (batch, time, ...), as for `model.predict`; of a data set, the inputs of its first batch.
        layers: name, or list of names, of the layers to measure; by default all that have gates.
        training: whether the model runs as in training (dropout on) or as in inference.

    Returns:
        dict from layer name to a dict of arrays (batch, time, units): `"input"`, `"forget"`, `"output"` and
        `"candidate"` for an LSTM, `"update"`, `"reset"` and `"candidate"` for a GRU. Gates lie between 0 (closed) and 1
        (open), the candidate between -1 and 1, unless the layer has other activations. Index t of the time axis is the
        step that reads x[:, t], also in a layer that reads backwards. Masked steps are NaN: there the state is carried
        over and no gate is used. Cells of a stack are called `layer/cell_0`, `layer/cell_1`..., later calls of a
        shared layer `layer/call_2`...

    Raises:
        ValueError: if the model is unbuilt or has no gates, a name is unknown or of a layer without gates, the batch
            is empty, not finite or of the wrong shape, or a subclass of Keras's cells does not satisfy the equations.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(4, name="rnn"), keras.layers.Dense(1)])
        >>> gates = rnnkit.probes.gates(model, np.ones((8, 20, 2)))
        >>> gates["rnn"]["forget"].shape
        (8, 20, 4)

    Source: Gers, Schmidhuber & Cummins (2000), "Learning to forget: continual prediction with LSTM"; Cho et al. (2014),
    "Learning phrase representations using RNN encoder-decoder for statistical machine translation", equations 5-8.
    """
    return prepare_gates(model, x, layers=layers, training=training)()


def prepare_gates(
    model: keras.Model,
    x,
    *,
    layers: str | list[str] | None = None,
    training: bool = False,
    jit_compile: bool = False,
) -> Callable[..., dict[str, dict[str, np.ndarray]]]:
    """Prepare `gates`, to be measured again and again while the weights change.

    `gates` traces the model in each call. Here this is done once; after that, a call takes about half a training step
    of the same batch on TensorFlow, with XLA or without (64 units, batch of 64, 50 and 200 steps).

    Args:
        model: as for `gates`.
        x: as for `gates`.
        layers: as for `gates`.
        training: as for `gates`.
        jit_compile: whether TensorFlow has XLA compile the forward pass: seconds, once. JAX compiles always, torch
            never.

    Returns:
        A function. Each call returns what `gates` does, for the values that the model's weights have at that moment;
        called with a batch, `measure(x)`, for that one. What else has changed since (a layer, its activation, weights
        added) it does not see: prepare it again then.

    Raises:
        ValueError: as `gates`.

    Example:
        >>> measure = rnnkit.probes.prepare_gates(model, x)
        >>> measure()["rnn"]["update"].shape
        (64, 10, 4)
    """
    gated = gate_capture.gated_layers(model, layers)
    batch = as_batch(model, x)
    orders = gate_capture.orders(model, gated, batch.x, training, gate_capture.has_own_computation)

    def capture(values, x):
        with (
            rnn_loop.replaced(gated, partial(gate_capture.gate_loop, orders=orders)) as replacement,
            _backend.scratch(values),
        ):
            model(x, training=training)
        captured = gate_capture.recorded(replacement)
        rnn_loop.require_reached(gated, captured)
        return captured

    run = _backend.compiled(model, capture, jit_compile)
    return lambda *other: run(as_batch(model, *other).x if other else batch.x)


def gate_statistics(model, x, *, layers=None, jit_compile=False):
    """Prepare a cheap repeated measurement of the gates on one probe batch; used while a model trains.

    Args:
        model: a built Keras model with at least one LSTM or GRU layer.
        x: probe inputs, as for `gates`.
        layers: name, or list of names, of the layers; by default all that have gates.
        jit_compile: whether TensorFlow has XLA compile the forward pass, which takes seconds, and pays when some
            hundred calls follow. JAX compiles always, torch never.

    Returns:
        A function without arguments. Each call gives, for the model's weights at that moment, a dict from layer name to
        a dict from gate to a named tuple of five arrays (time,), all over batch and units: `mean`; the 10 % and the
        90 % quantile, `low` and `high`; the fraction of values under 0.1 and over 0.9, `closed` and `opened`. Masked
        steps do not count.

    Raises:
        ValueError: as `gates`.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn"), keras.layers.Dense(1)])
        >>> measure = rnnkit.probes.gate_statistics(model, np.ones((8, 20, 2)))
        >>> measure()["rnn"]["update"].mean.shape
        (20,)
    """
    measure = prepare_gates(model, x, layers=layers, jit_compile=jit_compile)
    return lambda: {
        layer: {gate: gate_capture.statistics(values) for gate, values in gates_by_name.items()}
        for layer, gates_by_name in measure().items()
    }
