"""Rows that training steps write on the device, read back before the room for them runs out."""

import warnings

from rnnkit import _backend

_ROWS = 512


class RowReader:
    """Reads back what a training step writes, now and then: each reading waits for the device.

    Args:
        receive: function of steps (n,) and rows (n, columns), called with what has been read.
        rows_per_call: how many rows one call of the training step is expected to write.

    Attributes:
        buffer: where the rows are written, a `StepRingBuffer`; None before `make_buffer`.
        updates: how many updates had been counted when the last buffer was let go of.
    """

    def __init__(self, receive, rows_per_call=1):
        self._receive = receive
        self._rows_per_call = rows_per_call
        self._calls = 0  # of the training step
        self._calls_unread = 0
        self.buffer = None
        self.updates = 0

    def make_buffer(self, columns, rows=None):
        """Make room for rows of so many columns."""
        self.buffer = _backend.StepRingBuffer(max(rows or _ROWS, 4 * self._rows_per_call), columns, self.updates)

    def after_call(self, always=False):
        """Note a call of the training step; read if the next ones might not find room, or if asked to.

        The first call is read too, to see how many rows a call writes. Return whether it was for another reason.
        """
        self._calls += 1
        self._calls_unread += 1
        if self.buffer is None:
            return False
        # At half of it, since the next batch may make more updates than those so far.
        nearly_full = 2 * self._calls_unread * self._rows_per_call >= self.buffer.rows
        due = always or nearly_full
        if due or self._calls == 1:
            self.read()
        return due

    def read(self):
        """Read what has been written since the last time; make more room if it was hardly enough."""
        if self.buffer is None:
            return
        steps, rows, lost = self.buffer.drain()
        self._receive(steps, rows)
        if self._calls_unread:
            per_call = -(-(len(rows) + lost) // self._calls_unread)
            self._rows_per_call = max(self._rows_per_call, per_call)
            self._calls_unread = 0
        capacity = self.buffer.rows
        if 2 * self._rows_per_call > capacity or lost:
            self.buffer.grow(2 ** (4 * max(self._rows_per_call, capacity // 2) - 1).bit_length())
        if lost:
            warnings.warn(
                f"A recorder keeps {capacity:,} updates on the device between two readings. "
                f"Received: {lost + len(rows):,} at once, of which the first {lost:,} are lost. The rest is recorded, "
                f"and there is room for {self.buffer.rows:,} from now on. In a loop of your own, call "
                "recorder.flush() more often.",
                stacklevel=2,
            )

    def release(self):
        """Read, and let go of the buffer: another training step, with another buffer, may go on counting."""
        if self.buffer is not None:
            self.read()
            self.updates = self.buffer.count()
            self.buffer.close()
            self.buffer = None
