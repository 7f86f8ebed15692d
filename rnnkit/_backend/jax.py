"""What rnnkit needs of JAX, whose functions may not assign to anything: state goes in and comes out."""

from contextlib import contextmanager, nullcontext

import jax
import jax.numpy as jnp
import keras
import numpy as np

from rnnkit._backend._attribute import shadowed
from rnnkit._backend._promotion import float64_kept

try:
    enable_x64 = jax.enable_x64
except AttributeError:  # before JAX 0.8
    from jax.experimental import enable_x64

stream_kept = nullcontext  # random numbers come from Keras's seed generators, which are variables


def compiled(model, function, jit_compile=True, once=False):
    """As for TensorFlow: `function(values, *arrays)` compiled; `values` carries the weights into the graph.

    JAX compiles whatever `jit_compile` says: without that it is many times slower.
    """
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
        with keras.StatelessScope():  # on its way out it starts variables that were made inside a scope
            pass
        return _in_order(result, order)

    return run


def _keys(result):
    """Return the keys of nested dicts, in their order."""
    return {key: _keys(value) for key, value in result.items()} if isinstance(result, dict) else None


def _in_order(result, keys):
    """Put nested dicts, which JAX sorts, back into their order."""
    return result if keys is None else {key: _in_order(result[key], keys[key]) for key in keys}


def tap_gradients(function):
    """As for TensorFlow: gradients of a scalar by zeros that the function asks for. It is traced twice."""
    asked = {}

    def ask(key, shape, dtype):
        asked[key] = jax.ShapeDtypeStruct(shape, dtype)
        return jnp.zeros(shape, dtype)

    jax.eval_shape(lambda: function(ask))  # the first pass only says which zeros are wanted
    zeros = {key: jnp.zeros(tap.shape, tap.dtype) for key, tap in asked.items()}
    return _in_order(jax.grad(lambda taps: function(lambda key, shape, dtype: taps[key]))(zeros), _keys(asked))


def heard_zeros(variable, shape, dtype, hear):
    """As for TensorFlow: zeros at which `hear` is called with the derivative that reaches them."""
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
    """Multiply `cotangents` with the Jacobian of `function` at `inputs` (one backward pass)."""

    @jax.jit
    def product(inputs, cotangents):
        outputs, backwards = jax.vjp(function, inputs)
        return backwards(cotangents.astype(outputs.dtype))[0]

    return product(jnp.asarray(inputs), jnp.asarray(cotangents))


def dense(gradient):
    """Return a gradient as one dense tensor; on JAX it is one."""
    return gradient


@contextmanager
def doubles(on=True):
    """Provide a scope in which float64 is to be had, or is not, as by default: JAX and Keras make float32 of it."""
    with enable_x64(on), float64_kept(on):
        yield


def replicas(model):
    """Return 1: under `keras.distribution` JAX sees one model, however it is spread over devices."""
    return 1


def sum_over_replicas(tensors):
    """Return the tensors: under `keras.distribution` JAX sees each as one, however it is spread over devices."""
    return tensors


def whole_batch(loss):
    """Return the loss: under `keras.distribution` it is that of the whole batch."""
    return loss


def training_step(model, logs):
    """Return a fresh copy of the model's own training step, which hands the logs through as one more state.

    Args:
        model: the model.
        logs: function that returns the logs; None for one that is not made before the step is traced.
    """
    plain = model.train_step

    def step(state, rows, data):
        for log, held in zip(logs(), rows, strict=True):
            log.held = held
        metrics, state = plain(state, data)
        return metrics, state, [log.held for log in logs()]

    compile_it = model.jit_compile and not model.run_eagerly
    graph = None if compile_it else step

    def train_step(state, data):
        nonlocal graph
        if None in logs():
            _let_logs_be_made(logs, plain, state, data)
        if graph is None:
            shardings = None
            if keras.distribution.distribution() is not None:  # Keras keeps each variable where it lay
                shardings = (None, jax.tree.map(lambda array: array.sharding, tuple(state)), None)
            graph = jax.jit(step, donate_argnums=0, out_shardings=shardings)  # as Keras does
        held = [log.held for log in logs()]
        try:
            metrics, state, held = graph(state, held, data)
        finally:  # tracers, if the step did not come to its end
            for log, rows in zip(logs(), held, strict=True):
                log.held = rows
        return metrics, state

    with _uncompiled(model), shadowed(model, "train_step", train_step):
        before = model.train_function
        model.make_train_function(force=True)
        whole, model.train_function = model.train_function, before
    return whole


