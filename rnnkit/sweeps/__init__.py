"""The same training over seeds and settings, in worker processes: medians, spreads and success rates."""

import atexit
import collections
import contextlib
import functools
import itertools
import math
import numbers
import operator
import os
import queue
import threading
import traceback
from pathlib import Path

import numpy as np

from rnnkit import _display
from rnnkit._files import PACKAGE
from rnnkit.sweeps import _cache, _workers

__all__ = ["Sweep", "SweepError", "start_workers", "sweep"]

_RELATIONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_HOPELESS = 4  # failures without a single success, after which the rest is not tried
_idle = []  # workers that wait for the next sweep


class SweepError(RuntimeError):
    """Some runs of a sweep failed.

    Attributes:
        result: a `Sweep` of the runs that did not; it holds NaN for those that did.
        failures: list of (settings, seed, message), one a run that failed.
    """

    def __init__(self, message, result, failures):
        super().__init__(message)
        self.result = result
        self.failures = failures


def sweep(train, /, *, seeds, workers=2, **settings):
    """Train again and again: once for each combination of settings and each seed, in worker processes.

    The workers run Keras on JAX where it is installed, which trains small recurrent networks several times faster than
    TensorFlow, each on one core; they are kept for the next sweep. Where JAX is missing they run TensorFlow. Before
    each run Keras's, NumPy's and Python's random numbers are set to the run's seed, so that results do not depend on
    what ran before, on which worker, or on how many there are. (They do depend on the backend, which draws others.)

    What `train` refers to goes along with it, functions and classes of a notebook included. It makes its model itself,
    for a Keras model or tensor cannot travel between backends. What it prints is not shown, except with `workers=0`.

    If the environment variable `RNNKIT_SWEEP_CACHE` names a folder, what workers measure is kept there, and the same
    function (all of its notebook or script that it refers to included) with the same settings, seed and versions is
    not trained again. Functions of other modules of yours are known by name: empty the folder when you change one.

    Args:
        train: function called as `train(seed=..., **one combination of the settings)`. It returns a dict from name to
            number or array, of the same names and shapes in every run.
        seeds: the seeds, different whole numbers of at least 0, such as `range(5)`.
        workers: number of processes; no more are used than there are cores. 0 trains in this process, on its backend.
        **settings: a list of values for each argument of `train` that varies; all combinations are run, the last
            setting varying fastest.

    Returns:
        Sweep: what was measured.

    Raises:
        ValueError: if a setting is not a list of values, or the seeds are not whole numbers, each once.
        TypeError: if `train` is no function, or cannot be sent to another process.
        ImportError: if cloudpickle, which sends it, is not installed.
        SweepError: if runs failed, when all others have ended. It names their settings and seeds, gives the original
            messages and holds the results of the others. If nothing but failures come, the rest is not tried.

    Example:
        >>> def train(seed, units):
        ...     return {"score": seed + 10 * units}
        >>> result = rnnkit.sweeps.sweep(train, seeds=range(3), workers=0, units=[1, 2])
        >>> result.values("score", units=2).tolist()
        [20, 21, 22]
    """
    if not callable(train):
        raise TypeError(
            f"A sweep calls a function that trains once, train(seed=..., ...). Received: {train!r}. "
            "Pass the function itself, without parentheses."
        )
    seeds, settings = _checked(seeds, settings, workers)
    combinations = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    runs = [(combination, seed) for combination in combinations for seed in seeds]
    here = workers == 0 or _workers.INSIDE in os.environ
    run = functools.partial(_run_here, train) if here else functools.partial(_run_in_workers, train, _count(workers))
    kept = _cache.folder()
    outcomes = _cache.remembering(kept, train, runs, run) if kept and not here else run(runs)
    measured, failures = [None] * len(runs), {}
    # Whatever happens, workers are ended or kept.
    with _display.Progress(len(runs)) as show, contextlib.closing(outcomes):
        for number, kind, *said in outcomes:
            if kind == "measured":
                measured[number] = said[0]
            else:
                failures[number] = said
            hopeless = len(failures) >= _HOPELESS and not any(measured)
            if hopeless:
                break
            show(len(failures) + sum(run is not None for run in measured))
    result = Sweep(settings, seeds, measured) if any(measured) else None
    if failures:
        raise _error(train, runs, failures, result, unfinished=len(runs) - len(failures) if hopeless else 0)
    return result


def start_workers(workers=2):
    """Start the worker processes, so that they have imported Keras when the first sweep needs them.

    Returns at once. Without it, `sweep` starts them itself and waits a few seconds more. They end with this process.

    Args:
        workers: number of processes, as for `sweep`.

    Example:
        >>> rnnkit.sweeps.start_workers(0)  # none; in a lesson: rnnkit.sweeps.start_workers()
    """
    if workers and _workers.INSIDE not in os.environ and not _cache.folder():  # which may know every run
        _idle.extend(_hired(_count(workers)))


