"""Sweeps: the same as a plain loop whatever the number of workers, honest about failures, and gone without a trace."""

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import psutil
import pytest
from fast import EAGER

import rnnkit
from rnnkit import sweeps
from rnnkit.sweeps import _pool, _workers

ON_JAX = importlib.util.find_spec("jax") is not None


@pytest.fixture(autouse=True)
def _as_many_workers_as_asked_for(monkeypatch):
    monkeypatch.setattr(_pool, "worker_count", lambda workers: workers)  # also where there is one core


@pytest.fixture
def _workers_on_this_backend(monkeypatch):
    """Workers run what the test runs, so that both draw the same random numbers; others start sooner."""
    monkeypatch.setattr(_workers, "backend", keras.backend.backend)


@pytest.fixture(autouse=True, scope="module")
def _dismissed_at_the_end():
    yield
    _pool.dismiss_all()


def train(seed, cell="GRU", rate=1e-2):
    x, y = rnnkit.tasks.adding_problem(128, 8, seed)
    layer = getattr(keras.layers, cell)(4)
    model = keras.Sequential([keras.Input((8, 2)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse", **EAGER)
    history = model.fit(x, y, batch_size=64, epochs=1, verbose=0).history
    return {"losses": history["loss"], "weights": np.sum([np.abs(w).sum() for w in model.get_weights()])}


def plain_loop(function, seeds, **settings):
    """Return what a reader would write: {(values of the settings..., seed): measured}."""
    measured = {}
    for values in itertools.product(*settings.values()):
        for seed in seeds:
            keras.utils.set_random_seed(seed)
            measured[(*values, seed)] = function(seed=seed, **dict(zip(settings, values, strict=True)))
    return measured


SETTINGS = {"cell": ["SimpleRNN", "GRU"], "rate": [1e-3, 1e-2]}


@pytest.fixture(scope="module")
def by_hand():
    return plain_loop(train, range(2), **SETTINGS)


@pytest.mark.slow
@pytest.mark.usefixtures("_workers_on_this_backend")
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_as_a_plain_loop_for_any_number_of_workers(workers, by_hand):
    result = sweeps.sweep(train, seeds=range(2), workers=workers, **SETTINGS)
    for (cell, rate, seed), measured in by_hand.items():
        np.testing.assert_allclose(
            result.values("losses", cell=cell, rate=rate)[seed], measured["losses"], rtol=2e-5, err_msg=f"{cell} {rate}"
        )
        np.testing.assert_allclose(result.values("weights", cell=cell, rate=rate)[seed], measured["weights"], rtol=1e-5)


def imports_tensorflow(seed):
    before = "tensorflow" in sys.modules
    import tensorflow

    return {"before": before, "three": int(tensorflow.reduce_sum(tensorflow.ones(3)))}


@pytest.mark.slow
@pytest.mark.skipif(not ON_JAX, reason="needs JAX")
def test_jax_workers_import_tensorflow_only_for_who_asks(monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(_workers, "backend", lambda: "jax")
    _pool.dismiss_all()
    result = sweeps.sweep(imports_tensorflow, seeds=[0], workers=1)
    assert result.values("before").tolist() == [False]
    assert result.values("three").tolist() == [3]


def test_to_the_bit_from_run_to_run_and_for_any_number_of_workers():
    runs = [sweeps.sweep(train, seeds=[3, 1], workers=workers, cell=["GRU", "LSTM"]) for workers in (1, 2, 3, 2)]
    for run in runs[1:]:
        for name in ("losses", "weights"):
            np.testing.assert_array_equal(run.values(name), runs[0].values(name))
    one = sweeps.sweep(train, seeds=[1], workers=1, cell=["GRU"]).values("losses")
    np.testing.assert_array_equal(runs[0].values("losses", cell="GRU")[1], one[0])  # whatever ran before


def train_from_numpy(seed):
    """No random number of Keras's: the weights come from NumPy, the batches in their order."""
    draw = np.random.default_rng(seed)
    x, y = rnnkit.tasks.adding_problem(128, 8, seed)
    model = keras.Sequential([keras.Input((8, 2)), keras.layers.GRU(4), keras.layers.Dense(1)])
    model.set_weights([draw.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    return {"losses": model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history["loss"]}


@pytest.mark.skipif(not ON_JAX, reason="needs JAX")
def test_jax_workers_train_what_this_process_would(monkeypatch):
    monkeypatch.setattr(_workers, "backend", lambda: "jax")
    away = sweeps.sweep(train_from_numpy, seeds=range(2)).values("losses")
    here = sweeps.sweep(train_from_numpy, seeds=range(2), workers=0).values("losses")
    np.testing.assert_allclose(away, here, rtol=1e-5)


@pytest.mark.parametrize(("found", "on"), [(object(), "jax"), (None, "tensorflow")])
def test_workers_run_jax_where_it_is_installed(found, on, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "jax" else pytest.fail(name))
    assert _workers.backend() == on


def whereabouts(seed, there=True):
    return {
        "pid": os.getpid(),
        "on_jax": keras.backend.backend() == "jax",
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)),
    }


def idle():
    """Return the process numbers of the workers that wait."""
    return {worker._process.pid for worker in _pool._idle}


@pytest.mark.slow
def test_workers_started_early_are_used_kept_for_the_next_sweep_and_dismissed_at_the_end():
    _pool.dismiss_all()
    started = time.monotonic()
    sweeps.start_workers()
    assert time.monotonic() - started < 2
    early = idle()
    assert len(early) == 2
    first = set(sweeps.sweep(whereabouts, seeds=range(8), there=[True]).values("pid"))
    second = set(sweeps.sweep(whereabouts, seeds=range(8)).values("pid"))
    assert first | second <= early
    assert os.getpid() not in early
    sweeps.start_workers()
    assert idle() == early
    assert all(map(psutil.pid_exists, early))
    _pool.dismiss_all()
    assert not any(map(psutil.pid_exists, early))


@pytest.mark.slow
def test_a_worker_that_died_while_idle_is_replaced_by_one_that_is_kept():
    _pool.dismiss_all()
    sweeps.start_workers(1)
    _pool._idle[0]._process.kill()  # before it has imported anything
    _pool._idle[0]._process.wait()
    (dead,) = idle()
    result = sweeps.sweep(whereabouts, seeds=[0], workers=1)
    assert result.values("threads").tolist() == [1]
    assert idle() == set(result.values("pid"))
    assert dead not in idle()


def sweep_in_a_sweep(seed):
    return {"inner": sweeps.sweep(whereabouts, seeds=[seed]).values("pid")[0], "outer": os.getpid()}


def test_a_sweep_in_a_worker_runs_there():
    result = sweeps.sweep(sweep_in_a_sweep, seeds=range(2))
    np.testing.assert_array_equal(result.values("inner"), result.values("outer"))


SHARED = []


def change_what_is_shared(seed):
    SHARED.append(seed)
    return {"draws": np.random.default_rng(0).normal(size=2), "global": np.random.rand()}  # noqa: NPY002


def test_each_run_draws_its_own_numbers():
    result = sweeps.sweep(change_what_is_shared, seeds=[4, 5, 6])
    np.random.seed(5)  # noqa: NPY002
    assert result.values("global")[1] == np.random.rand()  # noqa: NPY002
    assert SHARED == []


# --- failures -------------------------------------------------------------------------------------------------


def fails_at_times(seed, rate, cell):
    if (seed, rate, cell) in {(1, 0.1, "LSTM"), (2, 0.2, "GRU")}:
        raise ValueError(f"the loss was {seed / 0.5} at the end")
    return {"loss": seed + 100 * rate}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_is_told_with_its_settings_and_the_others_are_kept(workers):
    with pytest.raises(sweeps.SweepError) as caught:
        sweeps.sweep(fails_at_times, seeds=range(3), workers=workers, rate=[0.1, 0.2], cell=["GRU", "LSTM"])
    said = str(caught.value)
    assert "2 of 12 runs failed" in said
    assert "fails_at_times(seed=1, rate=0.1, cell='LSTM'): ValueError: the loss was 2.0 at the end" in said
    assert "fails_at_times(seed=2, rate=0.2, cell='GRU'): ValueError: the loss was 4.0 at the end" in said
    assert "test_sweeps.py" in said
    assert "raise ValueError(f" in said  # the line it came from
    assert "10 others are kept" in said
    result = caught.value.result
    np.testing.assert_array_equal(result.values("loss", rate=0.1, cell="LSTM"), [10, np.nan, 12])
    assert result.success("loss", "<", 50, rate=0.1, cell="LSTM") == 2 / 3
    assert [(seed, settings["cell"]) for settings, seed, _ in caught.value.failures] == [(1, "LSTM"), (2, "GRU")]


def kills_its_process(seed):
    if seed == 1:
        os.write(2, b"some library: out of memory\n")
        os._exit(3)
    return {"loss": seed}


def test_a_worker_that_dies_costs_one_run():
    with pytest.raises(sweeps.SweepError, match=r"seed=1\): the worker process ended without an answer") as caught:
        sweeps.sweep(kills_its_process, seeds=range(6))
    assert "It last said: some library: out of memory" in str(caught.value)
    np.testing.assert_array_equal(caught.value.result.values("loss"), [0, np.nan, 2, 3, 4, 5])


def always_fails(seed):
    raise KeyError("typo")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_that_cannot_work_is_not_tried_for_every_seed(workers):
    """The last test that needs workers: it ends them."""
    with pytest.raises(sweeps.SweepError, match=r"always_fails\(seed=0\): KeyError: 'typo'") as caught:
        sweeps.sweep(always_fails, seeds=range(100), workers=workers)
    assert "96 others were not tried" in str(caught.value)
    assert caught.value.result is None


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (0.5, "Received: 0.5"),
        ({}, "Received: a dict with the keys"),
        ({1: 0.5}, r"Received: a dict with the keys \[1\]"),
        ({"loss": "low"}, "Received: loss='low'"),
        (None, "Received: None"),
    ],
)
def test_what_is_not_measured_in_numbers(returned, words):
    with pytest.raises(sweeps.SweepError, match=words):
        sweeps.sweep(lambda seed: returned, seeds=[0], workers=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seeds": 5}, r"Pass range\(5\)"),
        ({"seeds": []}, "Seeds are"),
        ({"seeds": [1, 1]}, "Seeds are different"),
        ({"seeds": [-1]}, "at least 0"),
        ({"seeds": [0.5]}, "whole numbers"),
        ({"seeds": [0], "rate": 0.1}, "rate=0.1"),
        ({"seeds": [0], "cell": "GRU"}, "cell='GRU'"),
        ({"seeds": [0], "cell": []}, "list of values"),
        ({"seeds": [0], "rate": [1, 1.0]}, "different"),
        ({"seeds": [0], "workers": -1}, "workers=-1"),
        ({"seeds": [0], "workers": 1.5}, "workers=1.5"),
    ],
)
def test_arguments_that_make_no_sweep(arguments, words):
    with pytest.raises(ValueError, match=words):
        sweeps.sweep(whereabouts, **arguments)


def test_what_cannot_be_sent_is_told_with_the_next_step():
    file = (open(os.devnull) for _ in range(1))  # noqa: SIM115  (a generator cannot be pickled)
    with pytest.raises(TypeError, match="inside the function, or train in this process with workers=0"):
        sweeps.sweep(lambda seed: {"loss": len(list(file))}, seeds=[0])


def test_without_cloudpickle(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ImportError, match="pip install cloudpickle"):
        sweeps.sweep(whereabouts, seeds=[0])


# --- what comes back ------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    """3 cells x 2 rates x 4 seeds of random numbers, by hand and as a Sweep."""
    numbers = np.random.default_rng(0).normal(size=(3, 2, 4))
    settings = {"cell": ["SimpleRNN", "GRU", "LSTM"], "rate": [0.1, 0.01]}
    runs = [{"loss": value, "curve": [value, value + 1]} for value in numbers.ravel()]
    return numbers, sweeps.Sweep(settings, [0, 1, 2, 3], runs)


def test_values_in_the_order_of_the_seeds(table):
    numbers, result = table
    np.testing.assert_array_equal(result.values("loss", cell="GRU", rate=0.01), numbers[1, 1])
    np.testing.assert_array_equal(result.values("curve", rate=0.1, cell="LSTM")[:, 1], numbers[2, 0] + 1)


def test_a_setting_left_open_is_an_axis_before_the_seeds(table):
    numbers, result = table
    np.testing.assert_array_equal(result.values("loss"), numbers)
    np.testing.assert_array_equal(result.values("loss", cell="LSTM"), numbers[2])
    np.testing.assert_array_equal(result.values("loss", rate=0.01), numbers[:, 1])
    assert result.values("curve", rate=0.01).shape == (3, 4, 2)
    assert result.median("curve", cell="GRU", rate=0.1).shape == (2,)


def test_median_spread_and_success_are_over_the_seeds(table):
    numbers, result = table
    assert result.median("loss", cell="GRU", rate=0.01) == np.median(numbers[1, 1])
    np.testing.assert_array_equal(result.median("loss"), np.median(numbers, axis=2))
    low, high = result.spread("loss", rate=0.1)
    np.testing.assert_array_equal(low, [min(row[0]) for row in numbers])
    np.testing.assert_array_equal(high, [max(row[0]) for row in numbers])
    assert result.success("loss", "<=", 0.0, cell="LSTM", rate=0.1) == sum(numbers[2, 0] <= 0) / 4
    np.testing.assert_array_equal(result.success("loss", ">", 0.0), (numbers > 0).mean(axis=2))


def test_a_frame_has_a_row_a_run(table):
    numbers, result = table
    frame = result.to_frame()
    assert list(frame.columns) == ["cell", "rate", "seed", "loss"]
    for row in frame.itertuples():
        place = result.settings["cell"].index(row.cell), result.settings["rate"].index(row.rate), row.seed
        assert row.loss == numbers[place]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda result: result.values("accuracy"), "What was measured is"),
        (lambda result: result.values("loss", cells="GRU"), "The settings are"),
        (lambda result: result.values("loss", cell="Gru"), "had the values"),
        (lambda result: result.success("loss", "=<", 1), "one of >="),
    ],
)
def test_questions_that_have_no_answer(ask, words, table):
    with pytest.raises(ValueError, match=words):
        ask(table[1])


