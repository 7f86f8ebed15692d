"""Run a model in another precision than its own for a while, on the same weights."""

from contextlib import ExitStack, contextmanager, nullcontext

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument.traversal import walk


def require_known(model, dtype):
    """Raise unless a model can be run in `dtype`: None for its own precision, or "float64"."""
    if dtype not in (None, "float64"):
        raise ValueError(
            "`dtype` must be None, for the precision that the model computes in, or 'float64'. "
            f"Received: dtype={dtype!r}. Pass dtype='float64' to see what underflows in float32."
        )
    for key, layer in walk(model) if dtype else ():
        if layer.dtype_policy.quantization_mode is not None:
            raise ValueError(
                "A model can be run in float64 if its weights are floating point numbers. "
                f"Received: layer {key!r}, quantized to {layer.dtype_policy.quantization_mode}. "
                "Measure the model as it was before model.quantize(...), or leave dtype out."
            )


def compiled(model, function, dtype, jit_compile=False):
    """Do as `_backend.compiled`, for a function that runs the model inside of `computing(model, dtype)`."""
    run = _backend.compiled(model, function, jit_compile)

    def in_dtype(*arrays):
        with nullcontext() if dtype is None else _backend.doubles():
            return run(*arrays)

    return in_dtype


@contextmanager
def computing(model, dtype):
    """While the block runs, let all layers of a model, and its losses, compute in `dtype`; None leaves them alone.

    It is Keras's own road to mixed precision, taken upwards: weights stay what they are, and are cast as they are read.
    """
    with ExitStack() as stack:
        for layer in [model, *(layer for _, layer in walk(model))] if dtype else ():
            if keras.backend.is_float_dtype(layer.compute_dtype):  # not where it is words, for instance
                for thing, name, value in _changes(layer, dtype):
                    stack.enter_context(shadowed(thing, name, value))
        if dtype:
            if model._compile_loss is not None:
                stack.enter_context(shadowed(model._compile_loss, "call", _loss(model._compile_loss, dtype)))
            add = model._aggregate_additional_loss  # for regularizers, which see the weights as they are
            stack.enter_context(shadowed(model, "_aggregate_additional_loss", lambda loss: ops.cast(add(loss), dtype)))
        yield


class _Policy(keras.DTypePolicy):
    """Compute in one precision with weights of another."""

    def __init__(self, compute_dtype, variable_dtype):
        super().__init__(compute_dtype)
        self._held = variable_dtype

    @property
    def variable_dtype(self):
        return self._held


def _changes(layer, dtype):
    """Yield `(object, attribute, value)` for all that makes a layer compute in `dtype`."""
    own = layer.compute_dtype
    yield layer, "_dtype_policy", _Policy(dtype, layer.variable_dtype)
    # A model casts what it reads to the type of its Input.
    inputs = getattr(layer, "inputs", None) or [] if isinstance(layer, keras.Model) else []
    for thing in [*inputs, layer] if isinstance(layer, keras.layers.InputLayer) else inputs:
        if keras.backend.is_float_dtype(thing.dtype):
            yield thing, "_dtype", dtype
    # Which units are dropped depends on the type in which the draw is made: let it be the layer's own.
    if isinstance(layer, keras.layers.Dropout):
        yield layer, "call", _dropout(layer, own)
    for kind in ("dropout", "recurrent_dropout"):
        if hasattr(layer, f"get_{kind}_mask") and getattr(layer, kind):
            yield layer, f"get_{kind}_mask", _cell_mask(layer, kind, own)


def _dropout(layer, own):
    call = layer.call

    def dropout(inputs, *args, **settings):
        ones = ops.ones_like(inputs, dtype=own)
        with _backend.doubles(own == "float64"):
            drawn = call(ones, *args, **settings)
        return inputs if drawn is ones else inputs * _scaled(drawn, layer.rate, inputs.dtype)

    return dropout


def _cell_mask(cell, kind, own):
    get, rate = getattr(cell, f"get_{kind}_mask"), getattr(cell, kind)

    def mask(step_input):
        narrow = ops.cast(step_input, own)
        with _backend.doubles(own == "float64"):
            drawn = get(narrow)
        return keras.tree.map_structure(lambda one: _scaled(one, rate, step_input.dtype), drawn)

    return mask


def _scaled(drawn, rate, dtype):
    """Return a dropout mask whose factor is exact in `dtype` too."""
    return ops.cast(ops.not_equal(drawn, 0), dtype) / (1 - rate or 1)


def _loss(compile_loss, dtype):
    call = compile_loss.call

    def loss(*tensors):
        if not compile_loss.built:
            call(*tensors)  # Keras makes its loss objects when it first needs them
        with ExitStack() as stack:
            for one in [compile_loss, *(part.loss for part in compile_loss._flat_losses)]:
                stack.enter_context(shadowed(one, "_dtype", dtype))
            return call(*tensors)

    return loss
