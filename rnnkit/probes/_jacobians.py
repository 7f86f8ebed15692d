"""The derivatives of the states after one time step with respect to those before it."""

import math
from collections.abc import Callable

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._instrument import perturbation, rnn_loop
from rnnkit._instrument.batch import as_batch
from rnnkit._instrument.checks import only_recurrent_layer
from rnnkit._names import unknown_name

_ENTRIES = 2**22  # of Jacobians, computed at once


def state_jacobians(model, x, layer=None, *, state="h"):
    """Measure the one-step Jacobians dh_t/dh_{t-1} of a recurrent layer along its own trajectory.

    Entry [b, t, i, j] is the derivative of unit i of the state after step t by unit j of the state before it. (With
    the convention h_t = tanh(h_{t-1} W + ...), that is the *transpose* of W times the slopes.)

    Each call traces the model, so that it sees every change of it; to measure again and again, use
    `prepare_state_jacobians`.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`; of a data set, the inputs of its first batch.
        layer: name of the recurrent layer; may be left out when there is only one.
        state: `"h"` or `"c"` for the Jacobian of that state by itself, the other state held; `"all"` for the joint
            Jacobian of all states (for an LSTM h then c), the one whose products give derivatives over several steps.
            A SimpleRNN and a GRU have only h, so that `"h"` and `"all"` are the same. The states of a custom cell are
            `"h"`, `"state_1"`, `"state_2"`...; of a matrix, the units are its entries, row by row.

    Returns:
        array (batch, time, units, units), or (batch, time, total, total) for `state="all"`, total the sum of the
        sizes of the states. Index t = 0 is the derivative by the initial state. Masked steps are the identity. In a
        layer that reads backwards, "before" means before in reading order.

    Raises:
        ValueError: if the model is unbuilt or without recurrent layer, several layers qualify, the layer or state name
            is unknown, or the batch is empty, not finite or of the wrong shape.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.SimpleRNN(4, name="rnn")])
        >>> rnnkit.probes.state_jacobians(model, np.ones((1, 20, 2)), layer="rnn").shape
        (1, 20, 4, 4)

    Source: Pascanu, Mikolov & Bengio (2013), equation 5.
    """
    recurrent, batch, measure = jacobian_function(model, x, layer, once=True)
    block = state_slice(recurrent, state)
    return measure(batch.x)[..., block, block]


def prepare_state_jacobians(
    model: keras.Model, x, layer: str | None = None, *, state: str = "h", jit_compile: bool = False
) -> Callable[..., np.ndarray]:
    """Prepare `state_jacobians`, to be measured again and again while the weights change.

    `state_jacobians` traces the model in each call. Here this is done once; after that, a call for one sequence takes
    about as long as one or two training steps of a batch of 64 on TensorFlow (64 units, 50 and 200 steps). The time
    grows with the number of sequences and with the square of the units.

    Args:
        model: as for `state_jacobians`.
        x: as for `state_jacobians`.
        layer: as for `state_jacobians`.
        state: as for `state_jacobians`.
        jit_compile: whether TensorFlow has XLA compile the measurement: seconds, once. JAX compiles always, torch
            never.

    Returns:
        A function. Each call returns what `state_jacobians` does, for the values that the model's weights have at that
        moment; called with a batch, `measure(x)`, for that one. What else has changed since (a layer, its activation,
        weights added) it does not see: prepare it again then.

    Raises:
        ValueError: as `state_jacobians`.

    Example:
        >>> measure = rnnkit.probes.prepare_state_jacobians(model, x[:1])
        >>> measure().shape
        (1, 10, 4, 4)
    """
    recurrent, batch, measure = jacobian_function(model, x, layer, jit_compile=jit_compile)
    block = state_slice(recurrent, state)
    return lambda *other: measure(as_batch(model, *other).x if other else batch.x)[..., block, block]


def jacobian_function(model, x, name, *, once=False, jit_compile=False):
    """Check all that can be wrong, then return the recurrent layer, the batch and `measure(x)`.

    Args:
        model: a built Keras model.
        x: inputs like those that will be measured.
        name: of the layer, or None.
        once: whether `measure` is called but once, so that nothing is compiled that runs faster than it compiles.
        jit_compile: whether TensorFlow has XLA compile the measurement.

    Returns:
        the layer, the batch, and a function that returns the Jacobians of all states by all states, (batch, time,
        total, total).
    """
    recurrent = only_recurrent_layer(model, name)
    batch = as_batch(model, x)
    shapes = [shape for *_, shape in perturbation.states("", recurrent.cell)]
    total = sum(map(math.prod, shapes))
    trajectory = _backend.compiled(model, _trajectory(model, recurrent), jit_compile)
    of_steps = _backend.compiled(model, _cell_jacobians(recurrent.cell, shapes), jit_compile, once=once)

    def measure(x):
        sequences, mask, before = trajectory(x)
        jacobians = _in_parts(of_steps, sequences, before)
        jacobians[~mask] = np.eye(total)
        return jacobians[:, ::-1] if recurrent.go_backwards else jacobians

    return recurrent, batch, measure


