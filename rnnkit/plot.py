"""Figures from plain arrays and recordings: each function takes an `ax` and returns it; `show` puts one in a page."""

import base64
import difflib
import html
import io
import sys

import matplotlib.pyplot as plt
import numpy as np

_STATE_GRADIENT = r"$\|\partial L\,/\,\partial h_t\|$"


def gradient_norms(recording, ax=None, *, weights=None, clipped=False):
    """Draw the gradient norm of each weight against the training step, on a log axis.

    Args:
        recording: a `GradientRecorder`, what `rnnkit.load` returns, or a dict from name to norms (steps,).
        ax: matplotlib axes to draw on; new ones by default.
        weights: names of the weights to draw; all by default.
        clipped: whether to draw the norms after clipping.

    Returns:
        The axes.

    Raises:
        ValueError: if nothing was recorded, or a name is unknown.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
    """
    history = recording if isinstance(recording, dict) else recording.clipped if clipped else recording.history
    history = {name: np.asarray(norms, "float64") for name, norms in history.items()}
    if not history or not all(norms.ndim == 1 and len(norms) for norms in history.values()):
        shapes = {name: norms.shape for name, norms in history.items()}
        raise ValueError(
            f"Gradient norms are drawn from one number a step for each weight. Received: shapes {shapes}. "
            "Pass a GradientRecorder after fit has run."
        )
    for name in weights or ():
        if name not in history:
            raise ValueError(_unknown("weight", name, history))
    steps = getattr(recording, "steps", None)
    ax = _axes(ax)
    for name in weights or history:
        norms = history[name]
        ax.plot(np.arange(len(norms)) if steps is None else steps, _positive(norms), label=name)
    ax.set_yscale("log")
    ax.set_xlabel("training step")
    ax.set_ylabel("norm of the gradient" + (", clipped" if clipped else ""))
    ax.legend()
    return ax


