"""A look at the updates that optimizers make, from the moment they are handed gradients."""

import threading
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

from rnnkit import _backend
from rnnkit._backend import keras, ops
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument.traversal import models_in

_ENTRIES = ("apply_gradients", "apply", "stateless_apply")


class UpdateObserver(Protocol):
    """What is shown each update of a model's weights.

    On TensorFlow and JAX a compiled training step runs these methods once, while it is traced.
    """

    def before_update(self, update: "Update") -> Any:
        """Look at the gradients and at the weights as they are; what is returned, `after_update` gets.

        Return None to have nothing to do with this update.
        """

    def after_update(self, update: "Update", state: Any) -> None:
        """Look at what has become of them."""


class Update:
    """One update of weights: the gradients that an optimizer is handed, and those that it goes on to use.

    Args:
        optimizer: the optimizer that is handed the gradients.
        gradients: as the training step computed them; None for a variable on which the loss does not depend.
        variables: the Keras variables, in the same order.
        replicas: on how many devices copies of the model are trained.

    Attributes:
        optimizer: the one that clips: under loss scaling, the inner one.
        variables: those that are trained by their gradient. (What Keras overwrites with a "gradient", such as the
            scales of float8, is left out.)
        gradients: dense and in true units, summed over replicas, one for each of `variables`; zeros for None.
        loss_scale: by how much loss scaling has multiplied the loss.
        applied: whether the update is made; loss scaling skips some. True, or a boolean tensor.
        applies_now: whether accumulated gradients are used in this update (None: nothing is accumulated).
    """

    def __init__(self, optimizer, gradients, variables, replicas):
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
            if not getattr(variable, "overwrite_with_gradient", False)
        ]
        self.variables = [variable for _, variable in pairs]
        self.applied = True
        if scales_loss(optimizer):
            self.optimizer = optimizer.inner_optimizer
            scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
            self.loss_scale = ops.convert_to_tensor(scale)  # as it is before this update changes it
            self.applied = optimizer.check_finite(gradients)
        else:
            self.optimizer = optimizer
            self.loss_scale = optimizer.loss_scale_factor or 1
        self._replicas = replicas
        # Some rows of an embedding's gradient may stand there twice; Keras clips them so.
        self._given = [None if gradient is None else _unscaled(gradient, self.loss_scale) for gradient, _ in pairs]
        self.gradients = self._whole(self._given)
        self._mean, self.applies_now = self._with_accumulated()
        self._clips, self._clips_known = [], True
        self._scope = _backend.trace_scope()

    @property
    def clipping(self):
        """How it is clipped, `(rule, bound)`; the rule is one of `rnnkit.recorders._recording.RULES`."""
        rule, bound = clipping(self.optimizer)
        sparse = any(gradient is not None and _backend.is_sparse(gradient) for gradient in self._given)
        if clipping_follows(self.optimizer, self._replicas) and not (rule and sparse):
            return rule or "none", bound or 0.0
        return "measured", 0.0

    def clip_scales(self):
        """Return the factors that clipping puts on `gradients`, where that is all it does; else None.

        What is clipped is not read for it: TensorFlow multiplies it by the learning rate in another order, and rounds
        in another way, if anybody reads it.
        """
        rule, bound = clipping(self.optimizer)
        if rule is None or not clipping_follows(self.optimizer, self._replicas):
            return None
        there = [gradient for gradient in self._given if gradient is not None]
        norms = [_backend.norm(_backend.rows(gradient)) for gradient in there]
        if rule == "global_clipnorm":
            norms = [_backend.norm(ops.stack(norms))] * len(norms)
        scales = iter([bound / ops.maximum(norm, bound) + (norm - norm) for norm in norms])
        return [1.0 if gradient is None else next(scales) for gradient in self._given]

    def note_clip(self, variables, before, after):
        """Note that an optimizer, on its way, has clipped the gradients of some variables."""
        if len(variables) == len(before) and _backend.trace_scope() == self._scope:
            self._clips.append((variables, before, after))
        else:  # for variables that are not told, or in a branch of the graph, out of which no tensor can be carried
            self._clips_known = False

    def used_and_clipped(self):
        """Return what the optimizer clips, and what is left: two lists like `gradients`; None if it cannot be known.

        Under gradient accumulation it clips the mean of several gradients. On several replicas Keras clips on each of
        them, before it adds up.
        """
        clips = self._clips
        if (self.applies_now is not None or self.applied is not True) and _is_keras_own(self.optimizer):
            clips = [self._clip_again()]  # what the optimizer clips, it clips in a branch of the graph
        elif not (clips and self._clips_known):
            return None
        used, left = {}, {}
        for variables, before, after in clips:
            for variable, one, other in zip(variables, before, after, strict=True):
                used[id(variable)], left[id(variable)] = one, other
        return tuple(self._whole([each.get(id(variable)) for variable in self.variables]) for each in (used, left))

    def _clip_again(self):
        """Do what Keras's own clipping does, which reads and changes nothing besides."""
        there = [place for place, gradient in enumerate(self._mean) if gradient is not None]
        before = [self._mean[place] for place in there]
        after = type(self.optimizer)._clip_gradients(self.optimizer, before)
        return [self.variables[place] for place in there], before, after

    def _whole(self, gradients):
        """Return dense gradients summed over replicas, and zeros where there is none."""
        summed = iter(_backend.sum_over_replicas([_backend.dense(one) for one in gradients if one is not None]))
        return [
            ops.zeros_like(ops.convert_to_tensor(variable)) if gradient is None else next(summed)
            for gradient, variable in zip(gradients, self.variables, strict=True)
        ]

    def _with_accumulated(self):
        """Return the mean that the optimizer clips, and whether this update is one that uses it (None: each is)."""
        steps = self.optimizer.gradient_accumulation_steps
        if not steps:
            return self._given, None
        if not self.optimizer.built:  # its first update: nothing is accumulated yet
            mean = [None if gradient is None else _backend.dense(gradient) / steps for gradient in self._given]
            return mean, ops.equal(1 % steps, 0)
        mean = [
            None if gradient is None else (gradient + total) / steps
            for gradient, total in zip(self._given, _accumulators(self.optimizer, self.variables), strict=True)
        ]
        return mean, ops.equal((ops.convert_to_tensor(_iteration(self.optimizer)) + 1) % steps, 0)


