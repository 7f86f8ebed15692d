"""Which exercises a learner has done: kept where someone works, never in the way of a check, never in a test."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rnnkit
from rnnkit import _display, exercises
from rnnkit import commands as cli
from rnnkit.course.exercises import _progress

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date.today().isoformat()


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file in which progress is kept, as it is in a notebook in which someone works; not there yet."""
    path = tmp_path / "home" / "progress.txt"
    monkeypatch.setenv("RNNKIT_PROGRESS", str(path))
    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    return path


def done(path):
    return dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())


def test_what_is_correct_is_kept_with_its_day_and_stays(file, capsys):
    rnnkit.check("gain_of_two", "a")
    assert not file.exists()
    rnnkit.check("gain_of_two", "b")
    assert done(file) == {"gain_of_two": TODAY}
    rnnkit.check("gain_of_two", "a")
    rnnkit.check("gate_held_open", "a")
    assert done(file) == {"gain_of_two": TODAY, "gate_held_open": TODAY}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_first_day_is_kept(file):
    file.parent.mkdir()
    file.write_text("gain_of_two 2020-01-31\n", encoding="utf-8")
    rnnkit.check("gain_of_two", "b")
    assert done(file) == {"gain_of_two": "2020-01-31"}


def test_it_shows_what_is_done_and_what_is_open_and_where_it_is_kept(file, capsys):
    rnnkit.check("gain_of_two", "b")
    capsys.readouterr()
    rnnkit.progress("01")
    said = capsys.readouterr().out
    assert f"1 of the course's {len(exercises.catalogue())} exercises are done." in said
    assert "lesson 01 | 1 of 5 | backpropagate_states, predicted_rate, my_kernel, quiz_01" in said
    assert "lesson 02" not in said
    assert str(file) in said
    file.unlink()
    rnnkit.progress("01")
    assert "lesson 01 | 0 of 5 | backpropagate_states, predicted_rate, gain_of_two" in capsys.readouterr().out


def test_a_lesson_of_which_all_is_done(file, capsys):
    file.parent.mkdir()
    names = [name for name, exercise in exercises.catalogue().items() if exercise.lesson == "01"]
    file.write_text("".join(f"{name} {TODAY}\n" for name in names), encoding="utf-8")
    rnnkit.progress("01")
    assert "lesson 01 | 5 of 5 | none" in capsys.readouterr().out


def test_the_command_shows_every_lesson(file, capsys):
    assert cli.main(["progress"]) == 0
    said = capsys.readouterr().out
    assert all(f"lesson 0{number} | 0 of " in said for number in range(10))


