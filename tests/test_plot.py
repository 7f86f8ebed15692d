"""Figures say what the numbers say; their fingerprint changes with the numbers and with nothing else."""

import re
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from rnnkit import plot


@pytest.fixture(autouse=True)
def _figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def curves(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


class TestGradientNorms:
    def test_draws_every_weight_on_a_log_axis(self):
        ax = plot.gradient_norms({"rnn/kernel": [1.0, 0.5], "head/kernel": [2.0, 3.0]})
        assert ax.get_yscale() == "log"
        np.testing.assert_array_equal(curves(ax)["head/kernel"], [2, 3])
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["rnn/kernel", "head/kernel"]

    def test_takes_a_recording_its_steps_and_its_clipped_norms(self):
        recording = SimpleNamespace(steps=[0, 2], history={"a/b": [4.0, 5.0]}, clipped={"a/b": [1.0, 1.0]})
        given = plt.subplots()[1]
        assert plot.gradient_norms(recording, ax=given) is given
        np.testing.assert_array_equal(given.lines[0].get_xdata(), [0, 2])
        np.testing.assert_array_equal(curves(plot.gradient_norms(recording, clipped=True))["a/b"], [1, 1])

    def test_a_zero_is_a_gap(self):
        np.testing.assert_array_equal(curves(plot.gradient_norms({"a": [1.0, 0.0, 2.0]}))["a"], [1, np.nan, 2])

    def test_unknown_weight_and_empty_recording(self):
        with pytest.raises(ValueError, match=r"weight must be one of \['rnn/kernel'\].*Did you mean 'rnn/kernel'"):
            plot.gradient_norms({"rnn/kernel": [1.0]}, weights=["rnn/kernl"])
        for nothing in ({}, {"a": []}):
            with pytest.raises(ValueError, match="after fit has run"):
                plot.gradient_norms(nothing)


class TestGradientFlow:
    def test_is_the_mean_over_the_batch_of_the_norm_over_the_units(self):
        gradients = np.random.default_rng(0).normal(size=(5, 7, 3))
        expected = [np.mean([np.sqrt((gradients[b, t] ** 2).sum()) for b in range(5)]) for t in range(7)]
        np.testing.assert_allclose(curves(plot.gradient_flow({"a": gradients}))["a"], expected)

    def test_small_float32_gradients_do_not_vanish_in_the_drawing(self):
        gradients = np.full((1, 2, 2), 1e-30, "float32")
        np.testing.assert_allclose(curves(plot.gradient_flow({"a": gradients}))["a"], np.sqrt(2) * 1e-30, rtol=1e-6)

    def test_exact_zeros_are_marked_and_named(self):
        ax = plot.gradient_flow({"dead": [0.0, 0.0, 1.0], "alive": [1.0, 1.0, 1.0]})
        assert [text.get_text() for text in ax.texts] == ["dead: exactly 0"]
        (marks,) = (line for line in ax.lines if line.get_label() == "_zeros")
        np.testing.assert_array_equal(marks.get_xdata(), [0, 1])
        assert marks.get_ydata()[0] < 1

    @pytest.mark.parametrize("bad", [np.ones((2, 3)), [], [1.0, np.nan]])
    def test_what_is_no_flow_is_refused(self, bad):
        with pytest.raises(
            ValueError, match=r"gradients \(batch, time, units\) or norms \(time,\).*'a'.*state_gradients"
        ):
            plot.gradient_flow({"a": bad})
        with pytest.raises(ValueError, match="at least one array"):
            plot.gradient_flow({})


class TestSingularValues:
    def test_runs_over_the_distance_with_the_largest_on_top(self):
        values = np.array([[4.0, 1.0], [9.0, 3.0], [1.0, 1.0]])
        ax = plot.singular_values(values[None], rate=2)
        np.testing.assert_array_equal(curves(ax)["largest"], [1, 9, 4])
        np.testing.assert_array_equal(curves(ax)["predicted, $2.00^{T-t}$"], [1, 2, 4])

    def test_wrong_shape(self):
        with pytest.raises(ValueError, match=r"\(batch, time, units\).*shape \(3,\)"):
            plot.singular_values(np.ones(3))


class TestFlowOverTraining:
    def test_maps_the_logarithm_and_leaves_zeros_out(self):
        ax = plot.flow_over_training([[1.0, 0.1], [0.0, 10.0]], steps=[0, 50])
        drawn = ax.collections[0].get_array()
        np.testing.assert_allclose(np.ma.filled(drawn, -99).reshape(2, 2), [[0, -1], [-99, 1]])

    def test_wrong_shape(self):
        with pytest.raises(ValueError, match=r"\(records, time\).*\(2, 2\).*\(3,\)"):
            plot.flow_over_training(np.ones((2, 2)), steps=[1, 2, 3])


# --- the fingerprint ---------------------------------------------------------------------------------------------

NUMBERS = np.geomspace(1e-8, 1, 40)
ARTISTS = {
    "line": lambda ax, y, **style: ax.plot(y, **style),
    "scatter": lambda ax, y, **style: ax.scatter(np.arange(len(y)), y, **style),
    "bars": lambda ax, y, **style: ax.bar(np.arange(len(y)), y, **style),
    "band": lambda ax, y, **style: ax.fill_between(np.arange(len(y)), y, **style),
    "error bars": lambda ax, y, **style: ax.errorbar(np.arange(len(y)), y, yerr=0.1, **style),
    "image": lambda ax, y, **style: ax.imshow(y.reshape(5, 8)),
    "mesh": lambda ax, y, **style: ax.pcolormesh(y.reshape(5, 8)),
}


def drawn(artist, y, **style):
    ax = plt.subplots()[1]
    ARTISTS[artist](ax, y, **style)
    return plot.fingerprint(ax.figure)


@pytest.mark.parametrize("place", [0, 17, 39])
@pytest.mark.parametrize("artist", ARTISTS)
def test_a_changed_number_changes_the_fingerprint(artist, place):
    changed = NUMBERS.copy()
    changed[place] += 0.3
    assert drawn(artist, changed) != drawn(artist, NUMBERS)


@pytest.mark.parametrize("artist", ["line", "scatter", "bars", "band"])
def test_a_changed_colour_does_not(artist):
    assert drawn(artist, NUMBERS, color="red", linewidth=3) == drawn(artist, NUMBERS, color="blue")


def test_a_small_number_changed_by_a_factor_is_seen_beside_large_ones():
    changed = NUMBERS.copy()
    changed[5] *= 100
    assert drawn("line", changed) != drawn("line", NUMBERS)


def test_the_order_of_the_points_counts_and_rounding_noise_does_not():
    swapped = NUMBERS.copy()
    swapped[[10, 20]] = swapped[[20, 10]]
    assert drawn("line", swapped) != drawn("line", NUMBERS)
    assert drawn("line", NUMBERS * (1 + 1e-7)) == drawn("line", NUMBERS)


def test_words_count_too():
    def titled(title, xlabel):
        ax = plt.subplots()[1]
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        return plot.fingerprint(ax.figure)

    assert len({titled("a", "x"), titled("b", "x"), titled("a", "y")}) == 3


def test_missing_numbers_are_counted_and_nothing_at_all_is_said():
    assert "n=3 missing=1" in drawn("line", np.array([1.0, np.nan, 2.0]))
    assert "n=0" in drawn("line", np.array([]))


# --- in a notebook -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown():
    """A notebook that shows one figure, executed."""
    source = (
        "import matplotlib.pyplot as plt\nfrom rnnkit import plot\nplt.style.use('rnnkit.course')\n"
        "ax = plot.gradient_norms({'a': [1, 2]})\n"
        "plot.show(ax, alt='A line that rises <steeply> from 1 to 2.', caption='It rises & rises.')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    return NotebookClient(notebook, kernel_name="python3").execute()


def test_a_figure_is_shown_once_with_alt_text_caption_and_fingerprint(shown):
    (output,) = shown.cells[0].outputs
    assert set(output.data) == {"text/html", "image/png", "text/plain"}
    assert 'alt="A line that rises &lt;steeply&gt; from 1 to 2."' in output.data["text/html"]
    assert "<figcaption>It rises &amp; rises.</figcaption>" in output.data["text/html"]
    assert "min=1 max=2" in output.data["text/plain"]


def test_an_exported_page_has_one_picture_with_its_alt_text(shown):
    page, _ = HTMLExporter().from_notebook_node(shown)
    pictures = re.findall(r"<img[^>]*?alt=\"([^\"]*)\"", page)
    assert pictures == ["A line that rises &lt;steeply&gt; from 1 to 2."]


def test_outside_a_notebook_the_words_are_printed(capsys):
    plot.show(plt.figure(), alt="Nothing at all is drawn.", caption="So be it.")
    assert capsys.readouterr().out == "Nothing at all is drawn.\nSo be it.\n"
    assert not plt.get_fignums()


@pytest.mark.parametrize("alt", ["", "figure", None])
def test_alt_text_that_says_nothing_is_refused(alt):
    with pytest.raises(ValueError, match="alt text says in words what it shows"):
        plot.show(plt.figure(), alt=alt)


def test_the_style_tells_lines_apart_in_grey_and_needs_no_keras():
    code = (
        "import sys, matplotlib.pyplot as plt; plt.style.use('rnnkit.course');"
        "cycle = plt.rcParams['axes.prop_cycle'].by_key();"
        "assert len(set(map(str, cycle['linestyle']))) == len(cycle['color']) >= 6; assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
