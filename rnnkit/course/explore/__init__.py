"""Pictures with sliders, to be moved until a sentence of the lecture makes sense.

Each function shows, in a notebook with ipywidgets, sliders and the picture that follows them. Elsewhere, and where the
environment variable `RNNKIT_EXPECT` is set (a notebook that is run to be compared with what it stores), it shows the
picture of its arguments alone. What the picture shows is also said in words below it.
"""

from rnnkit.course.explore import _cliff, _depth, _flow, _gates
from rnnkit.course.explore._panel import Choice, Explorer, Slider, explore

__all__ = ["cliff", "depth", "gates", "gradient_flow"]

_FLOW = Explorer(
    {
        "radius": Slider("spectral radius of the kernel", 0.2, 2.0, 0.05),
        "length": Slider("length of the sequence", 10, 200, 5),
        "activation": Choice("activation", tuple(_flow.ACTIVATIONS)),
        "kernel": Choice("initialisation", _flow.KERNELS),
    },
    _flow.measure,
    _flow.draw,
    _flow.words,
    {"left": 0.24, "right": 0.87, "bottom": 0.13, "top": 0.96},
)
_GATES = Explorer(
    {
        "cell": Choice("cell", _gates.CELLS),
        "bias": Slider("bias of the gate that keeps", -2.0, 6.0, 0.25),
        "steps": Slider("steps looked ahead", 10, 150, 5),
        "scale": Slider("scale of the recurrent kernel", 0.0, 2.0, 0.1),
    },
    _gates.measure,
    _gates.draw,
    _gates.words,
    {"left": 0.1, "right": 0.97, "bottom": 0.13, "top": 0.88},
)
_CLIFF = Explorer(
    {
        "w": Slider("start: w", 4.2, 5.4, 0.02),
        "b": Slider("start: b", -2.8, -1.0, 0.02),
        "rate": Slider("learning rate", 0.01, 1.0, 0.05, log=True),
        "threshold": Slider("clipping threshold", 0.01, 100.0, 0.05, log=True),
        "steps": Slider("steps of the descent", 1, 300, 1),
    },
    _cliff.measure,
    _cliff.draw,
    _cliff.words,
    {"left": 0.11, "right": 0.99, "bottom": 0.13, "top": 0.96},
)
_DEPTH = Explorer(
    {
        "depth": Slider("number of layers", 2, 60, 1),
        "spread": Slider("kernels: standard deviation", 0.02, 0.3, 0.01),
        "gate_bias": Slider("bias of the highway's gates", -6.0, 2.0, 0.25),
        "shown": Choice("ways round, beside plain", (_depth.ALL, *_depth.WAYS[1:])),
    },
    _depth.measure,
    _depth.draw,
    _depth.words,
    {"left": 0.12, "right": 0.85, "bottom": 0.13, "top": 0.96},
)


def gradient_flow(*, radius=0.9, length=100, activation="tanh", kernel="orthogonal"):
    """Explore how far back a fresh plain network hears of a mistake made at its last step.

    The network has 32 units and reads the adding problem. Drawn against the time step, relative to the last: the
    gradient of the loss, dL/dh_t; the most by which a change of h_t can be stretched until the end, the largest
    singular value of dh_T/dh_t; and what the spectral radius alone would make of it.

    Args:
        radius: spectral radius of the recurrent kernel, from 0.2 to 2.
        length: steps of the sequence, a whole number from 10 to 200.
        activation: `"tanh"`, `"relu"`, `"sigmoid"` or `"linear"`.
        kernel: how the recurrent kernel is made: `"orthogonal"`, `"Gaussian"`, `"identity"`, or `"chain"`, in which
            each unit keeps `radius` of its state and gets 0.7 of its neighbour's.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> rnnkit.explore.gradient_flow(radius=0.5, length=50)
        Norm of dL/dh and ... The gradient vanishes: ...

    Source: Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", section 2.1;
    Le, Jaitly & Hinton (2015), "A simple way to initialize recurrent networks of rectified linear units", for the
    identity.
    """
    explore(_FLOW, {"radius": radius, "length": length, "activation": activation, "kernel": kernel})


