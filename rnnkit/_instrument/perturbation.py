"""Zeros added to the states inside a recurrence: the derivative by them is the total derivative by the states."""

import inspect
import itertools
import math
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit._backend import keras, ops
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument import gate_capture, rnn_loop
from rnnkit.layers import LSTMCell

_LSTM_CELLS = (keras.layers.LSTMCell, LSTMCell)


def perturbed(layers, watch, orders=None, shapes=None):
    """While the block runs, add `watch((layer, state), shape, dtype)` to every state of the layers at every time step.

    What the layers compute stays the same to the bit, forwards and backwards: the states are passed on as they were,
    plus 0. (`watch` is asked for zeros of shape (batch, time, units), once a state in each call of a layer; a state
    that is a matrix is a row of its entries there.)

    Args:
        layers: `{key: layer}`.
        watch: function that returns the zeros.
        orders: what `gate_capture.orders` returned for the LSTM cells that take a step in a way of their own; these
            compute the same up to rounding.
        shapes: dict that gets `{(layer, state): shape}`, without batch and time.
    """
    shapes = {} if shapes is None else shapes

    def make(key, layer):
        def inner_loop(sequences, initial_state, mask, training):
            batch, time, features = ops.shape(sequences)
            dtype = layer.cell.compute_dtype
            parts = states(key, layer.cell)
            shapes.update({(name, state): shape for name, state, shape in parts})
            taps = [watch((name, state), (batch, time, math.prod(shape)), dtype) for name, state, shape in parts]
            sizes = [features, *(tap.shape[-1] for tap in taps)]
            step = _PerturbedStep(key, layer.cell, orders or {}, training)

            def cell(inputs, before):
                inputs, *deltas = split(inputs, sizes)
                deltas = [unflattened(delta, shape) for delta, (*_, shape) in zip(deltas, parts, strict=True)]
                output, new = step(layer.cell, inputs, keras.tree.flatten(before), deltas)
                # On JAX Keras tells by the nesting which state is the output of a stack.
                return output, keras.tree.pack_sequence_as(list(before), new)

            # Keras's loop takes one input tensor: let the perturbations ride along as extra features.
            return rnn_loop.keras_loop(layer, cell, ops.concatenate([sequences, *taps], axis=-1), initial_state, mask)

        return inner_loop

    return rnn_loop.replaced(layers, make)


def states(key, cell):
    """Return `(layer key, state name, shape)` for every state of a cell, a stack's cells one after the other."""
    found = []
    for name, one in rnn_loop.cells(key, cell).items():
        shapes = _shapes(one)
        second = "c" if isinstance(one, _LSTM_CELLS) else "state_1"
        names = ["h", second, *(f"state_{n}" for n in range(2, len(shapes)))]
        found += [(name, state, shape) for state, shape in zip(names, shapes, strict=False)]
    return found


def state_key(layer, state):
    """Return the name under which one array of a state is recorded: `layer` for its h, `layer/c` for an LSTM's c."""
    return layer if state == "h" else f"{layer}/{state}"


def _shapes(cell):
    """Return the shape of each state of one cell, without the batch axis."""
    sizes = cell.state_size
    parts = sizes if isinstance(sizes, (list, tuple)) else [sizes]
    if any(isinstance(part, (list, tuple)) for part in parts) and hasattr(cell, "get_initial_state"):
        # Only the state itself tells a matrix (3, 3) from two vectors.
        return [tuple(state.shape[1:]) for state in keras.tree.flatten(cell.get_initial_state(batch_size=1))]
    return [(int(size),) for size in keras.tree.flatten(sizes)]


def flattened(tensors):
    """Return states (batch, ...) as one tensor (batch, total)."""
    rows = [ops.reshape(one, (-1, math.prod(one.shape[1:]))) if len(one.shape) != 2 else one for one in tensors]
    return ops.concatenate(rows, axis=-1)


def unflattened(row, shape):
    """Return a tensor (batch, entries) as (batch, *shape)."""
    return row if len(shape) == 1 else ops.reshape(row, (-1, *shape))


