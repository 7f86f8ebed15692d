"""Runs of a sweep that are kept: read again for the same function, and only for the same."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import rnnkit
from rnnkit.sweeps import _cache, _pool, _sweep


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keep runs in a folder; the sweep's runs are trained in this process, and counted."""
    trained = []

    def run_here(train, count, runs):
        trained.extend(runs)
        return _sweep._run_here(train, runs)

    monkeypatch.setenv("RNNKIT_SWEEP_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(_pool, "run", run_here)
    return trained


def measure(seed, units=1):
    none = np.full((2, 0), 1, "int8")
    return {"a": seed + units / 7, "b": np.arange(3) == seed, "c": none, "ünits": np.float32(units)}


def test_what_was_measured_is_read_again_to_the_bit(kept):
    first = rnnkit.sweeps.sweep(measure, seeds=range(2), units=[1, 2])
    again = rnnkit.sweeps.sweep(measure, seeds=range(2), units=[1, 2])
    assert len(kept) == 4
    assert again.names == first.names
    for name in first.names:
        one, other = first.values(name), again.values(name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_new_seeds_and_settings_alone_are_trained(kept):
    rnnkit.sweeps.sweep(measure, seeds=[0, 1], units=[1, 2])
    kept.clear()
    result = rnnkit.sweeps.sweep(measure, seeds=[1, 3], units=[3, 2])
    assert kept == [({"units": 3}, 1), ({"units": 3}, 3), ({"units": 2}, 3)]
    np.testing.assert_allclose(result.values("a"), [[1 + 3 / 7, 3 + 3 / 7], [1 + 2 / 7, 3 + 2 / 7]])


def test_a_run_that_failed_is_tried_again(kept, tmp_path):
    def fail(seed):
        if seed == 1 and not mended.exists():
            raise ValueError("not yet")
        return {"a": seed}

    mended = tmp_path / "mended"
    with pytest.raises(rnnkit.sweeps.SweepError, match="not yet"):
        rnnkit.sweeps.sweep(fail, seeds=[0, 1])
    mended.touch()
    assert rnnkit.sweeps.sweep(fail, seeds=[0, 1]).values("a").tolist() == [0, 1]
    assert kept == [({}, 0), ({}, 1), ({}, 1)]


def test_without_the_variable_nothing_is_kept(kept, tmp_path, monkeypatch):
    monkeypatch.delenv("RNNKIT_SWEEP_CACHE")
    rnnkit.sweeps.sweep(measure, seeds=[0])
    rnnkit.sweeps.sweep(measure, seeds=[0])
    assert len(kept) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x05.", "half"])
def test_a_file_that_is_no_run_is_made_again(content, kept, tmp_path):
    rnnkit.sweeps.sweep(measure, seeds=[0])
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    result = rnnkit.sweeps.sweep(measure, seeds=[0])
    assert len(kept) == 2
    assert result.values("a").tolist() == [1 / 7]
    assert len(file.read_bytes()) == len(whole)


def test_pickles_are_not_opened(kept, tmp_path):
    rnnkit.sweeps.sweep(measure, seeds=[0])
    (file,) = (tmp_path / "kept").iterdir()
    np.savez(file, **{"names": '["a"]', "0": np.array([print], dtype=object)})
    assert rnnkit.sweeps.sweep(measure, seeds=[0]).values("a").tolist() == [1 / 7]


def test_a_folder_that_cannot_be_made_costs_nothing(kept, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RNNKIT_SWEEP_CACHE", str(tmp_path / "file"))
    assert rnnkit.sweeps.sweep(measure, seeds=[4]).values("a").tolist() == [4 + 1 / 7]


def test_workers_are_not_started_before_they_are_needed(kept):
    _pool.dismiss_all()  # those of other tests
    rnnkit.sweeps.start_workers()
    assert not _pool._idle


# --- what a function is known by ----------------------------------------------------------------------------------

NOTEBOOK = """
import keras
import numpy as np
import rnnkit
from rnnkit.sweeps import _cache
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RATE, TASKS, NAMES = 0.1, {"adding": rnnkit.tasks.adding_problem}, {"one", "two", "three"}
x = np.arange(6.0)
class Cell:
    units = 3
    def __init__(self, bias=1.0):
        super().__init__()
        self.bias = bias
    def __call__(self, h):
        return h + self.bias
def helper(n):
    return helper(n - 1) if n else Cell()(x.sum()) * RATE
def outer(scale):
    def train(seed, updates=5):
        "Docstring."
        return {"a": scale * helper(seed), "b": [k + 1 for k in range(updates)], "c": TASKS, "d": NAMES, "e": LOSS}
    return train
told = _cache.fingerprint(outer(2))
"""
MUTANTS = {
    "a constant": ("[k + 1 for", "[k + 2 for"),
    "a default": ("updates=5", "updates=6"),
    "a closure": ("outer(2)", "outer(3)"),
    "a global number": ("RATE, TASKS, NAMES = 0.1", "RATE, TASKS, NAMES = 0.2"),
    "a global array": ("np.arange(6.0)", "np.arange(7.0)"),
    "the type of an array": ("np.arange(6.0)", "np.arange(6)"),
    "a helper": ("helper(n - 1) if n", "helper(n - 2) if n"),
    "a method": ("return h + self.bias", "return h - self.bias"),
    "a method's default": ("bias=1.0", "bias=2.0"),
    "a member of a class": ("units = 3", "units = 4"),
    "a base class": ("class Cell:", "class Cell(list):"),
    "a function of rnnkit": ("rnnkit.tasks.adding_problem", "rnnkit.tasks.copy_memory"),
    "a loss": ("from_logits=True", "from_logits=False"),
    "the kind of a loss": ("SparseCategoricalCrossentropy", "CategoricalCrossentropy"),
    "a set": ('"three"}', '"four"}'),
}


def fingerprints(scripts, hash_seed="0"):
    """Run scripts as a process of its own would, one after the other, and return what each has `told`."""
    code = """if True:
        import json, sys
        def told(script):
            names = {"__name__": "__main__"}
            exec(script, names)
            return names["told"]
        json.dump([told(script) for script in json.load(sys.stdin)], sys.stdout)
    """
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    given = {"input": json.dumps(scripts), "text": True, "capture_output": True, "env": environment}
    ran = subprocess.run([sys.executable, "-c", code], **given)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_the_same_in_every_process_wherever_it_is_written():
    here = NOTEBOOK.replace('{"one", "two", "three"}', "[]")  # a set has an order of its own each time
    moved = here.replace("def helper", "\n\n# further down\ndef helper")
    assert len({*fingerprints([here], "1"), *fingerprints([here, moved], "2")}) == 1


@pytest.fixture(scope="module")
def mutated():
    changed = [NOTEBOOK, *(NOTEBOOK.replace(old, new) for old, new in MUTANTS.values())]
    return dict(zip(["nothing", *MUTANTS], fingerprints(changed), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTANTS)
def test_another_function_has_another_fingerprint(what, mutated):
    assert NOTEBOOK.count(MUTANTS[what][0]) == 1
    assert mutated[what] != mutated["nothing"]


def test_the_versions_of_the_packages_and_of_rnnkit_count(tmp_path, monkeypatch):
    versions = _cache.versions.__wrapped__  # not those of the process, which are looked up once
    mine = versions()
    monkeypatch.setattr(_cache.importlib.metadata, "version", lambda name: "99")
    assert not any(entry == "numpy 99" for entry in mine)
    assert "numpy 99" in versions()
    monkeypatch.setattr(_cache, "PACKAGE", tmp_path)
    without = versions()
    (tmp_path / "module.py").write_text("changed = True")
    assert versions() != without
