"""What a gradient recorder has seen: plain NumPy arrays that can be read, tabled, saved and loaded."""

import json
import os
import zipfile

import numpy as np

from rnnkit._files import as_path, atomic_writer, write_csv
from rnnkit._names import ByName

# Borders between the bins of a histogram: log10 of the absolute value of a gradient's entry.
HISTOGRAM_EDGES = np.arange(-20.0, 5.0)

# What can be recorded of each weight besides norms, and how many numbers that is.
MEASURES = {"max": 1, "zero_fraction": 1, "update_ratio": 1, "histogram": len(HISTOGRAM_EDGES) + 1}


# How an update was clipped, as a row says it. Under the first three, what is left follows from the norms before; under
# the fourth the row holds it; under the last it cannot be known.
RULES = ("none", "clipnorm", "global_clipnorm", "measured", "unknown")
NONE, CLIPNORM, GLOBAL_CLIPNORM, MEASURED, UNKNOWN = range(len(RULES))

# Stands in a row in place of a norm, for a weight that the update left alone.
LEFT_ALONE = -1.0

# What a file says of its rows.
_ABOUT = ("weights", "clipping_measured", "measures")


class Readings:
    """What can be read of a recording, for each class whose `_read` gives one; it is asked but once for each reading.

    A recorder offers the same of what it is recording as `load` does of what was saved.
    """

    def _read(self):
        """Return the `Recording` so far."""
        raise NotImplementedError

    @property
    def steps(self):
        """Index of the update that each row shows, from 0: how many updates there had been before it."""
        recording = self._read()
        return recording._steps[: recording._count]

    @property
    def history(self):
        """Norm of each weight's gradient before clipping, `{"layer/weight": array (steps,)}`."""
        return self._read()._by_weight("norm")

    @property
    def clipped(self):
        """Norm of each weight's gradient after clipping, `{"layer/weight": array (steps,)}`.

        Under gradient accumulation: of the mean gradient that the optimizer used; NaN at steps at which it used none.
        """
        recording = self._read()
        if not recording._rules():
            return recording.history
        measured = recording._by_weight("clipped_norm") if recording.clipping_measured else {}
        norms_before = recording.history.items()
        return ByName({name: recording._clipped(norms, measured.get(name)) for name, norms in norms_before})

    @property
    def global_norm(self):
        """Norm of all gradients together before clipping, array (steps,)."""
        return self._read()._column("global_norm")

    @property
    def clipped_global_norm(self):
        """Norm of all gradients together after clipping, array (steps,)."""
        recording = self._read()
        before = recording.global_norm
        measured = recording._column("clipped_global_norm") if recording.clipping_measured else None
        total = recording._clipped(before, measured)
        at = recording._column("clip_rule") == CLIPNORM
        if at.any():  # each weight's by itself
            squares = [np.square(norms[at], dtype="float64") for norms in recording.clipped.values()]
            together = np.sqrt(np.nansum(squares, axis=0))  # NaN: a weight that the update left alone
            total[at] = np.where(np.isfinite(before[at]), together, before[at])
        return total

    @property
    def clip_angle(self):
        """Angle in degrees between all gradients together before clipping and after, array (steps,).

        It is that over the chord between the two unit vectors. The arc cosine of their dot product would lose half of
        the digits near 0, where the cosine is flat.
        """
        recording = self._read()
        rule = recording._column("clip_rule")
        chord = np.zeros(len(rule))
        if recording.clipping_measured:
            chord = np.where(rule == MEASURED, recording._column("clip_chord"), chord)
        at = rule == CLIPNORM
        if at.any():
            chord[at] = _chord(recording.history, recording.clipped, at)
        angle = np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1)))
        return np.where(np.isfinite(recording.global_norm) & (rule != UNKNOWN), angle, np.nan)

    @property
    def measured(self):
        """What was asked for besides norms, `{measure: {"layer/weight": array (steps,) or (steps, bins)}}`."""
        recording = self._read()
        return {measure: recording._by_weight(measure, MEASURES[measure]) for measure in recording.measures}

    @property
    def histogram_edges(self):
        """Borders between the bins of a histogram: log10 of the absolute value of a gradient's entry."""
        return HISTOGRAM_EDGES

    @property
    def nonfinite(self):
        """The first NaN or infinite gradient, `(step, "layer/weight")`, or None."""
        return self._read()._nonfinite

    def to_frame(self):
        """Return a tidy pandas table: step, layer, weight, norm, clipped_norm, and a column for each scalar measure."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "A table for pandas needs the package pandas. Received: an environment without it. "
                "Install it, or write the same table as a file: recorder.to_csv(path)."
            ) from error

        recording = self._read()
        tables = [pd.DataFrame(columns) for columns in recording._tables()]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=recording._header)

    def to_csv(self, path):
        """Write the table of `to_frame` as a CSV file, whole or not at all; return its path. Does without pandas."""
        recording = self._read()
        rows = (row for columns in recording._tables() for row in zip(*columns.values(), strict=True))
        return write_csv(path, recording._header, rows)

    def save(self, path):
        """Write what was recorded to an .npz file, for `rnnkit.load`; return its path.

        An older file of that name stays whole until the new one is complete.

        Args:
            path: where to write; the ending .npz is added if it is missing.

        Returns:
            The path written, a `pathlib.Path`.
        """
        path = as_path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        recording = self._read()
        about = recording._about() | {"nonfinite": recording.nonfinite}
        with atomic_writer(path) as file:
            np.savez(file, about=json.dumps(about), steps=recording.steps, rows=recording._rows[: recording._count])
        return path


class Recording(Readings):
    """The gradient norms of a training run, one row per update of the weights.

    Args:
        weights: names of the weights, `layer/weight`.
        clipping_measured: whether rows hold what clipping left, because it does not follow from the norms before.
        measures: what is recorded of each weight besides norms, a list of keys of `MEASURES`.
    """

    def __init__(self, weights, clipping_measured=False, measures=()):
        self.weights = list(weights)
        self.clipping_measured = clipping_measured
        self.measures = list(measures)
        self._parts = self._layout()
        self._steps = np.empty(0, "int64")
        self._rows = np.empty((0, self.columns), "float32")
        self._count = 0
        self._nonfinite = None

    def _read(self):
        return self

    def _layout(self):
        """Return which columns of a row hold which part, `{part: slice}`."""
        widths = {"norm": len(self.weights), "global_norm": 1, "clip_rule": 1, "clip_bound": 1}
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
        return ByName(
            {name: view[:, 0] if width == 1 else view for name, view in zip(self.weights, views, strict=True)}
        )

    def extended(self, weights, clipping_measured):
        """Return this recording with room for further weights, NaN until now, and for what clipping leaves of them."""
        together = list(dict.fromkeys([*self.weights, *weights]))
        wider = Recording(together, clipping_measured or self.clipping_measured, self.measures)
        rows = np.full((self._count, wider.columns), np.nan, "float32")
        for part, columns in self._parts.items():
            width = MEASURES.get(part, 1)
            by_weight = part in ("norm", "clipped_norm", *MEASURES)
            target = wider._parts[part].start
            for place, name in enumerate(self.weights if by_weight else [None]):
                begin = target + width * (together.index(name) if by_weight else 0)
                source = columns.start + width * place
                rows[:, begin : begin + width] = self._rows[: self._count, source : source + width]
        wider.append(self.steps, rows)
        wider._nonfinite = self._nonfinite
        return wider

    def append(self, steps, rows):
        """Add rows (n, columns) seen at the given steps (n,)."""
        needed = self._count + len(steps)
        if needed > len(self._steps):  # doubling keeps a million steps at a few dozen copies
            size = max(needed, 2 * len(self._steps), 256)
            self._steps = np.resize(self._steps, size) if self._count else np.empty(size, "int64")
            grown = np.empty((size, self.columns), "float32")
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        new = self._rows[self._count : needed]
        self._steps[self._count : needed] = steps
        new[:] = rows
        norms = new[:, self._parts["norm"]]
        if self._nonfinite is None:
            self._nonfinite = self._first_nonfinite(steps, norms, new[:, self._parts["global_norm"]][:, 0])
        norms[norms == LEFT_ALONE] = np.nan
        self._count = needed

    def _first_nonfinite(self, steps, norms, global_norm):
        (rows,) = np.nonzero(~np.isfinite(global_norm))
        if not len(rows):
            return None
        place = np.argmin(np.isfinite(norms[rows[0]]))
        return int(steps[rows[0]]), self.weights[place]

    def since(self, row):
        """Return a recording by itself of what was added from that row on."""
        part = Recording(**self._about())
        part.append(self.steps[row:], self._rows[row : self._count])
        return part

    def _about(self):
        return {name: getattr(self, name) for name in _ABOUT}

    def __repr__(self):
        return f"<Recording: {self._count} updates of {len(self.weights)} weights>"

    def _rules(self):
        """Return the rules by which any update was clipped."""
        return set(np.unique(self._column("clip_rule")).astype(int).tolist()) - {NONE}

    def _clipped(self, norms, measured):
        """Return what clipping left of norms (steps,), by the rule of each step."""
        left = norms.copy()
        for rule in self._rules():
            at = self._column("clip_rule") == rule
            bound = self._column("clip_bound")[at]
            if rule == CLIPNORM:
                left[at] *= _scale(norms[at], bound)
            elif rule == GLOBAL_CLIPNORM:
                left[at] *= _scale(self.global_norm[at], bound)
            else:
                left[at] = measured[at] if rule == MEASURED else np.nan
        return left

    @property
    def left_alone(self):
        """Weights that no update has changed so far: frozen, or trained by an optimizer that is not listened to."""
        return [name for name, norms in self.history.items() if self._nonfinite is None and np.isnan(norms).all()]

    def scalars(self):
        """Return all numbers of a step by name, as a log wants them, `{"measure/layer/weight": array (steps,)}`."""
        named = {"global_norm": self.global_norm} | _under("norm", self.history)
        if self._rules():
            named |= {"clipped_global_norm": self.clipped_global_norm, "clip_angle": self.clip_angle}
            named |= _under("clipped_norm", self.clipped)
        for measure, arrays in self.measured.items():
            if MEASURES[measure] == 1:
                named |= _under(measure, arrays)
        return named

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


def _chord(before, after, at):
    """Return the chord between all gradients together before and after clipping each of them by its own norm.

    They keep their directions, so that the norms say it all: dicts from weight to an array (steps,), NaN where an
    update left the weight alone. Only some updates are asked for, by a boolean array (steps,).
    """
    unit_before, unit_after = (
        np.stack([norms[at] for norms in each.values()], axis=1).astype("float64") for each in (before, after)
    )
    with np.errstate(invalid="ignore"):  # a gradient of zero has no direction: NaN
        unit_before /= np.sqrt(np.nansum(unit_before**2, axis=1, keepdims=True))
        unit_after /= np.sqrt(np.nansum(unit_after**2, axis=1, keepdims=True))
    return np.sqrt(np.nansum((unit_before - unit_after) ** 2, axis=1))


def _possible_rules(recording):
    return range(len(RULES)) if recording.clipping_measured else (NONE, CLIPNORM, GLOBAL_CLIPNORM, UNKNOWN)


def _scale(norms, bounds):
    """Return the factor that clipping norms to their bounds puts on gradients; NaN where Keras's would be."""
    with np.errstate(invalid="ignore"):
        scale = bounds / np.maximum(norms, bounds)
    return np.where(np.isfinite(norms), scale, np.float32("nan"))


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
            about, steps, rows = _unpack(opened)
        except Exception as error:  # of zipfile, NumPy and json, each of which has several for bytes that make no sense
            raise _no_recording(path, error) from error
    wrong = _wrong_part(about, steps, rows)
    if wrong is not None:
        raise _no_recording(path, f"its {wrong} are none that a recorder writes")
    recording = Recording(**{name: about[name] for name in _ABOUT})
    recording.append(steps, rows)
    recording._nonfinite = about["nonfinite"] and tuple(about["nonfinite"])
    return recording