def state_slice(layer, state):
    """Return where a state lies in the joint state of a layer's cell."""
    if state == "all":
        return slice(None)
    states = perturbation.states("", layer.cell)
    names = [name for _, name, _ in states]
    if isinstance(layer.cell, keras.layers.StackedRNNCells) or state not in names:
        known = ["all"] if isinstance(layer.cell, keras.layers.StackedRNNCells) else [*names, "all"]
        raise ValueError(unknown_name("state", state, known))
    sizes = [math.prod(shape) for *_, shape in states]
    start = sum(sizes[: names.index(state)])
    return slice(start, start + sizes[names.index(state)])


def _cell_jacobians(cell, shapes):
    """Return a function of steps, what is read (n, features) and the states (n, total), to (n, total, total).

    It differentiates every new state of the cell by every old one, in one backward pass.
    """

    def jacobians(values, inputs, states):
        count, total = ops.shape(states)
        # One copy of each step per unit, each asking for the gradient of its own unit.
        inputs, states = (ops.repeat(one, total, axis=0) for one in (inputs, states))
        one_unit_each = ops.tile(ops.eye(total, dtype=states.dtype), (count, 1))

        def step(flat):
            parts = perturbation.split(flat, [math.prod(shape) for shape in shapes])
            before = [perturbation.unflattened(part, shape) for part, shape in zip(parts, shapes, strict=True)]
            return perturbation.flattened(perturbation.call_cell(cell, inputs, before, False)[1])

        with _backend.scratch(values):
            found = _backend.vector_jacobian(step, states, one_unit_each)
            rnn_loop.forget_dropout_masks(cell)
        return ops.reshape(found, (count, total, total))

    return jacobians


def _in_parts(of_steps, sequences, before):
    """Return the Jacobians at all steps of all examples, float64; in parts, which bounds the memory of the copies."""
    batch, time, total = before.shape
    steps = batch * time
    inputs, states = sequences.reshape(steps, -1), before.reshape(steps, total)
    parts = -(-steps // max(1, _ENTRIES // total**2))
    size = -(-steps // parts)
    jacobians = np.empty((steps, total, total))
    for part in range(parts):
        # All parts have one size, for which the function is compiled once: the last may begin within the one before.
        start = min(part * size, steps - size)
        jacobians[start : start + size] = of_steps(inputs[start : start + size], states[start : start + size])
    return jacobians.reshape(batch, time, total, total)


def _trajectory(model, layer):
    """Return a function that runs the model in inference, to what the cell reads at each step, in the order of reading.

    Returns:
        function of the weights' values and x, to inputs (batch, time, features), whether the step counts (batch, time),
        joint states (batch, time, total), which mean nothing where it does not.
    """

    def collect(values, x):
        seen = {}

        def make(key, layer):
            def inner_loop(sequences, initial_state, mask, training):
                def cell(inputs, states):
                    _, *states = states
                    _, new = perturbation.call_cell(layer.cell, inputs, states, training)
                    joint = perturbation.flattened(states)
                    return joint, [joint, *new]  # what it puts out is what it was given

                states = keras.tree.flatten(initial_state)
                joint = perturbation.flattened(states)
                _, before, _ = rnn_loop.keras_loop(
                    layer, cell, sequences, [joint, *states], mask, return_sequences=True, zero_output_for_mask=False
                )
                present = ops.ones(ops.shape(sequences)[:2], "bool") if mask is None else keras.tree.flatten(mask)[0]
                read = (sequences, present)
                seen[key] = *(ops.flip(one, axis=1) if layer.go_backwards else one for one in read), before
                return type(layer).inner_loop(layer, sequences, initial_state, mask, training=training)

            return inner_loop

        with rnn_loop.replaced({layer.name: layer}, make), _backend.scratch(values):
            model(x, training=False)
        if not seen:
            raise ValueError(
                "A recurrent layer must be reached by the model's own call, through keras.layers.RNN.call. "
                f"Received: layer {layer.name!r}, which the forward pass did not run."
            )
        if len(seen) > 1:
            raise ValueError(
                "Jacobians are measured along the one trajectory of a layer that the model runs once. "
                f"Received: layer {layer.name!r}, which runs {len(seen)} times (shared, or inside TimeDistributed). "
                "Pass a keras.Model that runs it on one of its inputs."
            )
        return seen[layer.name]

    return collect
