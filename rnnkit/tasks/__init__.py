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
from rnnkit.tasks.digits import digit_images, digits_by_row
from rnnkit.tasks.grammar import (
    AGREEMENT_WORDS,
    TICKETS_BASELINE,
    TICKETS_WORDS,
    agreement,
    last_noun_baseline,
    tickets,
)
from rnnkit.tasks.source import BRACKETS_BASELINE, SOURCE_TOKENS, open_brackets, python_brackets, tokens_of

__all__ = [
    "ADDING_BASELINE",
    "AGREEMENT_WORDS",
    "BRACKETS_BASELINE",
    "SOURCE_TOKENS",
    "TEMPORAL_ORDER_BASELINE",
    "TICKETS_BASELINE",
    "TICKETS_WORDS",
    "adding_problem",
    "agreement",
    "copy_memory",
    "copy_memory_baseline",
    "digit_images",
    "digits_by_row",
    "first_symbol_recall",
    "last_noun_baseline",
    "open_brackets",
    "python_brackets",
    "temporal_order",
    "tickets",
    "tokens_of",
]
