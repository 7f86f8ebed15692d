"""Tasks in words, reviews and names in Python source, against slower ways of making and reading them."""

import ast
import io
import itertools
import json
import keyword
import shutil
import tokenize
from pathlib import Path

import numpy as np
import pytest

from rnnkit import tasks
from rnnkit.tasks import sentiment

# --- reviews --------------------------------------------------------------------------------------------------------


def read_slowly(words):
    """Read a review by splitting it: `[(thing, praise, number of words), ...]`."""
    text = " ".join(words)
    assert text.endswith(" !")
    found = []
    for clause in text.removesuffix(" !").split(" and "):
        the, thing, was, *rest = clause.split()
        assert (the, was) == ("the", "was")
        adjective = rest[-1]
        assert adjective in {*sentiment._PRAISE, *sentiment._BLAME}
        found.append((thing, (adjective in sentiment._PRAISE) != ("not" in rest), len(clause.split())))
    return found


@pytest.mark.parametrize("clauses", [1, 3, 8])
def test_every_review_says_what_it_is_said_to_say(clauses):
    x, senses, y = tasks.terribly_exciting(300, clauses=clauses, seed=1)
    assert x.shape == senses.shape == (300, 13 * clauses)
    assert (x.dtype, senses.dtype, y.dtype) == (np.int32, np.int32, np.int32)
    for row, sense, verdict in zip(x, senses, y, strict=True):
        words = [tasks.SENTIMENT_WORDS[word] for word in row if word]
        assert not row[len(words) :].any()  # padding at the back only
        assert tasks.is_review(row)
        clauses_read = read_slowly(words)
        things = [thing for thing, _, _ in clauses_read]
        assert len(set(things)) == len(things) <= clauses
        assert dict((thing, praise) for thing, praise, _ in clauses_read)["movie"] == verdict
        wanted = list(itertools.chain.from_iterable([1 + praise] * count + [0] for _, praise, count in clauses_read))
        assert sense.tolist() == wanted + [0] * (len(sense) - len(wanted))


def test_the_longest_review_fits_and_no_shorter_length_is_taken():
    longest = "the movie was not terribly , if you ask me , exciting !"
    assert tasks.is_review([tasks.SENTIMENT_WORDS.index(word) for word in longest.split()])
    assert longest.count(" ") == 12
    x, _, _ = tasks.terribly_exciting(5, clauses=1, length=20)
    assert x.shape == (5, 20)
    with pytest.raises(ValueError, match="`length` must be a whole number of at least 13"):
        tasks.terribly_exciting(5, clauses=1, length=12)
    with pytest.raises(ValueError, match="There are 8 things to speak of"):
        tasks.terribly_exciting(5, clauses=9)
    with pytest.raises(ValueError, match="`n` must be"):
        tasks.terribly_exciting(0)


def test_at_the_adverb_either_side_is_right_as_often_as_the_baselines_say():
    x, senses, y = tasks.terribly_exciting(20_000, clauses=1, seed=0)
    adverb = np.isin(x, [tasks.SENTIMENT_WORDS.index(word) for word in sentiment._BOTH_WAYS])
    assert (adverb.sum(axis=1) == 1).all()
    assert (senses[adverb] - 1 == y).all()
    turned = (x == tasks.SENTIMENT_WORDS.index("not")).any(axis=1)
    good = np.isin(x, [tasks.SENTIMENT_WORDS.index(word) for word in sentiment._PRAISE]).any(axis=1)
    assert y.mean() == pytest.approx(tasks.SENTIMENT_BASELINE, abs=0.015)
    for left in (True, False):  # what stands to the left leaves it open
        assert y[turned == left].mean() == pytest.approx(1 / 2, abs=0.02)
    assert np.mean(y == good) == pytest.approx(2 / 3, abs=0.015)  # what stands to the right does not quite
    assert np.mean(y == (good ^ turned)) == 1


