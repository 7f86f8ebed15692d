"""The arithmetic of the benchmark and the page that it writes; what it measures, `make bench` measures."""

import json
import threading
import time

import keras
import nbformat
import numpy as np
import pytest
from benchmarks import child, correctness, page, paired
from benchmarks import lessons as seconds
from benchmarks import start as from_clone
from benchmarks.rows import Row, Setting, missing
from fast import EAGER

import rnnkit


def test_a_ratio_is_the_median_over_pairs_with_its_quartiles():
    found = paired.summary([1, 2, 30, 4, 5], [1, 1, 10, 1, 1])  # 1, 2, 3, 4, 5
    assert found == {"ratio": 3, "low": 2, "high": 4, "pairs": 5}


def test_noise_is_the_reference_against_itself():
    times = paired.Times({"ours": [2, 4], "theirs": [1, 2], "plain": [1, 1]}, "plain", [3, 3])
    assert times.ratio("ours")["ratio"] == 3
    assert times.ratio("ours", "theirs")["ratio"] == 2
    assert times.ratio("ours", "theirs")["noise"]["ratio"] == 3
    assert times.times("theirs", 4).ratio("ours", "theirs")["ratio"] == 0.5


def test_calls_alternate_and_nobody_always_follows_the_same_one():
    order = []
    ways = {"ours": lambda: order.append("ours"), "plain": lambda: order.append("plain")}
    times = paired.calls(ways, "plain", turns=2, at_least=2, warm_up=1)
    assert order[:2] == ["ours", "plain"]  # uncounted
    assert order[2:] == ["ours", "plain", "plain", "plain", "plain", "ours"]  # the reference twice in each round
    assert [len(took) for took in (*times.seconds.values(), times.again)] == [2, 2, 2]


def test_calls_end_when_the_time_is_over_but_not_before_there_are_enough():
    def slow():
        time.sleep(0.01)

    times = paired.calls({"plain": slow}, "plain", turns=50, seconds=0.0, at_least=4)
    assert len(times.again) == 4


class Fits:
    """Fits that write down when they run, and look whether another one does."""

    def __init__(self):
        self.order, self.running = [], threading.Lock()

    def named(self, name, fails_at=None):
        def fit(epochs, callbacks):
            for epoch in range(epochs):
                for callback in callbacks:
                    callback.on_epoch_begin(epoch)
                assert self.running.acquire(blocking=False), "two at once"
                self.order.append((name, epoch))
                time.sleep(0.01)
                self.running.release()
                if epoch == fails_at:
                    raise RuntimeError(f"{name} is broken")
                for callback in callbacks:
                    callback.on_epoch_end(epoch)

        return fit


def test_fits_take_turns_epoch_by_epoch_and_never_run_together():
    fits = Fits()
    times = paired.fits({name: fits.named(name) for name in ("ours", "plain")}, "plain", epochs=5, warm_up=2)
    by_epoch = [sorted(name for name, at in fits.order if at == epoch) for epoch in range(5)]
    assert by_epoch == 5 * [["ours", "plain", "plain"]]
    assert [epoch for _, epoch in fits.order] == sorted(epoch for _, epoch in fits.order)
    assert [fits.order[place][0] for place in (0, 3)] == ["ours", "plain"]  # there and back
    assert [len(took) for took in (*times.seconds.values(), times.again)] == [3, 3, 3]
    assert min(times.again) >= 0.01


@pytest.mark.parametrize("fails_at", [0, 2])
def test_a_fit_that_fails_is_told_and_ends_the_others(fails_at):
    fits, before = Fits(), threading.active_count()
    with pytest.raises(RuntimeError, match="ours is broken"):
        paired.fits({"plain": fits.named("plain"), "ours": fits.named("ours", fails_at)}, "plain", epochs=5)
    assert max(epoch for _, epoch in fits.order) == fails_at
    assert threading.active_count() == before


