"""What rnnkit needs of TensorFlow."""

import functools
import re
from contextlib import nullcontext

import keras
import numpy as np
import tensorflow as tf

from rnnkit._backend import _interrupts
from rnnkit._backend._eager import training_step
from rnnkit._backend._quiet import quiet_stderr

__all__ = [
    "GRADIENTS_MAY_BE_SPARSE",
    "StepRingBuffer",
    "compiled",
    "dense",
    "doubles",
    "heard_zeros",
    "is_sparse",
    "replicas",
    "rows",
    "stream_kept",
    "sum_over_replicas",
    "tap_gradients",
    "trace_scope",
    "training_step",
    "vector_jacobian",
    "whole_batch",
]

stream_kept = nullcontext  # random numbers come from Keras's seed generators, which are variables

# First device use and first XLA compilation each log once; let them do so while stderr is held back.
tf.function(lambda x: tf.reduce_sum(tf.tanh(x), axis=1), jit_compile=True)(tf.ones((8, 8)))


def compiled(model, function, jit_compile=False, once=False):
    """Turn `function(values, *arrays)` into a graph that is traced once per signature of its arguments.

    Args:
        model: the Keras model that the function runs.
        function: gets what `scratch` needs to give the model its weights of the moment, then the arguments.
        jit_compile: whether XLA compiles the graph: seconds, once, for a faster one.
        once: whether it is called but once, and holds no loop: it then runs as it stands, which is sooner done than
            tracing it. JAX compiles even so, torch never.

    Returns:
        A function of arrays that returns what `function` does, as NumPy arrays.
    """

    def with_values(*arrays):
        return function([(v, v.value) for v in model.variables], *arrays)

    # Keras looks up the weights of regularizers among the values. TensorFlow warns when the same *code* is
    # traced often; measuring many models is just that, and a partial has no code. Autograph would rewrite the code
    # and, with it, the errors raised there.
    graph = tf.function(
        functools.partial(with_values),
        # XLA compiles for one shape; without it a graph for any shape serves all.
        reduce_retracing=not jit_compile,
        autograph=False,
        jit_compile=jit_compile,
    )

    def run(*arrays):
        try:
            with _interrupts.held():
                tensors = (with_values if once else graph)(*arrays)
            result = keras.tree.map_structure(lambda tensor: tensor.numpy(), tensors)
        except ValueError as error:
            if not (name := re.search("'(.*)' is not a valid (root )?scope name", str(error))):
                raise
            raise ValueError(
                "Measuring runs in a graph of TensorFlow, in which the names of layers consist of the letters A to Z, "
                rf"digits and _ . \ / > -. Received: {name[1]!r}. Give that layer another name=, or use Keras on JAX "
                "or torch."
            ) from None
        _start_new_variables()
        return result

    return run


def _start_new_variables():
    with keras.StatelessScope():  # on its way out it starts variables that were made inside a scope
        pass


def tap_gradients(function):
    """Differentiate a scalar with respect to zeros that the function asks for on its way.

    Args:
        function: called as `function(watch)`; returns a scalar tensor. `watch(key, shape, dtype)` gives it a
            tensor of zeros, to be added wherever the derivative is wanted. It may be called more than once.

    Returns:
        dict from key to the gradient, a tensor of that shape; zeros where the scalar does not depend on it.
    """
    taps = {}
    with tf.GradientTape() as tape:

        def watch(key, shape, dtype):
            taps[key] = tf.zeros(shape, dtype)
            tape.watch(taps[key])
            return taps[key]

        value = function(watch)
    return tape.gradient(value, taps, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def heard_zeros(variable, shape, dtype, hear):
    """Return zeros at which `hear` is called with the derivative that reaches them, when somebody differentiates.

    Args:
        variable: a Keras variable by which is differentiated then; the zeros add nothing to its derivative.
        shape: of the zeros.
        dtype: of the zeros.
        hear: function of a tensor, called where the backward pass is run, or traced.
    """

    @tf.custom_gradient
    def zeros(anchor):
        def backwards(gradient):
            hear(gradient)
            return tf.zeros_like(anchor)

        return tf.zeros(shape, dtype), backwards

    return zeros(keras.ops.convert_to_tensor(variable))


def vector_jacobian(function, inputs, cotangents):
    """Multiply `cotangents` with the Jacobian of `function` at `inputs` (one backward pass)."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return tape.gradient(outputs, inputs, output_gradients=tf.cast(cotangents, outputs.dtype))


GRADIENTS_MAY_BE_SPARSE = True


def is_sparse(gradient):
    """Return whether a gradient comes as rows of a matrix, some of them perhaps repeated."""
    return isinstance(gradient, tf.IndexedSlices)


def rows(gradient):
    """Return a gradient with its rows as they stand, the repeated ones one by one."""
    return gradient.values if is_sparse(gradient) else gradient


def trace_scope():
    """Return what tells the graph, or the branch of it, that is being traced from every other."""
    return None if tf.executing_eagerly() else id(tf.compat.v1.get_default_graph())


def dense(gradient):
    """Return a gradient as one dense tensor.

    An Embedding's gradient comes as rows with repeated indices; only their sum has the right norm.
    """
    return tf.convert_to_tensor(gradient)


def doubles(on=True):
    """Return a scope in which float64 is to be had, or is not, as by default; on TensorFlow it always is.

    oneDNN, which has none, says so on stderr for each operation that it leaves to others.
    """
    return quiet_stderr() if on else nullcontext()


def replicas(model):
    """Return on how many devices copies of a model are trained by a `tf.distribute` strategy."""
    return model.distribute_strategy.num_replicas_in_sync


def sum_over_replicas(tensors):
    """Add up what the replicas of a `tf.distribute` strategy hold of each tensor, as the optimizer does."""
    context = tf.distribute.get_replica_context()
    if context is None or context.strategy.num_replicas_in_sync == 1 or not tensors:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def whole_batch(loss):
    """Undo what Keras does to a loss inside a `tf.distribute` strategy's scope: it divides by the replicas."""
    return loss * tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype)


