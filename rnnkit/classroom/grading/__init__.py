"""Grading the notebooks that a class returned, whatever is in them.

Three kinds of processes: the one that called `grade` hands out the work and writes the table; for each core an examiner
(`_examiner`) knows the exercises and decides; and for each notebook a process (`_answers`), kept in by `_confine`, runs
the student's cells. The last two exchange data and never code (`_channel`), so that nothing a student writes can
decide an outcome. `_slicing` finds the cells that an exercise needs.
"""

import json
import os
import queue
import re
import threading
import time
from pathlib import Path

from rnnkit._files import write_csv
from rnnkit.classroom.grading import _confine, _slicing

HEADER = ("student", "lesson", "exercise", "outcome", "message")
_DROPPINGS = frozenset(("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
_RENEWED = 20  # notebooks after which an examiner makes way for a new one, whose memory is empty
_FAULTS = 3  # examiners that one notebook may use up
_OWN_MEMORY = 4_000_000_000  # bytes for models and trainings; the student's process has a limit of its own
_START = 120  # seconds that an exercise may take beside what the student's code may: to start, and to train


def grade(folder, out, lessons, *, jobs=None, seconds=60, memory=3.0, prints=10.0, say=print):
    """Examine every returned notebook and write a table of outcomes.

    The table is written anew after each notebook: what is known is kept, whatever happens to the rest.

    Args:
        folder: Of folders, one a student, with notebooks `NN_name.ipynb` in them.
        out: The table to write, comma-separated: student, lesson, exercise, outcome, message. An outcome is
            "correct", "not yet" or "not attempted yet" as in the notebook, or "timed out", "out of memory", "crashed",
            "printed too much", "malformed", "not examined", "not run"; "tampered", without an exercise, is a remark.
        lessons: Folder of our own lessons.
        jobs: Notebooks at a time; None takes one a core.
        seconds: That a student's code may take for an exercise.
        memory: Of a student's process, GB.
        prints: What it may print, MB.
        say: Called with each line of what is going on.

    Returns:
        The rows of the table, a list of tuples of texts.

    Raises:
        ValueError: If there is no notebook to grade, or a limit is not above 0.
        OSError: If the table cannot be written.

    Example:
        >>> rows = grade("returned", "grades.csv", "lessons")  # doctest: +SKIP
    """
    limits = {"seconds": seconds, "memory": int(memory * 1e9), "prints": int(prints * 1e6)}
    jobs = _cores() if jobs is None else jobs
    if min(jobs, *limits.values()) <= 0:
        raise ValueError(
            f"Jobs, seconds, memory and prints must be above 0. Received: {jobs} jobs, {seconds} s, {memory} GB, "
            f"{prints} MB. Leave out a limit to get its default."
        )
    known = {path.stem: path for path in sorted(Path(lessons).glob("[0-9][0-9]_*.ipynb"))}
    notebooks, rows = _notebooks(Path(folder), known)
    if not notebooks:
        raise ValueError(
            f"Each student needs a folder with notebooks in it, STUDENT/NN_name.ipynb. Received: {folder}, which has "
            "none. Name the folder that holds the students' folders."
        )
    cells = {stem: _slicing.code_cells(json.loads(path.read_bytes())) for stem, path in known.items()}
    names = {stem: list(_slicing.exercises_of(found)) for stem, found in cells.items()}
    place = {(stem, name): number for stem in names for number, name in enumerate(names[stem])}
    say(f"{len(notebooks)} notebooks. {_confine.LEVELS[_confine.level()]}")
    waiting, graded = queue.SimpleQueue(), queue.SimpleQueue()
    for student, stem, path in notebooks:
        waiting.put((student, stem, {"notebook": str(path), "lesson": str(known[stem])}, names[stem]))
    limits["hidden"] = [str(Path(folder).resolve())]
    workers = [_Worker(waiting, graded, limits) for _ in range(min(jobs, len(notebooks)))]
    table = _write(out, rows, place)  # now, lest there be no place for it in the end
    try:
        for worker in workers:
            worker.start()
        for _ in notebooks:
            student, stem, found, took = graded.get()
            rows += [(student, stem, *row) for row in found]
            table = _write(out, rows, place)
            outcomes = [outcome for name, outcome, _ in found if name or outcome == "tampered"]
            counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
            say(f"{_clean(student)} {stem}: {counted} ({took:.0f} s)")
    finally:
        for worker in workers:
            worker.stop()
    return table


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(out, rows, place):
    """Write the table, students and lessons in order, and return it."""
    rows.sort(key=lambda row: (row[0], row[1], place.get(tuple(row[1:3]), -1)))
    table = [tuple(map(_clean, row)) for row in rows]
    write_csv(out, HEADER, table)
    return table


def _notebooks(folder, known):
    """Return (student, lesson, path) of what is to be graded, and rows about what is not."""
    found, rows = [], []
    for student, paths in _returned(folder, known).items():
        by_lesson = {}
        for path in paths:
            if lesson := _lesson_of(path, known):
                by_lesson.setdefault(lesson, []).append(path)
            else:
                rows.append((student, path.stem, "", "not run", "It has the name of no lesson, NN_name.ipynb."))
        for stem, same in by_lesson.items():
            chosen = next((path for path in same if path.stem == stem), same[0])
            found.append((student, stem, chosen))
            others = ", ".join(path.name for path in same if path != chosen)
            if others:
                rows.append((student, stem, "", "not run", f"{chosen.name} was graded, and not {others}."))
        if not by_lesson:
            link = (folder / student).is_symlink()
            why = "It is a link to a folder." if link else "There is no notebook of a lesson, NN_name.ipynb."
            rows.append((student, "", "", "not run", why))
    return found, rows


def _returned(folder, known):
    """Return the notebooks of each student: those in a folder of theirs, and those whose names begin with theirs."""
    returned = {}
    for path in sorted(folder.iterdir()):
        if _is_dropping(path.name):
            continue
        if _is_notebook(path.name):
            lesson = _lesson_of(path, known) or ""
            student = path.stem.partition(lesson)[0].strip(" _-") if lesson and lesson in path.stem else ""
            returned.setdefault(student or "(no student's folder)", []).append(path)
        elif path.is_dir():
            returned.setdefault(path.name, []).extend([] if path.is_symlink() else _below(path))
    return returned


def _below(folder):
    """Return the notebooks in a folder and its folders, those at the top first."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [Path(place, name) for name in sorted([*folders, *files]) if _is_notebook(name)]
        folders[:] = sorted(name for name in folders if not _is_dropping(name) and not _is_notebook(name))
    return found


def _is_notebook(name):
    return name.lower().endswith(".ipynb") and not _is_dropping(name)


def _is_dropping(name):
    """Whether a file or folder was left by a system or a tool, and is no student's."""
    return name.startswith(".") or name in _DROPPINGS


def _lesson_of(path, known):
    """Return the lesson that a notebook is of by its name, to which servers and browsers add; None if there is none."""
    whole = (stem for stem in known if stem in path.stem)
    return next(whole, None) or next((stem for stem in known if path.name.startswith(stem[:3])), None)


class _Worker(threading.Thread):
    """Has notebooks graded until none is left, by an examiner that is renewed when it broke or has done many.

    Args:
        waiting: Queue of (student, lesson, what the examiner is told of the notebook, names of exercises).
        graded: Queue for (student, lesson, rows, seconds); a row is (exercise, outcome, message).
        limits: What the examiner is told beside.
    """

    def __init__(self, waiting, graded, limits):
        super().__init__(daemon=True)
        self.waiting, self.graded, self.limits = waiting, graded, limits
        self.examiner, self.done, self.stopping = None, 0, False

    def run(self):
        """Take notebooks from the queue."""
        while not self.stopping:
            try:
                student, stem, notebook, names = self.waiting.get_nowait()
            except queue.Empty:
                break
            began = time.monotonic()
            try:
                rows = self.grade(notebook, names)
            except Exception as error:  # such as a system that can start no more processes
                rows = [(name, "not run", f"{type(error).__name__}: {error}") for name in names]
            if not self.stopping:
                self.graded.put((student, stem, rows, time.monotonic() - began))
        self.renew()

    def stop(self):
        """Leave the work as it is, and end."""
        self.stopping = True
        if examiner := self.examiner:
            examiner.stop()
        if self.is_alive():
            self.join()

    def grade(self, notebook, names):
        """Return the rows of a notebook."""
        rows, left = [], names
        for attempt in range(_FAULTS):
            graded, fault = self._ask({**notebook, "wanted": left, **self.limits})
            rows += [row for row in graded if row[0] or attempt == 0]  # a remark is made once
            if fault is None:
                return rows
            self.renew()
            given = {row[0] for row in rows}
            begun = next((name for name in left if name not in given), "")
            rows.append((begun, *fault))
            left = [name for name in left if name not in given and name != begun]
            if not left or self.stopping:
                return rows
        return rows + [(name, "not run", "Its examiner had to be stopped too often.") for name in left]

    def _ask(self, job):
        """Return the rows that an examiner gives, and (outcome, message) if it did not survive the next one."""
        if self.done >= _RENEWED:
            self.renew()
        if self.examiner is None:
            code = "from rnnkit.classroom.grading._examiner import serve; serve()"
            self.examiner = _confine.Confined(code, self.limits["memory"] + _OWN_MEMORY)
        if self.stopping:  # who stops us may have looked before there was an examiner
            self.examiner.stop()
        self.done += 1
        rows = []
        try:
            self.examiner.write(json.dumps(job).encode() + b"\n")
            while line := self.examiner.read(self.limits["seconds"] + _START):
                row = json.loads(line)
                if row is None:
                    return rows, None
                rows.append(tuple(row))
        except TimeoutError:
            return rows, ("timed out", "To examine the answer took too long.")
        except OSError:  # it is gone
            pass
        return rows, self.examiner.why()

    def renew(self):
        """End the examiner; the next notebook gets a new one."""
        examiner, self.examiner, self.done = self.examiner, None, 0
        if examiner is not None:
            examiner.close()


def _clean(text):
    """Return a text as one short line that no spreadsheet takes for a formula."""
    line = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in str(text))).strip()
    line = line if len(line) <= 400 else line[:396] + " ..."
    return f"'{line}" if line.startswith(tuple("=+-@＝＋－＠")) else line