BROKEN = [
    b"", b"{", b"gain_of_two", b"gain_of_two 2020-01-", b"no_such_exercise 2020-01-31", b"\xff\xfe\x00", b"{" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_what_is_broken_counts_as_not_done_and_disturbs_no_check(content, file, capsys):
    file.parent.mkdir()
    file.write_bytes(content)
    rnnkit.progress("01")
    assert "lesson 01 | 0 of 5" in capsys.readouterr().out
    for _ in range(2):  # the first may be spoiled by what it follows
        rnnkit.check("quiz_01", exercises.catalogue()["quiz_01"].reference)
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    rnnkit.progress("01")
    assert "lesson 01 | 2 of 5" in capsys.readouterr().out


def test_what_is_whole_in_a_broken_file_still_counts(file, capsys):
    file.parent.mkdir()
    file.write_bytes(b"\xff\ngain_of_two 2020-01-31\npredicted_r")
    rnnkit.progress("01")
    assert "lesson 01 | 1 of 5" in capsys.readouterr().out


def test_kernels_at_work_at_the_same_time_do_not_undo_each_other(file, monkeypatch):
    """One reads, another one notes, and then the first one notes."""
    read = _progress.read

    def overtaken(path):
        monkeypatch.setattr(_progress, "read", read)
        done = read(path)
        rnnkit.check("gate_held_open", "a")
        return done

    monkeypatch.setattr(_progress, "read", overtaken)
    rnnkit.check("gain_of_two", "b")
    assert done(file) == {"gain_of_two": TODAY, "gate_held_open": TODAY}


def test_where_nothing_can_be_written_a_check_says_what_it_always_says(file, capsys):
    file.parent.write_text("a file where the folder should be", encoding="utf-8")
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    rnnkit.progress("01")
    assert "0 of 5" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_without_permission(file, capsys):
    file.parent.mkdir(mode=0o500)
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    assert not file.exists()


def test_a_folder_in_the_place_of_the_file(file, capsys):
    file.mkdir(parents=True)
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    rnnkit.progress("01")
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("home", [True, False])
def test_without_the_variable_it_is_kept_at_home(home, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("RNNKIT_PROGRESS")

    def expanduser(path):
        if not home:
            raise RuntimeError("Could not determine home directory.")
        return tmp_path / str(path)[2:]

    monkeypatch.setattr(Path, "expanduser", expanduser)
    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    assert (tmp_path / ".rnnkit" / "progress.txt").exists() == home


def test_a_name_that_no_file_can_have(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "file", lambda: Path("\0"))
    monkeypatch.setattr(_display, "in_a_notebook", lambda: True)
    rnnkit.check("gain_of_two", "b")
    assert "gain_of_two: correct" in capsys.readouterr().out
    rnnkit.progress("01")
    assert "cannot be read" in capsys.readouterr().out


def test_off_means_off(file, monkeypatch, capsys):
    monkeypatch.setenv("RNNKIT_PROGRESS", "off")
    rnnkit.check("gain_of_two", "b")
    rnnkit.progress("01")
    assert "It is not kept" in capsys.readouterr().out
    assert _progress.file() is None


def test_outside_a_notebook_nothing_is_kept(file, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("RNNKIT_PROGRESS", str(file))
    rnnkit.check("gain_of_two", "b")
    assert not file.exists()


def test_tests_keep_nothing():
    assert os.environ["RNNKIT_PROGRESS"] == "off"


def test_a_lesson_that_there_is_not(file):
    with pytest.raises(ValueError, match=r"two digits, '00' to '09'; received 1"):
        rnnkit.progress(1)


# --- in a kernel ----------------------------------------------------------------------------------------------------


def run_notebook(*sources):
    """Run cells in a kernel; return the text of each cell's outputs."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    made = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(made, kernel_name="python3").execute()
    return ["".join(output["data"]["text/plain"] for output in cell.outputs) for cell in made.cells]


CELLS = ("import rnnkit", "rnnkit.check('gain_of_two', 'b')", "rnnkit.progress('01')")


def test_it_is_there_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNKIT_PROGRESS", str(tmp_path / "progress.txt"))
    assert "1 of 5" in run_notebook(*CELLS)[2]
    assert "1 of 5" in run_notebook(CELLS[0], CELLS[2])[1]


@pytest.mark.parametrize("expect", ["correct", "open"])
def test_a_run_of_the_courses_own_keeps_nothing_and_always_says_the_same(expect, tmp_path, monkeypatch):
    path = tmp_path / "progress.txt"
    monkeypatch.setenv("RNNKIT_PROGRESS", str(path))
    monkeypatch.setenv("RNNKIT_EXPECT", expect)
    answer = {"correct": "'b'", "open": "..."}[expect]
    before = run_notebook(CELLS[0], f"rnnkit.check('gain_of_two', {answer})", CELLS[2])[2]
    assert not path.exists()
    path.write_text(f"gain_of_two {TODAY}\n", encoding="utf-8")
    assert run_notebook(CELLS[0], CELLS[2])[1] == before
    assert done(path) == {"gain_of_two": TODAY}


@pytest.mark.parametrize("folder", ["solutions", "lessons"])
def test_each_lesson_ends_with_its_progress(folder, monkeypatch, capsys):
    monkeypatch.setenv("RNNKIT_EXPECT", "correct")
    rnnkit.progress("00")
    always = capsys.readouterr().out.strip()
    for path in sorted((ROOT / folder).glob("[0-9][0-9]_*.ipynb")):
        last = nbformat.read(path, 4).cells[-1]
        assert (last.id, last.source) == ("progress", f'rnnkit.progress("{path.name[:2]}")')
        assert [output.data["text/plain"] for output in last.outputs] == ([always] if folder == "solutions" else [])


def test_progress_does_not_load_keras(tmp_path):
    code = (
        "import sys, rnnkit; rnnkit.progress('01'); "
        "print(*({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)), 'nothing else')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "nothing else"