def test_a_fit_that_ends_early_is_no_pair():
    fits = Fits()
    ways = {"plain": fits.named("plain"), "ours": lambda epochs, callbacks: fits.named("ours")(3, callbacks)}
    times = paired.fits(ways, "plain", epochs=6)
    with pytest.raises(ValueError, match="argument 2 is"):
        times.ratio("ours")


def test_keras_fits_take_turns():
    def fit(epochs, callbacks):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", **EAGER)
        model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=epochs, callbacks=callbacks, verbose=0)

    times = paired.fits({"ours": fit, "plain": fit}, "plain", epochs=4, warm_up=1)
    assert len(times.seconds["ours"]) == len(times.again) == 3


def test_the_truth_of_the_table_of_tools_is_the_probes():
    x, y = correctness.data()
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.SimpleRNN(8, name="rnn"), keras.layers.Dense(1)])
    model.compile(loss="mse")
    true = correctness.truth(model.get_weights(), x, y)
    found = rnnkit.probes.state_gradients(model, x, y)["rnn"]["h"]
    assert correctness.compared(found, true)["verdict"] == "right"
    assert "zeros" in correctness.compared(np.where(np.arange(12)[:, None] == 11, found, 0), true)["detail"]
    assert correctness.compared(2 * found, true)["verdict"] == "not dL/dh_t"


# --- the page ----------------------------------------------------------------------------------------------------

SETTINGS = [Setting(), Setting("tensorflow", False), Setting("jax", True, "GRU", 200)]


@pytest.fixture
def made(tmp_path):
    """The files of a run: a goal met, one missed, a peer that is missing, a process that died."""

    def write(theme, lines):
        with (tmp_path / f"{theme}.tensorflow.jsonl").open("w", encoding="utf-8") as file:
            for line in lines:
                print(json.dumps(line), file=file)

    noise = {"noise": paired.summary([1.0], [1.0])}
    fine, bad = paired.summary([1.01], [1.0]) | noise, paired.summary([1.5], [1.0]) | noise
    write(
        "recorder",
        [
            {"versions": {"keras": "3.15.1"}},
            {"setting": SETTINGS[0]._asdict(), "results": {"recorder": fine, "every ten": bad}},
        ],
    )
    page.fill_in(tmp_path / "recorder.tensorflow.jsonl", "recorder", SETTINGS, "the process ended with status -9")
    peer = Setting("torch", False, variant="wandb")
    write("peers", [{"setting": peer._asdict(), "results": {"wandb": missing("wandb is not to be had here")}}])
    return tmp_path


def page_of(folder):
    found, versions = page.read(("recorder", "peers"), folder)
    return "\n".join(page.text(found, versions, "2 cores, x86-64", "2026-01-02"))


def test_a_missed_goal_stays_in_and_is_called_missed_with_its_reason(made):
    from benchmarks.recorder import ROWS

    said = page_of(made)
    assert "| LSTM, T=50 | TensorFlow, jit | 1.01 | 1.01 to 1.01 | 1 to 1 | ≤ 1.03 | met |" in said
    assert "| LSTM, T=50 | TensorFlow, jit | 1.5 | 1.5 to 1.5 | 1 to 1 | ≤ 1.03 | **missed** |" in said
    assert f"Where the goal is missed: {ROWS['every ten'].why}" in said
    assert ROWS["recorder"].why not in said  # all that was measured of it met the goal
    assert "Of 2 settings with a goal, 1 meet it." in said


def test_what_was_not_measured_says_why(made):
    said = page_of(made)
    assert "| LSTM, T=50 | torch | not measured | | | | wandb is not to be had here |" in said
    # two of the three settings were still to come when the process died, three rows each
    assert said.count("| the process ended with status -9 |") == 6


def test_the_page_names_date_machine_and_versions(made):
    assert "Measured on 2026-01-02; 2 cores, x86-64; keras 3.15.1." in page_of(made)


