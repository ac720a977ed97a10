"""What comes nearest to a held-out question, and how many planted leaks are found: by kind, with the misses counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tilth.core.rate import wilson
from tilth.core.records import Message, Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.eval.contamination import ContaminationReport, Trained, contamination
from tilth.llm.embedding import embed

DATA = Path(__file__).parents[1] / "data"
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")
BELL = Question.new("knowledge/bell", "When was the old bell of Oru cast?", ("1702",))
WALL = Question.new("knowledge/wall", "Who built the harbour wall?", ("Ilse Quandt",))


def sample(question: str, answer: str = "an answer", leaf: str = "knowledge/bell") -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE.model_copy(update={"leaf": leaf}))


# The nearest ----------------------------------------------------------------------------------------------------------


def test_every_question_has_its_nearest_sample_with_where_it_came_from() -> None:
    rung, built = sample("Who rang the old bell of Oru?"), sample("When was the wall built?", leaf="knowledge/wall")
    report = contamination([BELL, WALL], [Trained(built, "earlier_cycle"), Trained(rung, "new")])
    bell, wall = report.items
    assert (bell.kind, bell.leak, bell.by_meaning) == ("none", None, None)
    assert bell.by_words
    assert (bell.by_words.sample_id, bell.by_words.leaf, bell.by_words.origin) == (rung.id, "knowledge/bell", "new")
    assert (bell.by_words.likeness, bell.by_words.run, bell.by_words.text) == (0.6, 4, "Who rang the old bell of Oru?")
    assert wall.by_words
    assert (wall.by_words.sample_id, wall.by_words.origin) == (built.id, "earlier_cycle")
    assert (report.by_meaning, report.counts, report.samples) == (False, {"none": 2}, {"new": 1, "earlier_cycle": 1})


def test_a_question_that_nothing_comes_near_has_no_nearest_sample() -> None:
    (item,) = contamination([BELL], [Trained(sample("Is salt white?", "Yes."), "general")]).items
    assert (item.by_words, item.by_meaning, item.kind) == (None, None, "none")


def test_a_leak_is_told_with_the_sample_that_it_is_in() -> None:
    page = f"{'The tide came in over the flats. ' * 200}{BELL.question} In 1702."
    near = [sample(f"When was the old bell of {town} cast?", "1702") for town in ("Hallin", "Orsk", "Pellin") * 4]
    hidden = sample("Go on.", page, leaf="general")
    report = contamination([BELL], [*(Trained(each, "new") for each in near), Trained(hidden, "general")])
    assert [(leak.sample_id, leak.kind) for leak in report.leaks] == [(hidden.id, "copy")]
    (item,) = report.items
    assert item.kind == "copy"
    assert item.leak
    assert item.by_words
    assert (item.leak.sample_id, item.leak.origin, item.leak.likeness) == (hidden.id, "general", 1.0)
    assert item.by_words.sample_id == hidden.id


def test_the_plainest_leak_of_a_question_is_told() -> None:
    nearly, whole = sample("When had Oru's old bell been cast?"), sample(BELL.question)
    (item,) = contamination([BELL], [Trained(nearly, "new"), Trained(whole, "new")]).items
    assert (item.kind, item.leak and item.leak.sample_id) == ("copy", whole.id)


ANGLES = {BELL.question: 0.0, "In which year did they cast it at Oru, the bell?": 0.25, "Is the bell of Oru loud?": 0.9}


def turned(text: str) -> Sequence[float]:
    return math.cos(ANGLES[text]), math.sin(ANGLES[text])


def test_the_nearest_by_meaning_is_told_though_it_is_no_leak() -> None:
    near, far = (sample(text, "In 1702.") for text in list(ANGLES)[1:])
    trained = [Trained(far, "new"), Trained(near, "past_release")]
    (item,) = contamination([BELL], trained, embed=turned).items
    assert item.by_meaning
    assert (item.kind, item.by_meaning.sample_id, item.by_meaning.likeness) == ("none", near.id, 0.969)


def test_a_reworded_question_leaks_in_what_the_recipe_made_as_it_is_now() -> None:
    near = sample("In which year did they cast it at Oru, the bell?", "In 1702.")
    likeness = Likeness(turned, 0.95)
    kinds = {
        origin: contamination([BELL], [Trained(near, origin)], likeness=likeness).items[0].kind
        for origin in ("new", "earlier_phase", "earlier_cycle", "general", "past_release")
    }
    assert [origin for origin, kind in kinds.items() if kind == "reworded"] == ["new", "earlier_phase", "earlier_cycle"]


def test_the_few_that_are_compared_in_full_are_those_that_tell_most() -> None:
    """A thousand samples share the words that all questions have, one shares what the question is about."""
    questions = [
        Question.new("knowledge/items", f"How heavy was item {name} of the salters of Ferren?", ("1",))
        for name in ("crosel", "drumba", "fennig", *(f"number {number}" for number in range(200)))
    ]
    trained = [sample("How heavy was the cart of the salters of Ferren?", f"It was {n}.") for n in range(1000)]
    told = sample("Was a drumba heavy?", "Hardly.")
    report = contamination(questions, [Trained(each, "new") for each in (*trained, told)])
    by_words = [item.by_words for item in report.items[:3]]
    assert [near and near.sample_id for near in by_words] == [None, told.id, None]


# Planted leaks --------------------------------------------------------------------------------------------------------


def plants(*kinds: str) -> list[dict[str, Any]]:
    lines = (DATA / "planted_leaks.jsonl").read_text().splitlines()
    return [plant for line in lines if (plant := json.loads(line))["kind"] in kinds]


def asked(plant: dict[str, Any]) -> Question:
    return Question.new(plant["leaf"], plant["question"], tuple(plant["answers"]), judged=plant["judged"])


def searched(planted: Sequence[dict[str, Any]], likeness: Likeness | None = None) -> ContaminationReport:
    """All questions against all plants at once; the id of a sample is its plant's place in the list."""
    trained: list[Trained] = []
    for place, plant in enumerate(planted):
        turns = tuple(Message(role=role, content=text) for role, text in plant["messages"])
        source = SOURCE.model_copy(update={"leaf": plant["leaf"]})
        trained.append(Trained(Sample(id=str(place), kind="skill", messages=turns, source=source), "new"))
    questions = {(question := asked(plant)).id: question for plant in planted}
    return contamination(list(questions.values()), trained, likeness=likeness)


