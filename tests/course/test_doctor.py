"""The doctor names each thing that can be wrong with its fix, and needs neither Keras nor TensorFlow to do so."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rnnkit import doctor
from rnnkit._files import PACKAGE
from rnnkit.course.doctor import Finding, Machine

GiB = 2**30
REQUIRES = (
    "keras<3.16,>=3.15",
    "numpy>=2.0",
    "jupyterlab>=4.4; extra == 'course'",
    "rnnkit[tensorflow]; extra == 'course'",
    "tensorflow-cpu<2.22,>=2.21; python_version > '3' and extra == 'tensorflow'",
    "torch>=2.6; extra == 'torch'",
    "ruff>=0.12; extra == 'dev'",
)
WELL = Machine(
    python="3.12.4",
    system="Linux",
    processor="x86_64",
    requires_python=">=3.11,<3.14",
    requires=REQUIRES,
    installed={"keras": "3.15.1", "numpy": "2.4.6", "jupyterlab": "4.6.6", "ruff": "0.17.6"},
    locked={"keras": "3.15.1", "numpy": "2.4.6", "ruff": "0.17.6"},
    imports={
        "tensorflow": {"version": "2.21.0"},
        "keras": {"version": "3.15.1"},
        "backend": {"version": "tensorflow 2.21.0"},
    },
    lessons=Path("/course/lessons"),
    kernel={"python": "/env/bin/python"},
    memory=(16 * GiB, 8 * GiB),
)


def imports(tensorflow=None, keras=None, backend="tensorflow 2.21.0"):
    """What the imports say when those named here fail, or another backend runs."""
    failed = {"tensorflow": tensorflow, "keras": keras}
    found = WELL.imports | {name: {"error": error} for name, error in failed.items() if error}
    return {"imports": found | {"backend": {"error": "KeyError: 'keras'"} if keras else {"version": backend}}}


MISSING = "ModuleNotFoundError: No module named 'tensorflow'"
DLL = "ImportError: DLL load failed while importing _pywrap_tensorflow_internal"
INTEL_MAC = {"system": "Darwin", "processor": "x86_64"}
# what is the matter: (facts, name, status, words of what was found, words of the fix)
CASES = {
    "old Python": ({"python": "3.10.14"}, "Python", "wrong", "3.10.14; rnnkit needs >=3.11,<3.14", "PYTHON="),
    "new Python": ({"python": "3.14.0rc1"}, "Python", "wrong", "3.14.0rc1", "Install Python 3.12"),
    "Intel Mac": (INTEL_MAC, "Computer", "wrong", "no build for Intel Macs", "Linux container"),
    "Intel Mac's TensorFlow": (INTEL_MAC | imports(MISSING, MISSING), "TensorFlow", "wrong", "No module", "Computer"),
    "no TensorFlow": (imports(MISSING, MISSING), "TensorFlow", "wrong", "No module named 'tensorflow'", "make lab"),
    "Keras without TensorFlow": (imports(MISSING, MISSING), "Keras", "wrong", "backend", "Fix TensorFlow first"),
    "a DLL": ({"system": "Windows"} | imports(DLL, DLL), "TensorFlow", "wrong", "DLL load failed", "Visual C++"),
    "a crash": (imports("Python itself crashed (status -4)", "-"), "TensorFlow", "wrong", "crashed", "AVX"),
    "old TensorFlow": (
        {"imports": WELL.imports | {"tensorflow": {"version": "2.19.0"}}},
        "TensorFlow",
        "wrong",
        "2.19.0; the course needs <2.22,>=2.21",
        "make lab",
    ),
    "another backend": (imports(backend="jax 0.10.2"), "Backend", "wrong", "runs on jax 0.10.2", "The lessons run on"),
    "another backend's Keras": (imports(backend="jax 0.10.2"), "Keras", "ok", "3.15.1 on jax 0.10.2", ""),
    "a backend without gradients": (imports(backend="numpy 2.4.6"), "Keras", "wrong", "on numpy", "KERAS_BACKEND to"),
    "a backend not installed": (
        imports(keras="ModuleNotFoundError: No module named 'jax'"),
        "Keras",
        "wrong",
        "its backend is jax, which is not installed",
        "KERAS_BACKEND=tensorflow before Python starts, or run `python -m pip install jax`",
    ),
    "a backend to install": (
        imports(MISSING, "ModuleNotFoundError: No module named 'torch'"),
        "Keras",
        "wrong",
        "its backend is torch",
        "python -m pip install torch",
    ),
    "a backend that is none": (
        imports(keras="ValueError: Unable to import backend : tensroflow"),
        "Keras",
        "wrong",
        "Unable to import backend : tensroflow",
        "unset the environment variable KERAS_BACKEND",
    ),
    "no Keras": (
        imports("No module named 'keras'", "No module named 'keras'"),
        "Keras",
        "wrong",
        "is not installed",
        "make lab",
    ),
    "old Keras": (
        {"installed": WELL.installed | {"keras": "3.12.0"}},
        "Packages",
        "wrong",
        "keras 3.12.0 (needs <3.16,>=3.15)",
        "make lab",
    ),
    "no JupyterLab": (
        {"installed": {name: version for name, version in WELL.installed.items() if name != "jupyterlab"}},
        "Extras",
        "wrong",
        "jupyterlab is missing",
        "make lab",
    ),
    "a version not tested": (
        {"installed": WELL.installed | {"numpy": "2.0.1"}},
        "Lock",
        "warning",
        "numpy 2.0.1 (tested: 2.4.6)",
        "pip install -r requirements.lock",
    ),
    "no tool for authors": (
        {"installed": {name: version for name, version in WELL.installed.items() if name != "ruff"}},
        "Lock",
        "warning",
        "ruff is missing",
        "requirements.lock",
    ),
    "many versions not tested": ({"installed": {}}, "Lock", "warning", "keras is missing", "requirements.lock"),
    "no kernel": ({"kernel": {"error": "Jupyter is not installed"}}, "Kernel", "wrong", "Jupyter", "ipykernel install"),
    "no lessons": ({"lessons": None}, "Lessons", "wrong", "not in ", "git clone"),
    "little memory": ({"memory": (4 * GiB, GiB)}, "Memory", "warning", "1.0 GiB free of 4.0", "Close other programs"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_trouble_is_named_with_its_fix(case):
    facts, name, status, found, fix = CASES[case]
    finding = next(each for each in doctor.examine(replace(WELL, **facts)) if each.name == name)
    assert finding.status == status
    assert found in finding.found
    assert fix in finding.fix


# An environment with the library alone, installed from a wheel.
ALONE = {
    "installed": {"keras": "3.15.1", "numpy": "2.4.6", "jax": "0.10.2"},
    "locked": None,
    "lessons": None,
    "kernel": {"error": "Jupyter is not installed"},
    "memory": None,
}
NO_BACKEND = imports(MISSING, MISSING) | {"installed": {"keras": "3.15.1", "numpy": "2.4.6"}}
OLD_KERAS = imports(MISSING, backend="jax 0.10.2") | {"installed": ALONE["installed"] | {"keras": "3.12.0"}}
# (facts, words of the report, whether the library works)
WITHOUT_COURSE = {
    "on JAX": (imports(MISSING, backend="jax 0.10.2"), "The library is ready", True),
    "JAX not chosen": (imports(MISSING, MISSING), "Set the environment variable KERAS_BACKEND=jax", False),
    "no backend": (NO_BACKEND, "unless told otherwise) fix: python -m pip install tensorflow", False),
    "old Keras": (OLD_KERAS, 'fix: python -m pip install "keras<3.16,>=3.15"', False),
}


@pytest.mark.parametrize("case", WITHOUT_COURSE)
def test_the_library_alone_is_judged_where_there_are_no_lessons(case, capsys):
    facts, words, works = WITHOUT_COURSE[case]
    assert doctor.report(doctor.examine(replace(WELL, **ALONE | facts))) == works
    said = " ".join(capsys.readouterr().out.split())
    assert words in said
    assert "needed Lessons" in said
    assert ("1 problem to fix before the library will work" in said) != works
    assert "make lab" not in said


def test_all_the_course_needs_is_not_there_without_its_lessons(capsys):
    assert doctor.report(doctor.examine(replace(WELL, lessons=None)))
    said = capsys.readouterr().out
    assert "needed    Lessons" in said
    assert "git clone" in said
    assert doctor.ALL_WELL not in said


def test_who_asks_from_within_a_lesson_has_it(capsys):
    doctor.verdict(doctor.examine(replace(WELL, lessons=None)))
    assert capsys.readouterr().out.strip() == doctor.ALL_WELL


def test_a_fix_outside_a_clone_names_packages_not_its_files():
    findings = doctor.examine(replace(WELL, locked=None, installed={}, imports=imports(MISSING, MISSING)["imports"]))
    fixes = {finding.name: finding.fix for finding in findings}
    assert fixes["Extras"] == 'python -m pip install "jupyterlab>=4.4"'
    assert fixes["TensorFlow"] == 'python -m pip install "tensorflow-cpu<2.22,>=2.21"'


def test_a_machine_that_is_well():
    assert {(finding.status, finding.fix) for finding in doctor.examine(WELL)} == {("ok", "")}


def test_this_machine_is_well_and_its_report_fits_on_a_screen(capsys):
    assert doctor.report()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == doctor.ALL_WELL
    assert len(lines) <= 24


@pytest.mark.parametrize("unknown", [{"locked": None}, {"memory": None}])
def test_what_cannot_be_known_is_said_and_is_no_trouble(unknown):
    findings = doctor.examine(replace(WELL, **unknown))
    assert {finding.status for finding in findings} == {"ok", "skipped"}
    assert any("not " in finding.found for finding in findings)


def test_a_long_list_is_cut(tmp_path):
    locked = {f"package{number}": "1" for number in range(9)}
    finding = next(each for each in doctor.examine(replace(WELL, locked=locked)) if each.name == "Lock")
    assert finding.found.endswith("package3 is missing (tested: 1) and 5 more")


def test_the_report_counts_what_is_wrong(capsys):
    findings = [Finding("Python", "ok", "3.12"), Finding("Kernel", "wrong", "none", "Register it.")]
    assert not doctor.report(findings)
    out = capsys.readouterr().out
    assert "wrong     Kernel      none\n" in out
    assert "fix: Register it.\n" in out
    assert "1 problem to fix" in out


def test_the_verdict_leaves_out_what_does_not_stop_the_lessons(capsys):
    doctor.verdict([Finding("Python", "ok", "3.12"), Finding("Lock", "warning", "numpy 2.3", "Install 2.4.")])
    assert capsys.readouterr().out == "Everything this course needs is here.\n"
    doctor.verdict(
        [Finding("Lock", "warning", "numpy 2.3", "Install."), Finding("Kernel", "wrong", "none", "Register.")]
    )
    assert capsys.readouterr().out == "Kernel: none\n    Register.\n"


def test_a_lock_is_read_for_a_platform(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# made by hand\nSome_Name==1.0\npywinpty==3 ; os_name == 'nt'\n", encoding="utf-8")
    assert doctor.read_lock(lock, {"os_name": "posix"}) == {"some-name": "1.0"}
    assert doctor.read_lock(lock, {"os_name": "nt"}) == {"some-name": "1.0", "pywinpty": "3"}
    assert doctor.read_lock(tmp_path / "none") is None


def test_what_is_loaded_already_is_not_imported_again(monkeypatch):
    monkeypatch.setattr(doctor, "_run", lambda command: pytest.fail("a second import"))
    backend = SimpleNamespace(backend=lambda: "jax")
    keras = SimpleNamespace(__version__="3.15.1", backend=backend)
    others = {"tensorflow": "2.21.0", "jax": "0.10.2"}
    loaded = {name: SimpleNamespace(__version__=version) for name, version in others.items()}
    found = doctor.try_imports({"keras": keras, **loaded})
    assert found == {
        "tensorflow": {"version": "2.21.0"},
        "keras": {"version": "3.15.1"},
        "backend": {"version": "jax 0.10.2"},
    }


# Small enough to be imported at once, and enough for the doctor's probe.
TENSORFLOW = "__version__ = '2.21.0'; zeros = lambda shape: 0"
KERAS = "import tensorflow\nclass backend: backend = lambda: 'tensorflow'\n__version__ = '3.15.1'"
# TensorFlow's own way to fail: a traceback within the message.
NATIVE = r"raise ImportError('Traceback (most recent call last):\n  File\nImportError: no libstdc++\n\nFailed to load')"


def run_doctor(folder, hidden=None, **modules):
    """Run the command line with these modules in place of the installed ones, and one hidden altogether."""
    # Python runs sitecustomize first of all, in the command and in the processes it starts.
    modules["sitecustomize"] = f"import sys; sys.modules[{hidden!r}] = None" if hidden else ""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "rnnkit", "doctor"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(PACKAGE.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("tensorflow", "trouble"),
    [
        (NATIVE, "cannot be used: ImportError: no libstdc++"),
        ("import os; os.abort()", "cannot be used: Python itself crashed"),
        ("import sys; print('W0000 log line', file=sys.stderr); zeros = None", "'NoneType' object is not callable"),
        ("raise ModuleNotFoundError('nothing here')", "cannot be used: ModuleNotFoundError: nothing here"),
    ],
)
def test_the_command_speaks_where_tensorflow_is_broken(tensorflow, trouble, tmp_path):
    status, said = run_doctor(tmp_path, tensorflow=tensorflow, keras="import tensorflow; tensorflow.zeros(())")
    assert status == 1
    assert trouble in said
    assert "wrong Keras cannot start without its backend" in said


@pytest.mark.parametrize(
    ("missing", "status", "words"),
    [
        ("packaging", 1, "packaging is missing"),
        ("psutil", 0, "not measured (psutil is missing)"),
        ("jupyter_client", 1, "Jupyter is not installed"),
        (None, 0, doctor.ALL_WELL),
    ],
)
def test_the_command_speaks_where_others_are_missing(missing, status, words, tmp_path):
    found, said = run_doctor(tmp_path, hidden=missing, tensorflow=TENSORFLOW, keras=KERAS)
    assert words in said
    assert found == status


def test_the_command_speaks_in_a_clone_that_is_not_installed(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "rnnkit")

    def run(*arguments):  # -S: nothing but the standard library, as with a system's own Python
        command = [sys.executable, "-S", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("-m", "rnnkit", "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    said = " ".join(done.stdout.split())
    assert "but not installed fix: Run `make lab` in that folder" in said
    assert run("-c", "import rnnkit; print(rnnkit.__version__)").stdout == "0+unknown\n"


@pytest.mark.parametrize(
    ("argv", "trouble"),
    [
        (["python", "-m", "ipykernel_launcher"], None),
        ([sys.executable, "-m", "ipykernel_launcher"], None),
        (["/nowhere/python", "-m", "ipykernel_launcher"], "No such file or directory: '/nowhere/python'"),
        (["false"], "false cannot run notebooks: ended with status 1"),
    ],
)
def test_the_kernel_that_jupyter_would_start_is_tried(argv, trouble, monkeypatch):
    from jupyter_client import kernelspec

    spec = kernelspec.KernelSpec(argv=argv)
    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    kernel = doctor.read_kernel()
    assert kernel == {"python": sys.executable} if trouble is None else trouble in kernel["error"]


def test_a_kernel_with_another_rnnkit_is_named(tmp_path, monkeypatch):
    (tmp_path / "rnnkit").mkdir()
    (tmp_path / "rnnkit" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert f"runs the rnnkit in {tmp_path / 'rnnkit'}, not the one in" in doctor.read_kernel()["error"]


def test_a_kernel_not_registered_is_named(monkeypatch):
    from jupyter_client import kernelspec

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", none)
    assert "no kernel is registered" in doctor.read_kernel()["error"]


def test_a_probe_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    found = doctor.try_imports({})
    assert found["tensorflow"] == {"error": "gave no answer within 0.2 s"}
