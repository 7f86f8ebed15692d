"""What several tests hang onto a training run, and what they work out about it by hand."""

import keras
import numpy as np
from slow_reference import numpy


class Weights(keras.callbacks.Callback):
    """Keep the trainable weights of a run of `fit`: before the first step and after each."""

    def on_train_begin(self, logs=None):
        self.seen = [numpy(self.model.trainable_variables)]

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(numpy(self.model.trainable_variables))

    @property
    def before(self):
        """The weights before each step."""
        return self.seen[:-1]


class Stops(keras.callbacks.Callback):
    """Raise an error after one step of an epoch."""

    def __init__(self, error, at):
        super().__init__()
        self.error, self.at = error, at

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.at:
            raise self.error("stopped here")


def clip_each(gradients, bound):
    """Shorten each gradient to a norm of at most `bound`, as `clipnorm` does."""
    return [gradient * min(1, bound / np.linalg.norm(gradient)) for gradient in gradients]


def clip_together(gradients, bound):
    """Shorten all gradients by one factor to a joint norm of at most `bound`, as `global_clipnorm` does."""
    total = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    return [gradient * min(1, bound / total) for gradient in gradients]
