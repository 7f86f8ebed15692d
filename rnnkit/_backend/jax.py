"""What rnnkit needs of JAX, whose functions may not assign to anything: state goes in and comes out."""

from contextlib import ExitStack, contextmanager

import jax
import jax.numpy as jnp
import keras
import numpy as np

from rnnkit._backend._attribute import shadowed
from rnnkit._backend._defaults import *  # noqa: F403  (what is not defined anew below)
from rnnkit._backend._deferred import initialize_deferred_variables
from rnnkit._backend._promotion import float64_kept

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # before JAX 0.8
    from jax.core import get_opaque_trace_state

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # before JAX 0.8
    from jax.experimental import enable_x64


def compiled(model, function, jit_compile=False, once=False):
    """Compile whatever `jit_compile` says: without that JAX is many times slower."""
    order = None

    @jax.jit
    def graph(values, *arrays):
        nonlocal order
        result = function(list(zip(model.variables, values, strict=True)), *arrays)
        order = _keys(result)
        return result

    def run(*arrays):
        model.jax_state_sync()  # while fit runs, the weights are elsewhere
        result = jax.tree.map(np.asarray, graph([variable.value for variable in model.variables], *arrays))
        initialize_deferred_variables()
        return _in_order(result, order)

    return run


def _keys(result):
    """Return the keys of nested dicts, in their order."""
    return {key: _keys(value) for key, value in result.items()} if isinstance(result, dict) else None


def _in_order(result, keys):
    """Put nested dicts, which JAX sorts, back into their order."""
    return result if keys is None else {key: _in_order(result[key], keys[key]) for key in keys}


def tap_gradients(function):
    """Trace the function twice: once for which zeros it asks for, once to differentiate by them."""
    asked = {}

    def ask(key, shape, dtype):
        asked[key] = jax.ShapeDtypeStruct(shape, dtype)
        return jnp.zeros(shape, dtype)

    jax.eval_shape(lambda: function(ask))  # the first pass only says which zeros are wanted
    zeros = {key: jnp.zeros(tap.shape, tap.dtype) for key, tap in asked.items()}
    return _in_order(jax.grad(lambda taps: function(lambda key, shape, dtype: taps[key]))(zeros), _keys(asked))


def heard_zeros(variable, shape, dtype, hear):
    """Hear of the derivative in a custom VJP, which has the variable for its input so that it is asked for."""
    anchor = keras.ops.convert_to_tensor(variable)

    @jax.custom_vjp
    def zeros(anchor):
        return jnp.zeros(shape, dtype)

    def backwards(_, gradient):
        hear(gradient)
        return (jnp.zeros(anchor.shape, anchor.dtype),)

    zeros.defvjp(lambda anchor: (zeros(anchor), None), backwards)
    return zeros(anchor)


def vector_jacobian(function, inputs, cotangents):
    """Compile function and backward pass in one."""

    @jax.jit
    def product(inputs, cotangents):
        outputs, backwards = jax.vjp(function, inputs)
        return backwards(cotangents.astype(outputs.dtype))[0]

    return product(jnp.asarray(inputs), jnp.asarray(cotangents))


def trace_scope():
    """Return which function, or branch of one, is being traced."""
    return get_opaque_trace_state()


def dense(gradient):
    """Return the gradient: on JAX it is dense."""
    return gradient


@contextmanager
def doubles(on=True):
    """Tell both JAX and Keras, which make float32 of it otherwise."""
    with enable_x64(on), float64_kept(on):
        yield


def training_step(model, buffers):
    """Hand the buffers through the step as one more state: on JAX it may not assign to them."""
    plain = model.train_step

    def made():
        return [buffer for buffer in buffers() if buffer is not None]  # none where no update is seen

    def step(state, held, data):
        with ExitStack() as stack:
            for buffer, content in zip(made(), held, strict=True):
                stack.enter_context(buffer.handed_through(content))
            metrics, state = plain(state, data)
            return metrics, state, [buffer.held for buffer in made()]

    compile_it = model.jit_compile and not model.run_eagerly
    graph = None if compile_it else step

    def train_step(state, data):
        nonlocal graph
        if (
            None in buffers()
        ):  # a trace for nothing else than that they be made; a new function, for JAX remembers old ones
            jax.eval_shape(lambda *arguments: plain(*arguments), state, data)
        if graph is None:
            shardings = None
            if keras.distribution.distribution() is not None:  # Keras keeps each variable where it lay
                shardings = (None, jax.tree.map(lambda array: array.sharding, tuple(state)), None)
            graph = jax.jit(step, donate_argnums=0, out_shardings=shardings)  # as Keras does
        try:
            return run(state, data)
        except _InnerScopeError:  # from now on all rows are sent, so that they come in order
            for buffer in made():
                buffer.go_on_counting()
            graph = None if compile_it else step
            return train_step(state, data)

    def run(state, data):
        held = [buffer.held for buffer in made()]
        try:
            metrics, state, held = graph(state, held, data)
        finally:  # tracers, if the step did not come to its end
            for buffer, content in zip(made(), held, strict=True):
                buffer.held = content
        return metrics, state

    with _uncompiled(model), shadowed(model, "train_step", train_step):
        before = model.train_function
        model.make_train_function(force=True)
        whole, model.train_function = model.train_function, before
    return whole


