"""`rnnkit lab`: JupyterLab at the first lesson."""

import os
import sys
from pathlib import Path
from urllib.parse import quote

from rnnkit.commands._folders import find_folder
from rnnkit.course import doctor


def add(commands):
    """Add this command to the parser's; `rnnkit.commands.main` calls `open_lab`, for JupyterLab reads the arguments."""
    commands.add_parser("lab", help="open JupyterLab at lesson 00; further arguments are passed on to it")


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
