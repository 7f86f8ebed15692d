"""Data sets as NumPy arrays, made on the spot, with the score that needs no memory at all."""

from rnnkit.tasks.classic import (
    ADDING_BASELINE,
    TEMPORAL_ORDER_BASELINE,
    adding_problem,
    copy_memory,
    copy_memory_baseline,
    double_sum,
    double_sum_baseline,
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
from rnnkit.tasks.text import TEXT_CHARACTERS, python_text, whole_text

__all__ = [
    "ADDING_BASELINE",
    "AGREEMENT_WORDS",
    "BRACKETS_BASELINE",
    "SOURCE_TOKENS",
    "TEMPORAL_ORDER_BASELINE",
    "TEXT_CHARACTERS",
    "TICKETS_BASELINE",
    "TICKETS_WORDS",
    "adding_problem",
    "agreement",
    "copy_memory",
    "copy_memory_baseline",
    "digit_images",
    "digits_by_row",
    "double_sum",
    "double_sum_baseline",
    "first_symbol_recall",
    "last_noun_baseline",
    "open_brackets",
    "python_brackets",
    "python_text",
    "temporal_order",
    "tickets",
    "tokens_of",
    "whole_text",
]
