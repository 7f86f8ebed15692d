"""The gates of LSTM and GRU cells: captured while the cell itself computes them, and summed up.

Keras's own cells call `recurrent_activation` once for each gate, in a known order. A subclass may do so in another
order, or compute something else: which call is which gate is then found by the equations that the gates must satisfy,

    LSTM: c_t = forget * c_{t-1} + input * candidate,   h_t = output * activation(c_t)
    GRU:  h_t = update * h_{t-1} + (1 - update) * candidate

on the batch at hand, and the cell is refused where they do not hold.
"""

import inspect
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from itertools import permutations
from typing import NamedTuple

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument import rnn_loop
from rnnkit._instrument.checks import recurrent_layers
from rnnkit.layers import GRUCell, LSTMCell

LOW, HIGH = 0.1, 0.9  # a gate beyond these is called saturated; also the quantiles between which most values lie

# The gates in the order in which Keras's cells compute them, and how often they apply `activation`: first to the
# candidate; an LSTM then to its state c. The cells of rnnkit.layers have a method for it.
_GATES = {keras.layers.LSTMCell: (["input", "forget", "output"], 2), keras.layers.GRUCell: (["update", "reset"], 1)}
_WITH_METHOD = (LSTMCell, GRUCell)
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_EQUATIONS = {
    keras.layers.LSTMCell: "c_t = forget * c_{t-1} + input * candidate and h_t = output * activation(c_t)",
    keras.layers.GRUCell: "h_t = update * h_{t-1} + (1 - update) * candidate",
}


def gated_layers(model, names=None):
    """Return `{key: layer}` for the layers with LSTM or GRU cells, or for those that `names` asks for.

    Raises:
        ValueError: if there is none, a name is unknown, or a layer asked for has no gates.
    """
    layers = recurrent_layers(model, names)
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


class _Capture(NamedTuple):
    """What is captured of one cell at each step: names and widths, and a context in which the cell runs the step.

    The context gives a function that returns the captured tensors (batch, width), in the order of the names.
    """

    widths: dict[str, int]
    capturing: Callable


class RecordingLoop:
    """A layer's loop over time that runs the layer's own cell and records what is captured of it at each step.

    Keras calls the loop once, in one call of the layer; its own loop calls `step` at every time step, or where these
    are traced, once.

    Args:
        layer: an RNN layer.
        captures: `{cell's key: _Capture}`.

    Attributes:
        captured: `{cell's key: {name: tensor (batch, time, width)}}`, NaN at masked steps, once the loop was called.
    """

    def __init__(self, layer, captures):
        self.captured = {}
        self._layer = layer
        self._captures = captures
        self._takes_training = "training" in inspect.signature(layer.cell.call).parameters
        self._options = {}

    def __call__(self, sequences, initial_state, mask, training):
        self._options = {"training": training} if self._takes_training else {}
        states = [self._output_before(initial_state), *initial_state]
        last, outputs, (_, *states) = rnn_loop.keras_loop(
            self._layer, self.step, sequences, states, mask, return_sequences=True
        )
        width = self._layer.cell.output_size
        self._record(outputs[..., width:], mask)
        return last[..., :width], outputs[..., :width], states

    def step(self, inputs, states):
        """Run the cell for one step; its output, longer by what was captured, is the first of its states too."""
        _, *states = states
        with ExitStack() as stack:
            results = [stack.enter_context(capture.capturing()) for capture in self._captures.values()]
            output, new = self._layer.cell(inputs, states, **self._options)
        values = [value for result in results for value in result()]
        # Keras's loop keeps one output tensor a step: let what was captured ride along as extra units.
        longer = ops.concatenate([output, *values], axis=-1)
        return longer, [longer, *new]

    def _output_before(self, initial_state):
        """Return what on JAX stands for the output of the step before the first, which a masked step repeats."""
        first = keras.tree.flatten(initial_state)[0]
        width = self._layer.cell.output_size
        if first.shape[-1] != width:
            first = ops.zeros((ops.shape(first)[0], width), first.dtype)
        return ops.pad(first, [(0, 0), (0, sum(sum(capture.widths.values()) for capture in self._captures.values()))])

    def _record(self, values, mask):
        """Tell apart what was captured, (batch, time, all widths), by cells and names."""
        values = ops.flip(values, axis=1) if self._layer.go_backwards else values
        values = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
        if mask is not None:
            values = ops.where(ops.cast(keras.tree.flatten(mask)[0], "bool")[..., None], values, float("nan"))
        start = 0
        for key, capture in self._captures.items():
            self.captured[key] = {}
            for name, width in capture.widths.items():
                self.captured[key][name] = values[..., start : start + width]
                start += width


