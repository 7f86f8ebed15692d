"""Other random numbers in each Python process whose path begins with this folder: see `margins/__main__.py`.

Python imports a module of this name before anything else, so that sweeps' worker processes have the same shift.
"""

import importlib.util
import os
import sys

import numpy as np

SHIFT = int(os.environ.get("MARGINS_SHIFT", "0"))


def shifted(seed):
    """Return a seed that was written down, moved; what is no number (None, a generator) as it is."""
    return seed + SHIFT if isinstance(seed, (int, np.integer)) else seed


def shift_keras(keras):
    """Move the seeds that are given to Keras itself and to its initializers."""
    set_random_seed = keras.utils.set_random_seed
    keras.utils.set_random_seed = lambda seed: set_random_seed(shifted(seed))
    random_initializer = keras.initializers.RandomNormal.__base__
    init = random_initializer.__init__

    def init_shifted(self, seed=None):
        init(self, shifted(seed))
        self._init_seed = seed  # what get_config tells; a copy made from it is then not moved twice

    random_initializer.__init__ = init_shifted


class _OnceImported:
    """Waits for Keras, which most processes import late and some never."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def run_and_shift(module):
            run(module)
            shift_keras(module)

        spec.loader.exec_module = run_and_shift
        return spec


default_rng = np.random.default_rng
np.random.default_rng = lambda seed=None: default_rng(shifted(seed))
sys.meta_path.insert(0, _OnceImported())
