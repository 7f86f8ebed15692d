"""Keras callbacks that measure gradients while `fit` runs, and leave the model as they found it."""

from contextlib import contextmanager

import numpy as np

from rnnkit import _backend, _model, probes
from rnnkit._backend import keras
from rnnkit._recording import Recording, load

__all__ = ["GradientRecorder", "StateGradientRecorder", "load"]

ops = keras.ops


class GradientRecorder(keras.callbacks.Callback):
    """Record the norm of every weight's gradient at every training step, before and after clipping.

    The norms are those of the gradients that training really used: they are taken inside the compiled training step,
    where the optimizer receives them, and read back only now and then. The trained weights are the same, to the bit,
    as without the recorder.

    A recorder may be used for one `fit` after another; each begins it anew, as `keras.callbacks.History` does. After
    an exception or an interrupt, what was recorded until then is there.

    Attributes:
        history: dict from `"layer/weight"` to an array (steps,), the norm before clipping.
        clipped: the same after clipping; equal to `history` when the optimizer does not clip.
        global_norm, clipped_global_norm: arrays (steps,), the norm of all gradients together.
        steps: array (steps,), index of each training step from 0. A step that loss scaling skips has no row.

    Raises:
        ValueError: when `fit` starts on a model without trainable weights.

    Example:
        >>> import keras, rnnkit
        >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.Adam(global_clipnorm=1.0), "mse")
        >>> recorder = rnnkit.GradientRecorder()
        >>> training = model.fit(x, y, batch_size=64, epochs=2, callbacks=[recorder], verbose=0)
        >>> recorder.history["rnn/recurrent_kernel"].shape
        (8,)

    Source: clipping as in Pascanu, Mikolov & Bengio (2013), algorithm 1; Keras's `clipnorm` applies it per weight.
    """

    def __init__(self):
        super().__init__()
        self._recording = Recording([])
        self._log = None
        self._tap = None
        self._unread = 0

    def on_train_begin(self, logs=None):
        """Start a new recording."""
        self._recording, self._log, self._unread = Recording([]), None, 0
        self._rows_a_call = self.model.steps_per_execution
        self._tap = _Tap(self.model)
        if self.model.built:  # else the first step builds it
            self._prepare()

    def _prepare(self):
        weights = _model.weight_keys(self.model)
        if not weights:
            raise ValueError(
                "A gradient recorder needs a model with trainable weights. "
                f"Received: model {self.model.name!r} with none. Unfreeze a layer: layer.trainable = True."
            )
        optimizer = _clipping_optimizer(self.model)
        self._recording = Recording(weights, _clipping(optimizer), bool(optimizer.gradient_accumulation_steps))
        self._places = {id(variable): place for place, variable in enumerate(weights.values())}
        self._log = _backend.StepLog(rows=max(256, 4 * self._rows_a_call), columns=self._recording.columns)

    def on_train_batch_begin(self, batch, logs=None):
        """Let the next training step write into the log."""
        self._tap.arm(self)

    def on_train_batch_end(self, batch, logs=None):
        """Read the log back before it is full."""
        self._unread += self._rows_a_call
        if self._unread + self._rows_a_call > self._log.rows:
            self._read()

    def on_epoch_end(self, epoch, logs=None):
        """Read the log back."""
        self._read()

    def on_train_end(self, logs=None):
        """Read the log back and let go of the model."""
        self._read()
        self._tap = self._log = None

    def _begin_step(self):
        """Run inside the training step, first."""
        if self._log is None:
            self._prepare()
        self._log.begin_step()

    def _see(self, gradients, variables):
        """Run inside the training step, where the optimizer takes the gradients."""
        weights = len(self._recording.weights)
        norms = [ops.full((), float("nan"))] * weights  # stays NaN for a weight that this step does not train
        clipped = list(norms)
        rule, bound = self._recording.clipping
        for gradient, variable in zip(gradients, variables, strict=True):
            place = self._places.get(id(variable))
            if place is None:
                continue
            if gradient is None:  # the loss does not depend on this weight
                norms[place] = clipped[place] = ops.zeros(())
                continue
            norms[place] = _backend.norm(gradient)
            if rule == "clipvalue":
                clipped[place] = _backend.norm(ops.clip(gradient, -bound, bound))
        trained = [self._places[id(variable)] for variable in variables if id(variable) in self._places]
        row = [*norms, _backend.norm(ops.stack([norms[place] for place in trained]))]
        self._log.write(row + clipped if rule == "clipvalue" else row)

    def _read(self):
        if self._log is not None:
            self._recording.append(*self._log.drain())
            self._unread = 0

    @property
    def recording(self):
        """What was recorded so far, detached from the callback: what `rnnkit.load` returns too."""
        self._read()
        return self._recording

    @property
    def steps(self):
        """Index of each recorded training step, from 0."""
        return self.recording.steps

    @property
    def history(self):
        """Norm of each weight's gradient before clipping."""
        return self.recording.history

    @property
    def clipped(self):
        """Norm of each weight's gradient after clipping."""
        return self.recording.clipped

    @property
    def global_norm(self):
        """Norm of all gradients together before clipping."""
        return self.recording.global_norm

    @property
    def clipped_global_norm(self):
        """Norm of all gradients together after clipping."""
        return self.recording.clipped_global_norm

    def to_frame(self):
        """Return a tidy pandas table with the columns step, layer, weight, norm and clipped_norm."""
        return self.recording.to_frame()

    def save(self, path):
        """Write what was recorded to an .npz file, for `rnnkit.load`; return its path."""
        return self.recording.save(path)


