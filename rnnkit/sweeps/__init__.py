"""The same training over seeds and settings, in worker processes: medians, spreads and success rates."""

from rnnkit.sweeps._pool import start_workers
from rnnkit.sweeps._result import Sweep, SweepError
from rnnkit.sweeps._sweep import sweep

__all__ = ["Sweep", "SweepError", "start_workers", "sweep"]
