"""A picture of a recorder that is redrawn in the notebook while `fit` runs."""

import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure

from rnnkit import _display, plot, recorders
from rnnkit._backend import keras
from rnnkit._picture import as_html, as_quick_png

__all__ = ["LivePlot"]

_SHARE = 0.05  # of the time since training began, for all pictures, the last one included
_FIRST = 0.15  # seconds that a picture is expected to take until one was drawn
_POINTS = 1000  # steps drawn; more would take longer and show no more


class LivePlot(keras.callbacks.Callback):
    """Draw what a recorder has seen so far, again and again, in the notebook while `fit` runs.

    The picture stands above the progress bar. It is redrawn at most every `every_seconds`, and less often where a
    picture takes long: all of them together, with the last, which shows the whole run, take at most 5 % of the time
    since training began. So, if one takes 0.15 s, the first is seen after 6 s and one every 3 s from then on.

    Outside a notebook, in a script, a terminal, or where the environment variable `RNNKIT_EXPECT` is set (a notebook
    that is run to be compared with what it stores), nothing is drawn. A picture that cannot be drawn never stops
    training: the reason is shown once.

    Args:
        recorder: a `GradientRecorder` or a `StateGradientRecorder`, also passed to `fit`, in whatever order.
        every_seconds: least time between the end of a drawing and the next.
        draw: function called as `draw(ax)` to draw another picture, of this or any other recorder.
        alt: what that picture shows, in a sentence, for those who cannot see it; needed with `draw`.
        keep: whether the picture stays when training ends, as part of the notebook. Without it nothing is left.

    Raises:
        ValueError: if `draw` comes without `alt`, or `every_seconds` is not positive; when `fit` starts without the
            recorder among its callbacks.
        TypeError: if it is not known how to draw the recorder.

    Example:
        >>> recorder = rnnkit.GradientRecorder()
        >>> live = rnnkit.LivePlot(recorder)
        >>> history = model.fit(x, y, epochs=2, callbacks=[recorder, live], verbose=0)
    """

    def __init__(self, recorder, every_seconds=1.0, *, draw=None, alt=None, keep=True):
        super().__init__()
        if not every_seconds > 0:
            raise ValueError(
                f"`every_seconds` must be a positive number. Received: every_seconds={every_seconds!r}. Pass 1.0."
            )
        if draw is not None and not (isinstance(alt, str) and alt.strip()):
            raise ValueError(
                "A picture of your own needs a sentence that says what it shows, for those who cannot see it. "
                f"Received: draw={draw!r} and alt={alt!r}. Pass it: alt='The norm of ...'."
            )
        self.recorder = recorder
        self.every_seconds = every_seconds
        self.alt = alt
        self.keep = keep
        self._picture = _picture(recorder) if draw is None else lambda figure: draw(figure.add_subplot())
        self._clock = time.perf_counter
        self._handle = None  # of the picture on the page, while there is one
        self._pace = None
        self._drawn = 0  # steps that the latest picture shows
        self._failed = False
        if _display.in_a_notebook():  # a process's first picture takes three times as long: not while the model trains
            figure = Figure(layout="constrained")
            plot.gradient_norms({"any": [1.0, 0.1]}, figure.add_subplot())
            _bundle(figure, "", "")

    def on_train_begin(self, logs=None):
        """Make room for the picture."""
        if self.recorder.params is not self.params:  # Keras gives the callbacks of one fit one and the same dict
            raise ValueError(
                "A live plot draws what its recorder sees in the same fit. "
                f"Received: a {type(self.recorder).__name__} that is not among the callbacks of this fit. "
                "Pass both: model.fit(..., callbacks=[recorder, live])."
            )
        self._handle = None
        self._pace = _Pace(self.every_seconds, self._clock, kept=self.keep)
        self._drawn = 0
        self._failed = False
        if _display.in_a_notebook():
            from IPython.display import display

            self._handle = display({}, raw=True, display_id=True)  # before the progress bar writes its first line

    def on_train_batch_end(self, batch, logs=None):
        """Draw, if it is time."""
        if self._handle is not None and self._pace.due():
            if len(self.recorder.steps) > self._drawn:
                with self._pace.drawing():
                    self._draw()
            else:
                self._pace.put_off()

    def on_train_end(self, logs=None):
        """Draw the whole run, or clear the picture away."""
        if self._handle is not None:
            if not self.keep:
                self._handle.update({}, raw=True)
            elif len(self.recorder.steps):
                self._draw()
        self._handle = None

    def _draw(self):
        """Draw the recorder and show the picture, or say why not."""
        if self._failed:
            return
        try:
            figure, steps = Figure(layout="constrained"), self.recorder.steps
            said = self._picture(figure)
            data, metadata = _bundle(figure, self.alt or said, f"Up to training step {steps[-1]:,}.")
            self._handle.update(data, metadata=metadata, raw=True)
            self._drawn = len(steps)
        except Exception as error:  # whatever it is, it is no reason to lose a training run
            self._failed = True
            _display.show("The live plot ends here.", f"Training goes on. {type(error).__name__}: {error}")


