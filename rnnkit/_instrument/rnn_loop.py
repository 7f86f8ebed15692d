"""A recurrent layer's loop over time, with something else in its place while a measurement runs."""

import collections
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed


@contextmanager
def replaced(layers, make):
    """While the block runs, replace each layer's loop over time by `make(key, layer)`; leave nothing behind.

    A loop is made for each call of a layer, for a shared layer has states of its own in each: the second call's key is
    `key/call_2`, and so on. Gives the dict that counts them; clear it before the model runs once more.

    `inner_loop` is the one place that every Keras RNN (SimpleRNN, GRU and LSTM with their fused kernels too) passes
    through once its inputs, mask and initial state are known.
    """
    raised = []
    calls = collections.Counter()

    def guarded(key, layer):
        def inner_loop(sequences, initial_state, mask, training=False):
            calls[key] += 1
            try:
                _require_followable(key, layer, sequences)
                loop = make(key if calls[key] == 1 else f"{key}/call_{calls[key]}", layer)
                return loop(sequences, initial_state, mask, training)
            except Exception as error:
                raised.append(error)
                raise

        return inner_loop

    with ExitStack() as stack:
        for key, layer in layers.items():
            stack.enter_context(shadowed(layer, "inner_loop", guarded(key, layer)))
            stack.callback(forget_dropout_masks, layer.cell)  # a layer that raises keeps them
        try:
            yield calls
        except Exception:
            if raised:
                raise raised[0] from None  # as it was, without what Keras adds to errors in a layer's call
            raise


def keras_loop(layer, cell, sequences, initial_state, mask, **settings):
    """Run `keras.layers.RNN.inner_loop` with another cell, without making that cell a part of the layer.

    The layer's own settings hold, but for those given.
    """
    names = ("go_backwards", "unroll", "zero_output_for_mask", "return_sequences", "stateful")
    settings = {name: getattr(layer, name) for name in names} | settings
    mask = keras.tree.flatten(mask)[0] if mask is not None else None
    return keras.layers.RNN.inner_loop(SimpleNamespace(cell=cell, **settings), sequences, initial_state, mask)


def cells(key, cell):
    """Return `{key: cell}`: the cells of a stack are called `key/cell_0`, `key/cell_1`...; one cell, `key`."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        return {key: cell}
    found = [cells(f"{key}/cell_{place}", one) for place, one in enumerate(cell.cells)]
    return {key: one for part in found for key, one in part.items()}


def forget_dropout_masks(cell):
    """Let a cell draw new masks when it next runs, as Keras does at the end of a layer's call."""
    for one in cells("", cell).values():
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
