"""Make the lessons that students open from the solutions that authors edit.

A solution is an executed notebook. In its lesson

- a region `### BEGIN SOLUTION -> stub` ... `### END SOLUTION` is replaced by its stub, at the region's indentation
  (`...` where no stub is given; more lines of a stub follow on lines of their own, `### -> second line`),
- a cell tagged `solution-only` is left out,
- outputs, execution counts and metadata are gone; cell ids stay.
"""

import json
import re
from pathlib import Path

import nbformat

from rnnkit._files import atomic_writer

_BEGIN = re.compile(r"(\s*)### BEGIN SOLUTION(?: -> (.*))?")
_MORE = re.compile(r"\s*### -> (.*)")
_END = re.compile(r"\s*### END SOLUTION")
_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def generate(solutions_dir, lessons_dir):
    """Write every lesson that its solution would now make otherwise, and remove those without a solution.

    Args:
        solutions_dir: Folder of solution notebooks, `NN_name.ipynb`.
        lessons_dir: Folder of lessons, made if need be.

    Returns:
        The paths written, in order; none when all is in sync.

    Raises:
        ValueError: If a solution's regions are unbalanced or a cell has no id; names file, cell and line.

    Example:
        >>> generate("solutions", "lessons")  # doctest: +SKIP
        [PosixPath('lessons/00_start_here.ipynb')]
    """
    lessons_dir = Path(lessons_dir)
    lessons_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for path, text in _lessons(solutions_dir, lessons_dir).items():
        if _stored(path) != text:
            with atomic_writer(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            written.append(path)
    for path in _orphans(solutions_dir, lessons_dir):
        path.unlink()
    return written


def check(solutions_dir, lessons_dir):
    """Say where lessons have drifted from their solutions, changing nothing.

    Args:
        solutions_dir: Folder of solution notebooks.
        lessons_dir: Folder of lessons.

    Returns:
        One message a lesson that is missing, differs or has no solution; empty when all is in sync.

    Raises:
        ValueError: If a solution's regions are unbalanced or a cell has no id; names file, cell and line.

    Example:
        >>> check("solutions", "lessons")  # doctest: +SKIP
        []
    """
    drift = []
    for path, text in _lessons(solutions_dir, lessons_dir).items():
        stored = _stored(path)
        if stored is None:
            drift.append(f"{path} is missing. Run `rnnkit lessons`.")
        elif stored != text:
            drift.append(f"{path} is not what its solution makes. Edit the solution, then run `rnnkit lessons`.")
    drift += [f"{path} has no solution. `rnnkit lessons` removes it." for path in _orphans(solutions_dir, lessons_dir)]
    return drift


def _lessons(solutions_dir, lessons_dir):
    """Return the text of every lesson by its path."""
    return {
        Path(lessons_dir) / solution.name: _lesson(solution) for solution in sorted(Path(solutions_dir).glob("*.ipynb"))
    }


def _orphans(solutions_dir, lessons_dir):
    # Only files named like lessons: a student's own notebooks in the folder are theirs.
    return [
        path
        for path in sorted(Path(lessons_dir).glob("[0-9][0-9]_*.ipynb"))
        if not (Path(solutions_dir) / path.name).exists()
    ]


def _stored(path):
    # Bytes, for read_text would hide a change of line ends.
    return path.read_bytes().decode("utf-8") if path.exists() else None


def _lesson(solution):
    """Return the text of the lesson that a solution notebook makes."""
    notebook = _read(solution)
    cells = []
    for number, cell in enumerate(notebook.cells, start=1):
        if not cell.get("id"):
            raise ValueError(
                f"{solution}, cell {number}: every cell needs an id, for lessons to be byte-stable; this one has "
                "none. Open and save the notebook in JupyterLab, then give the cell a readable id."
            )
        tags = cell.metadata.get("tags", [])
        if "solution-only" in tags:
            continue
        cell.metadata = {"tags": tags} if tags else {}
        cell.source = stubbed(cell.source, f"{solution}, cell {cell.id}")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    lesson = nbformat.v4.new_notebook(cells=cells, metadata=_METADATA)
    return nbformat.writes(lesson) + "\n"


def _read(solution):
    """Return a solution as nbformat has it, cells without ids left as they are."""
    try:
        text = solution.read_text(encoding="utf-8")
        notebook = json.loads(text)
        for number, cell in enumerate(notebook["cells"]):  # else nbformat would give one that has none a random id
            cell.setdefault("id", f"none-{number}")
        ids = [cell["id"] for cell in notebook["cells"]]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two cells with the id {max(ids, key=ids.count)!r}")
        nbformat.validate(notebook, version=4, version_minor=5)
        json.dumps(notebook, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair cannot be written
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, nbformat.ValidationError) as error:
        raise ValueError(
            f"{solution}: a solution is a notebook of format 4.5; received a file that is none "
            f"({type(error).__name__}: {str(error)[:200]!r}). Open it in JupyterLab and save it again."
        ) from error
    return nbformat.v4.reads(text)


def stubbed(source, where):
    r"""Return a cell's source with each solution region replaced by its stub.

    Args:
        source: The text of a code cell.
        where: What to call the cell in an error.

    Returns:
        str: The text that the lesson has.

    Raises:
        ValueError: If regions are unbalanced; names the cell and the line.

    Example:
        >>> stubbed("### BEGIN SOLUTION -> a = ...\na = 1\n### END SOLUTION", "here")
        'a = ...'
    """
    lines, begun, stub_open = [], None, False
    for number, line in enumerate(source.split("\n"), start=1):
        begin, end, more = _BEGIN.fullmatch(line), _END.fullmatch(line), _MORE.fullmatch(line)
        if "BEGIN SOLUTION" in line or "END SOLUTION" in line:
            if not (begin or end):
                raise ValueError(
                    f"{where}, line {number}: a region begins with `### BEGIN SOLUTION -> stub` and ends with "
                    f"`### END SOLUTION`; received {line.strip()!r}. Write it so."
                )
            if bool(begin) == (begun is not None):
                raise ValueError(
                    f"{where}, line {number}: each region begins once and ends once; received {line.strip()!r} "
                    + (f"inside the region begun in line {begun}." if begun else "outside any region.")
                    + f" Add the missing {'end' if begun else 'beginning'} before it."
                )
            begun, stub_open = (number, True) if begin else (None, False)
            if begin:
                indent = begin[1]
                lines.append(indent + (begin[2] or "..."))
        elif begun and stub_open and more:
            lines.append(indent + more[1])
        elif begun:
            stub_open = False
        else:
            lines.append(line)
    if begun:
        raise ValueError(
            f"{where}, line {begun}: each region begins once and ends once; received no end before the cell's end. "
            "Add `### END SOLUTION`."
        )
    return "\n".join(lines)
