"""The process in which students' code runs: whatever happens here, nothing that it says is more than an answer."""

import contextlib
import linecache
import os
import sys

from rnnkit.grading import _channel

RUN = 0  # the number of `run` at this end


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
    sys.stdin, sys.stdout = open(os.devnull), os.fdopen(1, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    _limit(memory, threads)
    channel = _channel.Channel(source.readline, target.write)
    channel.offer(run)
    channel.offer(_channel.pull_back(channel))
    channel.serve()


def run(cells, expression, exercise):
    """Run the cells that an exercise needs.

    Args:
        cells: [id, source] each.
        expression: What is examined.
        exercise: Its name.

    Returns:
        The value of the expression: a student's answer.
    """
    import rnnkit
    from rnnkit import exercises

    def keep_or_reference(name, answer):
        # The reference stands in for what other exercises give, never for the answer itself.
        return answer if name == exercise else exercises.use_or_reference(name, answer)

    rnnkit.check, rnnkit.use_or_reference = lambda *args: None, keep_or_reference
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    for number, (identity, source) in enumerate(cells):
        file = f"<cell {identity} {number}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), scope)
    return eval(expression, scope)


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