class Sweep:
    """What a training function measured for each combination of settings and each seed.

    Args:
        settings: dict from name to its list of values, in order.
        seeds: list of seeds.
        measured: list of dicts from name to array, one a run: combinations in order, the last setting varying fastest,
            and for each all seeds; None for a run that failed.

    Attributes:
        settings: dict from name to list of values.
        seeds: list of seeds.
        names: what was measured.

    Raises:
        ValueError: if runs measured different things, or their number is another one.

    Example:
        >>> runs = [{"loss": 0.5}, {"loss": 0.3}, {"loss": 0.2}, {"loss": 0.1}]
        >>> result = rnnkit.sweeps.Sweep({"units": [8, 16]}, [0, 1], runs)
        >>> result.values("loss", units=16)
        array([0.2, 0.1])
        >>> result.success("loss", "<=", 0.3)
        array([0.5, 1. ])
    """

    def __init__(self, settings, seeds, measured):
        self.settings = settings
        self.seeds = seeds
        self._measured = measured
        count = len(seeds) * math.prod(map(len, settings.values()))
        if len(measured) != count or all(run is None for run in measured):
            raise ValueError(
                f"A sweep has a run for each combination of settings and each seed, {count} here, one of them at least "
                f"that did not fail. Received: {sum(run is not None for run in measured)} of {len(measured)}. "
                "Let rnnkit.sweeps.sweep make it."
            )
        first = next(run for run in measured if run is not None)
        self.names = list(first)
        odd = next((run for run in measured if run is not None and run.keys() != first.keys()), None)
        if odd:
            raise ValueError(
                f"Every run measures the same things. Received: {self.names} of one and {list(odd)} of another. "
                "Return all names from every run, with NaN for what it has not."
            )

    def __repr__(self):
        axes = " x ".join([*(f"{len(values)} {name}" for name, values in self.settings.items())] or ["1 setting"])
        return f"<Sweep of {axes} x {len(self.seeds)} seeds: {', '.join(self.names)}>"

    def values(self, name, /, **where):
        """Return what was measured, as an array.

        Args:
            name: what, one of `names`.
            **where: a value for each setting, which picks the matching runs.

        Returns:
            Array (seeds, ...), in the order of the seeds. A setting with several values that `where` leaves open gets
            an axis of its own before the seeds, in the order of the settings. NaN where a run failed.

        Raises:
            ValueError: if the name, a setting or its value is unknown, or runs measured arrays of different shapes.
        """
        if name not in self.names:
            raise ValueError(f"What was measured is {self.names}. Received: {name!r}. Name one of them.")
        picks = self._picks(where)
        shapes = {np.shape(run[name]) for run in self._measured if run is not None}
        if len(shapes) > 1:
            raise ValueError(
                f"Arrays of every run have the same shape, to be compared. Received: {name!r} of shapes "
                f"{sorted(shapes)}. Let `train` pad them, or return a number."
            )
        (shape,) = shapes
        rows = [np.full(shape, np.nan) if run is None else np.asarray(run[name]) for run in self._measured]
        table = np.stack(rows).reshape(*map(len, self.settings.values()), len(self.seeds), *shape)
        return table[tuple(picks)]

    def median(self, name, /, **where):
        """Return the median over the seeds: a number, or an array of the other axes of `values`."""
        return _plain(np.median(self.values(name, **where), axis=self._seed_axis(where)))

    def spread(self, name, /, **where):
        """Return (lowest, highest) over the seeds, each as `median` does."""
        values, axis = self.values(name, **where), self._seed_axis(where)
        return _plain(values.min(axis=axis)), _plain(values.max(axis=axis))

    def success(self, name, relation, bound, /, **where):
        """Return the fraction of the seeds, from 0 to 1, whose value satisfies a relation; a failed run does not.

        Args:
            name: what, one of `names`.
            relation: `">="`, `">"`, `"<="` or `"<"`, between the value and `bound`.
            bound: the number that success needs.
            **where: as for `values`.

        Returns:
            A number, or an array of the other axes of `values`.

        Raises:
            ValueError: if the relation is unknown, or the bound no number; and as for `values`.
        """
        if not isinstance(relation, str) or relation not in _RELATIONS:
            raise ValueError(f"A success is one of {', '.join(_RELATIONS)} a bound. Received: {relation!r}.")
        if not isinstance(bound, numbers.Real):
            raise ValueError(f"The bound of a success is a number. Received: {bound!r}. Pass for instance 0.1.")
        held = _RELATIONS[relation](self.values(name, **where), bound)
        return _plain(held.mean(axis=self._seed_axis(where)))

    def to_frame(self):
        """Return a pandas DataFrame: a row a run, with its settings, its seed and what it measured (numbers only)."""
        import pandas as pd

        rows = itertools.product(itertools.product(*self.settings.values()), self.seeds)
        numbers = [name for name in self.names if all(np.ndim(run[name]) == 0 for run in self._measured if run)]
        return pd.DataFrame(
            [
                {
                    **dict(zip(self.settings, values, strict=True)),
                    "seed": seed,
                    **{name: np.nan if run is None else _plain(run[name]) for name in numbers},
                }
                for (values, seed), run in zip(rows, self._measured, strict=True)
            ]
        )

    def _picks(self, where):
        """Return one index for each setting: the place of the value that `where` gives, or a slice."""
        for name in where:
            if name not in self.settings:
                raise ValueError(f"The settings are {list(self.settings)}. Received: {name}={where[name]!r}.")
        picks = []
        for name, options in self.settings.items():
            if name not in where:
                picks.append(0 if len(options) == 1 else slice(None))
                continue
            matching = [place for place, option in enumerate(options) if _same(option, where[name])]
            if not matching:
                raise ValueError(f"Setting {name!r} had the values {options}. Received: {where[name]!r}.")
            picks.append(matching[0])
        return picks

    def _seed_axis(self, where):
        return sum(isinstance(pick, slice) for pick in self._picks(where))


