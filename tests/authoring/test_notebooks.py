"""The lesson generator, and the rules that every stored notebook keeps."""

import base64
import doctest
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, PngImagePlugin

from rnnkit import exercises
from rnnkit.authoring import notebooks

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))


# --- the generator --------------------------------------------------------------------------------------------


def solution_notebook():
    """Return a small executed solution."""
    cells = [
        new_markdown_cell("# Title: ∂L/∂h", id="title"),
        new_markdown_cell("For authors.", id="note", metadata={"tags": ["solution-only"]}),
        new_code_cell(
            "def f(x):\n"
            '    """Halve."""\n'
            "    ### BEGIN SOLUTION -> return ...\n"
            "    y = x / 2\n"
            "    return y\n"
            "    ### END SOLUTION\n"
            "print(f(2))",
            id="halve",
            execution_count=1,
            metadata={"tags": ["wide"], "execution": {"iopub.execute_input": "now"}, "collapsed": True},
            outputs=[new_output("stream", name="stdout", text="1.0\n")],
        ),
    ]
    metadata = {
        "kernelspec": {"name": "mine", "display_name": "Mine"},
        "language_info": {"name": "python", "version": "3.11.7"},
    }
    return new_notebook(cells=cells, metadata=metadata)


@pytest.fixture
def course(tmp_path):
    """A folder with one solution, its lesson generated."""
    (tmp_path / "solutions").mkdir()
    nbformat.write(solution_notebook(), tmp_path / "solutions" / "00_start.ipynb")
    written = notebooks.generate(tmp_path / "solutions", tmp_path / "lessons")
    assert written == [tmp_path / "lessons" / "00_start.ipynb"]
    return tmp_path


def drift(course):
    return notebooks.check(course / "solutions", course / "lessons")


def edit(path, old, new):
    data = path.read_bytes()  # bytes, so that line ends stay what they are
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode()))


def test_a_lesson_is_its_solution_with_exercises_open(course):
    lesson = nbformat.read(course / "lessons" / "00_start.ipynb", as_version=4)
    nbformat.validate(lesson)
    title, halve = lesson.cells
    assert (title.id, title.source) == ("title", "# Title: ∂L/∂h")
    assert halve.source == 'def f(x):\n    """Halve."""\n    return ...\nprint(f(2))'
    assert (halve.id, halve.metadata, halve.outputs, halve.execution_count) == ("halve", {"tags": ["wide"]}, [], None)
    assert set(lesson.metadata) == {"kernelspec", "language_info"}
    assert lesson.metadata.kernelspec.name == "python3"
    assert lesson.metadata.language_info == {"name": "python"}


def test_generating_again_changes_no_byte(course):
    path = course / "lessons" / "00_start.ipynb"
    before = path.read_bytes()
    assert notebooks.generate(course / "solutions", course / "lessons") == []
    path.unlink()
    notebooks.generate(course / "solutions", course / "lessons")
    assert path.read_bytes() == before
    assert before.endswith(b"}\n")
    assert b"\r" not in before


def test_running_a_solution_again_leaves_its_lesson_in_sync(course):
    edit(course / "solutions" / "00_start.ipynb", "1.0\\n", "2.0\\n")
    edit(course / "solutions" / "00_start.ipynb", '"execution_count": 1', '"execution_count": 7')
    edit(course / "solutions" / "00_start.ipynb", "return y", "return 1 * y")
    assert drift(course) == []


@pytest.mark.parametrize(
    ("folder", "old", "new"),
    [
        ("solutions", "-> return ...", "-> return None"),
        ("solutions", "# Title", "# A title"),
        ("lessons", "return ...", "return x / 2"),
        ("lessons", "halve", "half"),
        ("lessons", "\n", "\r\n"),
    ],
    ids=["stub", "prose", "answer leaked", "id", "line ends"],
)
def test_a_changed_solution_or_lesson_is_drift(course, folder, old, new):
    edit(course / folder / "00_start.ipynb", old, new)
    (message,) = drift(course)
    assert "00_start.ipynb is not what its solution makes" in message
    assert notebooks.generate(course / "solutions", course / "lessons")
    assert drift(course) == []


