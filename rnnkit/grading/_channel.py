"""Two processes that call each other's functions, and pass each other nothing but data.

Both ends are the same: a line of JSON asks for a call, another brings what it returned. Numbers, texts, arrays and
lists of such travel as they are; a function stays where it is and is called from afar; a Keras layer or model travels
as its configuration and weights, if those name nothing but what Keras and rnnkit define. No code travels, and nothing
that is read here can run any. So what one end says can be a wrong answer, but it cannot reach into the other.
"""

import base64
import builtins
import json
import sys
import time

import numpy as np

from rnnkit import exercises
from rnnkit.grading._confine import LONGEST

_DEEPEST = 40  # calls within calls, of the one end and the other

# Layers that are data: what they do is said by their configuration, and reading that opens no file.
_LAYERS = {
    "Activation", "ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "Average",
    "AveragePooling1D", "BatchNormalization", "Bidirectional", "Concatenate", "Conv1D", "Cropping1D", "Dense",
    "DepthwiseConv1D", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding", "Flatten", "GRU", "GRUCell",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "GroupNormalization",
    "GroupQueryAttention", "Identity", "InputLayer", "LSTM", "LSTMCell", "LayerNormalization", "LeakyReLU",
    "Masking", "MaxPooling1D", "Maximum", "Minimum", "MultiHeadAttention", "Multiply", "PReLU", "Permute",
    "RMSNormalization", "RNN", "ReLU", "RepeatVector", "Rescaling", "Reshape", "SeparableConv1D", "SimpleRNN",
    "SimpleRNNCell", "Softmax", "SpatialDropout1D", "StackedRNNCells", "Subtract", "TimeDistributed",
    "UnitNormalization", "UpSampling1D", "ZeroPadding1D",
}  # fmt: skip
_MODELS = {"Sequential", "Functional", "Model"}
_OURS = {"Residual", "DenselyConnected", "Highway", "StackedRNN", "SimpleRNNCell", "LSTMCell", "GRUCell"}
_OUR_INITIALIZERS = {"SpectralRadius", "GateBias", "Chrono"}
_PARTS = {
    "keras.activations",
    "keras.constraints",
    "keras.initializers",
    "keras.losses",
    "keras.metrics",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.regularizers",
}
_DATA = {"__tuple__", "__slice__", "__ellipsis__", "__bytes__"}


