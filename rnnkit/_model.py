"""What is inside a model: its layers and weights under the names their owner knows, and errors about them."""

import difflib
from collections.abc import Iterable
from contextlib import contextmanager

import numpy as np

from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed


def sublayers(layer):
    """Yield `(name, layer)` for the layers held directly by a layer or model, in the order of their creation."""
    if isinstance(layer, keras.layers.StackedRNNCells):
        # Cells are named by Keras with a running number; their place in the stack is what the reader knows.
        yield from ((f"cell_{place}", cell) for place, cell in enumerate(layer.cells))
        return
    held = list(layer.layers) if isinstance(layer, keras.Model) else []
    for value in vars(layer).values():
        held += value if isinstance(value, (list, tuple)) else [value]
    seen = set()
    for item in held:
        if isinstance(item, keras.Layer) and id(item) not in seen:
            seen.add(id(item))
            yield item.name, item


def walk(layer, prefix=""):
    """Yield `(key, layer)` for every layer below `layer`, depth first; each layer once, each key once."""
    seen, keys = {id(layer)}, set()

    def visit(parent, prefix):
        for name, child in sublayers(parent):
            if id(child) in seen:
                continue
            seen.add(id(child))
            # An RNN and its one cell are the same thing to the reader: lstm/kernel, not lstm/lstm_cell/kernel. So are a
            # connection and the layer that it goes round: block/kernel, not block/dense_7/kernel.
            cell_of_rnn = isinstance(parent, keras.layers.RNN) and child is parent.cell
            same_thing = cell_of_rnn or child is getattr(parent, "goes_by_my_name", None)
            key = prefix if same_thing else unused(prefix + name)
            yield key.removesuffix("/"), child
            yield from visit(child, key.removesuffix("/") + "/")

    def unused(key):
        candidate, count = key, 1
        while candidate in keys:
            count += 1
            candidate = f"{key}_{count}"
        keys.add(candidate)
        return candidate

    yield from visit(layer, prefix)


def weight_keys(model):
    """Return `{key: variable}` for the trainable weights of a model, keyed `layer/weight`."""
    keys, seen = {}, set()
    for prefix, layer in [*walk(model), ("", model)]:
        nested = {id(variable) for _, child in sublayers(layer) for variable in child.trainable_variables}
        for variable in layer.trainable_variables:
            if id(variable) in nested or id(variable) in seen:
                continue
            seen.add(id(variable))
            key = f"{prefix}/{variable.name}".removeprefix("/")
            while key in keys:
                key += "_2"
            keys[key] = variable
    trained = {id(variable) for variable in model.trainable_variables}
    return {key: variable for key, variable in keys.items() if id(variable) in trained}


def recurrent_layers(model, names=None):
    """Return `{key: layer}` for the recurrent layers of a model, or for those that `names` asks for.

    Raises:
        ValueError: if the model has no recurrent layer, or a name is unknown.
    """
    require_built(model)
    found = {key: layer for key, layer in walk(model) if isinstance(layer, keras.layers.RNN)}
    if not found:
        raise ValueError(
            "A recurrent layer (keras.layers.SimpleRNN, GRU, LSTM or RNN) is needed to follow a state through time. "
            f"Received: model {model.name!r} with the layers {[layer.name for layer in model.layers]}. "
            "For the gradients of other layers use rnnkit.GradientRecorder."
        )
    if names is None:
        return found
    names = as_names("recurrent layer", names, found)
    if not names:
        raise ValueError(f"A layer at least is to be measured, of {list(found)}. Received: none. Leave out `layers`.")
    return {name: found[name] for name in names}


def only_recurrent_layer(model, name):
    """Return the recurrent layer called `name`, or the only one there is when `name` is None."""
    found = recurrent_layers(model, name)
    if len(found) > 1:
        raise ValueError(
            "One recurrent layer can be measured at a time. "
            f"Received: layer=None for a model with {list(found)}. Name one of them, e.g. layer={next(iter(found))!r}."
        )
    return next(iter(found.values()))


def as_names(what, names, known):
    """Return one name, or several, as a list; raise ValueError if one is not among those known."""
    names = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(unknown_name(what, name, known))
    return names


def unknown_name(what, name, known):
    """Say that a name is unknown, which there are, and which was perhaps meant."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"A {what} must be one of {list(known)}. Received: {name!r}.{hint}"


def require_built(model):
    """Raise unless `model` is a Keras model whose weights exist."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "A Keras model is needed. "
            f"Received: {model!r} of type {type(model).__name__}. Pass a keras.Model, e.g. keras.Sequential([...])."
        )
    if not model.built:
        raise ValueError(
            "A model must be built before it can be measured: until then it has no weights. "
            f"Received: the unbuilt model {model.name!r}. "
            "Start it with keras.Input((None, features)), or call it once on a batch."
        )


