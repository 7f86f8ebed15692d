"""Forward passes to compare with: Keras's loop over time written out in Python, with a nudge where it is wanted.

Nothing here differentiates. What a gradient should be is found by running a model twice, nudged up and nudged down.
"""

import contextlib
import functools
from typing import NamedTuple

import keras
import numpy as np
from keras.src import backend

ops = keras.ops


def numpy(tensors):
    """Return tensors or variables, in whatever structure, as NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, tensors)


def fill(model, seed=0):
    """Give every trainable weight random numbers, biases too, so that no term is zero by chance."""
    draw = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(0, 0.5, variable.shape))


def cells_of(layer):
    """Return the cells of a recurrent layer, several in a stack."""
    return layer.cell.cells if isinstance(layer.cell, keras.layers.StackedRNNCells) else [layer.cell]


def states_of(key, layer):
    """Return `{(layer key, state name): (cell, place of the state in it, size)}` for a recurrent layer."""
    found, cells = {}, cells_of(layer)
    for number, cell in enumerate(cells):
        sizes = keras.tree.flatten(cell.state_size)
        others = ["c"] if isinstance(cell, keras.layers.LSTMCell) else [f"state_{n}" for n in range(1, len(sizes))]
        name = key if cells == [layer.cell] else f"{key}/cell_{number}"
        found |= {(name, state): (cell, place, sizes[place]) for place, state in enumerate(["h", *others])}
    return found


@contextlib.contextmanager
def shadowed(thing, name, value):
    """Give an instance another attribute while the block runs, unseen by Keras."""
    vars(thing)[name] = value
    try:
        yield
    finally:
        del vars(thing)[name]


class Nudge(NamedTuple):
    """Add to one state of a cell, after the inputs of some steps, `{index: (batch, units)}`."""

    cell: keras.Layer
    place: int
    amounts: dict


def loop(layer, nudge=None):
    """Return Keras's loop over time for a recurrent layer: one step after the other, masks by hand."""

    def inner_loop(sequences, initial_state, mask, training=False):
        states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        mask = None if mask is None else keras.tree.flatten(mask)[0]
        options = {"training": training} if layer.cell._call_has_training_arg else {}
        order = range(sequences.shape[1])
        output, outputs = None, []
        for t in reversed(order) if layer.go_backwards else order:
            with nudged(nudge, t) if nudge and t in nudge.amounts else contextlib.nullcontext():
                new_output, new = layer.cell(sequences[:, t], list(states), **options)
            new = new if isinstance(new, (list, tuple)) else [new]
            if mask is not None:
                present = mask[:, t][:, None]
                held = ops.zeros_like(new_output) if output is None or layer.zero_output_for_mask else output
                new_output = ops.where(present, new_output, held)
                new = [
                    keras.tree.map_structure(lambda after, before, p=present: ops.where(p, after, before), *pair)
                    for pair in zip(new, states, strict=True)
                ]
            output, states = new_output, new
            outputs.append(output)
        return output, ops.stack(outputs, axis=1), list(states)

    return inner_loop


@contextlib.contextmanager
def nudged(nudge, step):
    """Add to one state of a cell, and to what follows from it, while the block runs."""
    cell, place, amounts = nudge
    call = cell.call

    def nudged_call(inputs, states, **options):
        output, new = call(inputs, states, **options)
        before = new if isinstance(new, (list, tuple)) else [new]
        after = list(before)
        after[place] = after[place] + ops.convert_to_tensor(amounts[step])
        if isinstance(cell, keras.layers.LSTMCell) and place == 1:
            # h = o * activation(c), so h follows c in proportion, whatever made o
            after[0] = after[0] * cell.activation(after[1]) / cell.activation(before[1])
        for old, moved in zip(before, after, strict=True):
            if output is old:  # the usual case: the output is a state
                return moved, after
        return output, after

    with shadowed(cell, "call", nudged_call):
        yield


@contextlib.contextmanager
def slow_loops(model, recurrent, nudge=None):
    """Run slow loops in recurrent layers while the block runs; nothing that a pass assigns is kept."""
    with contextlib.ExitStack() as stack:
        for layer in recurrent:
            mine = nudge if nudge and nudge.cell in cells_of(layer) else None
            stack.enter_context(shadowed(layer, "inner_loop", loop(layer, mine)))
        # In such a scope Keras finds a regularizer's weight only where it is named.
        named = [(variable, variable.value) for variable in model.trainable_variables]
        stack.enter_context(keras.StatelessScope(state_mapping=named, collect_losses=True))
        yield


def loss(model, x, y, recurrent, nudge=None, training=False, sample_weight=None):
    """Return the loss of one forward pass through slow loops."""
    with slow_loops(model, recurrent, nudge):
        x, y = keras.tree.map_structure(ops.convert_to_tensor, (x, y))
        return float(numpy(model.compute_loss(x, y, model(x, training=training), sample_weight)))


def slope(model, x, y, recurrent, cell, place, step, direction, epsilon, **options):
    """Return the central difference of the loss along a direction of one state at one time step.

    Args:
        model: a compiled model.
        x: inputs.
        y: targets.
        recurrent: all its recurrent layers.
        cell: the cell whose state is nudged.
        place: which of its states.
        step: index of the input after which it is nudged.
        direction: array (batch, units).
        epsilon: how far to go.
        options: as for `loss`.
    """
    up, down = (
        loss(model, x, y, recurrent, Nudge(cell, place, {step: sign * epsilon * direction}), **options)
        for sign in (1, -1)
    )
    return (up - down) / (2 * epsilon)


def rows_of(start, stop, outputs):
    """Return some examples of a batch of outputs, with their mask, by which Keras weighs the loss."""
    rows, mask = outputs[start:stop], backend.get_keras_mask(outputs)
    if mask is not None:
        backend.set_keras_mask(rows, mask[start:stop])
    return rows


def slopes(model, x, y, recurrent, cell, place, directions, epsilon):
    """Return the central difference of the loss along one direction at each time step, as `slope` does one by one.

    All are differences of one forward pass, in which each step has two copies of the batch of its own, nudged up and
    down. So nothing may pass from one example to another: no activity regularizer, no batch statistics, no kept state.

    Args:
        model, x, y, recurrent, cell, place, epsilon: as for `slope`.
        directions: array (time, batch, units).
    """
    time, batch, units = directions.shape
    amounts = {}
    for step, direction in enumerate(directions):
        amount = np.zeros((time, 2, batch, units), directions.dtype)
        amount[step] = epsilon * direction, -epsilon * direction
        amounts[step] = amount.reshape(-1, units)
    copies = keras.tree.map_structure(lambda array: ops.convert_to_tensor(np.concatenate([array] * 2 * time)), x)
    x, y = keras.tree.map_structure(ops.convert_to_tensor, (x, y))
    with slow_loops(model, recurrent, Nudge(cell, place, amounts)):
        predictions = model(copies, training=False)
        losses = []
        for start in range(0, 2 * time * batch, batch):
            own = keras.tree.map_structure(functools.partial(rows_of, start, start + batch), predictions)
            losses.append(float(numpy(model.compute_loss(x, y, own))))
    up, down = np.reshape(losses, (time, 2)).T
    return (up - down) / (2 * epsilon)
