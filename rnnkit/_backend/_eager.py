"""The training step where an optimizer assigns to its variables itself: TensorFlow and torch."""

from contextlib import contextmanager

import keras

from rnnkit._backend._attribute import shadowed


def training_step(model, logs):
    """Return a fresh copy of the model's own training step, which may write into the logs that `logs()` returns."""
    before = model.train_function
    model.make_train_function(force=True)
    step, model.train_function = model.train_function, before
    return step


@contextmanager
def watched(optimizer, watcher):
    """While the block runs, let `watcher` see what the optimizer is handed.

    Args:
        optimizer: the model's optimizer. With loss scaling it gets scaled gradients, and hands them on unscaled to its
            inner optimizer, or skips the step.
        watcher: `begin_step()` is called at each step, `before(gradients, variables, scale, loss_scale)` where the
            gradients reach the optimizer that clips them (they are `scale` times the true ones; the loss had been
            multiplied by `loss_scale`), and `after(seen)` with what `before` returned, once the weights have changed.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    apply_outer, apply_inner = optimizer.apply, inner.apply
    loss_scale = None

    def apply(gradients, trainable_variables=None):
        nonlocal loss_scale
        loss_scale = inner.loss_scale_factor or 1
        if optimizer is not inner:  # as it says itself, before this step changes it
            scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
            loss_scale = keras.ops.convert_to_tensor(scale)
        watcher.begin_step()
        return (apply_watched if optimizer is inner else apply_outer)(gradients, trainable_variables)

    def apply_watched(gradients, trainable_variables=None):
        gradients = list(gradients)
        variables = list(trainable_variables or inner._trainable_variables)
        seen = watcher.before(gradients, variables, inner.loss_scale_factor or 1, loss_scale)
        result = apply_inner(gradients, trainable_variables)
        watcher.after(seen)
        return result

    with shadowed(inner, "apply", apply_watched), shadowed(optimizer, "apply", apply):
        yield
