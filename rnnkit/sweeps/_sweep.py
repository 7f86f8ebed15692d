"""Training over seeds and settings: what goes in, and what comes out."""

import contextlib
import functools
import itertools
import operator
import os
import traceback
from pathlib import Path

import numpy as np

from rnnkit import _display
from rnnkit._files import PACKAGE
from rnnkit.sweeps import _cache, _pool, _workers
from rnnkit.sweeps._outcome import Outcome
from rnnkit.sweeps._result import Sweep, SweepError, same

_HOPELESS = 4  # failures without a single success, after which the rest is not tried


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
    measured, failures = [None] * len(runs), []
    # Whatever happens, workers are ended or kept.
    with _display.Progress(len(runs)) as show, contextlib.closing(_outcomes(train, runs, workers)) as outcomes:
        for outcome in outcomes:
            if outcome.measured is None:
                failures.append(outcome)
            else:
                measured[outcome.run] = outcome.measured
            if len(failures) >= _HOPELESS and not any(measured):
                break
            show(len(failures) + sum(run is not None for run in measured))
    result = Sweep(settings, seeds, measured) if any(measured) else None
    if failures:
        raise _error(train, runs, sorted(failures, key=operator.attrgetter("run")), result)
    return result


def _checked(seeds, settings, workers):
    for name, values in settings.items():
        if not isinstance(values, list | tuple | range | np.ndarray) or len(values) == 0:
            raise ValueError(
                f"Each setting of a sweep is a list of values. Received: {name}={values!r}. "
                f"Put it into a list, {name}=[...], or into the function itself."
            )
        if any(same(one, other) for one, other in itertools.combinations(values, 2)):
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


def _outcomes(train, runs, workers):
    """Return an iterator over the outcomes of all runs, in the order in which they end."""
    if workers == 0 or _workers.INSIDE in os.environ:
        return _run_here(train, runs)
    run = functools.partial(_pool.run, train, _pool.worker_count(workers))
    folder = _cache.folder()
    return _cache.remembering(folder, train, runs, run) if folder else run(runs)


def _run_here(train, runs):
    """Yield the outcome of each run, in this process."""
    for number, (settings, seed) in enumerate(runs):
        try:
            yield Outcome(number, _workers.measure(train, seed, settings))
        except Exception as error:
            yield Outcome.failed(number, error)


def _error(train, runs, failures, result):
    """Return the SweepError that names the runs that failed, why, and what can be done."""
    told = [(*runs[outcome.run], outcome.message) for outcome in failures]
    lines = [f"{len(told)} of {len(runs)} runs failed:"]
    lines += [f"  {_call(train, settings, seed)}: {message}" for settings, seed, message in told[:5]]
    if len(told) > 5:
        lines.append(f"  and {len(told) - 5} more, in error.failures.")
    own = [frame for frame in failures[0].frames if not _is_installed(frame[0])]
    if own:
        where = traceback.StackSummary.from_list([(*frame, None) for frame in own]).format()
        lines += ["Where the first came from:", "".join(where).rstrip()]
    others = len(runs) - len(told)
    if result is not None:
        lines.append(f"The {others} others are kept: catch this SweepError as `error`; they are in error.result.")
    elif others:
        lines.append(f"The {others} others were not tried: nothing but failures had come.")
    lines.append("To look into one, call it in this process as it stands above.")
    return SweepError("\n".join(lines), result, told)


def _call(train, settings, seed):
    arguments = ", ".join(f"{name}={value!r}" for name, value in {"seed": seed, **settings}.items())
    return f"{getattr(train, '__name__', 'train')}({arguments})"


def _is_installed(filename):
    """Whether a file is not the learner's: this library's, or an installed one's."""
    parts = os.path.normpath(filename).split(os.sep)
    return "site-packages" in parts or Path(filename).resolve().is_relative_to(PACKAGE)
