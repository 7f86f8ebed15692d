"""What is inside a model: its layers and weights under the names their owner knows, and errors about them."""

from contextlib import contextmanager

from rnnkit._backend import keras
from rnnkit._backend._attribute import shadowed
from rnnkit._names import as_names


def sublayers(layer):
    """Yield `(name, layer)` for the layers held directly by a layer or model, in the order of their creation."""
    if isinstance(layer, keras.layers.StackedRNNCells):
        # Cells are named by Keras with a running number; their place in the stack is what the reader knows.
        yield from ((f"cell_{place}", cell) for place, cell in enumerate(layer.cells))
        return
    held = list(layer.layers) if isinstance(layer, keras.Model) else []
    for value in vars(layer).values():
        held += value if isinstance(value, (list, tuple)) else [value]
    seen = set()
    for item in held:
        if isinstance(item, keras.Layer) and id(item) not in seen:
            seen.add(id(item))
            yield item.name, item


def walk(layer, prefix=""):
    """Yield `(key, layer)` for every layer below `layer`, depth first; each layer once, each key once."""
    seen, keys = {id(layer)}, set()

    def visit(parent, prefix):
        for name, child in sublayers(parent):
            if id(child) in seen:
                continue
            seen.add(id(child))
            # An RNN and its one cell are the same thing to the reader: lstm/kernel, not lstm/lstm_cell/kernel. So are a
            # connection and the layer that it goes round: block/kernel, not block/dense_7/kernel.
            cell_of_rnn = isinstance(parent, keras.layers.RNN) and child is parent.cell
            same_thing = cell_of_rnn or child is getattr(parent, "goes_by_my_name", None)
            key = prefix if same_thing else unused(prefix + name)
            yield key.removesuffix("/"), child
            yield from visit(child, key.removesuffix("/") + "/")

    def unused(key):
        candidate, count = key, 1
        while candidate in keys:
            count += 1
            candidate = f"{key}_{count}"
        keys.add(candidate)
        return candidate

    yield from visit(layer, prefix)


def models_in(model):
    """Return the models that are layers of a model, at any depth."""
    return [layer for _, layer in walk(model) if isinstance(layer, keras.Model)]


def weight_keys(model):
    """Return `{key: variable}` for the trainable weights of a model, keyed `layer/weight`."""
    keys, seen = {}, set()
    for prefix, layer in [*walk(model), ("", model)]:
        nested = {id(variable) for _, child in sublayers(layer) for variable in child.trainable_variables}
        for variable in layer.trainable_variables:
            if id(variable) in nested or id(variable) in seen:
                continue
            seen.add(id(variable))
            key = f"{prefix}/{variable.name}".removeprefix("/")
            while key in keys:
                key += "_2"
            keys[key] = variable
    trained = {id(variable) for variable in model.trainable_variables}
    return {key: variable for key, variable in keys.items() if id(variable) in trained}


def trained_weights(model):
    """Return those of `weight_keys` that are trained by their gradient.

    Keras overwrites others with what it computes as their "gradient", such as the scales of float8.
    """
    return {
        key: variable
        for key, variable in weight_keys(model).items()
        if not getattr(variable, "overwrite_with_gradient", False)
    }


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


def fixed_batch_size(model):
    """Return the only batch size that a model with stateful layers can read, or None if it can read any."""
    declared = getattr(model, "inputs", None)
    for _, layer in walk(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful and layer.states is not None:
            size = keras.tree.flatten(layer.states)[0].shape[0]
            if not declared or declared[0].shape[0] == size:
                return size
    return None


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
