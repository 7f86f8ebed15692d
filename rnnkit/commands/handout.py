"""`rnnkit handout`: the lessons for a class."""

import sys
from pathlib import Path

from rnnkit.commands._folders import find_folder


def add(commands):
    """Add this command to the parser's."""
    parser = commands.add_parser("handout", help="copy the lessons, never the solutions, for a class (for teachers)")
    parser.add_argument("folder", metavar="DIR", help="where to; made if need be")
    parser.add_argument("--repository", help="https://github.com/OWNER/NAME: adds what Binder, Colab and a hub need")
    parser.add_argument("--branch", default="handout", help="of the repository, which DIR will be pushed to (handout)")
    parser.add_argument("--course", default="main", help="branch of the repository with the course itself (main)")
    parser.add_argument("--hub", help="address of a JupyterHub with nbgitpuller, for links to it")
    parser.set_defaults(run=run)


def run(arguments):
    """Copy the lessons into a folder for students; return 1 if there is other work under one of their names."""
    lessons = find_folder("lessons", "*.ipynb")
    if lessons is None:
        return 1
    from rnnkit.classroom import handout

    folder, place = Path(arguments.folder), None
    if arguments.repository:
        place = handout.Place(arguments.repository, arguments.branch, arguments.course, arguments.hub)
    elif arguments.hub:
        print("--hub says who opens a hand-out, and --repository where it is: pass both.", file=sys.stderr)
        return 1
    try:
        new = handout.files(lessons, place)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    others = handout.conflicts(new, folder)
    if others:
        print(
            f"Nothing was copied: {folder} has other files of the same name, perhaps a student's work: "
            f"{', '.join(others)}. Name another folder, or move them away.",
            file=sys.stderr,
        )
        return 1
    try:
        handout.write(new, folder)
    except OSError as error:
        print(f"{folder} cannot be written to ({error}). Name a folder that can.", file=sys.stderr)
        return 1
    count = sum(name.endswith(".ipynb") for name in new)
    if place:
        print(f"{count} lessons, their links and an environment are in {folder}. Push it as branch {place.branch}.")
    else:
        print(f"{count} lessons are in {folder}. Students need rnnkit installed; `rnnkit doctor` says what is missing.")
    return 0
