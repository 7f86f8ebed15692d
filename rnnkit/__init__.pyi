"""The public names, written out for editors and type checkers: at run time they are imported on first use."""

from rnnkit import initializers, layers, plot, probes, recorders, sweeps, tasks
from rnnkit.course import claims, clinic, doctor, exercises, explore, lecture
from rnnkit.course.claims import ClaimError, claim
from rnnkit.course.exercises import check, hint, progress, solution, use_or_reference
from rnnkit.course.replications import replication, replications
from rnnkit.course.start import start_lesson, track
from rnnkit.live import LivePlot
from rnnkit.recorders import GateRecorder, GradientRecorder, StateGradientRecorder, load

__version__: str

__all__ = [
    "ClaimError",
    "GateRecorder",
    "GradientRecorder",
    "LivePlot",
    "StateGradientRecorder",
    "__version__",
    "check",
    "claim",
    "claims",
    "clinic",
    "doctor",
    "exercises",
    "explore",
    "hint",
    "initializers",
    "layers",
    "lecture",
    "load",
    "plot",
    "probes",
    "progress",
    "recorders",
    "replication",
    "replications",
    "solution",
    "start_lesson",
    "sweeps",
    "tasks",
    "track",
    "use_or_reference",
]
