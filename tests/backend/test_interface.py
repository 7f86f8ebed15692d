"""Each backend's module offers what `rnnkit._backend.interface` says, whether that backend is installed or not."""

import ast
from pathlib import Path

import pytest

from rnnkit import _backend

FOLDER = Path(_backend.__file__).parent


def parsed(name):
    return ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")).body


def offered(body):
    """Return what stands in a module or class: name to its parameters, or to what a class offers, or to None."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = parameters(node.args)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = offered(node.body)
        elif isinstance(node, ast.Assign):
            found |= {target.id: None for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = None
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found |= offered(parsed(node.module.rpartition(".")[2]))
    return found


def parameters(arguments):
    """Return the parameters as they are written, without types and without `self`."""
    for argument in arguments.args:
        argument.annotation = None
    return ast.unparse(arguments).removeprefix("self").removeprefix(", ")


INTERFACE = offered(parsed("interface"))
FUNCTIONS = {name: given for name, given in INTERFACE["Backend"].items() if given is not None}
BUFFER = {name: given for name, given in INTERFACE["RingBuffer"].items() if given is not None}


@pytest.mark.parametrize("backend", _backend._BACKENDS)
def test_each_backend_has_every_name_with_the_same_parameters(backend):
    there = offered(parsed(backend))
    assert set(INTERFACE["Backend"]) <= set(there)
    assert {name: there[name] for name in FUNCTIONS} == FUNCTIONS
    buffer = there["StepRingBuffer"]
    assert {name: buffer.get(name) for name in BUFFER} == BUFFER


def test_the_package_offers_what_the_backend_that_runs_does():
    for name in INTERFACE["Backend"]:
        assert getattr(_backend, name) is getattr(_backend._running, name)
    with pytest.raises(AttributeError, match="compield"):
        _backend.compield  # noqa: B018


def test_every_contract_is_written_down():
    for protocol in (_backend.interface.Backend, _backend.interface.RingBuffer):
        functions = [name for name in vars(protocol) if name in FUNCTIONS | BUFFER and name != "__init__"]
        assert functions
        assert all(vars(protocol)[name].__doc__ for name in functions)
