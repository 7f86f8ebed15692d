"""A probe batch: whatever `fit` takes as x, y and sample_weight, made NumPy arrays once and checked against a model."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from rnnkit._backend import keras
from rnnkit._instrument.checks import fixed_batch_size, require_built


class Batch(NamedTuple):
    """One batch of examples, in the structure in which it was passed; each leaf is a NumPy array or None."""

    x: object
    y: object = None
    sample_weight: object = None


def as_batch(model, x, y=None, sample_weight=None) -> Batch:
    """Return a probe batch as NumPy arrays, checked against the model; of a data set, its first batch.

    Args:
        model: a built Keras model.
        x: inputs, as for `model.fit`: arrays, tensors of any framework, pandas objects, a list or dict of them, or a
            `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader`, which brings its own targets and weights.
        y: targets, or None.
        sample_weight: weights of the examples, or None.

    Raises:
        ValueError: if the batch is empty, not finite, not numbers, or of another shape than the model reads.
    """
    require_built(model)
    if _is_data_set(x):
        if y is not None or sample_weight is not None:
            raise ValueError(
                "A probe batch from a data set has the targets and weights of the data set. "
                f"Received: y or sample_weight beside a {type(x).__name__}. Leave them out."
            )
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(_first_batch(x))
    batch = Batch(*(keras.tree.map_structure(_as_array, part) for part in (x, y, sample_weight)))
    _require_arrays(model, batch)
    _require_shapes(model, batch.x)
    _require_sizes(model, batch)
    _require_sample_weight(batch)
    return batch


def _is_data_set(x):
    """Tell whether x hands out batches, rather than being one."""
    is_array = hasattr(x, "__array__") or isinstance(x, (str, bytes, list, tuple, dict))
    return isinstance(x, keras.utils.PyDataset) or (isinstance(x, Iterable) and not is_array and not _is_ragged(x))


def _first_batch(data):
    """Return the first batch of a data set."""
    if isinstance(data, Iterator):
        raise ValueError(
            "A probe batch is read without taking it from training, which an iterator does not allow. "
            f"Received: a {type(data).__name__}. Pass arrays: x, y = next(...) of a second one like it."
        )
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    with _draws_undone(data):
        return next(iter(data))


@contextmanager
def _draws_undone(data):
    """Let a torch DataLoader draw the same order next time, so that training reads the examples as it would have."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(data, torch.utils.data.DataLoader):
        yield
        return
    own = data.generator.get_state() if data.generator is not None else None
    with torch.random.fork_rng():
        yield
    if own is not None:
        data.generator.set_state(own)


def _is_ragged(tensor):
    """Tell whether a tensor is a `tf.RaggedTensor`."""
    return hasattr(tensor, "ragged_rank")


def _as_array(leaf):
    """Return one array, tensor or pandas object as a NumPy array; None stays None."""
    if leaf is None:
        return None
    if _is_ragged(leaf):
        raise ValueError(
            "A probe batch must be an array in which all sequences have one length. "
            f"Received: a {type(leaf).__name__}. Pad it with x.to_tensor(), and mask the padding as in training."
        )
    if hasattr(leaf, "to_frame") and getattr(leaf, "ndim", None) == 1:  # a pandas Series is one column to `fit`
        leaf = leaf.to_frame()
    if hasattr(leaf, "detach"):  # a torch tensor, which NumPy cannot read from a GPU or while it records gradients
        leaf = leaf.detach().cpu()
    array = keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else np.asarray(leaf)
    if array.dtype == object and array.size and all(isinstance(entry, (str, bytes)) for entry in array.flat):
        return np.array(array.tolist())
    return array


def _arrays(data):
    return [array for array in keras.tree.flatten(data) if array is not None]