class _Pace:
    """Says when to draw, so that all pictures, with a last one if it is kept, take no more than their share."""

    def __init__(self, every_seconds, clock, kept):
        self.every_seconds, self.clock, self.kept = every_seconds, clock, kept
        self.begun = self.ended = clock()
        self.spent, self.latest = 0.0, _FIRST

    def due(self):
        now = self.clock()
        affordable = self.spent + (1 + self.kept) * self.latest <= _SHARE * (now - self.begun)
        return affordable and now - self.ended >= self.every_seconds

    def put_off(self):
        self.ended = self.clock()

    @contextmanager
    def drawing(self):
        begun = self.clock()
        yield
        self.ended = self.clock()
        self.latest = self.ended - begun
        self.spent += self.latest


def _picture(recorder):
    """Return the function that draws a recorder on a figure and says in a sentence what it shows."""
    for kind, picture in ((recorders.GradientRecorder, _norms), (recorders.StateGradientRecorder, _flow)):
        if isinstance(recorder, kind):
            return lambda figure: picture(recorder, figure)
    raise TypeError(
        "A live plot knows how to draw a GradientRecorder and a StateGradientRecorder. "
        f"Received: {recorder!r}. Pass one of these, or draw=function(ax) and alt='what it shows'."
    )


def _norms(recorder, figure):
    steps, history = recorder.steps, recorder.history
    shown = np.r_[: len(steps) : -(-len(steps) // _POINTS), len(steps) - 1]
    diverged = np.flatnonzero(~np.isfinite(recorder.global_norm))[:1]  # not to be left out
    shown = np.union1d(shown, diverged)
    thinned = SimpleNamespace(steps=steps[shown], history={name: norms[shown] for name, norms in history.items()})
    plot.gradient_norms(thinned, figure.add_subplot())
    last = np.array([norms[-1] for norms in history.values()])
    names = list(history)
    low, high = np.argmin(last), np.argmax(last)  # both find a NaN
    return (
        f"Norm of the gradient of {len(names)} weights at each training step, on a log axis. At the last one, from "
        f"{last[low]:.2g} ({names[low]}) to {last[high]:.2g} ({names[high]})."
    )


def _flow(recorder, figure):
    history = recorder.history
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height * len(history))
    for name, ax in zip(history, figure.subplots(len(history), squeeze=False)[:, 0], strict=True):
        plot.flow_over_training(history[name], recorder.steps, ax)
        if len(history) > 1:
            ax.set_title(name)
    ends = "; ".join(f"{name}: {norms[-1, 0]:.2g} and {norms[-1, -1]:.2g}" for name, norms in history.items())
    return (
        f"Map of the norm of dL/dh over time steps and training. Of late, at the first and the last time step, {ends}."
    )


def _bundle(figure, alt, caption):
    """Return a figure by MIME type as `plot.show` does, but for screens, not for print."""
    picture = as_quick_png(figure)
    data = {
        "text/html": as_html(picture, alt, caption),
        "image/png": picture,
        "text/plain": f"{alt}\n{caption}",
    }
    return data, {"image/png": {"alt": alt}}
