"""The only place that knows which Keras backend runs: gradients, compiled functions, a look into the training step.

Each backend has a module of its own with the same functions:

- `compiled(model, function, jit_compile, once)`: a function of arrays made fast, which sees the weights of the moment;
- `tap_gradients(function)`, `vector_jacobian(function, inputs, cotangents)`: derivatives;
- `heard_zeros(variable, shape, dtype, hear)`: zeros that overhear somebody else's backward pass;
- `doubles(on)`: a scope in which float64 is to be had;
- `is_sparse(gradient)`, `rows(gradient)`, `dense(gradient)`, `replicas(model)`, `sum_over_replicas(tensors)`: what the
  optimizer is handed, as plain tensors;
- `whole_batch(loss)`: a loss as it is on one device;
- `stream_kept()`: a context after which the backend's own stream of random numbers is where it was;
- `StepRingBuffer`: rows of numbers that a compiled training step writes and Python reads later;
- `training_step(model, buffers)`: Keras's own training step, which may write into such buffers;
- `trace_scope()`: which graph, or branch of one, is being traced.
"""

import os
from contextlib import contextmanager

from rnnkit._backend._quiet import quiet_stderr

_BACKENDS = ("tensorflow", "jax", "torch")


def _require_known(name):
    if name not in _BACKENDS:
        raise ImportError(
            f"rnnkit measures gradients on Keras's backends {', '.join(_BACKENDS)}. "
            f"Received: KERAS_BACKEND={name!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported, and restart the kernel."
        )


# Asked before, since Keras fails on a backend that is not installed; and after, since a file can set it too.
_require_known(os.environ.get("KERAS_BACKEND", "tensorflow"))
with quiet_stderr():
    try:
        import keras
    except ImportError as error:
        raise ImportError(
            "rnnkit needs Keras and the backend that it runs on. "
            f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND', 'tensorflow')!r}, "
            f"with which `import keras` says: {error}. "
            'Install one of them, e.g. pip install "rnnkit[tensorflow]", or name in KERAS_BACKEND one that you have.'
        ) from error

    _require_known(keras.backend.backend())
    if keras.backend.backend() == "tensorflow":
        from rnnkit._backend.tensorflow import (
            GRADIENTS_MAY_BE_SPARSE,
            StepRingBuffer,
            compiled,
            dense,
            doubles,
            heard_zeros,
            is_sparse,
            replicas,
            rows,
            stream_kept,
            sum_over_replicas,
            tap_gradients,
            trace_scope,
            training_step,
            vector_jacobian,
            whole_batch,
        )
    elif keras.backend.backend() == "jax":
        from rnnkit._backend.jax import (
            GRADIENTS_MAY_BE_SPARSE,
            StepRingBuffer,
            compiled,
            dense,
            doubles,
            heard_zeros,
            is_sparse,
            replicas,
            rows,
            stream_kept,
            sum_over_replicas,
            tap_gradients,
            trace_scope,
            training_step,
            vector_jacobian,
            whole_batch,
        )
    else:
        from rnnkit._backend.torch import (
            GRADIENTS_MAY_BE_SPARSE,
            StepRingBuffer,
            compiled,
            dense,
            doubles,
            heard_zeros,
            is_sparse,
            replicas,
            rows,
            stream_kept,
            sum_over_replicas,
            tap_gradients,
            trace_scope,
            training_step,
            vector_jacobian,
            whole_batch,
        )

__all__ = [
    "GRADIENTS_MAY_BE_SPARSE",
    "StepRingBuffer",
    "compiled",
    "dense",
    "doubles",
    "heard_zeros",
    "is_sparse",
    "keras",
    "norm",
    "quiet_stderr",
    "replicas",
    "rows",
    "scratch",
    "stream_kept",
    "sum_over_replicas",
    "tap_gradients",
    "trace_scope",
    "training_step",
    "vector_jacobian",
    "whole_batch",
]

ops = keras.ops


@contextmanager
def scratch(values=()):
    """Open a scope for one forward pass: variables have the given values, and what is assigned to them is dropped.

    Random numbers drawn there are drawn again by whoever comes next.

    Args:
        values: list of (variable, tensor); other variables have their own value.
    """
    # Losses that layers add (activity regularizers) count; variables made on the way are started outside the graph.
    stateless = keras.StatelessScope(state_mapping=list(values), collect_losses=True, initialize_variables=False)
    with stream_kept(), stateless:
        yield


def norm(tensor, axis=None):
    """Return the Euclidean norm in float32 or better, exact too where squares alone would underflow or overflow."""
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        tensor = ops.cast(tensor, "float32")
    largest = ops.max(ops.abs(tensor), axis=axis, keepdims=True)
    scale = ops.where(ops.logical_and(ops.isfinite(largest), largest > 0), largest, ops.ones_like(largest))
    total = ops.sqrt(ops.sum(ops.square(tensor / scale), axis=axis, keepdims=True)) * scale
    return ops.squeeze(total, axis=axis)
