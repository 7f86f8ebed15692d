"""dL/dh_t for every time step, now and then while a model trains."""

from rnnkit import probes
from rnnkit._names import ByName
from rnnkit.recorders._batch_recorder import BatchRecorder
from rnnkit.recorders._training_batch import TrainingBatch


class StateGradientRecorder(BatchRecorder):
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
        if x is None and (y is not None or dtype is not None or jit_compile):
            raise ValueError(
                "`y`, `dtype` and `jit_compile` belong to a probe batch. Received: one of them without x. Pass both, "
                "StateGradientRecorder(x[:64], y[:64]), or none of these to record the training batch."
            )
        self.x = x
        self.y = y
        self.dtype = dtype
        self.jit_compile = jit_compile

    def _make_source(self):
        if self.x is None:
            return TrainingBatch(self.model, self.layers, self.every)
        return super()._make_source()

    def _prepare(self):
        return probes.state_gradient_norms(
            self.model, self.x, self.y, layers=self.layers, dtype=self.dtype, jit_compile=self.jit_compile
        )

    @property
    def history(self):
        """Mean norm of dL/dh_t, `{"layer": array (records, time)}`."""
        return ByName(self._stacked())