def test_missing_and_orphaned_lessons_are_drift(course):
    own = course / "lessons" / "my_notes.ipynb"
    own.write_text("{}")
    (course / "lessons" / "00_start.ipynb").rename(course / "lessons" / "00_begin.ipynb")
    missing, orphan = drift(course)
    assert "00_start.ipynb is missing" in missing
    assert "00_begin.ipynb has no solution" in orphan
    notebooks.generate(course / "solutions", course / "lessons")
    assert drift(course) == []
    assert sorted(path.name for path in (course / "lessons").iterdir()) == ["00_start.ipynb", "my_notes.ipynb"]


@pytest.mark.parametrize(
    ("source", "stubbed"),
    [
        ("### BEGIN SOLUTION\na = 1\n### END SOLUTION", "..."),
        ("if x:\n    ### BEGIN SOLUTION -> a = ...\n    a = 1\n    ### END SOLUTION", "if x:\n    a = ..."),
        (
            "  ### BEGIN SOLUTION -> for g in gs:\n  ### ->     ...\n  ### -> return ...\n  a\n  ### END SOLUTION\nb",
            "  for g in gs:\n      ...\n  return ...\nb",
        ),
        ("### BEGIN SOLUTION -> a = ...\n### END SOLUTION\n\n### BEGIN SOLUTION\n### END SOLUTION", "a = ...\n\n..."),
        ("### BEGIN SOLUTION -> a\nb\n### -> no stub, so late\n### END SOLUTION", "a"),
        ("a = 1\n", "a = 1\n"),
    ],
)
def test_stubs(source, stubbed):
    assert notebooks.stubbed(source, "here") == stubbed


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("### BEGIN SOLUTION\na", "line 1: .* received no end"),
        ("a\n### END SOLUTION", "line 2: .* outside any region. Add the missing beginning"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION", "line 2: .* inside the region begun in line 1. Add the missing end"),
        ("# BEGIN SOLUTION\na\n### END SOLUTION", "line 1: .* received '# BEGIN SOLUTION'"),
        ("### BEGIN SOLUTION: a\n### END SOLUTION", "line 1: .* received '### BEGIN SOLUTION: a'"),
        ("### BEGIN SOLUTION\n### END SOLUTIONS", "line 2: .* received '### END SOLUTIONS'"),
    ],
)
def test_unbalanced_regions_name_file_cell_and_line(course, source, told):
    path = course / "solutions" / "00_start.ipynb"
    notebook = solution_notebook()
    notebook.cells[2].source = source
    nbformat.write(notebook, path)
    for use in (notebooks.generate, notebooks.check):
        with pytest.raises(ValueError, match=rf"00_start\.ipynb, cell halve, {told}"):
            use(course / "solutions", course / "lessons")


def test_a_cell_without_an_id_is_refused(course):
    path = course / "solutions" / "00_start.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    del notebook["cells"][1]["id"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.raises(ValueError, match=r"00_start\.ipynb, cell 2: every cell needs an id"):
        drift(course)


def test_examples_in_docstrings_are_valid():
    assert doctest.testmod(notebooks).failed == 0


# --- the rules that stored notebooks keep ---------------------------------------------------------------------

_MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|usr|opt|var|mnt)/\w|\b[A-Z]:\\\w|" + re.escape(str(ROOT))
)
_SHOWN = {"text/html", "text/plain", "image/png"}
_READABLE_ID = re.compile(r"[a-z]+\d{0,3}(-([a-z]+\d{0,3}|\d{1,3}))*")


