"""One list of dependencies, one lock made from it, a conda environment that installs just that, one command for CI."""

import importlib.metadata
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import conftest
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LOCK]
EXTRAS = PROJECT["optional-dependencies"]


def wanted(lines):
    """Yield requirements, the extras of this project that they name opened up."""
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                yield from wanted(EXTRAS[extra])
        else:
            yield requirement


WANTED = list(wanted(PROJECT["dependencies"] + EXTRAS["course"] + EXTRAS["dev"]))

SYSTEMS = {  # sys_platform, platform_system, platform_machine, os_name
    "Linux x86-64": ("linux", "Linux", "x86_64", "posix"),
    "Linux Arm": ("linux", "Linux", "aarch64", "posix"),
    "macOS Arm": ("darwin", "Darwin", "arm64", "posix"),
    "macOS Intel": ("darwin", "Darwin", "x86_64", "posix"),
    "Windows": ("win32", "Windows", "AMD64", "nt"),
}
PYTHONS = ("3.11.0", "3.11.14", "3.12.12", "3.13.9")  # some pins part at 3.11.5
TARGETS = {
    f"{system}, Python {python}": {
        **dict(zip(("sys_platform", "platform_system", "platform_machine", "os_name"), values, strict=True)),
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for (system, values), python in itertools.product(SYSTEMS.items(), PYTHONS)
}
# The same release with the same needs, built in two ways: where one is not installed, the other can be asked.
TWINS = {"tensorflow": "tensorflow-cpu", "tensorflow-cpu": "tensorflow"}


def applies(requirement, target, extras=()):
    return requirement.marker is None or any(
        requirement.marker.evaluate({**TARGETS[target], "extra": extra}) for extra in ("", *extras)
    )


def pinned(target):
    """Return version by name of all that the lock pins for a target."""
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in PINS if applies(pin, target)}


def pinned_here():
    """Return version by name of all that the lock pins for the Python that runs this test."""
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in PINS
        if pin.marker is None or pin.marker.evaluate()
    }


def needs_of(name, version):
    """Return the needs of a distribution, as far as it or its twin is installed here at that version; else None."""
    for candidate in (name, TWINS.get(name, name)):
        try:
            found = importlib.metadata.distribution(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version == version:
            return [Requirement(line) for line in found.requires or ()]
    return None


def walk(target):
    """Follow all needs from pyproject's on.

    Returns what nobody could be asked about, and what no need led to; fails where a need is not met.
    """
    pins, asked, unseen = pinned(target), {}, set()
    waiting = [(need, "pyproject.toml") for need in WANTED if applies(need, target)]
    while waiting:
        need, by = waiting.pop()
        name = canonicalize_name(need.name)
        assert name in pins, f"{by} needs {need}, which the lock does not pin"
        assert need.specifier.contains(pins[name], prereleases=True), f"{by} needs {need}; pinned: {pins[name]}"
        if name in asked and need.extras <= asked[name]:
            continue
        asked[name] = asked.get(name, set()) | need.extras
        needs = needs_of(name, pins[name])
        if needs is None:
            unseen.add(name)
            continue
        waiting += [(further, name) for further in needs if applies(further, target, asked[name])]
    return unseen, set(pins) - set(asked)


@pytest.mark.parametrize("target", TARGETS)
def test_a_name_is_pinned_once(target):
    names = [canonicalize_name(pin.name) for pin in PINS if applies(pin, target)]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize("target", TARGETS)
def test_the_lock_meets_every_need_and_holds_nothing_besides(target):
    unseen, unneeded = walk(target)
    # Offline only what is installed here can be asked; what other systems or Pythons install cannot.
    pins, here = pinned(target), pinned_here()
    assert not {name for name in unseen if here.get(name) == pins[name]}, "not installed as the lock says: make env"
    assert not unneeded


@pytest.mark.parametrize("target", TARGETS)
def test_one_tensorflow_the_small_one_where_there_is_one(target):
    found = {name for name in pinned(target) if name.startswith("tensorflow")}
    if target.startswith("macOS Intel"):
        assert not found, "there is no such wheel, so the lock would not install: the doctor explains it instead"
    else:
        assert found == {"tensorflow-cpu" if target.startswith(("Linux x86-64", "Windows")) else "tensorflow"}


def test_the_lock_pins_versions_and_names_no_host():
    odd = [line for line in LOCK if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^\s;/:]*( ; [^/:]+)?", line)]
    assert not odd


def test_the_lock_with_hashes_pins_the_same():
    hashed = (ROOT / "requirements-hashed.lock").read_text(encoding="utf-8").replace(" \\\n    ", " ")
    pins = [line.partition(" --hash=") for line in hashed.splitlines()]
    assert [pin for pin, _, _ in pins] == LOCK
    for _, first, hashes in pins:
        assert re.fullmatch(r"( ?--hash=sha256:[0-9a-f]{64})+", (first + hashes).lstrip())


def test_conda_brings_python_and_pip_and_the_lock_the_rest():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, through_pip = environment["dependencies"]
    assert (environment["name"], pip) == ("rnnkit", "pip")
    assert through_pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))


def test_the_pythons_allowed_are_those_that_the_lock_is_checked_for():
    allowed = SpecifierSet(PROJECT["requires-python"])
    tried = {python.rpartition(".")[0] for python in PYTHONS}
    assert {f"3.{minor}" for minor in range(8, 20) if allowed.contains(f"3.{minor}.9")} == tried


