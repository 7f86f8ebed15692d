"""The gates of LSTM and GRU layers for every time step, now and then while a model trains."""

import numpy as np

from rnnkit import probes
from rnnkit._names import ByName
from rnnkit.recorders._batch_recorder import BatchRecorder


class GateRecorder(BatchRecorder):
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
        return ByName(self._of_each_gate(lambda statistics: statistics.mean))

    @property
    def spread(self):
        """10 % and 90 % quantiles, `{"layer": {"gate": array (2, records, time)}}`."""
        return ByName(self._of_each_gate(lambda statistics: np.stack([statistics.low, statistics.high])))

    @property
    def saturation(self):
        """Fractions under 0.1 and over 0.9, `{"layer": {"gate": array (2, records, time)}}`."""
        fractions = self._of_each_gate(lambda statistics: np.stack([statistics.closed, statistics.opened]))
        return {
            layer: {name: pair for name, pair in gates.items() if name != "candidate"}
            for layer, gates in fractions.items()
        }

    def _of_each_gate(self, select):
        """Return `{"layer": {"gate": select(statistics)}}`, the statistics of all records stacked."""
        return {
            layer: {gate: select(statistics) for gate, statistics in gates.items()}
            for layer, gates in self._stacked().items()
        }
