"""Keras callbacks that measure gradients while `fit` runs, and leave the model as they found it."""

from rnnkit.recorders._gates import GateRecorder
from rnnkit.recorders._gradients import GradientRecorder
from rnnkit.recorders._recording import load
from rnnkit.recorders._states import StateGradientRecorder

__all__ = ["GateRecorder", "GradientRecorder", "StateGradientRecorder", "load"]
