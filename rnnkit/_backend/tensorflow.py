"""What rnnkit needs of TensorFlow."""

import functools
import re
from contextlib import nullcontext

import keras
import tensorflow as tf

from rnnkit._backend import _interrupts
from rnnkit._backend._eager import training_step, watched
from rnnkit._backend._quiet import quiet_stderr

__all__ = [
    "StepLog",
    "compiled",
    "dense",
    "doubles",
    "heard_zeros",
    "replicas",
    "stream_kept",
    "sum_over_replicas",
    "tap_gradients",
    "training_step",
    "vector_jacobian",
    "watched",
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


def _variable(value):
    """Return a plain variable, also inside the scope of a strategy, where `tf.Variable` makes a copy a replica."""
    copies = tf.distribute.get_strategy().experimental_local_results(tf.Variable(value, trainable=False))
    return copies[0]


class StepLog:
    """A ring of float32 rows on the device, which a compiled training step can write into.

    The rows live in plain backend variables that nobody tracks, so they are in no checkpoint.
    """

    def __init__(self, rows, columns):
        """Make a ring of `rows` rows of `columns` numbers each."""
        self.rows = rows
        with tf.init_scope():  # it may be made while a training step is being traced
            self._ring = _variable(tf.fill((rows, columns), float("nan")))
            self._step = _variable(tf.zeros((), tf.int64))  # training steps begun
            self._step_of_row = _variable(tf.zeros((rows,), tf.int64))
            self._written = _variable(tf.zeros((), tf.int64))
        self._read = 0

    def begin_step(self):
        """Count one training step (also one that loss scaling will skip)."""
        _once(lambda: self._step.assign_add(1))

    def write(self, row):
        """Append one row: a tensor (columns,)."""

        def update(row):
            place = self._written % self.rows
            self._ring.scatter_nd_update([[place]], [row])
            self._step_of_row.scatter_nd_update([[place]], [self._step - 1])
            self._written.assign_add(1)

        _once(update, row)

    def drain(self):
        """Return what was written since the last call: steps (n,) and rows (n, columns), as NumPy arrays."""
        written = int(self._written.numpy())
        if written - self._read > self.rows:
            raise RuntimeError(f"the step log holds {self.rows} rows; {written - self._read} were written unread.")
        places = [row % self.rows for row in range(self._read, written)]
        self._read = written
        return self._step_of_row.numpy()[places], self._ring.numpy()[places]