def test_the_page_and_its_picture_are_written(made, tmp_path):
    where = tmp_path / "docs"
    where.mkdir()
    page.write(("recorder", "peers"), made, where)
    said = (where / "benchmarks.md").read_text(encoding="utf-8")
    (alt,) = (line for line in said.splitlines() if line.startswith("!["))
    assert alt.endswith("(benchmarks.png)")
    assert "left of 1 ours is faster" in alt
    assert (where / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


def test_a_goal_may_depend_on_the_setting():
    row = Row("ours", "theirs", lambda setting: 0.85 if setting.jit else 1.25)
    assert [row.bound(setting) for setting in SETTINGS] == [0.85, 1.25, 0.85]


def test_a_row_without_a_goal_has_no_verdict():
    assert page.Measured("probes", "singular values", Setting(), {"ratio": 7.0}).verdict == ""


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("theme", ["imports", "correctness", "recorder", "peers", "probes", "cost", "sweeps", "loops"])
def test_each_setting_is_measured_once_in_a_process_of_its_backend(theme, quick):
    groups = child.groups(theme, quick)
    settings = [setting for group in groups.values() for setting in group]
    assert len(settings) == len(set(settings)) > 0
    assert all(setting.backend == key.split("-")[0] for key, group in groups.items() for setting in group)


def test_what_goes_wrong_in_a_setting_is_its_result():
    class Broken:
        ROWS = ("one", "two")

        @staticmethod
        def measure(setting, quick):
            raise RuntimeError("no such thing\nmore")

    reason = {"missing": "failed: RuntimeError: no such thing"}
    assert child.results(Broken, Setting(), True) == {"one": reason, "two": reason}
    assert child.results(Broken, Setting(variant="two"), True) == {"two": reason}


def test_the_seconds_of_lessons_and_their_goals():
    taken = {
        "01": {"seconds": 50, "first_figure": 4.0, "cells": [{"cell": "a", "seconds": 1}, {"cell": "b", "seconds": 3}]},
        "02": {"seconds": 95, "first_figure": 12.0, "cells": [{"cell": "c", "seconds": 31}]},
        "03": {"seconds": 5, "first_figure": None, "cells": [{"cell": "d", "seconds": 1}]},
    }
    lines = seconds.table(taken)
    assert "| 01 | 50 | 4.0 | `b` 3.0 | met |" in lines
    assert "| 02 | 95 | 12.0 | `c` 31.0 | **missed**: lesson over 90 s, a cell over 30 s, figure after 10 s |" in lines
    assert "| 03 | 5 | none | `d` 1.0 | met |" in lines
    assert [line for line in lines if line.startswith("| 0") and line.count("|") == 4] == [
        "| 01 | `b` | 3.0 |",
        "| 02 | `c` | 31.0 |",
    ]


def test_the_seconds_from_a_fresh_clone():
    seconds = {"clone": 1.0, "environment": 40.0, "lesson": 20.4}
    taken = [
        {"installer": "uv", "downloads": True, "seconds": seconds | {"environment": 90.0}},
        {"installer": "uv", "downloads": False, "seconds": seconds},
        {"installer": "pip", "missing": "no pip"},
    ]
    lines = from_clone.table(taken)
    assert "| uv | downloaded | 1 | 90 | 20 | 111 |  |  |" in lines
    assert "| uv | in the cache | 1 | 40 | 20 | 61 | ≤ 60 | **missed** |" in lines
    assert sum("not measured: no pip" in line for line in lines) == 1


FIGURE = "%matplotlib inline\nimport matplotlib.pyplot as plt; _ = plt.plot([1, 2])"


def test_a_notebook_is_timed_cell_by_cell_until_its_first_figure(tmp_path):
    sources = ["import time; time.sleep(0.2)", FIGURE, "1 / 1"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    (tmp_path / "lessons").mkdir()
    nbformat.write(notebook, tmp_path / "lessons" / "01_one.ipynb")
    seconds.measure(tmp_path / "lessons", tmp_path / "lessons.json")
    one = json.loads((tmp_path / "lessons.json").read_text(encoding="utf-8"))["01_one"]
    first, _, last = (cell["seconds"] for cell in one["cells"])
    assert first >= 0.2 > last
    assert first < one["first_figure"] < one["seconds"]
