"""Keras callbacks that measure gradients while `fit` runs, and leave the model as they found it."""

from contextlib import nullcontext

import numpy as np

from rnnkit import _backend, _model, probes
from rnnkit._backend import keras
from rnnkit._recording import HISTOGRAM_EDGES, MEASURES, Recording, load
from rnnkit._tap import Tap, clipping, clipping_optimizer
from rnnkit._training_states import TrainingStates

__all__ = ["GateRecorder", "GradientRecorder", "StateGradientRecorder", "load"]

ops = keras.ops


class GradientRecorder(keras.callbacks.Callback):
    """Record the norm of every weight's gradient at every training step, before and after clipping.

    The norms are those of the gradients that training really used: they are taken inside the compiled training step,
    where the optimizer receives them, and read back only now and then. The trained weights are the same, to the bit,
    as without the recorder.

    A recorder may be used for one `fit` after another; each begins it anew, as `keras.callbacks.History` does. After
    an exception or an interrupt, what was recorded until then is there.

    Args:
        measures: what to record besides norms, any of `"max"` (largest absolute entry), `"zero_fraction"` (fraction of
            entries that are exactly 0), `"update_ratio"` (norm of the weight's change in this step by the norm of the
            weight) and `"histogram"` (fraction of entries whose log10 of the absolute value lies in each bin).
        stop_on_nonfinite: stop training after the first step with a NaN or infinite gradient, and print its weight and
            step. What was recorded is then read after every step.
        log_dir: a folder for TensorBoard: every step's numbers as scalars and, where `measures` asks for histograms,
            one each time that what was recorded is read (every 256 steps, and when an epoch ends). Each `fit` adds a
            file of its own; name another folder for each run that you mean to compare. Needs the package tensorboard:
            `pip install "rnnkit[tensorboard]"`.

    Attributes:
        history: dict from `"layer/weight"` to an array (steps,), the norm of the gradient of the step's batch.
        clipped: the same after clipping; equal to `history` when the optimizer does not clip. Under gradient
            accumulation: the norm of the mean gradient that the optimizer used, NaN at steps at which it used none.
        global_norm, clipped_global_norm: arrays (steps,), the norm of all gradients together.
        clip_angle: array (steps,), the angle in degrees between all gradients together before clipping and after. It
            is 0 under `global_clipnorm`, which changes the length of the step alone.
        measured: dict from each of `measures` to a dict like `history`; for `"histogram"` with arrays (steps, bins),
            whose bins are those between `histogram_edges`, with one more at either end for what is below (zeros too)
            and above.
        histogram_edges: array (bins - 1,), log10 of the absolute value of a gradient's entry.
        nonfinite: `(step, "layer/weight")` of the first NaN or infinite gradient, or None.
        steps: array (steps,), index of each training step from 0. A step that loss scaling skips has no row.

    Raises:
        ValueError: if a measure is unknown; when `fit` starts on a model without trainable weights.
        ImportError: if `log_dir` is given and the package tensorboard is missing.
        OSError: when `fit` starts and no file can be made in `log_dir`.

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
        self.measures = _model.as_names("measure", measures, MEASURES)
        self.stop_on_nonfinite = stop_on_nonfinite
        self.log_dir = log_dir
        if log_dir is not None:
            import rnnkit._tensorboard  # noqa: F401  (so that a missing package is named now, and not when `fit` runs)
        self._writer = None
        self._log = None
        self._recording = Recording([])
        self._tap = None
        self._unread = 0

    def on_train_begin(self, logs=None):
        """Start a new recording."""
        model = self.model  # asking for it makes JAX write its weights back: never do so in a step
        self._recording, self._log, self._unread = Recording([]), None, 0
        self._rows_a_call = model.steps_per_execution
        self._tap = Tap(model)
        self._open_writer()
        if model.built:  # else the first step builds it
            self._prepare()

    def _prepare(self):
        model = self._tap.model
        weights = _model.weight_keys(model)
        if not weights:
            raise ValueError(
                "A gradient recorder needs a model with trainable weights. "
                f"Received: model {model.name!r} with none. Unfreeze a layer: layer.trainable = True."
            )
        optimizer = clipping_optimizer(model)
        self._recording = Recording(
            weights,
            clipping(optimizer),
            accumulated=bool(optimizer.gradient_accumulation_steps),
            replicas=_backend.replicas(model),
            measures=self.measures,
        )
        self._places = {id(variable): place for place, variable in enumerate(weights.values())}
        self._log = _backend.StepLog(rows=max(256, 4 * self._rows_a_call), columns=self._recording.columns)

    def on_train_batch_begin(self, batch, logs=None):
        """Let the next training step write into the log."""
        self._tap.arm(self)

    def on_train_batch_end(self, batch, logs=None):
        """Read the log back before it is full."""
        self._unread += self._rows_a_call
        if self.stop_on_nonfinite or self._unread + self._rows_a_call > self._log.rows:
            self._read()
        if self.stop_on_nonfinite and self.nonfinite:
            step, weight = self.nonfinite
            print(f"Training stops: the gradient of {weight} is not finite at step {step}.")
            self._tap.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Read the log back."""
        self._read()

    def on_train_end(self, logs=None):
        """Read the log back and let go of the model."""
        self._read()
        self._tap = self._log = None
        self._close_writer()

    def _open_writer(self):
        self._close_writer()  # left open by a `fit` that an exception ended
        if self.log_dir is not None:
            from rnnkit._tensorboard import EventWriter

            self._writer = EventWriter(self.log_dir)

    def _close_writer(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _during_step(self):
        """Called by the tap: nothing needs to be different while the training step runs."""
        return nullcontext()

    def _begin_step(self):
        """Called by the tap, first in every training step."""
        if self._log is None:
            self._prepare()
        self._log.begin_step()

    def _before(self, update):
        """Called by the tap before the weights change: measure all that does not need the change."""
        parts = {
            "norm": self._norms(update.gradients, update),
            "global_norm": [_total_norm(update.gradients)],
        }
        if self._recording.clipping_measured:
            parts |= self._clipping(update)
        for measure in self.measures:
            if measure != "update_ratio":
                parts[measure] = self._each(_MEASURED[measure], update.gradients, update, MEASURES[measure])
        if "update_ratio" in self.measures:
            parts["update_ratio"] = [ops.copy(ops.convert_to_tensor(variable)) for variable in update.variables]
        return parts

    def _after(self, parts, update, **where):
        """Called by the tap once the weights have changed: write the row."""
        if "update_ratio" in parts:
            weights = parts["update_ratio"]
            changes = [
                ops.convert_to_tensor(variable) - weight
                for variable, weight in zip(update.variables, weights, strict=True)
            ]
            ratios = zip(self._norms(changes, update), self._norms(weights, update), strict=True)
            parts["update_ratio"] = [change / weight for change, weight in ratios]
        numbers = [ops.reshape(ops.cast(part, "float32"), (-1,)) for part in self._recording.in_order(parts)]
        self._log.write(ops.concatenate(numbers), **where)

    def _each(self, measure, tensors, update, width=1):
        """Measure one tensor per variable, in the order of the recording; NaN for a weight that is not trained."""
        found = [ops.full((width,), float("nan"))] * len(self._recording.weights)
        for tensor, variable in zip(tensors, update.variables, strict=True):
            place = self._places.get(id(variable))
            if place is not None:
                found[place] = measure(tensor)
        return found

    def _norms(self, tensors, update):
        return self._each(_backend.norm, tensors, update)

    def _clipping(self, update):
        """Measure what the optimizer used, where that does not follow from the norms of this step's gradients."""
        before, after = _total_norm(update.used), _total_norm(update.clipped)
        apart = [
            used / ops.cast(before, used.dtype) - clipped / ops.cast(after, clipped.dtype)
            for used, clipped in zip(update.used, update.clipped, strict=True)
        ]
        parts = {
            "clipped_norm": self._norms(update.clipped, update),
            "clipped_global_norm": [after],
            "clip_chord": [_total_norm(apart)],
        }
        if update.counts is None:
            return parts
        nothing = float("nan")  # a step that only adds to the mean
        return {name: [ops.where(update.counts, number, nothing) for number in part] for name, part in parts.items()}

    def _read(self):
        if self._log is None:
            return
        known = len(self._recording.steps)
        self._recording.append(*self._log.drain())
        self._unread = 0
        if self._writer is not None and len(self._recording.steps) > known:
            self._write(self._recording.since(known))

    def _write(self, new):
        """Hand what was just read to TensorBoard."""
        self._writer.scalars(new.scalars(), new.steps)
        edges = [HISTOGRAM_EDGES[0] - 1, *HISTOGRAM_EDGES, HISTOGRAM_EDGES[-1] + 1]  # the outer bins have no end
        for weight, fractions in new.measured.get("histogram", {}).items():
            self._writer.histogram(f"log10_gradient/{weight}", edges, fractions[-1], new.steps[-1])

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


def _total_norm(tensors):
    """Return the norm of several tensors together."""
    return _backend.norm(ops.stack([_backend.norm(tensor) for tensor in tensors]))


def _histogram(gradient):
    """Return the fraction of entries in each bin of log10 of the absolute value."""
    size = ops.abs(ops.reshape(ops.cast(gradient, "float32"), (-1,)))
    bins = ops.floor(ops.log10(size) - HISTOGRAM_EDGES[0]) + 1
    last = MEASURES["histogram"] - 1
    bins = ops.where(ops.isnan(size), float(last), ops.clip(bins, 0.0, float(last)))  # log10(0) is -inf: the first bin
    counts = ops.segment_sum(ops.ones_like(size), ops.cast(bins, "int32"), num_segments=last + 1)
    return counts / size.shape[0]


_MEASURED = {
    "max": lambda gradient: ops.max(ops.abs(gradient)),
    "zero_fraction": lambda gradient: ops.mean(ops.cast(ops.equal(gradient, 0), "float32")),
    "histogram": _histogram,
}


class _ProbeRecorder(keras.callbacks.Callback):
    """Measure a probe batch every so many training steps; what is measured, a subclass says in `_prepare`."""

    def __init__(self, every, layers):
        super().__init__()
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1. Received: every={every!r}.")
        self.every, self.layers = int(every), layers
        self._steps, self._records = [], []

    def on_train_begin(self, logs=None):
        """Check the probe batch against the model and start a new history."""
        self._measure = self._prepare()
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
            self._training.arm()
        else:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps taken."""
        if self._training:
            self._training.count()
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
            return self._stacked()
        _, norms = self._training.records(self.every)
        return {layer if state == "h" else f"{layer}/{state}": of_state for (layer, state), of_state in norms.items()}


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
        return keras.tree.map_structure(lambda records: records[:, 0], self._stacked())

    @property
    def spread(self):
        """10 % and 90 % quantiles, `{"layer": {"gate": array (2, records, time)}}`."""
        return keras.tree.map_structure(lambda records: np.moveaxis(records[:, 1:3], 1, 0), self._stacked())

    @property
    def saturation(self):
        """Fractions under 0.1 and over 0.9, `{"layer": {"gate": array (2, records, time)}}`."""
        return {
            layer: {gate: np.moveaxis(of_gate[:, 3:], 1, 0) for gate, of_gate in gates.items() if gate != "candidate"}
            for layer, gates in self._stacked().items()
        }
