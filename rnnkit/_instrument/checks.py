"""What a model must be to be measured: the part that is asked for, or an error that says what is missing."""

from rnnkit._backend import keras
from rnnkit._instrument.traversal import sublayers, walk
from rnnkit._names import as_names


def require_model(model):
    """Raise unless `model` is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "A Keras model is needed. "
            f"Received: {model!r} of type {type(model).__name__}. Pass a keras.Model, e.g. keras.Sequential([...])."
        )


def has_own_call(model):
    """Tell whether a model can be called, rather than a train_step running parts of it."""
    return getattr(model.call, "__func__", None) is not keras.Model.call


def require_built(model):
    """Raise unless `model` is a Keras model that can be called and whose weights exist."""
    require_model(model)
    if not has_own_call(model):
        parts = [name for name, layer in sublayers(model) if isinstance(layer, keras.Model)]
        raise ValueError(
            "A model must have a `call` of its own to be measured from outside of training. "
            f"Received: model {model.name!r} of class {type(model).__name__}, which has none. "
            f"Pass the part to be measured{f', one of {parts}' if parts else ''}, compiled with its loss: "
            "the whole model trains as before."
        )
    if not model.built:
        raise ValueError(
            "A model must be built before it can be measured: until then it has no weights. "
            f"Received: the unbuilt model {model.name!r}. "
            "Start it with keras.Input((None, features)), or call it once on a batch."
        )


def recurrent_layers(model, names=None):
    """Return `{key: layer}` for the recurrent layers of a model, or for those that `names` asks for.

    Raises:
        ValueError: if the model has no recurrent layer, or a name is unknown.
    """
    require_model(model)
    if has_own_call(model):
        require_built(model)
    found = {key: layer for key, layer in walk(model) if isinstance(layer, keras.layers.RNN)}
    if not found:
        raise ValueError(
            "A recurrent layer (keras.layers.SimpleRNN, GRU, LSTM or RNN) is needed to follow a state through time. "
            f"Received: model {model.name!r} with the layers {[layer.name for layer in model.layers]}. "
            "For the gradients of other layers use rnnkit.GradientRecorder."
        )
    if not all(layer.built for layer in found.values()):  # a model without a call is never built itself; its parts are
        require_built(model)
    if names is None:
        return found
    names = as_names("recurrent layer", names, found)
    if not names:
        raise ValueError(f"A layer at least is to be measured, of {list(found)}. Received: none. Leave out `layers`.")
    return {name: found[name] for name in names}


def only_recurrent_layer(model, name):
    """Return the recurrent layer called `name`, or the only one there is when `name` is None."""
    found = recurrent_layers(model, name)
    if len(found) > 1:
        raise ValueError(
            "One recurrent layer can be measured at a time. "
            f"Received: layer=None for a model with {list(found)}. Name one of them, e.g. layer={next(iter(found))!r}."
        )
    return next(iter(found.values()))


def fixed_batch_size(model):
    """Return the only batch size that a model with stateful layers can read, or None if it can read any."""
    declared = getattr(model, "inputs", None)
    for _, layer in walk(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful and layer.states is not None:
            size = keras.tree.flatten(layer.states)[0].shape[0]
            if not declared or declared[0].shape[0] == size:
                return size
    return None
