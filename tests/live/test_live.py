"""The live plot: what it draws and when, that it is not to be felt, and that it is nothing outside a notebook."""

import base64
import io
import itertools
import os
import re
import sys
from types import SimpleNamespace

import IPython.display
import keras
import nbformat
import numpy as np
import pytest
from fast import EAGER
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

import rnnkit
from rnnkit import _display, live

EXAMPLES, LENGTH, BATCH = 16, 7, 4
STEPS = EXAMPLES // BATCH


def build(cell=keras.layers.SimpleRNN):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((LENGTH, 2)), cell(4, name="rnn"), keras.layers.Dense(1, name="head")])
    model.compile(keras.optimizers.Adam(0.01), "mse", **EAGER)
    return model


def data():
    draw = np.random.default_rng(0)
    return draw.normal(size=(EXAMPLES, LENGTH, 2)).astype("float32"), draw.normal(size=(EXAMPLES, 1)).astype("float32")


def fit(model, *callbacks, epochs=1):
    x, y = data()
    return model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def shown(monkeypatch):
    """A notebook's page: for each display, all that it has shown, as (data, metadata)."""
    pages = []

    def display(data, *, raw, display_id):
        assert raw
        assert display_id is True
        pages.append([(data, {})])

        def update(data, *, raw, metadata=None, page=pages[-1]):
            assert raw
            page.append((data, metadata or {}))

        return SimpleNamespace(update=update)

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    return pages


def at_every_step(recorder, **options):
    """A live plot whose clock goes on by an hour a step, and the callback that moves its hands."""
    plot, clock = rnnkit.LivePlot(recorder, **options), Clock()
    plot._clock = clock
    return plot, keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(clock, "now", clock.now + 3600)
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_it_draws_while_training_and_once_more_at_the_end(order, shown):
    recorder = rnnkit.GradientRecorder()
    plot, hands = at_every_step(recorder)
    pair = [recorder, plot]
    fit(build(), hands, *(pair[place] for place in order))
    (((first, _), *frames, (last, metadata)),) = shown
    assert first == {}  # a place above the progress bar
    drawn = [data["text/plain"].splitlines()[-1] for data, _ in frames]
    assert drawn == [f"Up to training step {step}." for step in range(STEPS)]  # also ahead of the recorder
    assert last["text/plain"].endswith(f"Up to training step {STEPS - 1}.")
    norms = {name: values[-1] for name, values in recorder.history.items()}
    low, high = min(norms, key=norms.get), max(norms, key=norms.get)
    alt = (
        "Norm of the gradient of 5 weights at each training step, on a log axis. At the last one, "
        f"from {norms[low]:.2g} ({low}) to {norms[high]:.2g} ({high})."
    )
    assert last["text/plain"].startswith(alt)
    assert f'<img alt="{alt}"' in last["text/html"]
    assert metadata["image/png"]["alt"] == alt


def test_a_frame_is_the_picture_with_alt_text_and_caption():
    figure = Figure(figsize=(3, 2), facecolor="red")
    data, metadata = live._bundle(figure, 'less than "1" & more', "at <last>")
    alt, source = re.search(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)"', data["text/html"]).groups()
    assert alt == "less than &quot;1&quot; &amp; more"
    assert "<figcaption>at &lt;last&gt;</figcaption>" in data["text/html"]
    assert data["image/png"] == source
    assert metadata["image/png"]["alt"] == 'less than "1" & more'
    assert data["text/plain"] == 'less than "1" & more\nat <last>'
    image = Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")
    assert (image.size, image.getpixel((5, 5))) == ((300, 200), (255, 0, 0))


def test_without_keep_nothing_is_left(shown):
    recorder = rnnkit.GradientRecorder()
    plot, hands = at_every_step(recorder, keep=False)
    fit(build(), recorder, plot, hands)
    ((_, *frames, (last, metadata)),) = shown
    assert len(frames) > 1
    assert (last, metadata) == ({}, {})


def test_each_fit_has_a_picture_of_its_own(shown):
    recorder = rnnkit.GradientRecorder()
    plot = rnnkit.LivePlot(recorder)
    plot._clock = Clock()
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(build(), recorder, plot, stop)
    fit(build(), recorder, plot)
    interrupted, whole = shown
    assert len(interrupted) == 1
    assert len(whole) == 2


