"""The only place that knows which Keras backend runs: gradients, compiled functions, a look into the training step.

`interface.Backend` says what there is. Each backend has a module of its own that offers it, and what is asked of this
package, such as `_backend.compiled`, is that of the backend that runs. Keras itself is imported through here, so that
a backend that will not do is answered with the next step.
"""

import os
from contextlib import contextmanager
from importlib import import_module

from rnnkit._backend._quiet import quiet_stderr
from rnnkit._backend.interface import Backend

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
    _running: Backend = import_module(f"rnnkit._backend.{keras.backend.backend()}")

ops = keras.ops


def __getattr__(name):
    return getattr(_running, name)


@contextmanager
def scratch(values=()):
    """Open a scope for one forward pass: variables have the given values, and what is assigned to them is dropped.

    Random numbers drawn there are drawn again by whoever comes next.

    Args:
        values: list of (variable, tensor); other variables have their own value.
    """
    # Losses that layers add (activity regularizers) count; variables made on the way are started outside the graph.
    stateless = keras.StatelessScope(state_mapping=list(values), collect_losses=True, initialize_variables=False)
    with _running.stream_kept(), stateless:
        yield


def norm(tensor, axis=None):
    """Return the Euclidean norm in float32 or better, exact too where squares alone would underflow or overflow."""
    if keras.backend.standardize_dtype(tensor.dtype) != "float64":
        tensor = ops.cast(tensor, "float32")
    largest = ops.max(ops.abs(tensor), axis=axis, keepdims=True)
    scale = ops.where(ops.logical_and(ops.isfinite(largest), largest > 0), largest, ops.ones_like(largest))
    total = ops.sqrt(ops.sum(ops.square(tensor / scale), axis=axis, keepdims=True)) * scale
    return ops.squeeze(total, axis=axis)
