"""Each lesson in JupyterLab as a learner gets it: run from top to bottom, and an exercise answered."""

import pytest

from browser.lab import LESSONS, look, opened, pictured


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_and_shows_its_figures(name, browser, address):
    with opened(browser, address(name)) as notebook:
        look(notebook, name)
        for number, id in enumerate(sorted(pictured(name), key=notebook.place), start=1):
            notebook.picture(f"{name[:2]}-figure-{number}", id)


def test_an_exercise_is_answered_wrong_then_right_by_keyboard(browser, address):
    verdicts = {"...": "not attempted yet", "[W_x, W_h, b]": "not yet", "[W_x.T, W_h.T, b]": "correct"}
    with opened(browser, address("00_start_here.ipynb")) as notebook:
        notebook.run("setup")
        for answer, verdict in verdicts.items():
            notebook.go_to("to-keras")
            notebook.press("Enter", "Control+Home", "ArrowDown", "End", "Shift+Home", "Delete")
            notebook.page.keyboard.type(f"return {answer}")
            assert f"to_keras: {verdict}." in notebook.run("to-keras")
            notebook.picture(f"exercise-{verdict.replace(' ', '-')}", "to-keras")
