"""Ctrl-C that waits until it can do no harm."""

import signal
import threading
from contextlib import contextmanager


@contextmanager
def held():
    """Let an interrupt wait for the end of the block; a second one does not.

    TensorFlow's own code crashes, and the process with it, where an interrupt comes while a tape or a graph is made.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield  # no interrupt comes here
        return
    came = []

    def wait(number, frame):
        came.append(number)
        if len(came) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(signal.SIGINT, None)