class StateGradientRecorder(keras.callbacks.Callback):
    """Record dL/dh_t for every time step, on a probe batch, every so many training steps.

    Attributes:
        history: dict from layer name to an array (records, time), the mean over the batch of the norm over the units
            of dL/dh_t; for an LSTM also `"layer/c"`, the same for dL/dc_t. L is the loss of the probe batch, a mean
            over its examples (see `rnnkit.probes.state_gradients`).
        steps: array (records,), how many training steps had been taken before each record. The first is 0: the model
            as it was when `fit` began.

    Args:
        x: probe inputs (batch, time, ...); a small batch is enough.
        y: their targets.
        every: training steps between two records. Under `steps_per_execution`, the first chance after that.
        layers: name, or list of names, of the recurrent layers; all by default.

    Raises:
        ValueError: if `every` is under 1; when `fit` starts, whatever `rnnkit.probes.state_gradients` would raise.

    Example:
        >>> import keras, rnnkit
        >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> flow = rnnkit.StateGradientRecorder(x[:32], y[:32], every=5)
        >>> training = model.fit(x, y, batch_size=32, epochs=2, callbacks=[flow], verbose=0)
        >>> flow.history["rnn"].shape, flow.steps
        ((4, 20), array([ 0,  5, 10, 15]))
    """

    def __init__(self, x, y, every=50, layers=None):
        super().__init__()
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1. Received: every={every!r}.")
        self.x, self.y, self.every, self.layers = x, y, int(every), layers
        self._steps, self._records = [], []

    def on_train_begin(self, logs=None):
        """Check the probe batch against the model and start a new history."""
        self._measure = probes.state_gradient_norms(self.model, self.x, self.y, layers=self.layers)
        self._steps, self._records = [], []
        self._step = 0

    def on_train_batch_begin(self, batch, logs=None):
        """Measure before the step, if it is time."""
        self._begun = batch
        if not self._steps or self._step // self.every > self._steps[-1] // self.every:
            self._records.append(self._measure())
            self._steps.append(self._step)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps taken: several under `steps_per_execution`."""
        self._step += batch - self._begun + 1

    def on_train_end(self, logs=None):
        """Let go of the model."""
        self._measure = None

    @property
    def steps(self):
        """Training steps taken before each record."""
        return np.array(self._steps, "int64")

    @property
    def history(self):
        """Mean norm of dL/dh_t, `{"layer": array (records, time)}`."""
        names = self._records[0] if self._records else ()
        return {name: np.stack([record[name] for record in self._records]) for name in names}


class _Tap:
    """A training step whose gradients recorders can see; it stands in for the model's own for one call at a time.

    The model's `train_function` is replaced just before a step and put back when that step starts, and the optimizer's
    `apply` is wrapped only while the step runs (in a compiled step: while it is traced). So whatever ends training, no
    trace of the recorder is left on the model or its optimizer.
    """

    def __init__(self, model):
        if isinstance(model.train_function, _Tap):  # left armed by a callback that raised before the step
            model.train_function = model.train_function.plain
        self.model, self.plain, self.step, self.recorders = model, None, None, []

    def arm(self, recorder):
        """Stand in for the next step; or, if another recorder's tap already does, let that one serve both."""
        armed = self.model.train_function
        if isinstance(armed, _Tap):
            if recorder not in armed.recorders:
                armed.recorders.append(recorder)
            return
        if recorder not in self.recorders:
            self.recorders.append(recorder)
        self.plain = armed
        if self.step is None:
            self.model.make_train_function(force=True)
            self.step = self.model.train_function
        self.model.train_function = self

    def __call__(self, iterator):
        self.model.train_function = self.plain
        with self._watched_optimizer():
            return self.step(iterator)

    @contextmanager
    def _watched_optimizer(self):
        # With loss scaling the outer optimizer gets scaled gradients, and hands them on unscaled or skips the step.
        outer, inner = self.model.optimizer, _clipping_optimizer(self.model)

        def count_step(gradients, trainable_variables=None):
            for recorder in self.recorders:
                recorder._begin_step()
            return (see if outer is inner else apply_outer)(gradients, trainable_variables)

        def see(gradients, trainable_variables=None):
            scale = inner.loss_scale_factor or 1.0
            unscaled = [None if g is None else _backend.dense(g) / scale for g in gradients]
            for recorder in self.recorders:
                recorder._see(unscaled, trainable_variables or self.model.trainable_variables)
            return apply_inner(gradients, trainable_variables)

        apply_outer, apply_inner = outer.apply, inner.apply
        with _attribute(inner, "apply", see), _attribute(outer, "apply", count_step):
            yield


@contextmanager
def _attribute(thing, name, value):
    """Shadow an attribute of an instance while the block runs, out of sight of Keras's own tracking."""
    had, before = name in vars(thing), vars(thing).get(name)
    vars(thing)[name] = value
    try:
        yield
    finally:
        if had:
            vars(thing)[name] = before
        else:
            del vars(thing)[name]


def _clipping_optimizer(model):
    """Return the optimizer that takes the unscaled gradients and clips them."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            "A gradient recorder listens to the model's optimizer. "
            f"Received: model {model.name!r} without one. Pass an optimizer to model.compile."
        )
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _clipping(optimizer):
    """Return how an optimizer clips, in the order in which Keras looks: (name of the setting, bound)."""
    for rule in ("clipnorm", "global_clipnorm", "clipvalue"):
        bound = getattr(optimizer, rule)
        if bound is not None and bound > 0:
            return rule, float(bound)
    return None, None