def require_loss(model):
    """Raise unless a model was compiled with a loss."""
    if not model.compiled or model.loss is None:
        raise ValueError(
            "A model must be compiled with a loss before its gradients can be measured. "
            f'Received: model {model.name!r} without one. Call for instance model.compile(loss="mse").'
        )


@contextmanager
def spare_loss(model):
    """While the block runs, let a model whose loss is not built yet compute another one like it.

    On torch the first `fit` of a model draws random numbers if it has to build the loss: after a probe too, it shall.
    """
    used = model._compile_loss
    if used is not None and not used.built:
        used = type(used)(used._user_loss, used._user_loss_weights, used.reduction, used.output_names)
    with shadowed(model, "_compile_loss", used):
        yield


def require_batch(model, x, y=None):
    """Check a probe batch against a model; raise the rule, what was received, and what to do.

    Args:
        model: a built Keras model.
        x: input array (batch, ...), or a list or dict of them.
        y: targets with the same first axis, or None.
    """
    inputs = _arrays(x)
    targets = _arrays(y) if y is not None else []
    declared = getattr(model, "inputs", None) or []
    words = "SU" if not declared or any(tensor.dtype == "string" for tensor in declared) else ""
    for array, words_too in [*((array, words) for array in inputs), *((array, "") for array in targets)]:
        if array.dtype == object:
            raise ValueError(
                "A probe batch must be an array of numbers. Received: an array of Python objects of shape "
                f"{array.shape}. Pad the sequences to one length, e.g. with keras.utils.pad_sequences."
            )
        if not _holds_numbers(array) and array.dtype.kind not in words_too:
            raise ValueError(
                f"A probe batch must be an array of numbers. Received: type {array.dtype}, shape {array.shape}. "
                "Turn words into numbers before, and take complex numbers apart."
            )
        if array.ndim == 0 or 0 in array.shape:
            raise ValueError(
                "A probe batch must hold at least one example and one time step. "
                f"Received: shape {array.shape}. Pass for instance x[:64], y[:64]."
            )
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise ValueError(
                "A probe batch must be finite: one NaN makes every gradient NaN. "
                f"Received: {np.count_nonzero(~np.isfinite(array))} NaN or infinite values in shape {array.shape}. "
                "Find them with numpy.argwhere(~numpy.isfinite(x))."
            )
    shapes = _input_shapes(model)
    if shapes and len(inputs) != len(shapes) and not isinstance(x, dict):  # of a dict Keras takes what it needs
        raise ValueError(
            f"A probe batch must have an array for each of the model's {len(shapes)} inputs, {shapes}. "
            f"Received: {len(inputs)}, of shapes {[array.shape for array in inputs][:5]}. "
            "Pass NumPy arrays, several as a list; a nested list of numbers counts as that many inputs."
        )
    for array, expected in zip(inputs, shapes, strict=False):
        # The first axis is the batch, of any size: Sequential.build(x.shape) notes the size it happened to see.
        expected = (None, *expected[1:])
        fits = len(array.shape) == len(expected) and all(
            want in (None, got) for want, got in zip(expected, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"A probe batch must have the shape of the model's input, {expected} (None: any size). "
                f"Received: shape {array.shape}. "
                "Add the missing axis (x[:1] keeps the batch axis, x[0] drops it) or check the number of features."
            )
    sizes = {len(array) for array in inputs + targets}
    if len(sizes) > 1:
        raise ValueError(
            "The arrays of a probe batch must have the same number of examples. "
            f"Received: shapes {[array.shape for array in inputs + targets]}. Slice x and y alike."
        )


def require_sample_weight(x, sample_weight):
    """Check the weights of a probe batch's examples, as `require_batch` does; None are none."""
    examples = len(_arrays(x)[0])
    for weights in _arrays(sample_weight) if sample_weight is not None else []:
        if not _holds_numbers(weights) or weights.ndim == 0 or len(weights) != examples:
            raise ValueError(
                f"Sample weights are numbers, one or a row of them for each of the {examples} examples. "
                f"Received: type {weights.dtype}, shape {weights.shape}. Slice them as x and y."
            )
        if weights.dtype.kind == "f" and not np.isfinite(weights).all():
            raise ValueError(
                "Sample weights must be finite: one NaN makes every gradient NaN. "
                f"Received: {np.count_nonzero(~np.isfinite(weights))} NaN or infinite ones. Replace them by 0."
            )


def _arrays(data):
    return [np.asarray(array) for array in keras.tree.flatten(data)]


def _holds_numbers(array):
    """Whether an array is of real numbers: of a kind of NumPy's, or bfloat16 and its like, which NumPy calls void."""
    return array.dtype.kind in "biuf" or (array.dtype.kind == "V" and array.dtype.type is not np.void)


def _input_shapes(model):
    inputs = getattr(model, "inputs", None)  # a subclassed model declares none
    return [tuple(tensor.shape) for tensor in inputs or []]
