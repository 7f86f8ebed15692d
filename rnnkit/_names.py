"""Answers to names that are unknown: which there are, and which was perhaps meant."""

import difflib
from collections.abc import Iterable


class ByName(dict):
    """What was recorded, by name; a name that is unknown is answered with those that are known, and the nearest."""

    def __missing__(self, name):
        if not self:
            raise KeyError(f"Nothing is recorded yet. Received: {name!r}. Print the recorder, which says why.")
        raise KeyError(unknown_name("recorded name", name, self))


def as_names(what, names, known):
    """Return one name, or several, as a list; raise ValueError if one is not among those known."""
    names = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(unknown_name(what, name, known))
    return names


def unknown_name(what, name, known):
    """Say that a name is unknown, which there are, and which was perhaps meant."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"A {what} must be one of {list(known)}. Received: {name!r}.{hint}"
