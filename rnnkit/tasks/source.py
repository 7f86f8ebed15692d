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

from rnnkit.tasks._sizes import generator, require_sizes, require_split

_OPERATORS = (  # noqa: SIM905  (read more easily in lines than in a column)
    "( ) [ ] { } , : . ; = == != < > <= >= + - * / // % ** @ & | ^ ~ << >> -> := ... "
    "+= -= *= /= //= %= **= @= &= |= ^= <<= >>="
).split()
_ASSIGNING = frozenset(sign for sign in _OPERATORS if sign[-1] == "=") - {"==", "!=", "<=", ">=", ":="}
# The tokens of `python_brackets`, in the order of their numbers: padding, three kinds of word, keywords, operators.
SOURCE_TOKENS = ("", "NAME", "NUMBER", "STRING", *keyword.kwlist, *_OPERATORS)
BRACKETS_BASELINE = 1 / 3
# The tokens of `python_names` and `python_assignments`: those and, last, the end of a statement's line.
STATEMENT_TOKENS = (*SOURCE_TOKENS, "NEWLINE")
# What a name is there for, in the order of the numbers of `python_names`; 0 is no name.
NAME_ROLES = ("", "read", "called", "assigned", "argument", "attribute")

_MOST_FILES = 400  # of each half, about half of those there are: some two seconds
_FEWER_FILES = 120  # for `python_names` and `python_assignments`, which need more of a second for each
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
    require_split(split)
    edges = [*bins, length]
    if not all(isinstance(edge, (int, np.integer)) for edge in edges) or edges[0] < 1 or (np.diff(edges) < 1).any():
        raise ValueError(
            f"`bins` must be whole numbers that rise from at least 1 to under `length`. Received: bins={bins!r}."
        )
    draw = generator(seed)
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


def python_names(n, length=32, split="train", seed=0):
    """Make the task of telling what each name in real Python source is there for.

    Of a name no more is shown than that it is one, so its role must follow from what stands around it:

        called       an opening parenthesis follows (but neither def nor class stands before)
        assigned     = or a sign such as += follows, outside of brackets
        argument     = follows, inside of brackets or in a lambda: a named argument, or a parameter's default
        attribute    a dot stands before, and none of these follows
        read         all others

    None of these can be told from the left for certain.

    Args:
        n: number of windows of source code, drawn at random places.
        length: tokens of each window.
        split: `"train"` or `"test"`: which half of the library's files.
        seed: integer; the same seed gives the same data, on the same Python.

    Returns:
        x, int32 (n, length): tokens as indices into `STATEMENT_TOKENS`; roles, int32 (n, length): indices into
        `NAME_ROLES`, 0 where there is no name. What follows the window decides some roles at its end.

    Raises:
        ValueError: if a size makes no sense, or `split` is unknown.
        FileNotFoundError: if this Python comes without the source of its library.

    Example:
        >>> x, roles = rnnkit.tasks.python_names(n=100, length=32)
        >>> x.shape, bool(((roles > 0) == (x == rnnkit.tasks.STATEMENT_TOKENS.index("NAME"))).all())
        ((100, 32), True)

    Source: the task is that of tagging each word with its part of speech, on text that is at hand.
    """
    require_sizes(n=(n, 1), length=(length, 2))
    tokens, roles, _ = _statements(split)
    start = generator(seed).integers(0, len(tokens) - length + 1, size=n)
    windows = start[:, None] + np.arange(length)
    return tokens[windows], roles[windows]