def gate_loop(key, layer, orders):
    """Return a `RecordingLoop` for the gates of a layer.

    Args:
        key: the layer's name; its cells' too, unless they are stacked.
        layer: an RNN layer with LSTM or GRU cells.
        orders: what `orders` returned for the cells that compute their gates in a way of their own.
    """
    return RecordingLoop(
        layer,
        {name: _gate_capture(name, cell, orders.get(name)) for name, cell in _gated_cells(key, layer.cell).items()},
    )


def recorded(replacement):
    """Return `{cell's key: {name: tensor}}`, what all `RecordingLoop`s of an `rnn_loop.Replacement` captured."""
    return {key: tensors for loop in replacement.loops.values() for key, tensors in loop.captured.items()}


def _gate_capture(key, cell, order):
    @contextmanager
    def capturing():
        with gates_of_step(key, cell, order) as gates:
            yield lambda: list(gates().values())

    return _Capture(dict.fromkeys(_names(cell, order), cell.units), capturing)


def _gated_cells(key, cell):
    return {
        key: one for key, one in rnn_loop.named_cells(key, cell).items() if isinstance(one, (*_GATES, *_WITH_METHOD))
    }


def _kind(cell):
    return next(kind for kind in _GATES if isinstance(cell, kind))


def _names(cell, order=None):
    if isinstance(cell, _WITH_METHOD):
        return list(cell.gate_names)
    return [*(order or _GATES[_kind(cell)][0]), "candidate"]


@contextmanager
def gates_of_step(key, cell, order=None):
    """While a cell runs one step, capture its gates; give a function that returns `{name: (batch, units)}`.

    They are the values of the cell's own computation, whatever its implementation, biases and dropout masks.

    Args:
        key: what to call the cell in an error.
        cell: an LSTM or GRU cell of Keras's or rnnkit's kind.
        order: the gates in the order in which the cell computes them; Keras's unless given.
    """
    if isinstance(cell, _WITH_METHOD):
        with _method_captured(key, cell) as result:
            yield result
        return
    with _activations_captured(cell) as (gates, squashed):

        def result():
            _require_calls(key, cell, gates, squashed)
            return dict(zip(_names(cell, order), [*gates, squashed[0]], strict=True))

        yield result


@contextmanager
def _activations_captured(cell):
    """While a cell runs one step, capture what `recurrent_activation` and `activation` return: two lists."""
    gates, squashed = [], []

    def capturing(function, values):
        def activation(*inputs):
            values.append(function(*inputs))
            return values[-1]

        return activation

    with (
        shadowed(cell, "recurrent_activation", capturing(cell.recurrent_activation, gates)),
        shadowed(cell, "activation", capturing(cell.activation, squashed)),
    ):
        yield gates, squashed


def _require_calls(key, cell, gates, squashed):
    names, applied = _GATES[_kind(cell)]
    if (len(gates), len(squashed)) != (len(names), applied):
        raise ValueError(
            f"A cell must compute its gates as Keras's {_kind(cell).__name__} does, each by one call of "
            f"`recurrent_activation`. Received: layer {key!r}, whose {type(cell).__name__} made {len(gates)} such "
            f"calls instead of {len(names)}, and {len(squashed)} of `activation` instead of {applied}. "
            f"Leave it out with layers=[...], or subclass rnnkit.layers.{_kind(cell).__name__}, whose method `gates` "
            "names them."
        )


