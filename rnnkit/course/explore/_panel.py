"""Sliders above a picture: the part of the explorers that knows ipywidgets, and what stands in its place without."""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from rnnkit import _display, plot
from rnnkit._picture import as_html, as_quick_png, size_on_page

_MOVE = "Made with the settings {settings}. Run this cell in JupyterLab, with ipywidgets installed, to move them."


class Slider(NamedTuple):
    """A number between two ends; of a `log` one, and of one in whole numbers, the step is in those."""

    label: str
    low: float
    high: float
    step: float
    log: bool = False


class Choice(NamedTuple):
    """One of several words."""

    label: str
    options: tuple


class Explorer(NamedTuple):
    """What a panel is made of."""

    controls: dict  # name of an argument of `measure` -> Slider or Choice
    measure: Callable  # measure(**settings) -> measured
    draw: Callable  # draw(ax, measured)
    words: Callable  # words(measured) -> alternative text, sentence
    margins: dict  # of the figure, fixed: room made anew for each picture would have the axes jump as a slider moves


def explore(explorer, settings):
    """Show sliders and the picture that follows them or, where nobody could move them, the picture alone."""
    for name, control in explorer.controls.items():
        _require(name, settings[name], control)
    if _display.in_a_notebook() and importlib.util.find_spec("ipywidgets"):
        from IPython.display import display

        panel = widget(explorer, settings)
        # The picture goes along for viewers of the saved notebook that have no widgets.
        still = {"text/html": panel.children[-1].value, "text/plain": "\n".join(picture(explorer, settings)[1:])}
        display(panel._repr_mimebundle_() | still, raw=True)
    else:
        figure, alt, sentence = picture(explorer, settings)
        shown = ", ".join(f"{control.label} {settings[name]}" for name, control in explorer.controls.items())
        plot.show(figure, alt=alt, caption=f"{sentence} {_MOVE.format(settings=shown)}")


def picture(explorer, settings):
    """Return the figure of some settings, its alternative text and its sentence."""
    measured = explorer.measure(**settings)
    with plt.style.context("rnnkit.course"):
        figure = Figure(layout="none")
        figure.subplots_adjust(**explorer.margins)
        explorer.draw(figure.add_subplot(), measured)
    return figure, *explorer.words(measured)


def _page(explorer, settings):
    """Return the picture as HTML, quickly: for a screen, not for print."""
    figure, alt, sentence = picture(explorer, settings)
    # Of known size, so that the page does not jump while the next picture is decoded.
    return as_html(as_quick_png(figure), alt, sentence, "line-height:1.4", **size_on_page(figure))


def widget(explorer, settings):
    """Return the panel, an ipywidgets.VBox: a control for each setting, then the picture with its words."""
    import ipywidgets

    controls = {name: _control(control, settings[name]) for name, control in explorer.controls.items()}
    shown = ipywidgets.HTML(_page(explorer, settings))

    def redraw(_=None):
        shown.value = _page(explorer, {name: control.value for name, control in controls.items()})

    for control in controls.values():
        control.observe(redraw, "value")
    return ipywidgets.VBox([*controls.values(), shown])


def _control(control, value):
    import ipywidgets

    look = {
        "description": control.label,
        "style": {"description_width": "15em"},
        "layout": ipywidgets.Layout(width="min(36em, 100%)"),
    }
    if isinstance(control, Choice):
        return ipywidgets.Dropdown(options=control.options, value=value, **look)
    ends = {"min": control.low, "max": control.high, "step": control.step}
    if control.log:
        ends |= {"min": np.log10(control.low), "max": np.log10(control.high), "readout_format": ".2g"}
        return ipywidgets.FloatLogSlider(value=value, **ends, **look)
    if isinstance(control.step, int):
        return ipywidgets.IntSlider(value=value, **ends, **look)
    return ipywidgets.FloatSlider(value=value, readout_format=".2f", **ends, **look)


def _require(name, value, control):
    if isinstance(control, Choice):
        if value not in control.options:
            raise ValueError(
                f"`{name}` must be one of {list(control.options)}. Received: {name}={value!r}. "
                f"Try {name}={control.options[0]!r}."
            )
        return
    whole = isinstance(control.step, int)
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not control.low <= value <= control.high:
        raise ValueError(
            f"`{name}` must be a {'whole ' if whole else ''}number from {control.low} to {control.high}. "
            f"Received: {name}={value!r}. Try {name}={control.low}."
        )
