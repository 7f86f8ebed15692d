"""Measure, a process for each theme and backend, and write docs/reports/benchmarks.md.

PYTHONPATH=tools python -m benchmarks             # all of it, then the page: what `make bench` runs
PYTHONPATH=tools python -m benchmarks --quick     # does everything run? Small sizes, a page in build/
PYTHONPATH=tools python -m benchmarks lessons     # the seconds of the notebooks' cells, ten minutes more
PYTHONPATH=tools python -m benchmarks start       # from a fresh clone to a lesson that ran, ten minutes and a network
PYTHONPATH=tools python -m benchmarks page        # only write the page again
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import child, lessons, page, start

ROOT = Path(__file__).resolve().parents[2]
OTHER = ROOT / ".venv-backends" / "bin" / "python"
THEMES = ("imports", "correctness", "recorder", "peers", "probes", "cost", "sweeps", "loops")
LIMIT = 480  # seconds for one process


def python(theme, group):
    """Return the interpreter for a process: of the environment that has the other backends, where it needs them."""
    of_others = theme in ("loops", "correctness") or not group.startswith("tensorflow")
    return str(OTHER) if of_others and OTHER.exists() else sys.executable


def run(theme, group, folder, quick):
    """Run one process to its end; what it could not measure, the page will say."""
    backend = group.split("-")[0]
    file = folder / f"{theme}.{group}.jsonl"
    log = folder / f"{theme}.{group}.log"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",  # the table is of processors
        "JAX_PLATFORMS": "cpu",
    }
    command = [python(theme, group), "-m", "benchmarks.child", theme, group, str(file)]
    file.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as said:
        try:
            done = subprocess.run(
                [*command, *(["--quick"] if quick else [])],
                env=environment,
                cwd=ROOT,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
            ended = f"the process ended with status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            ended = f"stopped after {LIMIT} s"
    page.fill_in(file, theme, child.groups(theme, quick)[group], ended or "not measured")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("command", nargs="?", default="all", choices=["all", "lessons", "start", "page"])
    parser.add_argument("--quick", action="store_true", help="small sizes; the page goes to build/")
    parser.add_argument("--theme", action="append", choices=THEMES, help="only this one; may be repeated")
    options = parser.parse_args(argv)
    folder = ROOT / "build" / "benchmarks" / ("quick" if options.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    if options.command == "lessons":
        lessons.measure(ROOT / "lessons", folder / "lessons.json", ("00_start_here",) if options.quick else ())
    if options.command == "start":
        start.measure(ROOT, folder / "start.json")
    if options.command == "all":
        for theme in options.theme or THEMES:
            for group in child.groups(theme, options.quick):
                begun = time.perf_counter()
                run(theme, group, folder, options.quick)
                print(f"{theme:12} {group:30} {time.perf_counter() - begun:6.0f} s", flush=True)
    where = folder if options.quick else ROOT / "docs" / "reports"
    page.write(THEMES, folder, where)
    print(f"Written: {where / 'benchmarks.md'}")


if __name__ == "__main__":
    sys.exit(main())