def test_the_best_perplexity_of_a_review_is_the_one_that_counting_gives():
    x, _, _ = tasks.terribly_exciting(60_000, clauses=1, seed=0)
    _, counts = np.unique(x, axis=0, return_counts=True)
    shares = counts / len(x)
    third = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3)
    surprise = third + np.log(6) + np.log(2) + np.log(3) / 2 + np.log(16)
    assert -np.sum(shares * np.log(shares)) == pytest.approx(surprise, rel=0.01)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("the movie was not awfully dull !", True),
        ("the movie was awfully , to my taste , dull ! the plot", True),
        ("the movie was awfully dull and the plot was wickedly clever !", True),
        ("the movie was awfully dull and !", False),
        ("the movie was awfully , to my taste dull !", False),
        ("the movie was not not awfully dull !", False),
        ("the movie was awfully dull", False),
        ("movie was awfully dull !", False),
    ],
)
def test_what_is_a_review(text, whole):
    assert tasks.is_review([tasks.SENTIMENT_WORDS.index(word) for word in text.split()]) is whole


# --- names in source code -------------------------------------------------------------------------------------------

MODULES = [tokenize, io, json, shutil, ast]


def lines_by_tokenize(source):
    """How many tokens each logical line has, from Python's own tokenizer, comments and layout left out."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
    lines = [0]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            lines.append(0)
        elif token.type not in skipped:
            lines[-1] += 1
    return lines[:-1]


def plain_sources():
    """Modules without f-strings, which newer Pythons cut into more tokens."""
    for module in MODULES:
        source = Path(module.__file__).read_text(encoding="utf-8")
        if not any(isinstance(node, ast.JoinedStr) for node in ast.walk(ast.parse(source))):
            yield source


def test_lines_end_where_pythons_own_tokenizer_ends_them():
    sources = [*plain_sources(), "x = 1; y = 2\nif x: \\\n    y\nz = (1,\n\n 2) # why\n"]
    assert len(sources) >= 2
    for source in sources:
        words = [tasks.STATEMENT_TOKENS[token] for token in tasks.statements_of(source)]
        ends = np.flatnonzero(np.array(words) == "NEWLINE")
        assert np.diff(ends, prepend=-1).tolist() == [count + 1 for count in lines_by_tokenize(source)]


def names_by_ast(source):
    """(line, column) of names that are called, are keyword arguments, or are attributes, from Python's own parser."""
    called, argument, attribute = set(), set(), set()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            end = node.func.end_lineno, node.func.end_col_offset
            if isinstance(node.func, ast.Name | ast.Attribute):
                called.add(end)
            argument |= {(word.lineno, word.col_offset + len(word.arg)) for word in node.keywords if word.arg}
        if isinstance(node, ast.Attribute):
            attribute.add((node.end_lineno, node.end_col_offset))
    # ast counts columns in bytes
    assert all(line.isascii() for line in lines)
    return {"called": called, "argument": argument, "attribute": attribute - called}


def test_roles_against_pythons_own_parser():
    checked = 0
    for source in plain_sources():
        if not source.isascii():
            continue
        ends = [
            token.end
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
        ]
        roles, _ = tasks.name_roles(tasks.statements_of(source))
        roles = [tasks.NAME_ROLES[role] for role in roles if role]
        assert len(roles) == len(ends)
        wanted = names_by_ast(source)
        for end, role in zip(ends, roles, strict=True):
            if end in wanted["called"]:
                assert role == "called"
            elif end in wanted["argument"]:
                assert role == "argument"
            elif role == "called":
                raise AssertionError((end, source.splitlines()[end[0] - 1]))
            elif end in wanted["attribute"]:
                assert role in ("attribute", "assigned")
            else:
                assert role != "attribute" or source.splitlines()[end[0] - 1].lstrip().startswith(("from", "import"))
        checked += len(ends)
    assert checked > 1000