def _unscaled(gradient, scale):
    return gradient if isinstance(scale, int) and scale == 1 else ops.divide(gradient, scale)


def _accumulators(optimizer, variables):
    """Return the optimizer's sum of earlier gradients for each variable, found by the names that Keras gives them."""
    by_name = {}
    for variable in optimizer.variables:
        by_name.setdefault(variable.name, []).append(variable)  # of equal names, the order is that of the variables
    return [by_name[f"{variable.path.replace('/', '_')}_gradient_accumulator"].pop(0) for variable in variables]


def scales_loss(optimizer):
    """Return whether an optimizer scales the loss, and hands the unscaled gradients on to an inner one."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def _is_keras_own(optimizer):
    """Return whether Keras's own code alone decides which gradients are used."""
    methods = (getattr(type(optimizer), name) for name in (*_ENTRIES, "_clip_gradients"))
    return all(method.__module__.startswith("keras.") for method in methods) and not optimizers_in(optimizer)


def clipping(optimizer):
    """Return how an optimizer clips, in the order in which Keras looks: (name of the setting, bound)."""
    for rule in ("clipnorm", "global_clipnorm", "clipvalue"):
        bound = getattr(optimizer, rule)
        if bound is not None and bound > 0:
            return rule, float(bound)
    return None, None


def clipping_follows(optimizer, replicas):
    """Return whether what an optimizer's clipping leaves of dense gradients follows from their norms."""
    if scales_loss(optimizer):
        return clipping_follows(optimizer.inner_optimizer, replicas)
    rule, _ = clipping(optimizer)
    from_norms = rule is None or (rule != "clipvalue" and replicas == 1)
    return from_norms and _is_keras_own(optimizer) and not optimizer.gradient_accumulation_steps


def updates_made(optimizer):
    """Return how many updates an optimizer has counted, accumulated ones and those of inner optimizers too."""
    if scales_loss(optimizer):
        return updates_made(optimizer.inner_optimizer)
    return int(ops.convert_to_numpy(_iteration(optimizer)))


def _iteration(optimizer):
    """Return the variable in which an optimizer counts its updates, by the name that Keras gives it."""
    return next(variable for variable in optimizer.variables if variable.name == "iteration")


def optimizers_of(model):
    """Return the optimizers that a model, or a model in it, has as attributes, and those inside of them."""
    owners = [model, *models_in(model)]
    return with_inner_optimizers([optimizer for owner in owners for optimizer in optimizers_in(owner)])


def with_inner_optimizers(optimizers):
    """Return the optimizers, and those that they hand gradients on to, each once."""
    found = {}
    for optimizer in optimizers:
        if id(optimizer) not in found:
            found[id(optimizer)] = optimizer
            found |= {id(inner): inner for inner in with_inner_optimizers(optimizers_in(optimizer))}
    return list(found.values())


def optimizers_in(owner):
    """Return the optimizers among an object's attributes, or in a list or dict that is one."""
    found = []
    for value in vars(owner).values():
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        found += [one for one in values if isinstance(one, keras.optimizers.Optimizer)]
    return found


