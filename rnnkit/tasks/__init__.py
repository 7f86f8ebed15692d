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
from rnnkit.tasks.grammar import (
    AGREEMENT_WORDS,
    TICKETS_BASELINE,
    TICKETS_WORDS,
    agreement,
    last_noun_baseline,
    tickets,
)
from rnnkit.tasks.sentiment import SENTIMENT_BASELINE, SENTIMENT_WORDS, is_review, terribly_exciting
from rnnkit.tasks.source import (
    BRACKETS_BASELINE,
    NAME_ROLES,
    SOURCE_TOKENS,
    STATEMENT_TOKENS,
    name_roles,
    open_brackets,
    python_assignments,
    python_brackets,
    python_names,
    statements_of,
    tokens_of,
)

__all__ = [
    "ADDING_BASELINE",
    "AGREEMENT_WORDS",
    "BRACKETS_BASELINE",
    "NAME_ROLES",
    "SENTIMENT_BASELINE",
    "SENTIMENT_WORDS",
    "SOURCE_TOKENS",
    "STATEMENT_TOKENS",
    "TEMPORAL_ORDER_BASELINE",
    "TICKETS_BASELINE",
    "TICKETS_WORDS",
    "adding_problem",
    "agreement",
    "copy_memory",
    "copy_memory_baseline",
    "digits_by_row",
    "first_symbol_recall",
    "is_review",
    "last_noun_baseline",
    "name_roles",
    "open_brackets",
    "python_assignments",
    "python_brackets",
    "python_names",
    "statements_of",
    "temporal_order",
    "terribly_exciting",
    "tickets",
    "tokens_of",
]
