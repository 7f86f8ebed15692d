"""What is inside a model: its layers and weights under the names their owner knows."""

from rnnkit._backend import keras


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