@contextmanager
def _uncompiled(model):
    """Let Keras leave the compiling to us: what it would compile has another state than ours."""
    jit_compile, model.jit_compile = model.jit_compile, False
    try:
        yield
    finally:
        model.jit_compile = jit_compile


class _InnerScopeError(Exception):
    """A row is written in a branch or a loop of a step, out of which it can only be sent."""


class StepRingBuffer:
    """A ring of float32 rows on the device, which a compiled training step hands on; or rows that are sent to Python.

    In a step that `training_step` made, `held` is replaced, never assigned to, so that a graph can hand it on. In
    every other, which hands on nothing of ours, the row leaves by a callback.
    """

    def __init__(self, rows, columns, step=0):
        """Make a ring of `rows` rows of `columns` numbers each; `step` updates have been counted before."""
        self.rows, self._columns = rows, columns
        self._scope = None  # in which `held` may be replaced
        self.held = self._empty(rows, step)
        self._read = 0
        self._sends = False  # whether rows are sent in a step that hands on what is held, too
        self._sent_count, self._sent_steps, self._sent_rows = step, [], []
        self._closed = False

    def _empty(self, rows, step):
        """Return what is held before the first update."""
        with jax.ensure_compile_time_eval():  # it may be asked for while a training step is being traced
            return {
                "ring": jnp.full((rows, self._columns), jnp.nan, "float32"),
                "step_of_row": jnp.zeros((rows,), "int32"),
                "step": jnp.asarray(step, "int32"),  # updates counted, also those that were skipped
                "written": jnp.zeros((), "int32"),
            }

    @contextmanager
    def handed_through(self, held):
        """While a step runs or is traced that takes what is held and gives it back, let it be replaced there."""
        before, self._scope, self.held = self._scope, trace_scope(), held
        try:
            yield
        finally:
            self._scope = before

    def write(self, row, applied=True):
        """Count one update, and append its row, a tensor (columns,), if `applied` holds."""
        if self._scope is not None and not self._sends and self._scope != trace_scope():
            self._sends = True
            raise _InnerScopeError
        if self._scope is None or self._sends:
            jax.debug.callback(self._receive, row, applied, ordered=True)
            return
        held = self.held
        place = held["written"] % held["ring"].shape[0]
        self.held = {
            "ring": held["ring"].at[place].set(row),
            "step_of_row": held["step_of_row"].at[place].set(held["step"]),
            "step": held["step"] + 1,
            "written": held["written"] + jnp.asarray(applied, "int32"),
        }

    def go_on_counting(self):
        """Count what is sent from where the counting of what is held has come to."""
        self._sent_count = max(self._sent_count, int(self.held["step"]))

    def _receive(self, row, applied):
        if self._closed:  # a step that was traced before goes on
            return
        if applied:
            self._sent_rows.append(np.array(row))
            self._sent_steps.append(self._sent_count)
        self._sent_count += 1

    def count(self):
        """Return how many updates have been counted."""
        jax.effects_barrier()
        return max(int(self.held["step"]), self._sent_count)

    def drain(self):
        """Return what was written since the last call: steps (n,), rows (n, columns), and how many more are lost."""
        jax.effects_barrier()
        written = int(self.held["written"])
        lost = max(0, written - self._read - self.rows)
        places = np.arange(self._read + lost, written) % self.rows
        self._read = written
        steps = [*np.asarray(self.held["step_of_row"])[places], *self._sent_steps]
        rows = [*np.asarray(self.held["ring"])[places], *self._sent_rows]
        self._sent_steps, self._sent_rows = [], []
        return np.array(steps, "int64"), np.reshape(rows, (-1, self._columns)).astype("float32"), lost

    def grow(self, rows):
        """Make room for more rows, for which JAX compiles the step anew; what has not been drained is lost."""
        self.held, self._read, self.rows = self._empty(rows, int(self.held["step"])), 0, rows

    def close(self):
        """Take no more rows from a step that was traced."""
        jax.effects_barrier()
        self._closed = True