def test_the_extras_offer_each_backend_that_the_library_knows():
    backends = {path.stem for path in (ROOT / "rnnkit" / "_backend").glob("[a-z]*.py")} - {"interface"}
    assert backends == {"tensorflow", "jax", "torch"}
    for backend in backends:
        assert all(need.name.startswith(backend) for need in wanted([f"rnnkit[{backend}]"]))


def test_the_slow_tests_that_are_listed_are_there():
    for listed in conftest.SLOW:
        file, *names = re.sub(r"\[.*", "", listed).split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE) for name in names), listed


def test_the_folders_whose_tests_run_on_every_backend_are_there():
    tests = ROOT / "tests"
    assert all(list((tests / room).glob("test_*.py")) for room in conftest.EVERY_BACKEND)
    assert not conftest.needs_tensorflow(tests / "probes" / "test_probes.py")
    assert conftest.needs_tensorflow(tests / "recorders" / "on_tensorflow" / "test_tensorboard.py")
    assert conftest.needs_tensorflow(tests / "repository" / "test_packaging.py")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/reference.md"])
def test_links_between_the_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)(.*?)\)", text):
        file, _, heading = target.partition("#")
        linked = (ROOT / page).parent / file
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in {words.lower().replace(" ", "-") for words in headings}, target


def test_every_file_of_the_first_edition_can_be_found_again():
    page = (ROOT / "docs" / "first-edition.md").read_text(encoding="utf-8")
    objects = re.findall(r"\| `git show (5d61ab3:\S+)` \|", page)
    assert len(objects) > 20
    git = ["git", "-C", str(ROOT), "cat-file"]
    if (
        shutil.which("git") is None
        or subprocess.run([*git, "-e", "5d61ab3"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this copy of the course does not have the history")
    names = "\n".join(objects)
    found = subprocess.run([*git, "--batch-check"], input=names, capture_output=True, text=True, check=True).stdout
    assert [line for line in found.splitlines() if line.endswith("missing")] == []


def test_ci_runs_every_check_each_once_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test", "make test-rest"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^test-all: test test-rest ##", makefile, re.MULTILINE)


@pytest.fixture
def make(tmp_path):
    """`make env UV= ...` in a folder with the files that it needs, installing nothing: its status and its words."""
    if shutil.which("make") is None:
        pytest.skip("no make here, so nobody uses the Makefile")
    for name in ("Makefile", "requirements.lock", "requirements-hashed.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)

    def run(*arguments):
        command = ["make", "--no-print-directory", "env", "UV=", "INSTALL=echo would install", *arguments]
        outer = ("MAKE", "MFLAGS")  # what a `make test` around this one would hand down
        clean = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def write_command(path, *lines):
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)), encoding="utf-8")
    path.chmod(0o755)
    return path


def write_python(path, version, status):
    """Write what passes for a Python of some version and does nothing but end with a status."""
    return write_command(path, f'[ "$1" = --version ] && echo "Python {version}" && exit', f"exit {status}")


def write_old_python(folder):
    """Write a Python 3.10 that can make environments, of its own version."""
    old = write_python(folder / "old", "3.10.1", status=1)
    return write_command(folder / "python3.10", f"mkdir -p .venv/bin && cp {old} .venv/bin/python")


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ("PYTHON={folder}/python3.10", "Python 3.10.1"),
        ("UV={folder}/python3.10 PYTHON=3.10", "Python 3.10.1"),  # stands for a uv that makes what it is asked for
        ("PYTHON={folder}/nowhere", "none"),
        ("UV=false", "none"),
    ],
)
def test_make_leaves_nothing_of_an_environment_that_it_could_not_build(arguments, got, make, tmp_path):
    write_old_python(tmp_path)
    status, said = make(*arguments.format(folder=tmp_path).split())
    assert status != 0
    assert f"needs Python 3.11, 3.12 or 3.13, with venv and pip; .venv has {got}." in said
    assert "make lab PYTHON=" in said
    assert "would install" not in said
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("uv", ["UV=", "UV=false"])
def test_make_keeps_an_environment_that_it_did_not_build(uv, make, tmp_path):
    write_python(tmp_path / ".venv" / "bin" / "python", "3.10.1", status=1)
    status, said = make(uv, f"PYTHON={sys.executable}")
    assert status != 0
    assert ".venv has Python 3.10.1.\nRemove it with make clean" in said
    assert "would install" not in said
    assert (tmp_path / ".venv" / "bin" / "python").exists()


@pytest.mark.parametrize("left", ["no python", "no pip"])
def test_make_asks_to_remove_what_an_interrupted_run_left(left, make, tmp_path):
    if left == "no pip":
        venv.create(tmp_path / ".venv", with_pip=False)
    else:
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
    status, said = make()
    assert status != 0
    assert "Remove it with make clean" in said
    assert (tmp_path / ".venv").exists()


def test_make_installs_once_for_each_lock(make, tmp_path):
    write_python(tmp_path / ".venv" / "bin" / "python", "3.12.1", status=0)
    status, said = make()
    assert status == 0, said
    assert "would install -r requirements.lock" in said
    assert "would install" not in make()[1]
    built = (tmp_path / ".venv" / "ready").stat().st_mtime
    os.utime(tmp_path / "requirements.lock", (built + 9, built + 9))
    assert "would install" in make()[1]