def faults(notebook):
    """Return what is wrong with an executed solution, a line each."""
    found = []
    ids = [cell.id for cell in notebook.cells]
    found += [f"cell id {i} is not readable" for i in ids if not _READABLE_ID.fullmatch(i)]
    found += [f"cell id {i} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1})]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"code cells were not run once, in order: {counts}")
    # IPython looks up its history to see the semicolon, and nbval keeps none: the value would come out under it.
    found += [
        f"cell {cell.id} hides its value behind a semicolon: give it a name instead"
        for cell in code
        if cell.source.rstrip().endswith(";")
    ]
    for cell in code:
        for output in cell.outputs:
            found += [f"cell {cell.id}: {fault}" for fault in output_faults(output)]
    return found + heading_faults(notebook)


def output_faults(output):
    if output.output_type == "error":
        return [f"stores an exception, {output.ename}"]
    data = output.get("data", {})
    texts = [output.get("text", ""), *(value for value in data.values() if isinstance(value, str))]
    found = []
    if output.get("name") == "stderr":
        found.append(f"stores text on stderr: {output.text[:80]}")
    for text in texts:
        without_pictures = re.sub(r"base64,[\w+/=\s]+", "", text)
        if path := _MACHINE_PATH.search(without_pictures):
            found.append(f"shows a path of the author's machine: {without_pictures[path.start() :][:40]}")
    tags = re.findall(r"<img\b[^>]*>", data.get("text/html", ""))
    pictures = [kind for kind in data if kind.startswith("image/")]
    if any(not re.search(r'\balt="[^"]+"', tag) for tag in tags) or (pictures and not tags):
        found.append("shows a picture without alt text")
    return found


_MAY_HOLD = {  # of what nobody sees
    "the notebook": {"kernelspec", "language_info"},
    # Which cells are slides; and jupytext's note of the script that is edited.
    "a cell": {"tags", "slideshow", "lines_to_next_cell"},
    "an output": {"image/png", "rnnkit"},  # alt text and size; the record of a claim
}
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.\w+")


def residue(notebook):
    """Return what a notebook holds besides what its readers see, a line each."""
    held = [("the notebook", "metadata", notebook.metadata)]
    found = []
    for cell in notebook.cells:
        held.append(("a cell", cell.id, cell.metadata))
        held += [("an output", cell.id, output.get("metadata", {})) for output in cell.get("outputs", [])]
        if "attachments" in cell:
            found.append(f"{cell.id}: a cell with a file attached")
        for kind, pattern in (("a path of the author's machine", _MACHINE_PATH), ("an address", _ADDRESS)):
            if match := pattern.search(cell.source):
                found.append(f"{cell.id}: {kind}, {match[0]}")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found += [f"{cell.id}: output of a kind that is not shown, {kind}" for kind in set(data) - _SHOWN]
            if "image/png" in data:
                told = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).info
                found += [f"{cell.id}: a picture that tells {name}" for name in told]
    for what, where, metadata in held:
        found += [f"{where}: {what} with metadata {name!r}" for name in set(metadata) - _MAY_HOLD[what]]
    if (kernel := notebook.metadata.get("kernelspec", {}).get("name")) != "python3":
        found.append(f"metadata: a kernel of the author's own, {kernel}")
    return found


def heading_faults(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"^(```|~~~).*?^\1", "", prose, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^(#+) (.*)", prose, flags=re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    found = []
    if levels[:1] != [1] or levels.count(1) != 1:
        found.append("a notebook begins with its title, its only heading of level 1")
    for (_, title), level, above in zip(headings[1:], levels[1:], levels, strict=False):
        if level > above + 1:
            found.append(f"heading {title!r} skips a level")
    return found


def clean_notebook():
    picture = '<img alt="A falling line" src="data:image/png;base64,/tmp/abcd==">'
    return new_notebook(
        cells=[
            new_markdown_cell("# Title\n\n```python\n# a comment\n```\n\n## Part\n\n### Detail\n\n## Part", id="title"),
            new_code_cell(
                "show()",
                id="show-t60-2",
                execution_count=1,
                outputs=[new_output("display_data", {"text/html": picture, "text/plain": "line", "image/png": "abcd"})],
            ),
            new_code_cell("3", id="one", execution_count=2, outputs=[new_output("stream", text="3")]),
        ]
    )


def spoil(change):
    notebook = clean_notebook()
    change(notebook.cells)
    return notebook


def add_output(kind, data=None, **fields):
    return lambda cells: cells[2].outputs.append(new_output(kind, data, **fields))


def set_field(number, field, value):
    return lambda cells: cells[number].update({field: value})


def test_a_clean_notebook_has_no_fault():
    assert faults(clean_notebook()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_field(1, "id", "3f6c1a2b"), "cell id 3f6c1a2b is not readable"),
        (set_field(1, "id", "one"), "cell id one is used twice"),
        (set_field(2, "execution_count", None), "not run once, in order: [1, None]"),
        (set_field(1, "execution_count", 3), "not run once, in order: [3, 2]"),
        (add_output("stream", name="stderr", text="W0000 oneDNN"), "cell one: stores text on stderr: W0000"),
        (add_output("error", ename="KeyError", evalue="", traceback=[]), "stores an exception, KeyError"),
        (add_output("stream", text="in /home/ann/x.py"), "path of the author's machine: /home/ann/x.py"),
        (add_output("display_data", {"text/html": "<b>C:\\Users\\x</b>"}), "path of the author's machine: C:\\Users"),
        (add_output("stream", text=f"{ROOT}/x"), "path of the author's machine"),
        (add_output("display_data", {"text/html": '<img src="x">'}), "picture without alt text"),
        (add_output("display_data", {"text/html": '<img alt="" src="x">'}), "picture without alt text"),
        (add_output("display_data", {"image/png": "abcd"}), "picture without alt text"),
        (set_field(2, "source", "plot()\nplot(); "), "cell one hides its value behind a semicolon"),
        (set_field(0, "source", "## Title"), "begins with its title"),
        (set_field(0, "source", "# Title\n# Another"), "begins with its title"),
        (set_field(0, "source", "# Title\n### Detail"), "heading 'Detail' skips a level"),
    ],
)
def test_each_fault_is_found(change, told):
    (fault,) = faults(spoil(change))
    assert told in fault