@contextmanager
def _method_captured(key, cell):
    """The same as `gates_of_step` for a cell that computes its gates in a method of its own."""
    results, names = [], _names(cell)

    def gates(*arguments):
        results.append(type(cell).gates(cell, *arguments))
        return results[-1]

    def result():
        if len(results) != 1 or not set(names) <= set(results[0]):
            received = f"made {len(results)} such calls" if len(results) != 1 else f"returned {', '.join(results[0])}"
            raise ValueError(
                "A cell must compute its gates by one call of its method `gates`, which returns those in its "
                f"`gate_names`. Received: layer {key!r}, whose {type(cell).__name__} {received}, with gate_names="
                f"{tuple(names)}. Leave it out with layers=[...]."
            )
        return {name: results[0][name] for name in names}

    with shadowed(cell, "gates", gates):
        yield result


# --- cells that compute their gates in a way of their own -----------------------------------------------------------


def orders(model, layers, x, training, needed, *, of_states=False):
    """Find the order in which cells with a computation of their own call their gates, by the equations of the gates.

    Args:
        model: a built Keras model.
        layers: `{key: layer}`, recurrent layers of it.
        x: inputs to run it on.
        training: whether it runs as in training.
        needed: function from a cell to whether it is asked about.
        of_states: whether the equation of c_t is enough, for what follows the states and not the gates.

    Returns:
        dict from the key of each such cell to the names of its gates, in the order of the calls.

    Raises:
        ValueError: if the equations do not hold for a cell, or do not tell its gates apart.
    """
    layers = {key: layer for key, layer in layers.items() if any(map(needed, _gated_cells(key, layer.cell).values()))}
    if not layers:
        return {}
    cells = {}

    def make(key, layer):
        asked = {name: cell for name, cell in _gated_cells(key, layer.cell).items() if needed(cell)}
        cells.update(asked)
        return RecordingLoop(layer, {name: _equation_capture(name, cell) for name, cell in asked.items()})

    def measure(values, x):
        with rnn_loop.replaced(layers, make) as replacement, _backend.scratch(values):
            model(x, training=training)
        captured = recorded(replacement)
        rnn_loop.require_reached(layers, captured)
        return captured

    found = _backend.compiled(model, measure)(x)
    return {key: _order(key, cells[key], values, of_states) for key, values in found.items()}


def has_own_computation(cell):
    """Tell whether the gates of a cell may be computed in another order, or way, than Keras's cells do."""
    return type(cell) not in _GATES and not isinstance(cell, _WITH_METHOD)


def has_own_step(cell):
    """Tell whether an LSTM cell may take a step in another way than Keras's or rnnkit's cells do."""
    if isinstance(cell, LSTMCell):
        return type(cell).call is not LSTMCell.call
    return isinstance(cell, keras.layers.LSTMCell) and type(cell) is not keras.layers.LSTMCell


def _equation_capture(key, cell):
    """Return a capture of all that the equations of a cell speak of."""
    sizes = keras.tree.flatten(cell.state_size)
    if isinstance(cell, _WITH_METHOD):
        widths = dict.fromkeys(_names(cell), cell.units)
    else:
        gates, applied = _GATES[_kind(cell)]
        widths = {f"gate_{n}": cell.units for n in range(len(gates))}
        widths |= {f"squashed_{n}": cell.units for n in range(applied)}
    widths |= {f"{when}_{n}": size for when in ("before", "after") for n, size in enumerate(sizes)}

    @contextmanager
    def capturing():
        states, call = [], cell.call

        def recording(inputs, before, **options):
            output, after = call(inputs, before, **options)
            states.extend([*keras.tree.flatten(before), *keras.tree.flatten(after)])
            return output, after

        with shadowed(cell, "call", recording):
            if isinstance(cell, _WITH_METHOD):
                with _method_captured(key, cell) as gates:
                    yield lambda: [*gates().values(), *states]
                return
            with _activations_captured(cell) as (gates, squashed):

                def result():
                    _require_calls(key, cell, gates, squashed)
                    return [*gates, *squashed, *states]

                yield result

    return _Capture(widths, capturing)


