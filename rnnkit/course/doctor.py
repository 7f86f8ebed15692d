"""What the library and the lessons need of this machine, what there is, and a fix for each problem.

`read_machine` collects the facts, the judgements at the end of this file turn them into findings, `report` and
`verdict` print those. Only the standard library and `packaging` are needed here, because the doctor has to work where
TensorFlow, Keras or Jupyter do not.
"""

import json
import platform
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from rnnkit._files import PACKAGE

ALL_WELL = "Everything this course needs is here."
LIBRARY_READY = "The library is ready: it can record, probe and draw Keras models of your own."
ENOUGH_MEMORY = 2 * 2**30  # bytes; a lesson's kernel takes about 1 GiB, JupyterLab and a browser tab the rest
A_KERNELS_MEMORY = 2**30  # what the lesson still needs when JupyterLab and its tab are there
PATIENCE = 300  # seconds; the first import of TensorFlow after its installation takes a minute on a slow disk

_REBUILD = (
    "Delete the folder .venv and run `make lab` again; without make, run `python -m pip install --force-reinstall "
    "-r requirements.lock -e .` in the course's environment. Then restart the kernel."
)
KERNEL_FIX = (
    "In the course's environment: python -m ipykernel install --sys-prefix. Then start `rnnkit lab` from there."
)
_LESSONS_BACKEND = (
    "The lessons run on Keras's TensorFlow backend: unset the environment variable KERAS_BACKEND if it is set, and "
    'check that ~/.keras/keras.json, if there is one, says "backend": "tensorflow".'
)
_INSTALL = (
    "Run `make lab` in that folder; without make, run there `python -m pip install -r requirements.lock -e .` "
    "in an environment of its own."
)
_GET_THE_COURSE = (
    "Go to the folder of the course, or get it first with `git clone`: its README says how to install what it needs."
)
_IMPORTS = ("tensorflow", "keras", "backend")
_BACKENDS = ("tensorflow", "jax", "torch")
_MARK = "rnnkit doctor found: "
_PROBE = f"""
import json
import sys

def say(name, find):
    try:
        found = {{"version": find()}}
    except Exception as error:
        lines = f"{{type(error).__name__}}: {{error}}".splitlines()
        # TensorFlow puts a whole traceback into its message, and the reason into the traceback's last line.
        found = {{"error": ([line for line in lines if "Error: " in line] or lines[:1])[-1]}}
    print({_MARK!r} + json.dumps([name, found]), flush=True)

def tensorflow():
    import tensorflow
    tensorflow.zeros(()) + 1  # the first use of a device can fail where the import did not
    return tensorflow.__version__

def keras():
    import keras
    return keras.__version__

def backend():
    name = sys.modules["keras"].backend.backend()
    return f"{{name}} {{sys.modules[name].__version__}}"

say("tensorflow", tensorflow)
say("keras", keras)
say("backend", backend)
"""


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at.

    Attributes:
        name: what it is, a word.
        status: "ok", "skipped" (could not be checked), "warning" (the course runs) or "wrong" (it does not).
        found: what was found.
        fix: what to do about it; empty when all is well.
        part: "library" if a model of one's own needs it, "course" if only the lessons do.
    """

    name: str
    status: str
    found: str
    fix: str = ""
    part: str = "course"


@dataclass(frozen=True)
class Machine:
    """The facts that the judgements need, so that a test can make them up.

    Attributes:
        python: version of the running Python.
        system, processor: as `platform.system()` and `platform.machine()` say.
        requires_python, requires: what the installed rnnkit asks for.
        installed: version of each installed distribution, by normalized name.
        locked: version that the lock has for this machine, by normalized name; None where there is no lock beside the
            package, so that rnnkit was not installed from a clone in place.
        lessons: the folder whose lessons `rnnkit lab` would open; None if there is none.
        imports: for "tensorflow", "keras" and "backend" either `{"version": ...}` or `{"error": ...}`; the version of
            the backend follows its name, "tensorflow 2.21.0".
        kernel: `{"python": ...}`, the Python that runs notebooks, or `{"error": ...}`.
        memory: total and available, in bytes; None where psutil is missing.
    """

    python: str
    system: str
    processor: str
    requires_python: str
    requires: tuple = ()
    installed: dict = field(default_factory=dict)
    locked: dict | None = None
    lessons: Path | None = None
    imports: dict = field(default_factory=dict)
    kernel: dict = field(default_factory=dict)
    memory: tuple | None = None


def read_machine():
    """Look at the machine this runs on.

    TensorFlow and Keras, where not yet loaded, are imported in a Python of their own, so that neither their log lines
    nor their crash reaches this one.

    Returns:
        Machine: the facts.
    """
    return Machine(
        python=platform.python_version(),
        system=platform.system(),
        processor=platform.machine(),
        requires_python=metadata.metadata("rnnkit")["Requires-Python"],
        requires=tuple(metadata.requires("rnnkit")),
        installed=_installed(),
        locked=read_lock(PACKAGE.parent / "requirements.lock"),
        lessons=find_folder("lessons", "00_*.ipynb"),
        imports=try_imports(),
        kernel=read_kernel(),
        memory=_read_memory(),
    )


def examine(machine=None):
    """Judge a machine.

    Args:
        machine: the facts; None reads those of this machine, which takes some seconds.

    Returns:
        list of Finding, one for each thing looked at: first what the library needs, then what only the course does.

    Example:
        >>> from rnnkit.course import doctor
        >>> [finding.name for finding in doctor.examine() if finding.status == "wrong"]
        []
    """
    if machine is None:
        if not _is_installed("rnnkit"):
            folder = PACKAGE.parent
            return [Finding("Packages", "wrong", f"rnnkit is in {folder}, but not installed", _INSTALL, "library")]
        try:
            import packaging  # noqa: F401  (all judgements of versions need it)
        except ImportError:
            fix = "python -m pip install packaging"
            return [Finding("Packages", "wrong", "packaging is missing; the other checks need it", fix, "library")]
        machine = read_machine()
    library = (_python, _keras, _packages)
    course = (_computer, _tensorflow, _backend, _extras, _lock, _kernel, _lessons, _memory)
    return [replace(judge(machine), part="library") for judge in library] + [judge(machine) for judge in course]


def glance():
    """Judge what may have changed since the doctor was last asked, once Keras is loaded; takes no time.

    Returns:
        list of Finding: the backend that Keras runs on, and the memory that is left for this kernel.

    Example:
        >>> import keras
        >>> from rnnkit.course import doctor
        >>> [finding.name for finding in doctor.glance()]
        ['Backend', 'Memory']
    """
    keras = sys.modules["keras"]
    imports = {"keras": {"version": keras.__version__}, "backend": {"version": keras.backend.backend()}}
    machine = Machine("", "", "", "", imports=imports, memory=_read_memory())
    return [_backend(machine), _memory(machine, enough=A_KERNELS_MEMORY)]


def report(findings=None):
    """Print all findings on one screen, with the fix for each problem.

    Where `rnnkit lab` has lessons to open, the course is what has to work. Elsewhere it is the library, and what the
    course needs besides is listed as such.

    Args:
        findings: list of Finding; None examines this machine.

    Returns:
        bool: whether the course works, or, where there are no lessons, the library.
    """
    findings = examine() if findings is None else findings
    problems = [finding for finding in findings if finding.status == "wrong"]
    parts = ("library", "course") if not any(finding.name == "Lessons" for finding in problems) else ("library",)
    concerning = [finding for finding in problems if finding.part in parts]
    for finding in findings:
        _print(finding, besides=finding in problems and finding not in concerning)
    print()
    if not problems:
        print(ALL_WELL)
    elif concerning:
        problem = "1 problem" if len(concerning) == 1 else f"{len(concerning)} problems"
        what = "the lessons" if "course" in parts else "the library"
        print(f"{problem} to fix before {what} will work (see above).")
    else:
        print(LIBRARY_READY)
        print(textwrap.fill(f'The course needs what is marked "needed" as well. {_GET_THE_COURSE}', 100))
    return not concerning


def _print(finding, besides):
    """Print a finding, with its fix unless it concerns what the course needs besides the library."""
    wrap = textwrap.TextWrapper(100, subsequent_indent=" " * 22, break_long_words=False, break_on_hyphens=False)
    print(wrap.fill(f"{'needed' if besides else finding.status:8}  {finding.name:10}  {finding.found}"))
    if finding.fix and not besides:
        print(wrap.fill(f"{'':17}fix: {finding.fix}"))


def verdict(findings=None):
    """Print only what stops the lessons, or that nothing does: the same words on every machine that is well.

    It is asked from within a lesson, so it does not look for the folder of lessons.

    Args:
        findings: list of Finding; None examines this machine.

    Example:
        >>> from rnnkit.course import doctor
        >>> doctor.verdict()
        Everything this course needs is here.
    """
    findings = examine() if findings is None else findings
    wrong = [finding for finding in findings if finding.status == "wrong" and finding.name != "Lessons"]
    for finding in wrong:
        print(f"{finding.name}: {finding.found}\n    {finding.fix}")
    if not wrong:
        print(ALL_WELL)


def course_folders(name):
    """Return where a folder of the course is looked for: here, and beside the package.

    Args:
        name: of the folder, such as "lessons".
    """
    return list(dict.fromkeys([Path.cwd() / name, PACKAGE.parent / name]))


def find_folder(name, content):
    """Return the first of `course_folders` that holds what is looked for, or None.

    Args:
        name: of the folder, such as "lessons".
        content: pattern of its files, such as "00_*.ipynb".
    """
    return next((folder for folder in course_folders(name) if any(folder.glob(content))), None)


def read_lock(path, environment=None):
    """Read the versions that a lock pins.

    Args:
        path: a requirements file of `name==version ; marker` lines.
        environment: values of environment markers to use in place of this machine's.

    Returns:
        dict from normalized name to version; None if there is no such file.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if not Path(path).is_file():
        return None
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(environment)
    }