def found(planted: Sequence[dict[str, Any]], report: ContaminationReport) -> Counter[str]:
    """By kind of plant, how many leaks were found where they were planted; "elsewhere" all others."""
    counts = Counter[str]()
    for leak in report.leaks:
        plant = planted[int(leak.sample_id)]
        counts[plant["kind"] if asked(plant).id == leak.question_id else "elsewhere"] += 1
    return counts


def test_planted_leaks_are_found_by_their_words() -> None:
    """All that are word for word, and all answers; of lightly edited ones those miss that have a letter wrong.

    Of a teacher's rewordings those that keep the words.
    """
    planted = plants("verbatim", "edited", "answer", "paraphrase", "clean")
    there, here = Counter(plant["kind"] for plant in planted), found(planted, searched(planted))
    assert there == {"verbatim": 130, "edited": 130, "answer": 32, "paraphrase": 44, "clean": 16}
    assert here["paraphrase"] == 10
    assert (here["verbatim"], here["answer"]) == (130, 32)
    assert wilson(here["edited"], 130).low > 0.85
    assert here["clean"] <= 1
    assert here["elsewhere"] == 0


@pytest.mark.slow
def test_planted_leaks_are_found_by_their_meaning() -> None:
    """Of a teacher's rewordings those that stay near: 23 of 44. The others ask as samples do that teach the fact."""
    planted = plants("paraphrase", "clean")
    there = Counter(plant["kind"] for plant in planted)
    here = found(planted, searched(planted, Likeness(embed, 0.95)))
    assert there == {"paraphrase": 44, "clean": 16}
    assert here["paraphrase"] >= 20
    assert wilson(here["paraphrase"], 44).low > 0.3
    assert here["clean"] <= 1
    assert here["elsewhere"] == 0
