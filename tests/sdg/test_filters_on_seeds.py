"""What people wrote by hand is good: filters that drop it misfire. On the public trees and on the starter taxonomy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tilth
from tilth.core.errors import TilthError
from tilth.core.records import Provenance, Sample
from tilth.sdg import filters
from tilth.sdg.flow import user_turn
from tilth.taxonomy.leaf import Leaf, SeedExample, SeedPair, read_leaf
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import leaf_ids

ROOT = Path(tilth.__file__).parent
TREES = [ROOT / "taxonomy" / "starter", *sorted((ROOT.parent / "shared" / "taxonomies").glob("instructlab-*"))]
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")

Seed = tuple[Leaf, SeedExample, SeedPair]


def readable_leaves(root: Path) -> list[Leaf]:
    source, leaves = WorkingTree(root), list[Leaf]()
    for leaf_id in leaf_ids(source):
        try:
            leaves.append(read_leaf(source, leaf_id))
        except TilthError:  # knowledge of version 2
            continue
    return leaves


@pytest.fixture(scope="module", params=TREES, ids=lambda path: path.name)
def seeds(request: pytest.FixtureRequest) -> list[Seed]:
    return [
        (leaf, example, pair)
        for leaf in readable_leaves(request.param)
        for example in leaf.seed_examples
        for pair in example.pairs
    ]


CHECKS: dict[str, Callable[[Leaf, SeedExample], filters.Filter]] = {
    "is_question": lambda *_: filters.is_question,
    "stands_alone": lambda *_: filters.stands_alone,
    "is_answer": lambda *_: filters.is_answer,
    "no_leftovers": lambda _, example: filters.no_leftovers(example.context),
    "on_topic": lambda leaf, example: filters.on_topic(f"{leaf.title}\n{example.context}"),
    "same_language": lambda _, example: filters.same_language(example.context),
}


@pytest.mark.parametrize("name", CHECKS)
def test_no_pair_of_knowledge_is_dropped(name: str, seeds: list[Seed]) -> None:
    for leaf, example, pair in seeds:
        if leaf.kind == "knowledge":
            sample = Sample.new("knowledge_short", pair.question, pair.answer, SOURCE)
            assert CHECKS[name](leaf, example)(sample) is None, pair


def test_no_held_out_question_is_off_topic_or_leans_on_a_text(seeds: list[Seed]) -> None:
    """They ask in quite other words than the seeds."""
    contexts: dict[str, set[str]] = {}
    for leaf, example, _ in seeds:
        contexts.setdefault(leaf.id, set()).add(example.context)
    for leaf in {leaf.id: leaf for leaf, _, _ in seeds}.values():
        evidence = " ".join(sorted(contexts[leaf.id]))
        for question in leaf.questions:
            sample = Sample.new("test", question.question, question.answers[0], SOURCE)
            checks = [filters.stands_alone, filters.is_answer, filters.on_topic(evidence)]
            assert filters.first_drop(sample, checks) is None, question


@pytest.mark.slow
def test_no_context_of_a_skill_is_taken_for_another_language_than_its_task(seeds: list[Seed]) -> None:
    for _, example, pair in seeds:
        sample = Sample.new("grounded_skill", pair.question, pair.answer, SOURCE)
        assert filters.same_language(example.context)(sample) is None, pair


def test_hardly_any_solution_of_a_skill_is_a_model_s_leftover(seeds: list[Seed]) -> None:
    samples = [Sample.new("skill", pair.question, pair.answer, SOURCE) for _, _, pair in seeds]
    dropped = [sample for sample in samples if filters.no_chat_tokens(sample)]
    assert all("\ufffd" in sample.answer for sample in dropped)
    assert len(dropped) <= 1


def alone(others: list[str]) -> list[filters.Filter]:
    """What is asked of tasks without a context."""
    return [filters.shows_what_it_names, filters.other_options(others)]


@pytest.mark.slow
def test_few_tasks_are_unlike_their_leaf_s_others() -> None:
    """Of 437 a riddle in six words, "at the following bus stop", and six that ask in quite other words."""
    dropped: list[str] = []
    for root in TREES:
        for leaf in (each for each in readable_leaves(root) if each.kind != "knowledge"):
            asked = [(each.context, user_turn(each.context, each.pairs[0].question)) for each in leaf.seed_examples]
            for number, (context, question) in enumerate(asked):
                others = [other for at, (_, other) in enumerate(asked) if at != number]
                checks = [filters.task_form_of(others), *([] if context else alone(others))]
                sample = Sample.new("skill", question, "", SOURCE)
                dropped += [drop.reason] if (drop := filters.first_drop(sample, checks)) else []
    assert len(dropped) <= 8, dropped


def test_no_solution_of_a_person_is_a_loop(seeds: list[Seed]) -> None:
    for leaf, _, pair in seeds:
        assert filters.repeats_itself(Sample.new("skill", pair.question, pair.answer, SOURCE)) is None, leaf.id