def try_imports(loaded=None):
    """Look at TensorFlow and Keras where they are loaded; else import them in another process, and use the device once.

    Args:
        loaded: modules by name; None takes `sys.modules`.

    Returns:
        dict from "tensorflow", "keras" and "backend" to `{"version": ...}` or `{"error": ...}`.
    """
    loaded = sys.modules if loaded is None else loaded
    if "tensorflow" in loaded and "keras" in loaded:
        tensorflow, keras = loaded["tensorflow"], loaded["keras"]
        backend = keras.backend.backend()
        versions = (tensorflow.__version__, keras.__version__, f"{backend} {loaded[backend].__version__}")
        return {name: {"version": version} for name, version in zip(_IMPORTS, versions, strict=True)}
    code, output, ending = _run([sys.executable, "-c", _PROBE])
    if code not in (None, 0, 1):
        ending = f"Python itself crashed (status {code})"
    # What says nothing was never reached: the process ended before.
    found = {name: {"error": ending} for name in _IMPORTS}
    for line in output.splitlines():
        if line.startswith(_MARK):
            name, said = json.loads(line.removeprefix(_MARK))
            found[name] = said
    return found


def _run(command):
    """Run a command in an empty folder; return its status (None if it never ended), stdout and last word."""
    # Python puts the folder it starts in on its path: from the repository's it would find what is not installed.
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                command, cwd=empty, capture_output=True, text=True, errors="replace", timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return None, "", f"gave no answer within {PATIENCE} s"
        except OSError as error:
            return None, "", str(error)
    said = done.stderr.strip().splitlines()
    return done.returncode, done.stdout, said[-1].strip() if said else f"ended with status {done.returncode}"