def python_assignments(n, before=8, after=24, split="train", seed=0):
    """Make the task of telling, at its first name, whether a statement will turn out to be an assignment.

    It will if = or a sign such as += stands in it outside of brackets, and that can be far from the first name, as in
    `self.names[key].value = 3`. Statements in which the sign comes right after that name are left out, and so are those
    of a single name. Half of the rest are assignments, so guessing is right one time in two.

    Args:
        n: number of statements, each of which begins with a name.
        before: tokens of the source before that name.
        after: tokens from that name on. Only statements that end within them are taken.
        split: `"train"` or `"test"`: which half of the library's files.
        seed: integer; the same seed gives the same data, on the same Python.

    Returns:
        x, int32 (n, before + after): tokens as indices into `STATEMENT_TOKENS`, the name at `x[:, before]`; what
        follows the statement's end is 0. y, int32 (n,): 1 for an assignment. distance, int32 (n,): tokens from the
        name to the assigning sign, or to the statement's end where there is none.

    Raises:
        ValueError: if a size makes no sense, `split` is unknown, or the library holds too few such statements.
        FileNotFoundError: if this Python comes without the source of its library.

    Example:
        >>> x, y, distance = rnnkit.tasks.python_assignments(n=100)
        >>> x.shape, int(y.sum()), bool((x[:, 8] == rnnkit.tasks.STATEMENT_TOKENS.index("NAME")).all())
        ((100, 32), 50, True)

    Source: made for this course.
    """
    require_sizes(n=(n, 2), before=(before, 0), after=(after, 2))
    tokens, _, statements = _statements(split)
    start, signed, end = statements.T
    draw = generator(seed)
    fits = (start >= before) & (end - start < after) & (end > start + 1) & (signed != start + 1)
    chosen = []
    for kind, share in ((0, n - n // 2), (1, n // 2)):
        places = np.flatnonzero(fits & ((signed >= 0) == kind))
        if len(places) < share:
            raise ValueError(
                f"The library holds {len(places)} statements of up to {after} tokens that are "
                f"{'no ' * (not kind)}assignments; {share} are needed. Ask for fewer: n={2 * len(places)}."
            )
        chosen.append(draw.choice(places, size=share, replace=False))
    chosen = draw.permutation(np.concatenate(chosen))
    start, signed, end = statements[chosen].T
    offset = np.arange(-before, after)
    places = start[:, None] + offset
    x = np.where(places <= end[:, None], tokens[np.minimum(places, len(tokens) - 1)], 0)
    y = signed >= 0
    return x.astype("int32"), y.astype("int32"), (np.where(y, signed, end) - start).astype("int32")


def statements_of(source):
    r"""Cut Python source into tokens, as `tokens_of` does, with a last one for the end of each statement's line.

    A line that goes on, inside a bracket or after a backslash, has not ended.

    Args:
        source: text of a Python file.

    Returns:
        list of int, indices into `STATEMENT_TOKENS`; None if something in it is no token, or its brackets do not match.

    Example:
        >>> tokens = rnnkit.tasks.statements_of("x = f(1,\n      2)  # why\ny += x\n")
        >>> " ".join(rnnkit.tasks.STATEMENT_TOKENS[token] for token in tokens)
        'NAME = NAME ( NUMBER , NUMBER ) NEWLINE NAME += NAME NEWLINE'
    """
    found, waiting, end = [], [], len(SOURCE_TOKENS)
    for match in _TOKEN.finditer(source):
        kind, text = match.lastgroup, match[0]
        if kind == "skipped":
            ends = not waiting and not text.startswith("#") and "\n" in text.replace("\\\n", "")
            if ends and found and found[-1] != end:
                found.append(end)
            continue
        token = tokens_of(text)
        if token is None:
            return None
        found += token
        if token[0] in _OPENERS:
            waiting.append(_OPENERS.index(token[0]))
        elif token[0] in _CLOSERS and (not waiting or waiting.pop() != _CLOSERS.index(token[0])):
            return None
    if found and found[-1] != end:
        found.append(end)
    return None if waiting else found


def name_roles(tokens):
    """Tell what each name in a file is there for, as `python_names` describes it.

    Args:
        tokens: list of int, what `statements_of` returned.

    Returns:
        roles, list of int: for each token an index into `NAME_ROLES`; statements, list of (index of the first token,
        index of the first assigning sign outside of brackets or -1, index of its "NEWLINE"), of the lines that begin
        with a name.

    Example:
        >>> roles, statements = rnnkit.tasks.name_roles(rnnkit.tasks.statements_of("x.y = f(a, key=1)"))
        >>> [rnnkit.tasks.NAME_ROLES[role] for role in roles if role], statements
        (['read', 'assigned', 'called', 'read', 'argument'], [(0, 3, 12)])
    """
    words = [STATEMENT_TOKENS[token] for token in tokens]
    roles, statements = [0] * len(words), []
    depth, lambdas, first, sign = 0, [], 0, -1
    for index, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
        before = words[index - 1] if index else "NEWLINE"
        if word == "NAME":
            inside = depth > 0 or bool(lambdas)
            roles[index] = _role(before, following, inside)
        elif word in "([{":
            depth += 1
        elif word in ")]}":
            depth -= 1
            lambdas = [at for at in lambdas if at <= depth]
        elif word == "lambda":
            lambdas.append(depth)
        elif word == ":" and lambdas and lambdas[-1] == depth:
            lambdas.pop()
        elif word in _ASSIGNING and depth == 0 and not lambdas and sign < 0:
            sign = index
        elif word == "NEWLINE":
            if words[first] == "NAME":
                statements.append((first, sign, index))
            first, sign, lambdas = index + 1, -1, []
    return roles, statements


def _role(before, following, inside):
    if following == "(" and before not in ("def", "class"):
        role = "called"
    elif following == "=" and inside:
        role = "argument"
    elif following in _ASSIGNING:
        role = "assigned"
    elif before == ".":
        role = "attribute"
    else:
        role = "read"
    return NAME_ROLES.index(role)


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


@functools.lru_cache(maxsize=2)
def _statements(split):
    """Return the tokens of one half of the library, the role of each, and (first, sign, end) of each statement."""
    require_split(split)
    tokens, roles, statements, start = [], [], [], 0
    for path in _files(split)[:_FEWER_FILES]:
        try:
            found = statements_of(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if not found:
            continue
        of_file, lines = name_roles(found)
        tokens.append(np.array(found, "int32"))
        roles.append(np.array(of_file, "int32"))
        lines = np.array(lines, "int32").reshape(-1, 3)
        statements.append(np.where(lines < 0, lines, lines + start))
        start += len(found)
    return np.concatenate(tokens), np.concatenate(roles), np.concatenate(statements)


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
