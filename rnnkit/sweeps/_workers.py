"""Python processes that train models: quiet, each on one core, gone when their parent is.

This file is both ends of a pipe. The parent holds `Worker` objects; each child runs `serve`, which reads tasks from its
stdin and writes answers to what was its stdout. Training many small networks at once is their only purpose, so they
run Keras on JAX where it is installed: it trains those several times faster than TensorFlow does.
"""

import contextlib
import gc
import importlib.util
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np

from rnnkit.sweeps._outcome import Outcome

INSIDE = "RNNKIT_SWEEP_WORKER"  # environment variable that is set in a worker


class WorkerDied(Exception):  # noqa: N818  (an outcome, not an error of this code)
    """The process ended without an answer; the message is the last that it said."""


def backend():
    """Return the Keras backend of workers: JAX where it is installed, else TensorFlow."""
    return "jax" if importlib.util.find_spec("jax") else "tensorflow"


def measure(train, seed, settings):
    """Call `train` once, with the random numbers of its seed, and return what it measured as a dict of arrays."""
    from rnnkit._backend import keras

    keras.utils.set_random_seed(seed)  # whatever ran before in this process
    measured = train(seed=seed, **settings)
    if not isinstance(measured, dict) or not measured or not all(isinstance(name, str) for name in measured):
        received = f"a dict with the keys {list(measured)}" if isinstance(measured, dict) else repr(measured)
        raise TypeError(
            f"A training function returns a dict from name to number or array. Received: {received}. "
            "End it with, for instance, return {'loss': loss}."
        )
    arrays = {name: np.asarray(value) for name, value in measured.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"What a training function measures are numbers. Received: {name}={measured[name]!r}. "
                "Return a number or an array of numbers."
            )
    return arrays


class Worker:
    """One process, started at once; it imports Keras while the parent goes on.

    Args:
        on: Keras backend.
    """

    def __init__(self, on):
        self.on = on
        self._folder = tempfile.mkdtemp(prefix="rnnkit-worker-")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the worker lives)
        serve = f"from rnnkit.sweeps._workers import serve; serve({self._folder!r})"
        code = f"import sys; sys.path[:] = {sys.path!r}; {serve}"
        apart = (  # Ctrl-C is for the parent, which then ends its workers
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **_environment(on, self._folder)},
            **apart,
        )

    def ask(self, task):
        """Send a task (a number, and pickles of the function and of its arguments), wait, and return its `Outcome`.

        Raises:
            WorkerDied: if the process ends first.
        """
        try:
            pickle.dump(task, self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise WorkerDied(self._last_words()) from None

    @property
    def alive(self):
        """Whether the process runs."""
        return self._process.poll() is None

    def end(self):
        """End the process, whatever it does, and remove what it kept."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self):
        """Close the pipes, once nobody waits for an answer any more."""
        for file in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):  # half a task was still on its way
                file.close()

    def _last_words(self):
        status = self._process.wait()
        try:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
        except ValueError:  # closed
            said = []
        ended = f"the worker process ended without an answer (status {status}). Is there enough memory?"
        return f"{ended} It last said: {said[-1].strip()}" if said else ended


def _environment(on, folder):
    """Return the environment variables of a worker."""
    one = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {
        INSIDE: "1",
        "KERAS_BACKEND": on,
        "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # as in start_lesson
        # One thread each: as many workers as cores, and sums in the same order however many cores there are.
        **dict.fromkeys((*one, "TF_NUM_INTEROP_THREADS", "NPROC"), "1"),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip(),
        # The second seed of a network finds it compiled: Keras traces every model anew, but JAX knows it again. Whoever
        # runs many notebooks may name one folder for all of them.
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def serve(folder):
    """Answer the parent's tasks until it closes the pipe or is gone. Runs in the child."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what is printed must not get between the answers
    waiting = queue.SimpleQueue()

    def read():
        try:
            while True:
                waiting.put(pickle.load(tasks))
        except BaseException:  # the other end is closed, in the middle of a training run perhaps
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    from rnnkit._backend import keras

    if keras.backend.backend() != "tensorflow":
        _seed_without_tensorflow(keras)
    gc.freeze()  # else clear_session would look through all that was imported, a quarter of a second each time
    while True:
        answer = _answer(*waiting.get())
        pickle.dump(answer, answers)
        answers.flush()
        keras.backend.clear_session()  # frees the model


def _seed_without_tensorflow(keras):
    """Let Keras find no TensorFlow to seed: it would import it, two seconds a worker, for nothing.

    Keras remembers what it found; who imports TensorFlow later gets it.
    """
    if "tensorflow" not in sys.modules:
        sys.modules["tensorflow"] = None
        try:
            keras.utils.set_random_seed(0)
        finally:
            del sys.modules["tensorflow"]


def _answer(run, function, arguments):
    try:
        # Unpickled for each run: one that changes what it shares with others changes its own copy.
        return Outcome(run, measure(pickle.loads(function), **pickle.loads(arguments)))
    except (Exception, SystemExit) as error:
        return Outcome.failed(run, error)
