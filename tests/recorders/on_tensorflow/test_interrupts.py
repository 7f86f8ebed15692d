"""Ctrl-C that waits while TensorFlow builds a graph."""

import signal
import threading

import pytest

from rnnkit._backend import _interrupts


def interrupted(times, reached):
    """Be interrupted so many times inside the block, then reach its end."""
    with _interrupts.held():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        reached.append(True)


@pytest.mark.parametrize(("times", "end"), [(1, [True]), (2, [])])
def test_an_interrupt_waits_for_the_end_of_the_block_and_a_second_does_not(times, end):
    handler, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        interrupted(times, reached)
    assert reached == end
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_of_the_block_comes_through():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), _interrupts.held():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, None])
def test_where_no_interrupt_comes_nothing_is_done(ignored):
    """In another thread, and where interrupts are ignored, as in a worker of a sweep."""
    ran = []

    def block():
        with _interrupts.held():
            ran.append(signal.getsignal(signal.SIGINT))

    if ignored is None:
        thread = threading.Thread(target=block)
        thread.start()
        thread.join()
    else:
        previous = signal.signal(signal.SIGINT, ignored)
        try:
            block()
        finally:
            signal.signal(signal.SIGINT, previous)
    assert ran == [signal.getsignal(signal.SIGINT) if ignored is None else ignored]
