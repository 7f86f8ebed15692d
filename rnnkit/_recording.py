"""What a gradient recorder has seen: plain NumPy arrays that can be read, tabled, saved and loaded."""

import json
import os
import zipfile

import numpy as np

from rnnkit._export import as_path, atomic_writer, write_csv

# Borders between the bins of a histogram: log10 of the absolute value of a gradient's entry.
HISTOGRAM_EDGES = np.arange(-20.0, 5.0)

# What can be recorded of each weight besides norms, and how many numbers that is.
MEASURES = {"max": 1, "zero_fraction": 1, "update_ratio": 1, "histogram": len(HISTOGRAM_EDGES) + 1}


CLIPPING_RULES = ("clipnorm", "global_clipnorm", "clipvalue")

# What a file says of its rows.
_ABOUT = ("weights", "clipping", "accumulated", "replicas", "measures")


class Recording:
    """The gradient norms of a training run, one row a step.

    Args:
        weights: names of the weights, `layer/weight`.
        clipping: how the optimizer clips: `(None, None)`, or one of `"clipnorm"`, `"global_clipnorm"`, `"clipvalue"`
            with its bound.
        accumulated: whether the optimizer accumulates gradients over several steps before it clips.
        replicas: on how many devices copies of the model are trained (`tf.distribute`).
        measures: what is recorded of each weight besides norms, a list of keys of `MEASURES`.
    """

    def __init__(self, weights, clipping=(None, None), accumulated=False, replicas=1, measures=()):
        self.weights = list(weights)
        self.clipping = tuple(clipping)
        self.accumulated = accumulated
        self.replicas = replicas
        self.measures = list(measures)
        self._parts = self._layout()
        self._steps = np.empty(0, "int64")
        self._rows = np.empty((0, self.columns), "float32")
        self._count = 0

    @property
    def clipping_measured(self):
        """Whether rows hold what clipping left: else it follows from the norms before."""
        rule, _ = self.clipping
        return rule == "clipvalue" or self.accumulated or (self.replicas > 1 and rule is not None)

    def _layout(self):
        """Return which columns of a row hold which part, `{part: slice}`."""
        widths = {"norm": len(self.weights), "global_norm": 1}
        if self.clipping_measured:
            widths |= {"clipped_norm": len(self.weights), "clipped_global_norm": 1, "clip_chord": 1}
        widths |= {measure: len(self.weights) * MEASURES[measure] for measure in self.measures}
        ends = np.cumsum(list(widths.values())).tolist()
        return {part: slice(end - width, end) for (part, width), end in zip(widths.items(), ends, strict=True)}

    @property
    def columns(self):
        """How many numbers a row has."""
        return max(columns.stop for columns in self._parts.values())

    def in_order(self, parts):
        """Return the numbers of a row, given as a dict of lists, in the order of the columns."""
        return [number for part in self._parts for number in parts[part]]

    def _column(self, part):
        return self._rows[: self._count, self._parts[part]][:, 0]

    def _by_weight(self, part, width=1):
        """Return the columns of a part as a dict from weight to a view, (steps,) or (steps, width)."""
        columns = self._rows[: self._count, self._parts[part]]
        views = (columns[:, place * width : (place + 1) * width] for place in range(len(self.weights)))
        return {name: view[:, 0] if width == 1 else view for name, view in zip(self.weights, views, strict=True)}

    def append(self, steps, rows):
        """Add rows (n, columns) seen at the given steps (n,)."""
        needed = self._count + len(steps)
        if needed > len(self._steps):  # doubling keeps a million steps at a few dozen copies
            size = max(needed, 2 * len(self._steps), 256)
            self._steps = np.resize(self._steps, size) if self._count else np.empty(size, "int64")
            grown = np.empty((size, self.columns), "float32")
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._steps[self._count : needed] = steps
        self._rows[self._count : needed] = rows
        self._count = needed

    def since(self, row):
        """Return a recording by itself of what was added from that row on."""
        part = Recording(**self._about())
        part.append(self.steps[row:], self._rows[row : self._count])
        return part

    def _about(self):
        return {name: getattr(self, name) for name in _ABOUT}

    @property
    def steps(self):
        """Index of the training step of each row, from 0: how many steps had been taken before it."""
        return self._steps[: self._count]

    @property
    def history(self):
        """Norm of each weight's gradient before clipping, `{"layer/weight": array (steps,)}`."""
        return self._by_weight("norm")

    @property
    def global_norm(self):
        """Norm of all gradients together before clipping, array (steps,)."""
        return self._column("global_norm")

    @property
    def clipped(self):
        """Norm of each weight's gradient after clipping, `{"layer/weight": array (steps,)}`.

        Under gradient accumulation: of the mean gradient that the optimizer used; NaN at steps at which it used none.
        """
        rule, bound = self.clipping
        if self.clipping_measured:
            return self._by_weight("clipped_norm")
        if rule == "clipnorm":
            return {name: np.minimum(norms, np.float32(bound)) for name, norms in self.history.items()}
        if rule == "global_clipnorm":
            return {name: norms * self._global_scale() for name, norms in self.history.items()}
        return self.history

    @property
    def clipped_global_norm(self):
        """Norm of all gradients together after clipping, array (steps,)."""
        rule, _ = self.clipping
        if self.clipping_measured:
            return self._column("clipped_global_norm")
        if rule is None:
            return self.global_norm
        if rule == "global_clipnorm":
            return self.global_norm * self._global_scale()
        squares = [np.square(norms, dtype="float64") for norms in self.clipped.values()]
        total = np.sqrt(np.nansum(squares, axis=0)).astype("float32")  # NaN: a weight the step did not train
        return np.where(np.isfinite(self.global_norm), total, self.global_norm)

    def _global_scale(self):
        """Return the factor that global_clipnorm puts on every gradient; NaN where Keras's would be."""
        bound, norms = np.float32(self.clipping[1]), self.global_norm
        scale = bound / np.maximum(norms, bound)
        return np.where(np.isfinite(norms), scale, np.float32("nan"))

    @property
    def clip_angle(self):
        """Angle in degrees between all gradients together before clipping and after, array (steps,)."""
        if self.clipping_measured:
            chord = self._column("clip_chord").astype("float64")
        elif self.clipping[0] == "clipnorm":
            # Each weight's gradient keeps its direction, so that the norms say it all.
            before, after = (
                np.stack(list(norms.values()), axis=1).astype("float64") for norms in (self.history, self.clipped)
            )
            with np.errstate(invalid="ignore"):  # a gradient of zero has no direction: NaN
                before /= np.sqrt(np.nansum(before**2, axis=1, keepdims=True))
                after /= np.sqrt(np.nansum(after**2, axis=1, keepdims=True))
            chord = np.sqrt(np.nansum((before - after) ** 2, axis=1))
        else:
            chord = np.zeros(self._count)
        angle = np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1)))
        return np.where(np.isfinite(self.global_norm), angle, np.nan)

    @property
    def measured(self):
        """What was asked for besides norms, `{measure: {"layer/weight": array (steps,) or (steps, bins)}}`."""
        return {measure: self._by_weight(measure, MEASURES[measure]) for measure in self.measures}

    @property
    def nonfinite(self):
        """The first NaN or infinite gradient, `(step, "layer/weight")`, or None."""
        (rows,) = np.nonzero(~np.isfinite(self.global_norm))
        if not len(rows):
            return None
        row = rows[0]
        found = [name for name, norms in self.history.items() if not np.isfinite(norms[row])]
        # A weight that the training step leaves alone is NaN in every row: one that was a number before comes first.
        found.sort(key=lambda name: row > 0 and not np.isfinite(self.history[name][row - 1]))
        return int(self.steps[row]), found[0]

    def scalars(self):
        """Return all numbers of a step by name, as a log wants them, `{"measure/layer/weight": array (steps,)}`."""
        named = {"global_norm": self.global_norm} | _under("norm", self.history)
        if self.clipping[0] is not None:
            named |= {"clipped_global_norm": self.clipped_global_norm, "clip_angle": self.clip_angle}
            named |= _under("clipped_norm", self.clipped)
        for measure, arrays in self.measured.items():
            if MEASURES[measure] == 1:
                named |= _under(measure, arrays)
        return named

    def to_frame(self):
        """Return a tidy pandas table: step, layer, weight, norm, clipped_norm, and a column for each scalar measure."""
        import pandas as pd

        tables = [pd.DataFrame(columns) for columns in self._tables()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=self._header)

    def to_csv(self, path):
        """Write the table of `to_frame` as comma-separated values, and return the path written."""
        rows = (row for columns in self._tables() for row in zip(*columns.values(), strict=True))
        return write_csv(path, self._header, rows)

    @property
    def _header(self):
        """Names of the columns of the table."""
        scalars = [measure for measure in self.measured if MEASURES[measure] == 1]
        return ["step", "layer", "weight", "norm", "clipped_norm", *scalars]

    def _tables(self):
        """Yield the columns of each weight's part of the table, `{"column": (steps,)}`; none before the first step."""
        header, clipped, measured = self._header, self.clipped, self.measured
        for name, norms in self.history.items():
            layer, _, weight = name.rpartition("/")
            columns = [self.steps, [layer] * len(norms), [weight] * len(norms), norms, clipped[name]]
            columns += [measured[measure][name] for measure in header[5:]]
            yield dict(zip(header, columns, strict=True))

    def save(self, path):
        """Write the recording to an .npz file; an older file of that name stays whole until the new one is complete.

        Args:
            path: where to write; the ending .npz is added if it is missing.

        Returns:
            The path written, a `pathlib.Path`.
        """
        path = as_path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        with atomic_writer(path) as file:
            np.savez(file, about=json.dumps(self._about()), steps=self.steps, rows=self._rows[: self._count])
        return path


