"""The command line, as typed."""

import json

import nbformat
import pytest
from serving import get
from serving import lab as served

import rnnkit
from rnnkit import commands as cli
from rnnkit import doctor
from rnnkit.commands import lab
from rnnkit.commands._folders import find_folder


def write_notebook(path, source="x = 1"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = nbformat.v4.new_code_cell(source, id="only")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of two solutions and their lessons, with the working directory in it."""
    for name in ("00_first.ipynb", "01_second.ipynb"):
        write_notebook(tmp_path / "solutions" / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lessons"]) == 0
    return tmp_path


def test_without_a_command_it_shows_what_there_is(capsys):
    assert cli.main([]) == 0
    listed = capsys.readouterr().out.split()
    assert {"doctor", "lab", "lessons", "reference"} <= set(listed)


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"rnnkit {rnnkit.__version__}\n"


UNKNOWN = [["unknown"], ["doctor", "--unknown"], ["lessons", "--chek"], ["-V"], ["--unknown", "doctor"], ["-x", "lab"]]


@pytest.mark.parametrize("argv", UNKNOWN)
def test_what_it_does_not_know_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert next(word for word in argv if word not in ("doctor", "lessons", "lab")) in capsys.readouterr().err


def test_the_lab_alone_passes_its_arguments_on(monkeypatch):
    passed = []
    monkeypatch.setattr(lab, "open_lab", lambda extra: passed.append(extra) or 0)
    assert cli.main(["lab", "--help", "--no-browser"]) == 0
    assert passed == [["--help", "--no-browser"]]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("wrong", 1)])
def test_the_doctor_ends_with_the_status_of_what_it_found(status, code, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("Python", status, "3.12")])
    assert cli.main(["doctor"]) == code


def test_lessons_are_made_and_held_in_step(course, capsys):
    lesson = course / "lessons" / "00_first.ipynb"
    assert cli.main(["lessons", "--check"]) == 0
    lesson.write_text(lesson.read_text(encoding="utf-8").replace("x = 1", "x = 2"), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["lessons", "--check"]) == 1
    complaint = capsys.readouterr().err
    assert "00_first.ipynb" in complaint
    assert "`rnnkit lessons`" in complaint
    assert "01_second.ipynb" not in complaint
    assert cli.main(["lessons"]) == 0
    assert str(lesson) in capsys.readouterr().out
    assert cli.main(["lessons", "--check"]) == 0


def test_the_reference_page_is_what_the_docstrings_make():
    assert cli.main(["reference", "--check"]) == 0, "run `rnnkit reference`"


def test_the_reference_page_is_made_and_its_drift_named(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "reference.md"
    page.parent.mkdir()
    page.write_text("# Reference\n\nOld.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reference", "--check"]) == 1
    complaint = capsys.readouterr().err
    assert f"{page} is not what the docstrings make: run `rnnkit reference`. Line 3" in complaint
    assert "Old." in complaint
    assert page.read_text(encoding="utf-8").endswith("Old.\n")
    assert cli.main(["reference"]) == 0
    assert cli.main(["reference", "--check"]) == 0


def test_the_folder_here_comes_before_the_one_beside_the_package(course, monkeypatch):
    assert find_folder("lessons", "00_*.ipynb") == course / "lessons"


def test_a_course_that_is_not_here_is_named_with_the_next_step(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGE", tmp_path / "site-packages" / "rnnkit")
    for argv in (["lab"], ["lessons"], ["reference"]):
        assert cli.main(argv) == 1
        complaint = capsys.readouterr().err
        assert f"{tmp_path / 'site-packages'}" in complaint
        assert "Go to the folder" in complaint


@pytest.mark.slow
def test_the_lab_shows_lesson_00_and_asks_nothing(course):
    with served(course) as address:
        landed, page = get(address)
        assert landed.removesuffix("?") == f"{address}/lab/tree/00_first.ipynb"
        settings = json.loads(page.split('id="jupyter-config-data" type="application/json">')[1].split("</script>")[0])
        assert settings["news"] == {"disabled": True}
        # What really keeps JupyterLab 4.6 from asking, as seen in a browser:
        assert "@jupyterlab/apputils-extension:announcements" in settings["disabledExtensions"]
        listed = json.loads(get(f"{address}/api/contents")[1])["content"]
        assert {entry["name"] for entry in listed} == {"00_first.ipynb", "01_second.ipynb"}
        assert "python3" in json.loads(get(f"{address}/api/kernelspecs")[1])["kernelspecs"]
        assert json.loads(get(f"{address}/lab/api/update")[1]) == {"notification": None}


def test_the_learners_own_arguments_win(course):
    with served(course, "--LabApp.default_url=/lab/tree/01_second.ipynb") as address:
        assert get(address)[0].removesuffix("?") == f"{address}/lab/tree/01_second.ipynb"


@pytest.mark.parametrize(
    ("kernel", "writable", "told"),
    [
        ({"python": "/env/bin/python"}, True, []),
        ({"error": "/other/python cannot run notebooks"}, True, ["/other/python", "ipykernel install"]),
        ({"python": "/env/bin/python"}, False, ["cannot be saved", "`rnnkit handout "]),
    ],
)
def test_the_lab_says_before_it_starts_what_jupyterlab_would_say_too_late(kernel, writable, told, course, monkeypatch):
    monkeypatch.setattr(doctor, "read_kernel", lambda: kernel)
    monkeypatch.setattr(lab.os, "access", lambda path, mode: writable)
    troubles = lab.lab_troubles(course / "lessons")
    assert len(troubles) == bool(told)
    assert all(words in troubles[0] for words in told)


def test_the_way_to_a_folder_of_ones_own_leads_there(course, monkeypatch):
    monkeypatch.setattr(lab.Path, "home", lambda: course / "home")
    monkeypatch.setattr(doctor, "read_kernel", lambda: {"python": "python"})
    monkeypatch.setattr(lab.os, "access", lambda path, mode: False)
    (trouble,) = lab.lab_troubles(course / "lessons")
    handout, folder = (trouble.split(f"`{command} ")[1].split("`")[0] for command in ("rnnkit handout", "cd"))
    assert cli.main(["handout", handout]) == 0
    monkeypatch.chdir(folder)
    assert str(find_folder("lessons", "00_*.ipynb")) == handout


# --- the hand-out ------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_handout_holds_the_lessons_and_nothing_else(course, capsys):
    assert cli.main(["handout", "for/students"]) == 0
    assert contents(course / "for/students") == contents(course / "lessons")
    assert "2 lessons" in capsys.readouterr().out
    assert cli.main(["handout", "for/students"]) == 0  # again: all of it is there


def test_a_students_work_is_not_overwritten(course, capsys):
    write_notebook(course / "out" / "01_second.ipynb", "mine = True")
    before = contents(course / "out")
    assert cli.main(["handout", "out"]) == 1
    assert contents(course / "out") == before
    complaint = capsys.readouterr().err
    assert "01_second.ipynb" in complaint
    assert "00_first.ipynb" not in complaint


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_handout_where_none_can_be_written(folder, course, capsys):
    (course / "file").write_text("in the way", encoding="utf-8")
    assert cli.main(["handout", folder]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_handout_from_where_there_is_no_course(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGE", tmp_path / "site-packages/rnnkit")
    assert cli.main(["handout", "out"]) == 1
    assert "git clone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
