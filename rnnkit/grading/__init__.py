"""Grading the notebooks that a class returned, whatever is in them.

Three kinds of processes: the one that called `grade` hands out the work and writes the table; for each core an examiner
(`_examiner`) knows the exercises and decides; and for each notebook a process (`_answers`), kept in by `_confine`, runs
the student's cells. The last two exchange data and never code (`_channel`), so that nothing a student writes can
decide an outcome. `_cells` knows which cells an exercise needs.
"""

import json
import os
import queue
import re
import threading
import time
from pathlib import Path

from rnnkit._export import write_csv
from rnnkit.grading import _cells, _confine

HEADER = ("student", "lesson", "exercise", "outcome", "message")
_RENEWED = 20  # notebooks after which an examiner makes way for a new one, whose memory is empty
_START = 120  # seconds that an examiner may take more than its exercise: to start, and to train


def grade(folder, out, lessons, *, jobs=None, seconds=120, memory=3.0, prints=10.0, say=print):
    """Examine every returned notebook and write a table of outcomes.

    Args:
        folder: Of folders, one a student, with notebooks `NN_name.ipynb` in them.
        out: The table to write, comma-separated: student, lesson, exercise, outcome, message. An outcome is
            "correct", "not yet" or "not attempted yet" as in the notebook, or "timed out", "out of memory", "crashed",
            "printed too much", "malformed", "not examined", "not run"; "tampered", without an exercise, is a remark.
        lessons: Folder of our own lessons.
        jobs: Notebooks at a time; None takes one a core.
        seconds: Of an exercise.
        memory: Of a student's process, GB.
        prints: What it may print, MB.
        say: Called with each line of what is going on.

    Returns:
        The rows of the table, a list of tuples of texts.

    Raises:
        ValueError: If there is no notebook to grade.

    Example:
        >>> rows = grade("returned", "grades.csv", "lessons")  # doctest: +SKIP
    """
    known = {path.stem: path for path in sorted(Path(lessons).glob("[0-9][0-9]_*.ipynb"))}
    notebooks, rows = _notebooks(Path(folder), known)
    if not notebooks and not rows:
        raise ValueError(f"Notebooks are in folders of students, STUDENT/NN_name.ipynb; {folder} has none such.")
    cells = {stem: _cells.code_cells(json.loads(path.read_bytes())) for stem, path in known.items()}
    names = {stem: list(_cells.exercises_of(found)) for stem, found in cells.items()}
    level = _confine.level()
    say(f"{len(notebooks)} notebooks. {_confine.LEVELS[level]}")
    limits = {"seconds": seconds, "memory": int(memory * 1e9), "prints": int(prints * 1e6)}
    limits["hidden"] = [str(Path(folder).resolve())]
    waiting = queue.SimpleQueue()
    for notebook in notebooks:
        waiting.put(notebook)
    threads = [
        threading.Thread(target=_work, args=(waiting, rows, known, names, limits, say), daemon=True)
        for _ in range(min(jobs or os.cpu_count() or 1, len(notebooks)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:  # what is known so far is kept, also after Ctrl-C
        place = {(stem, name): number for stem in names for number, name in enumerate(names[stem])}
        rows.sort(key=lambda row: (row[0], row[1], place.get(tuple(row[1:3]), -1)))
        table = [tuple(map(_clean, row)) for row in rows]
        write_csv(out, HEADER, table)
    return table


def _notebooks(folder, known):
    """Return (student, lesson, path) of what is to be graded, and rows about what is not."""
    found, rows = [], []
    students = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    for student in sorted(students, key=lambda entry: entry.name):
        if student.name.startswith("."):
            continue
        by_lesson = {}
        for path in sorted(Path(student.path).glob("*.ipynb")):
            same = [stem for stem in known if stem == path.stem or stem[:3] == path.name[:3]]
            if same:
                by_lesson.setdefault(same[0], []).append(path)
            else:
                rows.append((student.name, path.stem, "", "not run", "It has the name of no lesson, NN_name.ipynb."))
        for stem, paths in by_lesson.items():
            chosen = next((path for path in paths if path.stem == stem), paths[0])
            found.append((student.name, stem, chosen))
            others = ", ".join(path.name for path in paths if path != chosen)
            if others:
                rows.append((student.name, stem, "", "not run", f"{chosen.name} was graded, and not {others}."))
    return found, rows


def _work(waiting, rows, known, names, limits, say):
    """Grade notebooks until none is left, with examiners one after the other."""
    examiner = None
    done = 0
    while True:
        try:
            student, stem, path = waiting.get_nowait()
        except queue.Empty:
            break
        began, mine = time.monotonic(), []
        while len(mine) < len(names[stem]) or not names[stem]:
            left = [name for name in names[stem] if name not in {row[0] for row in mine}]
            if examiner is None:
                # Its own memory is for models and trainings; the student's has a limit of its own.
                examiner = _confine.Confined(
                    "from rnnkit.grading._examiner import serve; serve()", limits["memory"] + int(6e9)
                )
                done = 0
            job = {"notebook": str(path), "lesson": str(known[stem]), "wanted": left, **limits}
            graded, fault = _one(examiner, job, remark=not mine)
            mine += graded
            if fault is None:
                break
            examiner.close()
            examiner = None
            mine.append(fault)
            if sum(row[1] in ("timed out", "crashed", "out of memory") for row in mine) >= 3:
                gone = {row[0] for row in mine}
                mine += [(name, "not run", "Too many exercises had to be stopped.") for name in left if name not in gone]
                break
        rows += [(student, stem, *row) for row in mine]
        outcomes = [row[1] for row in mine if row[0]]
        counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        remark = "; tampered" if any(row[1] == "tampered" for row in mine) else ""
        say(f"{_clean(student)} {stem}: {counted}{remark} ({time.monotonic() - began:.0f} s)")
        done += 1
        if examiner is not None and done >= _RENEWED:
            examiner.close()
            examiner = None
    if examiner is not None:
        examiner.close()


def _one(examiner, job, remark):
    """Return what an examiner says of a notebook, and the row of the exercise that it did not survive, or None."""
    rows, begun = [], job["wanted"][0] if job["wanted"] else ""
    try:
        examiner.write(json.dumps(job).encode() + b"\n")
        while line := examiner.read(job["seconds"] + _START):
            said = json.loads(line)
            if "end" in said:
                return rows, None
            begun = said.get("begin", begun)
            if "row" in said and (said["row"][0] or remark):
                rows.append(tuple(said["row"]))
    except TimeoutError:
        return rows, (begun, "timed out", "To examine it took too long.")
    except OSError:
        pass
    time.sleep(0.2)  # for those who look at its memory to say why
    return rows, (begun, *(examiner.stopped or ("crashed", "The examiner ended over this answer.")))


def _clean(text):
    """Return a text as one short line that no spreadsheet takes for a formula."""
    line = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in str(text))).strip()
    line = line if len(line) <= 400 else line[:396] + " ..."
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
