"""Every exercise of the course, from the lesson files beside this one."""

import difflib
import functools
import pkgutil
import re
from dataclasses import replace
from importlib import import_module


@functools.cache
def catalogue():
    """Return every exercise of the course by name, from the lesson files beside this one.

    Returns:
        A dict from name to `Exercise`, in the order of the lessons.

    Raises:
        ValueError: If two exercises share a name.

    Example:
        >>> all(exercise.name == name for name, exercise in catalogue().items())
        True
    """
    found = {}
    package = import_module(__package__)
    files = (re.fullmatch(r"lesson_(\d\d)", info.name) for info in pkgutil.iter_modules(package.__path__))
    for lesson in sorted(file[1] for file in files if file):
        for exercise in import_module(f"{__package__}.lesson_{lesson}").EXERCISES:
            if exercise.name in found:
                raise ValueError(
                    f"Exercise names are unique in the course; {exercise.name!r} is in lessons "
                    f"{found[exercise.name].lesson} and {lesson}. Rename one."
                )
            found[exercise.name] = replace(exercise, lesson=lesson)
    return found


def exists(name):
    """Tell whether an exercise of the course has this name."""
    return isinstance(name, str) and name in catalogue()


def unknown(name):
    """Say that there is no such exercise, and which names are near."""
    near = difflib.get_close_matches(str(name), catalogue(), n=3)
    names = f"Did you mean {' or '.join(f'`{match}`' for match in near)}?" if near else "Its cell names it."
    return f"There is no exercise called `{name}`. {names}"
