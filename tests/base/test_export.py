"""Files are whole or not there, and a table read back is the table written."""

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from rnnkit._files import atomic_writer, write_csv

HEADER = ["step", "layer", "weight", "norm"]
NUMBERS = np.array([0.1, 1 / 3, 1e-45, 3.4e38, 0.0, -0.0, np.nan, np.inf, -np.inf], "float32")


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("layer", ["rnn", "Größe", "层", "a, b", 'said "so"', "two\nlines", " outer ", "=1+1", ""])
def test_names_come_back_as_they_were(layer, tmp_path):
    path = write_csv(tmp_path / "run.csv", HEADER, [(3, layer, "kernel", 0.5)])
    assert read(path) == [HEADER, ["3", layer, "kernel", "0.5"]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_come_back_to_the_bit(dtype, tmp_path):
    with np.errstate(over="ignore"):
        numbers = NUMBERS.astype(dtype)
    steps = np.arange(len(numbers)) + 2**60
    path = write_csv(tmp_path / "run.csv", ["step", "norm"], zip(steps, numbers, strict=True))
    (_, *rows) = read(path)
    assert [int(step) for step, _ in rows] == steps.tolist()
    assert np.array([norm for _, norm in rows], dtype).tobytes() == numbers.tobytes()


def test_numbers_are_written_in_as_few_digits_as_they_need(tmp_path):
    path = write_csv(tmp_path / "run.csv", ["norm"], [(np.float32(0.1),), (np.float64(0.1),), (np.float32("nan"),)])
    assert path.read_bytes() == b"norm\n0.1\n0.1\nnan\n"


def test_pandas_reads_the_table(tmp_path):
    pd = pytest.importorskip("pandas")
    path = write_csv(tmp_path / "run.csv", ["step", "norm"], zip(range(len(NUMBERS)), NUMBERS, strict=True))
    table = pd.read_csv(path)
    assert table["step"].tolist() == list(range(len(NUMBERS)))
    np.testing.assert_array_equal(table["norm"].astype("float32"), NUMBERS)


def test_rows_are_asked_for_one_at_a_time(tmp_path):
    alive = []

    class Row(tuple):
        def __init__(self, _):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def rows():
        for step in range(100):
            assert len(alive) <= 2
            yield Row((step,))

    write_csv(tmp_path / "run.csv", ["step"], rows())


def test_a_row_too_short_is_answered_and_leaves_the_older_file(tmp_path):
    path = write_csv(tmp_path / "run.csv", ["step", "norm"], [(0, 1.0)])
    with pytest.raises(ValueError, match=r"2 columns \['step', 'norm'\].*Received: row 1 with 1, \(1,\)"):
        write_csv(path, ["step", "norm"], [(0, 2.0), (1,)])
    assert read(path) == [["step", "norm"], ["0", "1.0"]]


def test_whatever_ends_the_writing_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("older")

    def written_until(stopped):
        with atomic_writer(path, "w") as file:
            file.write("newer" * 10_000)
            file.flush()
            raise stopped

    for stopped in (ValueError, KeyboardInterrupt):
        with pytest.raises(stopped):
            written_until(stopped)
        assert path.read_text() == "older"
        assert os.listdir(tmp_path) == ["run.csv"]


def test_the_new_file_is_seen_only_when_it_is_complete(tmp_path):
    path = tmp_path / "run.bin"
    with atomic_writer(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["run.bin"]


def test_a_full_disk_leaves_the_older_file(tmp_path):
    resource = pytest.importorskip("resource")  # a limit on the size of files fails as a full disk does: while writing
    path = write_csv(tmp_path / "run.csv", ["step"], [(0,)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_csv(path, ["step"], ((step,) for step in range(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read(path) == [["step"], ["0"]]
    assert os.listdir(tmp_path) == ["run.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_a_process_killed_while_writing_leaves_the_older_file_whole(tmp_path):
    path = write_csv(tmp_path / "run.csv", ["step"], ((step,) for step in range(1000)))
    older = path.read_bytes()
    code = (
        "import os, signal, sys\n"
        "from rnnkit._files import write_csv\n"
        "def rows():\n"
        "    for step in range(100_000):\n"
        "        yield (-step,)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_csv(sys.argv[1], ['step'], rows())\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == older
    (scratch,) = set(os.listdir(tmp_path)) - {"run.csv"}
    assert (tmp_path / scratch).stat().st_size > 100_000  # it was under way
    write_csv(path, ["step"], [(1,)])  # nor does what it left stand in the way of the next
    assert read(path) == [["step"], ["1"]]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_others_may_read_it_as_they_may_read_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    path = write_csv(tmp_path / "run.csv", ["step"], [])
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "run.csv")
    write_csv(tmp_path / "link.csv", ["step"], [(7,)])
    assert (tmp_path / "link.csv").is_symlink()
    assert read(tmp_path / "run.csv") == [["step"], ["7"]]


def test_a_missing_folder_is_answered_by_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        write_csv(tmp_path / "missing" / "run.csv", ["step"], [])
