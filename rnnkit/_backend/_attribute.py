"""Shadow an attribute of a Keras object for a while."""

from contextlib import contextmanager

_MISSING = object()
_shadows = {}  # {(id of the object, name): [what the object itself had, values on top of it in the order they came]}


@contextmanager
def shadowed(thing, name, value):
    """Give an instance another attribute while the block runs, out of sight of Keras's own tracking.

    Blocks may end in any order: the attribute is what the latest of those still running made it.
    """
    layers = _shadows.setdefault((id(thing), name), [vars(thing).get(name, _MISSING)])
    layers.append(value)
    vars(thing)[name] = value
    try:
        yield
    finally:
        del layers[max(place for place, layer in enumerate(layers) if layer is value)]
        if layers[-1] is _MISSING:
            vars(thing).pop(name, None)
        else:
            vars(thing)[name] = layers[-1]
        if len(layers) == 1:
            del _shadows[id(thing), name]
