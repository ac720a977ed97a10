from __future__ import annotations

from typing import Any

from tilth.core.records import Provenance, Sample
from tilth.sdg.coverage import coverage, share_touched
from tilth.taxonomy.documents import Document

TEXT = """# The tower

The tower is built of green slate, and it is 37 metres tall. A stair of 212 steps leads to the lamp room.
Its light is amber!

- The keeper was a retired baker
- Old Marta is a bronze bell

Below. 「塔は緑の粘板岩で造られた。」
"""
SLATE, STAIR, LIGHT, KEEPER, BELL, JAPANESE = range(6)


def sample(question: str, answer: str, **source: Any) -> Sample:
    fields = {"leaf": "l", "leaf_fingerprint": "f", "commit": "c", "recipe": "r", "recipe_fingerprint": "g"}
    return Sample.new("knowledge_short", question, answer, Provenance(teacher="t", **fields, **source))


def counts(*samples: Sample) -> list[int]:
    return [sentence.samples for sentence in coverage(Document(path="l/tower.md", text=TEXT), samples)]


def test_the_sentences_of_a_document_and_where_they_stand() -> None:
    found = coverage(Document(path="l/tower.md", text=TEXT), [])
    assert [sentence.text.split()[0] for sentence in found][:5] == ["The", "A", "Its", "-", "-"]
    assert len(found) == 6
    assert all(" ".join(TEXT[slice(*sentence.span)].split()) == sentence.text for sentence in found)
    assert share_touched(found) == 0
    assert share_touched([]) == 1


def test_a_sample_touches_the_sentence_that_it_was_made_from() -> None:
    assert counts(sample("How tall is it?", "37 metres", fact="A stair of 212 steps leads to the lamp room."))[STAIR]
    assert not any(counts(sample("How heavy is it?", "a ton", fact="It weighs a ton.")))


def test_a_hand_written_sample_touches_the_sentence_with_its_answer() -> None:
    assert counts(sample("How tall is the tower?", "37 metres")) == [1, 0, 0, 0, 0, 0]
    assert counts(sample("Who is Old Marta?", "a bell"), sample("Who was the keeper?", "a baker")) == [0, 0, 0, 1, 1, 0]
    assert counts(sample("What is the capital of France?", "Paris")) == [0, 0, 0, 0, 0, 0]


def test_a_long_answer_touches_all_that_it_tells() -> None:
    told = "The tower is built of green slate and is 37 metres tall. A stair of 212 steps leads to the lamp."
    assert counts(sample("Describe the tower.", told)) == [1, 1, 0, 0, 0, 0]


def test_a_sample_of_another_place_touches_nothing() -> None:
    place = {"document": "l/tower.md", "span": (TEXT.index("A stair"), TEXT.index("- The"))}
    all_told = "The tower is built of green slate, 37 metres tall; its light is amber"
    told = sample("Tell of slate and light.", all_told, **place)
    assert counts(told) == [0, 0, 1, 0, 0, 0]
    elsewhere = sample("How tall is the tower?", "37 metres", document="l/other.md")
    assert not any(counts(elsewhere))