def _let_logs_be_made(logs, step, state, data):
    """Trace a training step for nothing else than that the logs be made which learn their size from it."""
    before = {id(log): log.held for log in logs() if log is not None}
    try:
        jax.eval_shape(lambda *arguments: step(*arguments), state, data)  # a new function: JAX remembers old ones
    finally:  # tracers
        for log in logs():
            if log is not None:
                log.held = before[id(log)] if id(log) in before else log.empty()


@contextmanager
def _uncompiled(model):
    """Let Keras leave the compiling to us: what it would compile has another state than ours."""
    jit_compile, model.jit_compile = model.jit_compile, False
    try:
        yield
    finally:
        model.jit_compile = jit_compile


@contextmanager
def watched(optimizer, watcher):
    """As for TensorFlow: while the block runs, let `watcher` see what the optimizer is handed."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    plain = optimizer.stateless_apply

    def stateless_apply(optimizer_variables, grads, trainable_variables):
        watcher.begin_step()
        with _values(optimizer, optimizer_variables, trainable_variables):
            applied, scale = True, inner.loss_scale_factor or 1
            if optimizer is not inner:
                # Keras unscales inside a branch of the graph, out of which no number can be carried.
                applied, scale = optimizer.check_finite(grads), optimizer.dynamic_scale.value
            seen = watcher.before(grads, inner._trainable_variables, scale, scale)
        trainable_variables, optimizer_variables = plain(optimizer_variables, grads, trainable_variables)
        with _values(optimizer, optimizer_variables, trainable_variables):
            watcher.after(seen, applied=applied)
        return trainable_variables, optimizer_variables

    with shadowed(optimizer, "stateless_apply", stateless_apply):
        yield


def _values(optimizer, optimizer_variables, trainable_variables):
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    mapping = [*zip(optimizer.variables, optimizer_variables, strict=True)]
    mapping += zip(inner._trainable_variables, trainable_variables, strict=True)
    return keras.StatelessScope(state_mapping=mapping)


class StepLog:
    """A ring of float32 rows on the device; `held` is replaced, never assigned to, so that a graph can hand it on."""

    def __init__(self, rows, columns):
        """Make a ring of `rows` rows of `columns` numbers each."""
        self.rows, self._columns = rows, columns
        self.held = self.empty()
        self._read = 0

    def empty(self):
        """Return what is held before the first step."""
        with jax.ensure_compile_time_eval():  # it may be asked for while a training step is being traced
            return {
                "ring": jnp.full((self.rows, self._columns), jnp.nan, "float32"),
                "step_of_row": jnp.zeros((self.rows,), "int32"),
                "step": jnp.zeros((), "int32"),  # training steps begun
                "written": jnp.zeros((), "int32"),
            }

    def begin_step(self):
        """Count one training step (also one that loss scaling will skip)."""
        self.held = {**self.held, "step": self.held["step"] + 1}

    def write(self, row, applied=True):
        """Append one row, a tensor (columns,), if `applied` holds: else the next one will overwrite it."""
        held = self.held
        place = held["written"] % self.rows
        self.held = {
            **held,
            "ring": held["ring"].at[place].set(row),
            "step_of_row": held["step_of_row"].at[place].set(held["step"] - 1),
            "written": held["written"] + jnp.asarray(applied, "int32"),
        }

    def drain(self):
        """Return what was written since the last call: steps (n,) and rows (n, columns), as NumPy arrays."""
        written = int(self.held["written"])
        if written - self._read > self.rows:
            raise RuntimeError(f"the step log holds {self.rows} rows; {written - self._read} were written unread.")
        places = [row % self.rows for row in range(self._read, written)]
        self._read = written
        return np.asarray(self.held["step_of_row"])[places].astype("int64"), np.asarray(self.held["ring"])[places]
