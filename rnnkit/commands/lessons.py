"""`rnnkit lessons`: the lessons from their solutions."""

import sys

from rnnkit.commands._folders import find_folder


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("lessons", help="make the lessons from their solutions (for authors)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a lesson has drifted")
    parser.set_defaults(run=run)


def run(arguments):
    """Make the lessons from their solutions, or only check that they are in step; return 1 on drift."""
    solutions = find_folder("solutions", "*.ipynb")
    if solutions is None:
        return 1
    from rnnkit.authoring import notebooks

    lessons = solutions.parent / "lessons"
    if not arguments.check:
        written = notebooks.generate(solutions, lessons)
        print("\n".join(f"wrote {path}" for path in written) or "Every lesson was in step with its solution.")
        return 0
    drift = notebooks.check(solutions, lessons)
    print("\n".join(drift) or "Every lesson is in step with its solution.", file=sys.stderr if drift else sys.stdout)
    return 1 if drift else 0
