"""What rnnkit needs of TensorFlow."""

import functools
import re
from contextlib import nullcontext

import keras
import numpy as np
import tensorflow as tf

from rnnkit._backend import _interrupts
from rnnkit._backend._defaults import *  # noqa: F403  (what is not defined anew below)
from rnnkit._backend._deferred import initialize_deferred_variables
from rnnkit._backend._quiet import quiet_stderr

GRADIENTS_MAY_BE_SPARSE = True


@functools.cache
def quiet_first_use():
    """Use a device and compile with XLA, each of which logs once, while stderr is held back."""
    with quiet_stderr():
        tf.function(lambda x: tf.reduce_sum(tf.tanh(x), axis=1), jit_compile=True)(tf.ones((8, 8)))


def compiled(model, function, jit_compile=False, once=False):
    """Make a graph of the function: for one shape under XLA, otherwise one that serves all."""
    if jit_compile:
        quiet_first_use()

    def with_values(*arrays):
        return function([(v, v.value) for v in model.variables], *arrays)

    # Keras looks up the weights of regularizers among the values. TensorFlow warns when the same *code* is
    # traced often; measuring many models is just that, and a partial has no code. Autograph would rewrite the code
    # and, with it, the errors raised there.
    graph = tf.function(
        functools.partial(with_values),
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
        initialize_deferred_variables()
        return result

    return run


def tap_gradients(function):
    """Watch the zeros on a gradient tape."""
    taps = {}
    with tf.GradientTape() as tape:

        def watch(key, shape, dtype):
            taps[key] = tf.zeros(shape, dtype)
            tape.watch(taps[key])
            return taps[key]

        value = function(watch)
    return tape.gradient(value, taps, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def heard_zeros(variable, shape, dtype, hear):
    """Hear of the derivative in a custom gradient, which has the variable for its input so that it is asked for."""

    @tf.custom_gradient
    def zeros(anchor):
        def backwards(gradient):
            hear(gradient)
            return tf.zeros_like(anchor)

        return tf.zeros(shape, dtype), backwards

    return zeros(keras.ops.convert_to_tensor(variable))


def vector_jacobian(function, inputs, cotangents):
    """Watch the inputs on a gradient tape."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return tape.gradient(outputs, inputs, output_gradients=tf.cast(cotangents, outputs.dtype))


def is_sparse(gradient):
    """Return whether it is an `IndexedSlices`, as that of an Embedding."""
    return isinstance(gradient, tf.IndexedSlices)


def rows(gradient):
    """Return the values of an `IndexedSlices`, whose indices may repeat."""
    return gradient.values if is_sparse(gradient) else gradient


def trace_scope():
    """Return which graph is being traced; a branch of one is a graph of its own."""
    return None if tf.executing_eagerly() else id(tf.compat.v1.get_default_graph())


def dense(gradient):
    """Add up repeated rows: only their sum has the right norm."""
    return tf.convert_to_tensor(gradient)


def doubles(on=True):
    """Keep stderr quiet: float64 is always to be had, but oneDNN says of each operation that it leaves it to others."""
    return quiet_stderr() if on else nullcontext()


def replicas(model):
    """Return on how many devices a `tf.distribute` strategy trains copies of the model."""
    return model.distribute_strategy.num_replicas_in_sync


def sum_over_replicas(tensors):
    """Add up over the devices of a `tf.distribute` strategy."""
    context = tf.distribute.get_replica_context()
    if context is None or context.strategy.num_replicas_in_sync == 1 or not tensors:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def whole_batch(loss):
    """Undo what Keras does to a loss inside a `tf.distribute` strategy's scope."""
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
