"""Where the course lies that a command is for."""

import sys

from rnnkit.course import doctor


def find_folder(name, content):
    """Return the course's folder of that name; None, with a message, if there is none."""
    folder = doctor.find_folder(name, content)
    if folder is None:
        looked = " or ".join(map(str, doctor.course_folders(name)))
        print(
            f"The folder {name}/ of the course is not here: no {content} in {looked}.\n"
            "Go to the folder that holds the course (git clone it first if need be) and try again.",
            file=sys.stderr,
        )
    return folder
