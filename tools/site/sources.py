"""Lay out what Sphinx reads: copies of the course's notebooks and pages, changed where a site needs it otherwise.

The repository's files stay as they are for those who read them there. On the site

- an exercise is open, as in its lesson, and the solution's answer lies folded below it,
- each lesson begins with a link to the notebook to work through,
- `lessons/` in the README leads to the executed lesson, for that is what a site is for,
- anchors written in HTML become targets that Sphinx checks, and the Mermaid diagram becomes a picture,
- the first page shows stored outputs of the lessons, by the ids of their cells.
"""

import re
import shutil
from pathlib import Path

import nbformat

from rnnkit.authoring import notebooks

_ANCHOR = re.compile(r'^<a id="([^"]+)"></a>\n', re.MULTILINE)
_TO_NAME = re.compile(r"\]\(#(rnnkit\.[\w.]+)\)")
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_OUTPUT = re.compile(r"^```\{stored-output\} (\S+) (\S+) (\d+)\n```\n", re.MULTILINE)


def write(root, folder):
    """Write the sources of the site anew.

    Args:
        root: Folder of the course, a Path.
        folder: Where to, a Path; what it held is removed.

    Raises:
        ValueError: If the first page names a stored output that is not there, or a diagram has no description.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("lessons", "rnnkit"):  # not pages: what pages link to, to be downloaded
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for solution in sorted((root / "solutions").glob("*.ipynb")):
        page = folder / "solutions" / solution.name
        page.parent.mkdir(exist_ok=True)
        nbformat.write(lesson_page(nbformat.read(solution, as_version=4), solution.name), page)
    pages = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for path in [*pages, *(root / "docs").rglob("*.*")]:
        copy = folder / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_text(page_text(path.read_text(encoding="utf-8"), copy), encoding="utf-8")
        else:
            shutil.copy2(path, copy)
    for name in ("LICENSE", "pyproject.toml"):
        shutil.copy2(root / name, folder)
    front = (root / "tools" / "site" / "index.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(
        _OUTPUT.sub(lambda found: stored_output(root / "solutions", *found.groups()) + "\n", front), encoding="utf-8"
    )


def lesson_page(notebook, name):
    """Return a solution as the site shows it: exercises open, their answers folded, the lesson to work through named.

    Args:
        notebook: The executed solution, a notebook node; changed in place.
        name: Its file's name, which is its lesson's too.

    Returns:
        The notebook node.
    """
    cells = []
    for cell in notebook.cells:
        cell.metadata.pop("slideshow", None)
        if cell.cell_type == "code" and "### BEGIN SOLUTION" in cell.source:
            cells += _folded(cell)
        else:
            cells.append(cell)
    pointer = (
        f"*This is the executed lesson, with one answer to each exercise folded below it. To predict, run and answer "
        f"yourself, open* {{download}}`lessons/{name} <../lessons/{name}>` *in JupyterLab:* `make lab`."
    )
    cells.insert(1, nbformat.v4.new_markdown_cell(pointer, id="site-pointer"))
    notebook.cells = cells
    return notebook


def _folded(cell):
    """Return the cells to show for an exercise: the stub, then the answer with what it gave, folded."""
    stub = nbformat.v4.new_code_cell(
        notebooks.stubbed(cell.source, f"cell {cell.id}"), id=f"{cell.id}-open", execution_count=None
    )
    answer = nbformat.v4.new_code_cell(
        "\n".join(line for line in cell.source.split("\n") if not line.lstrip().startswith("### ")),
        id=cell.id,
        execution_count=cell.execution_count,
        outputs=cell.outputs,
        metadata={
            "tags": ["hide-cell"],
            "mystnb": {"code_prompt_show": "Show one answer", "code_prompt_hide": "Hide the answer"},
        },
    )
    return [stub, answer]


def page_text(text, path):
    """Return the text of a Markdown page as the site needs it.

    Args:
        text: The page as it is in the repository.
        path: Where its copy will be; a diagram's picture is put beside it.

    Returns:
        str: The changed text.

    Raises:
        ValueError: If a Mermaid diagram says nothing to those who cannot see it.
    """
    text = _ANCHOR.sub(lambda found: f"({_caseless(found[1])})=\n", text)
    text = _TO_NAME.sub(lambda found: f"](#{_caseless(found[1])})", text)
    text = text.replace("](lessons/", "](solutions/")
    return _MERMAID.sub(lambda found: _picture(found[1], path), text)


def _caseless(name):
    """Return a name that stays distinct in lower case: to Sphinx, `Sweep` and `sweep` are one target."""
    return re.sub("([A-Z])", r"-\1", name)


def _picture(diagram, path):
    """Draw a Mermaid diagram beside a page; return the image's Markdown."""
    description = re.search(r"^\s*accDescr: (.*)$", diagram, re.MULTILINE)
    if not description:
        raise ValueError(
            f"{path.name}: a diagram says what it shows in a line `accDescr: ...`, its alternative text; received "
            f"{diagram.strip().splitlines()[0]!r} without. Write one."
        )
    import mmdr

    picture = path.with_suffix(".svg")
    picture.write_text(mmdr.render(diagram).svg(), encoding="utf-8")
    return f"![{description[1]}]({picture.name})\n"


def stored_output(solutions, lesson, cell_id, number):
    """Return the HTML of an output that a solution has stored.

    Args:
        solutions: Folder of the solutions, a Path.
        lesson: A notebook's name without its ending.
        cell_id: The id of the cell.
        number: Which of the cell's outputs, counted from 0; a number or its digits.

    Returns:
        str: One line of HTML.

    Raises:
        ValueError: If there is no such cell or output; says which there are.

    Example:
        >>> stored_output(Path("solutions"), "01_vanishing_gradients", "five-kernels-claims", 0)  # doctest: +SKIP
        '<div ...><b>✓ Claim holds:</b> N(0, 0.1): first over last is below 1e-15. ...</div>'
    """
    cells = {cell.id: cell for cell in nbformat.read(Path(solutions) / f"{lesson}.ipynb", as_version=4).cells}
    if cell_id not in cells:
        raise ValueError(f"{lesson} has no cell {cell_id!r}, but {', '.join(cells)}. Name one of them.")
    pages = [output.data["text/html"] for output in cells[cell_id].get("outputs", []) if "text/html" in output.data]
    if int(number) >= len(pages):
        raise ValueError(
            f"{lesson}, cell {cell_id}: shows {len(pages)} outputs; received number {number}. Count from 0."
        )
    return pages[int(number)].replace("\n", " ")
