"""Initializers for recurrent kernels that Keras does not have."""

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
