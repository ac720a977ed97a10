"""Made-up words, as frequent as in a language, and the leaves and samples that are written with them."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

from tilth.core.records import Provenance, Sample

NUM_WORDS = 20_000
_PASSAGES = 8


class Leaf:
    """What leaf `number` says; another `edition` says something else. The same numbers give the same words."""

    def __init__(self, number: int, edition: int = 0) -> None:
        self.knowledge = number % 2 == 1
        section = "knowledge" if self.knowledge else "compositional_skills"
        self.id = f"{section}/field_{number % 7}/part_{number % 101}/leaf_{number}"
        self._words = random.Random(number * 1_000 + edition)  # noqa: S311 (a reproducible choice, not a secret)
        self.subject = " ".join(random.Random(-number).choices(vocabulary(), k=2)).title()  # noqa: S311

    def files(self) -> dict[str, dict[str, Any] | str]:
        """Name -> content; of YAML the data."""
        qna = {"version": 4, "created_by": "ada", **(self._knowledge() if self.knowledge else self._skill())}
        qna["test_questions"] = [{"question": self._question(), "answer": self._some(2)} for _ in range(2)]
        texts = {"attribution.txt": "Title of work: Made up\nLicense of the work: CC0-1.0\nCreator names: ada\n"}
        if self.knowledge:
            page = "\n\n".join(f"{self.subject} {self._some(80)}." for _ in range(_PASSAGES))
            texts["page.md"] = f"# {self.subject}\n\n{page}\n"
        return {"qna.yaml": qna, **texts}

    def sample(self, source: Provenance) -> Sample:
        """A question and its answer, as a teacher writes it: every third answer is long."""
        kind = "knowledge_short" if self.knowledge else "skill"
        answer = f"The {self.subject}: {self._some(40 if self._words.random() < 1 / 3 else 6)}."
        start = self._words.randrange(4_000)
        made_from = {"span": (start, start + 500), "fact": self._some(12), "requests": (self._key(), self._key())}
        return Sample.new(kind, self._question(), answer, source.model_copy(update=made_from))

    def _knowledge(self) -> dict[str, Any]:
        asked = lambda: {"question": self._question(), "answer": self._some(10)}  # noqa: E731
        seeds = [{"context": self._some(60), "questions_and_answers": [asked() for _ in range(3)]} for _ in range(5)]
        outline = {"domain": self._some(2), "document_outline": self._some(8)}
        return {**outline, "document": {"files": ["page.md"]}, "seed_examples": seeds}

    def _skill(self) -> dict[str, Any]:
        seeds = [{"question": self._question(), "answer": self._some(30)} for _ in range(5)]
        return {"task_description": self._some(9), "seed_examples": seeds}

    def _question(self) -> str:
        asked = self._some(4).split()
        return f"What {asked[0]} does the {asked[1]} of the {self.subject} {asked[2]} in the {asked[3]}?"

    def _some(self, count: int) -> str:
        words, weights = _vocabulary()
        return " ".join(self._words.choices(words, cum_weights=weights, k=count))

    def _key(self) -> str:
        return f"{self._words.getrandbits(256):064x}"


@functools.cache
def _vocabulary() -> tuple[list[str], list[float]]:
    rng = random.Random(16)  # noqa: S311
    letters = ["".join((rng.choice("bdfgklmnprstv"), rng.choice("aeiou"))) for _ in range(64)]
    words = ["".join(rng.choices(letters, k=rng.choice([2, 3, 4]))) for _ in range(NUM_WORDS)]
    return words, list(itertools.accumulate(1 / (rank + 10) for rank in range(NUM_WORDS)))


def vocabulary() -> list[str]:
    """All the words."""
    return _vocabulary()[0]
