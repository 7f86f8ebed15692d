"""Initializers for recurrent kernels and gate biases that Keras does not have."""

import sys

import numpy as np

from rnnkit._backend import keras


@keras.saving.register_keras_serializable(package="rnnkit")
class SpectralRadius(keras.initializers.Initializer):
    """Draw a Gaussian matrix and scale it so that its largest eigenvalue has a given absolute value.

    The spectral radius decides how a linear recurrence behaves in the long run; how it behaves at first is up to the
    largest singular value, which is larger for such a matrix.

    Args:
        radius: spectral radius, a number over 0.
        seed: integer, or None for another matrix at every use.

    Returns:
        When called with a shape (units, units): a matrix with that spectral radius.

    Raises:
        ValueError: if the radius is not a finite number over 0, or the shape is not square.

    Example:
        >>> import numpy as np, rnnkit
        >>> W = np.asarray(rnnkit.initializers.SpectralRadius(0.9, seed=0)((32, 32)))
        >>> round(float(abs(np.linalg.eigvals(W)).max()), 4)
        0.9

    Source: Jaeger (2001), "The echo state approach to analysing and training recurrent neural networks", GMD 148.
    """

    def __init__(self, radius, seed=None):
        if not (isinstance(radius, (int, float, np.number)) and np.isfinite(radius) and radius > 0):
            raise ValueError(f"`radius` must be a finite number over 0. Received: radius={radius!r}. Try 0.9.")
        self.radius = float(radius)
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Return the matrix."""
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                "A spectral radius belongs to a square matrix (units, units). "
                f"Received: shape={tuple(shape)}. Use it as recurrent_initializer of a SimpleRNN."
            )
        matrix = np.random.default_rng(self.seed).normal(size=shape)
        matrix *= self.radius / np.abs(np.linalg.eigvals(matrix)).max()
        return keras.ops.convert_to_tensor(matrix, dtype=dtype or keras.config.floatx())

    def get_config(self):
        """Return what is needed to make it again."""
        return {"radius": self.radius, "seed": self.seed}


# The gates side by side in the weights of Keras's cells; by the sizes of the cell's bias.
_LAYOUTS = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("update", "reset", "candidate")}


def _asker():
    """Return the object whose code calls an initializer of this module: a Keras variable, a cell, or None.

    An LSTM cell under `unit_forget_bias=True` asks for two pieces, (units,) and (2 * units,), as if each were a bias,
    and neither can tell which gates it holds. Nothing but who asks tells them from the biases of smaller cells: Keras
    hands over a shape and a type alone, and a subclassed model makes its variables when no layer is being built.
    """
    return sys._getframe(3).f_locals.get("self")  # above this function, _assembled and __call__


def _assembled(layout, values, shape, dtype):
    """Return a bias of the given shape, whose gates have the given values (numbers or arrays (units,)), else 0.

    With two rows, those of `reset_after=True`, the sum of both counts: the values go into the first.
    """
    names = _LAYOUTS[layout]
    in_pieces = getattr(_asker(), "unit_forget_bias", False)
    rows, width = (shape[0], shape[1]) if len(shape) == 2 else (1, shape[-1] if shape else 0)
    if in_pieces or len(shape) not in (1, 2) or rows > 2 or (rows, layout) == (2, "lstm") or width % len(names):
        expected = "(4 * units,)" if layout == "lstm" else "(2, 3 * units), or (3 * units,) with reset_after=False"
        raise ValueError(
            f"This initializer makes the whole bias of {'an LSTM' if layout == 'lstm' else 'a GRU'}, {expected}. "
            + ("Received: one of the two pieces" if in_pieces else f"Received: shape={tuple(shape)}")
            + (" that Keras's LSTM asks for under unit_forget_bias=True. " if in_pieces else ". ")
            + (
                "Pass unit_forget_bias=False with it."
                if layout == "lstm"
                else "Pass it as bias_initializer of keras.layers.GRU or rnnkit.layers.GRUCell."
            )
        )
    bias = np.zeros((rows, width))
    for name, part in zip(names, np.split(bias, len(names), axis=1), strict=True):
        part[0] = values.get(name, 0.0)
    return keras.ops.convert_to_tensor(bias.reshape(shape), dtype=dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="rnnkit")
class GateBias(keras.initializers.Initializer):
    """Start the bias of an LSTM or a GRU with a number of your choice for each gate.

    A gate whose bias is b stands at sigmoid(b) while inputs and state say nothing. A forget gate at f, or a GRU's
    update gate in Keras's convention, halves what it keeps every ln(1/2) / ln(f) steps.

    Args:
        **gates: number for each gate; 0 for those not named. Of `input`, `forget`, `output` and `candidate` for an
            LSTM; of `update`, `reset` and `candidate` for a GRU. They say which of the two the bias is for.

    Returns:
        When called with a shape: that bias. (4 * units,) for an LSTM, gates in Keras's order; (3 * units,) for a GRU,
        or (2, 3 * units) with `reset_after=True`, whose second row stays 0 as the rows add up.

    Raises:
        ValueError: if the gates are those of neither, a number is not finite, or the shape is not that of a whole
            bias. Pass `unit_forget_bias=False` to Keras's LSTM, which else fills in a 1 of its own.

    Example:
        >>> import keras, rnnkit
        >>> bias = rnnkit.initializers.GateBias(forget=3.0)
        >>> lstm = keras.layers.LSTM(32, bias_initializer=bias, unit_forget_bias=False)
        >>> [float(number) for number in bias((8,))]
        [0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0]
        >>> gru = keras.layers.GRU(32, bias_initializer=rnnkit.initializers.GateBias(update=3.0))

    Source: Gers, Schmidhuber & Cummins (2000), "Learning to forget: continual prediction with LSTM", section 4, for
    the forget gate; Jozefowicz, Zaremba & Sutskever (2015), "An empirical exploration of recurrent network
    architectures".
    """

    def __init__(self, **gates):
        layouts = [layout for layout, names in _LAYOUTS.items() if set(gates) <= set(names)]
        if len(layouts) != 1:
            raise ValueError(
                "A gate bias names gates of an LSTM (input, forget, output, candidate) or of a GRU (update, reset, "
                f"candidate), one at least that only it has. Received: {', '.join(gates) or 'none'}. "
                "Try GateBias(forget=1.0) or GateBias(update=1.0)."
            )
        for name, value in gates.items():
            if not (isinstance(value, (int, float, np.number)) and np.isfinite(value)):
                raise ValueError(f"The bias of a gate must be a finite number. Received: {name}={value!r}. Try 1.0.")
        (self.layout,) = layouts
        self.gates = {name: float(value) for name, value in gates.items()}

    def __call__(self, shape, dtype=None):
        """Return the bias."""
        return _assembled(self.layout, self.gates, shape, dtype)

    def get_config(self):
        """Return what is needed to make it again."""
        return dict(self.gates)


@keras.saving.register_keras_serializable(package="rnnkit")
class Chrono(keras.initializers.Initializer):
    """Start the gates' biases so that the units remember for anything from one step to `longest`.

    Of an LSTM the forget bias is ln(u), u drawn evenly from [1, longest - 1] for each unit, and the input bias -ln(u);
    of a GRU in Keras's convention, where the update gate keeps, its bias is ln(u). All others are 0. A unit whose gate
    stands at sigmoid(ln u) = u / (u + 1) keeps a memory for about u + 1 steps.

    Args:
        longest: the longest dependency to expect, in steps; over 2.
        cell: `"lstm"` or `"gru"`: for which of them the bias is.
        seed: integer, or None for other numbers at every use.

    Returns:
        When called with a shape: that bias. (4 * units,) for an LSTM; (3 * units,) or (2, 3 * units) for a GRU.

    Raises:
        ValueError: if `longest` is not a finite number over 2, the cell is unknown, or the shape is not that of a whole
            bias. Pass `unit_forget_bias=False` to Keras's LSTM, which else fills in a 1 of its own.

    Example:
        >>> import keras, numpy as np, rnnkit
        >>> bias = rnnkit.initializers.Chrono(longest=80, seed=0)
        >>> lstm = keras.layers.LSTM(32, bias_initializer=bias, unit_forget_bias=False)
        >>> i, f, g, o = np.split(np.asarray(bias((128,))), 4)
        >>> bool((i == -f).all()), float(f.min()) >= 0, bool(f.max() <= np.log(79))
        (True, True, True)

    Source: Tallec & Ollivier (2018), "Can recurrent neural networks warp time?", ICLR, section 2.
    """

    def __init__(self, longest, cell="lstm", seed=None):
        if not (isinstance(longest, (int, float, np.number)) and np.isfinite(longest) and longest > 2):
            raise ValueError(
                f"`longest` must be a finite number of steps over 2. Received: longest={longest!r}. "
                "Try the length of your sequences."
            )
        if cell not in _LAYOUTS:
            raise ValueError(f"`cell` must be 'lstm' or 'gru'. Received: cell={cell!r}. Name the cell it is for.")
        self.longest, self.cell, self.seed = float(longest), cell, seed

    def __call__(self, shape, dtype=None):
        """Return the bias."""
        blocks = len(_LAYOUTS[self.cell])
        memory = np.random.default_rng(self.seed).uniform(1, self.longest - 1, size=shape[-1] // blocks)
        log = np.log(memory)
        values = {"forget": log, "input": -log} if self.cell == "lstm" else {"update": log}
        return _assembled(self.cell, values, shape, dtype)

    def get_config(self):
        """Return what is needed to make it again."""
        return {"longest": self.longest, "cell": self.cell, "seed": self.seed}
