"""What the recorders have in common that look at a batch every so many training steps."""

import numpy as np

from rnnkit._backend import keras
from rnnkit.recorders._probe_batch import ProbeBatch


class BatchRecorder(keras.callbacks.Callback):
    """Record a batch every so many training steps: a probe batch, unless a subclass has another source of records.

    A source belongs to one training run. It is told of each step by `begin_step(batch)` and `end_step(batch)`, and of
    the end of training by `end()`; it has the `steps` of its records, and `stacked()` gives these.
    """

    def __init__(self, every, layers):
        super().__init__()
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1. Received: every={every!r}.")
        self.every = int(every)
        self.layers = layers
        self._source = ProbeBatch(None, self.every)  # without records, until training begins

    def _prepare(self):
        """Check the probe batch against the model; return a function without arguments that measures it."""
        raise NotImplementedError

    def _make_source(self):
        return ProbeBatch(self._prepare(), self.every)

    def on_train_begin(self, logs=None):
        """Check what is to be recorded against the model and start a new history."""
        self._source = self._make_source()

    def on_train_batch_begin(self, batch, logs=None):
        """Measure before the step, if it is time; or listen to the step."""
        self._source.begin_step(batch)

    def on_train_batch_end(self, batch, logs=None):
        """Count the steps taken: several under `steps_per_execution`."""
        self._source.end_step(batch)

    def on_train_end(self, logs=None):
        """Let go of the model."""
        self._source.end()

    def __repr__(self):
        names = ", ".join(self.history) or "nothing: pass it to model.fit(..., callbacks=[recorder])"
        return f"<{type(self).__name__}: {len(self.steps)} records of {names}>"

    @property
    def steps(self):
        """Training steps taken before each record."""
        return self._source.steps

    def _stacked(self):
        """Return the records, one on the other: the structure of one, with arrays (records, ...)."""
        return self._source.stacked()
