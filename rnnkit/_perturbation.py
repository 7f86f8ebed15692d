"""Zeros added to the states inside a recurrence: the derivative by them is the total derivative by the states."""

import inspect
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit import _loop
from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed
from rnnkit.layers import LSTMCell

ops = keras.ops

_LSTM_CELLS = (keras.layers.LSTMCell, LSTMCell)


def perturbed(layers, watch):
    """While the block runs, add `watch((layer, state), shape, dtype)` to every state of the layers at every time step.

    What the layers compute stays the same to the bit, forwards and backwards: the states are passed on as they were,
    plus 0. (`watch` is asked for zeros of shape (batch, time, units), once a state in each call of a layer.)
    """

    def make(key, layer):
        def inner_loop(sequences, initial_state, mask, training):
            batch, time, features = ops.shape(sequences)
            dtype = layer.cell.compute_dtype
            taps = [watch((name, state), (batch, time, size), dtype) for name, state, size in states(key, layer.cell)]
            sizes = [features, *(tap.shape[-1] for tap in taps)]

            def cell(inputs, before):
                inputs, *deltas = split(inputs, sizes)
                output, new = _perturbed_step(key, layer.cell, inputs, keras.tree.flatten(before), deltas, training)
                # On JAX Keras tells by the nesting which state is the output of a stack.
                return output, keras.tree.pack_sequence_as(list(before), new)

            # Keras's loop takes one input tensor: let the perturbations ride along as extra features.
            return _loop.keras_loop(layer, cell, ops.concatenate([sequences, *taps], axis=-1), initial_state, mask)

        return inner_loop

    return _loop.replaced(layers, make)


def states(key, cell):
    """Return `(layer key, state name, size)` for every state of a cell, a stack's cells one after the other."""
    found = []
    for name, one in _loop.cells(key, cell).items():
        sizes = keras.tree.flatten(one.state_size)
        others = ["c"] if isinstance(one, _LSTM_CELLS) else [f"state_{n}" for n in range(1, len(sizes))]
        found += [(name, state, size) for state, size in zip(["h", *others], sizes, strict=True)]
    return found


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


def _perturbed_step(key, cell, inputs, before, deltas, training):
    """Run one step of `cell` with `deltas` added to its new states and to everything that follows from them."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return _call_stack(
            cell,
            inputs,
            lambda one, inputs, part: _perturbed_step(key, one, inputs, before[part], deltas[part], training),
        )
    if isinstance(cell, _LSTM_CELLS):
        delta_h, delta_c = deltas
        with _read_from(cell, delta_c) as read:
            _, (h, c) = call_cell(cell, inputs, before, training)
        if len(read) != 1 or read[0][0] is not c:
            raise ValueError(
                "An LSTM cell must compute h_t from activation(c_t), as Keras's does, for dL/dc_t to be followed. "
                f"Received: layer {key!r}, whose {type(cell).__name__} does not. Leave it out with layers=[...]."
            )
        h, c = h + delta_h, read[0][1]
        return h, [h, c]
    output, new = call_cell(cell, inputs, before, training)
    moved = [state + delta for state, delta in zip(new, deltas, strict=True)]
    for state, after in zip(new, moved, strict=True):
        if output is state:  # the usual case
            return after, moved
    return output, moved


@contextmanager
def _read_from(cell, delta):
    """While an LSTM cell takes one step, let it compute h_t from c_t + delta; give a list of `(c_t, c_t + delta)`.

    Both kinds of cell apply `activation` to c_t once they have the candidate: Keras's has it from another call of
    `activation`, rnnkit's from its method `gates`.
    """
    name = "gates" if isinstance(cell, LSTMCell) else "activation"
    squash, candidate, read = cell.activation, getattr(cell, name), []

    def activation(c):
        read.append((c, c + delta))
        return squash(read[-1][1])

    with ExitStack() as stack:

        def first(*arguments):
            found = candidate(*arguments)
            stack.enter_context(shadowed(cell, "activation", activation))
            return found

        stack.enter_context(shadowed(cell, name, first))
        yield read