def _is_installed(name):
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _installed():
    from packaging.utils import canonicalize_name

    # A broken installation leaves metadata without a name behind.
    names = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return {canonicalize_name(name): version for name, version in names.items() if name}


def read_kernel():
    """Look at the kernel that JupyterLab would start for a lesson.

    Returns:
        dict: `{"python": ...}`, the Python that runs it, or `{"error": ...}` if that cannot run this rnnkit.

    Example:
        >>> from rnnkit.course import doctor
        >>> list(doctor.read_kernel())
        ['python']
    """
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return {"error": "Jupyter is not installed"}
    try:
        python = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return {"error": "no kernel is registered under the name that the lessons ask for, python3"}
    major, minor = sys.version_info[:2]
    if python in ("python", f"python{major}", f"python{major}.{minor}"):
        python = sys.executable  # as Jupyter does
    status, said, last_word = _run([python, "-c", "import ipykernel, rnnkit; print(rnnkit.__file__)"])
    if status != 0:
        return {"error": f"{python} cannot run notebooks: {last_word}"}
    other = Path(said.strip()).resolve().parent
    if other != PACKAGE:
        return {"error": f"{python} runs the rnnkit in {other}, not the one in {PACKAGE}"}
    return {"python": python}


def _read_memory():
    try:
        import psutil
    except ImportError:
        return None
    memory = psutil.virtual_memory()
    return memory.total, memory.available


