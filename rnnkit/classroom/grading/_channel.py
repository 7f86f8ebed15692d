"""Two processes that call each other's functions, and pass each other nothing but data.

Both ends are the same: a line of JSON asks for a call, another brings what it returned. Data travel as they are
(`_data`), a Keras layer or model as its description (`_layers`); a function stays where it is and is called from afar.
So what one end says can be a wrong answer, but it cannot reach into the other.
"""

import functools
import json
import numbers
import sys

import numpy as np

from rnnkit.classroom.grading import _data, _layers
from rnnkit.classroom.grading._confine import LONGEST
from rnnkit.classroom.grading._data import Fault
from rnnkit.course import exercises
from rnnkit.course.exercises import lesson_09

# What the end that answers offers from the start, by name. Other functions travel, and have numbers.
RUN = "run"
PULL_BACK = "pull back"
_DEEPEST = 40  # calls within calls, of the one end and the other
# What examiners tell apart. An exception of another kind comes as an Exception that says which it was.
_RAISED = {
    kind.__name__: kind
    for kind in (exercises.NotYet, exercises.NotAttempted, NotImplementedError, ValueError, TypeError)
}


class Opaque:
    """Stands for something that cannot travel, such as a set or an open file.

    Args:
        kind: What it was, in words.
    """

    def __init__(self, kind):
        self.kind = kind

    def __repr__(self):
        return f"<a {self.kind}>"


class Channel:
    """One end.

    Args:
        read: Returns the next line as bytes, b"" if there is no more.
        write: Called with a line as bytes.
        examines: Whether this is the end that asks for answers. It gets its own layers back as the same objects,
            wherever the other end has put them, and can differentiate the other end's functions.
    """

    def __init__(self, read, write, examines=False):
        self._read, self._write, self.examines = read, write, examines
        self._functions = {}
        self._lent, self._kept, self._made = {}, [], {}
        self._depth = 0

    def offer(self, function, name=None):
        """Let the other end call a function, by a name that both ends know or by the number that is returned."""
        known_as = len(self._functions) if name is None else name
        self._functions[known_as] = function
        return known_as

    def serve(self):
        """Answer calls until the other end is gone."""
        while (frame := self._receive()) is not None:
            self._answer(frame)

    def call(self, function, args=(), kwargs=None):
        """Call a function of the other end.

        Args:
            function: Its name or its number.
            args: As for the function; lists and arrays that it changes are changed here.
            kwargs: As for the function.

        Returns:
            What it returned.

        Raises:
            Exception: What it raised, as one of `_RAISED` or a plain Exception.
            Fault: If the other end is gone, late, or says what no end of this kind says.
        """
        frame, raised_here = self.ask(function, args, kwargs)
        if "raised" in frame and raised_here:  # by a function of ours that the other end called
            raise raised_here[-1]
        return self.read(frame, args)

    def ask(self, function, args=(), kwargs=None):
        """Call a function of the other end.

        Returns:
            What came back, as it came, for `read`; and the exceptions of this end's functions that were called for it.
        """
        self._send({"call": function, "args": self.encode(list(args)), "kwargs": self.encode(dict(kwargs or {}))})
        raised_here = []
        while True:
            frame = self._receive()
            if frame is None:
                raise Fault("crashed", "The other end is gone.")
            if "call" not in frame:
                return frame, raised_here
            if error := self._answer(frame):
                raised_here.append(error)

    def read(self, frame, args=()):
        """Return the value that came back, or raise what was raised; change what was passed as it was changed there."""
        if "raised" in frame:
            raise _error(frame["raised"])
        if "returned" not in frame:
            raise _data.malformed()
        if frame.get("idle") is True:
            raise exercises.NotAttempted
        changed = self.decode(frame.get("changed"))
        if not isinstance(changed, dict | None):
            raise _data.malformed()
        for place, value in (changed or {}).items():
            if place in range(len(args)):
                _change(args[place], value)
        return self.decode(frame["returned"])

    def _answer(self, frame):
        """Call a function of this end for the other; return the exception that it raised, or None."""
        called = frame["call"]
        if not isinstance(called, int | str) or called not in self._functions or self._depth >= _DEEPEST:
            raise Fault("crashed", "The process of the answer asked for a function that it was not given.")
        function = self._functions[called]
        self._depth += 1
        raised = None
        try:
            args, kwargs = self.decode(frame.get("args")), self.decode(frame.get("kwargs"))
            before = {n: self.encode(value) for n, value in enumerate(args) if isinstance(value, list | np.ndarray)}
            returned = function(*args, **kwargs)
            reply = {"returned": self.encode(returned)}
            if changed := {n: args[n] for n, was in before.items() if self.encode(args[n]) != was}:
                reply["changed"] = self.encode(changed)
            if returned is None and exercises.does_nothing(function):
                reply["idle"] = True
        except (Exception, SystemExit) as error:
            raised, reply = error, {"raised": _told(error, function)}
        finally:
            self._depth -= 1
        self._send(reply)
        return raised

    def _send(self, frame):
        line = json.dumps(frame).encode() + b"\n"
        if len(line) > LONGEST:
            told = {"kind": "", "text": _data.TOO_LARGE, "told": _data.TOO_LARGE}
            line = json.dumps({"raised": told}).encode() + b"\n"
        self._write(line)

    def _receive(self):
        line = self._read()
        if not line:
            return None
        try:
            frame = json.loads(line)
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict):
            raise _data.malformed()
        return frame

    # --- what travels -----------------------------------------------------------------------------------------------

    def encode(self, value):
        """Return a value as JSON can hold it."""
        return _data.encode(value, self._encode_other)

    def decode(self, value):
        """Return the value that JSON holds."""
        try:
            return _data.decode(value, self._decode_other)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _data.malformed() from error

    def _encode_other(self, value):
        keras = sys.modules.get("keras")
        if value is ...:
            return {"kind": "..."}
        if keras and isinstance(value, keras.Layer):
            self._kept.append(value)  # so that its id stays its own
            name = None
            if self.examines:
                name = f"lent_{len(self._lent)}_{value.name}"
                self._lent[name] = value
            return {"kind": "layer", "id": id(value), **_layers.describe(value, name)}
        if keras and (keras.ops.is_tensor(value) or isinstance(value, keras.Variable)):
            return {"kind": "tensor"} | _data.encode_array(keras.ops.convert_to_numpy(value))
        if callable(value):
            return {"kind": "function", "number": self.offer(value)}
        if (plain := _plain(value)) is not None:
            return self.encode(plain)
        return {"kind": "other", "name": type(value).__name__}

    def _decode_other(self, value):
        kind = value["kind"]
        if kind == "...":
            return ...
        if kind == "tensor":
            from rnnkit._backend import keras

            return keras.ops.convert_to_tensor(_data.decode_array(value))
        if kind == "function":
            return _far(self, int(value["number"]))
        if kind == "layer":
            if value["id"] not in self._made:
                self._made[value["id"]] = _layers.build(value, self._lent)
            return self._made[value["id"]]
        return Opaque(str(value.get("name"))[:80])