def _once(update, *tensors):
    """Run an update of the log for one of the replicas, which all hold the same numbers."""
    context = tf.distribute.get_replica_context()
    if context is None or context.strategy.num_replicas_in_sync == 1:
        update(*tensors)
    else:
        context.merge_call(
            lambda strategy, *values: update(*(strategy.experimental_local_results(value)[0] for value in values)),
            args=tensors,
        )


def _variable(value, shape=None):
    """Return a plain variable, also inside the scope of a strategy, where `tf.Variable` makes a copy a replica."""
    variable = tf.Variable(value, trainable=False, shape=shape)
    return tf.distribute.get_strategy().experimental_local_results(variable)[0]


_closed = []


class StepRingBuffer:
    """A ring of float32 rows on the device, which a compiled training step can write into.

    The rows live in plain backend variables that nobody tracks, so they are in no checkpoint.
    """

    def __init__(self, rows, columns, step=0):
        """Make a ring of `rows` rows of `columns` numbers each; `step` updates have been counted before."""
        self._columns = columns
        with tf.init_scope():  # it may be made while a training step is being traced
            # Of any number of rows, so that a step that was traced can go on with a longer one.
            self._ring = _variable(_nan_rows(rows, columns), (None, columns))
            self._step_of_row = _variable(tf.zeros((rows,), tf.int64), (None,))
            self._step = _variable(tf.constant(step, tf.int64))  # updates counted, also those that were skipped
            self._written = _variable(tf.zeros((), tf.int64))
        self._read = 0
        self.rows = rows

    def write(self, row, applied=True):
        """Count one update, and append its row, a tensor (columns,), if `applied` holds."""

        def update(row, applied):
            # Where a data set is at its end, a compiled step goes on with what does not need the data: not with this.
            with tf.control_dependencies([row]):
                place = self._written % tf.shape(self._ring, tf.int64)[0]
                self._ring.scatter_nd_update([[place]], [row])
                self._step_of_row.scatter_nd_update([[place]], [self._step])
                self._written.assign_add(tf.cast(applied, tf.int64))
                self._step.assign_add(1)

        _once(update, row, tf.convert_to_tensor(applied))

    def count(self):
        """Return how many updates have been counted."""
        return int(self._step.numpy())

    def drain(self):
        """Return what was written since the last call: steps (n,), rows (n, columns), and how many more are lost."""
        written = int(self._written.numpy())
        lost = max(0, written - self._read - self.rows)
        places = np.arange(self._read + lost, written) % self.rows
        self._read = written
        return self._step_of_row.numpy()[places], self._ring.numpy()[places], lost

    def grow(self, rows):
        """Make room for more rows; what has not been drained is lost."""
        self._ring.assign(_nan_rows(rows, self._columns))
        self._step_of_row.assign(tf.zeros((rows,), tf.int64))
        self._written.assign(0)
        self._read = 0
        self.rows = rows

    def close(self):
        """Let a step that was traced write on, which nobody will read.

        A `tf.function` of the user's holds its trace as long as it likes, and fails if a variable in it is gone.
        """
        self.grow(1)
        _closed.append((self._ring, self._step_of_row, self._step, self._written))


def _nan_rows(rows, columns):
    return tf.fill((rows, columns), float("nan"))
