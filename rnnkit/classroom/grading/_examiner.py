"""The process that examines: it reads notebooks, asks another process for answers, and alone says what they are worth.

No code of a student's runs here. See `_channel` for what comes in.
"""

import collections
import itertools
import json
import os
import stat
import sys
import time
from pathlib import Path

from rnnkit.classroom.grading import _slicing
from rnnkit.classroom.grading._channel import RUN, Channel
from rnnkit.classroom.grading._confine import Confined, threads_of_this_user
from rnnkit.classroom.grading._data import Fault
from rnnkit.course import exercises

_LARGEST = 50_000_000  # bytes of a notebook
_FAULTS = 3  # exercises of one notebook that may hang or crash before the rest is not run
_ANSWERS = 3  # how many of the answers that a notebook checks are looked at, from the last
_THREADS = 1000  # of one student, those of all processes together; TensorFlow alone starts some dozens


def serve():
    """Grade notebooks, one a line of stdin; write each row to stdout when it is known, and null after the last."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints
    for line in source:
        for row in itertools.chain(grade(**json.loads(line)), [None]):
            target.write(json.dumps(row).encode() + b"\n")


def read(path):
    """Return the code cells of a notebook file.

    Args:
        path: A regular file; a link, a pipe and the like are not opened.

    Returns:
        A list of `Cell`.

    Raises:
        ValueError: If it is no notebook; says why.
    """
    path = Path(path)
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("It is not a plain file.")
        if found.st_size > _LARGEST:
            raise ValueError(f"It is {found.st_size / 1e6:.0f} MB large; {_LARGEST / 1e6:.0f} are read.")
        return _slicing.code_cells(json.loads(path.read_bytes()))
    except RecursionError:
        raise ValueError("It is nested too deeply.") from None
    except OSError as error:
        raise ValueError(f"It cannot be read: {error.strerror}.") from None


def grade(notebook, lesson, wanted, seconds, memory, prints, hidden):
    """Examine the answers of one notebook.

    Args:
        notebook: Path of the student's.
        lesson: Path of our copy.
        wanted: Names of the exercises.
        seconds: That an exercise may take.
        memory: Bytes that the process of the answers may hold.
        prints: Bytes that it may print.
        hidden: Folders that it does not see.

    Yields:
        (name, outcome, message); the name is "" for what concerns the whole notebook.
    """
    try:
        returned = read(notebook)
    except ValueError as error:
        for name in wanted:
            yield name, "malformed", str(error)
        return
    ours = read(lesson)
    if signs := _slicing.tampering(returned):
        message = "It has no effect, because answers are examined in another process. Look at "
        yield "", "tampered", message + "; ".join(signs[:5])
    student, faults = _Student(seconds, memory, prints, hidden), 0
    try:
        for task in _slicing.tasks(ours, returned):
            if task.exercise not in wanted:
                continue
            if faults >= _FAULTS:
                outcome = "not run", f"{_FAULTS} exercises of this notebook had to be stopped before."
            elif not task.found:
                outcome = exercises.NOT_ATTEMPTED, "Its cell is not in the notebook."
            elif task.error:
                outcome = exercises.NOT_YET, f"The cell cannot be read: {task.error}"
            else:
                try:
                    outcome = student.examine(task)
                except Fault as fault:
                    outcome = fault.outcome, fault.message
                    faults += fault.outcome != "not examined"
            yield task.exercise, *outcome
    finally:
        student.close()


def _worth(exercise, answers):
    """Return the outcome of the last answer that is more than the stub that the lesson came with."""
    outcome = exercises.Outcome(exercises.NOT_ATTEMPTED)
    for answer in reversed(answers):
        outcome = exercises.evaluate(exercise, answer)
        if outcome.status != exercises.NOT_ATTEMPTED:
            break
    return outcome


class _Student:
    """The process in which a student's code runs, started when it is needed and anew after a fault."""

    def __init__(self, seconds, memory, prints, hidden):
        self.seconds, self.memory, self.prints, self.hidden = seconds, memory, prints, hidden
        self.process = None

    def close(self):
        """End the process."""
        process, self.process = self.process, None
        if process:
            process.close()

    def examine(self, task):
        """Return (outcome, message) of an exercise; Fault if it does not come to one."""
        fresh = self.process is None
        try:
            return self._examine(task)
        except Fault as fault:
            self.close()
            if fresh or fault.outcome in ("timed out", "not examined"):
                raise
            return self.examine(task)  # what an earlier exercise left running may be to blame
        except BaseException:
            self.close()
            raise

    def _examine(self, task):
        if self.process is None:
            threads = threads_of_this_user() + _THREADS  # the system counts all that the user runs
            code = f"from rnnkit.classroom.grading._answers import serve; serve({self.memory}, {threads})"
            self.process = Confined(code, self.memory, self.prints, keep_in=True, hidden=self.hidden)
        if keras := sys.modules.get("keras"):
            keras.utils.set_random_seed(0)
        self.left = self.seconds
        # A channel of its own for each exercise: nothing of an earlier one can be named in it.
        channel = Channel(self._read, self._write, examines=True)
        answers = collections.deque(maxlen=_ANSWERS)
        try:
            channel.call(RUN, (task.cells, task.expression, task.exercise, answers.append))
        except Exception as error:
            outcome = exercises.outcome_of(error)
        else:
            outcome = _worth(task.exercise, list(answers))
        return outcome.status, outcome.message

    def _read(self):
        """Return the next line of the answers; the time of this wait is the student's, what we train is not."""
        began = time.monotonic()
        try:
            line = self.process.read(self.left)
            self.left -= time.monotonic() - began
            if self.left < 0:
                raise TimeoutError
        except TimeoutError:
            raise Fault("timed out", f"It took more than {self.seconds:g} s.") from None
        if not line:
            raise Fault(*self.process.why())
        return line

    def _write(self, line):
        try:
            self.process.write(line)
        except OSError:
            raise Fault(*self.process.why()) from None