def _under(name, arrays):
    return {f"{name}/{weight}": array for weight, array in arrays.items()}


def load(path):
    """Read a recording that `GradientRecorder.save` wrote.

    Args:
        path: an .npz file. Nothing in it is ever executed (no pickle), and no more is read than it is long.

    Returns:
        A `Recording` with the recorder's `steps`, `history`, `clipped`, `global_norm`, `clipped_global_norm`,
        `to_frame` and `save`.

    Raises:
        TypeError: if `path` is no path.
        OSError: if there is no such file, or it may not be read.
        ValueError: if the file is not such a recording.

    Example:
        >>> recorder = rnnkit.GradientRecorder()
        >>> history = model.fit(x, y, epochs=1, callbacks=[recorder], verbose=0)
        >>> path = recorder.save("run.npz")
        >>> bool((rnnkit.load(path).steps == recorder.steps).all())
        True
    """
    with open(as_path(path), "rb") as opened:  # here: np.load would leave a broken archive open
        try:
            return _read(opened)
        except Exception as error:  # whatever there is in a file
            raise ValueError(
                "A recording must be an .npz file written by GradientRecorder.save. "
                f"Received: {os.fspath(path)!r}, which cannot be read as one ({error}). Record and save the run again."
            ) from error


def _read(opened):
    """Return the recording in an open file; raise whatever comes up, or a ValueError, where there is none."""
    size = os.fstat(opened.fileno()).st_size
    with zipfile.ZipFile(opened) as archive:  # `save` compresses nothing; a few kB of zip could be many GB of zeros
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > size:
        raise ValueError(f"it would be {unpacked:,} bytes long, unpacked from {size:,}")
    opened.seek(0)
    with np.load(opened, allow_pickle=False) as file:
        about, steps, rows = json.loads(str(file["about"])), file["steps"], file["rows"]
    recording = Recording(**{name: about[name] for name in _ABOUT})
    rule, bound = recording.clipping
    wanted = {
        "weights": isinstance(about["weights"], list)
        and all(isinstance(name, str) for name in about["weights"])
        and len(set(about["weights"])) == len(about["weights"]),
        "clipping": (rule, bound) == (None, None)
        or (rule in CLIPPING_RULES and type(bound) in (int, float) and 0 < bound < np.inf),
        "accumulated": isinstance(about["accumulated"], bool),
        "replicas": type(about["replicas"]) is int and about["replicas"] > 0,
        "steps": steps.dtype == "int64" and steps.ndim == 1 and (np.diff(steps, prepend=-1) > 0).all(),
        "rows": rows.dtype == "float32" and rows.shape == (len(steps), recording.columns),
    }
    for part, right in wanted.items():
        if not right:
            raise ValueError(f"its {part} are none that a recorder writes")
    recording.append(steps, rows)
    return recording