@pytest.mark.parametrize(("cell", "states"), [(keras.layers.GRU, ["rnn"]), (keras.layers.LSTM, ["rnn", "rnn/c"])])
def test_a_flow_is_drawn_one_map_a_state(cell, states, shown):
    flow = rnnkit.StateGradientRecorder(*data(), every=2)
    plot, hands = at_every_step(flow)
    fit(build(cell), flow, plot, hands)
    ((_, *frames, (last, _)),) = shown
    assert len(frames) == len(flow.steps)  # none for a step that recorded nothing new
    figure = Figure()
    said = plot._picture(figure)
    maps = [ax for ax in figure.axes if ax.get_xlabel() == "time step $t$"]
    assert len(maps) == len(states)
    for state, ax in zip(states, maps, strict=True):
        np.testing.assert_allclose(
            ax.collections[0].get_array(), np.log10(flow.history[state], dtype="float64"), rtol=1e-6
        )
        assert f"{state}: {flow.history[state][-1, 0]:.2g} and {flow.history[state][-1, -1]:.2g}" in said
    assert said in last["text/plain"]


def test_a_picture_of_ones_own(shown):
    recorder = rnnkit.GradientRecorder()
    plot = rnnkit.LivePlot(recorder, draw=lambda ax: ax.plot(recorder.global_norm), alt="The norm of all.")
    plot._clock = Clock()
    fit(build(), recorder, plot)
    ((_, (last, _)),) = shown
    assert last["text/plain"] == f"The norm of all.\nUp to training step {STEPS - 1}."
    figure = Figure()
    plot._picture(figure)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), recorder.global_norm)


