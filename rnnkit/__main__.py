"""The command line: `doctor`, `lab`, `progress` for learners, `handout`, `grade` for teachers, others for authors."""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import quote

import rnnkit


def main(argv=None):
    """Run one command.

    Args:
        argv: list of arguments; None takes the command line's.

    Returns:
        int: exit status, 0 when all is well.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["lab"]:
        return open_lab(argv[1:])  # the one command that leaves its arguments to another program
    parser = argparse.ArgumentParser(prog="rnnkit", description="Vanishing gradients, measured: the course's commands.")
    parser.add_argument("--version", action="version", version=f"rnnkit {rnnkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("doctor", help="check this machine and suggest fixes")
    commands.add_parser("lab", help="open JupyterLab at lesson 00; further arguments are passed on to it")
    handout = commands.add_parser("handout", help="copy the lessons, never the solutions, for a class (for teachers)")
    handout.add_argument("folder", metavar="DIR", help="where to; made if need be")
    handout.add_argument("--repository", help="https://github.com/OWNER/NAME: adds what Binder, Colab and a hub need")
    handout.add_argument("--branch", default="handout", help="of the repository, which DIR will be pushed to (handout)")
    handout.add_argument("--course", default="main", help="branch of the repository with the course itself (main)")
    handout.add_argument("--hub", help="address of a JupyterHub with nbgitpuller, for links to it")
    commands.add_parser("progress", help="say which exercises you have done")
    grade = commands.add_parser("grade", help="examine the notebooks that a class returned (for teachers)")
    grade.add_argument("folder", metavar="DIR", help="folder with one folder per student: DIR/STUDENT/NN_name.ipynb")
    grade.add_argument("--out", default="grades.csv", metavar="FILE", help="table to write (default: %(default)s)")
    grade.add_argument("--jobs", type=int, metavar="N", help="notebooks to grade at a time (default: one per core)")
    time_limit = "time limit per answer, in seconds (default: %(default)s)"
    grade.add_argument("--seconds", type=float, default=60, metavar="S", help=time_limit)
    memory_limit = "memory limit of a student's process (default: %(default)s)"
    grade.add_argument("--memory", type=float, default=3, metavar="GB", help=memory_limit)
    lessons = commands.add_parser("lessons", help="make the lessons from their solutions (for authors)")
    lessons.add_argument("--check", action="store_true", help="change nothing; fail if a lesson has drifted")
    reference = commands.add_parser("reference", help="make docs/reference.md from the docstrings (for authors)")
    reference.add_argument("--check", action="store_true", help="change nothing; fail if the page is out of date")
    records = commands.add_parser("records", help="make the ledgers of claims and replications (for authors)")
    records.add_argument("--check", action="store_true", help="change nothing; fail if one is out of date")
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    if arguments.command == "doctor":
        return diagnose()
    if arguments.command == "handout":
        return hand_out(arguments)
    if arguments.command == "progress":
        return show_progress()
    if arguments.command == "grade":
        return grade_notebooks(arguments)
    make = {"lessons": make_lessons, "reference": make_reference, "records": make_records}[arguments.command]
    return make(arguments.check)


def diagnose():
    """Print the doctor's report; return 1 if something is wrong with what this folder is for."""
    from rnnkit import doctor

    return 0 if doctor.report() else 1


def open_lab(extra):
    """Open JupyterLab at the lessons, lesson 00 first, until it is shut down; return 1 if it cannot be."""
    lessons = find_folder("lessons", "00_*.ipynb")
    if lessons is None:
        return 1
    try:
        from jupyterlab.labapp import main as jupyterlab
    except ImportError:
        print("JupyterLab is not installed. `rnnkit doctor` says what to do.", file=sys.stderr)
        return 1
    for trouble in lab_troubles(lessons):
        print(trouble, file=sys.stderr)
    first = min(lessons.glob("00_*.ipynb")).name
    # So that `!pip` in a notebook and `rnnkit doctor` in JupyterLab's terminal are this environment's.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # JupyterLab 4.6 asks whether to fetch news, whatever `news_url` says; this folder turns the plugin off that asks.
    folders = [str(Path(__file__).parent / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, folders))
    # What the learner sets is left out of ours: JupyterLab would follow neither of two.
    given = {argument.partition("=")[0] for argument in extra}
    ours = [argument for argument in lab_arguments(lessons, first) if argument.partition("=")[0] not in given]
    jupyterlab([*ours, *extra])
    return 0


def lab_troubles(lessons):
    """Return what JupyterLab would say only when it is too late: as the first cell runs, or the notebook is saved."""
    from rnnkit import doctor

    troubles = []
    kernel = doctor.read_kernel()
    if "error" in kernel:
        troubles.append(f"The lessons will not run: {kernel['error']}. {doctor.KERNEL_FIX}")
    if not os.access(lessons, os.W_OK):
        home = Path.home() / "rnnkit-course"
        troubles.append(
            f"What you do in the lessons cannot be saved: {lessons} is not yours to write to. Copy them with "
            f"`rnnkit handout {home / 'lessons'}`, then `cd {home}` and `rnnkit lab` again."
        )
    return troubles