def _inputs(model, x):
    """Pair each array with the input of the model that reads it, as `fit` does; with None where none is declared.

    The arrays of a dict, nested or not, are found by the names of the inputs, whatever their order, and others are left
    aside. An optional input may have None.
    """
    declared = getattr(model, "inputs", None) or []  # a subclassed model declares none
    names = [tensor.name for tensor in declared]
    named = {path[-1]: array for path, array in keras.tree.flatten_with_path(x)} if isinstance(x, dict) else {}
    if declared and set(names) <= set(named):
        pairs = [(named[name], tensor) for name, tensor in zip(names, declared, strict=True)]
        return [(array, tensor) for array, tensor in pairs if array is not None]
    arrays = _arrays(x)
    if declared and isinstance(x, dict) and len(arrays) != len(declared):
        raise ValueError(
            f"A probe batch must have an array for each of the model's {len(declared)} inputs, {names}. "
            f"Received: a dict with {list(x)}. Name its arrays as the inputs are named."
        )
    if declared and len(arrays) != len(declared):
        raise ValueError(
            f"A probe batch must have an array for each of the model's {len(declared)} inputs, "
            f"{[tuple(tensor.shape) for tensor in declared]}. "
            f"Received: {len(arrays)}, of shapes {[array.shape for array in arrays][:5]}. "
            "Pass NumPy arrays, several as a list; a nested list of numbers counts as that many inputs."
        )
    return list(zip(arrays, declared or [None] * len(arrays), strict=True))


def _require_arrays(model, batch):
    """Raise unless the arrays hold finite numbers, or words where the model reads words."""
    declared = getattr(model, "inputs", None) or []
    reads_words = not declared or any(tensor.dtype == "string" for tensor in declared)
    words = "SU" if reads_words and keras.backend.backend() == "tensorflow" else ""  # elsewhere Keras reads none
    read = [array for array, _ in _inputs(model, batch.x)] if isinstance(batch.x, dict) else _arrays(batch.x)
    if not read:
        raise ValueError(
            "A probe batch must hold at least one example and one time step. "
            f"Received: x={batch.x!r}. Pass for instance x[:64], y[:64]."
        )
    for array, words_too in [*((array, words) for array in read), *((array, "") for array in _arrays(batch.y))]:
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


def _require_shapes(model, x):
    """Raise unless each array has the shape of the input that reads it."""
    for array, tensor in _inputs(model, x):
        if tensor is None:
            continue
        # The first axis is the batch, of any size: Sequential.build(x.shape) notes the size it happened to see.
        expected = (None, *tensor.shape[1:])
        if not _fits(array.shape, expected):
            raise ValueError(
                f"A probe batch must have the shape of the model's input, {expected} (None: any size). "
                f"Received: shape {array.shape}. "
                "Add the missing axis (x[:1] keeps the batch axis, x[0] drops it) or check the number of features."
            )


def _fits(shape, expected):
    """Tell whether a shape is the expected one, give or take a last axis of size 1, which Keras adds or drops."""
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        shape = (*shape, 1)
    elif len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == len(expected) and all(want in (None, got) for want, got in zip(expected, shape, strict=True))


def _require_sizes(model, batch):
    """Raise unless x and y have the same number of examples, in a stateful model as many as it was built for."""
    shapes = [array.shape for array in _arrays(batch.x) + _arrays(batch.y)]
    sizes = {shape[0] for shape in shapes}
    if len(sizes) > 1:
        raise ValueError(
            "The arrays of a probe batch must have the same number of examples. "
            f"Received: shapes {shapes}. Slice x and y alike."
        )
    fixed = fixed_batch_size(model)
    if fixed is not None and sizes != {fixed}:
        raise ValueError(
            f"A probe batch of a stateful model must have the fixed batch size that the model was built with, {fixed}. "
            f"Received: {sizes.pop()} examples. Pass x[:{fixed}], y[:{fixed}]."
        )


def _require_sample_weight(batch):
    """Raise unless the weights of the examples are finite numbers, as many as there are examples."""
    examples = len(_arrays(batch.x)[0])
    for weights in _arrays(batch.sample_weight):
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


def _holds_numbers(array):
    """Tell whether an array is of real numbers: of NumPy's kinds, or bfloat16 and its like, which NumPy calls void."""
    return array.dtype.kind in "biuf" or (array.dtype.kind == "V" and array.dtype.type is not np.void)
