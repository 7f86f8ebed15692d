"""Numbers, texts, arrays and lists of such as JSON can hold them: nothing that is read here can run anything."""

import base64
import collections

import numpy as np

from rnnkit.classroom.grading._confine import LONGEST

TOO_LARGE = f"the answer is larger than {LONGEST / 1e6:.0f} MB"
_SEQUENCES = {"list": list, "tuple": tuple, "deque": collections.deque}
_NUMBERS = "biufc"  # NumPy's kinds of data that are numbers


class Fault(BaseException):  # so that no examiner takes it for an exception of the answer's
    """An answer could not be had: it took too long, its process ended, or it says what no honest one says.

    Args:
        outcome: What to call it in the table, such as `"timed out"`.
        message: What is known.
    """

    def __init__(self, outcome, message):
        super().__init__(message)
        self.outcome, self.message = outcome, message


def malformed():
    """Return the `Fault` of an end that does not keep to the form."""
    return Fault("crashed", "The process of the answer said something in another form than it was asked for.")


def encode(value, otherwise):
    """Return a value as JSON can hold it.

    Args:
        value: What to encode.
        otherwise: Called with each part of it that is none of these kinds of data; returns a dict with its `"kind"`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic | complex) and np.asarray(value).dtype.kind in _NUMBERS:
        return {"kind": "array" if isinstance(value, np.ndarray) else "scalar"} | encode_array(value)
    if isinstance(value, str | int | float):  # of a class of its own
        return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))
    if isinstance(value, range):
        return {"kind": "range", "parts": [value.start, value.stop, value.step]}
    for kind, type_ in _SEQUENCES.items():
        if isinstance(value, type_):
            return {"kind": kind, "parts": [encode(part, otherwise) for part in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "parts": [encode(pair, otherwise) for pair in value.items()]}
    return otherwise(value)


def decode(value, otherwise):
    """Return the value that JSON holds.

    Args:
        value: What `encode` returned at the other end, or what was put in its place there.
        otherwise: Called with the dicts of other kinds.

    Raises:
        KeyError, TypeError, ValueError: If it has another form.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise TypeError
        return value
    kind = value["kind"]
    if kind == "range":
        return range(*value["parts"])
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](decode(part, otherwise) for part in value["parts"])
    if kind == "dict":
        return dict(decode(pair, otherwise) for pair in value["parts"])
    if kind in ("array", "scalar"):
        return decode_array(value)[() if kind == "scalar" else ...]
    return otherwise(value)


def encode_array(array):
    """Return an array of numbers as its type, shape and bytes; ValueError if it is too large to travel."""
    array = np.asarray(array)
    if array.nbytes > LONGEST:
        raise ValueError(TOO_LARGE)
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": content}


def decode_array(value):
    """Return the array; ValueError if it is not one of numbers."""
    dtype = np.dtype(str(value["dtype"]))
    if dtype.kind not in _NUMBERS:
        raise ValueError
    return np.frombuffer(base64.b64decode(value["bytes"]), dtype).reshape([int(n) for n in value["shape"]]).copy()
