"""Shadow an attribute of a Keras object for a while."""

from contextlib import contextmanager


@contextmanager
def shadowed(thing, name, value):
    """Give an instance another attribute while the block runs, out of sight of Keras's own tracking."""
    had, before = name in vars(thing), vars(thing).get(name)
    vars(thing)[name] = value
    try:
        yield
    finally:
        if had:
            vars(thing)[name] = before
        else:
            vars(thing).pop(name, None)
