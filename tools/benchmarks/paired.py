"""Compare things in one process, turn by turn, so that what slows the machine down slows all of them."""

import threading
import time
from typing import NamedTuple

import numpy as np

from rnnkit._backend import keras


def summary(these, those):
    """Return the ratio of two lists of durations, pair by pair: its median and quartiles."""
    ratios = [this / that for this, that in zip(these, those, strict=True)]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {"ratio": float(middle), "low": float(low), "high": float(high), "pairs": len(ratios)}


class Times(NamedTuple):
    """Durations, a turn each.

    Args:
        seconds: dict from name to a list.
        reference: the name of what had a second turn in every round.
        again: the durations of those second turns.
    """

    seconds: dict
    reference: str
    again: list

    def ratio(self, this, that=None):
        """Compare one with another, or with the reference; `noise` is the reference against itself."""
        noise = summary(self.again, self.seconds[self.reference])
        return summary(self.seconds[this], self.seconds[that or self.reference]) | {"noise": noise}

    def times(self, name, factor):
        """Count what did a part of the work as if it had done all of it."""
        return self._replace(seconds=self.seconds | {name: [factor * took for took in self.seconds[name]]})


def _in_order(players, turn):
    """Return who plays in a round, one after the other: there and back, so that nobody always follows the same one."""
    return players if turn % 2 == 0 else players[::-1]


def calls(ways, reference, turns=15, seconds=4.0, at_least=5, warm_up=2):
    """Call functions in turn.

    Args:
        ways: dict from name to a function without arguments that returns when its work is done.
        reference: the name of the one that all are compared with.
        turns: how often each is called, at most.
        seconds: stop earlier when so much time has gone by...
        at_least: ...but not before so many turns.
        warm_up: so many calls of each come first, uncounted: functions are compiled, and data is in the caches.

    Returns:
        Times.
    """
    players = [*ways, "again"]
    took = {name: [] for name in players}
    for name in warm_up * list(ways):
        ways[name]()
    begun = time.perf_counter()
    for turn in range(turns):
        for name in _in_order(players, turn):
            function = ways.get(name, ways[reference])
            at = time.perf_counter()
            function()
            took[name].append(time.perf_counter() - at)
        if turn + 1 >= at_least and time.perf_counter() - begun > seconds:
            break
    return Times(took, reference, took.pop("again"))


class _Stopped(Exception):  # noqa: N818  (not an error of the fit that it ends)
    """Another fit failed."""


class _Player(keras.callbacks.Callback):
    """Train in a thread, an epoch each time that `play` is called; time the epochs."""

    def __init__(self, fit, epochs):
        super().__init__()
        self.epochs, self.took, self.error, self.over, self.stopped = epochs, [], None, False, False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(fit,), daemon=True)
        self._thread.start()

    def _run(self, fit):
        self._go.acquire()
        try:
            if not self.stopped:
                fit(self.epochs, [self])
        except _Stopped:
            pass
        except Exception as error:
            self.error = error
        self.over = True
        self._done.release()

    def play(self):
        """Let the fit go on to the end of its next epoch; the first includes all that is before, the last all after."""
        if not self.over:
            self._go.release()
            self._done.acquire()
        if self.error:
            raise self.error

    def stop(self):
        """End the fit where it waits."""
        self.stopped = True
        if not self.over:
            self._go.release()
        self._thread.join()

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self._go.acquire()
        if self.stopped:
            raise _Stopped
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.took.append(time.perf_counter() - self._begun)
        if epoch + 1 < self.epochs:
            self._done.release()


def fits(ways, reference, epochs=12, warm_up=3):
    """Train in several ways, epoch by epoch in turn; never two at once.

    Args:
        ways: dict from name to a function called as `fit(epochs, callbacks)`, which makes a model and trains it. One
            that trains without Keras calls `on_epoch_begin` and `on_epoch_end` of the callbacks itself.
        reference: the name of the one that all are compared with; it is run twice.
        epochs: of each.
        warm_up: so many of the first epochs, in which functions are compiled, do not count.

    Returns:
        Times.

    Raises:
        Exception: what any of the fits raises; the others are ended.
    """
    players = {name: _Player(fit, epochs) for name, fit in ways.items()}
    players["again"] = _Player(ways[reference], epochs)
    try:
        for turn in range(epochs):
            for player in _in_order(list(players.values()), turn):
                player.play()
    finally:
        for player in players.values():
            player.stop()
    took = {name: player.took[warm_up:] for name, player in players.items()}
    return Times(took, reference, took.pop("again"))
