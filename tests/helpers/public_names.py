"""What is public, asked of the running package."""

import rnnkit

LEFT_OUT = {"clinic", "doctor", "lecture"}  # of the reference: for the lessons and the command line alone


def offered(module):
    """The functions and classes that a module offers: those in `__all__` or, without one, those that it defines."""
    thing = getattr(rnnkit, module)
    held = vars(thing)
    own = [name for name, value in held.items() if getattr(value, "__module__", "") == thing.__name__]
    return {name for name in held.get("__all__", own) if callable(held[name]) and not name.startswith("_")}


def public_names():
    """The names of all that the reference describes, as a reader types them."""
    inside = {
        f"rnnkit.{module}.{name}"
        for module, home in rnnkit._MODULES.items()
        if module not in LEFT_OUT
        for name in offered(module)
        if rnnkit._NAMES.get(name) != home
    }
    return inside | {f"rnnkit.{name}" for name in rnnkit._NAMES}