def picture(**told):
    """Return a picture as a notebook stores it, with texts in it that no viewer shows."""
    file, texts = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in told.items():
        texts.add_text(name, text)
    Image.new("L", (2, 2)).save(file, "png", pnginfo=texts)
    return base64.b64encode(file.getvalue()).decode()


def plain_notebook():
    """A notebook that holds nothing but what is to be seen."""
    notebook = clean_notebook()
    notebook.metadata = {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    notebook.cells[1].outputs[0].data["image/png"] = picture()
    return notebook


def test_a_plain_notebook_has_no_residue():
    assert residue(plain_notebook()) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda n: n.metadata.update(widgets={}), "the notebook with metadata 'widgets'"),
        (lambda n: n.metadata.kernelspec.update(name="anns"), "a kernel of the author's own, anns"),
        (lambda n: n.cells[1].metadata.update(execution={}), "show-t60-2: a cell with metadata 'execution'"),
        (lambda n: n.cells[1].outputs[0].metadata.update(needs_background="light"), "an output with metadata 'needs"),
        (lambda n: n.cells[0].update(attachments={}), "title: a cell with a file attached"),
        (lambda n: n.cells[2].update(source="open('/home/ann/x')"), "one: a path of the author's machine, /home/a"),
        (lambda n: n.cells[0].update(source="# By ann@example.org"), "title: an address, ann@example.org"),
        (lambda n: n.cells[1].outputs[0].data.update({"application/vnd.x+json": {}}), "not shown, application/vnd.x+j"),
        (
            lambda n: n.cells[1].outputs[0].data.update({"image/png": picture(Author="ann")}),
            "picture that tells Author",
        ),
    ],
)
def test_each_residue_is_found(spoil, told):
    notebook = plain_notebook()
    spoil(notebook)
    (found,) = residue(notebook)
    assert told in found


@pytest.mark.parametrize("path", [*SOLUTIONS, *LESSONS], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebooks_hold_nothing_but_what_is_to_be_seen(path):
    notebook = nbformat.read(path, as_version=4)
    assert residue(notebook) == []
    if path in LESSONS:
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_keep_the_rules(path):
    assert faults(nbformat.read(path, as_version=4)) == []


def test_lessons_are_what_their_solutions_make():
    assert notebooks.check(ROOT / "solutions", ROOT / "lessons") == []


@pytest.mark.parametrize("exercise", exercises.catalogue().values(), ids=lambda exercise: exercise.name)
def test_every_exercise_is_checked_in_its_lesson(exercise):
    lesson = next((path for path in SOLUTIONS if path.stem.startswith(f"{exercise.lesson}_")), None)
    assert lesson, f"lesson {exercise.lesson} has exercises, but solutions/{exercise.lesson}_*.ipynb is not there"
    code = "\n".join(cell.source for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code")
    assert re.search(rf"\bcheck\(\s*[\"']{exercise.name}[\"']", code)
