"""A long run fits in memory: a million steps of twenty weights, kept and read."""

import tracemalloc

import numpy as np
import pytest

from rnnkit.recorders._recording import Recording

STEPS, WEIGHTS, CHUNK = 1_000_000, 20, 256
MB = 2**20


@pytest.fixture(scope="module")
def long_run():
    """The recording, what it holds and its peak while it grew, in bytes."""
    recording = Recording([f"layer_{place}/kernel" for place in range(WEIGHTS)])
    rows = np.arange(CHUNK * recording.columns, dtype="float32").reshape(CHUNK, -1)
    tracemalloc.start()
    for begin in range(0, STEPS, CHUNK):  # as a recorder reads its log back
        steps = np.arange(begin, min(begin + CHUNK, STEPS))
        recording.append(steps, rows[: len(steps)])
    yield recording, *tracemalloc.get_traced_memory()
    tracemalloc.stop()


def test_it_stays_under_200_mb_also_while_it_grows(long_run):
    recording, held, peak = long_run
    assert len(recording.steps) == STEPS
    assert held < 120 * MB
    assert peak < 200 * MB


def test_it_is_read_without_a_copy(long_run):
    recording, held, _ = long_run
    tracemalloc.reset_peak()
    history, steps, total = recording.history, recording.steps, recording.global_norm
    assert tracemalloc.get_traced_memory()[1] - held < 0.1 * MB
    for first, again in ((history["layer_3/kernel"], recording.history["layer_3/kernel"]), (steps, recording.steps)):
        assert first.shape == (STEPS,)
        assert np.shares_memory(first, again)
    columns = WEIGHTS + 3
    assert (history["layer_3/kernel"][257], total[257], steps[257]) == (columns + 3, columns + WEIGHTS, 257)


def test_what_was_read_stays_as_it_was_when_the_recording_grows():
    recording = Recording(["rnn/kernel"])
    recording.append([0, 1], [[1, 2, 0, 0], [3, 4, 0, 0]])
    before = recording.history["rnn/kernel"]
    recording.append(range(2, 1000), np.full((998, 4), 5))
    assert before.tolist() == [1, 3]
    assert recording.history["rnn/kernel"][:3].tolist() == [1, 3, 5]