class Fault(BaseException):  # so that no examiner takes it for an answer's
    """The other end did not answer as it should; says how: `"timed out"`, `"crashed"` ..., and what is known.

    Args:
        outcome: What to call it in the table.
        message: What is known.
    """

    def __init__(self, outcome, message):
        super().__init__(message)
        self.outcome, self.message = outcome, message


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
        read: Called with the seconds left (or None), returns the next line as bytes, b"" if there is no more.
        write: Called with a line as bytes.
        lends: Whether a layer that is sent comes back as the same object, wherever the other end has put it.
    """

    def __init__(self, read, write, lends=False):
        self._read, self._write, self._lends = read, write, lends
        self.deadline = None
        self._functions, self._numbers = [], {}
        self._lent, self._kept, self._seen = {}, {}, {}
        self._depth = 0

    def offer(self, function):
        """Let the other end call a function.

        Returns:
            Its number.
        """
        if id(function) not in self._numbers:
            self._numbers[id(function)] = len(self._functions)
            self._functions.append(function)
        return self._numbers[id(function)]

    def serve(self):
        """Answer calls until the other end is gone."""
        while (frame := self._receive()) is not None:
            self._answer(frame)

    def call(self, number, args=(), kwargs=None):
        """Call a function of the other end.

        Args:
            number: Which.
            args: As for the function; lists and arrays that it changes are changed here.
            kwargs: As for the function.

        Returns:
            What it returned.

        Raises:
            Exception: What it raised, as one of Python's own exceptions.
            Fault: If the other end is gone, late, or says what no end of this kind says.
        """
        frame, raised_here = self.ask(number, args, kwargs)
        if "raised" in frame and raised_here:  # by a function of ours that the other end called
            raise raised_here[-1]
        return self.read(frame, args)

    def ask(self, number, args=(), kwargs=None):
        """Call a function of the other end.

        Returns:
            What came back, as it came, for `read`; and the exceptions of this end's functions that were called for it.
        """
        asked = {"call": number, "args": self.encode(list(args)), "kwargs": self.encode(dict(kwargs or {}))}
        self._send(asked)
        raised_here = []
        while True:
            frame = self._receive()
            if frame is None:
                raise Fault("crashed", "The process of the answer ended.")
            if "call" not in frame:
                return frame, raised_here
            if error := self._answer(frame):
                raised_here.append(error)

    def read(self, frame, args=()):
        """Return the value that came back, or raise what was raised; change what was passed as it was changed there."""
        if "raised" in frame:
            raise _error(frame["raised"])
        if frame.get("idle") is True:
            raise exercises._NotAttempted
        for place, value in self._after(frame):
            if place < len(args):
                _change(args[place], value)
        return self.decode(frame.get("returned"))

    def _after(self, frame):
        after = frame.get("after", [])
        if not isinstance(after, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in after):
            raise Fault("crashed", "The process of the answer said something in another form than it was asked for.")
        return [(place, self.decode(value)) for place, value in after if isinstance(place, int) and place >= 0]

    def _answer(self, frame):
        """Call a function of this end for the other; return the exception that it raised, or None."""
        number = frame["call"]
        if not isinstance(number, int) or not 0 <= number < len(self._functions) or self._depth >= _DEEPEST:
            raise Fault("crashed", "The process of the answer asked for a function that it was not given.")
        function = self._functions[number]
        self._depth += 1
        raised = None
        try:
            args, kwargs = self.decode(frame.get("args", [])), self.decode(frame.get("kwargs", {}))
            before = [self.encode(value) if isinstance(value, list | np.ndarray) else None for value in args]
            returned = function(*args, **kwargs)
            after = [
                [place, now]
                for place, (value, was) in enumerate(zip(args, before, strict=True))
                if was is not None and (now := self.encode(value)) != was
            ]
            reply = {"returned": self.encode(returned), "after": after}
            if returned is None and exercises._does_nothing(function):
                reply["idle"] = True
        except Exception as error:
            raised, reply = error, {"raised": _told(error, function)}
        finally:
            self._depth -= 1
        self._send(reply)
        return raised

    def _send(self, frame):
        line = json.dumps(frame).encode() + b"\n"
        if len(line) > LONGEST:
            line = json.dumps({"raised": {"type": "ValueError", "text": "the answer is larger than 64 MB"}}).encode()
            line += b"\n"
        try:
            self._write(line)
        except OSError:
            raise Fault("crashed", "The process of the answer ended.") from None

    def _receive(self):
        left = None if self.deadline is None else self.deadline - time.monotonic()
        line = self._read(left)
        if not line:
            return None
        try:
            frame = json.loads(line)
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict):
            raise Fault("crashed", "The process of the answer said something in another form than it was asked for.")
        return frame

    # --- what travels -----------------------------------------------------------------------------------------------

    def encode(self, value):
        """Return a value as JSON can hold it."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if value is ...:
            return {"kind": "..."}
        if isinstance(value, bool | int | float | str):  # of a class of its own
            return self.encode(next(kind for kind in (bool, int, float, str) if isinstance(value, kind))(value))
        if isinstance(value, complex):
            return {"kind": "complex", "parts": [value.real, value.imag]}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {"kind": kind, "parts": [self.encode(part) for part in value]}
        if isinstance(value, dict):
            return {"kind": "dict", "parts": [[self.encode(key), self.encode(part)] for key, part in value.items()]}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
            return {"kind": "array" if isinstance(value, np.ndarray) else "scalar", **_bytes(np.asarray(value))}
        keras = sys.modules.get("keras")
        if keras and isinstance(value, keras.Layer):
            return self._encode_layer(keras, value)
        if keras and (keras.ops.is_tensor(value) or isinstance(value, keras.Variable)):
            return {"kind": "tensor", **_bytes(np.asarray(keras.ops.convert_to_numpy(value)))}
        if callable(value):
            return {"kind": "function", "number": self.offer(value)}
        return {"kind": "other", "name": type(value).__name__}

    def _encode_layer(self, keras, layer):
        self._kept[id(layer)] = layer  # so that its id stays its own
        try:
            config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        except Exception:
            return {"kind": "layer", "config": None, "name": type(layer).__name__}
        weights = [_bytes(weight) for weight in layer.get_weights()] if layer.built else None
        if self._lends:
            config["config"]["name"] = f"lent_{len(self._lent)}_{layer.name}"
            self._lent[config["config"]["name"]] = layer
        return {"kind": "layer", "config": config, "weights": weights, "id": id(layer)}

    def decode(self, value):
        """Return the value that JSON holds: only such types as are made here."""
        if not isinstance(value, dict):
            if value is None or isinstance(value, bool | int | float | str):
                return value
            raise _malformed()
        try:
            return self._decode(value["kind"], value)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _malformed() from error

    def _decode(self, kind, value):
        if kind == "...":
            return ...
        if kind == "complex":
            return complex(*value["parts"])
        if kind in ("list", "tuple"):
            return (list if kind == "list" else tuple)(self.decode(part) for part in value["parts"])
        if kind == "dict":
            return {self.decode(key): self.decode(part) for key, part in value["parts"]}
        if kind == "array":
            return _array(value)
        if kind == "scalar":
            return _array(value)[()]
        if kind == "tensor":
            from rnnkit._backend import keras

            return keras.ops.convert_to_tensor(_array(value))
        if kind == "function":
            return _far(self, int(value["number"]))
        if kind == "layer":
            return self._decode_layer(value)
        return Opaque(str(value.get("name"))[:80])

    def _decode_layer(self, value):
        if value["config"] is None:
            raise Fault("not examined", _BY_HAND.format(f"a {str(value['name'])[:80]!r} that Keras cannot write down"))
        identity = value["id"]
        if identity not in self._seen:
            self._seen[identity] = build(value, self._lent)
        return self._seen[identity]


