"""Record, measure and draw the gradients of Keras models, and check a course about them.

Names are imported on first use, so that `rnnkit doctor` can still speak when TensorFlow is missing or broken.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

try:
    __version__ = _version("rnnkit")
except _NotInstalled:  # a clone on Python's path: `rnnkit doctor` says what to do
    __version__ = "0+unknown"

# The public modules, and in which room each of them lies.
_MODULES = {
    "claims": "course.claims",
    "clinic": "course.clinic",
    "doctor": "course.doctor",
    "exercises": "course.exercises",
    "explore": "course.explore",
    "initializers": "initializers",
    "layers": "layers",
    "lecture": "course.lecture",
    "plot": "plot",
    "probes": "probes",
    "recorders": "recorders",
    "sweeps": "sweeps",
    "tasks": "tasks",
}
# The public names, and the module that defines each of them.
_NAMES = {
    "GateRecorder": "recorders",
    "GradientRecorder": "recorders",
    "StateGradientRecorder": "recorders",
    "load": "recorders",
    "LivePlot": "live",
    "ClaimError": "course.claims",
    "claim": "course.claims",
    "replication": "course.replications",
    "replications": "course.replications",
    "check": "course.exercises",
    "hint": "course.exercises",
    "solution": "course.exercises",
    "use_or_reference": "course.exercises",
    "progress": "course.exercises",
    "start_lesson": "course.start",
    "track": "course.start",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"rnnkit.{_MODULES[name]}")
    if name in _NAMES:
        return getattr(import_module(f"rnnkit.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'rnnkit' has no attribute {name!r}. It offers: {', '.join(__all__)}.")


def __dir__():
    return sorted(__all__)
