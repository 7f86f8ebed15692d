"""Figures from plain arrays and recordings: each function takes an `ax` and returns it; `show` puts one in a page."""

from rnnkit.plot._fingerprint import fingerprint
from rnnkit.plot._gates import gates
from rnnkit.plot._gradients import flow_over_training, gradient_flow, gradient_norms, singular_values
from rnnkit.plot._show import show
from rnnkit.plot._surface import loss_surface

__all__ = [
    "fingerprint",
    "flow_over_training",
    "gates",
    "gradient_flow",
    "gradient_norms",
    "loss_surface",
    "show",
    "singular_values",
]
