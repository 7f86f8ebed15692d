"""A cell's source as Python, with IPython's own reading of its magics, shell commands and questions.

Nothing is run here. What IPython would do is a call of `get_ipython()` in the result, which does nothing where answers
are run; only the code that a magic times or profiles is the student's, and takes the magic's place.
"""

import ast
import re

from IPython.core.inputtransformer2 import TransformerManager

# Magics that run the code they are given in the notebook, so that what it defines is there afterwards.
_RUN_THEIR_CODE = frozenset(
    ("capture", "debug", "memit", "prun", "pyinstrument", "scalene", "snakeviz", "time", "timeit")
)
_LOOKS_LIKE_ONE = re.compile(r"^\s*[%!?,;/]|\?\s*$", re.MULTILINE)
_MOST_WORK = 1_000_000  # characters times magics: IPython goes through the whole cell again for each of them


def as_python(source):
    """Return the Python that IPython makes of a cell.

    Args:
        source: Of the cell.

    Raises:
        SyntaxError: If it cannot be read.
        ValueError: If that would take too long.
    """
    try:
        ast.parse(source)
    except SyntaxError:
        if len(_LOOKS_LIKE_ONE.findall(source)) * len(source) > _MOST_WORK:
            raise ValueError("it has too many magics for its length") from None
        return _unwrapped(TransformerManager().transform_cell(source))
    return source  # nothing in it is IPython's, because Python cannot read that


def _unwrapped(source):
    """Return Python in which the magics that run code are replaced by that code."""
    lines = source.split("\n")
    calls = [(node, code) for node in ast.walk(ast.parse(source)) if (code := _code_of(node)) is not None]
    for node, code in sorted(calls, key=lambda call: call[0].col_offset, reverse=True):
        if node.lineno == node.end_lineno:
            line = lines[node.lineno - 1].encode()  # columns are counted in bytes
            lines[node.lineno - 1] = (line[: node.col_offset] + code.encode() + line[node.end_col_offset :]).decode()
    return "\n".join(lines)


def _code_of(node):
    """Return the code that a magic runs, if a node is a call of such a magic; else None."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=kind),
            args=[ast.Constant(value=name), ast.Constant(value=str()) as first, *rest],
        ) if name in _RUN_THEIR_CODE:
            if kind == "run_line_magic" and not rest:
                return _statement(first.value)
            if kind == "run_cell_magic" and len(rest) == 1 and isinstance(rest[0], ast.Constant):
                return "\n" + as_python(str(rest[0].value))  # below where the magic was, as in the notebook
    return None


def _statement(arguments):
    """Return the code among the arguments of a line's magic, or None if they hold more than options and code."""
    code = re.sub(r"^(-\w+\s+)*", "", arguments)
    try:
        ast.parse(code)
    except SyntaxError:
        return None
    return code
