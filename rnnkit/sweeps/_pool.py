"""Worker processes that are kept from one sweep to the next, and what they are given to do."""

import atexit
import collections
import os
import queue
import threading

import numpy as np

from rnnkit.sweeps import _cache, _workers
from rnnkit.sweeps._outcome import Outcome

_idle = []  # workers that wait for the next sweep


def start_workers(workers=2):
    """Start the worker processes, so that they have imported Keras when the first sweep needs them.

    Returns at once. Without it, `sweep` starts them itself and waits a few seconds more. They end with this process.

    Args:
        workers: number of processes, as for `sweep`.

    Example:
        >>> rnnkit.sweeps.start_workers(0)  # none; in a lesson: rnnkit.sweeps.start_workers()
    """
    if workers and _workers.INSIDE not in os.environ and not _cache.folder():  # which may know every run
        _idle.extend(_hired(worker_count(workers)))


def worker_count(workers):
    """Return how many workers to use: as many as asked for, but no more than this process has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(workers, cores)


def run(train, count, runs):
    """Yield the outcome of each run, in the order in which they end. Closed early, it ends its workers."""
    function, arguments = _pickled(train, runs)
    shares = _Shares(len(runs), count)
    outcomes = queue.SimpleQueue()
    team = _hired(count)

    def work(place):
        while (number := shares.next(place)) is not None:
            try:
                outcome = team[place].ask((number, function, arguments[number]))
            except _workers.WorkerDied as death:
                outcome = Outcome(number, message=str(death))
                if shares.open:
                    team[place].close()
                    team[place] = _workers.Worker(_workers.backend())
            outcomes.put(outcome)

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(count)]
    try:
        for thread in threads:
            thread.start()
        for _ in runs:
            yield _patiently(outcomes)
    except BaseException:  # Ctrl-C, or nobody wants the rest
        shares.open = False
        for worker in team:
            worker.end()
        for thread in threads:
            thread.join()
        for worker in team:
            _dismiss(worker)
        raise
    for thread in threads:
        thread.join()
    _idle.extend(team)


def _patiently(outcomes):
    while True:
        try:
            return outcomes.get(timeout=1)  # on Windows, Ctrl-C waits until a wait is over
        except queue.Empty:
            continue


class _Shares:
    """Hands out the runs: to each worker neighbouring ones, for those train the same network, compiled but once."""

    def __init__(self, runs, workers):
        self.open = True
        self._lock = threading.Lock()
        self._shares = [collections.deque(part) for part in np.array_split(range(runs), workers)]

    def next(self, place):
        """Return the next run of this worker's share, at its end the last of the longest one; None if there is none."""
        with self._lock:
            share = self._shares[place]
            if not self.open:
                return None
            if share:
                return int(share.popleft())
            longest = max(self._shares, key=len)
            return int(longest.pop()) if longest else None


def _hired(count):
    """Return workers, waiting ones first, new ones if there are not enough."""
    on = _workers.backend()
    team = []
    while _idle and len(team) < count:
        worker = _idle.pop()
        if worker.alive and worker.on == on:
            team.append(worker)
        else:
            _dismiss(worker)
    return team + [_workers.Worker(on) for _ in range(count - len(team))]


def _dismiss(worker):
    worker.end()
    worker.close()


@atexit.register
def dismiss_all():
    """End the workers that wait."""
    while _idle:
        _dismiss(_idle.pop())


def _pickled(train, runs):
    try:
        import cloudpickle
    except ImportError:
        raise ImportError(
            "A sweep in worker processes sends them its function with cloudpickle, which is not installed. "
            "Install it, python -m pip install cloudpickle, or train in this process with workers=0."
        ) from None
    try:
        arguments = [cloudpickle.dumps({"seed": seed, "settings": settings}) for settings, seed in runs]
        return cloudpickle.dumps(train), arguments
    except Exception as error:  # whatever an object raises that does not want to be pickled
        raise TypeError(
            "A sweep sends its function, the settings and all that these refer to to other processes. "
            f"Received: something that cannot be sent ({type(error).__name__}: {error}). "
            "Make models, optimizers and tensors inside the function, or train in this process with workers=0."
        ) from error
