"""The gates of LSTM and GRU cells: overheard while the cell itself computes them, and summed up."""

import inspect
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit import _loop, _model
from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed
from rnnkit.layers import GRUCell, LSTMCell

ops = keras.ops

LOW, HIGH = 0.1, 0.9  # a gate beyond these is called saturated; also the quantiles between which most values lie

# The gates in the order in which Keras's cells compute them, and how often they apply `activation`: first to the
# candidate; an LSTM then to its state c. The cells of rnnkit.layers have a method for it.
_GATES = {keras.layers.LSTMCell: (["input", "forget", "output"], 2), keras.layers.GRUCell: (["update", "reset"], 1)}
_TELLING = (LSTMCell, GRUCell)


def gated_layers(model, names=None):
    """Return `{key: layer}` for the layers with LSTM or GRU cells, or for those that `names` asks for.

    Raises:
        ValueError: if there is none, a name is unknown, or a layer asked for has no gates.
    """
    layers = _model.recurrent_layers(model, names)
    gated = {key: layer for key, layer in layers.items() if _gated_cells(key, layer.cell)}
    without = {key: type(layer.cell).__name__ for key, layer in layers.items() if key not in gated}
    if without and (names is not None or not gated):
        raise ValueError(
            "Gates are read from the cells of keras.layers and rnnkit.layers called LSTMCell and GRUCell. Received: "
            + ", ".join(f"layer {key!r} with a {cell}" for key, cell in without.items())
            + ". "
            + (
                "Leave it out with layers=[...]."
                if gated
                else "For its states use rnnkit.probes.state_gradients or state_jacobians."
            )
        )
    return gated


def listening_loop(key, layer, heard):
    """Return a loop over time that runs the layer's own cell and puts its gates into `heard`.

    Args:
        key: the layer's name; its cells' too, unless they are stacked.
        layer: an RNN layer with LSTM or GRU cells.
        heard: dict that gets `{cell's key: {gate: tensor (batch, time, units)}}`, NaN at masked steps.
    """
    cells = _gated_cells(key, layer.cell)
    trains = {"training"} & set(inspect.signature(layer.cell.call).parameters)

    def inner_loop(sequences, initial_state, mask, training):
        def cell(inputs, states):
            _, *states = states
            with ExitStack() as stack:
                told = [stack.enter_context(_listening(key, one)) for key, one in cells.items()]
                output, new = layer.cell(inputs, states, **dict.fromkeys(trains, training))
            gates = [gate for tell in told for gate in tell()]
            # Keras's loop keeps one output tensor a step: let the gates ride along as extra units.
            longer = ops.concatenate([output, *gates], axis=-1)
            return longer, [longer, *new]

        # On JAX the first state stands for the output of the step before, which a masked step repeats.
        first = keras.tree.flatten(initial_state)[0]
        names = [(key, gate) for key, one in cells.items() for gate in _names(one)]
        extra = sum(cells[key].units for key, _ in names)
        width = layer.cell.output_size
        before = ops.pad(
            first if first.shape[-1] == width else ops.zeros((ops.shape(first)[0], width), first.dtype),
            [(0, 0), (0, extra)],
        )
        last, outputs, (_, *states) = _loop.keras_loop(
            layer, cell, sequences, [before, *initial_state], mask, return_sequences=True
        )
        values = outputs[..., width:]
        values = ops.flip(values, axis=1) if layer.go_backwards else values
        values = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
        if mask is not None:
            values = ops.where(ops.cast(keras.tree.flatten(mask)[0], "bool")[..., None], values, float("nan"))
        start = 0
        for key, gate in names:
            heard.setdefault(key, {})[gate] = values[..., start : start + cells[key].units]
            start += cells[key].units
        return last[..., :width], outputs[..., :width], states

    return inner_loop


def _gated_cells(key, cell):
    return {key: one for key, one in _loop.cells(key, cell).items() if isinstance(one, (*_GATES, *_TELLING))}


def _kind(cell):
    return next(kind for kind in _GATES if isinstance(cell, kind))


def _names(cell):
    if isinstance(cell, _TELLING):
        return list(cell.gate_names)
    return [*_GATES[_kind(cell)][0], "candidate"]


@contextmanager
def _listening(key, cell):
    """While the cell runs one step, overhear what its activations return; give a function that tells it.

    So the values are those of the cell's own computation, whatever its implementation, biases and dropout masks.
    """
    if isinstance(cell, _TELLING):
        with _overhearing(key, cell) as tell:
            yield tell
        return
    gates, states = [], []

    def overheard(function, values):
        def activation(*inputs):
            values.append(function(*inputs))
            return values[-1]

        return activation

    def tell():
        names, applied = _GATES[_kind(cell)]
        if (len(gates), len(states)) != (len(names), applied):
            raise ValueError(
                f"A cell must compute its gates as Keras's {_kind(cell).__name__} does, each by one call of "
                f"`recurrent_activation`. Received: layer {key!r}, whose {type(cell).__name__} made {len(gates)} such "
                f"calls instead of {len(names)}, and {len(states)} of `activation` instead of {applied}. "
                "Leave it out with layers=[...]."
            )
        return [*gates, states[0]]

    with (
        shadowed(cell, "recurrent_activation", overheard(cell.recurrent_activation, gates)),
        shadowed(cell, "activation", overheard(cell.activation, states)),
    ):
        yield tell


@contextmanager
def _overhearing(key, cell):
    """The same for a cell that computes its gates in a method of its own."""
    heard, names = [], _names(cell)

    def gates(*arguments):
        heard.append(type(cell).gates(cell, *arguments))
        return heard[-1]

    def tell():
        if len(heard) != 1 or not set(names) <= set(heard[0]):
            received = f"made {len(heard)} such calls" if len(heard) != 1 else f"returned {', '.join(heard[0])}"
            raise ValueError(
                "A cell must compute its gates by one call of its method `gates`, which returns those in its "
                f"`gate_names`. Received: layer {key!r}, whose {type(cell).__name__} {received}, with gate_names="
                f"{tuple(names)}. Leave it out with layers=[...]."
            )
        return [heard[0][name] for name in names]

    with shadowed(cell, "gates", gates):
        yield tell


def statistics(values):
    """Sum up an array (batch, time, units) of gates over batch and units, leaving out NaN.

    Returns:
        array (5, time): mean, 10 % and 90 % quantile, fraction of values under 0.1 and over 0.9. NaN where all are.
    """
    flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    count = np.count_nonzero(~np.isnan(flat), axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is nothing
        mean, under, over = (np.nansum(one, axis=1) / count for one in (flat, flat < LOW, flat > HIGH))
    ordered = np.sort(flat, axis=1)  # NaN last
    ranks = [np.rint(share * np.maximum(count - 1, 0)).astype(int) for share in (LOW, HIGH)]
    low, high = (np.take_along_axis(ordered, rank[:, None], axis=1)[:, 0] for rank in ranks)
    return np.stack([mean, low, high, under, over])
