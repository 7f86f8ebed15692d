"""Recurrent cells that read like their equations, and the connections that let networks be deep."""

from rnnkit.layers.cells import GRUCell, LSTMCell, SimpleRNNCell

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell"]