# --- Keras's layers and models, as data ---------------------------------------------------------------------------

_BY_HAND = "The answer holds code of its own, {}. Only what Keras and rnnkit define is examined: look at it yourself."


def build(value, lent=None):
    """Make a layer or model from its configuration and weights.

    Args:
        value: {"config", "weights"}.
        lent: Layers by name that are to stand where the configuration names one of them.

    Returns:
        The layer or model, compiled if it was.

    Raises:
        Fault: "not examined", if the configuration names a class that is not on the list of those that are data.
    """
    from rnnkit import initializers, layers  # noqa: F401  (registers what they define)
    from rnnkit._backend import keras

    lent = lent or {}

    class Lent:
        @staticmethod
        def from_config(config):
            return lent[config["name"]]

    config = _allowed(value["config"], lent)
    try:
        made = keras.saving.deserialize_keras_object(config, custom_objects={"rnnkit_lent": Lent}, safe_mode=True)
        if value["weights"] is not None and made not in lent.values():
            made.set_weights([_array(weight) for weight in value["weights"]])
    except Exception as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise Fault("not examined", f"Keras cannot make the answer from its description ({what}).") from error
    return made


def _allowed(node, lent):
    """Return a configuration, lent layers in their places; refuse whatever is not on the lists."""
    if isinstance(node, list):
        return [_allowed(part, lent) for part in node]
    if not isinstance(node, dict):
        return node
    name, module = node.get("class_name"), node.get("module")
    if name is not None and not _harmless(name, module, node):
        raise Fault("not examined", _BY_HAND.format(f"`{str(name)[:80]}`"))
    inner = node.get("config")
    if name in _LAYERS and isinstance(inner, dict) and _same(lent.get(inner.get("name")), name):
        return {"class_name": "rnnkit_lent", "registered_name": "rnnkit_lent", "config": {"name": inner["name"]}}
    allowed = {key: _allowed(part, lent) for key, part in node.items()}
    if isinstance(allowed.get("compile_config"), dict):
        # How TensorFlow, over there, would run it; JAX, in the workers of a sweep, crawls unless it compiles.
        allowed["compile_config"] |= {"jit_compile": "auto", "run_eagerly": False}
    return allowed


def _same(layer, name):
    return layer is not None and type(layer).__name__ == name


