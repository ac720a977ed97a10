"""Multiple choice: which option a model finds likeliest, and the order in which options are listed where it is to say.

By likelihood the question stands alone and each option is tried as the answer to it (the cloze form): a small model
knows which answer fits long before it can point at one by its letter (Gu et al. 2024, "OLMES", arXiv 2406.08446;
docs/log.md has the embedded student's figures). Where no likelihoods can be had, the options are listed and the model
says one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..core.records import Question


def likeliest(options: Sequence[str], log_probs: Sequence[float]) -> str:
    """The option with the highest log-probability for each of its characters; of equals the first.

    So normalised, a long option is no worse than a short one (`acc_norm` of lm-evaluation-harness).
    """
    per_character = [value / max(1, len(option)) for option, value in zip(options, log_probs, strict=True)]
    return options[max(range(len(options)), key=per_character.__getitem__)]


def shuffled(question: Question) -> tuple[str, ...]:
    """Its options in an order of their own, always the same: models prefer places, writers of questions too."""
    options = list(question.options)
    random.Random(question.id).shuffle(options)  # noqa: S311  an order, not a secret
    return tuple(options)
