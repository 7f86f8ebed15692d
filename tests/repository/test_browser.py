"""One lesson in a real browser, where there is one; `make test-browser` runs them all."""

import pytest
from browser.lab import chromium, course, look, missing, opened


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_lesson_00_runs_in_jupyterlab(tmp_path):
    name = "00_start_here.ipynb"
    with chromium() as browser, course(tmp_path) as address, opened(browser, address(name)) as notebook:
        look(notebook, name)
        notebook.picture("smoke", "tour-flow")
