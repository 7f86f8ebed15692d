"""One process of the benchmark: the settings of one theme that go together, a line of JSON for each.

    python -m benchmarks.child THEME GROUP FILE [--quick]

The file gets a line as soon as a setting is measured, so that what ends the process costs only what was still to come.
"""

import argparse
import importlib
import importlib.metadata
import json
import platform
import sys
import traceback
from pathlib import Path

from benchmarks.rows import missing

_MEASURED = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy")
_PEERS = ("tensorboard", "wandb", "cockpit-for-pytorch", "captum", "nnsight", "see-rnn")


def groups(theme, quick):
    """Return `{key: settings}`: those of one backend share a process, but for themes that keep their variants apart."""
    module, found = importlib.import_module(f"benchmarks.{theme}"), {}
    for setting in module.settings(quick):
        apart = getattr(module, "APART", False)
        key = f"{setting.backend}-{setting.variant.replace(' ', '_')}" if apart else setting.backend
        found.setdefault(key, []).append(setting)
    return found


def versions():
    """Return the versions of what is compared, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in _MEASURED + _PEERS:
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def results(module, setting, quick):
    """Measure one setting; what goes wrong is its result."""
    try:
        return module.measure(setting, quick)
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        mine = [setting.variant] if setting.variant in module.ROWS else module.ROWS
        return dict.fromkeys(mine, missing(f"failed: {said[:200]}"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("theme")
    parser.add_argument("group")
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    module = importlib.import_module(f"benchmarks.{options.theme}")
    with options.file.open("w", encoding="utf-8") as file:
        print(json.dumps({"versions": versions()}), file=file, flush=True)
        for setting in groups(options.theme, options.quick)[options.group]:
            line = {"setting": setting._asdict(), "results": results(module, setting, options.quick)}
            print(json.dumps(line), file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
