"""The hand-out: the lessons in a folder for a class and, where that will be published, all that opens it elsewhere."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import nbformat

from rnnkit._files import atomic_writer

_REPOSITORY = re.compile(r"https://github\.com/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+?)(\.git)?/?")
_HUB = re.compile(r"https?://[\w.:-]+(/[^\s?#]*)?")
_COLAB = '''\
# Google Colab lacks rnnkit: there, this cell installs it. Elsewhere it does nothing.
import importlib.util
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("rnnkit"):
    %pip install --quiet "rnnkit @ git+{course}"'''
_ENVIRONMENT = """\
# Read by Binder, and by repo2docker on a JupyterHub; or: conda env create -f environment.yml && conda activate rnnkit
name: rnnkit
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.12
  - git
  - pip
  - pip:
      - -r requirements.lock
      - rnnkit @ git+{course}
"""


class Place(NamedTuple):
    """Where a hand-out will be published: a branch of the repository on GitHub that has the course itself on another.

    Args:
        repository: `https://github.com/OWNER/NAME`.
        branch: that the hand-out is pushed to.
        course: branch with the course, from which rnnkit is installed.
        hub: address of a JupyterHub with nbgitpuller, or None.
    """

    repository: str
    branch: str = "handout"
    course: str = "main"
    hub: str | None = None

    def checked(self):
        """Return the place with its addresses in one form.

        Raises:
            ValueError: if the repository is not on GitHub, or the hub is no address.
        """
        found = _REPOSITORY.fullmatch(self.repository)
        if not found:
            raise ValueError(
                "The repository must be one on GitHub, which Colab and Binder read: https://github.com/OWNER/NAME. "
                f"Received: {self.repository!r}. Pass the address that `git clone` takes."
            )
        if self.hub is not None and not _HUB.fullmatch(self.hub):
            raise ValueError(
                f"The hub must be the address of a JupyterHub, https://hub.example.edu. Received: {self.hub!r}. "
                "Pass the address under which your class logs in."
            )
        repository = f"https://github.com/{found['owner']}/{found['name']}"
        return self._replace(repository=repository, hub=self.hub and self.hub.rstrip("/"))

    @property
    def source(self):
        """What pip installs rnnkit from, after `git+`."""
        return f"{self.repository}@{self.course}"

    def links(self, notebook):
        """Return `{name: address}` of what opens a notebook of this hand-out in a browser.

        Args:
            notebook: file name of a lesson.
        """
        owner_and_name, branch = self.repository.removeprefix("https://github.com/"), quote(self.branch, safe="")
        opened = {
            "Binder": f"https://mybinder.org/v2/gh/{owner_and_name}/{branch}?"
            + urlencode({"urlpath": f"lab/tree/{notebook}"}, safe="/"),
            "Colab": f"https://colab.research.google.com/github/{owner_and_name}/blob/{quote(self.branch)}/{quote(notebook)}",
        }
        if self.hub:
            asked = {"repo": self.repository, "branch": self.branch}
            asked["urlpath"] = f"lab/tree/{owner_and_name.split('/')[1]}/{notebook}"
            opened["JupyterHub"] = f"{self.hub}/hub/user-redirect/git-pull?{urlencode(asked, quote_via=quote)}"
        return opened


def files(lessons, place=None):
    """Return `{file name: bytes}` of a hand-out.

    Args:
        lessons: folder of the course's lessons; the lock is beside it.
        place: where the hand-out will be published; None for the lessons alone.

    Raises:
        ValueError: if an address of the place is none.
    """
    notebooks = {path.name: path.read_bytes() for path in sorted(Path(lessons).glob("*.ipynb"))}
    if place is None:
        return notebooks
    place = place.checked()
    started = {name: _with_colab_cell(content, place) for name, content in notebooks.items()}
    return started | {
        "README.md": _readme(notebooks, place).encode(),
        "environment.yml": _ENVIRONMENT.format(course=place.source).encode(),
        "requirements.lock": (Path(lessons).parent / "requirements.lock").read_bytes(),
    }


def conflicts(new, folder):
    """Return the names of files in a folder that a hand-out would overwrite with something else."""
    return [
        name
        for name, content in new.items()
        if (folder / name).exists() and not ((folder / name).is_file() and (folder / name).read_bytes() == content)
    ]


def write(new, folder):
    """Write the files of a hand-out into a folder, made if need be; each is whole or not there.

    Raises:
        OSError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in new.items():
        with atomic_writer(folder / name) as file:
            file.write(content)


def _with_colab_cell(content, place):
    """Return a lesson with a cell before its first code cell, which there is nothing to run before."""
    notebook = nbformat.reads(content.decode(), 4)
    first = next(number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    cell = nbformat.v4.new_code_cell(_COLAB.format(course=place.source), id="colab")
    notebook.cells.insert(first, cell)
    return (nbformat.writes(notebook) + "\n").encode()


def _readme(notebooks, place):
    """Return a page with the links of each lesson."""
    names = list(place.links(""))
    lines = [
        "# Vanishing gradients, and the RNNs that beat them",
        "",
        "The lessons of the course, to be opened in a browser. Begin with 00. What you write stays there only as long "
        "as the service keeps it: download your notebooks when you stop.",
        "",
        f"| lesson | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for notebook in notebooks:
        links = " | ".join(f"[open on {name}]({address})" for name, address in place.links(notebook).items())
        lines.append(f"| [{Path(notebook).stem.replace('_', ' ')}]({quote(notebook)}) | {links} |")
    return "\n".join(lines) + "\n"