def gradient_flow(gradients, ax=None):
    r"""Draw how much of the loss's gradient reaches each time step: $\|dL/dh_t\|$ against t, on a log axis.

    A gradient that is exactly zero (in float32, anything under 1e-38) has no place on a log axis; such steps are
    marked on a line of their own along the bottom.

    Args:
        gradients: dict from label to an array: gradients (batch, time, units), whose norm over the units is averaged
            over the batch, or norms (time,) as they are.
        ax: matplotlib axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ValueError: if there is nothing to draw, an array has another shape, or one holds NaN.

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.gradient_flow({"shrinks by half": 0.5 ** np.arange(50)[::-1]})

    Source: after Pascanu, Mikolov & Bengio (2013), section 2.1.
    """
    if not gradients:
        raise ValueError("A gradient flow needs at least one array. Received: none. Pass {'label': array}.")
    curves = {label: _flow(label, values) for label, values in gradients.items()}
    ax = _axes(ax)
    lines = {label: ax.plot(_positive(norms), label=label)[0] for label, norms in curves.items()}
    ax.set_yscale("log")
    ax.set_xlabel("time step $t$")
    ax.set_ylabel(_STATE_GRADIENT)
    low, high = ax.get_ylim()
    zeros = [label for label, norms in curves.items() if (norms == 0).any()]
    for row, label in enumerate(zeros):
        at = np.flatnonzero(curves[label] == 0)
        floor = low * (low / high) ** (0.05 * (row + 1))
        ax.plot(at, np.full(len(at), floor), "x", color=lines[label].get_color(), markersize=5, label="_zeros")
        ax.annotate(f"{label}: exactly 0", (at[-1], floor), (6, 0), textcoords="offset points", va="center", size=10)
    # Beside the curves and in the order in which they start, so that each label is found next to its line.
    ordered = sorted(lines, key=lambda label: curves[label][0], reverse=True)
    ax.legend([lines[label] for label in ordered], ordered, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def singular_values(values, ax=None, *, rate=None, label=None):
    r"""Draw how far a change of a state carries: the singular values of dh_T/dh_t against the distance T - t.

    Args:
        values: array (batch, time, units) from `rnnkit.probes.singular_values`, of which the first example is drawn, or
            (time, units).
        ax: matplotlib axes to draw on; new ones by default.
        rate: factor by which the largest is predicted to change each step back; drawn as a thin line.
        label: name of the curves; needed to tell several calls on one axes apart.

    Returns:
        The axes.

    Raises:
        ValueError: if the array has another rank or holds NaN.

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.singular_values(0.9 ** np.arange(50)[::-1, None] * np.ones((50, 4)), rate=0.9)
    """
    values = np.asarray(values, "float64")
    values = values[0] if values.ndim == 3 else values
    if values.ndim != 2 or not values.size or np.isnan(values).any():
        raise ValueError(
            "Singular values are drawn from an array (batch, time, units) or (time, units) without NaN. "
            f"Received: shape {values.shape}. Pass what rnnkit.probes.singular_values returned."
        )
    ordered = _positive(values[::-1])  # by distance
    ax = _axes(ax)
    distance = np.arange(len(ordered))
    (line,) = ax.plot(distance, ordered[:, 0], label=f"{label}: largest" if label else "largest")
    ax.fill_between(distance, ordered[:, 0], ordered[:, -1], color=line.get_color(), alpha=0.15, linewidth=0)
    median = np.median(ordered, axis=1)
    ax.plot(distance, median, color=line.get_color(), linewidth=1, linestyle=line.get_linestyle(), label="_median")
    if rate is not None:
        predicted = ordered[0, 0] * float(rate) ** distance
        ax.plot(distance, predicted, color="0.3", linewidth=1, linestyle=":", label=f"predicted, ${rate:.2f}^{{T-t}}$")
    ax.set_yscale("log")
    ax.set_xlabel("distance $T - t$")
    ax.set_ylabel(r"singular values of $\partial h_T/\partial h_t$")
    ax.legend()
    return ax


def flow_over_training(history, steps=None, ax=None):
    """Draw dL/dh_t for every time step (across) over the training (upwards), as a map of its logarithm.

    Args:
        history: array (records, time), one entry of a `StateGradientRecorder`'s history.
        steps: array (records,), the training step of each record; their numbers by default.
        ax: matplotlib axes to draw on; new ones by default.

    Returns:
        The axes. Steps where the gradient is exactly zero are left grey.

    Raises:
        ValueError: if the array is not (records, time).

    Example:
        >>> import numpy as np
        >>> ax = rnnkit.plot.flow_over_training(np.geomspace(1e-6, 1, 30) * np.ones((5, 1)), steps=range(0, 50, 10))
    """
    history = np.asarray(history, "float64")
    steps = np.arange(len(history)) if steps is None else np.asarray(steps)
    if history.ndim != 2 or not history.size or len(steps) != len(history):
        raise ValueError(
            "A flow over training is drawn from an array (records, time) and one step for each record. "
            f"Received: shapes {history.shape} and {steps.shape}. Pass flow.history['rnn'] and flow.steps."
        )
    ax = _axes(ax)
    ax.set_facecolor("0.75")
    ax.grid(False)
    logarithm = np.log10(_positive(history))
    image = ax.pcolormesh(np.arange(history.shape[1]), steps, logarithm, shading="nearest")
    ax.figure.colorbar(image, ax=ax, label=r"$\log_{10}$ " + _STATE_GRADIENT)
    ax.set_xlabel("time step $t$")
    ax.set_ylabel("training step")
    return ax


def show(figure, alt, caption=""):
    """Put a figure into the notebook with alt text and a visible caption, and close it.

    Three forms are given: HTML, whose picture has the alt text, for JupyterLab and exported pages; the bare picture,
    for viewers that drop HTML; and, as plain text, the figure's `fingerprint`, which nbval compares between two runs.
    Outside a notebook, the alt text and caption are printed.

    Args:
        figure: matplotlib figure, or axes of it.
        alt: what the figure shows, in words, for those who cannot see it.
        caption: what to take away from it, shown under the figure.

    Raises:
        ValueError: if the alt text says nothing.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
        >>> rnnkit.plot.show(ax, alt="The norm falls from 1 to 0.5 and rises again.")
        The norm falls from 1 to 0.5 and rises again.
    """
    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(
            "A figure's alt text says in words what it shows, for those who cannot see it. "
            f"Received: alt={alt!r}. Write a sentence: what is drawn, and what it does."
        )
    figure = getattr(figure, "figure", figure)
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(*filter(None, (alt, caption)), sep="\n")
    else:
        from IPython.display import display

        display(_bundle(figure, alt, caption), raw=True)
    plt.close(figure)


def fingerprint(figure, digits=3):
    """Describe a figure by its words and numbers, not its looks: another curve gives another text, another colour not.

    Args:
        figure: matplotlib figure.
        digits: significant digits of each number; few, so that another processor gives the same.

    Returns:
        A text with a line for each axes (title and labels) and for each set of points in it: how many, the smallest,
        largest, first and last, the mean, and the path (the sum of all steps from one point to the next, which no two
        orders of the same points share).

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
        >>> print(rnnkit.plot.fingerprint(ax.figure))
        figure with 1 axes
        axes '' | x 'training step' linear | y 'norm of the gradient' log
          line rnn/kernel | x: n=3 min=0 max=2 first=0 last=2 mean=1 path=2 | \
y: n=3 min=0.5 max=1 first=1 last=0.7 mean=0.733 path=0.7
    """
    lines = [f"figure with {len(figure.axes)} axes"]
    for ax in figure.axes:
        titles = " ".join(filter(None, (ax.get_title(loc=place) for place in ("left", "center", "right"))))
        lines.append(
            f"axes {titles!r} | x {ax.get_xlabel()!r} {ax.get_xscale()} | y {ax.get_ylabel()!r} {ax.get_yscale()}"
        )
        for kind, label, parts in _contents(ax):
            summary = " | ".join(f"{name}: {_summary(numbers, digits)}" for name, numbers in parts.items())
            lines.append(f"  {kind} {label} | {summary}")
    return "\n".join(lines)


def _contents(ax):
    """Yield (kind, label, {name: numbers}) for everything in an axes that stands for data."""
    for line in ax.lines:
        yield "line", line.get_label(), {"x": line.get_xdata(), "y": line.get_ydata()}
    for patch in ax.patches:  # bars, mostly
        yield "patch", patch.get_label(), _xy(patch.get_patch_transform().transform(patch.get_path().vertices))
    for collection in ax.collections:
        values = collection.get_array()
        parts = _xy(np.ma.filled(np.ma.asarray(collection.get_offsets(), "float64"), np.nan))
        outlines = [path.vertices for path in collection.get_paths()]
        if outlines and (values is None or values.ndim < 2):  # a mesh is known by its values
            parts |= _xy(np.concatenate(outlines), "outline ")
        yield "collection", collection.get_label(), parts | ({} if values is None else {"values": values})
    for image in ax.images:
        yield "image", image.get_label(), {"values": image.get_array()}


def _xy(points, prefix=""):
    return {f"{prefix}x": points[:, 0], f"{prefix}y": points[:, 1]}


def _summary(numbers, digits):
    numbers = np.ma.filled(np.ma.asarray(numbers, "float64"), np.nan).ravel()
    finite = numbers[np.isfinite(numbers)]
    missing = f" missing={len(numbers) - len(finite)}" if len(finite) < len(numbers) else ""
    if not len(finite):
        return f"n={len(numbers)}{missing}"
    named = {
        "min": finite.min(),
        "max": finite.max(),
        "first": finite[0],
        "last": finite[-1],
        "mean": finite.mean(),
        "path": np.abs(np.diff(finite)).sum(),
    }
    if finite.min() > 0 and finite.max() > 1e3 * finite.min():  # over many decades a mean sees the largest alone
        named |= {"log mean": np.log10(finite).mean(), "log path": np.abs(np.diff(np.log10(finite))).sum()}
    shown = " ".join(f"{name}={number + 0.0:.{digits}g}" for name, number in named.items())
    return f"n={len(numbers)}{missing} {shown}"


def _bundle(figure, alt, caption):
    """Return the figure by MIME type."""
    opened = io.BytesIO()
    figure.savefig(opened, format="png", metadata={"Software": None})
    picture = base64.b64encode(opened.getvalue()).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}" style="max-width:100%">'
    return {
        "text/html": f'<figure style="margin:0">{image}{below}</figure>',
        "image/png": picture,
        "text/plain": "\n".join(filter(None, (fingerprint(figure), caption))),
    }


def _axes(ax):
    return plt.subplots()[1] if ax is None else ax


def _positive(values):
    """Return a copy with a gap where a number has no logarithm."""
    values = np.array(values, "float64")
    values[~(values > 0)] = np.nan
    return values


def _flow(label, values):
    values = np.asarray(values, "float64")  # in float32 the squares of small gradients would underflow
    if values.ndim not in (1, 3) or not values.size or np.isnan(values).any():
        raise ValueError(
            "A gradient flow is drawn from gradients (batch, time, units) or norms (time,), without NaN. "
            f"Received: {label!r} of shape {values.shape}. "
            "Pass for instance rnnkit.probes.state_gradients(model, x, y)['rnn']['h']."
        )
    return np.linalg.norm(values, axis=-1).mean(axis=0) if values.ndim == 3 else values


def _unknown(what, name, known):
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"A {what} must be one of {list(known)}. Received: {name!r}.{hint}"