# --- judgements: from a Machine to a Finding --------------------------------------------------------------------


def _reinstall(machine, requirements):
    """Return how to get what is missing: from the lock in a clone, elsewhere package by package."""
    if machine.locked is not None:
        return _REBUILD
    quoted = " ".join(f'"{requirement.name}{requirement.specifier}"' for requirement in requirements)
    return f"python -m pip install {quoted}"


def _python(machine):
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(machine.requires_python).contains(machine.python, prereleases=True):
        return Finding("Python", "ok", f"{machine.python} ({sys.executable})")
    fix = f"Install a Python {machine.requires_python}, and rnnkit in an environment of it."
    if machine.locked is not None:
        fix = (
            "Install Python 3.12, delete the folder .venv and run `make lab PYTHON=python3.12`; with conda, "
            "`conda env create -f environment.yml` brings it along."
        )
    return Finding("Python", "wrong", f"{machine.python}; rnnkit needs {machine.requires_python}", fix)


def _computer(machine):
    found = f"{machine.system} {machine.processor}"
    if (machine.system, machine.processor) != ("Darwin", "x86_64"):
        return Finding("Computer", "ok", found)
    return Finding(
        "Computer",
        "wrong",
        f"{found}: TensorFlow has had no build for Intel Macs since 2.16, and the course needs a newer one",
        "If this Mac has an Apple chip, your Python is an Intel build: install an arm64 Python, delete the folder "
        ".venv and run `make lab` again. On an Intel Mac run the course online or in a Linux container.",
    )


def _tensorflow(machine):
    from packaging.specifiers import SpecifierSet

    said = machine.imports["tensorflow"]
    wanted = [requirement for requirement in _requirements(machine, "course") if _is_tensorflow(requirement)]
    if "version" in said:
        # All variants (tensorflow, tensorflow-cpu) have the same range; what counts is what imports.
        needed = wanted[0].specifier if wanted else SpecifierSet()
        if needed.contains(said["version"], prereleases=True):
            return Finding("TensorFlow", "ok", said["version"])
        return Finding(
            "TensorFlow", "wrong", f"{said['version']}; the course needs {needed}", _reinstall(machine, wanted)
        )
    if (machine.system, machine.processor) == ("Darwin", "x86_64"):
        fix = "See Computer above: no installation will help here."
    elif machine.system == "Windows" and "DLL" in said["error"]:
        fix = "Install the Microsoft Visual C++ Redistributable (x64), restart Windows and try again."
    elif "crashed" in said["error"]:
        fix = f"TensorFlow needs a processor with AVX instructions. If yours has them: {_reinstall(machine, wanted)}"
    else:
        fix = _reinstall(machine, wanted)
    return Finding("TensorFlow", "wrong", f"cannot be used: {said['error']}", fix)


def _keras(machine):
    keras, backend = machine.imports["keras"], machine.imports["backend"]
    needed = [requirement for requirement in _requirements(machine) if requirement.name == "keras"]
    if "version" in keras:
        found = f"{keras['version']} on {backend.get('version')}"
        if backend.get("version", "").partition(" ")[0] in _BACKENDS:
            return Finding("Keras", "ok", found)
        fix = "rnnkit needs a backend with gradients: set KERAS_BACKEND to tensorflow, jax or torch."
        return Finding("Keras", "wrong", found, fix)
    if "No module named 'keras'" in keras["error"]:
        return Finding("Keras", "wrong", "is not installed", _reinstall(machine, needed))
    missing = [name for name in _BACKENDS if f"No module named '{name}'" in keras["error"]]
    if missing and (missing != ["tensorflow"] or machine.locked is None):
        return _without_backend(machine, *missing)
    if "error" in machine.imports["tensorflow"]:
        fix = "Fix TensorFlow first, then run `rnnkit doctor` again."
        return Finding("Keras", "wrong", "cannot start without its backend", fix)
    fix = f"{_LESSONS_BACKEND} If that is so already: {_reinstall(machine, needed)}"
    return Finding("Keras", "wrong", f"cannot be imported: {keras['error']}", fix)


