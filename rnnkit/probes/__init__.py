"""One-shot measurements on a model and a batch: gradients and Jacobians of the states, as NumPy arrays."""

from rnnkit.probes._gates import gate_statistics, gates, prepare_gates
from rnnkit.probes._jacobians import prepare_state_jacobians, state_jacobians
from rnnkit.probes._saliency import prepare_saliency, saliency
from rnnkit.probes._spectra import lyapunov_exponents, singular_values
from rnnkit.probes._states import prepare_state_gradients, state_gradient_norms, state_gradients

__all__ = [
    "gate_statistics",
    "gates",
    "lyapunov_exponents",
    "prepare_gates",
    "prepare_saliency",
    "prepare_state_gradients",
    "prepare_state_jacobians",
    "saliency",
    "singular_values",
    "state_gradient_norms",
    "state_gradients",
    "state_jacobians",
]