def _order(key, cell, values, of_states):
    """Return the names of a cell's gates in the order of the calls, the only one for which the equations hold."""
    epsilon = _EPSILON.get(cell.compute_dtype, _EPSILON["float32"])
    if isinstance(cell, _WITH_METHOD):
        names, kind = [name for name in _names(cell) if name != "candidate"], keras.layers.LSTMCell
        if _state_holds(kind, values, values, values["candidate"], epsilon):
            return names
        fitting = []
    else:
        kind = _kind(cell)
        calls = [values[f"gate_{n}"] for n in range(len(_GATES[kind][0]))]
        fitting = [
            order
            for order in permutations(_GATES[kind][0])
            if _state_holds(kind, dict(zip(order, calls, strict=True)), values, values["squashed_0"], epsilon)
        ]
        with_output = [
            order for order in fitting if _output_holds(kind, dict(zip(order, calls, strict=True)), values, epsilon)
        ]
        fitting = with_output or (fitting if of_states else [])
    if len(fitting) != 1:
        equation = _EQUATIONS[kind].partition(" and ")[0] if of_states else _EQUATIONS[kind]
        found = "for which more than one order of its gates does" if fitting else "which does not"
        other = (
            "make it a keras.Layer that is no subclass of it: its states are then measured as it hands them on."
            if of_states
            else f"subclass rnnkit.layers.{kind.__name__}, whose method `gates` names them."
        )
        raise ValueError(
            f"A subclass of {kind.__name__} must satisfy {equation} on the probe batch. "
            f"Received: layer {key!r} with a {type(cell).__name__}, {found}. Leave it out with layers=[...], or {other}"
        )
    return list(fitting[0])


def _state_holds(kind, gates, states, candidate, epsilon):
    """Tell whether the new state is the sum that the gates say, to rounding."""
    if kind is keras.layers.GRUCell:
        before, after, keep, write = states["before_0"], states["after_0"], gates["update"], 1 - gates["update"]
    else:
        before, after, keep, write = states["before_1"], states["after_1"], gates["forget"], gates["input"]
    if before.shape != candidate.shape:  # a projection, for instance
        return False
    kept, written = keep * before, write * candidate
    scale = sum(map(np.abs, (before, candidate, kept, written)))
    return _close(after, kept + written, 4 * epsilon * scale)


def _output_holds(kind, gates, values, epsilon):
    """Tell whether an LSTM's h is the output gate times what `activation` made of c, to rounding."""
    if kind is keras.layers.GRUCell:
        return True
    if values["after_0"].shape != gates["output"].shape:
        return False
    output = gates["output"] * values["squashed_1"]
    return _close(values["after_0"], output, 4 * epsilon * np.abs(output))


def _close(these, those, tolerance):
    """Tell whether arrays are as near as the tolerance says wherever they are numbers: masked steps are NaN."""
    difference = np.abs(these - those)
    return bool((np.isnan(difference) | (difference <= tolerance + 1e-35)).all())


# --- summing up ------------------------------------------------------------------------------------------------------


class GateStatistics(NamedTuple):
    """A gate at each time step, summed up over batch and units: arrays (time,), NaN where all its values are.

    Attributes:
        mean: of the values.
        low: their 10 % quantile.
        high: their 90 % quantile.
        closed: the fraction of values under 0.1.
        opened: the fraction of values over 0.9.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    closed: np.ndarray
    opened: np.ndarray


def statistics(values):
    """Sum up an array (batch, time, units) of gates as `GateStatistics`, leaving out NaN."""
    flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    count = np.count_nonzero(~np.isnan(flat), axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is nothing
        mean, closed, opened = (np.nansum(one, axis=1) / count for one in (flat, flat < LOW, flat > HIGH))
    ordered = np.sort(flat, axis=1)  # NaN last
    low, high = (_quantile(ordered, share * np.maximum(count - 1, 0)) for share in (LOW, HIGH))
    return GateStatistics(mean, low, high, closed, opened)


def _quantile(ordered, rank):
    """Return of each row the value at a rank, interpolated as `numpy.quantile` does (whose form for NaN is slow)."""
    below, above = (
        np.take_along_axis(ordered, rounded(rank).astype(int)[:, None], axis=1)[:, 0] for rounded in (np.floor, np.ceil)
    )
    return below + (above - below) * (rank % 1)