def _plain(value):
    """Return the numbers or texts that NumPy, and so an examiner, reads in a value; None if there are none."""
    if isinstance(value, numbers.Number):  # such as a Fraction
        return float(value)
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "OU" else None
    return np.asarray(value) if hasattr(value, "__array__") else None  # such as a column of pandas


def _change(mine, value):
    """Change a list or an array in its place, as the other end changed its copy."""
    if isinstance(mine, list) and isinstance(value, list):
        mine[:] = value
    elif isinstance(mine, np.ndarray) and isinstance(value, np.ndarray) and mine.shape == value.shape:
        mine[...] = value


def _told(error, function):
    """Return what the other end is to know of an exception."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind in (*_RAISED.values(), MemoryError)]
    told = exercises.complaint(error, function)[:1000]
    return {"kind": kinds[0] if kinds else "", "text": str(error)[:1000], "told": told}


def _error(told):
    """Return the exception that the other end tells of."""
    if not isinstance(told, dict):
        raise _data.malformed()
    kind, text = str(told.get("kind")), str(told.get("text"))
    if kind == "MemoryError":
        raise Fault("out of memory", "The answer asked for more memory than it may have.")
    error = _RAISED.get(kind, Exception)(text)
    error.told = str(told.get("told"))  # which `exercises.evaluate` passes on
    return error


# --- functions from afar ------------------------------------------------------------------------------------------


def _far(channel, number):
    """Return a function that calls the other end's function of that number."""
    there = _There(channel, number)

    def answer(*args, **kwargs):
        return there(*args, **kwargs)

    return answer


class _There:
    """A function at the other end; where the arguments are tensors, its gradient is asked for there too."""

    def __init__(self, channel, number):
        self.channel, self.number = channel, number

    def __call__(self, *args, **kwargs):
        returned = self.channel.call(self.number, args, kwargs)
        keras = sys.modules.get("keras")
        tensors = [place for place, arg in enumerate(args) if keras and keras.ops.is_tensor(arg)]
        outputs = returned if isinstance(returned, list | tuple) else [returned]
        if not (self.channel.examines and tensors and all(keras.ops.is_tensor(output) for output in outputs)):
            return returned

        @keras.ops.custom_gradient
        def through(*inputs):
            def gradient(*upstream):
                asked = (self.number, list(args))
                return [self.channel.call(PULL_BACK, (*asked, place, list(upstream))) for place in tensors]

            return returned, gradient

        return through(*(args[place] for place in tensors))

    @functools.cached_property
    def _noted(self):
        # What a sweep calls an answer with: nothing for a layer, the seed for a model.
        seeds = [(seed,) for seed in lesson_09.SEEDS]
        return {args: self.channel.ask(self.number, args)[0] for args in [(), *seeds]}

    def __reduce__(self):
        """Go to the worker processes of a sweep, which cannot reach the other end, as what it returned."""
        return Recorded, (self._noted,)


class Recorded:
    """A function of which it was noted what it returns for the arguments that matter.

    Args:
        answers: {arguments: the frame that came back}.
    """

    def __init__(self, answers):
        self.answers = answers

    def __call__(self, *args):
        return Channel(None, None).read(self.answers[args])


def pull_back(channel):
    """Return the function by which an end differentiates its functions.

    Args:
        channel: Of that end.

    Returns:
        A function (number, args, place, upstream) -> the gradient of the sum of upstream times what function `number`
        returns, by its argument at `place`; None where no gradient comes through.
    """

    def differentiate(number, args, place, upstream):
        from rnnkit import _backend
        from rnnkit._backend import keras

        def weighted(tensor):
            returned = channel._functions[number](*args[:place], tensor, *args[place + 1 :])
            returned = returned if isinstance(returned, list | tuple) else [returned]
            return sum(keras.ops.sum(part * up) for part, up in zip(returned, upstream, strict=True))

        try:
            return _backend.vector_jacobian(weighted, args[place], np.ones((), "float32"))
        except Exception:
            return None

    return differentiate