def _without_backend(machine, missing):
    """Judge a Keras whose backend is not installed."""
    installed = [name for name in _BACKENDS if name in machine.installed or "version" in machine.imports.get(name, ())]
    fix = f"python -m pip install {missing}"
    if installed:
        fix = f"Set the environment variable KERAS_BACKEND={installed[0]} before Python starts, or run `{fix}`."
    found = f"cannot start: its backend is {missing}, which is not installed"
    if missing == "tensorflow":
        found += " (Keras runs on TensorFlow unless told otherwise)"
    return Finding("Keras", "wrong", found, fix)


def _backend(machine):
    version = machine.imports["backend"].get("version")
    if version is None:
        return Finding("Backend", "skipped", "not known while Keras cannot start")
    if version.partition(" ")[0] == "tensorflow":
        return Finding("Backend", "ok", "Keras runs on TensorFlow, as in the lessons")
    found = f"Keras runs on {version}; the lessons need TensorFlow"
    return Finding("Backend", "wrong", found, f"{_LESSONS_BACKEND} Then restart the kernel.")


def _packages(machine):
    wanted = _requirements(machine)
    return _judge_packages("Packages", machine, wanted, f"all {len(wanted)} that the library needs")


def _extras(machine):
    library = {requirement.name for requirement in _requirements(machine)}
    wanted = [
        requirement
        for requirement in _requirements(machine, "course")
        if requirement.name not in library and not _is_tensorflow(requirement)
    ]
    return _judge_packages("Extras", machine, wanted, f"all {len(wanted)} packages that only the course needs")


def _judge_packages(name, machine, wanted, well):
    problems = {}
    for requirement in wanted:
        version = machine.installed.get(requirement.name)
        if version is None:
            problems[requirement] = f"{requirement.name} is missing"
        elif not requirement.specifier.contains(version, prereleases=True):
            problems[requirement] = f"{requirement.name} {version} (needs {requirement.specifier})"
    if problems:
        return Finding(name, "wrong", _list(list(problems.values())), _reinstall(machine, problems))
    return Finding(name, "ok", well)


def _lock(machine):
    if machine.locked is None:
        return Finding("Lock", "skipped", "no requirements.lock beside the package: tested versions not compared")
    problems = [
        f"{name} {machine.installed.get(name, 'is missing')} (tested: {version})"
        for name, version in machine.locked.items()
        if machine.installed.get(name) != version
    ]
    if not problems:
        return Finding("Lock", "ok", f"all {len(machine.locked)} packages as tested")
    fix = "Numbers may differ from the text. To get the tested versions: python -m pip install -r requirements.lock"
    return Finding("Lock", "warning", _list(problems), fix)


def _kernel(machine):
    if "python" in machine.kernel:
        return Finding("Kernel", "ok", f"python3, run by {machine.kernel['python']}")
    return Finding("Kernel", "wrong", machine.kernel["error"], KERNEL_FIX)


def _lessons(machine):
    if machine.lessons is not None:
        return Finding("Lessons", "ok", str(machine.lessons))
    return Finding("Lessons", "wrong", f"not in {' or '.join(map(str, course_folders('lessons')))}", _GET_THE_COURSE)


def _memory(machine, enough=ENOUGH_MEMORY):
    if machine.memory is None:
        return Finding("Memory", "skipped", "not measured (psutil is missing)")
    total, available = machine.memory
    found = f"{available / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB"
    if available >= enough:
        return Finding("Memory", "ok", found)
    fix = "Close other programs, and shut down the kernels of lessons that you have finished."
    return Finding("Memory", "warning", found, fix)


def _requirements(machine, *extras):
    """Return what rnnkit requires on this machine: by itself, and with these extras."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if "course" in extras:
        extras += ("tensorflow",)  # `course` asks for rnnkit[tensorflow]
    wanted = {}
    for line in machine.requires:
        requirement = Requirement(line)
        requirement.name = canonicalize_name(requirement.name)
        applies = any(requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in ("", *extras))
        if applies and requirement.name != "rnnkit":
            wanted[requirement.name] = requirement
    return list(wanted.values())


def _is_tensorflow(requirement):
    """Whether it is one of TensorFlow's variants, tensorflow or tensorflow-cpu."""
    return requirement.name.startswith("tensorflow")


def _list(problems, most=4):
    rest = len(problems) - most
    return ", ".join(problems[:most]) + (f" and {rest} more" if rest > 0 else "")
