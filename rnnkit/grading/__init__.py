"""Grading the notebooks that a class returned, whatever is in them.

Three kinds of processes: the one that called `grade` hands out the work and writes the table; for each core an examiner
(`_examiner`) knows the exercises and decides; and for each notebook a process (`_answers`), kept in by `_confine`, runs
the student's cells. The last two exchange data and never code (`_channel`), so that nothing a student writes can
decide an outcome. `_cells` knows which cells an exercise needs.
"""

import contextlib
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
_FAULTS = 3  # examiners that one notebook may use up
_OWN_MEMORY = 6_000_000_000  # bytes for models and trainings; the student's process has a limit of its own
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
    workers = [
        _Worker(waiting, rows, known, names, limits, say)
        for _ in range(min(jobs or os.cpu_count() or 1, len(notebooks)))
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:  # what is known so far is kept, also after Ctrl-C
        for worker in workers:
            worker.renew()
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


class _Worker(threading.Thread):
    """Grades notebooks until none is left, with an examiner that is renewed when it was broken or has done many."""

    def __init__(self, waiting, rows, known, names, limits, say):
        super().__init__(daemon=True)
        self.waiting, self.rows, self.known, self.names = waiting, rows, known, names
        self.limits, self.say = limits, say
        self.examiner, self.done = None, 0

    def run(self):
        """Take notebooks from the queue."""
        with contextlib.suppress(queue.Empty):
            while True:
                student, stem, path = self.waiting.get_nowait()
                began = time.monotonic()
                rows = self.grade(stem, path)
                self.rows += [(student, stem, *row) for row in rows]
                outcomes = [row[1] for row in rows if row[0]] + ["tampered"] * any(row[1] == "tampered" for row in rows)
                counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
                self.say(f"{_clean(student)} {stem}: {counted} ({time.monotonic() - began:.0f} s)")
        self.renew()

    def grade(self, stem, path):
        """Return the rows of a notebook, (exercise, outcome, message) each."""
        rows, faults = [], 0
        left = self.names[stem]
        while True:
            graded, fault = self._ask(stem, path, left)
            rows += graded if faults == 0 else [row for row in graded if row[0]]  # a remark is made once
            if fault is None:
                return rows
            self.renew()
            rows.append(fault)
            faults += 1
            graded = {row[0] for row in rows}
            left = [name for name in left if name not in graded]
            if faults == _FAULTS:
                return rows + [(name, "not run", "Its examiner had to be stopped too often.") for name in left]

    def _ask(self, stem, path, names):
        """Return the rows that an examiner gives, and the one of the exercise that it did not survive, or None."""
        if self.done >= _RENEWED:
            self.renew()
        if self.examiner is None:
            code = "from rnnkit.grading._examiner import serve; serve()"
            self.examiner = _confine.Confined(code, self.limits["memory"] + _OWN_MEMORY)
        self.done += 1
        job = {"notebook": str(path), "lesson": str(self.known[stem]), "wanted": names, **self.limits}
        rows, begun = [], names[0] if names else ""
        try:
            self.examiner.write(json.dumps(job).encode() + b"\n")
            while line := self.examiner.read(self.limits["seconds"] + _START):
                said = json.loads(line)
                if "end" in said:
                    return rows, None
                begun = said.get("begin", begun)
                if "row" in said:
                    rows.append(tuple(said["row"]))
        except TimeoutError:
            return rows, (begun, "timed out", "To examine the answer took too long.")
        except OSError:
            pass
        time.sleep(0.2)  # for those who look at its memory to say why
        return rows, (begun, *(self.examiner.stopped or ("crashed", "The examiner ended over this answer.")))

    def renew(self):
        """End the examiner; the next notebook gets a new one."""
        examiner, self.examiner, self.done = self.examiner, None, 0
        if examiner is not None:
            examiner.close()


def _clean(text):
    """Return a text as one short line that no spreadsheet takes for a formula."""
    line = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in str(text))).strip()
    line = line if len(line) <= 400 else line[:396] + " ..."
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
