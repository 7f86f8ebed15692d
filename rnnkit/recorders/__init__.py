"""Keras callbacks that measure gradients while `fit` runs, and leave the model as they found it."""

import warnings
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit import probes
from rnnkit._backend import keras
from rnnkit._instrument.optimizer_hook import hook_optimizers, optimizers_of, updates_made, with_inner_optimizers
from rnnkit._instrument.training_step import TrainStepHook, own_train_function
from rnnkit._instrument.traversal import models_in
from rnnkit._names import ByName, as_names
from rnnkit.recorders._gradient_rows import GradientRows
from rnnkit.recorders._recording import HISTOGRAM_EDGES, MEASURES, load
from rnnkit.recorders._training_states import TrainingStates

__all__ = ["GateRecorder", "GradientRecorder", "StateGradientRecorder", "load"]

_ATTACHED_ROWS = 2**14  # in a loop of the user's own nobody tells when a compiled step has run


class GradientRecorder(keras.callbacks.Callback):
    """Record the norm of every weight's gradient at every update of the weights, before and after clipping.

    The norms are those of the gradients that training really used: they are taken where an optimizer is handed them,
    inside the compiled training step, and read back only now and then. The trained weights are the same, to the bit,
    as without the recorder.

    It is a callback for `fit`, and for `train_on_batch` in a loop with a `keras.callbacks.CallbackList`. In a loop of
    your own, wrap the loop in `attach`.

    It listens to every optimizer that the model, or a model in it, has as an attribute: `model.optimizer`, the two of
    a GAN, and those that they wrap. Weights that another optimizer trains stay NaN; print the recorder to see which.

    A recorder may be used for one `fit` after another; each begins it anew, as `keras.callbacks.History` does. After
    an exception or an interrupt, what was recorded until then is there. Where callbacks are copied (by Keras Tuner, or
    by scikit-learn's `clone`), it is the copies that record: they are in `copies`.

    Args:
        measures: what to record besides norms, any of `"max"` (largest absolute entry), `"zero_fraction"` (fraction of
            entries that are exactly 0), `"update_ratio"` (norm of the weight's change in this update by the norm of
            the weight) and `"histogram"` (fraction of entries whose log10 of the absolute value lies in each bin).
        stop_on_nonfinite: stop training after the first update with a NaN or infinite gradient, and print its weight
            and step. What was recorded is then read after every batch.
        log_dir: a folder for TensorBoard: every update's numbers as scalars and, where `measures` asks for histograms,
            one each time that what was recorded is read (every 256 updates, and when an epoch ends). Each `fit` adds a
            file of its own; name another folder for each run that you mean to compare. Needs the package tensorboard:
            `pip install "rnnkit[tensorboard]"`.

    Attributes:
        history: dict from `"layer/weight"` to an array (steps,), the norm of the gradient as the training step
            computed it for this update; 0 where the loss does not depend on the weight, NaN where the weight is not
            among those that the update trains.
        clipped: the same after clipping, as the optimizer's update rule used it; equal to `history` when the optimizer
            does not clip. Under gradient accumulation: the norm of the mean gradient that the optimizer used, NaN at
            updates at which it used none. NaN too where a custom optimizer does not show what it used.
        global_norm, clipped_global_norm: arrays (steps,), the norm of all gradients of the update together.
        clip_angle: array (steps,), the angle in degrees between all gradients together before clipping and after. It
            is 0 under `global_clipnorm`, which changes the length of the step alone.
        measured: dict from each of `measures` to a dict like `history`; for `"histogram"` with arrays (steps, bins),
            whose bins are those between `histogram_edges`, with one more at either end for what is below (zeros too)
            and above.
        histogram_edges: array (bins - 1,), log10 of the absolute value of a gradient's entry.
        nonfinite: `(step, "layer/weight")` of the first NaN or infinite gradient, or None.
        steps: array (steps,), index of each update from 0. It counts updates, which are batches only where a batch
            brings one: a GAN's brings two, truncated backpropagation several. An update that loss scaling skips has an
            index and no row.
        copies: list of the recorders that were copied from this one.

    Raises:
        ValueError: if a measure is unknown; when `fit` starts on a model without trainable weights.
        ImportError: if `log_dir` is given and the package tensorboard is missing.
        OSError: when `fit` starts and no file can be made in `log_dir`.

    Warns:
        UserWarning: after the first batch, if no update was seen in it; when updates were lost, because a single call
            of a compiled training step made more of them than the buffer on the device holds.

    Example:
        >>> import keras, rnnkit
        >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.Adam(global_clipnorm=1.0), "mse")
        >>> recorder = rnnkit.GradientRecorder(measures=["update_ratio"])
        >>> training = model.fit(x, y, batch_size=64, epochs=2, callbacks=[recorder], verbose=0)
        >>> recorder.history["rnn/recurrent_kernel"].shape
        (8,)
        >>> recorder.measured["update_ratio"]["rnn/recurrent_kernel"].shape
        (8,)

    Source: clipping as in Pascanu, Mikolov & Bengio (2013), algorithm 1; Keras's `clipnorm` applies it per weight.
    """

    def __init__(self, measures=(), stop_on_nonfinite=False, log_dir=None):
        super().__init__()
        self.measures = as_names("measure", measures, MEASURES)
        self.stop_on_nonfinite = stop_on_nonfinite
        self.log_dir = log_dir
        self.copies = []
        self._make_writer = None
        if log_dir is not None:
            from rnnkit.recorders._tensorboard import (
                EventWriter,  # a missing package is named now, and not when `fit` runs
            )

            self._make_writer = EventWriter
        self._writer = None
        self._hook = None
        self._attached = []  # optimizers that are listened to in a loop of the user's own
        self._begin(None)

    def __deepcopy__(self, memo):
        """Return a fresh recorder with the same settings, which is kept in `copies`."""
        copied = type(self)(self.measures, self.stop_on_nonfinite, self.log_dir)
        copied.copies = self.copies  # a copy may be copied again
        self.copies.append(copied)
        return copied

    def _begin(self, model, **room):
        """Start a new recording."""
        self._rows = GradientRows(model, self.measures, self._listened_to, **room)
        self._batches = 0
        self._told_of_another_fit = False
        self._rows_written = 0  # of those read, by the writer

    def on_train_begin(self, logs=None):
        """Start a new recording."""
        if self._attached:
            raise ValueError(
                "A recorder records one loop at a time. Received: one that is attached, among the callbacks of `fit`. "
                "Leave it out of the callbacks: what `fit` does in the block is recorded."
            )
        model = self.model  # asking for it makes JAX write its weights back: never do so in a step
        self._end()  # of a `fit` that an exception ended
        self._begin(model, rows_per_call=model.steps_per_execution)
        self._hook = TrainStepHook(model)
        if self._make_writer is not None:
            self._writer = self._make_writer(self.log_dir)
        if model.built:  # else the first step builds it
            self._rows.prepare()

    def on_train_batch_begin(self, batch, logs=None):
        """Let the next training step write rows."""
        if self._hook is not None:
            self._hook.install(self._rows)
        elif self._batches and not self._told_of_another_fit:
            self._told_of_another_fit = True
            warnings.warn(
                "A recorder records one training run at a time. Received: a batch of a `fit` after another one, "
                "begun later with the same recorder, has ended; it is not recorded. Give each `fit` a recorder.",
                stacklevel=2,
            )

    def on_train_batch_end(self, batch, logs=None):
        """Read what was written, if it is time."""
        if self._hook is None:
            return
        self._hook.remove()  # still there where the step is not run as `fit` runs it
        due = self._rows.reader.after_call(always=self.stop_on_nonfinite)
        self._batches += 1
        if self._batches == 1 and not self._rows.reached:
            warnings.warn(self._silence("a first batch without any"), stacklevel=2)
        if due:
            self._write_events()
        if self.stop_on_nonfinite and self.nonfinite:
            step, weight = self.nonfinite
            print(f"Training stops: the gradient of {weight} is not finite at step {step}.")
            self._hook.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Read what was written."""
        self.flush()

    def on_train_end(self, logs=None):
        """Read what was written and let go of the model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._end()

    def _end(self):
        self._rows.reader.release()
        self._write_events()
        self._close_writer()

    @contextmanager
    def attach(self, model, optimizer=None):
        """Record a training loop of your own, for as long as the block runs.

        The optimizers are hooked meanwhile; nothing is left on them afterwards, nor after an exception. A compiled
        function (`tf.function`, `jax.jit`) shows its updates only if it is traced inside the block: make it there, or
        call it there for the first time. One that was traced there may be called afterwards too; it is not recorded
        then, nor by the next block.

        Args:
            model: the Keras model whose weights are trained.
            optimizer: the Keras optimizer that trains them, or a list of several; by default those that the model has
                as attributes.

        Returns:
            A context manager that gives this recorder. On TensorFlow, in the loop of a compiled step, call its `flush`
            at least every 10,000 updates.

        Raises:
            TypeError: if `model` is no Keras model, or `optimizer` no Keras optimizer.
            ValueError: if there is no optimizer, or the model has no trainable weights.

        Warns:
            UserWarning: at the end, if updates were made that were not seen.

        Example:
            >>> import keras, rnnkit
            >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
            >>> layers = [keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1)]
            >>> model = keras.Sequential(layers)
            >>> model.compile("adam", "mse")
            >>> recorder = rnnkit.GradientRecorder()
            >>> with recorder.attach(model):
            ...     for start in range(0, 256, 64):
            ...         loss = model.train_on_batch(x[start : start + 64], y[start : start + 64])
            >>> recorder.history["rnn/recurrent_kernel"].shape
            (4,)
        """
        optimizers = _require_optimizers(model, optimizer)
        self._begin(model, rows=_ATTACHED_ROWS)
        before = {id(one): updates_made(one) for one in optimizers}
        self._attached = with_inner_optimizers(optimizers)
        with ExitStack() as stack:

            def listen_to_new_optimizers():
                """Follow a model that is compiled in the block, unless the optimizers were named."""
                new = [one for one in optimizers_of(model) if one not in self._attached] if optimizer is None else []
                stack.enter_context(hook_optimizers(model, new, [self._rows]))
                self._attached = [*self._attached, *new]
                self._rows.follow_compile()

            stack.callback(self._detach)
            stack.enter_context(hook_optimizers(model, self._attached, [self._rows]))
            for one in [model, *models_in(model)]:
                stack.enter_context(own_train_function(one, listen_to_new_optimizers))
            if model.built:
                self._rows.prepare()
            yield self
        made = sum(updates_made(one) - before[id(one)] for one in optimizers)
        unseen = made - self._rows.reader.updates
        if not self._rows.reached or (unseen > 0 and not self._rows.others_seen):
            seen = f"{unseen} of {made} were not seen" if unseen > 0 else "none was made by them"
            warnings.warn(self._silence(f"a block in which {seen}", with_inner_optimizers(optimizers)), stacklevel=3)

    def _detach(self):
        self._end()
        self._attached = []

    def _listened_to(self):
        return self._attached or self._hook.optimizers()

    def _silence(self, where, listened_to=None):
        """Say that no update was seen, what is listened to, and what to do."""
        names = [optimizer.name for optimizer in listened_to or self._listened_to()]
        return (
            f"A gradient recorder sees the updates that the optimizers {names} make of the weights of model "
            f"{self._rows.model.name!r}. Received: {where}. Where another optimizer trains them, make it an "
            "attribute of the model. Around a training loop of your own write `with recorder.attach(model, "
            "optimizer):`. A compiled function that had run before (tf.function, jax.jit) shows nothing: make it "
            "inside the block, or anew. A step that accumulates gradients by hand may make its first update later."
        )

    def flush(self):
        """Read what was written on the device, and write it to `log_dir`."""
        self._rows.reader.read()
        self._write_events()

    def _write_events(self):
        """Hand what was read, and not yet written, to TensorBoard."""
        new = self._rows.recording.since(self._rows_written) if self._writer is not None else None
        if new is None or not len(new.steps):
            return
        self._rows_written += len(new.steps)
        self._writer.scalars(new.scalars(), new.steps)
        edges = [HISTOGRAM_EDGES[0] - 1, *HISTOGRAM_EDGES, HISTOGRAM_EDGES[-1] + 1]  # the outer bins have no end
        for weight, fractions in new.measured.get("histogram", {}).items():
            self._writer.histogram(f"log10_gradient/{weight}", edges, fractions[-1], new.steps[-1])

    def _close_writer(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __repr__(self):
        if not len(self.steps):
            return f"<{type(self).__name__}: {self._why_empty()}>"
        recording = self.recording
        alone = recording.left_alone
        return (
            f"<{type(self).__name__}: {len(recording.steps)} updates of {len(recording.weights)} weights of model "
            f"{self._rows.model.name!r}" + (f"; none of {', '.join(alone)}" if alone else "") + ">"
        )

    def _why_empty(self):
        if self.copies:
            return f"empty; what was recorded is in its {len(self.copies)} copies: recorder.copies"
        if self._rows.model is None:
            return "empty; pass it to model.fit(..., callbacks=[recorder]), or attach it to a loop of your own"
        return f"empty; no update of the weights of model {self._rows.model.name!r} was seen"

    @property
    def recording(self):
        """What was recorded so far, detached from the callback: what `rnnkit.load` returns too."""
        self._rows.reader.read()
        return self._rows.recording

    @property
    def steps(self):
        """Index of each recorded update, from 0."""
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

    @property
    def clip_angle(self):
        """Angle in degrees between all gradients together before and after clipping."""
        return self.recording.clip_angle

    @property
    def measured(self):
        """What was asked for by `measures`."""
        return self.recording.measured

    @property
    def histogram_edges(self):
        """Borders between the bins of a histogram: log10 of the absolute value of a gradient's entry."""
        return HISTOGRAM_EDGES

    @property
    def nonfinite(self):
        """The first NaN or infinite gradient, `(step, "layer/weight")`, or None."""
        return self.recording.nonfinite

    def to_frame(self):
        """Return a tidy pandas table: step, layer, weight, norm, clipped_norm, and a column for each scalar measure."""
        return self.recording.to_frame()

    def to_csv(self, path):
        """Write the table of `to_frame` as a CSV file, whole or not at all; return its path. Does without pandas."""
        return self.recording.to_csv(path)

    def save(self, path):
        """Write what was recorded to an .npz file, for `rnnkit.load`; return its path."""
        return self.recording.save(path)


def _require_optimizers(model, optimizer):
    """Return the optimizers that train a model: those given, one or a list, or those that it has."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "A recorder is attached to a Keras model. "
            f"Received: a {type(model).__name__}. Pass the model first: recorder.attach(model, optimizer)."
        )
    given = [] if optimizer is None else optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    for one in given:
        if not isinstance(one, keras.optimizers.Optimizer):
            raise TypeError(
                "A recorder listens to Keras's optimizers. "
                f"Received: a {type(one).__module__}.{type(one).__name__}. Train with one of keras.optimizers."
            )
    optimizers = list(given) or optimizers_of(model)
    if not optimizers:
        raise ValueError(
            "A recorder listens to the optimizer that trains the model. "
            f"Received: model {model.name!r} without one. Pass it: recorder.attach(model, optimizer)."
        )
    return optimizers


class _ProbeRecorder(keras.callbacks.Callback):
    """Measure a probe batch every so many training steps; what is measured, a subclass says in `_prepare`."""

    def __init__(self, every, layers):
        super().__init__()
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1. Received: every={every!r}.")
        self.every = int(every)
        self.layers = layers
        self._measure = None
        self._step = self._begun = 0
        self._steps, self._records = [], []

    def on_train_begin(self, logs=None):
        """Check the probe batch against the model and start a new history."""
        self._measure = self._prepare()
        self._steps, self._records = [], []
        self._step = 0

    def on_train_batch_begin(self, batch, logs=None):
        """Measure before the step, if it is time."""
        self._begun = batch
        if self._measure is None:  # training has not begun
            return
        if not self._steps or self._step // self.every > self._steps[-1] // self.every:
            self._records.append(self._measure())
            self._steps.append(self._step)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps taken: several under `steps_per_execution`."""
        self._step += batch - self._begun + 1

    def on_train_end(self, logs=None):
        """Let go of the model."""
        self._measure = None

    def __repr__(self):
        names = ", ".join(self.history) or "nothing: pass it to model.fit(..., callbacks=[recorder])"
        return f"<{type(self).__name__}: {len(self.steps)} records of {names}>"

    @property
    def steps(self):
        """Training steps taken before each record."""
        return np.array(self._steps, "int64")

    def _stacked(self):
        """Return the records, one on the other: the structure of one, with arrays (records, ...)."""
        if not self._records:
            return {}
        return keras.tree.map_structure(lambda *records: np.stack(records), *self._records)


class StateGradientRecorder(_ProbeRecorder):
    """Record dL/dh_t for every time step, every so many training steps: of a probe batch, or of the training batch.

    With a probe batch, records can be compared: between them only the weights change. Without, the recorder overhears
    the backward pass of the training step itself: it costs little even at every step, and shows the very gradients
    that training used, dropout and sample weights included. The layers that it listens to run step by step meanwhile,
    without fused kernels (cuDNN's on a GPU, for instance), so that the trained weights are the same up to rounding;
    on TensorFlow's CPU kernels without XLA, to the bit.

    Attributes:
        history: dict from layer name to an array (records, time), the mean over the batch of the norm over the units
            of dL/dh_t; for an LSTM also `"layer/c"`, the same for dL/dc_t. L is the loss of the batch, a mean over its
            examples (see `rnnkit.probes.state_gradients`).
        steps: array (records,), how many training steps had been taken before each record. The first is 0: the model
            as it was when `fit` began.

    Args:
        x: probe inputs (batch, time, ...); a small batch is enough. None for the training batch.
        y: their targets.
        every: training steps between two records. Under `steps_per_execution`, the first chance after that.
        layers: name, or list of names, of the recurrent layers; all by default.
        dtype: `"float64"` measures in double precision, where gradients over 1e-308 do not become 0; None in the
            model's own.
        jit_compile: whether TensorFlow has XLA compile the measurement, which takes seconds, and pays when some
            hundred records follow. JAX compiles always, torch never.

    Raises:
        ValueError: if `every` is under 1; if x is missing while y, `dtype` or `jit_compile` is there; when `fit`
            starts, whatever `rnnkit.probes.state_gradients` would raise; without a probe batch, if a layer is frozen,
            the model is trained on several devices, or batches differ in length.

    Example:
        >>> import keras, rnnkit
        >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(8, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> flow = rnnkit.StateGradientRecorder(x[:32], y[:32], every=5)
        >>> training = model.fit(x, y, batch_size=32, epochs=2, callbacks=[flow], verbose=0)
        >>> flow.history["rnn"].shape, flow.steps
        ((4, 20), array([ 0,  5, 10, 15]))
        >>> of_training = rnnkit.StateGradientRecorder(every=1)
        >>> training = model.fit(x, y, batch_size=32, epochs=2, callbacks=[of_training], verbose=0)
        >>> of_training.history["rnn"].shape
        (16, 20)
    """

    def __init__(self, x=None, y=None, every=50, layers=None, dtype=None, jit_compile=False):
        super().__init__(every, layers)
        self.x, self.y, self.dtype, self.jit_compile = x, y, dtype, jit_compile
        self._training = None
        if x is None and not (y is None and dtype is None and not jit_compile):
            raise ValueError(
                "`y`, `dtype` and `jit_compile` belong to a probe batch. Received: one of them without x. Pass both, "
                "StateGradientRecorder(x[:64], y[:64]), or none of these to record the training batch."
            )

    def on_train_begin(self, logs=None):
        """Check the model, and the probe batch against it, and start a new history."""
        if self.x is None:
            self._training = TrainingStates(self.model, self.layers)
        else:
            super().on_train_begin(logs)

    def on_train_batch_begin(self, batch, logs=None):
        """Measure before the step, if it is time; or listen to the step."""
        if self._training:
            self._training.begin_batch()
        else:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps taken."""
        if self._training:
            self._training.end_batch()
        else:
            super().on_train_batch_end(batch, logs)

    def on_train_end(self, logs=None):
        """Let go of the model."""
        if self._training:
            self._training.end()
        else:
            super().on_train_end(logs)

    def _prepare(self):
        return probes.state_gradient_norms(
            self.model, self.x, self.y, layers=self.layers, dtype=self.dtype, jit_compile=self.jit_compile
        )

    @property
    def steps(self):
        """Training steps taken before each record."""
        return self._training.records(self.every)[0] if self._training else super().steps

    @property
    def history(self):
        """Mean norm of dL/dh_t, `{"layer": array (records, time)}`."""
        if not self._training:
            return ByName(self._stacked())
        _, norms = self._training.records(self.every)
        return ByName({layer if state == "h" else f"{layer}/{state}": each for (layer, state), each in norms.items()})


class GateRecorder(_ProbeRecorder):
    """Record the gates of LSTM and GRU layers for every time step, on a probe batch, every so many training steps.

    A forget or update gate whose mean stays near 1 carries a state far; one near 0 forgets. A gate with many values
    under 0.1 or over 0.9 is *saturated*: it behaves like a switch, and hardly any gradient passes through it.

    Attributes:
        history: dict from layer name to a dict from gate (see `rnnkit.probes.gates`) to an array (records, time), the
            mean over batch and units. Masked steps do not count; a step at which all are masked is NaN.
        spread: the same with arrays (2, records, time): the 10 % and the 90 % quantile over batch and units.
        saturation: the same, without candidates, with arrays (2, records, time): the fraction of the gates that are
            nearly closed, under 0.1, and that of those nearly open, over 0.9.
        steps: array (records,), how many training steps had been taken before each record. The first is 0: the model
            as it was when `fit` began.

    Args:
        x: probe inputs (batch, time, ...); a small batch is enough.
        every: training steps between two records. Under `steps_per_execution`, the first chance after that.
        layers: name, or list of names, of the layers; by default all that have gates.
        jit_compile: whether TensorFlow has XLA compile the measurement, which takes seconds, and pays when some
            hundred records follow. JAX compiles always, torch never.

    Raises:
        ValueError: if `every` is under 1; when `fit` starts, whatever `rnnkit.probes.gates` would raise.

    Example:
        >>> import keras, rnnkit
        >>> x, y = rnnkit.tasks.adding_problem(n=256, length=20, seed=0)
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(8, name="rnn"), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> recorder = rnnkit.GateRecorder(x[:32], every=5)
        >>> training = model.fit(x, y, batch_size=32, epochs=2, callbacks=[recorder], verbose=0)
        >>> recorder.history["rnn"]["forget"].shape, recorder.steps
        ((4, 20), array([ 0,  5, 10, 15]))
        >>> closed, opened = recorder.saturation["rnn"]["forget"]

    Source: saturation as in Karpathy, Johnson & Fei-Fei (2015), "Visualizing and understanding recurrent networks",
    arXiv:1506.02078.
    """

    def __init__(self, x, every=50, layers=None, jit_compile=False):
        super().__init__(every, layers)
        self.x, self.jit_compile = x, jit_compile

    def _prepare(self):
        return probes.gate_statistics(self.model, self.x, layers=self.layers, jit_compile=self.jit_compile)

    @property
    def history(self):
        """Mean gate values, `{"layer": {"gate": array (records, time)}}`."""
        return ByName(keras.tree.map_structure(lambda records: records[:, 0], self._stacked()))

    @property
    def spread(self):
        """10 % and 90 % quantiles, `{"layer": {"gate": array (2, records, time)}}`."""
        spread = keras.tree.map_structure(lambda records: np.moveaxis(records[:, 1:3], 1, 0), self._stacked())
        return ByName(spread)

    @property
    def saturation(self):
        """Fractions under 0.1 and over 0.9, `{"layer": {"gate": array (2, records, time)}}`."""
        return {
            layer: {gate: np.moveaxis(of_gate[:, 3:], 1, 0) for gate, of_gate in gates.items() if gate != "candidate"}
            for layer, gates in self._stacked().items()
        }
