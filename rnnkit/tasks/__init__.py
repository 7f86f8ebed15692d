"""Data sets as NumPy arrays, made on the spot, with the score that needs no memory at all."""

from rnnkit.tasks.classic import (
    ADDING_BASELINE,
    TEMPORAL_ORDER_BASELINE,
    adding_problem,
    copy_memory,
    copy_memory_baseline,
    first_symbol_recall,
    temporal_order,
)
from rnnkit.tasks.digits import digits_by_row

__all__ = [
    "ADDING_BASELINE",
    "TEMPORAL_ORDER_BASELINE",
    "adding_problem",
    "copy_memory",
    "copy_memory_baseline",
    "digits_by_row",
    "first_symbol_recall",
    "temporal_order",
]
