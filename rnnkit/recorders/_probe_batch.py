"""A probe batch that is measured now and then while a model trains."""

import numpy as np

from rnnkit._backend import keras


class ProbeRecorder(keras.callbacks.Callback):
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
