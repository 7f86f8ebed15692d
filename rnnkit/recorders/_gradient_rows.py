"""The rows of a gradient recording, measured where an optimizer is handed gradients."""

import warnings
from contextlib import nullcontext

from rnnkit import _backend
from rnnkit._backend import ops
from rnnkit._instrument.optimizer_hook import clipping_follows, scales_loss
from rnnkit._instrument.traversal import trained_weights
from rnnkit.recorders._recording import HISTOGRAM_EDGES, LEFT_ALONE, MEASURES, RULES, Recording
from rnnkit.recorders._row_reader import RowReader


class GradientRows:
    """What one training run, or one loop, shows of its updates: a `StepObserver`, and the recording that comes of it.

    Args:
        model: the model whose weights are trained.
        measures: what to record besides norms, a list of keys of `MEASURES`.
        listened_to: function that returns the optimizers that are listened to.
        rows_per_call: how many updates one call of the training step is expected to make.
        rows: for how many updates to make room, in a loop whose calls nobody counts; None in one that tells of them.

    Attributes:
        recording: the `Recording` so far.
        reader: the `RowReader` that reads what the training step writes.
        reached: whether an update was seen, or traced.
        others_seen: whether an update of other weights than the model's was.
    """

    def __init__(self, model, measures, listened_to, rows_per_call=1, rows=None):
        self.model = model
        self.measures = measures
        self.recording = Recording([], measures=measures)
        self.reader = RowReader(self._receive, rows_per_call)
        self.reached = False
        self.others_seen = False
        self._listened_to = listened_to
        self._rows = rows
        self._places = {}

    def _receive(self, steps, rows):
        self.recording.append(steps, rows)

    def require_weights(self):
        """Return the weights of the model that are trained, `{key: variable}`; raise if there are none."""
        weights = trained_weights(self.model)
        if not weights:
            raise ValueError(
                "A gradient recorder needs a model with trainable weights. "
                f"Received: model {self.model.name!r} with none. Unfreeze a layer: layer.trainable = True."
            )
        return weights

    def prepare(self):
        """Make room before the first update, where that can be done.

        JAX then traces the step once and not twice, and no two replicas make room at the same time.
        """
        self.require_weights()
        replicas = _backend.replicas(self.model)
        if replicas > 1 or not _backend.GRADIENTS_MAY_BE_SPARSE:
            self._make_room(not all(clipping_follows(one, replicas) for one in self._listened_to()))

    def _make_room(self, clipping_measured):
        """Make room for the rows of updates: of all weights that are trained now, and those before."""
        weights = self.require_weights()
        several = sum(not scales_loss(optimizer) for optimizer in self._listened_to()) > 1
        self.recording = self.recording.extended(weights, clipping_measured or several)
        place_of = {name: place for place, name in enumerate(self.recording.weights)}
        self._places = {id(variable): place_of[name] for name, variable in weights.items()}
        self.reader.make_buffer(self.recording.columns, self._rows)

    def follow_compile(self):
        """Let the steps to come have room of their own, if the model now trains further weights or clips otherwise.

        If not, the room stays: JAX may go on with a step that it has traced, and that writes there.
        """
        weights = trained_weights(self.model).values()
        further = any(id(variable) not in self._places for variable in weights)
        replicas = _backend.replicas(self.model)
        if further or not all(clipping_follows(optimizer, replicas) for optimizer in self._listened_to()):
            self.reader.release()

    @property
    def buffer(self):
        """Where the training step writes its rows."""
        return self.reader.buffer

    def new_step(self):
        """Called by the hook: another training step will have a buffer of its own."""
        self.reader.release()

    def during_step(self):
        """Called by the hook: nothing needs to be different while the training step runs."""
        return nullcontext()

    def before_update(self, update):
        """Called where an optimizer is handed gradients: measure all that does not need the change."""
        if not self._concerns(update):
            self.others_seen = True
            return None
        self.reached = True
        parts = {
            "norm": self._each(_backend.norm, update.gradients, update, missing=LEFT_ALONE),
            "global_norm": [_total_norm(update.gradients)],
        }
        for measure in self.measures:
            if measure != "update_ratio":
                parts[measure] = self._each(_MEASURED[measure], update.gradients, update, MEASURES[measure])
        weights = []
        if "update_ratio" in self.measures:
            weights = [ops.copy(ops.convert_to_tensor(variable)) for variable in update.variables]
        return parts, weights

    def after_update(self, update, state):
        """Called once the weights have changed: write the row."""
        parts, weights = state
        if weights:
            pairs = zip(update.variables, weights, strict=True)
            changes = [ops.convert_to_tensor(variable) - weight for variable, weight in pairs]
            norms = zip(self._norms(changes, update), self._norms(weights, update), strict=True)
            parts["update_ratio"] = [change / weight for change, weight in norms]
        parts |= self._clipping(update)
        numbers = [ops.reshape(ops.cast(part, "float32"), (-1,)) for part in self.recording.in_order(parts)]
        self.buffer.write(ops.concatenate(numbers), update.applied)
        if self._rows and _backend.trace_scope() is None:  # an eager loop tells of each of its updates
            self.reader.after_call()

    def _concerns(self, update):
        """Tell whether an update is one of the model's weights; make room for those that are new."""
        new = [variable for variable in update.variables if id(variable) not in self._places]
        known = len(new) < len(update.variables)
        if self.buffer is not None and not new:
            return known
        trained = {id(variable): name for name, variable in trained_weights(self.model).items()}
        names = [trained[id(variable)] for variable in new if id(variable) in trained]
        if not (known or names):
            return False
        if self.buffer is None or (names and _backend.trace_scope() is None):
            self.reader.release()
            self._make_room(update.clipping[0] == "measured")
        elif names:
            warnings.warn(
                "A compiled step is recorded for the weights that were trained when it was first recorded. "
                f"Received: {', '.join(names)}, trained since. Begin another recording where you unfreeze them.",
                stacklevel=2,
            )
        return True

    def _each(self, measure, tensors, update, width=1, missing=float("nan")):
        """Measure one tensor per variable, in the order of the recording; `missing` for weights that are left alone."""
        measured = [ops.full((width,), missing)] * len(self.recording.weights)
        for tensor, variable in zip(tensors, update.variables, strict=True):
            place = self._places.get(id(variable))
            if place is not None:
                measured[place] = measure(tensor)
        return measured

    def _norms(self, tensors, update):
        return self._each(_backend.norm, tensors, update)

    def _clipping(self, update):
        """Return how the update was clipped and, where that does not follow from the norms, what is left."""
        rule, bound = update.clipping
        parts = {}
        if self.recording.clipping_measured:
            nothing = ops.full((1,), float("nan"))
            parts = {"clipped_norm": [nothing] * len(self.recording.weights)}
            parts |= {"clipped_global_norm": [nothing], "clip_chord": [nothing]}
        if rule == "measured":
            measured = self._scaled_clipping(update) or self._measured_clipping(update) if parts else None
            rule, parts = ("measured", measured) if measured else ("unknown", parts)
        return parts | {"clip_rule": [ops.full((1,), RULES.index(rule))], "clip_bound": [ops.full((1,), bound)]}

    def _scaled_clipping(self, update):
        """Measure clipping that puts a factor on each gradient; None where it does something else."""
        scales = update.clip_scales()
        if scales is None:
            return None
        norms = [_backend.norm(gradient) for gradient in update.gradients]
        clipped = [norm * ops.cast(scale, norm.dtype) for norm, scale in zip(norms, scales, strict=True)]
        before, after = (_backend.norm(ops.stack(each)) for each in (norms, clipped))
        apart = [one / before - other / after for one, other in zip(norms, clipped, strict=True)]
        return {
            "clipped_norm": self._each(lambda norm: norm, clipped, update),
            "clipped_global_norm": [after],
            "clip_chord": [_backend.norm(ops.stack(apart))],
        }

    def _measured_clipping(self, update):
        """Measure what was used and what is left of it, tensor by tensor; None where that cannot be known."""
        both = update.used_and_clipped()
        if both is None:
            return None
        used, clipped = both
        before, after = _total_norm(used), _total_norm(clipped)
        apart = [
            one / ops.cast(before, one.dtype) - other / ops.cast(after, other.dtype)
            for one, other in zip(used, clipped, strict=True)
        ]
        parts = {
            "clipped_norm": self._norms(clipped, update),
            "clipped_global_norm": [after],
            "clip_chord": [_total_norm(apart)],
        }
        if update.applies_now is None:
            return parts
        nothing = float("nan")  # an update that only adds to the mean
        return {
            name: [ops.where(update.applies_now, number, nothing) for number in part] for name, part in parts.items()
        }


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
