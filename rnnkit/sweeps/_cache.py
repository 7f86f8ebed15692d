"""Runs of a sweep that are read from a folder, because the same function was trained with the same seed before.

The folder is the one that the environment variable RNNKIT_SWEEP_CACHE names; without it nothing is kept. A run is known
by all that decides its result: the code of its function and whatever that refers to, settings, seed, and versions.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import types
import zipfile
from pathlib import Path

import numpy as np

from rnnkit._files import PACKAGE, atomic_writer
from rnnkit.sweeps import _workers
from rnnkit.sweeps._outcome import Outcome

VARIABLE = "RNNKIT_SWEEP_CACHE"
_PACKAGES = ("keras", "jax", "jaxlib", "tensorflow-cpu", "tensorflow", "numpy", "scipy", "scikit-learn")
# Members of a class that tell nothing of what it does.
_NOT_THE_CLASS = ("__dict__", "__weakref__", "__firstlineno__", "_abc_impl")


def folder():
    """Return the folder in which runs are kept, or None."""
    return Path(os.environ[VARIABLE]).expanduser() if os.environ.get(VARIABLE) else None


def remembering(folder, train, runs, run):
    """Yield the outcome of each run as `run` does, those that the folder knows first; keep those that are new.

    Args:
        folder: pathlib.Path; made where it is missing.
        train: the function of the sweep.
        runs: list of (settings, seed).
        run: function from a list of runs to their outcomes, the numbers counted in that list.
    """
    files = _files(folder, train, runs)
    new = []
    for number, file in enumerate(files):
        measured = _read(file)
        if measured is None:
            new.append(number)
        else:
            yield Outcome(number, measured)
    if new:
        with contextlib.closing(run([runs[number] for number in new])) as outcomes:
            for outcome in outcomes:
                number = new[outcome.run]
                if outcome.measured is not None:
                    _write(files[number], outcome.measured)
                yield dataclasses.replace(outcome, run=number)


def _files(folder, train, runs):
    """Return the file of each run; None of each if the function cannot be told from others, which the sweep answers."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        same = fingerprint((versions(), train))
        return [folder / f"{fingerprint((same, settings, seed))}.npz" for settings, seed in runs]
    except Exception:  # no such folder can be made; or whatever an object raises that does not want to be pickled
        return [None for _ in runs]


def fingerprint(value):
    """Return 64 hexadecimal digits that stand for a value, the code of functions and classes included.

    They are the same in every process for what was written alike, wherever it stands in its file; except that a set of
    strings is in another order each time, and so unlike itself. What an installed module defines counts by its name.
    """
    import cloudpickle

    from rnnkit._backend import keras

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, value):
            if isinstance(value, types.CodeType):  # without the place where it was written
                lines = {"co_filename": "", "co_firstlineno": 1, "co_linetable": b""}
                return self.dispatch_table[types.CodeType](value.replace(**lines))
            if isinstance(value, type) and value.__module__ == "__main__":  # which cloudpickle would give a random name
                members = [item for item in sorted(vars(value).items()) if item[0] not in _NOT_THE_CLASS]
                return str, (value.__qualname__,), {"bases": value.__bases__, "members": members}
            if isinstance(value, keras.losses.Loss):  # whose pickle tells the time
                return str, (type(value).__qualname__,), {"class": type(value), "config": keras.losses.serialize(value)}
            reduced = super().reducer_override(value)
            if isinstance(value, types.FunctionType) and reduced is not NotImplemented:
                reduced[2][1].pop("_cloudpickle_submodules", None)  # which of them happened to be imported already
            return reduced

    file = io.BytesIO()
    Pickler(file, protocol=5).dump(value)
    return hashlib.sha256(file.getvalue()).hexdigest()


@functools.cache
def versions():
    """Return the versions of all that trains a network here, as a tuple of strings."""
    packages = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages.append(f"{name} {importlib.metadata.version(name)}")
    sources = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        sources.update(file.read_bytes())
    return (_workers.backend(), platform.python_version(), platform.machine(), *packages, sources.hexdigest())


def _read(file):
    """Return what a run measured, a dict of arrays, or None if the file is missing or no such thing."""
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            return {name: stored[str(place)] for place, name in enumerate(json.loads(str(stored["names"])))}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _write(file, measured):
    """Keep what a run measured, if that can be: the sweep has it anyway."""
    arrays = {str(place): array for place, array in enumerate(measured.values())}
    with contextlib.suppress(OSError, TypeError), atomic_writer(file) as opened:
        np.savez(opened, names=json.dumps(list(measured)), **arrays)
