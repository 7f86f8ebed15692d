"""A look into a model's training step, where the optimizer takes the gradients."""

from contextlib import ExitStack

from rnnkit import _backend
from rnnkit._backend import keras

ops = keras.ops


class Tap:
    """A training step whose gradients recorders can see; it stands in for the model's own for one call at a time.

    The model's `train_function` is replaced just before a step and put back when that step starts, and the optimizer
    is watched only while the step runs (in a compiled step: while it is traced). So whatever ends training, no trace
    of the recorder is left on the model or its optimizer.

    A recorder has a `_log` and a context `_during_step()`, and is told `_begin_step()`, `_before(update)` and
    `_after(seen, update)` when `_backend.watched` tells the tap.
    """

    def __init__(self, model):
        if isinstance(model.train_function, Tap):  # left armed by a callback that raised before the step
            model.train_function = model.train_function.plain
        self.model, self.plain, self.step, self.recorders = model, None, None, []

    def arm(self, recorder):
        """Stand in for the next step; or, if another recorder's tap already does, let that one serve both."""
        armed = self.model.train_function
        tap = armed if isinstance(armed, Tap) else self
        if recorder not in tap.recorders:
            tap.recorders.append(recorder)
            tap.step = None  # it did not know this one
        if tap is self:
            self.plain = armed
            self.model.train_function = self

    def __call__(self, *arguments):
        self.model.train_function = self.plain
        if self.step is None:
            recorders = list(self.recorders)
            self.step = _backend.training_step(self.model, lambda: [recorder._log for recorder in recorders])
        with ExitStack() as stack:
            stack.enter_context(_backend.watched(self.model.optimizer, self))
            for recorder in self.recorders:
                stack.enter_context(recorder._during_step())
            return self.step(*arguments)

    def begin_step(self):
        """Called inside the training step, first."""
        for recorder in self.recorders:
            recorder._begin_step()

    def before(self, gradients, variables, scale, loss_scale):
        """Called where the optimizer is about to change the variables."""
        gradients = [None if gradient is None else _backend.dense(gradient) / scale for gradient in gradients]
        update = Update(clipping_optimizer(self.model), gradients, variables, loss_scale)
        return update, [recorder._before(update) for recorder in self.recorders]

    def after(self, seen, **where):
        """Called when it has changed them."""
        update, rows = seen
        for recorder, row in zip(self.recorders, rows, strict=True):
            recorder._after(row, update, **where)


def _computed_once(method):
    """Make a property that keeps what it returns.

    `functools.cached_property` holds a lock until Python 3.12: one replica of a `tf.distribute` strategy would wait for
    it, while the one that holds it waits for that replica.
    """
    name = f"_{method.__name__}"

    def get(self):
        if name not in vars(self):
            setattr(self, name, method(self))
        return getattr(self, name)

    return property(get, doc=method.__doc__)


class Update:
    """What one training step does to the weights: the gradients it has and those that it goes on to use.

    Args:
        optimizer: the one that clips.
        gradients: dense and in true units, None for a variable on which the loss does not depend.
        variables: the Keras variables, in the same order.
        loss_scale: by how much loss scaling has multiplied the loss.
    """

    def __init__(self, optimizer, gradients, variables, loss_scale):
        self.optimizer, self.variables, self.loss_scale = optimizer, variables, loss_scale
        self._local = gradients
        # Kept from before: by the time they are asked for, the accumulators may have been emptied.
        self._mean, self.counts = self._accumulated()

    @_computed_once
    def gradients(self):
        """Gradient of this step's batch by each variable, summed over replicas; zeros where there is none."""
        return self._filled(self._local)

    @_computed_once
    def used(self):
        """The gradient that the optimizer clips: the mean of several steps under gradient accumulation."""
        return self.gradients if self._mean is self._local else self._filled(self._mean)

    @_computed_once
    def clipped(self):
        """What clipping makes of `used`. On several replicas Keras clips on each of them, before it adds up."""
        return self._filled(_clip(self._mean, *clipping(self.optimizer)))

    def _filled(self, gradients):
        summed = iter(_backend.sum_over_replicas([gradient for gradient in gradients if gradient is not None]))
        return [
            ops.zeros(variable.shape, variable.dtype) if gradient is None else next(summed)
            for gradient, variable in zip(gradients, self.variables, strict=True)
        ]

    def _accumulated(self):
        """Return the mean that the optimizer clips, and whether this step is one that uses it (None: each does)."""
        steps = self.optimizer.gradient_accumulation_steps
        if not steps:
            return self._local, None
        if not self.optimizer.built:
            self.optimizer.build(self.variables)
        held = _accumulators(self.optimizer, self.variables)
        mean = [
            None if gradient is None else (gradient + ops.convert_to_tensor(total)) / steps
            for gradient, total in zip(self._local, held, strict=True)
        ]
        (taken,) = (variable for variable in self.optimizer.variables if variable.name == "iteration")
        return mean, ops.equal((ops.convert_to_tensor(taken) + 1) % steps, 0)


def _accumulators(optimizer, variables):
    """Return the optimizer's sum of earlier gradients for each variable, found by the names that Keras gives them."""
    by_name = {}
    for held in optimizer.variables:
        by_name.setdefault(held.name, []).append(held)  # of equal names, the order is that of the variables
    return [by_name[f"{variable.path.replace('/', '_')}_gradient_accumulator"].pop(0) for variable in variables]


def clipping_optimizer(model):
    """Return the optimizer that takes the unscaled gradients and clips them."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            "A gradient recorder listens to the model's optimizer. "
            f"Received: model {model.name!r} without one. Pass an optimizer to model.compile."
        )
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def clipping(optimizer):
    """Return how an optimizer clips, in the order in which Keras looks: (name of the setting, bound)."""
    for rule in ("clipnorm", "global_clipnorm", "clipvalue"):
        bound = getattr(optimizer, rule)
        if bound is not None and bound > 0:
            return rule, float(bound)
    return None, None


def _clip(gradients, rule, bound):
    if rule is None:
        return gradients
    if rule == "clipvalue":
        return [None if gradient is None else ops.clip(gradient, -bound, bound) for gradient in gradients]
    norms = [None if gradient is None else _backend.norm(gradient) for gradient in gradients]
    if rule == "global_clipnorm":
        norms = [_backend.norm(ops.stack([norm for norm in norms if norm is not None]))] * len(norms)
    return [
        None if gradient is None else gradient * ops.cast(bound / ops.maximum(norm, bound), gradient.dtype)
        for gradient, norm in zip(gradients, norms, strict=True)
    ]
