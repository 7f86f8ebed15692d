"""Real text that everybody has: the source code of Python's standard library, read on the spot."""

import functools
import hashlib
import itertools
import keyword
import os
import re
import sysconfig
from pathlib import Path

import numpy as np

from rnnkit.tasks._sizes import require_sizes

_OPERATORS = (  # noqa: SIM905  (read more easily in lines than in a column)
    "( ) [ ] { } , : . ; = == != < > <= >= + - * / // % ** @ & | ^ ~ << >> -> := ... "
    "+= -= *= /= //= %= **= @= &= |= ^= <<= >>="
).split()
# The tokens of `python_brackets`, in the order of their numbers: padding, three kinds of word, keywords, operators.
SOURCE_TOKENS = ("", "NAME", "NUMBER", "STRING", *keyword.kwlist, *_OPERATORS)
BRACKETS_BASELINE = 1 / 3

_MOST_FILES = 400  # of each half, about half of those there are: some two seconds
_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "data", "__pycache__"}  # "data": of tests, broken on purpose
_KEYWORDS = frozenset(keyword.kwlist)
_NUMBER_OF = {token: index for index, token in enumerate(SOURCE_TOKENS)}
_OPENERS, _CLOSERS = [[_NUMBER_OF[bracket] for bracket in kind] for kind in ("([{", ")]}")]
_TOKEN = re.compile(
    r"""
    (?P<skipped> [\s\\]+ | \#[^\n]* )
  | (?P<STRING> (?: [rbuRBU] | [fF][rR]? | [rR][fFbB] | [bB][rR] )?
        (?: \"{3} [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* \"{3}
          | \'{3} [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* \'{3}
          | " (?: [^"\\\n] | \\. )* "
          | ' (?: [^'\\\n] | \\. )* ' ) )
  | (?P<NUMBER> 0[xXoObB][\da-fA-F_]+ | (?: \d[\d_]* \.? [\d_]* | \.\d[\d_]* ) (?: [eE][+-]?\d[\d_]* )? [jJ]? )
  | (?P<NAME> [^\W\d]\w* )
  | (?P<operator> """
    + "|".join(re.escape(operator) for operator in sorted(_OPERATORS, key=len, reverse=True))
    + r""" )
  | (?P<unknown> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def python_brackets(n, length=64, split="train", bins=(1, 8, 16, 32), seed=0):
    """Make the bracket task: after some tokens of real Python source, which bracket closes next, ), ] or }?

    That is the kind of the innermost bracket still open, and its distance differs from place to place. Every kind is
    equally frequent at every range of distances, so guessing is right one time in three (`BRACKETS_BASELINE`),
    whatever the distance. A file of the library is either for training or for testing.

    Args:
        n: number of windows of source code.
        length: tokens of each window; the open bracket is one of them.
        split: `"train"` or `"test"`: which half of the files.
        bins: the smallest distance of each range; the last range ends at `length - 1`.
        seed: integer; the same seed gives the same data, on the same Python.

    Returns:
        x, int32 (n, length): tokens as indices into `SOURCE_TOKENS`, padded with 0 at a file's start; y, int32 (n,): 0
        for ), 1 for ], 2 for }; distance, int32 (n,): steps from the open bracket to the last token; nested, int32
        (n,): pairs of brackets opened and closed in between.

    Raises:
        ValueError: if a size makes no sense, `split` is unknown, or the library holds too few places of some kind.
        FileNotFoundError: if this Python comes without the source of its library.

    Example:
        >>> x, y, distance, nested = rnnkit.tasks.python_brackets(n=120, length=32, bins=(1, 8))
        >>> x.shape, np.bincount(y).tolist(), int(distance.max()) < 32
        ((120, 32), [40, 40, 40], True)

    Source: after Karpathy, Johnson & Fei-Fei (2015), "Visualizing and understanding recurrent networks", who found
    single units of an LSTM that follow brackets and quotes.
    """
    require_sizes(n=(n, 1), length=(length, 2))
    if split not in ("train", "test"):
        raise ValueError(f"`split` is 'train' or 'test'. Received: split={split!r}.")
    edges = [*bins, length]
    if not all(isinstance(edge, (int, np.integer)) for edge in edges) or edges[0] < 1 or (np.diff(edges) < 1).any():
        raise ValueError(
            f"`bins` must be whole numbers that rise from at least 1 to under `length`. Received: bins={bins!r}."
        )
    draw = np.random.default_rng(seed)
    cells = [(kind, low, high) for low, high in itertools.pairwise(edges) for kind in range(3)]
    shares = [n // len(cells) + (place < n % len(cells)) for place in range(len(cells))]
    tokens, places = _library(split, length)
    chosen = []
    for (kind, low, high), share in zip(cells, shares, strict=True):
        fits = np.flatnonzero((places[:, 1] == kind) & (places[:, 2] >= low) & (places[:, 2] < high))
        if len(fits) < share:
            raise ValueError(
                f"The library holds {len(fits)} places with {')]}'[kind]!r} due and its opener {low} to {high - 1} "
                f"tokens back; {share} are needed. Ask for fewer: n={len(cells) * len(fits)}."
            )
        chosen.append(draw.choice(fits, size=share, replace=False))
    end, y, distance, nested = places[draw.permutation(np.concatenate(chosen))].T
    x = tokens[end[:, None] + np.arange(1 - length, 1)]
    return x, y, distance, nested


def tokens_of(source):
    """Cut Python source into tokens.

    Comments, line breaks and indentation are left out, and every name, number and string (an f-string too) is one
    token of its kind.

    Args:
        source: text of a Python file.

    Returns:
        list of int, indices into `SOURCE_TOKENS`; None if something in it is no token.

    Example:
        >>> [rnnkit.tasks.SOURCE_TOKENS[token] for token in rnnkit.tasks.tokens_of("if x[0]: f('a')")]
        ['if', 'NAME', '[', 'NUMBER', ']', ':', 'NAME', '(', 'STRING', ')']
    """
    found, word = [], _NUMBER_OF["NAME"]
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup
        if kind == "NAME":
            found.append(_NUMBER_OF.get(match[0], word) if match[0] in _KEYWORDS else word)
        elif kind == "operator":
            found.append(_NUMBER_OF[match[0]])
        elif kind == "unknown":
            return None
        elif kind != "skipped":
            found.append(_NUMBER_OF[kind])
    return found


def open_brackets(tokens):
    """Follow the brackets of a file: at each token inside one, which is open and how far back it is.

    Args:
        tokens: list of int, what `tokens_of` returned.

    Returns:
        list of (index of the token, kind 0 to 2, distance, pairs of brackets opened and closed since); None if the
        brackets do not match.

    Example:
        >>> rnnkit.tasks.open_brackets(rnnkit.tasks.tokens_of("f(a[0], b)"))[-1]
        (7, 0, 6, 1)
    """
    found, stack = [], []  # of an open bracket: its index, kind, and the pairs closed in it
    for index, token in enumerate(tokens):
        if token in _OPENERS:
            stack.append([index, _OPENERS.index(token), 0])
        elif token in _CLOSERS:
            if not stack or stack[-1][1] != _CLOSERS.index(token):
                return None
            _, _, closed = stack.pop()
            if stack:
                stack[-1][2] += closed + 1
        if stack:
            opener, kind, closed = stack[-1]
            found.append((index, kind, index - opener, closed))
    return None if stack else found


@functools.lru_cache(maxsize=4)
def _library(split, length):
    """Return the tokens of one half of the library, files parted by padding, and every place inside a bracket."""
    tokens, places, start = [[0] * length], [], length
    for path in _files(split):
        try:
            found = tokens_of(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        inside = open_brackets(found) if found else None
        if not inside:
            continue
        inside = np.array(inside)
        inside = inside[(inside[:, 2] > 0) & (inside[:, 2] < length)]
        inside[:, 0] += start
        places.append(inside)
        tokens += [found, [0] * length]
        start += len(found) + length
    return np.concatenate([np.array(part) for part in tokens]).astype("int32"), np.concatenate(places).astype("int32")


def _files(split):
    """Return the files of one half of the library, in an order that is the same on every machine."""
    root = Path(sysconfig.get_paths()["stdlib"])
    wanted = []
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in _NOT_THE_LIBRARY]
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            digest = hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()
            if digest[0] % 2 == (split == "test"):
                wanted.append((digest, path))
    if not wanted:
        raise FileNotFoundError(
            f"The bracket task reads the standard library's source. Found: no .py files in {root}. "
            "Use a Python that comes with it, such as that of python.org, conda or uv."
        )
    return [path for _, path in sorted(wanted)][:_MOST_FILES]