def gates(*, cell="LSTM", bias=1.0, steps=40, scale=1.0):
    """Explore how long a fresh LSTM or GRU remembers, as the bias of the gate that keeps is moved.

    A network of 32 units reads the adding problem, and after step 10 its memory (c, or a GRU's h) is nudged. Drawn
    against the steps since: how much of the nudge a unit still holds of its own; how much is there by all roads, those
    through the other units included (its root mean square); and what the gate alone, at sigmoid(bias), would keep.

    Args:
        cell: `"LSTM"`, whose forget gate keeps, or `"GRU"`, whose update gate does in Keras's convention.
        bias: bias of that gate, from -2 to 6; all others are 0.
        steps: how many steps to look ahead, a whole number from 10 to 150.
        scale: factor on the recurrent kernel, from 0 (no road but the gate's own) to 2; at 1 it is Keras's default.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> rnnkit.explore.gates(bias=3.0)
        Part of a nudge ... half-life by the formula 14.3 steps...

    Source: Gers, Schmidhuber & Cummins (2000), "Learning to forget: continual prediction with LSTM"; Tallec & Ollivier
    (2018), "Can recurrent neural networks warp time?", section 2.
    """
    explore(_GATES, {"cell": cell, "bias": bias, "steps": steps, "scale": scale})


def cliff(*, w=4.9, b=-2.2, rate=0.1, threshold=0.5, steps=60):
    """Explore the cliff in the loss of a one-unit network, and what clipping does to a descent that meets it.

    The network is x_t = w * sigmoid(x_(t-1)) + b from x_0 = 0.5, and its loss (sigmoid(x_50) - 0.7)**2. On the map of
    the loss over w and b stand two descents from the same place: with the gradient as it is, and clipped.

    Args:
        w: where the descents start, from 4.2 to 5.4.
        b: the same for the bias, from -2.8 to -1.
        rate: learning rate, from 0.01 to 1.
        threshold: norm to which a longer gradient is scaled down, from 0.01 to 100.
        steps: length of the descents, a whole number from 1 to 300.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> rnnkit.explore.cliff(threshold=0.1)
        Map of the loss ... clipped at 0.1, it is 0.01. ...

    Source: Pascanu, Mikolov & Bengio (2013), equation 8, figure 6 and algorithm 1.
    """
    explore(_CLIFF, {"w": w, "b": b, "rate": rate, "threshold": threshold, "steps": steps})


def depth(*, depth=20, spread=0.1, gate_bias=-2.0, shown="all three"):
    """Explore how far down a deep network the loss is heard, with and without ways round its layers.

    The networks have a first layer, `depth` tanh layers of 32 units (8 in the dense network, whose layers read all
    before them) and a head, and see a batch of handwritten digits before any training. Drawn against the layer: the
    norm of the gradient of its bias, which is the backward signal itself.

    Args:
        depth: number of layers in the middle, a whole number from 2 to 60.
        spread: standard deviation of their kernels, from 0.02 to 0.3.
        gate_bias: bias of the highway layers' gates, from -6 (carry) to 2 (transform).
        shown: what is drawn beside the plain network: `"residual"`, `"dense"`, `"highway"` or `"all three"`.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> rnnkit.explore.depth(depth=30, shown="residual")
        Norm of the gradient of the bias ... plain ..., residual ...

    Source: He, Zhang, Ren & Sun (2016); Huang, Liu, van der Maaten & Weinberger (2017); Srivastava, Greff &
    Schmidhuber (2015): see the layers in `rnnkit.layers`.
    """
    explore(_DEPTH, {"depth": depth, "spread": spread, "gate_bias": gate_bias, "shown": shown})
