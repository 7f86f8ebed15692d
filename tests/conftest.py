"""What all tests share."""

import os

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window


@pytest.fixture(autouse=True)
def _no_expectation(monkeypatch):
    """Checks behave as they do in front of a learner unless a test asks otherwise."""
    monkeypatch.delenv("RNNKIT_EXPECT", raising=False)
