"""Recurrent cells that read like their equations, and the connections that let networks be deep."""

from rnnkit.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnnkit.layers.connections import DenselyConnected, Highway, Residual
from rnnkit.layers.stacked import StackedRNN

__all__ = ["DenselyConnected", "GRUCell", "Highway", "LSTMCell", "Residual", "SimpleRNNCell", "StackedRNN"]
