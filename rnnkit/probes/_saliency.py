"""The gradient of an output with respect to what the model read at each position."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument.batch import as_batch
from rnnkit._instrument.checks import require_built
from rnnkit._instrument.model_loss import require_compiled, require_loss, spare_loss
from rnnkit._instrument.traversal import walk


def saliency(model, x, y=None, *, output=None, norm=True, training=False):
    """Measure how much an output, or the loss, depends on each position of the input, in one backward pass.

    Three things can be differentiated. With targets `y`: the loss the model was compiled with, a mean over the batch,
    so that one example's gradient carries a factor 1/batch. With `output`: that one unit, each example by itself.
    With neither: the only unit, or of several the largest one of each example, the class it predicts. A softmax mixes
    the classes (what lowers the others raises the one): for the score itself, as in Simonyan et al., end the model
    before it.

    The gradient is taken by the input. Where the input is the integers that an Embedding reads, it is taken by the
    embedded vectors. It says what a small change would do, not what leaving a position out would.

    Each call traces the model, so that it sees every change of it; to measure again and again, use `prepare_saliency`.

    Args:
        model: a built Keras model, recurrent or not; compiled if `y` is given.
        x: inputs (batch, time, ...), as for `model.predict`; of a data set, the inputs of its first batch.
        y: targets, as for `model.fit`.
        output: index of the unit of the output (batch, units) to differentiate; for an output (batch, time, units) a
            pair (time step, unit). Negative ones count from the end.
        norm: whether to return the norm of the gradient at each position or the gradient itself.
        training: whether the model runs as in training (dropout on) or as in inference.

    Returns:
        array (batch, time), the norm over the features of the gradient at each position; with `norm=False` the
        gradient (batch, time, features), of the shape of x or of the embedded vectors (those of several Embeddings
        that read the same input one after the other). Masked positions, which recurrent layers skip, are 0. For a
        model with several inputs: such arrays in the structure of x.

    Raises:
        ValueError: if the model is unbuilt, or uncompiled and `y` is given; if the output has no such unit, or several
            and `output` does not tell which; if x holds integers that no Embedding reads; if the batch is empty, not
            finite or of the wrong shape.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn"), keras.layers.Dense(1)])
        >>> rnnkit.probes.saliency(model, np.ones((8, 20, 2))).shape
        (8, 20)

    Source: Simonyan, Vedaldi & Zisserman (2013), "Deep inside convolutional networks", section 3, arXiv:1312.6034; for
    embedded words Li, Chen, Hovy & Jurafsky (2016), "Visualizing and understanding neural models in NLP",
    arXiv:1506.01066.
    """
    return prepare_saliency(model, x, y, output=output, norm=norm, training=training)()


def prepare_saliency(
    model: keras.Model,
    x,
    y=None,
    *,
    output: int | tuple[int, int] | None = None,
    norm: bool = True,
    training: bool = False,
    jit_compile: bool = False,
) -> Callable[..., np.ndarray]:
    """Prepare `saliency`, to be measured again and again while the weights change.

    `saliency` traces the model in each call. Here this is done once; after that, a call takes less than a training step
    of the same batch on TensorFlow, with XLA or without (64 units, batch of 64, 50 and 200 steps).

    Args:
        model: as for `saliency`.
        x: as for `saliency`.
        y: as for `saliency`.
        output: as for `saliency`.
        norm: as for `saliency`.
        training: as for `saliency`.
        jit_compile: whether TensorFlow has XLA compile the measurement: seconds, once. JAX compiles always, torch
            never.

    Returns:
        A function. Each call returns what `saliency` does, for the values that the model's weights have at that moment;
        called with a batch, `measure(x)` or `measure(x, y)`, for that one. What else has changed since (a layer, its
        activation, a new `compile`, weights added) it does not see: prepare it again then.

    Raises:
        ValueError: as `saliency`.

    Example:
        >>> measure = rnnkit.probes.prepare_saliency(model, x)
        >>> measure().shape
        (64, 10)
    """
    require_built(model)
    if y is not None and output is not None:
        raise ValueError(
            "Either the loss or one unit of the output can be differentiated. "
            f"Received: targets y and output={output!r}. Leave one of them out."
        )
    batch = as_batch(model, x, y)
    if y is None:  # those that a data set brings along are not asked for
        batch = batch._replace(y=None, sample_weight=None)
    else:
        require_compiled(model, y)
    x = batch.x
    readers = _readers(model, x)
    flat = keras.tree.flatten(x)
    left_out = {place for place, array in enumerate(flat) if array is None}  # of optional inputs
    embedded = set(readers.values())
    for place, array in enumerate(flat):
        if place in left_out:
            continue
        if array.dtype.kind in "SU":
            raise ValueError(
                "There is no gradient by words, only by the vectors that an Embedding makes of their numbers. "
                f"Received: x of type {array.dtype}. Pass the numbers, and the model from there on: "
                "keras.Model(model.get_layer(NAME).output, model.outputs), NAME the layer that makes numbers of words."
            )
        if place not in embedded and not keras.backend.is_float_dtype(keras.backend.standardize_dtype(array.dtype)):
            raise ValueError(
                "There is no gradient by integers, only by the vectors that an Embedding makes of them. "
                f"Received: x of type {array.dtype} and shape {array.shape}, which no keras.layers.Embedding of model "
                f"{model.name!r} reads as it is. If the model reads them as numbers, pass x.astype('float32')."
            )

    def gradients(values, x, y):
        def score(watch):
            taps = {}

            def tapped(place, reader, tensor):
                if (place, reader) not in taps:  # one vector, though it be read twice
                    dtype = keras.backend.standardize_dtype(tensor.dtype)
                    taps[place, reader] = watch((place, reader), ops.shape(tensor), dtype)
                return tensor + taps[place, reader]

            def move(reader, number, inputs, outputs):
                place = readers.get((reader, number))
                return outputs if place is None else tapped(place, reader, outputs)

            inputs = keras.tree.pack_sequence_as(
                x,
                [
                    array if place in embedded | left_out else tapped(place, "", array)
                    for place, array in enumerate(keras.tree.flatten(x))
                ],
            )
            with spare_loss(model), _embeddings(model, move), _backend.scratch(values):
                prediction = model(inputs, training=training)
                if y is not None:
                    require_loss(model)
                    return _backend.whole_batch(model.compute_loss(inputs, y, prediction))
                return ops.sum(_unit(model, prediction, output))

        parts = {}
        for (place, _), gradient in _backend.tap_gradients(score).items():
            parts.setdefault(place, []).append(gradient)
        whole = {place: ops.concatenate(part, axis=-1) for place, part in parts.items()}
        return {place: _norm(gradient) if norm else gradient for place, gradient in whole.items()}

    run = _backend.compiled(model, gradients, jit_compile)

    def measure(*other):
        found = run(*(as_batch(model, *other) if other else batch)[:2])
        return keras.tree.pack_sequence_as(x, [found.get(place) for place in range(len(flat))])

    return measure


def _norm(gradient):
    """Return the norm over all axes but the first two."""
    return _backend.norm(ops.reshape(gradient, (*ops.shape(gradient)[:2], -1)), axis=-1)


@contextmanager
def _embeddings(model, change):
    """While the block runs, let each call of an Embedding return `change(key, number of the call, inputs, outputs)`."""

    def changed(key, layer):
        call, numbers = layer.call, itertools.count()
        return lambda inputs: change(key, next(numbers), inputs, call(inputs))

    with ExitStack() as stack:
        for key, layer in _embedding_layers(model).items():
            stack.enter_context(shadowed(layer, "call", changed(key, layer)))
        yield


def _embedding_layers(model):
    return {key: layer for key, layer in walk(model) if isinstance(layer, keras.layers.Embedding)}


def _readers(model, x):
    """Find the Embeddings that read an input as it is, `{(key, number of the call): place of the input}`."""
    if not _embedding_layers(model):
        return {}

    def read(values, x):
        seen = {}

        def note(key, number, inputs, outputs):
            seen[f"{key} {number}"] = inputs
            return outputs

        with _embeddings(model, note), _backend.scratch(values):
            model(x, training=False)
        return seen

    found = {}
    for name, seen in _backend.compiled(model, read)(x).items():
        key, _, number = name.rpartition(" ")
        for place, array in enumerate(keras.tree.flatten(x)):
            if np.array_equal(seen, array):  # not a mere part of it, nor the positions
                found[key, int(number)] = place
    return found


def _unit(model, prediction, output):
    """Return one unit of each example's output, (batch,)."""
    if keras.tree.is_nested(prediction):
        raise ValueError(
            "One output can be differentiated at a time. "
            f"Received: model {model.name!r} with {len(keras.tree.flatten(prediction))} outputs and no targets y. "
            "Pass keras.Model(model.inputs, model.outputs[0]), or y for the loss of all."
        )
    shape = tuple(prediction.shape)
    if output is None and len(shape) <= 2:
        if len(shape) == 1 or shape[1] == 1:
            return prediction
        return ops.max(prediction, axis=-1)
    index = tuple(np.atleast_1d([] if output is None else output).tolist())
    fits = len(index) == len(shape) - 1 and all(
        isinstance(one, int) and not isinstance(one, bool) and (size is None or -size <= one < size)
        for one, size in zip(index, shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            "`output` is the place of one unit in each example's output: an index, or for an output (batch, time, "
            f"units) a pair (time step, unit). Received: output={output!r} for an output of shape {shape}. "
            f"Pass for instance output={0 if len(shape) == 2 else (-1,) + (0,) * (len(shape) - 2)}."
        )
    return prediction[(slice(None), *index)]
