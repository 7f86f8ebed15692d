"""The loss that a model was compiled with: whether there is one, and a copy that leaves no trace."""

from contextlib import contextmanager

from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed


def has_own_loss(model):
    """Tell whether a model computes its loss in a method of its own."""
    return getattr(model.compute_loss, "__func__", None) is not keras.Model.compute_loss


def require_compiled(model, y):
    """Raise unless a model was compiled, and has targets if it was compiled with a loss that compares them."""
    if not model.compiled:
        raise ValueError(
            "A model must be compiled with a loss before its gradients can be measured. "
            f'Received: model {model.name!r}, which is not compiled. Call for instance model.compile(loss="mse").'
        )
    if y is None and model.loss is not None and not has_own_loss(model):
        raise ValueError(
            "The loss that a model was compiled with compares its output with targets. "
            f"Received: y=None for model {model.name!r} with loss={model.loss!r}. Pass the targets, as to model.fit."
        )


def require_loss(model):
    """Raise unless there is a loss, once the model has run: of `compile`, of `add_loss`, or of the model's own."""
    if model.loss is None and not model.losses and not has_own_loss(model):
        raise ValueError(
            "A loss is needed whose gradients can be measured: of `compile`, of `add_loss`, or a `compute_loss` of the "
            f"model's own. Received: model {model.name!r}, compiled without one. Measure a second model that shares "
            "its layers and leaves it as it is: twin = keras.Model(model.inputs, model.outputs), then "
            'twin.compile(loss="mse").'
        )


@contextmanager
def spare_loss(model):
    """While the block runs, let a model whose loss is not built yet compute another one like it.

    On torch the first `fit` of a model draws random numbers if it has to build the loss: after a probe too, it shall.
    """
    used = model._compile_loss
    if used is not None and not used.built:
        used = type(used)(used._user_loss, used._user_loss_weights, used.reduction, used.output_names)
    with shadowed(model, "_compile_loss", used):
        yield
