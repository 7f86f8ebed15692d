"""The notebook generator against solutions that nobody would write: an error that names the place, or a right lesson.

`HYPOTHESIS=thorough` tries many more, other ones each time.
"""

import copy
import json
import os

import nbformat
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rnnkit.authoring import notebooks

THOROUGH = os.environ.get("HYPOTHESIS") == "thorough"
many = settings(
    max_examples=5_000 if THOROUGH else 200,
    derandomize=not THOROUGH,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

LINES = [
    "### BEGIN SOLUTION",
    "### BEGIN SOLUTION -> a = ...",
    "    ### BEGIN SOLUTION -> return",
    "### END SOLUTION",
    "    ### END SOLUTION",
    "### -> more of a stub",
    "# BEGIN SOLUTION",
    "### END SOLUTION.",
    "### BEGIN SOLUTION ->",
    "",
    "code",
]


def read_by_hand(lines):
    """Return what learners may see, as (line, whether it stands there word for word); None if that cannot be told."""
    seen, inside, stub = [], False, False
    for line in lines:
        bare = line.strip()
        if bare == "### BEGIN SOLUTION" or bare.startswith("### BEGIN SOLUTION -> "):
            if inside:
                return None
            inside = stub = True
            indent = line[: line.index("#")]
            seen.append(indent + (bare.partition(" -> ")[2] or "..."))
        elif bare == "### END SOLUTION":
            if not inside:
                return None
            inside = False
        elif "BEGIN SOLUTION" in line or "END SOLUTION" in line:
            return None
        elif not inside:
            seen.append(line)
        elif stub and bare.startswith("### -> "):
            seen.append(indent + bare.removeprefix("### -> "))
        else:
            stub = False
    return None if inside else seen


@many
@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_of_any_cell_learners_see_what_stands_outside_its_regions(lines):
    lines = [f"{line} {number}" if line == "code" else line for number, line in enumerate(lines)]
    expected = read_by_hand(lines)
    if expected is None:
        with pytest.raises(ValueError, match=r"^here, line \d+: "):
            notebooks.stubbed("\n".join(lines), "here")
    else:
        assert notebooks.stubbed("\n".join(lines), "here") == "\n".join(expected)


def solution():
    """A small executed solution, as JSON."""
    cells = [
        new_markdown_cell("# Title", id="title"),
        new_markdown_cell("For authors.", id="note", metadata={"tags": ["solution-only"]}),
        new_code_cell(
            "### BEGIN SOLUTION -> a = ...\nanswer = 1\n### END SOLUTION\nprint(1)",
            id="code",
            execution_count=1,
            metadata={"tags": ["wide"], "execution": {"iopub.execute_input": "now"}},
            outputs=[new_output("stream", name="stdout", text="measured\n")],
        ),
    ]
    return json.loads(nbformat.writes(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})))


def places(value, path=()):
    """Yield the path to everything in nested dicts and lists."""
    for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inside, dict | list):
            yield from places(inside, (*path, key))


PLACES = list(places(solution()))
JUNK = [None, 0, -1, True, "", "x", [], {}, [None], ["solution-only"], [{}], {"cells": []}, "A\ud800", 1e999]


@many
@given(path=st.sampled_from(PLACES), junk=st.sampled_from([*JUNK, "take away", "twice"]))
def test_of_any_notebook_comes_a_lesson_or_an_error_that_names_it(path, junk, tmp_path_factory):
    folder, notebook = tmp_path_factory.mktemp("course"), solution()
    at = notebook
    for key in path[:-1]:
        at = at[key]
    if junk == "take away":
        del at[path[-1]]
    elif junk == "twice" and isinstance(at, list):
        at.insert(path[-1], copy.deepcopy(at[path[-1]]))
    else:
        at[path[-1]] = junk
    solutions, lessons = folder / "solutions", folder / "lessons"
    solutions.mkdir()
    (solutions / "00_start.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    try:
        (written,) = notebooks.generate(solutions, lessons)
    except ValueError as error:
        assert str(error).startswith(str(solutions / "00_start.ipynb"))  # noqa: PT017  (either end is right)
        assert not list(lessons.iterdir())
        return
    text = written.read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(text, as_version=4))
    for hidden in ("answer = 1", "measured", "iopub"):
        assert hidden not in text
    assert notebooks.check(solutions, lessons) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000, b'{"cells": 3}', b"{}"])
def test_a_file_that_is_no_notebook_is_named(content, tmp_path):
    (tmp_path / "00_start.ipynb").write_bytes(content)
    with pytest.raises(ValueError, match=r"00_start\.ipynb: a solution is a notebook of format 4\.5; received a file"):
        notebooks.generate(tmp_path, tmp_path / "lessons")
    assert not list((tmp_path / "lessons").iterdir())
