"""The training step where an optimizer assigns to its variables itself: TensorFlow and torch."""


def training_step(model, buffers):
    """Return a fresh copy of the model's own training step, which may write into the buffers that `buffers()` gives."""
    before = model.train_function
    model.make_train_function(force=True)
    step, model.train_function = model.train_function, before
    return step
