"""The only place that knows which Keras backend runs: quiet start-up, gradients, compiled functions, the step log."""

import functools
import os
import sys
import tempfile
from contextlib import contextmanager


@contextmanager
def quiet_stderr():
    """Hold back what C++ code writes to file descriptor 2; show it after all if the block raises.

    TensorFlow logs there when it is imported and when it first touches a device, whatever
    `TF_CPP_MIN_LOG_LEVEL` says, and Jupyter shows those lines as errors.
    """
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # no stderr at all (a GUI or a service): nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


def _require_tensorflow(name):
    if name != "tensorflow":
        raise ImportError(
            f"rnnkit measures gradients on Keras's TensorFlow backend. Received: KERAS_BACKEND={name!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported, and restart the kernel."
        )


# Asked before, since Keras fails on a backend that is not installed; and after, since a file can set it too.
_require_tensorflow(os.environ.get("KERAS_BACKEND", "tensorflow"))
with quiet_stderr():
    import keras

    _require_tensorflow(keras.backend.backend())
    import tensorflow as tf

    # First device use and first XLA compilation each log once; let them do so here.
    tf.function(lambda: tf.zeros(()) + 1.0, jit_compile=True)()


def tap_gradients(function):
    """Differentiate a scalar with respect to zeros that the function asks for on its way.

    Args:
        function: called as `function(watch)`; returns a scalar tensor. `watch(key, shape, dtype)` gives it a
            tensor of zeros, to be added wherever the derivative is wanted.

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


def vector_jacobian(function, inputs, cotangents):
    """Multiply `cotangents` with the Jacobian of `function` at `inputs` (one backward pass)."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return tape.gradient(outputs, inputs, output_gradients=tf.convert_to_tensor(cotangents, outputs.dtype))


def compiled(function):
    """Turn a function of tensors into a graph that is traced once per signature of its arguments."""
    # TensorFlow warns when the same *code* is traced often; measuring many models is just that. A partial has none.
    # Autograph would rewrite the code and, with it, the errors raised there.
    return tf.function(functools.partial(function), reduce_retracing=True, autograph=False)


def dense(gradient):
    """Return a gradient as one dense tensor.

    An Embedding's gradient comes as rows with repeated indices; only their sum has the right norm.
    """
    return tf.convert_to_tensor(gradient)


def norm(tensor, axis=None):
    """Return the Euclidean norm in float32, exact too where the squares alone would underflow or overflow."""
    tensor = tf.cast(tensor, "float32")
    largest = tf.reduce_max(tf.abs(tensor), axis=axis, keepdims=True)
    scale = tf.where(tf.math.is_finite(largest) & (largest > 0), largest, tf.ones_like(largest))
    total = tf.sqrt(tf.reduce_sum(tf.square(tensor / scale), axis=axis, keepdims=True)) * scale
    return tf.squeeze(total, axis=axis)


class StepLog:
    """A ring of float32 rows on the device, which a compiled training step can write into.

    The rows live in plain backend variables that nobody tracks, so they are in no checkpoint.
    """

    def __init__(self, rows, columns):
        """Make a ring of `rows` rows of `columns` numbers each."""
        self.rows = rows
        with tf.init_scope():  # it may be made while a training step is being traced
            self._ring = tf.Variable(tf.fill((rows, columns), float("nan")), trainable=False)
            self._step = tf.Variable(0, dtype=tf.int64, trainable=False)  # training steps begun
            self._step_of_row = tf.Variable(tf.zeros((rows,), tf.int64), trainable=False)
            self._written = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._read = 0

    def begin_step(self):
        """Count one training step (also one that loss scaling will skip)."""
        self._step.assign_add(1)

    def write(self, row):
        """Append one row: a list of scalar tensors."""
        place = self._written % self.rows
        self._ring.scatter_nd_update([[place]], [tf.stack([tf.cast(number, tf.float32) for number in row])])
        self._step_of_row.scatter_nd_update([[place]], [self._step - 1])
        self._written.assign_add(1)

    def drain(self):
        """Return what was written since the last call: steps (n,) and rows (n, columns), as NumPy arrays."""
        written = int(self._written.numpy())
        if written - self._read > self.rows:
            raise RuntimeError(f"the step log holds {self.rows} rows; {written - self._read} were written unread.")
        places = [row % self.rows for row in range(self._read, written)]
        self._read = written
        return self._step_of_row.numpy()[places], self._ring.numpy()[places]
