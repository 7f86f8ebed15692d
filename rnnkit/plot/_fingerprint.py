"""A figure as text: its words and numbers, so that two runs of a notebook can be compared."""

import re

import numpy as np
from matplotlib.category import StrCategoryFormatter
from matplotlib.container import BarContainer
from matplotlib.patches import StepPatch
from matplotlib.quiver import Quiver
from matplotlib.ticker import FixedFormatter, FuncFormatter


def fingerprint(figure, digits=2, about=False):
    """Describe a figure by its words and numbers, not its looks: another curve gives another text, another colour not.

    Numbers are taken as they are drawn: on a log axis, mean, path and bend are those of the logarithms. One point of
    a smooth curve that moves by a twentieth of the curve's height shows.

    Args:
        figure: matplotlib figure.
        digits: significant digits of each number; few, so that another processor gives the same.
        about: whether the numbers come from training, where another processor's rounding grows into another figure:
            `≈` stands before them then, and before words in the picture that hold a digit, which tells who compares two
            texts to pass over what follows in the line.

    Returns:
        A text with a line for each axes (title, labels, scales), for the words in it, and for each set of numbers: how
        many there are and how many cannot be drawn, first and last, smallest and largest, the mean, and two that change
        with their order, relative to their range: `path`, the sum of all steps from one point to the next, and `bend`,
        the sum of all changes of that step.

    Example:
        >>> ax = rnnkit.plot.gradient_norms({"rnn/kernel": [1.0, 0.5, 0.7]})
        >>> print(rnnkit.plot.fingerprint(ax.figure))
        figure with 1 axes
        axes '' | x 'training step' linear | y 'norm of the gradient' log
          text 'rnn/kernel'
          line 'rnn/kernel'
            x n=3 first=0 last=2 min=0 max=2 mean=1 path=1 bend=0
            y n=3 first=1 last=0.7 min=0.5 max=1 mean=0.7 path=1.5 bend=1.5
    """
    if any(ax.name == "3d" for ax in figure.axes):
        figure.draw_without_rendering()  # a surface has no outline on the page before
    lines = [f"figure with {len(figure.axes)} axes"]
    lines += [
        f"text {words!r}" for words in (figure.get_suptitle(), *(text.get_text() for text in figure.texts)) if words
    ]
    for ax in figure.axes:
        titles = " ".join(filter(None, (ax.get_title(loc=place) for place in ("left", "center", "right"))))
        lines.append(f"axes {titles!r} | x {_axis_words(ax.xaxis)} | y {_axis_words(ax.yaxis)}")
        # Sorted, for names are written in the order of the curves' ends, which rounding can turn round.
        # Last come those that count as about, for their order is a number's, too.
        words = [repr(text.get_text()) for text in ax.texts if text.get_text()]
        lines += sorted(f"  text {said}" for said in words if not (about and re.search(r"\d", said)))
        lines += sorted(f"  text ≈ {said}" for said in words if about and re.search(r"\d", said))
        for kind, label, parts in _contents(ax):
            given = re.sub(r"^_(nolegend_|(child|container)\d+)$", "", label)  # what matplotlib calls the nameless
            lines.append(f"  {kind} {given!r}")
            sign = "≈ " if about else ""
            scales = {"x": ax.get_xscale(), "y": ax.get_yscale()}
            for name, numbers in parts.items():
                lines.append(f"    {name} {sign}{_summary(numbers, scales.get(name[-1]) == 'log', digits)}")
    return "\n".join(lines)


def _axis_words(axis):
    words = f"{axis.get_label_text()!r} {axis.get_scale()}"
    formatter = axis.get_major_formatter()
    if isinstance(formatter, StrCategoryFormatter | FixedFormatter | FuncFormatter):  # names, as below bars
        words += f" {[str(name) for name in formatter.format_ticks(axis.get_majorticklocs())]}"
    return words


def _contents(ax):
    """Yield (kind, label, {name: numbers}) for everything in an axes that stands for data; a name ends in its axis."""
    for line in ax.lines:
        x, y = line.get_data(orig=False)
        yield "line", line.get_label(), {"x": x, "y": y}
    bars = [container for container in ax.containers if isinstance(container, BarContainer)]
    for container in bars:
        boxes = [bar.get_bbox() for bar in container]
        sides = {"left x": "x0", "right x": "x1", "bottom y": "y0", "top y": "y1"}
        parts = {name: [getattr(box, side) for box in boxes] for name, side in sides.items()}
        yield "bars", container.get_label(), parts
    in_bars = {bar for container in bars for bar in container}
    for patch in ax.patches:
        if isinstance(patch, StepPatch):
            heights, edges, _ = patch.get_data()
            yield "steps", patch.get_label(), {"x": edges, "y": heights}
        elif patch not in in_bars:
            yield "patch", patch.get_label(), _xy(patch.get_patch_transform().transform(patch.get_path().vertices))
    for collection in ax.collections:
        if isinstance(collection, Quiver):
            arrows = {"x": collection.X, "y": collection.Y, "along x": collection.U, "along y": collection.V}
            yield "arrows", collection.get_label(), arrows
            continue
        values = collection.get_array()
        parts = _xy(np.ma.filled(np.ma.asarray(collection.get_offsets(), "float64"), np.nan))
        outlines = [path.vertices for path in collection.get_paths()]
        if len(outlines) > 1 and {len(outline) for outline in outlines} == {2}:  # such as error bars: low and high ends
            for end, points in zip(("start", "end"), np.stack(outlines, axis=1), strict=True):
                parts |= _xy(points, f"{end} ")
        elif outlines and (values is None or values.ndim < 2):  # a mesh is known by its values
            parts |= _xy(np.concatenate(outlines), "outline ")
        yield "collection", collection.get_label(), parts | ({} if values is None else {"values": values})
    for image in ax.images:
        yield "image", image.get_label(), {"values": image.get_array()}


def _xy(points, prefix=""):
    return {f"{prefix}x": points[:, 0], f"{prefix}y": points[:, 1]}


def _summary(numbers, log, digits):
    count = "x".join(map(str, np.shape(numbers)))
    numbers = np.ma.filled(np.ma.asarray(numbers, "float64"), np.nan).ravel()
    drawn = numbers[np.isfinite(numbers) & ((numbers > 0) | (not log))]
    shown = f"n={count}" + (f" missing={len(numbers) - len(drawn)}" if len(drawn) < len(numbers) else "")
    if not len(drawn):
        return shown
    places = np.log10(drawn) if log else drawn
    mean = 10 ** places.mean() if log else places.mean()
    named = {"first": drawn[0], "last": drawn[-1], "min": drawn.min(), "max": drawn.max(), "mean": mean}
    height = np.ptp(places)
    if height > 1e-3 * (1 if log else np.abs(places).max()):  # the steps of a level line are rounding errors
        for name, order in ("path", 1), ("bend", 2):
            # In hundredths, or the bend of a straight line would be its rounding errors.
            named[name] = round(np.abs(np.diff(places, order)).sum() / height, 2)
    return " ".join([shown, *(f"{name}={number + 0.0:.{digits}g}" for name, number in named.items())])