def _unpack(opened):
    """Return what an open file holds: what it says of its rows, the steps, and the rows."""
    size = os.fstat(opened.fileno()).st_size
    with zipfile.ZipFile(opened) as archive:  # `save` compresses nothing; a few kB of zip could be many GB of zeros
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > size:
        raise ValueError(f"it would be {unpacked:,} bytes long, unpacked from {size:,}")
    opened.seek(0)
    with np.load(opened, allow_pickle=False) as file:
        return json.loads(str(file["about"])), file["steps"], file["rows"]


def _wrong_part(about, steps, rows):
    """Return the name of a part that no recorder would have written, or None."""
    if not isinstance(about, dict):
        return "contents"
    missing = [name for name in (*_ABOUT, "nonfinite") if name not in about]
    if missing:
        return missing[0]
    weights = about["weights"]
    if not _are_names(weights) or len(set(weights)) < len(weights):
        return "weights"
    if not isinstance(about["clipping_measured"], bool):
        return "clipping_measured"
    if not _are_names(about["measures"]) or not MEASURES.keys() >= set(about["measures"]):
        return "measures"
    if steps.dtype != "int64" or steps.ndim != 1 or not (np.diff(steps, prepend=-1) > 0).all():
        return "steps"
    empty = Recording(**{name: about[name] for name in _ABOUT})
    if rows.dtype != "float32" or rows.shape != (len(steps), empty.columns):
        return "rows"
    if not np.isin(rows[:, empty._parts["clip_rule"]], _possible_rules(empty)).all():
        return "rows"
    nonfinite = about["nonfinite"]
    if nonfinite is not None:
        pair = isinstance(nonfinite, list) and len(nonfinite) == 2
        if not pair or not isinstance(nonfinite[0], int) or nonfinite[1] not in weights:
            return "nonfinite"
    return None


def _are_names(value):
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _no_recording(path, reason):
    return ValueError(
        "A recording must be an .npz file written by GradientRecorder.save. "
        f"Received: {os.fspath(path)!r}, which cannot be read as one ({reason}). Record and save the run again."
    )