def _harmless(name, module, node):
    if name in _DATA or name == "__keras_tensor__":
        return True
    if name == "function":  # by its name, which Keras looks up among its own
        return module == "builtins" and isinstance(node.get("config"), str) and node["config"].isidentifier()
    if name == "DTypePolicy" and module == "keras":
        return True
    if module == "keras.layers":
        return name in _LAYERS
    if module in ("keras", "keras.models") or str(module).startswith("keras.src.models."):
        return name in _MODELS
    if str(module).startswith("keras.src.ops."):
        return True
    if str(module).startswith("rnnkit.layers."):
        return name in _OURS
    if module == "rnnkit.initializers":
        return name in _OUR_INITIALIZERS
    return module in _PARTS


# --- small parts --------------------------------------------------------------------------------------------------


def _bytes(array):
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
    }


def _array(value):
    dtype = np.dtype(str(value["dtype"]))
    if dtype.kind not in "biufc":
        raise ValueError(f"arrays of numbers travel; received {dtype}")
    return np.frombuffer(base64.b64decode(value["bytes"]), dtype).reshape([int(n) for n in value["shape"]]).copy()


def _change(mine, value):
    """Change a list or an array in its place, as the other end changed its copy."""
    if isinstance(mine, list) and isinstance(value, list):
        mine[:] = value
    elif isinstance(mine, np.ndarray) and isinstance(value, np.ndarray) and mine.shape == value.shape:
        mine[...] = value


def _told(error, function):
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    return {
        "type": kinds[0],
        "text": str(error)[:1000],
        "told": str(error) if isinstance(error, exercises.NotYet) else exercises._complaint(error, function)[:1000],
        "not yet": isinstance(error, exercises.NotYet),
        "open": isinstance(error, exercises._NotAttempted),
    }


def _error(told):
    """Return the exception that the other end tells of: one of Python's own, whatever it says."""
    if not isinstance(told, dict):
        return _malformed()
    if told.get("open") is True:
        return exercises._NotAttempted(str(told.get("text", "")))
    if told.get("not yet") is True:
        return exercises.NotYet(str(told.get("text", "")))
    if told.get("type") == "MemoryError":
        return Fault("out of memory", "The answer asked for more memory than it may have.")
    kind = getattr(builtins, str(told.get("type")), Exception)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or kind.__init__ is UnicodeError.__init__:
        kind = Exception
    try:
        error = kind(str(told.get("text", "")))
    except TypeError:  # UnicodeDecodeError wants five arguments
        error = Exception(str(told.get("text", "")))
    error.told = str(told.get("told", ""))  # which `exercises.evaluate` passes on
    return error


def _malformed():
    return Fault("crashed", "The process of the answer said something in another form than it was asked for.")


# --- functions from afar ------------------------------------------------------------------------------------------


def _far(channel, number):
    """Return a function that calls the other end's function of that number."""
    there = _There(channel, number)

    def answer(*args, **kwargs):
        return there(*args, **kwargs)

    return answer


class _There:
    """A function at the other end, and what it was asked: to a worker process it goes as a record of its answers."""

    def __init__(self, channel, number):
        self.channel, self.number = channel, number
        self.asked = []

    def __call__(self, *args, **kwargs):
        if not kwargs and all(type(arg) is int for arg in args):
            self.asked.append(args)
        returned = self.channel.call(self.number, args, kwargs)
        return self._differentiable(args, returned)

    def _differentiable(self, args, returned):
        """Return tensors whose gradient is asked of the other end, where the arguments are tensors."""
        keras = sys.modules.get("keras")
        tensors = [place for place, arg in enumerate(args) if keras and keras.ops.is_tensor(arg)]
        outputs = returned if isinstance(returned, list | tuple) else [returned]
        if not tensors or not all(keras.ops.is_tensor(output) for output in outputs):
            return returned
        numbers = list(args)

        @keras.ops.custom_gradient
        def through(*inputs):
            def gradient(*upstream):
                return [
                    self.channel.call(PULL_BACK, (self.number, numbers, place, list(upstream))) for place in tensors
                ]

            return returned, gradient

        return through(*(args[place] for place in tensors))

    def __reduce__(self):
        # For the trainings of a sweep, whose workers cannot reach the other end: what it returns for each seed.
        if all(len(args) == 1 for args in self.asked):
            self.asked += [(seed,) for seed in range(3)]
        answers = {args: self.channel.ask(self.number, args)[0] for args in dict.fromkeys(self.asked)}
        return Recorded, (answers,)


PULL_BACK = 1  # the number of `pull_back` at the end that holds the answers


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
