"""Seconds from a fresh clone to the first executed lesson, as a newcomer would get there: make env, then lesson 00."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

GOALS = {"uv": 60, "pip": 180}  # seconds, what the network takes apart
_LESSON = "lessons/00_start_here.ipynb"


def measure(root, file):
    """Clone the repository, build its environment and run lesson 00: with uv and with pip, downloading and not.

    Args:
        root: the repository.
        file: gets JSON, rewritten after each.
    """
    taken = []
    for installer in GOALS:
        program = shutil.which("uv") if installer == "uv" else ""
        if program is None:
            taken.append({"installer": installer, "missing": "uv is not installed"})
            continue
        with tempfile.TemporaryDirectory() as cache:
            for downloads in (True, False):
                seconds = _once(root, {"UV_CACHE_DIR": cache, "PIP_CACHE_DIR": cache}, program)
                taken.append({"installer": installer, "downloads": downloads, "seconds": seconds})
                file.write_text(json.dumps(taken), encoding="utf-8")
                print(
                    f"{installer:4} {'downloads' if downloads else 'cached':10} {sum(seconds.values()):5.0f} s",
                    flush=True,
                )


def _once(root, caches, uv):
    """Return the seconds of each stage."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        lesson = [clone / ".venv/bin/jupyter", "nbconvert", "--to", "notebook", "--execute", _LESSON]
        stages = {
            "clone": (["git", "clone", "--quiet", str(root), str(clone)], folder),
            "environment": (["make", "env", f"UV={uv}"], clone),
            "lesson": ([*lesson, "--output-dir", folder], clone),
        }
        environment = {**os.environ, **caches}
        environment.pop("RNNKIT_EXPECT", None)
        seconds = {}
        for stage, (command, where) in stages.items():
            begun = time.perf_counter()
            subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True)
            seconds[stage] = time.perf_counter() - begun
        return seconds


def table(taken):
    """Return the lines of a table of what `measure` wrote."""
    lines = [
        "A clone from the same disk, `make env`, and lesson 00 run from top to bottom, in seconds. What the network "
        "takes is the difference between the two lines of an installer: the second finds all packages in its cache.",
        "",
        "| installer | packages | clone | environment | lesson 00 | together | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in taken:
        if "missing" in one:
            lines.append(f"| {one['installer']} | not measured: {one['missing']} | | | | | | |")
            continue
        seconds, goal = one["seconds"], GOALS[one["installer"]]
        together = sum(seconds.values())
        verdict = "" if one["downloads"] else "met" if together <= goal else "**missed**"
        lines.append(
            f"| {one['installer']} | {'downloaded' if one['downloads'] else 'in the cache'} | "
            + " | ".join(f"{value:.0f}" for value in seconds.values())
            + f" | {together:.0f} | {'' if one['downloads'] else f'≤ {goal}'} | {verdict} |"
        )
    return lines