def test_statements_that_assign_against_pythons_own_parser():
    for source in plain_sources():
        if ";" in source:
            continue
        assigning = {
            node.lineno
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Assign | ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value)
        }
        starts = []
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        fresh = True
        for token in tokens:
            if token.type in {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}:
                continue
            if fresh and token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                starts.append(token.start[0])
            fresh = token.type == tokenize.NEWLINE
        _, statements = tasks.name_roles(tasks.statements_of(source))
        assert len(statements) == len(starts)
        for line, (_, sign, _) in zip(starts, statements, strict=True):
            assert (sign >= 0) == (line in assigning), source.splitlines()[line - 1]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def f(a, b=1): return a", ["read", "read", "argument", "read"]),
        ("f(a=1, b=c)", ["called", "argument", "argument", "read"]),
        ("x = y = z", ["assigned", "assigned", "read"]),
        ("x[i] += g(y)", ["read", "read", "called", "read"]),
        ("self.x = self.y(1)", ["read", "assigned", "read", "called"]),
        ("key = lambda a, b=1: a", ["assigned", "read", "argument", "read"]),
        ("class A(B, metaclass=M): pass", ["read", "read", "argument", "read"]),
        ("f({k: lambda x=1: x, j: 2}, z=3)", ["called", "read", "argument", "read", "read", "argument"]),
        ("x: int = 3", ["read", "assigned"]),
    ],
)
def test_roles(source, wanted):
    roles, _ = tasks.name_roles(tasks.statements_of(source))
    assert [tasks.NAME_ROLES[role] for role in roles if role] == wanted


@pytest.mark.parametrize("source", ["x = 'open", "f(]", "f(", "f)"])
def test_what_is_no_source_is_refused(source):
    assert tasks.statements_of(source) is None


def test_windows_of_names_are_seeded_and_their_roles_are_those_of_the_text():
    x, roles = tasks.python_names(200, length=40, seed=3)
    assert (x.shape, roles.shape, x.dtype, roles.dtype) == ((200, 40), (200, 40), np.int32, np.int32)
    words = np.array(tasks.STATEMENT_TOKENS)[x]
    named = np.array(tasks.NAME_ROLES)[roles]
    assert ((words == "NAME") == (named != "")).all()
    inside = named[:, 1:-1]
    called = (words[:, 2:] == "(") & ~np.isin(words[:, :-2], ["def", "class"]) & (words[:, 1:-1] == "NAME")
    assert (called == (inside == "called")).all()
    assert (words[:, :-2][inside == "attribute"] == ".").all()
    np.testing.assert_array_equal(x, tasks.python_names(200, length=40, seed=3)[0])
    assert not np.array_equal(x, tasks.python_names(200, length=40, seed=4)[0])


def test_assignments_to_come_are_balanced_and_decided_where_it_is_said():
    x, y, distance = tasks.python_assignments(300, before=5, after=20, seed=1)
    assert (x.shape, y.sum(), x.dtype, y.dtype) == ((300, 25), 150, np.int32, np.int32)
    words = np.array(tasks.STATEMENT_TOKENS)[x]
    assert (words[:, 5] == "NAME").all()
    assert (words[:, 4] == "NEWLINE").all() or (words[:, 4] != "").all()
    for row, answer, far in zip(words[:, 5:], y, distance, strict=True):
        end = row.tolist().index("NEWLINE")
        assert (row[end + 1 :] == "").all()
        depth, signs = 0, []
        for place, word in enumerate(row[:end]):
            depth += (word in ("(", "[", "{")) - (word in (")", "]", "}"))
            if depth == 0 and word.endswith("=") and word not in ("==", "!=", "<=", ">=", ":="):
                signs.append(place)
        if answer:
            assert signs[0] == far >= 2
        else:
            assert far == end >= 2
            assert not signs or "lambda" in row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.python_names(3, split="both"), "`split` is 'train' or 'test'"),
        (lambda: tasks.python_names(3, length=1), "`length` must be"),
        (lambda: tasks.python_assignments(3, split="both"), "`split` is 'train' or 'test'"),
        (lambda: tasks.python_assignments(1), "`n` must be a whole number of at least 2"),
        (lambda: tasks.python_assignments(10_000_000), "Ask for fewer"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