def test_arrays_of_different_lengths_are_told():
    result = sweeps.sweep(lambda seed: {"curve": range(seed)}, seeds=[2, 3], workers=0)
    with pytest.raises(ValueError, match="pad them"):
        result.values("curve")


def test_runs_that_measure_different_things():
    with pytest.raises(ValueError, match="measures the same things"):
        sweeps.sweep(lambda seed: {f"loss{seed}": 0}, seeds=[2, 3], workers=0)


# --- as a reader runs it: a script, a notebook, Ctrl-C ------------------------------------------------------------

SCRIPT = """
import rnnkit; rnnkit.start_lesson()
import keras

class Cell(keras.layers.Layer):
    state_size = 3
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1] + 3, 3))
    def call(self, x, states):
        h = keras.ops.tanh(keras.ops.concatenate([x, states[0]], -1) @ self.w)
        return h, [h]

def data(seed):
    return rnnkit.tasks.adding_problem(64, 5, seed)

def train(seed):
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.RNN(Cell()), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    print("not to be seen")
    return {"loss": model.fit(*data(seed), verbose=0).history["loss"][0]}
"""


@pytest.mark.slow
def test_functions_and_classes_of_a_script_and_not_a_word():
    code = f"{SCRIPT}\nprint(rnnkit.sweeps.sweep(train, seeds=range(2), workers=1).values('loss').shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("(2,)", "")


