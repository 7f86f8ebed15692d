"""A probe batch, measured now and then while a model trains."""

import numpy as np

from rnnkit._backend import keras


class ProbeBatch:
    """One training run's measurements of a probe batch, between which only the weights change.

    Args:
        measure: function without arguments that measures it, and gives a structure of arrays; None for no records.
        every: training steps between two records.
    """

    def __init__(self, measure, every):
        self._measure = measure
        self._every = every
        self._step = 0  # that comes next
        self._begun = 0  # the batch with which the step in progress began
        self._steps = []
        self._records = []

    def begin_step(self, batch):
        """Measure before the step, if it is time."""
        self._begun = batch
        if self._measure is None:
            return
        if not self._steps or self._step // self._every > self._steps[-1] // self._every:
            self._records.append(self._measure())
            self._steps.append(self._step)

    def end_step(self, batch):
        """Count the steps taken: several under `steps_per_execution`."""
        self._step += batch - self._begun + 1

    def end(self):
        """Let go of the model."""
        self._measure = None

    @property
    def steps(self):
        """Training steps taken before each record, array (records,)."""
        return np.array(self._steps, "int64")

    def stacked(self):
        """Return the records, one on the other: the structure of one, with arrays (records, ...)."""
        if not self._records:
            return {}
        return keras.tree.map_structure(lambda *records: np.stack(records), *self._records)