def lab_arguments(lessons, first):
    """Return JupyterLab's arguments: rooted at the lessons, showing the first one, without questions about news."""
    return [
        f"--ServerApp.root_dir={lessons}",
        f"--LabApp.default_url=/lab/tree/{quote(first)}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    ]


def hand_out(arguments):
    """Copy the lessons into a folder for students; return 1 if there is other work under one of their names."""
    lessons = find_folder("lessons", "*.ipynb")
    if lessons is None:
        return 1
    from rnnkit import _handout

    folder, place = Path(arguments.folder), None
    if arguments.repository:
        place = _handout.Place(arguments.repository, arguments.branch, arguments.course, arguments.hub)
    elif arguments.hub:
        print("--hub says who opens a hand-out, and --repository where it is: pass both.", file=sys.stderr)
        return 1
    try:
        new = _handout.files(lessons, place)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    others = _handout.conflicts(new, folder)
    if others:
        print(
            f"Nothing was copied: {folder} has other files of the same name, perhaps a student's work: "
            f"{', '.join(others)}. Name another folder, or move them away.",
            file=sys.stderr,
        )
        return 1
    try:
        _handout.write(new, folder)
    except OSError as error:
        print(f"{folder} cannot be written to ({error}). Name a folder that can.", file=sys.stderr)
        return 1
    count = sum(name.endswith(".ipynb") for name in new)
    if place:
        print(f"{count} lessons, their links and an environment are in {folder}. Push it as branch {place.branch}.")
    else:
        print(f"{count} lessons are in {folder}. Students need rnnkit installed; `rnnkit doctor` says what is missing.")
    return 0


def show_progress():
    """Print which exercises are done."""
    from rnnkit import exercises

    exercises.progress()
    return 0


def grade_notebooks(arguments):
    """Examine returned notebooks and write a table; return 1 if there are none, or nowhere to write."""
    lessons = find_folder("lessons", "[0-9][0-9]_*.ipynb")
    if lessons is None:
        return 1
    try:
        from rnnkit import grading
    except ImportError as error:
        print(f"Grading needs the environment of the course. Received: {error}. See `rnnkit doctor`.", file=sys.stderr)
        return 1
    limits = {"jobs": arguments.jobs, "seconds": arguments.seconds, "memory": arguments.memory}
    try:
        rows = grading.grade(arguments.folder, arguments.out, lessons, **limits)
    except (OSError, ValueError) as error:
        print(f"Nothing was graded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Stopped. What was graded before is in {arguments.out}.", file=sys.stderr)
        return 130
    print(f"{len(rows)} rows are in {arguments.out}.")
    return 0


def make_lessons(check):
    """Make the lessons from their solutions, or only check that they are in step; return 1 on drift."""
    solutions = find_folder("solutions", "*.ipynb")
    if solutions is None:
        return 1
    from rnnkit import _notebooks

    lessons = solutions.parent / "lessons"
    if not check:
        written = _notebooks.generate(solutions, lessons)
        print("\n".join(f"wrote {path}" for path in written) or "Every lesson was in step with its solution.")
        return 0
    drift = _notebooks.check(solutions, lessons)
    print("\n".join(drift) or "Every lesson is in step with its solution.", file=sys.stderr if drift else sys.stdout)
    return 1 if drift else 0


def make_reference(check):
    """Make the reference page from the docstrings, or only check that it is up to date; return 1 if it is not."""
    docs = find_folder("docs", "reference.md")
    if docs is None:
        return 1
    from rnnkit import _reference

    page = docs / "reference.md"
    drift = _reference.check(page)
    if check:
        print(drift or f"{page} is up to date.", file=sys.stderr if drift else sys.stdout)
        return 1 if drift else 0
    if drift:
        page.write_text(_reference.render(), encoding="utf-8", newline="\n")
    print(f"wrote {page}" if drift else f"{page} was up to date.")
    return 0


def make_records(check):
    """Make the pages of claims and replications from the solutions' outputs, or only check them; return 1 on drift."""
    solutions = find_folder("solutions", "*.ipynb")
    if solutions is None:
        return 1
    from rnnkit import _records

    status = 0
    for name, text in _records.pages(solutions).items():
        path = solutions.parent / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            print(f"{path} is up to date.")
        elif check:
            print(f"{path} is not what the solutions recorded: run `rnnkit records`.", file=sys.stderr)
            status = 1
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {path}")
    return status


def find_folder(name, content):
    """Return the course's folder of that name; None, with a message, if there is none."""
    from rnnkit import doctor

    folder = doctor.find_folder(name, content)
    if folder is None:
        looked = " or ".join(map(str, doctor.course_folders(name)))
        print(
            f"The folder {name}/ of the course is not here: no {content} in {looked}.\n"
            "Go to the folder that holds the course (git clone it first if need be) and try again.",
            file=sys.stderr,
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