def call_cell(cell, inputs, before, training):
    """Call a cell on a flat list of states; return its output and the flat list of its new states."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return _call_stack(cell, inputs, lambda one, inputs, part: call_cell(one, inputs, before[part], training))
    takes_training = "training" in inspect.signature(cell.call if isinstance(cell, keras.Layer) else cell).parameters
    output, new = cell(inputs, before, **({"training": training} if takes_training else {}))
    return output, keras.tree.flatten(new)


def split(tensor, sizes):
    """Cut a tensor along its last axis into parts of the given sizes."""
    ends = np.cumsum(sizes)
    return [tensor[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _call_stack(stack, inputs, call):
    """Run the cells of a stack one on the other; `call(cell, inputs, which of the states)` runs one."""
    new, at = [], 0
    for one in stack.cells:
        upto = at + len(states("", one))
        inputs, of_one = call(one, inputs, slice(at, upto))
        new += of_one
        at = upto
    return inputs, new


class _PerturbedStep:
    """One step of a layer's cell, or of the cells of its stack, with something added to each new state.

    Called as `step(cell, inputs, before, deltas)`; returns the output and the new states, with `deltas` added to the
    new states and to everything that follows from them.
    """

    def __init__(self, key, cell, orders, training):
        self._keys = {id(one): name for name, one in rnn_loop.cells(key, cell).items()}
        self._orders = orders
        self._training = training

    def __call__(self, cell, inputs, before, deltas):
        if isinstance(cell, keras.layers.StackedRNNCells):
            return _call_stack(cell, inputs, lambda one, inputs, part: self(one, inputs, before[part], deltas[part]))
        if isinstance(cell, _LSTM_CELLS):
            return self._lstm(cell, inputs, before, deltas)
        output, new = call_cell(cell, inputs, before, self._training)
        moved = [state + delta for state, delta in zip(new, deltas, strict=True)]
        for state, after in zip(new, moved, strict=True):
            if output is state:  # the usual case
                return after, moved
        return output, moved

    def _lstm(self, cell, inputs, before, deltas):
        delta_h, delta_c, *others = deltas
        if gate_capture.has_own_step(cell):
            output, (h, c, *rest) = self._lstm_of_its_own(cell, inputs, before, delta_c)
        else:
            with _read_from(cell, delta_c) as read:
                output, (h, _, *rest) = call_cell(cell, inputs, before, self._training)
            c = read[0]
        moved = h + delta_h
        rest = [state + delta for state, delta in zip(rest, others, strict=True)]
        return moved if output is h else output, [moved, c, *rest]

    def _lstm_of_its_own(self, cell, inputs, before, delta_c):
        """Run the step twice: to see c_t, then with c_t + delta_c in its place, wherever the cell reads it."""
        key = self._keys[id(cell)]
        if key not in self._orders:
            raise ValueError(
                "An LSTM cell that takes a step in a way of its own is checked on a probe batch before dL/dc_t is "
                f"measured. Received: layer {key!r}, whose {type(cell).__name__} was not. "
                "Pass a probe batch, StateGradientRecorder(x, y), or leave the layer out with layers=[...]."
            )
        order = self._orders[key]
        with gate_capture.gates_of_step(key, cell, order) as gates:
            _, (_, c, *_) = call_cell(cell, inputs, before, self._training)
        # c_t = forget * c_{t-1} + input * candidate: with an input gate of 1, this candidate makes it c_t + delta_c.
        candidate = c + delta_c - gates()["forget"] * before[1]
        with _written(cell, order, candidate):
            return call_cell(cell, inputs, before, self._training)


@contextmanager
def _read_from(cell, delta):
    """While an LSTM cell takes one step, let it compute h_t from c_t + delta; give a list that gets this sum.

    Both kinds of cell apply `activation` to c_t once they have the candidate: Keras's has it from another call of
    `activation`, rnnkit's from its method `gates`.
    """
    name = "gates" if isinstance(cell, LSTMCell) else "activation"
    squash, candidate, read = cell.activation, getattr(cell, name), []

    def activation(c):
        read.append(c + delta)
        return squash(read[-1])

    with ExitStack() as stack:

        def first(*arguments):
            found = candidate(*arguments)
            stack.enter_context(shadowed(cell, "activation", activation))
            return found

        stack.enter_context(shadowed(cell, name, first))
        yield read


@contextmanager
def _written(cell, order, candidate):
    """While an LSTM cell takes one step, let its input gate be 1 and its candidate the given tensor."""
    if isinstance(cell, LSTMCell):
        gates = cell.gates

        def with_candidate(*arguments):
            return {**gates(*arguments), "input": ops.ones_like(candidate), "candidate": candidate}

        with shadowed(cell, "gates", with_candidate):
            yield
        return
    open_, squash = cell.recurrent_activation, cell.activation
    names, calls = iter(order), itertools.count()

    def recurrent_activation(*inputs):
        return ops.ones_like(candidate) if next(names) == "input" else open_(*inputs)

    def activation(*inputs):
        return squash(*inputs) if next(calls) else candidate

    with (
        shadowed(cell, "recurrent_activation", recurrent_activation),
        shadowed(cell, "activation", activation),
    ):
        yield
