"""The course needs no network once it is installed: a lesson runs where there is none."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUT = ["unshare", "--map-root-user", "--net"]  # a namespace of its own, whose only network is not even up
# Notebook and kernel talk through files in place of ports.
RUN = """
import socket, sys
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print("no network:", error)
notebook = nbformat.read(sys.argv[1], as_version=4)
talk = Config({"KernelManager": {"transport": "ipc"}})
NotebookClient(notebook, kernel_name="python3", timeout=300, config=talk).execute()
print(sum(cell.execution_count is not None for cell in notebook.cells if cell.cell_type == "code"), "cells ran")
"""
NETWORK = {"aiohttp", "ftplib", "http", "httpx", "requests", "smtplib", "socket", "ssl", "urllib.request", "urllib3"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_nothing_in_the_library_can_reach_a_network():
    modules = {path.stem: set(imported(path)) for path in (ROOT / "rnnkit").rglob("*.py")}
    assert {"json", "re"} <= set().union(*modules.values())
    assert not {name: found & NETWORK for name, found in modules.items() if found & NETWORK}


@pytest.fixture
def _network_can_be_cut():
    if shutil.which(CUT[0]) is None:
        pytest.skip("there is no unshare here, which cuts the network off on Linux")
    tried = subprocess.run([*CUT, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"the network cannot be cut off for one process here: {tried.stderr.strip()}")


@pytest.mark.thorough
@pytest.mark.usefixtures("_network_can_be_cut")
def test_a_lesson_runs_with_the_network_cut(tmp_path):
    code = [sys.executable, "-c", RUN, ROOT / "lessons" / "00_start_here.ipynb"]
    places = {"JUPYTER_RUNTIME_DIR": str(tmp_path), "RNNKIT_EXPECT": "open"}
    done = subprocess.run(
        [*CUT, *code], capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, **places}
    )
    assert done.returncode == 0, done.stderr
    cut, ran = done.stdout.strip().splitlines()
    assert cut.startswith("no network: "), cut
    assert int(ran.split()[0]) > 10
