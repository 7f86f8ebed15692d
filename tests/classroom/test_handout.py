"""A hand-out that opens on other people's machines: what of that can be seen from here."""

import ast
import re
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement

from rnnkit import commands as cli
from rnnkit.classroom import handout

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(path.name for path in (ROOT / "lessons").glob("*.ipynb"))
PLACE = handout.Place("https://github.com/some-body/course.git/", "spring 26", hub="https://hub.example.edu/").checked()


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    arguments = ["--repository", "https://github.com/some-body/course", "--hub", "https://hub.example.edu"]
    assert cli.main(["handout", str(folder), *arguments]) == 0
    return folder


def test_it_holds_the_lessons_and_what_opens_them(handed_out):
    expected = {*LESSONS, "README.md", "environment.yml", "requirements.lock"}
    assert {path.name for path in handed_out.iterdir()} == expected
    assert (handed_out / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_the_colab_cell_before_its_code_and_is_itself_otherwise(handed_out, name):
    ours, theirs = (nbformat.read(folder / name, 4) for folder in (ROOT / "lessons", handed_out))
    nbformat.validate(theirs)
    code = [cell for cell in theirs.cells if cell.cell_type == "code"]
    assert code[0].id == "colab"
    assert "rnnkit" in code[1].source
    assert [cell for cell in theirs.cells if cell.id != "colab"] == ours.cells


def test_the_colab_cell_installs_on_colab_alone_and_once(handed_out, monkeypatch):
    cell = next(cell for cell in nbformat.read(handed_out / LESSONS[0], 4).cells if cell.id == "colab")
    code = TransformerManager().transform_cell(cell.source)
    ast.parse(code)
    asked = []

    class Shell:
        def run_line_magic(self, name, line):
            asked.append((name, line))

    def run():
        exec(compile(code, "colab", "exec"), {"get_ipython": Shell})

    run()
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    run()
    assert asked == []  # rnnkit is here
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run()
    assert asked == [("pip", 'install --quiet "rnnkit @ git+https://github.com/some-body/course@main"')]


def test_the_environment_is_the_courses_with_rnnkit_from_its_repository(handed_out):
    theirs, ours = (
        yaml.safe_load((folder / "environment.yml").read_text(encoding="utf-8")) for folder in (handed_out, ROOT)
    )
    *plain, through_pip = theirs.pop("dependencies")
    *ours_plain, _ = ours.pop("dependencies")
    assert theirs == ours
    assert set(ours_plain) < set(plain)
    assert through_pip == {"pip": ["-r requirements.lock", "rnnkit @ git+https://github.com/some-body/course@main"]}


def test_links_have_the_shapes_that_the_services_read():
    links = {name: urlsplit(link) for name, link in PLACE.links("03_lstm.ipynb").items()}
    binder, colab, hub = links["Binder"], links["Colab"], links["JupyterHub"]
    assert binder.path == "/v2/gh/some-body/course/spring%2026"
    assert parse_qs(binder.query) == {"urlpath": ["lab/tree/03_lstm.ipynb"]}
    assert (colab.netloc, colab.path.split("/")[1:4]) == (
        "colab.research.google.com",
        ["github", "some-body", "course"],
    )
    assert colab.path.endswith("/blob/spring%2026/03_lstm.ipynb")
    assert (hub.netloc, hub.path) == ("hub.example.edu", "/hub/user-redirect/git-pull")
    assert parse_qs(hub.query) == {
        "repo": ["https://github.com/some-body/course"],
        "branch": ["spring 26"],
        "urlpath": ["lab/tree/course/03_lstm.ipynb"],
    }
    assert "JupyterHub" not in PLACE._replace(hub=None).links("03_lstm.ipynb")


def test_the_page_links_every_lesson(handed_out):
    page = (handed_out / "README.md").read_text(encoding="utf-8")
    place = handout.Place("https://github.com/some-body/course", hub="https://hub.example.edu")
    for name in LESSONS:
        assert f"]({name})" in page
        for link in place.links(name).values():
            assert f"({link})" in page
    assert not re.search(r"\]\([^)]* ", page)  # a space would end a link


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--repository", "https://gitlab.com/a/b"],
            "https://github.com/OWNER/NAME. Received: 'https://gitlab.com/a/b'",
        ),
        (["--repository", "git@github.com:a/b"], "Received: 'git@github.com:a/b'"),
        (["--repository", "https://github.com/a/b", "--hub", "hub"], "https://hub.example.edu. Received: 'hub'"),
        (["--hub", "https://hub.example.edu"], "pass both"),
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_is_written(arguments, said, tmp_path, capsys):
    assert cli.main(["handout", str(tmp_path / "out"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_students_readme_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    assert cli.main(["handout", str(tmp_path), "--repository", "https://github.com/a/b"]) == 1
    assert "README.md" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_what_pip_is_told_to_install_is_a_requirement_that_it_can_read():
    asked = Requirement(f"rnnkit @ git+{PLACE.source}")
    assert (asked.name, asked.url) == ("rnnkit", "git+https://github.com/some-body/course@main")
