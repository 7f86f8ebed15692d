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

_MODULES = (
    "claims",
    "exercises",
    "explore",
    "initializers",
    "layers",
    "plot",
    "probes",
    "recorders",
    "sweeps",
    "tasks",
)
_NAMES = {
    "GateRecorder": "recorders",
    "GradientRecorder": "recorders",
    "StateGradientRecorder": "recorders",
    "load": "recorders",
    "LivePlot": "live",
    "ClaimError": "claims",
    "claim": "claims",
    "replication": "published",
    "replications": "published",
    "check": "exercises",
    "hint": "exercises",
    "solution": "exercises",
    "use_or_reference": "exercises",
    "progress": "exercises",
    "start_lesson": "lesson",
    "track": "lesson",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"rnnkit.{name}")
    if name in _NAMES:
        return getattr(import_module(f"rnnkit.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'rnnkit' has no attribute {name!r}. It offers: {', '.join(__all__)}.")


def __dir__():
    return sorted(__all__)
