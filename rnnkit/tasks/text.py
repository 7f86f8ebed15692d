"""Real text that everybody has: the language reference that Python's `help()` shows, as characters."""

import functools
import hashlib
import string

import numpy as np

from rnnkit.tasks._sizes import generator, require_sizes, require_split

# The characters of `python_text`, in the order of their numbers: the line break, then those of a keyboard.
TEXT_CHARACTERS = ("\n", *sorted({*string.printable} - {*string.whitespace} | {" "}))

_PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "..."})
_NUMBER_OF = {character: index for index, character in enumerate(TEXT_CHARACTERS)}


def python_text(n, length=64, split="train", seed=0):
    """Cut windows out of the Python language reference: at each step the character to read, and the one that follows.

    The text is what `help("for")` and the like print, half a million characters of English and of code, which come
    with Python. Whole topics are for testing, the others for training; a paragraph that both have is for testing
    alone. Both x and y are for a language model.

    Args:
        n: number of windows.
        length: characters of each.
        split: `"train"` or `"test"`: which topics.
        seed: integer; the same seed gives the same windows, on the same Python.

    Returns:
        x, int32 (n, length): the characters read, as indices into `TEXT_CHARACTERS`; y, int32 (n, length): those that
        follow.

    Raises:
        ValueError: if a size makes no sense or `split` is unknown.
        ModuleNotFoundError: if this Python comes without its help texts.

    Example:
        >>> x, y = rnnkit.tasks.python_text(n=100, length=20, seed=0)
        >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all()), len(rnnkit.tasks.TEXT_CHARACTERS)
        ((100, 20), True, 96)

    Source: The Python Language Reference, of the Python Software Foundation, as module `pydoc_data.topics`.
    """
    require_sizes(n=(n, 1), length=(length, 1))
    text = whole_text(split)
    require_sizes(**{"len(text) - length": (len(text) - length, 1)})
    starts = generator(seed).integers(0, len(text) - length, size=n)
    windows = text[starts[:, None] + np.arange(length + 1)]
    return windows[:, :-1], windows[:, 1:]


@functools.lru_cache(maxsize=2)
def whole_text(split):
    """Return all of one split, from which `python_text` cuts its windows, for counting.

    Args:
        split: `"train"` or `"test"`.

    Returns:
        int32 (characters,), indices into `TEXT_CHARACTERS`, not to be written to.

    Raises:
        ValueError: if `split` is unknown.
        ModuleNotFoundError: if this Python comes without its help texts.

    Example:
        >>> train, test = (rnnkit.tasks.whole_text(split) for split in ("train", "test"))
        >>> len(train) > 5 * len(test) > 100_000
        True
    """
    require_split(split)
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "The text task reads the help texts that come with Python, module pydoc_data.topics. Found: none. "
            "Use a Python that has them, such as that of python.org, conda or uv."
        ) from None
    test = _paragraphs(topics, [name for name in sorted(topics) if _is_test(name)], but=())
    train = _paragraphs(topics, [name for name in sorted(topics) if not _is_test(name)], but=map(_essence, test))
    text = "\n\n".join(test if split == "test" else train).translate(_PLAIN)
    numbers = np.array([_NUMBER_OF[character] for character in text if character in _NUMBER_OF], "int32")
    numbers.flags.writeable = False
    return numbers


def _is_test(topic):
    """Whether a topic is for testing: by its name, so that it is the same on every Python."""
    return hashlib.sha256(topic.encode()).digest()[0] % 5 == 0


def _paragraphs(topics, names, but):
    """Return the paragraphs of some topics, each once, without those named: topics repeat whole pages of others."""
    seen, found = set(but), []
    for name in names:
        for paragraph in topics[name].split("\n\n"):
            if _essence(paragraph) not in seen:
                seen.add(_essence(paragraph))
                found.append(paragraph)
    return found


def _essence(paragraph):
    return " ".join(paragraph.split())
