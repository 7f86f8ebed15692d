"""Break a copy of rnnkit in one way after the other, and run the tests that should notice.

    PYTHONPATH=tools python -m mutants                # all; as many at a time as WORKERS says, 2
    PYTHONPATH=tools python -m mutants quantiles      # those whose description holds a word

First the same tests have to pass on a copy that is whole. A mutant is caught when a test fails, and survives when all
pass; anything else (a module that cannot be imported, a test that is not there) is no answer, and an error too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants.catalogue import MUTANTS, found

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 10  # for one mutant; more than the slowest test takes
_ENDS = {0: "survived", 1: "caught"}


def main(words):
    """Run the mutants that are asked for; return how many were not caught."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.what for word in words)]
    began = time.monotonic()
    end, said = tried(None, sorted({test for mutant in chosen for test in mutant.tests}))
    if end != "survived":
        sys.exit(f"The tests must pass on rnnkit as it is before they can tell anything. Received: {end}.\n{said}")
    with ThreadPoolExecutor(int(os.environ.get("WORKERS", "2"))) as pool:
        ends = []
        for mutant, (end, said) in zip(chosen, pool.map(lambda one: tried(one, one.tests), chosen), strict=True):
            print(f"{end:9} {mutant.what} ({mutant.file})", flush=True)
            if end != "caught":
                print(said, flush=True)
            ends.append(end)
    print(f"{ends.count('caught')} of {len(ends)} mutants caught in {(time.monotonic() - began) / 60:.0f} minutes.")
    return len(ends) - ends.count("caught")


def located(test):
    """Return the id of a test as pytest takes it, from its file's name and its own."""
    file, colons, name = test.partition("::")
    return f"{found(file).relative_to(ROOT)}{colons}{name}"


def tried(mutant, tests):
    """Run tests on a copy of the library with a mutant in it, None for none; return how it ended, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("rnnkit", "tests", "tools"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant:
            mutant.apply(copy / "rnnkit")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(located, tests)]
        environment = {**os.environ, "PYTHONPATH": folder, "KERAS_BACKEND": "tensorflow"}
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=60 * MINUTES
            )
        except subprocess.TimeoutExpired:
            return "hung", f"no end after {MINUTES} minutes"
    return _ENDS.get(done.returncode, "broken"), (done.stdout + done.stderr)[-3000:]


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
