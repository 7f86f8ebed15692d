"""A recurrent layer's loop over time, with something else in its place while a measurement runs."""

import collections
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace

from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed


class Replacement:
    """What stands in for the loops over time of some layers while `replaced` runs its block.

    A loop is made for each call of a layer, for a shared layer has states of its own in each: the second call's key is
    `key/call_2`, and so on, until another forward pass starts.

    Args:
        make: function from the key and the layer to the loop of one call, itself called as
            `loop(sequences, initial_state, mask, training)`.

    Attributes:
        loops: `{key: loop}`, those made in this forward pass.
        first_error: the first exception that a loop raised, or None.
    """

    def __init__(self, make):
        self.loops = {}
        self.first_error = None
        self._make = make
        self._calls = collections.Counter()

    def start_forward_pass(self):
        """Count the calls of each layer anew: the model is about to run once more."""
        self.loops.clear()
        self._calls.clear()

    def inner_loop(self, key, layer, sequences, initial_state, mask, training=False):
        """Called by Keras as the layer's own `inner_loop`, once in each call of the layer."""
        self._calls[key] += 1
        name = key if self._calls[key] == 1 else f"{key}/call_{self._calls[key]}"
        try:
            _require_followable(key, layer, sequences)
            self.loops[name] = self._make(name, layer)
            return self.loops[name](sequences, initial_state, mask, training)
        except Exception as error:
            if self.first_error is None:
                self.first_error = error
            raise


@contextmanager
def replaced(layers, make):
    """While the block runs, replace each layer's loop over time by those of a `Replacement`; leave nothing behind.

    `inner_loop` is the one place that every Keras RNN (SimpleRNN, GRU and LSTM with their fused kernels too) passes
    through once its inputs, mask and initial state are known.

    Args:
        layers: `{key: layer}`.
        make: as for `Replacement`, which the block is given.
    """
    replacement = Replacement(make)
    with ExitStack() as stack:
        for key, layer in layers.items():
            stack.enter_context(shadowed(layer, "inner_loop", partial(replacement.inner_loop, key, layer)))
            stack.callback(forget_dropout_masks, layer.cell)  # a layer that raises keeps them
        try:
            yield replacement
        except Exception:
            if replacement.first_error is not None:
                # As it was, without what Keras adds to errors in a layer's call.
                raise replacement.first_error from None
            raise


def keras_loop(layer, step, sequences, initial_state, mask, **settings):
    """Run Keras's loop over time with a step of one's own, without making that step a part of the layer.

    It is an unbound call of `keras.layers.RNN.inner_loop` with a stand-in self: an object that has the few attributes
    which that method reads, and as its cell, `step`.

    Args:
        layer: an RNN layer, whose own settings hold, but for those given.
        step: called by Keras as `step(inputs, states)` at every time step, or where these are traced, once; returns
            the output and the list of new states.
        sequences: tensor (batch, time, features).
        initial_state: list of tensors.
        mask: of the sequences, (batch, time), or None.
        **settings: attributes of `layer` to replace.

    Returns:
        the last output, all outputs (batch, time, units), and the list of last states.
    """
    names = ("go_backwards", "unroll", "zero_output_for_mask", "return_sequences", "stateful")
    settings = {name: getattr(layer, name) for name in names} | settings
    mask = keras.tree.flatten(mask)[0] if mask is not None else None
    return keras.layers.RNN.inner_loop(SimpleNamespace(cell=step, **settings), sequences, initial_state, mask)


def each_cell(cell):
    """Yield the cells of a stack in their order, those of a stack in it too; of any other cell, itself."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        yield cell
        return
    for one in cell.cells:
        yield from each_cell(one)


def named_cells(key, cell):
    """Return `{key: cell}`: the cells of a stack are called `key/cell_0`, `key/cell_1`...; one cell, `key`."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        return {key: cell}
    parts = [named_cells(f"{key}/cell_{place}", one) for place, one in enumerate(cell.cells)]
    return {name: one for part in parts for name, one in part.items()}


def forget_dropout_masks(cell):
    """Let a cell draw new masks when it next runs, as Keras does at the end of a layer's call."""
    for one in each_cell(cell):
        if hasattr(one, "reset_dropout_mask"):
            one.reset_dropout_mask()
            one.reset_recurrent_dropout_mask()


def require_reached(layers, measured):
    """Raise unless each layer, by its key, was run: its key, or one of a cell of its own, is among those measured."""
    for key in layers:
        if not any(name == key or name.startswith(f"{key}/cell_") for name in measured):
            raise ValueError(
                "A recurrent layer must be reached by the model's own call, through keras.layers.RNN.call. "
                f"Received: layer {key!r}, which the forward pass did not run. Leave it out with layers=[...]."
            )


def _require_followable(key, layer, sequences):
    """Raise unless the states of a layer can be followed by a loop over time that stands in for its own."""
    if len(sequences.shape) != 3:
        raise ValueError(
            "States can be followed in a layer that reads (batch, time, features). "
            f"Received: layer {key!r}, whose input has the shape {tuple(sequences.shape)}. "
            "Leave it out with layers=[...]."
        )
    if not type(layer).inner_loop.__module__.startswith("keras."):
        raise ValueError(
            "States can be followed in a layer that runs its cell in Keras's own loop over time. "
            f"Received: layer {key!r}, whose {type(layer).__name__} overrides inner_loop. "
            "Leave it out with layers=[...], or put the computation into a cell, for keras.layers.RNN(cell)."
        )
