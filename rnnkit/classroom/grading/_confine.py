"""A process that may use so much memory and say so much, sees no network, and leaves nothing running or lying about.

What keeps it in is the system's: bubblewrap where it is installed (Linux; also hides and protects the files), else
`unshare` (Linux; no network, own processes), else only the limits. `level` says which it is.
"""

import contextlib
import functools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil

from rnnkit._files import PACKAGE

LEVELS = {
    "bubblewrap": "No network, no writing outside a scratch folder that is thrown away, other students' work hidden.",
    "unshare": "No network. But students' code can read and write your files; bubblewrap (`bwrap`) would prevent it.",
    "none": "THE NETWORK IS NOT CUT OFF, and students' code can read and write your files, for neither bubblewrap nor "
    "`unshare` works here. A program that starts processes without end may stop the machine. Grade in a virtual "
    "machine without a network.",
}
LONGEST = 1 << 24  # bytes of a line that is read: 16 MiB
_SCRATCH = 1 << 27  # bytes that can be written, into memory, and are thrown away
_PROCESSES = 300  # that may run at a time; an honest answer needs a handful
_EVERY = 0.2  # seconds between two looks at them


@functools.cache
def level():
    """Return what keeps students' code in on this machine, a key of `LEVELS`; each is tried before it is believed."""
    for name in ("bubblewrap", "unshare"):
        command = _inside(name, ())
        if shutil.which(command[0]) and _works([*command, sys.executable, "-I", "-c", "pass"]):
            return name
    return "none"


def _works(command):
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _inside(name, hidden):
    """Return the beginning of a command line that runs the rest of it kept in."""
    if name == "unshare":
        apart = ["--user", "--map-root-user", "--net", "--ipc", "--pid", "--mount-proc"]
        return ["unshare", *apart, "--fork", "--kill-child"]
    if name != "bubblewrap":
        return []
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    empty = {place for place in (Path(name).resolve() for name in ("/tmp", "/run", *hidden)) if place.is_dir()}
    mounts = {place: ["--size", str(_SCRATCH), "--tmpfs"] for place in ("/dev/shm", *map(str, empty))}
    # What Python runs from may lie in what is hidden; and what is hidden, in what Python runs from.
    for place in (sys.prefix, sys.base_prefix, *filter(None, sys.path), PACKAGE.parent):
        found = Path(place).resolve()
        if found.exists() and empty & set(found.parents):
            mounts.setdefault(str(found), ["--ro-bind", str(found)])
    for place in sorted(mounts):  # a folder before what is in it
        command += [*mounts[place], place]
    for place in sorted({"/dev", *mounts} - {"/dev/shm", "/tmp"}):
        command += ["--remount-ro", place]
    return [*command, "--chdir", "/tmp"]


def threads_of_this_user():
    """Return how many threads all processes of this user have together."""
    me, count = psutil.Process().username(), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            count += process.num_threads() if process.username() == me else 0
    return count


def _environment(scratch):
    """Return the environment of a confined process: nothing of the teacher's that it does not need."""
    needed = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "KERAS_BACKEND")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return kept | {"HOME": scratch, "TMPDIR": scratch, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}


class Confined:
    """A Python process that runs one line of code, talks over its stdin and stdout, and is held to limits.

    Args:
        code: The line.
        memory: Bytes that it and its children may hold together.
        says: Bytes that it may print on stderr.
        keep_in: Whether to cut off the network and the rest, as far as `level` says.
        hidden: Folders that it has no business to see.
    """

    def __init__(self, code, memory, says=None, keep_in=False, hidden=()):
        self.memory, self.says = memory, says
        self.stopped = None  # (outcome, message), once it was ended for a reason
        self._folder = tempfile.mkdtemp(prefix="rnnkit-grade-")
        kept_in = level() if keep_in else "none"
        scratch = "/tmp" if kept_in == "bubblewrap" else self._folder
        environment = _environment(scratch) if keep_in else os.environ | {"TMPDIR": scratch}
        start = f"import sys; sys.path[:] = {sys.path!r}; {code}"
        try:
            self._process = subprocess.Popen(
                [*_inside(kept_in, hidden), sys.executable, "-I", "-c", start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._folder if keep_in else None,
                env=environment | {"RNNKIT_PROGRESS": "off"},
                **({} if os.name == "nt" else {"start_new_session": True}),
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._lines = queue.Queue(maxsize=1)
        self._last, self._closed = b"", threading.Event()
        works = (self._read_lines, self._count, self._watch)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def write(self, line):
        """Write bytes to its stdin; OSError if it is gone."""
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def read(self, seconds=None):
        """Return its next line, b"" if it is gone.

        Raises:
            TimeoutError: If it says nothing for so many seconds.
        """
        try:
            return self._lines.get(timeout=None if seconds is None else max(seconds, 0))
        except queue.Empty:
            raise TimeoutError from None

    def why(self):
        """Return (outcome, message) of a process that is gone: why it was stopped, or that it ended, and how."""
        self._threads[-1].join(1)  # which may be about to say why
        self._threads[-2].join(1)
        lines = self._last.decode("utf-8", "replace").strip().splitlines()
        words = f" Its last words: {lines[-1][:150]}" if lines else ""
        return self.stopped or ("crashed", f"The process ended.{words}")

    def stop(self, outcome=None, message=""):
        """End it and all that it started; what for is kept, the first time."""
        if outcome and self.stopped is None:
            self.stopped = (outcome, message)
        for process in self._tree():  # the parent first, which could start others
            with contextlib.suppress(psutil.Error):
                process.kill()
        if os.name != "nt":
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self):
        """End it, wait until it is gone and remove its scratch folder."""
        self.stop()
        self._closed.set()
        self._process.wait()
        for thread in self._threads:  # where nothing keeps processes in, one may have got away and hold the pipe open
            thread.join(2)
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tree(self):
        if self._process.returncode is not None:
            return []
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.Error:
            return []

    def _read_lines(self):
        with contextlib.suppress(OSError, ValueError), self._process.stdout:
            while line := self._process.stdout.readline(LONGEST + 1):
                if len(line) > LONGEST:
                    self.stop("printed too much", f"It sent more than {LONGEST / 1e6:.0f} MB in one piece.")
                    break
                self._put(line)
        self._put(b"")

    def _put(self, line):
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.5)
                return

    def _count(self):
        said = 0
        with contextlib.suppress(OSError, ValueError), self._process.stderr:
            while part := self._process.stderr.read1(1 << 16):
                said += len(part)
                self._last = (self._last + part)[-2000:]
                if self.says is not None and said > self.says:
                    self.stop("printed too much", f"It printed more than {self.says / 1e6:.0f} MB.")
                    break

    def _watch(self):
        while self._process.poll() is None:
            held, tree = 0, self._tree()
            for process in tree:
                with contextlib.suppress(psutil.Error):
                    held += process.memory_info().rss
            if held > self.memory:
                return self.stop("out of memory", f"It held more than {self.memory / 1e9:.1f} GB.")
            if len(tree) > _PROCESSES:
                return self.stop("crashed", f"It ran more than {_PROCESSES} processes.")
            self._closed.wait(_EVERY)
