"""By how much products of Jacobians stretch and shrink: singular values and Lyapunov exponents."""

import numpy as np

from rnnkit._backend import keras
from rnnkit.probes import _graded_svd
from rnnkit.probes._jacobians import jacobian_function, state_slice


def singular_values(model, x, layer=None, *, log10=False):
    """Measure the singular values of dh_T/dh_t: by how much a change of h_t can be stretched or shrunk until the end.

    All of them are right, however small and however far apart: a basis is led through the one-step Jacobians and made
    orthonormal again at every step, and the sizes are kept apart as powers of two. As plain numbers, those under 1e-308
    become 0, and those over 1e308 infinite; ask for `log10=True` then.

    What limits them is the Jacobians, computed in the model's own precision. In float32 their entries are off by some
    1e-7, and the singular values by about as much for every step in between; by more where a Jacobian is nearly
    singular. Build the model with `dtype="float64"` for more. An exact 0 comes out where units are dead or unconnected
    (rows or columns of zeros); a kernel that is singular in another way is so only up to rounding.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`.
        layer: name of the recurrent layer; may be left out when there is only one.
        log10: whether to return the decimal logarithms, -inf for an exact 0.

    Returns:
        array (batch, time, units), descending along the last axis: at index t the singular values of dh_T/dh_t, T the
        last step read. At t = T they are all 1. For an LSTM: of h by h, through both h and c of all later steps.

    Raises:
        ValueError: as `state_jacobians`, or if a Jacobian is not finite.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(4, name="rnn")])
        >>> rnnkit.probes.singular_values(model, np.ones((1, 20, 2)))[0, -1]
        array([1., 1., 1., 1.])
        >>> rnnkit.probes.singular_values(model, np.ones((1, 20, 2)), log10=True).shape
        (1, 20, 4)

    Source: Pascanu, Mikolov & Bengio (2013), section 2.1; G. W. Stewart (1995), "On graded QR decompositions of
    products of matrices", for the way to compute them.
    """
    recurrent, jacobians = _finite_jacobians(model, x, layer)
    if isinstance(recurrent.cell, keras.layers.StackedRNNCells):
        raise ValueError(
            "Singular values of dh_T/dh_t are measured of a layer with one cell. "
            f"Received: layer {recurrent.name!r}, a stack of {len(recurrent.cell.cells)}. Multiply "
            'state_jacobians(..., state="all") yourself, or give each cell a keras.layers.RNN of its own.'
        )
    # The first Jacobian is by the initial state, which is none of h_0 ... h_T.
    logs = _graded_svd.log_singular_values(jacobians[:, 1:], state_slice(recurrent, "h"))
    logs = logs[:, ::-1] if recurrent.go_backwards else logs
    if log10:
        return logs / np.log(10)
    with np.errstate(over="ignore"):
        return np.exp(logs)


def lyapunov_exponents(model, x, layer=None):
    """Measure the Lyapunov exponents of a recurrent layer on its trajectory: the rates at which small changes grow.

    They are the natural logarithms of the singular values of the derivative of all last states by all initial states,
    divided by the number of steps. (Over finite time: the exponents proper are the limit for ever longer sequences.)
    Below 0 a change fades, above it grows; the largest one being near 0 is what lets gradients travel far.

    Args:
        model: a built Keras model; inference mode.
        x: inputs (batch, time, ...), as for `model.predict`.
        layer: name of the recurrent layer; may be left out when there is only one.

    Returns:
        array (batch, total), descending, per time step; total the sum of the sizes of the layer's states (for an LSTM
        those of h and c). -inf stands for a direction that is lost exactly. Masked steps count, as rates of 0.

    Raises:
        ValueError: as `singular_values`.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> halving = keras.layers.SimpleRNN(3, "linear", recurrent_initializer=keras.initializers.Identity(gain=0.5))
        >>> model = keras.Sequential([keras.Input((None, 2)), halving])
        >>> rnnkit.probes.lyapunov_exponents(model, np.ones((1, 50, 2))).round(3)
        array([[-0.693, -0.693, -0.693]])

    Source: Benettin, Galgani, Giorgilli & Strelcyn (1980), "Lyapunov characteristic exponents for smooth dynamical
    systems and for Hamiltonian systems; a method for computing all of them"; Engelken, Wolf & Abbott (2020), "Lyapunov
    spectra of chaotic recurrent neural networks", arXiv:2006.02427.
    """
    _, jacobians = _finite_jacobians(model, x, layer)
    return _graded_svd.last_log_singular_values(jacobians) / jacobians.shape[1]


def _finite_jacobians(model, x, name):
    """Return the recurrent layer and its Jacobians, in reading order; refuse what has no singular values."""
    recurrent, batch, measure = jacobian_function(model, x, name, once=True)
    jacobians = measure(batch.x)
    jacobians = jacobians[:, ::-1] if recurrent.go_backwards else jacobians
    finite = np.isfinite(jacobians).all(axis=(0, 2, 3))
    if not finite.all():
        raise ValueError(
            "The Jacobians of a recurrent layer must be finite for their product to have singular values. "
            f"Received: NaN or infinite entries from step {finite.argmin()} on (in reading order), in layer "
            f"{recurrent.name!r}. Its weights have probably diverged: look at them with model.get_weights()."
        )
    return recurrent, jacobians