def _plain(value):
    return value.item() if np.ndim(value) == 0 else value


def _same(one, other):
    if one is other:
        return True
    equal = one == other
    return bool(np.all(equal)) and np.shape(one) == np.shape(other)


# --- what goes in ---------------------------------------------------------------------------------------------


def _checked(seeds, settings, workers):
    for name, values in settings.items():
        if not isinstance(values, list | tuple | range | np.ndarray) or len(values) == 0:
            raise ValueError(
                f"Each setting of a sweep is a list of values. Received: {name}={values!r}. "
                f"Put it into a list, {name}=[...], or into the function itself."
            )
        if any(_same(one, other) for one, other in itertools.combinations(values, 2)):
            raise ValueError(f"Each value of a setting is different. Received: {name}={values!r}.")
    whole = isinstance(seeds, list | tuple | range | np.ndarray) and all(
        isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in seeds
    )
    if not whole or not len(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"Seeds are different whole numbers of at least 0. Received: {seeds!r}. Pass range(5).")
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 0:
        raise ValueError(
            f"`workers` is a number of processes, or 0 for none. Received: workers={workers!r}. Leave it out."
        )
    return [int(seed) for seed in seeds], {name: list(values) for name, values in settings.items()}


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


# --- running ---------------------------------------------------------------------------------------------------


def _count(workers):
    """Return how many workers to use: as many as asked for, but no more than this process has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(workers, cores)


def _run_here(train, runs):
    """Yield (number, kind, ...) of each run, as a worker answers."""
    for number, (settings, seed) in enumerate(runs):
        try:
            yield number, "measured", _workers.measure(train, seed, settings)
        except Exception as error:
            frames = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
            yield number, "failed", f"{type(error).__name__}: {error}", frames


def _run_in_workers(train, count, runs):
    """Yield (number, kind, ...) of each run, in the order in which they end. Closed early, it ends its workers."""
    function, arguments = _pickled(train, runs)
    shares = _Shares(len(runs), count)
    answers = queue.SimpleQueue()
    team = _hired(count)

    def work(place):
        while (number := shares.next(place)) is not None:
            try:
                answer = team[place].ask((function, arguments[number]))
            except _workers.WorkerDied as death:
                answer = "failed", str(death), []
                if shares.open:
                    team[place].close()
                    team[place] = _workers.Worker(_workers.backend())
            answers.put((number, *answer))

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(count)]
    try:
        for thread in threads:
            thread.start()
        for _ in runs:
            yield _patiently(answers)
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


def _patiently(answers):
    while True:
        try:
            return answers.get(timeout=1)  # on Windows, Ctrl-C waits until a wait is over
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
def _dismiss_all():
    while _idle:
        _dismiss(_idle.pop())


# --- what comes out --------------------------------------------------------------------------------------------


def _error(train, runs, failures, result, unfinished):
    """Return the SweepError that names the runs that failed, why, and what can be done."""
    numbers = sorted(failures)
    told = [(*runs[number], failures[number][0]) for number in numbers]
    lines = [f"{len(numbers)} of {len(runs)} runs failed:"]
    lines += [f"  {_call(train, settings, seed)}: {message}" for settings, seed, message in told[:5]]
    if len(told) > 5:
        lines.append(f"  and {len(told) - 5} more, in error.failures.")
    frames = failures[numbers[0]][1]
    own = [frame for frame in frames if not _is_installed(frame[0])]
    if own:
        where = traceback.StackSummary.from_list([(*frame, None) for frame in own]).format()
        lines += ["Where the first came from:", "".join(where).rstrip()]
    if unfinished:
        lines.append(f"The {unfinished} others were not tried: nothing but failures had come.")
    elif result is not None:
        kept = len(runs) - len(numbers)
        lines.append(f"The {kept} others are kept: catch this SweepError as `error`; they are in error.result.")
    lines.append("To look into one, call it in this process as it stands above.")
    return SweepError("\n".join(lines), result, told)


def _call(train, settings, seed):
    arguments = ", ".join(f"{name}={value!r}" for name, value in {"seed": seed, **settings}.items())
    return f"{getattr(train, '__name__', 'train')}({arguments})"


def _is_installed(filename):
    """Whether a file is not the learner's: this library's, or an installed one's."""
    parts = os.path.normpath(filename).split(os.sep)
    return "site-packages" in parts or Path(filename).resolve().is_relative_to(PACKAGE)
