"""Zeros added to the states inside a recurrence: the derivative by them is the total derivative by the states."""

import inspect
import itertools
import math
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

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

    Returns:
        context that gives the `rnn_loop.Replacement`.
    """

    def make(key, layer):
        loop = PerturbedLoop(key, layer, watch, orders or {})
        if shapes is not None:
            shapes.update({(state.layer, state.name): state.shape for state in loop.states})
        return loop

    return rnn_loop.replaced(layers, make)


class PerturbedLoop:
    """A layer's loop over time that adds a perturbation to each state of the cell after every step.

    Keras calls the loop once, in one call of the layer; its own loop calls `step` at every time step, or where these
    are traced, once.

    Args:
        key: what the layer is called in this call of it.
        layer: an RNN layer.
        watch: as for `perturbed`.
        orders: as for `perturbed`.

    Attributes:
        states: what `named_states` returns for the layer's cell.
    """

    def __init__(self, key, layer, watch, orders):
        self.states = named_states(key, layer.cell)
        self._key = key
        self._layer = layer
        self._watch = watch
        self._orders = orders
        # Known once the loop is called:
        self._perturbed_step = None
        self._sizes = []  # of what a step reads along its last axis: features, then one perturbation a state

    def __call__(self, sequences, initial_state, mask, training):
        batch, time, features = ops.shape(sequences)
        dtype = self._layer.cell.compute_dtype
        perturbations = [
            self._watch((state.layer, state.name), (batch, time, math.prod(state.shape)), dtype)
            for state in self.states
        ]
        self._perturbed_step = _PerturbedStep(self._key, self._layer.cell, self._orders, training)
        self._sizes = [features, *(perturbation.shape[-1] for perturbation in perturbations)]
        # Keras's loop takes one input tensor: let the perturbations ride along as extra features.
        longer = ops.concatenate([sequences, *perturbations], axis=-1)
        return rnn_loop.keras_loop(self._layer, self.step, longer, initial_state, mask)

    def step(self, inputs, states):
        """Run the cell for one step; its new states are the perturbed ones."""
        inputs, *rows = split(inputs, self._sizes)
        deltas = [unflattened(row, state.shape) for row, state in zip(rows, self.states, strict=True)]
        before = keras.tree.flatten(states)
        output, new = self._perturbed_step(self._layer.cell, inputs, before, deltas)
        # On JAX Keras tells by the nesting which state is the output of a stack.
        return output, keras.tree.pack_sequence_as(list(states), new)


class State(NamedTuple):
    """One state of a cell: the key of its layer or cell, its name, and its shape without the batch axis."""

    layer: str
    name: str
    shape: tuple[int, ...]


def named_states(key, cell):
    """Return a `State` for every state of a cell, a stack's cells one after the other."""
    return [
        State(layer, name, shape)
        for layer, one in rnn_loop.named_cells(key, cell).items()
        for name, shape in zip(state_names(one), _shapes(one), strict=True)
    ]


def state_names(cell):
    """Return the names of the states of one cell, which is no stack."""
    count = len(_shapes(cell))
    second = "c" if isinstance(cell, _LSTM_CELLS) else "state_1"
    return ["h", second, *(f"state_{n}" for n in range(2, count))][:count]


def state_shapes(cell):
    """Return the shape of every state of a cell, without the batch axis, a stack's cells one after the other."""
    return [shape for one in rnn_loop.each_cell(cell) for shape in _shapes(one)]


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
        upto = at + len(state_shapes(one))
        inputs, of_one = call(one, inputs, slice(at, upto))
        new += of_one
        at = upto
    return inputs, new


class _PerturbedStep:
    """One step of a layer's cell, or of the cells of its stack, with something added to each new state.

    Called as `perturbed_step(cell, inputs, before, deltas)`; returns the output and the new states, with `deltas` added
    to the new states and to everything that follows from them.
    """

    def __init__(self, key, cell, orders, training):
        self._keys = {id(one): name for name, one in rnn_loop.named_cells(key, cell).items()}
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
            with _perturbed_c(cell, delta_c) as perturbed_c:
                output, (h, _, *rest) = call_cell(cell, inputs, before, self._training)
            c = perturbed_c[0]
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
def _perturbed_c(cell, delta):
    """While an LSTM cell takes one step, let it compute h_t from c_t + delta; give a list that gets this sum."""
    # A cell first has its candidate, Keras's from a call of `activation`, rnnkit's from its method `gates`:
    #     c_t = forget * c_{t-1} + input * candidate
    # The next call of `activation` is the one that is to read c_t + delta:
    #     h_t = output * activation(c_t)
    makes_candidate = "gates" if isinstance(cell, LSTMCell) else "activation"
    candidate = getattr(cell, makes_candidate)
    activation = cell.activation
    sums = []

    def activation_of_sum(c):
        sums.append(c + delta)
        return activation(sums[-1])

    with ExitStack() as stack:

        def candidate_then_sum(*arguments):
            value = candidate(*arguments)
            stack.enter_context(shadowed(cell, "activation", activation_of_sum))
            return value

        stack.enter_context(shadowed(cell, makes_candidate, candidate_then_sum))
        yield sums


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
