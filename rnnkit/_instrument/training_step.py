"""A model's training step, in which recorders see every update of its weights."""

from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

from rnnkit import _backend
from rnnkit._backend._attribute import shadowed
from rnnkit._instrument.optimizer_hook import (
    UpdateObserver,
    hook_optimizers,
    optimizers_in,
    optimizers_of,
    with_inner_optimizers,
)


class StepObserver(UpdateObserver, Protocol):
    """What a training step is recorded by.

    Attributes:
        buffer: where it writes its rows, a `StepRingBuffer`; None while it does not know yet how long they are.
    """

    buffer: _backend.StepRingBuffer | None

    def during_step(self) -> AbstractContextManager:
        """Return a context for as long as the training step runs, or is traced."""

    def new_step(self) -> None:
        """Read what is in the buffer and let go of it: another training step is about to be made."""


class TrainStepHook:
    """A training step that shows recorders its updates; it stands in for the model's own for one call at a time.

    The model's `train_function` is replaced just before a step and put back when that step starts, and the optimizers
    are hooked only while the step runs (in a compiled step: while it is traced). So whatever ends training, no trace
    of the recorder is left on the model or its optimizers. An exception between the two is the one that leaves this
    hook behind; it gives way at the next call, without recording it.

    What a callback does to the model in between has the effect that it would have had: where the model has another
    train function, the step is made anew, and where it has not, the step goes on as it was traced.
    """

    def __init__(self, model):
        if left_behind := installed_hook(model):
            left_behind.remove()
        self.model = model
        self.observers = []
        self._original = None
        self._step = None
        self._optimizers = []
        self._fit = None

    def install(self, observer):
        """Stand in for the next step; or, if another recorder's hook already does, let that one serve both."""
        hook = installed_hook(self.model) or self
        if observer not in hook.observers:
            hook.observers.append(observer)
            hook._step = None  # it does not show this one anything
        if hook is self:
            self._stand_in_for(self.model.train_function)

    def _stand_in_for(self, train_function):
        if train_function is not None:  # None: it is about to be made
            if train_function is not self._original:
                if self._original is not None:
                    for observer in self.observers:
                        observer.new_step()
                self._original, self._step = train_function, None
            self._fit = getattr(self.model, "history", None)
            self.model.train_function = self
        vars(self.model)["make_train_function"] = self._make_train_function

    def remove(self):
        """Give the model its own train function back."""
        if self.model.train_function is self:
            self.model.train_function = self._original
        vars(self.model).pop("make_train_function", None)

    def _make_train_function(self, force=False):
        """What `model.make_train_function` does while the hook is installed: the same, and the hook stays."""
        if force or self.model.train_function is None:
            self.remove()
            self.model.make_train_function(force)
            self._stand_in_for(self.model.train_function)

    def __call__(self, *arguments):
        """Take one training step, heard by the observers."""
        self.remove()
        if getattr(self.model, "history", None) is not self._fit:  # left behind by a `fit` that an exception ended
            return self._original(*arguments)
        if self._step is None:
            observers = list(self.observers)
            self._step = _backend.training_step(self.model, lambda: [observer.buffer for observer in observers])
        with ExitStack() as stack:
            stack.enter_context(hook_optimizers(self.model, self.optimizers(), self.observers))
            for observer in self.observers:
                stack.enter_context(observer.during_step())
            return self._step(*arguments)

    def optimizers(self):
        """Return the optimizers that are listened to: the model's, and those that it or a part of it has."""
        own = with_inner_optimizers(optimizers_in(self.model))  # which a callback may have changed
        if not all(optimizer in self._optimizers for optimizer in own):
            self._optimizers = optimizers_of(self.model)
        return self._optimizers


@contextmanager
def own_train_function(model, on_compile):
    """While the block runs, let the model make a train function of its own, and give it back the one that it had.

    What is traced meanwhile holds hooks; what was traced before holds none. If the model is compiled in the block,
    neither is of use afterwards; `on_compile()` is then called.
    """
    before, train_step, compile_model = model.train_function, model.train_step, model.compile
    compiled = []

    def noted_compile(*arguments, **settings):
        compiled.append(True)
        compile_model(*arguments, **settings)
        on_compile()

    def fresh_train_step(*arguments):
        return train_step(*arguments)  # JAX remembers what it traced of a function, however often it is compiled

    model.train_function = None
    with shadowed(model, "compile", noted_compile), shadowed(model, "train_step", fresh_train_step):
        try:
            yield
        finally:
            model.train_function = None if compiled else before


def installed_hook(model):
    """Return the hook that stands in for a model's train function, or will when it is made; None if there is none."""
    if isinstance(model.train_function, TrainStepHook):
        return model.train_function
    return getattr(vars(model).get("make_train_function"), "__self__", None)
