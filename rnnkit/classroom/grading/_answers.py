"""The process in which students' code runs: whatever happens here, nothing that it says is more than an answer."""

import contextlib
import io
import os
import sys

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import SList
from traitlets.config import Config

import rnnkit
from rnnkit.classroom.grading import _channel
from rnnkit.course import exercises

_USE_OR_REFERENCE = exercises.use_or_reference


def serve(memory, threads):
    """Answer calls on what were stdin and stdout, until the other end is gone.

    Args:
        memory: Bytes that this process may hold, or None.
        threads: How many there may be, those of its children included, or None.
    """
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what a student prints; it is counted there, and not read
    sys.stdin, sys.stdout = _Keyboard(), os.fdopen(1, "w", encoding="utf-8", errors="replace")
    _limit(memory, threads)
    channel = _channel.Channel(source.readline, target.write)
    channel.offer(run, _channel.RUN)
    channel.offer(_channel.pull_back(channel), _channel.PULL_BACK)
    channel.serve()


def run(cells, expression, exercise, submit):
    """Run the cells that an exercise needs, as a notebook does: where one fails, the next can still be run.

    Args:
        cells: [id, source] each.
        expression: What our lesson examines, for a notebook that never gets to its check.
        exercise: Its name.
        submit: Called with each answer that the cells check.

    Raises:
        Exception: What went wrong first, if there is no answer.
    """
    shell = _Shell.renewed()
    submitted = _stand_in_for_checks(exercise, submit)
    failures = [error for _, source in cells if (error := shell.failure_of(source))]
    if submitted:
        return
    try:
        submit(eval(expression, shell.user_ns))
    except Exception as error:
        raise (failures or [error])[0] from None


def _stand_in_for_checks(exercise, submit):
    """Make every way to call `check` submit the answer to this exercise; return a list with an entry per submission."""
    submitted = []

    def check(name, answer):
        if name == exercise:
            submit(answer)  # which raises if it is too large to travel
            submitted.append(name)

    def use_or_reference(name, answer):
        # The reference stands in for what other exercises give, never for the answer itself.
        return answer if name == exercise else _USE_OR_REFERENCE(name, answer)

    for module in (rnnkit, exercises):
        module.check, module.use_or_reference = check, use_or_reference
    return submitted


class _Shell(InteractiveShell):
    """IPython as in a notebook, with `display`, `await` and the like, except that magics and commands do nothing."""

    @classmethod
    def renewed(cls):
        """Return a new shell, without the names of the previous one."""
        cls.clear_instance()
        return cls.instance(config=Config(HistoryManager={"enabled": False}))

    def failure_of(self, source):
        """Run a cell; return the Exception that ended it, if one did."""
        result = self.run_cell(source)
        if error := result.error_before_exec:
            error.told = f"The cell cannot be read: {type(error).__name__}: {error}"
        error = error or result.error_in_exec
        return error if isinstance(error, Exception) else None  # `SystemExit` and Ctrl-C just end the cell

    def run_line_magic(self, *args, **kwargs):
        """Do nothing."""

    run_cell_magic = system = showtraceback = showsyntaxerror = ask_exit = run_line_magic

    def getoutput(self, *args, **kwargs):
        """Return the output of a command: none, because it is not run."""
        return SList([])


class _Keyboard(io.TextIOBase):
    """What `input` reads in place of someone who types: a line that is a number as well as a text."""

    def readline(self, size=-1):
        """Return a line."""
        return "1\n"


def _limit(memory, threads):
    """Ask the system to hold this process to its limits, where it can; who started it looks as well."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, most in (("RLIMIT_DATA", memory), ("RLIMIT_NPROC", threads), ("RLIMIT_FSIZE", 1 << 26)):
        if most and hasattr(resource, name):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (most, most))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
