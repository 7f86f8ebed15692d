"""What to do next, said below an error that learners meet: in a notebook, from `start_lesson` on.

The error itself is shown as ever; what follows it is for those whom it does not tell what to do.
"""

import errno
import sys
import time
from pathlib import Path

from rnnkit import _display
from rnnkit._files import PACKAGE

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def follow(shell, since=None):
    """Have what to do next shown below each error of a notebook's cells; a second call for the same shell does nothing.

    Args:
        shell: what `IPython.get_ipython()` returns.
        since: seconds since the epoch at which rnnkit was imported; now by default.
    """
    if getattr(shell, "rnnkit_follows", False):
        return
    since = time.time() if since is None else since

    def say(result):
        error = result.error_in_exec or result.error_before_exec
        text = error and advice(error, since)
        if text:
            _display.show("What to do:", text)

    shell.events.register("post_run_cell", say)
    shell.rnnkit_follows = True


def advice(error, since):
    """Return what to do about an error.

    Args:
        error: the exception.
        since: seconds since the epoch at which rnnkit was imported.

    Returns:
        str, or None where nobody can know better than the learner.
    """
    if _is_stale(since):
        return (
            "rnnkit has changed on disk since this kernel imported it, as when the course is updated: this may be old "
            "code under a new lesson. Choose Kernel, then Restart Kernel and Run up to Selected Cell."
        )
    if isinstance(error, NameError) and not isinstance(error, UnboundLocalError):
        letter = (
            f'If it is the letter of an answer, it needs quotes: "{error.name}". ' if _is_letter(error.name) else ""
        )
        return letter + (
            f"If a cell further up makes `{error.name}`, that cell has not run since this kernel started: choose Run, "
            "then Run All Above Selected Cell, and run this one again. If the name is your own, look at its spelling."
        )
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return (
            f"This kernel runs the Python in `{sys.prefix}`, which has no `{package}`. If the lesson asks for it, the "
            "kernel is not the course's or lacks a part: `rnnkit doctor`, in a terminal, says what to mend. If you do, "
            f"`%pip install {package}` in a cell may bring it."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's
        return (
            "This machine has no memory left. Shut down the kernels of lessons that you have finished (the panel "
            "Running Terminals and Kernels, on the left), close other programs, then restart this kernel. "
            "`rnnkit doctor`, in a terminal, says how much is free."
        )
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return (
            f"Nothing can be written there; this notebook works in `{Path.cwd()}`. Name a place in a folder of your "
            f"own, such as `{Path.home()}`. If the notebook itself cannot be saved either: `rnnkit handout DIR`, in a "
            "terminal, copies the lessons to one."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full: delete what you do not need, then run this cell again."
    return None


def _is_letter(name):
    return len(name or "") == 1 and name in "abcde"


def _is_stale(since):
    """Tell whether a file of this package is newer than its import."""
    files = [path.stat() for path in PACKAGE.rglob("*.py")]
    return any(max(file.st_mtime, file.st_ctime) > since for file in files)