def recorded(count, diverged=None):
    """A recorder that has seen `count` steps of two weights, every other step of training."""
    norms = np.random.default_rng(0).lognormal(size=(count, 3)).astype("float32")
    if diverged is not None:
        norms[diverged:] = np.nan
    return SimpleNamespace(
        steps=2 * np.arange(count), history={"a/kernel": norms[:, 0], "b/kernel": norms[:, 1]}, global_norm=norms[:, 2]
    )


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 5003, 100_000])
def test_of_many_steps_a_thousand_are_drawn_the_last_among_them(count):
    recorder, figure = recorded(count), Figure()
    live._norms(recorder, figure)
    by_name = {line.get_label(): line for line in figure.axes[0].lines}
    line = by_name.get("_a/kernel: all", by_name["a/kernel"])
    steps, norms = line.get_data()
    assert len(steps) == count if count <= 1000 else 500 < len(steps) <= 1001
    assert (steps[0], steps[-1]) == (0, 2 * (count - 1))
    np.testing.assert_array_equal(norms, recorder.history["a/kernel"][steps // 2])


def test_the_step_that_diverged_is_among_those_drawn():
    recorder, figure = recorded(5003, diverged=4321), Figure()
    said = live._norms(recorder, figure)
    (marks,) = (line for line in figure.axes[0].lines if line.get_label() == "_a/kernel: inf or NaN")
    assert marks.get_xdata()[0] == 2 * 4321
    assert "from nan (a/kernel) to nan (a/kernel)" in said


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("took", [0.01, 0.15, 2.0])
@pytest.mark.parametrize("step", [0.003, 0.7, 5.0])
def test_drawing_takes_no_more_than_its_share_of_the_time(took, step, kept):
    clock = Clock()
    pace = live._Pace(1.0, clock, kept)
    ends, spent = [0.0], 0.0
    while clock.now < 600:
        clock.now += step
        if pace.due():
            assert clock.now - ends[-1] >= 1.0
            with pace.drawing():
                clock.now += took
            ends.append(clock.now)
            spent += took
            if len(ends) > 2 or took <= 0.15:  # how long the first takes cannot be known before
                assert spent + kept * took <= 0.05 * (clock.now + kept * took)
    # And no less than it may: as often as the share and the second between two allow, give or take a step.
    assert len(ends) >= 0.8 * 600 / (max(1.0 + took, took / 0.05) + step)


def test_a_picture_that_suddenly_takes_long_is_waited_for():
    clock = Clock()
    pace = live._Pace(1.0, clock, kept=False)
    for took in (0.1, 30.0, 0.1):
        while not pace.due():
            clock.now += 0.1
        with pace.drawing():
            clock.now += took
    assert clock.now > (0.1 + 30 + 0.1) / 0.05


def test_a_picture_that_cannot_be_drawn_stops_nothing_and_says_why_once(shown, capsys, monkeypatch):
    alone = fit(build(), epochs=2).history
    recorder = rnnkit.GradientRecorder()
    tried = []

    def fails(ax):
        tried.append(1)
        raise RuntimeError("no ink")

    plot, hands = at_every_step(recorder, draw=fails, alt="nothing")
    assert fit(build(), recorder, plot, hands, epochs=2).history == alone
    assert capsys.readouterr().out == "The live plot ends here. Training goes on. RuntimeError: no ink\n"
    assert len(tried) == 1
    assert len(shown[0]) == 1


def test_a_flow_that_diverged_stops_nothing(shown, capsys):
    model = build()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    flow = rnnkit.StateGradientRecorder(*data(), every=1)
    fit(model, flow, rnnkit.LivePlot(flow))
    assert capsys.readouterr().out.startswith("The live plot ends here. Training goes on. ValueError: ")


def test_training_is_the_same_to_the_bit_and_nothing_stays_on_the_model(shown):
    plain, watched = build(), build()
    fit(plain)
    recorder = rnnkit.GradientRecorder()
    plot, hands = at_every_step(recorder)
    names = set(vars(watched)), set(vars(watched.optimizer))
    fit(watched, plot, recorder, hands)
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    fit(plain), fit(watched)  # what Keras itself adds when training begins is on both
    assert (set(vars(watched)) - names[0], set(vars(watched.optimizer)) - names[1]) == (
        set(vars(plain)) - names[0],
        set(vars(plain.optimizer)) - names[1],
    )


@pytest.mark.parametrize("before", [False, True])
def test_a_recorder_that_is_not_part_of_the_fit_is_answered(before):
    recorder = rnnkit.GradientRecorder()
    model = build()
    if before:
        fit(model, recorder)
    with pytest.raises(ValueError, match=r"same fit.*GradientRecorder that is not among.*callbacks=\[recorder, live\]"):
        fit(model, rnnkit.LivePlot(recorder))


@pytest.mark.parametrize("every_seconds", [0, -1.0, float("nan")])
def test_seconds_that_are_none_are_answered(every_seconds):
    with pytest.raises(ValueError, match=r"`every_seconds` must be a positive number. Received: every_seconds="):
        rnnkit.LivePlot(rnnkit.GradientRecorder(), every_seconds)


@pytest.mark.parametrize("alt", [None, "", " ", 3])
def test_a_picture_without_words_is_answered(alt):
    with pytest.raises(ValueError, match=r"needs a sentence.*Received.*alt=.*Pass it: alt="):
        rnnkit.LivePlot(rnnkit.GradientRecorder(), draw=print, alt=alt)


def test_a_recorder_of_an_unknown_kind_is_answered():
    with pytest.raises(TypeError, match=r"knows how to draw a GradientRecorder.*Received: .*draw=function\(ax\)"):
        rnnkit.LivePlot(keras.callbacks.History())


@pytest.mark.parametrize(
    ("shell", "expect", "answer"),
    [
        (SimpleNamespace(kernel=object()), "", True),
        (SimpleNamespace(kernel=object()), "correct", False),  # a notebook that is run to be compared
        (SimpleNamespace(), "", False),  # IPython in a terminal
        (None, "", False),  # a script that imported IPython
    ],
)
def test_only_a_notebook_is_a_notebook(shell, expect, answer, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setenv("RNNKIT_EXPECT", expect)
    assert _display.in_a_notebook() is answer


def test_a_script_without_ipython_sees_nothing_of_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", None)
    recorder = rnnkit.GradientRecorder()
    plot, hands = at_every_step(recorder)
    fit(build(), recorder, plot, hands)
    assert len(recorder.steps) == STEPS
    assert capsys.readouterr() == ("", "")


NOTEBOOK = """
import os
import keras, numpy as np, rnnkit

def run(**options):
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.GRU(2)])
    model.compile("adam", "mse", run_eagerly=True)
    recorder = rnnkit.GradientRecorder()
    live = rnnkit.LivePlot(recorder, **options)
    model.fit(np.ones((8, 5, 2)), np.ones((8, 2)), epochs=3, verbose=2, callbacks=[live, recorder])
"""


@pytest.mark.slow
def test_in_a_kernel_the_picture_stands_above_the_words_of_fit():
    cells = [NOTEBOOK, "run()", "run(keep=False)", "os.environ['RNNKIT_EXPECT'] = 'open'; run()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": os.getcwd()}}).execute()
    nbformat.validate(notebook)
    _, kept, cleared, expected = (cell.outputs for cell in notebook.cells)
    assert kept[0].output_type == "display_data"
    assert set(kept[0].data) == {"text/html", "image/png", "text/plain"}
    assert "Up to training step 2." in kept[0].data["text/plain"]
    assert cleared[0].data == {}
    for outputs in (kept[1:], cleared[1:], expected):
        assert {output.get("name") for output in outputs} == {"stdout"}