@pytest.mark.slow
@pytest.mark.tensorflow  # the notebook's own
def test_a_notebook_stores_nothing_of_the_progress():
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    swept = "result = rnnkit.sweeps.sweep(train, seeds=range(3), workers=1)"
    shape = "print(result.values('loss').shape)"
    compared = "import os; os.environ['RNNKIT_EXPECT'] = 'correct'"
    sources = SCRIPT, swept, shape, compared, swept, shape
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    setup, seen, shape, compared, unseen, shape_again = (cell.outputs for cell in notebook.cells)
    assert setup == compared == unseen == []
    assert [output.data for output in seen] == [{}]
    assert shape[0].text == shape_again[0].text == "(3,)\n"


LONG = """
import os, pathlib, time, rnnkit
def train(seed):
    pathlib.Path(os.environ["MARKER"]).touch()
    time.sleep(60)
    return {"loss": 0}
rnnkit.sweeps.sweep(train, seeds=range(4))
"""


def command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def descendants(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupt(stop, tmp_path):
    marker = tmp_path / "training"
    parent = subprocess.Popen(
        [sys.executable, "-c", LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "MARKER": str(marker)},
    )
    deadline = time.monotonic() + 120
    # A worker trains, so that the parent waits: while it imports something, an interrupt may be swallowed there.
    while not marker.exists() and parent.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    children = [child for child in descendants(parent) if "rnnkit.sweeps._workers" in command(child)]
    said = None
    try:
        for _ in range(6):  # as a user does whose first Ctrl-C fell into an import or a destructor, which swallow it
            parent.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = parent.communicate(timeout=20)
                break
    finally:
        parent.kill()
        parent.communicate()
    assert children
    assert said is not None, "it did not end"
    if stop == signal.SIGINT:
        assert said.strip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, textwrap.indent(said, "  ")
