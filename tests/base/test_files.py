"""Files that somebody else made, or that cannot be written: an error that says so, and nothing half-written or wrong.

A recording that `rnnkit.load` reads may come from anybody. Whatever is in it, it is either read as what it is or
answered with a ValueError; nothing of it is executed, and no more memory taken than it is long.
"""

import errno
import io
import json
import os
import tracemalloc
import zipfile

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rnnkit import _files
from rnnkit.authoring import notebooks
from rnnkit.recorders._recording import HISTOGRAM_EDGES, LEFT_ALONE, RULES, Recording, load

ABOUT = {
    "weights": ["rnn/kernel", "head/bias"],
    "clipping_measured": False,
    "measures": ["max"],
}
SAVED = ABOUT | {"nonfinite": None}
STEPS = np.arange(4)
# Two norms, that of both together, how they were clipped (by clipnorm, to 0.5), two largest entries.
ROWS = np.hstack([np.arange(12).reshape(4, 3), np.tile([1, 0.5], (4, 1)), np.arange(8).reshape(4, 2)]).astype("float32")
NO_CLIPPING = [0, 0]


def archive(path, about=SAVED, steps=STEPS, rows=ROWS):
    """Write a file as `save` does, whatever is in it."""
    with open(path, "wb") as file:
        np.savez(file, about=about if isinstance(about, np.ndarray) else json.dumps(about), steps=steps, rows=rows)
    return path


@pytest.fixture
def saved(tmp_path):
    """A recording and the file that it was saved to."""
    recording = Recording(**ABOUT)
    recording.append(STEPS, ROWS)
    return recording, recording.save(tmp_path / "run.npz")


def refused(path, told=""):
    with pytest.raises(
        ValueError, match=rf"written by GradientRecorder\.save\. Received: .*{told}.*save the run again"
    ):
        load(path)


# --- reading -----------------------------------------------------------------------------------------------------


