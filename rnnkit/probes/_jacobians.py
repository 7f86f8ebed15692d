"""The derivatives of the states after one time step with respect to those before it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
    shapes = perturbation.state_shapes(recurrent.cell)
    total = sum(map(math.prod, shapes))
    follow = _backend.compiled(model, _trajectory_function(model, recurrent), jit_compile)
    of_steps = _backend.compiled(model, _cell_jacobians(recurrent.cell, shapes), jit_compile, once=once)

    def measure(x):
        trajectory = follow(x)
        jacobians = _in_parts(of_steps, trajectory.inputs, trajectory.states)
        jacobians[~trajectory.present] = np.eye(total)
        return jacobians[:, ::-1] if recurrent.go_backwards else jacobians

    return recurrent, batch, measure


def state_slice(layer, state):
    """Return where a state lies in the joint state of a layer's cell."""
    if state == "all":
        return slice(None)
    names = [] if isinstance(layer.cell, keras.layers.StackedRNNCells) else perturbation.state_names(layer.cell)
    if state not in names:
        raise ValueError(unknown_name("state", state, [*names, "all"]))
    sizes = [math.prod(shape) for shape in perturbation.state_shapes(layer.cell)]
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


def _in_parts(of_steps, inputs, states):
    """Return the Jacobians at all steps of all examples, float64; in parts, which bounds the memory of the copies."""
    batch, time, total = states.shape
    steps = batch * time
    inputs = inputs.reshape(steps, -1)
    states = states.reshape(steps, total)
    parts = -(-steps // max(1, _ENTRIES // total**2))
    size = -(-steps // parts)
    jacobians = np.empty((steps, total, total))
    for part in range(parts):
        # All parts have one size, for which the function is compiled once: the last may begin within the one before.
        start = min(part * size, steps - size)
        jacobians[start : start + size] = of_steps(inputs[start : start + size], states[start : start + size])
    return jacobians.reshape(batch, time, total, total)


class _Trajectory(NamedTuple):
    """What a layer's cell reads at each step, in the order of reading: tensors, or arrays.

    Attributes:
        inputs: (batch, time, features).
        present: whether the step counts, (batch, time); where it does not, its state means nothing.
        states: the joint states before each step, (batch, time, total).
    """

    inputs: Any
    present: Any
    states: Any


class _TrajectoryLoop:
    """A layer's loop over time that keeps what the cell reads at each step.

    Keras calls the loop once, in one call of the layer. It then runs Keras's loop twice: with `step`, called at every
    time step or where these are traced, once, and as the layer itself does, for what the model computes from it.

    Args:
        layer: an RNN layer.

    Attributes:
        trajectory: the `_Trajectory`, once the loop was called.
    """

    def __init__(self, layer):
        self.trajectory = None
        self._layer = layer
        self._training = False

    def __call__(self, sequences, initial_state, mask, training):
        self._training = training
        states = keras.tree.flatten(initial_state)
        _, joint_states, _ = rnn_loop.keras_loop(
            self._layer,
            self.step,
            sequences,
            [perturbation.flattened(states), *states],
            mask,
            return_sequences=True,
            zero_output_for_mask=False,
        )
        present = ops.ones(ops.shape(sequences)[:2], "bool") if mask is None else keras.tree.flatten(mask)[0]
        inputs = sequences
        if self._layer.go_backwards:
            inputs = ops.flip(inputs, axis=1)
            present = ops.flip(present, axis=1)
        self.trajectory = _Trajectory(inputs, present, joint_states)
        return type(self._layer).inner_loop(self._layer, sequences, initial_state, mask, training=training)

    def step(self, inputs, states):
        """Run the cell for one step; put out the joint state that it was given, which is the first of its states."""
        _, *states = states
        _, new = perturbation.call_cell(self._layer.cell, inputs, states, self._training)
        joint = perturbation.flattened(states)
        return joint, [joint, *new]


def _trajectory_function(model, layer):
    """Return a function that runs the model in inference: `(the weights' values, x)` to the layer's `_Trajectory`."""

    def trajectory(values, x):
        loops = rnn_loop.replaced({layer.name: layer}, lambda _, layer: _TrajectoryLoop(layer))
        with loops as replacement, _backend.scratch(values):
            model(x, training=False)
        return _only_loop(layer, replacement.loops).trajectory

    return trajectory


def _only_loop(layer, loops):
    """Return the loop of the only call of a layer; refuse a layer that was called several times, or never."""
    if not loops:
        raise ValueError(
            "A recurrent layer must be reached by the model's own call, through keras.layers.RNN.call. "
            f"Received: layer {layer.name!r}, which the forward pass did not run."
        )
    if len(loops) > 1:
        raise ValueError(
            "Jacobians are measured along the one trajectory of a layer that the model runs once. "
            f"Received: layer {layer.name!r}, which runs {len(loops)} times (shared, or inside TimeDistributed). "
            "Pass a keras.Model that runs it on one of its inputs."
        )
    return loops[layer.name]
