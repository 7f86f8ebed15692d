"""One browser and one JupyterLab for all tests in this folder, which `make test-browser` runs."""

import pytest

from browser.lab import chromium, course, missing


@pytest.fixture(scope="session")
def browser():
    """A chromium; without one there is nothing to test here."""
    if reason := missing():
        pytest.exit(f"Tests in a browser need one: {reason}.", returncode=1)
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the copy of the course is."""
    return tmp_path_factory.mktemp("course")


@pytest.fixture(scope="session")
def address(folder):
    """A function from a notebook's name to where JupyterLab shows it."""
    with course(folder) as of:
        yield of
