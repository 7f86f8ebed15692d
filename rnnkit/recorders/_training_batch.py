"""dL/dh_t of the batches that a model trains on, overheard in the backward pass of the training step itself."""

import functools
from contextlib import ExitStack, contextmanager

import numpy as np

from rnnkit import _backend
from rnnkit._backend import ops
from rnnkit._instrument import rnn_loop
from rnnkit._instrument.checks import recurrent_layers
from rnnkit._instrument.perturbation import perturbed, state_key
from rnnkit._instrument.training_step import TrainStepHook
from rnnkit.recorders._row_reader import RowReader


class TrainingBatch:
    """One training run's norms of dL/dh_t, for every time step of every batch; an observer of its training step.

    Zeros are added to the states; where the training step's own backward pass comes by, they hear the derivative.

    Args:
        model: the model in training; on one device.
        layers: names of recurrent layers, or None for all.
        every: training steps between two records.

    Raises:
        ValueError: if there is no such layer, a layer is frozen, or the model is trained on several devices.
    """

    def __init__(self, model, layers, every):
        self._layers = recurrent_layers(model, layers)
        for key, layer in self._layers.items():
            if not layer.trainable_variables:
                raise ValueError(
                    "dL/dh_t of the training batch is overheard on its way to the layer's own weights. "
                    f"Received: layer {key!r}, which is frozen. Pass a probe batch, StateGradientRecorder(x, y), "
                    "or leave the layer out with layers=[...]."
                )
        if _backend.replicas(model) > 1:
            raise ValueError(
                "dL/dh_t of the training batch is recorded on one device. "
                f"Received: a model on {_backend.replicas(model)} of them. Pass a probe batch: "
                "StateGradientRecorder(x, y)."
            )
        self._every = every
        self._hook = TrainStepHook(model)
        self._reader = RowReader(self._receive, model.steps_per_execution)
        self._sizes = {}  # time steps of each state, {(layer, state): T}
        self._captured = {}  # norms of the update that is being made, {(layer, state): tensor (T,)}
        self._replacements = []
        self._steps = [np.empty(0, "int64")]
        self._rows = []

    def begin_step(self, batch):
        """Listen to the next training step."""
        self._hook.install(self)

    def end_step(self, batch):
        """Read what was written, if it is time."""
        self._hook.remove()
        self._reader.after_call()

    def end(self):
        """Read what was written and let go of the model."""
        self._hook.remove()
        self._reader.release()
        self._captured.clear()

    def _receive(self, steps, rows):
        self._steps.append(steps)
        self._rows.append(rows)

    @property
    def buffer(self):
        """Where the training step writes its rows."""
        return self._reader.buffer

    def new_step(self):
        """Called by the hook: another training step will have a buffer of its own."""
        self._reader.release()

    @property
    def steps(self):
        """Training steps taken before each record, array (records,)."""
        steps, due = self._due()
        return steps[due]

    def stacked(self):
        """Return the records, one on the other, `{"layer": array (records, time)}`."""
        _, due = self._due()
        if not len(due):
            return {}
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        parts = np.split(np.concatenate(self._rows)[due], ends, axis=1)
        return {state_key(*state): part for state, part in zip(self._sizes, parts, strict=True)}

    def _due(self):
        """Read what was written; return the steps (n,) seen so far, and where among them a record is due."""
        self._reader.read()
        steps = np.concatenate(self._steps)
        _, due = np.unique(steps // self._every, return_index=True)
        return steps, due

    @contextmanager
    def during_step(self):
        """Called by the hook: for as long as the training step runs, or is traced."""
        self._captured.clear()
        for key, layer in self._layers.items():
            if "inner_loop" in vars(layer):
                raise ValueError(
                    "One recorder can listen to a layer in the training step. "
                    f"Received: two for layer {key!r}. Use the one that records more often, or give one of them a "
                    "probe batch: StateGradientRecorder(x, y)."
                )
        with ExitStack() as stack:
            self._replacements = [
                stack.enter_context(perturbed({key: layer}, functools.partial(self._zeros, layer)))
                for key, layer in self._layers.items()
            ]
            yield

    def _zeros(self, layer, key, shape, dtype):
        def capture(gradient):
            # Divided before they are added up: loss scaling may have made them nearly too large for float32.
            norms = _backend.norm(gradient, axis=-1)
            self._captured[key] = ops.sum(norms / ops.cast(ops.shape(norms)[0], norms.dtype), axis=0)

        self._captured[key] = ops.zeros((shape[1],))  # if the loss does not depend on this state
        return _backend.heard_zeros(layer.trainable_variables[0], shape, dtype, capture)

    def before_update(self, update):
        """Called where an optimizer is handed gradients: the backward pass has come by."""
        captured = dict(self._captured)
        self._captured.clear()
        for replacement in self._replacements:
            replacement.start_forward_pass()
        if not captured:  # an update of something else
            return None
        sizes = {key: norms.shape[0] for key, norms in captured.items()}
        if self.buffer is None:
            self._prepare(sizes)
        if sizes != self._sizes:
            raise ValueError(
                "dL/dh_t of the training batch is recorded for sequences of one length. Received: batches of "
                f"{_lengths(self._sizes)} and of {_lengths(sizes)} steps. Pad them alike, or pass a probe batch: "
                "StateGradientRecorder(x, y)."
            )
        return [ops.cast(norms / update.loss_scale, "float32") for norms in captured.values()]

    def after_update(self, update, state):
        """Called once the weights have changed: write the row."""
        self.buffer.write(ops.concatenate(state), update.applied)

    def _prepare(self, sizes):
        rnn_loop.require_reached(self._layers, [layer for layer, _ in sizes])
        if None in sizes.values():
            raise ValueError(
                "dL/dh_t of the training batch is recorded for sequences of one length, known when training starts. "
                "Received: batches of unknown length. Pass arrays, or a data set whose elements have a fixed shape; "
                "or a probe batch, StateGradientRecorder(x, y)."
            )
        self._sizes = sizes
        self._reader.make_buffer(sum(sizes.values()))


def _lengths(sizes):
    return ", ".join(map(str, sorted(set(sizes.values()))))