class Deed:
    """What does something when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("part", ["about", "steps", "rows"])
def test_a_pickle_in_a_recording_is_never_opened(part, tmp_path):
    objects = np.array([Deed(tmp_path / "done")], dtype=object)
    path = archive(tmp_path / "run.npz", **{part: objects})
    refused(path, "allow_pickle=False")
    assert not (tmp_path / "done").exists()
    with np.load(path, allow_pickle=True) as file:  # so that it can be seen to have been there
        file[part]
    assert (tmp_path / "done").exists()


def test_a_bare_pickle_is_never_opened(tmp_path):
    np.save(tmp_path / "run.npy", np.array([Deed(tmp_path / "done")], dtype=object))
    refused(tmp_path / "run.npy")
    assert not (tmp_path / "done").exists()


def test_what_is_said_of_one_file_is_read_as_it_was_saved(saved):
    recording, path = saved
    again = load(path)
    assert again._about() == recording._about()
    np.testing.assert_array_equal(again._rows[:4], ROWS)


def test_a_recording_cut_off_anywhere_is_refused(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_byte_gone_wrong_anywhere_is_refused_or_changes_nothing(saved):
    recording, path = saved
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    ends = {"refused": 0, "the same": 0}
    for place in draw.choice(len(whole), 400, replace=False):
        spoiled = bytearray(whole)
        spoiled[place] ^= draw.integers(1, 256)
        path.write_bytes(spoiled)
        try:
            again = load(path)
        except ValueError as error:
            assert "save the run again" in str(error)  # noqa: PT017  (either end is right)
            ends["refused"] += 1
        else:
            assert again._about() == recording._about()
            np.testing.assert_array_equal(again.steps, recording.steps)
            np.testing.assert_array_equal(again._rows[:4], ROWS)
            ends["the same"] += 1
    assert min(ends.values()) > 0


def test_random_bytes_are_refused(tmp_path):
    draw = np.random.default_rng(1)
    for begin in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x05", b"PK\x05\x06" + bytes(18)):
        for length in draw.integers(0, 300, size=40):
            (tmp_path / "run.npz").write_bytes(begin + draw.bytes(length))
            refused(tmp_path / "run.npz")


def test_an_archive_that_unpacks_to_more_than_it_is_takes_no_memory(tmp_path):
    path = tmp_path / "run.npz"
    np.savez_compressed(path, about=json.dumps(SAVED), steps=np.zeros(4_000_000, "int64"), rows=ROWS)
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    refused(path, "it would be 32,000,.* bytes long, unpacked from")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(4, -5)", "(4, 5, " + "1, " * 100 + ")", "(True, 'a')"])
def test_a_header_that_lies_about_the_size_is_refused(shape, saved):
    _, path = saved
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    lie = io.BytesIO()
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(118) + b"\n"
    lie.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80))
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in parts.items():
            changed.writestr(name, lie.getvalue() if name == "rows.npy" else content)
    refused(path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"weights": "ab"}, "its weights"),
        ({"weights": ["a/b", 5]}, "its weights"),
        ({"weights": ["a/b", "a/b"]}, "its weights"),
        ({"weights": None}, ""),
        ({"clipping_measured": 1}, "its clipping_measured"),
        ({"clipping_measured": None}, "its clipping_measured"),
        ({"nonfinite": ["a/b"]}, ""),
        ({"nonfinite": [3, "c/d"]}, "its nonfinite"),
        ({"measures": ["mean"]}, ""),
        ({"measures": [["max"]]}, ""),
    ],
)
def test_what_no_recorder_says_of_its_rows_is_refused(changed, told, tmp_path):
    refused(archive(tmp_path / "run.npz", SAVED | changed), told)


def test_what_is_missing_or_no_json_is_refused(tmp_path):
    for name in SAVED:
        refused(archive(tmp_path / "run.npz", {key: value for key, value in SAVED.items() if key != name}), name)
    for about in ("[]", "5", "{", "[" * 100_000, ""):
        refused(archive(tmp_path / "run.npz", np.array(about)))
    np.savez(tmp_path / "run.npz", about=json.dumps(SAVED), steps=STEPS)
    refused(tmp_path / "run.npz", "rows")


@pytest.mark.parametrize(
    "parts",
    [
        {"steps": STEPS.astype("float64")},
        {"steps": STEPS[::-1]},
        {"steps": np.array([0, 1, 1, 2])},
        {"steps": np.array([-1, 0, 1, 2])},
        {"steps": STEPS[:3]},
        {"steps": STEPS[:, None]},
        {"steps": np.array(0)},
        {"rows": ROWS.astype("float64")},
        {"rows": ROWS.astype("U5")},
        {"rows": ROWS.astype("complex64")},
        {"rows": ROWS[:, :4]},
        {"rows": ROWS.ravel()},
        {"rows": np.zeros(4, [("a", "f4", 5)])},
    ],
    ids=lambda parts: " ".join(f"{name} {array.dtype} {array.shape}" for name, array in parts.items()),
)
def test_steps_and_rows_of_another_kind_are_refused(parts, tmp_path):
    refused(archive(tmp_path / "run.npz", **parts))


def test_a_place_that_cannot_be_read_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        load(tmp_path / "missing.npz")
    with pytest.raises(OSError, match=r"directory|denied"):
        load(tmp_path)


@pytest.mark.parametrize("path", [0, None, b"run.npz", ["run.npz"], np.zeros(2)])
def test_what_is_no_path_is_refused_where_a_file_is_read_or_written(path, saved):
    recording, _ = saved
    for use in (load, recording.save, recording.to_csv):
        with pytest.raises(TypeError, match=r"named by a text or a pathlib.Path. Received: .* of type .*'run.npz'"):
            use(path)


@pytest.mark.parametrize("path", ["", "/", "a\0b"])
def test_a_path_without_a_name_is_refused(path, saved):
    recording, _ = saved
    for use in (load, recording.save, recording.to_csv):
        with pytest.raises(ValueError, match=r"A file needs a name. Received: '.*'. Pass for instance"):
            use(path)


# --- writing -----------------------------------------------------------------------------------------------------


def lesson(folder):
    """Generate one lesson; return its path."""
    (folder / "solutions").mkdir(exist_ok=True)
    cell = new_code_cell(f"a = {len(os.listdir(folder))}", id="one")
    nbformat.write(new_notebook(cells=[cell]), folder / "solutions" / "00_start.ipynb")
    notebooks.generate(folder / "solutions", folder / "lessons")
    return folder / "lessons" / "00_start.ipynb"


def recorded(write):
    def writer(folder):
        recording = Recording(**ABOUT)
        recording.append(STEPS + len(os.listdir(folder)), ROWS)  # another one each time
        return write(recording, folder / "runs" / "run")

    return writer


WRITERS = {
    "save": recorded(Recording.save),
    "to_csv": recorded(Recording.to_csv),
    "a lesson": lesson,
}
MOMENTS = ["opened", "written", "flushed to the disk", "put in its place"]
CODES = {"no room": errno.ENOSPC, "read-only": errno.EROFS, "not permitted": errno.EACCES, "broken": errno.EIO}


class FullFile(io.BufferedWriter):
    """A file of which only the first ten bytes can be written."""

    def __init__(self, path, error):
        super().__init__(io.FileIO(path, "x"))
        self.error = error

    def write(self, content):
        super().write(content[:10])
        raise self.error


def failing(monkeypatch, moment, error):
    def fail(*_, **__):
        raise error

    def full(path, mode, **opening):
        file = FullFile(path, error)
        return file if "b" in mode else io.TextIOWrapper(file, **opening)

    name, thing = {
        "opened": ("open", fail),
        "written": ("open", full),
        "flushed to the disk": ("fsync", fail),
        "put in its place": ("replace", fail),
    }[moment]
    monkeypatch.setattr(_files if name == "open" else _files.os, name, thing, raising=False)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("reason", CODES)
def test_a_disk_that_fails_leaves_the_older_file_and_nothing_else(reason, moment, writer, tmp_path):
    (tmp_path / "runs").mkdir()
    path = WRITERS[writer](tmp_path)
    before, beside = path.read_bytes(), sorted(path.parent.iterdir())
    (tmp_path / "other").touch()  # so that the next one would be another
    error = OSError(CODES[reason], os.strerror(CODES[reason]), "NAME")
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, moment, error)
        with pytest.raises(OSError, match=os.strerror(CODES[reason])) as raised:
            WRITERS[writer](tmp_path)
    assert raised.value.errno == CODES[reason]
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == beside
    WRITERS[writer](tmp_path)
    assert path.read_bytes() != before


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_first_file_that_fails_leaves_nothing(moment, tmp_path):
    (tmp_path / "runs").mkdir()
    for writer in WRITERS.values():
        with pytest.MonkeyPatch.context() as patch:
            failing(patch, moment, OSError(errno.ENOSPC, "No space left on device"))
            with pytest.raises(OSError, match=r"No space"):
                writer(tmp_path)
    assert not os.listdir(tmp_path / "runs")
    assert not os.listdir(tmp_path / "lessons")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_answered_by_the_system(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        WRITERS["save"](tmp_path)
    assert not os.listdir(tmp_path / "runs")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_or_a_folder_is_not_replaced_by_a_file(tmp_path, saved):
    recording, _ = saved
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    before = sorted(os.listdir(tmp_path))
    for name, told in (("pipe.npz", "device or pipe"), ("folder.npz", "folder")):
        for use in (recording.save, recording.to_csv):
            with pytest.raises(OSError, match=rf"written beside its place.*{name}', where a {told} is. Name a file"):
                use(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before


# --- what is in them ---------------------------------------------------------------------------------------------


NAMES = {
    "unicode": "层/ядро",
    "right to left": "שכבה/משקל",
    "long": "layer" * 2_000 + "/kernel",
    "of a table": 'a,b"c\n=1+1/bias',
    "without a layer": "scale",
    "half of a pair": "\udc80/kernel",
    "with a formula": "$h_t/$",
    "empty": "",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_comes_back_whatever_it_is(name, tmp_path):
    recording = Recording([name, "head/bias"])
    recording.append([0, 3], [[1, 2, 3, *NO_CLIPPING], [4, 5, 6, *NO_CLIPPING]])
    again = load(recording.save(tmp_path / "run"))
    assert list(again.history) == [name, "head/bias"]
    np.testing.assert_array_equal(again.history[name], [1, 4])
    table = again.to_frame()
    assert table["layer"].tolist()[:2] == [name.rpartition("/")[0]] * 2
    assert table["weight"].tolist()[:2] == [name.rpartition("/")[2]] * 2


def test_before_the_first_step_there_is_an_empty_table_and_an_empty_file(tmp_path):
    recording = Recording([], measures=["max", "histogram"])
    header = ["step", "layer", "weight", "norm", "clipped_norm", "max"]
    assert recording.to_csv(tmp_path / "run.csv").read_text() == ",".join(header) + "\n"
    table = recording.to_frame()
    assert (list(table.columns), len(table)) == (header, 0)
    assert load(recording.save(tmp_path / "run")).measures == ["max", "histogram"]
    assert recording.nonfinite is None


def recorded_rows(norms, rule="none", bound=0.0, weights=("a/kernel", "b/kernel")):
    """A recording of norms (steps, weights + 1), the last of all together, clipped by one rule."""
    recording = Recording(weights)
    recording.append(range(len(norms)), [[*row, RULES.index(rule), bound] for row in norms])
    return recording


def test_the_first_gradient_that_is_not_finite_is_named(tmp_path):
    recording = recorded_rows([[1, 1, 1], [LEFT_ALONE, np.inf, np.inf], [np.nan, np.nan, np.nan], [1, 1, 1]])
    assert recording.nonfinite == (1, "b/kernel")
    assert np.isnan(recording.history["a/kernel"][1])
    assert load(recording.save(tmp_path / "run")).nonfinite == (1, "b/kernel")


@pytest.mark.parametrize("rule", ["clipnorm", "global_clipnorm"])
def test_clipping_shortens_what_is_long_and_leaves_what_is_short(rule):
    recording = recorded_rows([[0.3, 0.4, 0.5], [3, 4, 5]], rule, 1.0)
    left = {"clipnorm": [1, 1, np.sqrt(2)], "global_clipnorm": [0.6, 0.8, 1]}[rule]
    clipped = [*recording.clipped.values(), recording.clipped_global_norm]
    np.testing.assert_allclose(clipped, np.transpose([[0.3, 0.4, 0.5], left]), rtol=1e-6)


def test_each_step_is_clipped_by_its_own_rule():
    recording = Recording(["a/kernel", "b/kernel"], clipping_measured=True)
    rules = ["none", "clipnorm", "global_clipnorm", "measured", "unknown"]
    recording.append(range(5), [[3, 4, 5, RULES.index(rule), 1.0, 0.1, 0.2, 0.3, 1.0] for rule in rules])
    np.testing.assert_allclose(recording.clipped["b/kernel"], [4, 1, 0.8, 0.2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(recording.clipped_global_norm, [5, np.sqrt(2), 1, 0.3, np.nan], rtol=1e-6)
    tilted = np.degrees(np.arccos((0.6 + 0.8) / np.sqrt(2)))
    np.testing.assert_allclose(recording.clip_angle, [0, tilted, 0, 60, np.nan], rtol=1e-5)


def test_a_recording_goes_on_with_further_weights():
    recording = Recording(["a/kernel"], measures=["histogram"])
    recording.append([0], [[3, 3, 1, 2.0, *range(26)]])
    wider = recording.extended(["b/kernel", "a/kernel"], clipping_measured=True)
    assert wider.weights == ["a/kernel", "b/kernel"]
    wider.append([1], [[4, 5, 6, 3, 0, 0.4, 0.5, 0.6, 0, *range(52)]])
    np.testing.assert_array_equal(wider.history["b/kernel"], [np.nan, 5])
    np.testing.assert_allclose(wider.clipped["a/kernel"], [2, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(wider.measured["histogram"]["a/kernel"][0], np.arange(26))
    assert np.isnan(wider.measured["histogram"]["b/kernel"][0]).all()
    assert wider.steps.tolist() == [0, 1]


@pytest.mark.parametrize("rule", ["none", "clipnorm", "global_clipnorm"])
def test_gradients_that_are_zero_or_not_finite_are_clipped_without_a_warning(rule):
    norms = [[0, 0], [np.nan, np.nan], [np.inf, np.inf], [3, 3]]
    recording = recorded_rows(norms, rule, 1.0, ["a/kernel"])
    for numbers in (recording.clipped["a/kernel"], recording.clipped_global_norm):
        assert (numbers[0], numbers[3]) == (0, 3 if rule == "none" else 1)
        assert not np.isfinite(numbers[1:3]).any()
    assert recording.clip_angle[0] == recording.clip_angle[3] == 0
    assert len(HISTOGRAM_EDGES) == 25
