"""The norms of the gradients that training uses, at every update of the weights."""

import warnings
from contextlib import ExitStack, contextmanager

from rnnkit._backend import keras
from rnnkit._instrument.optimizer_hook import hook_optimizers, optimizers_of, updates_made, with_inner_optimizers
from rnnkit._instrument.training_step import TrainStepHook, own_train_function
from rnnkit._instrument.traversal import models_in
from rnnkit._names import as_names
from rnnkit.recorders._gradient_rows import GradientRows
from rnnkit.recorders._recording import HISTOGRAM_EDGES, MEASURES, Readings

_ATTACHED_ROWS = 2**14  # in a loop of the user's own nobody tells when a compiled step has run


class GradientRecorder(Readings, keras.callbacks.Callback):
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
            from rnnkit.recorders._tensorboard import EventWriter  # a missing package is named now, not when `fit` runs

            self._make_writer = EventWriter
        self._writer = None
        self._hook = None
        self._attached = []  # optimizers that are listened to in a loop of the user's own
        self._rows = GradientRows(None, self.measures, self._listened_to)
        self._batches = 0
        self._told_of_another_fit = False
        self._rows_written = 0  # of those read, by the writer

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
        self._rows_written = 0

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
        return self._read()

    def _read(self):
        self._rows.reader.read()
        return self._rows.recording


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