@contextmanager
def hook_optimizers(model, optimizers, observers):
    """While the block runs, show the observers every update that one of the optimizers makes.

    An update begins where the outermost optimizer is handed gradients, and ends when it returns: what it does in
    between, or has others do, belongs to it.

    Args:
        model: the model whose weights they train.
        optimizers: Keras optimizers, and those inside of them.
        observers: list of `UpdateObserver`s, read anew at each update.
    """
    hook = _OptimizerHook(model, observers)
    with ExitStack() as stack:
        stack.callback(hook.close)
        # What loss scaling hands on to its inner optimizer, perhaps in other threads, is no further update.
        scaled = [optimizer.inner_optimizer for optimizer in optimizers if scales_loss(optimizer)]
        for optimizer in optimizers:
            if optimizer not in scaled:
                for name, method in hook.methods(optimizer).items():
                    stack.enter_context(shadowed(optimizer, name, method))
        yield


class _OptimizerHook:
    """The methods that stand in for an optimizer's own."""

    def __init__(self, model, observers):
        self._model = model
        self._observers = observers
        self._local = threading.local()  # `tf.distribute` runs the replicas in threads of their own

    def close(self):
        """Show nothing more, also where another hook goes on calling this one's methods."""
        self._observers = []

    def methods(self, optimizer):
        """Return the methods that stand in for those of an optimizer, `{name: function}`."""
        apply_gradients, apply = optimizer.apply_gradients, optimizer.apply
        stateless_apply, clip_gradients = optimizer.stateless_apply, optimizer._clip_gradients

        def hooked_apply_gradients(grads_and_vars):
            pairs = list(grads_and_vars)
            gradients, variables = zip(*pairs, strict=True) if pairs else ((), ())
            return self._update(optimizer, gradients, variables, lambda: apply_gradients(pairs))

        def hooked_apply(grads, trainable_variables=None):
            grads = list(grads)
            variables = optimizer._trainable_variables if trainable_variables is None else list(trainable_variables)
            self._local.applied_to = [
                variable
                for gradient, variable in zip(grads, self._as_keras(variables), strict=False)
                if gradient is not None and not getattr(variable, "overwrite_with_gradient", False)
            ]
            arguments = (grads,) if trainable_variables is None else (grads, variables)
            return self._update(optimizer, grads, variables, lambda: apply(*arguments))

        def hooked_stateless_apply(optimizer_variables, grads, trainable_variables):
            return self._update(
                optimizer,
                grads,
                optimizer._trainable_variables,
                lambda: stateless_apply(optimizer_variables, grads, trainable_variables),
                values=(trainable_variables, optimizer_variables),
            )

        def hooked_clip_gradients(grads):
            clipped = clip_gradients(grads)
            update, variables = self._current(), getattr(self._local, "applied_to", ())
            if update is not None:
                update.note_clip(variables, grads, clipped)
            return clipped

        return {
            "apply_gradients": hooked_apply_gradients,
            "apply": hooked_apply,
            "stateless_apply": hooked_stateless_apply,
            "_clip_gradients": hooked_clip_gradients,
        }

    def _current(self):
        return getattr(self._local, "update", None)

    def _update(self, optimizer, gradients, variables, call, values=None):
        """Let the observers look on while `call()` makes an update; `values` are those of stateless variables."""
        if self._inside() or not any(gradient is not None for gradient in gradients):
            return call()
        with self._scope(optimizer, values):
            update = Update(optimizer, gradients, self._as_keras(variables), _backend.replicas(self._model))
            states = [(observer, observer.before_update(update)) for observer in list(self._observers)]
        self._local.update, self._local.inside = update, True
        try:
            result = call()
        finally:
            self._local.update, self._local.inside = None, False
        with self._scope(optimizer, result if values else None):
            for observer, state in states:
                if state is not None:
                    observer.after_update(update, state)
        return result

    def _as_keras(self, variables):
        """Return Keras's variables, also where a loop trains the backend's own, `variable.value`."""
        if all(isinstance(variable, keras.Variable) for variable in variables):
            return variables
        known = {id(variable.value): variable for variable in self._model.variables}
        return [known.get(id(variable), variable) for variable in variables]

    def _inside(self):
        return getattr(self._local, "inside", False)

    def _scope(self, optimizer, values):
        """Return a scope in which variables have the values of a stateless update, or their own if there are none."""
        if values is None:
            return nullcontext()
        trainable_variables, optimizer_variables = values
        mapping = [*zip(optimizer.variables, optimizer_variables, strict=True)]
        mapping += zip(optimizer._trainable_variables, trainable_variables, strict=True)
        return keras.StatelessScope(state_mapping=mapping)
