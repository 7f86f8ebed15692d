"""What holds on a backend that does not say otherwise in a module of its own."""

from contextlib import nullcontext

GRADIENTS_MAY_BE_SPARSE = False


def is_sparse(gradient):
    """Return False: all gradients are dense."""
    return False


def rows(gradient):
    """Return the gradient: none of its rows is repeated."""
    return gradient


def replicas(model):
    """Return 1: there is one model, on however many devices `keras.distribution` spreads it."""
    return 1


def sum_over_replicas(tensors):
    """Return the tensors: of each there is one."""
    return tensors


def whole_batch(loss):
    """Return the loss: it is that of the whole batch."""
    return loss


def quiet_first_use():
    """Do nothing: such a backend says nothing on first use."""


def stream_kept():
    """Change nothing: random numbers come from Keras's seed generators, which are variables."""
    return nullcontext()


def training_step(model, buffers):
    """Make the step as Keras does: the optimizer assigns to its variables itself, and so may a buffer."""
    before = model.train_function
    model.make_train_function(force=True)
    step, model.train_function = model.train_function, before
    return step
