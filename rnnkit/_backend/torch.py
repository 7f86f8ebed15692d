"""What rnnkit needs of torch, which runs each operation at once."""

import keras
import torch

from rnnkit._backend._defaults import *  # noqa: F403  (what is not defined anew below)
from rnnkit._backend._deferred import initialize_deferred_variables
from rnnkit._backend._promotion import float64_kept

ops = keras.ops


def stream_kept():
    """Keep torch's own stream, from which dropout draws."""
    return torch.random.fork_rng()


def compiled(model, function, jit_compile=False, once=False):
    """Leave the function as it is: torch.compile takes longer than most measurements."""

    def run(*arrays):
        arrays = keras.tree.map_structure(lambda array: None if array is None else ops.convert_to_tensor(array), arrays)
        values = [(variable, variable.value) for variable in model.variables]
        result = keras.tree.map_structure(ops.convert_to_numpy, function(values, *arrays))
        initialize_deferred_variables()
        return result

    return run


def tap_gradients(function):
    """Have autograd differentiate by leaves made of the zeros."""
    taps = {}

    def watch(key, shape, dtype):
        taps[key] = ops.zeros(shape, dtype).requires_grad_()
        return taps[key]

    with torch.enable_grad():
        value = function(watch)
    if not value.requires_grad:  # the scalar depends on none of them, nor on any weight
        return {key: torch.zeros_like(tap) for key, tap in taps.items()}
    gradients = torch.autograd.grad(value, list(taps.values()), allow_unused=True)
    return {
        key: torch.zeros_like(tap) if gradient is None else gradient
        for (key, tap), gradient in zip(taps.items(), gradients, strict=True)
    }


def heard_zeros(variable, shape, dtype, hear):
    """Hear of the derivative in a hook of the tensor, which needs no variable."""
    zeros = ops.zeros(shape, dtype)
    if torch.is_grad_enabled():
        zeros.requires_grad_().register_hook(lambda gradient: hear(gradient.detach()))
    return zeros


def vector_jacobian(function, inputs, cotangents):
    """Have autograd differentiate by a leaf made of the inputs."""
    inputs = ops.convert_to_tensor(inputs).detach().requires_grad_()
    with torch.enable_grad():
        outputs = function(inputs)
    return torch.autograd.grad(outputs, inputs, ops.convert_to_tensor(cotangents, outputs.dtype))[0]


def trace_scope():
    """Return None: torch runs each operation at once."""


def dense(gradient):
    """Return the gradient, which is dense, outside of any graph."""
    return gradient.detach()


def doubles(on=True):
    """Tell Keras, which makes float32 of it otherwise."""
    if on and ops.zeros(()).device.type == "mps":
        raise ValueError(
            "float64 needs a device that computes in it. Received: torch on Apple's mps, which does not. "
            'Leave dtype out, or set KERAS_TORCH_DEVICE="cpu" before Keras is imported.'
        )
    return float64_kept(on)


class StepRingBuffer:
    """Rows of float32 numbers that stay on the device until they are read. There is always room for one more."""

    def __init__(self, rows, columns, step=0):
        """Take rows of `columns` numbers each; `rows` says after how many to read them."""
        self.rows = rows
        self._columns = columns
        self._step = step  # updates counted, also those that were skipped
        self._steps, self._rows = [], []

    @torch.compiler.disable
    def write(self, row, applied=True):
        """Count one update, and append its row, a tensor (columns,), if `applied` holds."""
        if applied:
            self._rows.append(row.detach())
            self._steps.append(self._step)
        self._step += 1

    def count(self):
        """Return how many updates have been counted."""
        return self._step

    def drain(self):
        """Return what was written since the last call: steps (n,), rows (n, columns), and how many more are lost: 0."""
        steps = torch.tensor(self._steps, dtype=torch.int64).numpy()
        rows = torch.stack(self._rows).cpu().numpy() if self._rows else torch.empty(0, self._columns).numpy()
        self._steps, self._rows = [], []
        return steps, rows, 0

    def grow(self, rows):
        """Take more rows before they need be read."""
        self.rows = rows

    def close(self):
        """Nothing goes on writing: torch has no traced steps."""
