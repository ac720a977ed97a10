"""Filters: a filter maps a sample to None (keep) or to a `Drop`, a reason with its score. Rejects are saved, not lost.

The ones here cost no call and run before the judge. What they compare a sample with is bound when they are made.
"""

from .content import grounded, grounded_throughout, on_topic, same_answer, self_contained
from .copies import not_held_out, not_like
from .drop import Drop, Filter, first_drop
from .duplicates import Duplicates, without_duplicates
from .form import (
    Bounds,
    answer_length,
    hides_answer,
    is_answer,
    is_finished,
    is_question,
    no_chat_tokens,
    no_instructions,
    no_leftovers,
    question_length,
    repeats_itself,
    stands_alone,
)
from .language import same_language
from .like_seeds import changes_its_context, form_of, other_options, shows_what_it_names, task_form_of

__all__ = [
    "Bounds",
    "Drop",
    "Duplicates",
    "Filter",
    "answer_length",
    "changes_its_context",
    "first_drop",
    "form_of",
    "grounded",
    "grounded_throughout",
    "hides_answer",
    "is_answer",
    "is_finished",
    "is_question",
    "no_chat_tokens",
    "no_instructions",
    "no_leftovers",
    "not_held_out",
    "not_like",
    "on_topic",
    "other_options",
    "question_length",
    "repeats_itself",
    "same_answer",
    "same_language",
    "self_contained",
    "shows_what_it_names",
    "stands_alone",
    "task_form_of",
    "without_duplicates",
]
