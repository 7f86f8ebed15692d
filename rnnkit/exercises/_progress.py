"""Which exercises a learner has done: a small file at home that they can read, copy and delete, and nothing else.

Keeping it must never get in the way of a check: where it cannot be read it counts as empty, where it cannot be written
nothing is kept.
"""

import contextlib
import datetime
import json
import os
from pathlib import Path

from rnnkit import _display
from rnnkit._export import atomic_writer

VARIABLE = "RNNKIT_PROGRESS"  # another file, or "off"


def file():
    """Return where it is kept, or None if it is not to be."""
    place = os.environ.get(VARIABLE, "")
    if place.lower() == "off":
        return None
    with contextlib.suppress(RuntimeError):  # no home
        return Path(place or "~/.rnnkit/progress.json").expanduser()
    return None


def note(name):
    """Note that an exercise is done, the first time that it is; only in a notebook in which someone works."""
    if not _display.in_a_notebook():
        return
    path = file()
    done, _ = read(path)
    if path is None or name in done:
        return
    with contextlib.suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path, "w", encoding="utf-8") as opened:
            json.dump({"done": done | {name: datetime.date.today().isoformat()}}, opened, indent=1)


def read(path):
    """Return what is done, and what is wrong with the file.

    Args:
        path: pathlib.Path or None.

    Returns:
        A dict from exercise to the day on which it was done, and a sentence, "" if all is well.
    """
    try:
        done = json.loads(path.read_text(encoding="utf-8"))["done"] if path else {}
        if all(isinstance(word, str) for pair in done.items() for word in pair):
            return done, ""
        return {}, "It does not hold what it should."
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{error}."
    except (AttributeError, KeyError, TypeError):
        return {}, "It does not hold what it should."
