"""`rnnkit grade`: the notebooks that a class returned."""

import sys

from rnnkit.commands._folders import find_folder


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("grade", help="examine the notebooks that a class returned (for teachers)")
    parser.add_argument("folder", metavar="DIR", help="folder with one folder per student: DIR/STUDENT/NN_name.ipynb")
    parser.add_argument("--out", default="grades.csv", metavar="FILE", help="table to write (default: %(default)s)")
    parser.add_argument("--jobs", type=int, metavar="N", help="notebooks to grade at a time (default: one per core)")
    time_limit = "time limit per answer, in seconds (default: %(default)s)"
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help=time_limit)
    memory_limit = "memory limit of a student's process (default: %(default)s)"
    parser.add_argument("--memory", type=float, default=3, metavar="GB", help=memory_limit)
    parser.set_defaults(run=run)


def run(arguments):
    """Examine returned notebooks and write a table; return 1 if there are none, or nowhere to write."""
    lessons = find_folder("lessons", "[0-9][0-9]_*.ipynb")
    if lessons is None:
        return 1
    try:
        from rnnkit.classroom import grading
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
