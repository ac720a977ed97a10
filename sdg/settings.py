"""What a recipe may say: a section of settings for each flow, and what each of its prompts is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from ..core.config import Section, Share

Count = Annotated[int, Field(ge=1)]
Similarity = Annotated[float, Field(gt=0, le=1)]


def _in_order(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("write it as [fewest, most]")
    return bounds


WordBounds = Annotated[tuple[int, int], AfterValidator(_in_order)]


class KnowledgePrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    questions: str
    reword: str
    long: str
    judge: str


class KnowledgeSettings(Section):
    """What is made of a knowledge leaf; `recipes/quick.yaml` says what each key means."""

    prompts: KnowledgePrompts
    chunk_tokens: Annotated[int, Field(ge=10)]
    calls_per_chunk: Count
    extra_questions: Annotated[int, Field(ge=0)]
    rewordings: Count
    long_instruction: str
    """Put behind a question that has a long answer, for it has a short one too."""
    judge: bool
    question_words: WordBounds
    short_answer_words: WordBounds
    long_answer_words: WordBounds
    grounded_share: Share
    near_duplicate: Similarity


class SkillPrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    questions: str
    answer: str
    judge: str
    grounded_questions: str
    grounded_answer: str
    grounded_judge: str


class SkillSettings(Section):
    """What is made of a skill leaf, freeform, grounded or foundational; see `recipes/quick.yaml`."""

    prompts: SkillPrompts
    examples: Count
    tasks_per_call: Count
    calls_per_seed: Count
    judge: bool
    question_words: WordBounds
    context_words: WordBounds
    answer_words: WordBounds
    near_duplicate: Similarity


class RecipeFile(Section):
    """What stands in `recipes/*.yaml`: a section for each flow."""

    knowledge: KnowledgeSettings
    skills: SkillSettings


Settings = KnowledgeSettings | SkillSettings


@dataclass(frozen=True)
class Part:
    """What a flow gives to one of its prompts, and what it must get back."""

    variables: str
    answers: str
    """The properties that the answer (with `repeat`, each item of it) must have; one in brackets is the whole item.
    Empty: it has no schema, but is plain text."""
    repeat: str = ""


_CHUNK = "title heading chunk"
_TASK = "task examples context question"
PARTS: Mapping[str, Mapping[str, Part]] = {
    "knowledge": {
        "questions": Part(f"{_CHUNK} number", "question answer", "number"),
        "reword": Part(f"{_CHUNK} fact question answer number", "[question]", "number"),
        "long": Part(f"{_CHUNK} question answer", "answer"),
        "judge": Part(f"{_CHUNK} question", ""),
    },
    "skills": {
        "questions": Part("task examples seed number", "question", "number"),
        "answer": Part(_TASK, "answer"),
        "judge": Part(f"{_TASK} answer", "verdict"),
        "grounded_questions": Part("task examples seed number", "context question", "number"),
        "grounded_answer": Part(_TASK, "answer"),
        "grounded_judge": Part(f"{_TASK} answer", "verdict"),
    },
}
"""The prompts of each flow. `examples` and `seed` have context, question and answer."""
