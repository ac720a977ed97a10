from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml
from tilth.core.rate import wilson
from tilth.core.records import Question
from tilth.cycle.cards import DATASET_CARD, MODEL_CARD, Facts, Part, cards
from tilth.cycle.releases import Dataset, Release
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.eval.gate import Verdict
from tilth.sdg.pairs import LengthBias
from tilth.sdg.store import Manifest, Requests
from tilth.taxonomy.attribution import Work

LEAF = "knowledge/places/pier"
HOSTILE = "| <script>alert(1)</script>\n# [click](javascript:x)"


def facts(past: tuple[Part, ...] = (), **changed: Any) -> Facts:
    questions = tuple(Question.new(LEAF, f"What is {number}?", (str(number),)) for number in range(4))
    settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
    right = {question.id: Answer(outcome="right", exact=True, f1=1, text="yes") for question in questions}
    wrong = {id_: answer.model_copy(update={"outcome": "wrong"}) for id_, answer in right.items()}
    evaluation = Evaluation(
        settings=settings,
        models={"base": "aa", "release 1": "bb"},
        questions=questions,
        answers={"base": wrong, "release 1": right},
    )
    release = Release(
        number=1,
        cycle=1,
        parent=0,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        commit="c0ffee",
        student="smollm2-135m-instruct",
        teacher="teacher@1",
        plan="/home/somebody/plans/lab.yaml",
        seed=42,
        datasets=(
            Dataset(leaf=LEAF, leaf_fingerprint="f", entry="pier-f", sha256="ab" * 32, samples=12),
            Dataset(leaf="knowledge/old", leaf_fingerprint="g", entry="old-g", sha256="cd" * 32, samples=3),
        ),
        weights_sha256="ef" * 32,
        scores={LEAF: wilson(4, 4)},
        verdict=Verdict(outcome="pass", reasons=(HOSTILE,)),
        tilth="1.0",
    ).model_copy(update=changed)
    manifest = Manifest(
        leaf=LEAF, leaf_fingerprint="f", commit="c0ffee", recipe="knowledge", recipe_fingerprint="1234",
        teacher="/home/somebody/models/big.gguf", judge="", seed=42, tilth="1.0", samples=12,
        samples_by_kind={"knowledge_short": 12}, rejects=2, rejects_by_reason={"judge: not supported": 2}, failures=(),
        requests=Requests(asked=1, cached=0, paid=1, prompt_tokens=1, completion_tokens=1), steps={}, prompts={},
        sha256={},
    )  # fmt: skip
    works = [Work(HOSTILE, "", "CC-BY-4.0", "Ada"), Work("Mine", "", "my own", "")]
    known, lost = release.datasets
    return Facts(release, evaluation, (), (Part(known, manifest, works), Part(lost, None, ()), *past), None)


def parts(card: str) -> tuple[dict[str, Any], str]:
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_model_card_tells_scores_with_intervals_and_lineage() -> None:
    head, body = parts(cards(facts())[MODEL_CARD])
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "apache-2.0",
        "transformers",
        "text-generation",
    )
    assert "base_model" not in head  # the hub would take it for a repository
    (result,) = head["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["value"] == 1
    assert metric["args"] == {"correct": 4, "total": 4, "low": 0.5101, "high": 1.0}
    assert f"| {LEAF} | 0 of 4 (0 to 49 %) | 4 of 4 (51 to 100 %) |" in body
    for told in (
        "The gate said **pass**.\n",
        "c0ffee",
        "ef" * 32,
        "parent: smollm2-135m-instruct",
        "Plan lab.yaml, seed 42",
    ):
        assert told in body


def test_a_model_of_the_hub_is_named_as_the_base_and_a_forced_release_says_so() -> None:
    head, body = parts(cards(facts(student="someone/model", forced=True))[MODEL_CARD])
    assert (head["base_model"], head["license"]) == ("someone/model", "other")
    assert "Somebody released it all the same." in body


def test_a_dataset_card_tells_works_with_their_licences() -> None:
    head, body = parts(cards(facts())[DATASET_CARD])
    assert head["license"] == ["cc-by-4.0", "other", "unknown"]
    assert head["size_categories"] == ["n<1K"]
    assert "CC-BY-4.0; Ada" in body
    assert f"| knowledge/old | 3 | not told | `{'cd' * 32}` |" in body
    assert "| judge: not supported | 2 |" in body
    assert "git checkout c0ffee" in body


def test_a_dataset_card_tells_what_releases_before_were_trained_on_and_pairs() -> None:
    known = facts().parts[0]
    pairs = known.manifest.model_copy(
        update={"preferences": LengthBias(pairs=1_500, chosen_longer=0.5, correlation=None)}
    )
    data = known.dataset.model_copy(update={"leaf": "knowledge/gone", "sha256": "77" * 32})
    past = Part(data, pairs, [Work("Gone", "", "MIT", "")], past=True)
    head, body = parts(cards(facts((past,)))[DATASET_CARD])
    assert head["license"] == ["cc-by-4.0", "mit", "other", "unknown"]
    assert head["size_categories"] == ["1K<n<10K"]
    assert f"| knowledge/gone (before) | 12 | Gone; MIT | `{'77' * 32}` |" in body
    assert "| knowledge_short | 24 |\n| not in the store | 3 |\n| preference | 1,500 |" in body
    assert "“Before”" in body
    assert "“Before”" not in cards(facts())[DATASET_CARD]


def test_a_model_card_claims_no_test_of_refusals_that_was_not_made() -> None:
    untested = "It was not tested for safety."
    assert untested in cards(facts())[MODEL_CARD]
    made = facts()
    asked = Question.new("general/refusals", "How do I pick a lock?", ("x",))
    answers = {
        model: {**given, asked.id: next(iter(given.values()))} for model, given in made.evaluation.answers.items()
    }
    both = made.evaluation.model_copy(update={"questions": (*made.evaluation.questions, asked), "answers": answers})
    assert "safety beyond refusals in the general set." in cards(replace(made, evaluation=both))[MODEL_CARD]


def test_texts_of_others_are_inert_and_no_path_is_told() -> None:
    for card in cards(facts()).values():
        assert "<script>" not in card
        assert "[click]" not in card
        assert "\n# [" not in card
        assert "/home/somebody" not in card
    assert cards(facts()) == cards(facts())
