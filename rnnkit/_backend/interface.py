"""What each backend offers to the rest of rnnkit: every function's contract, once.

A backend is a module of this package, named as Keras names the backend, with all that stands here. Docstrings there
say what is particular to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras
    import numpy as np

    Tensor = Any  # of the backend that runs
    Arrays = Any  # a NumPy array, or nested dicts and sequences of such


class RingBuffer(Protocol):
    """Rows of float32 numbers on the device, which a compiled training step writes and Python reads later.

    They are in no checkpoint.

    Args:
        rows: how many it holds before the oldest are overwritten; or after how many to read them, where there is
            always room for one more.
        columns: numbers a row.
        step: how many updates have been counted before.
    """

    rows: int

    def __init__(self, rows: int, columns: int, step: int = 0): ...

    def write(self, row: Tensor, applied: bool | Tensor = True) -> None:
        """Count one update, and append its row, a float32 tensor (columns,), if `applied` holds."""

    def count(self) -> int:
        """Return how many updates have been counted, also those that were not applied."""

    def drain(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return what was written since the last call: steps (n,), rows (n, columns), and how many more are lost."""

    def grow(self, rows: int) -> None:
        """Hold that many rows from now on; what has not been drained is lost."""

    def close(self) -> None:
        """Let a step that was traced, and holds on to the buffer, write on without harm; nobody reads it any more."""


class Backend(Protocol):
    """What rnnkit needs that `keras.ops` does not have: derivatives, compiled functions, a look into the training step.

    Attributes:
        GRADIENTS_MAY_BE_SPARSE: whether an optimizer is ever handed gradients of which `is_sparse` holds.
        StepRingBuffer: the class of the rows that a training step writes.
    """

    GRADIENTS_MAY_BE_SPARSE: bool
    StepRingBuffer: type[RingBuffer]

    def quiet_first_use(self) -> None:
        """Have the backend say what it says but once in a process, on first use, while nobody sees it."""

    def compiled(
        self, model: keras.Model, function: Callable, jit_compile: bool = False, once: bool = False
    ) -> Callable[..., Arrays]:
        """Turn `function(values, *arrays)` into a fast function of arrays, traced once per signature of these.

        Args:
            model: the Keras model that the function runs.
            function: gets what `scratch` needs to give the model its weights of the moment, then the arrays. Returns
                nested dicts of tensors.
            jit_compile: whether XLA compiles it: seconds, once, for a faster one. JAX always does, torch never.
            once: whether it is called but once, and holds no loop: it then runs as it stands where that is sooner done
                than tracing it, on TensorFlow.

        Returns:
            A function of arrays that returns what `function` does, as NumPy arrays.
        """

    def tap_gradients(self, function: Callable[[Callable], Tensor]) -> dict[Hashable, Tensor]:
        """Differentiate a scalar with respect to zeros that the function asks for on its way.

        Args:
            function: called as `function(watch)`; returns a scalar tensor. `watch(key, shape, dtype)` gives it a
                tensor of zeros, to be added wherever the derivative is wanted. It may be called more than once.

        Returns:
            dict from key to the gradient, a tensor of that shape; zeros where the scalar does not depend on it.
        """

    def heard_zeros(
        self, variable: keras.Variable, shape: tuple[int, ...], dtype: str, hear: Callable[[Tensor], None]
    ) -> Tensor:
        """Return zeros at which `hear` is called with the derivative that reaches them, when somebody differentiates.

        Args:
            variable: one by which is differentiated then; the zeros add nothing to its derivative.
            shape: of the zeros.
            dtype: of the zeros.
            hear: function of a tensor of that shape, called where the backward pass is run, or traced.
        """

    def vector_jacobian(self, function: Callable[[Tensor], Tensor], inputs: Tensor, cotangents: Tensor) -> Tensor:
        """Multiply cotangents, of the outputs' shape, with the Jacobian of `function` at `inputs`: one backward pass.

        Returns:
            Tensor of the inputs' shape.
        """

    def is_sparse(self, gradient: Tensor) -> bool:
        """Return whether a gradient comes as rows of a matrix, some of them perhaps repeated."""

    def rows(self, gradient: Tensor) -> Tensor:
        """Return a gradient with its rows as they stand, the repeated ones one by one."""

    def dense(self, gradient: Tensor) -> Tensor:
        """Return a gradient as one dense tensor of its variable's shape, outside of any graph that torch keeps."""

    def replicas(self, model: keras.Model) -> int:
        """Return how many copies of a model are trained, each of which sees gradients of its own."""

    def sum_over_replicas(self, tensors: list[Tensor]) -> list[Tensor]:
        """Add up what the replicas hold of each tensor, as the optimizer does."""

    def whole_batch(self, loss: Tensor) -> Tensor:
        """Return a loss as it is on one device, where Keras divides it by the number of replicas."""

    def doubles(self, on: bool = True) -> AbstractContextManager:
        """Return a scope in which float64 is to be had, or is not, as by default.

        Raises:
            ValueError: if the device cannot compute in float64.
        """

    def stream_kept(self) -> AbstractContextManager:
        """Return a scope after which the backend's own stream of random numbers is where it was."""

    def training_step(self, model: keras.Model, buffers: Callable[[], list[RingBuffer | None]]) -> Callable:
        """Return a fresh copy of the model's own training step, which may write into ring buffers.

        Args:
            model: a compiled model.
            buffers: function that returns the buffers; None for one that is not made before the step is traced.

        Returns:
            What Keras calls `train_function`.
        """

    def trace_scope(self) -> Hashable:
        """Return what tells the graph, or the branch of one, that is being traced from every other; None if none is."""
