"""Pairs from whole runs: who answers, what is graded, what is kept of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ConfigError, TilthError
from tilth.core.records import Question
from tilth.llm.local_gateway import LocalGateway, LocalModel
from tilth.sdg.others import Students
from tilth.sdg.recipe import load_recipe
from tilth.sdg.store import PREFERENCES, read_manifest, read_preferences, read_rejects, read_samples

from .conftest import KNOWLEDGE_ID, SKILL_ID, Bench, write_recipe
from .test_sdg_generate import GOLDEN, files, told

SETTINGS: dict[str, Any] = {
    "mode": "candidates",
    "kinds": ["knowledge_long", "skill"],
    "questions": 2,
    "candidates": 3,
    "votes": 1,
    "margin": 2,
}
NAMES = ["answer", "grade"]


def use(bench: Bench, *more: str, **changes: Any) -> None:
    """The settings above with these changes; `more`: prompts beside those that all modes need."""
    prompts = {part: f"preferences_{part}.yaml" for part in [*NAMES, *more]}
    bench.use_recipe("preferences", **{**SETTINGS, "prompts": prompts, **changes})


@pytest.fixture
def paired(bench: Bench) -> Bench:
    """The teacher's answers differ by their number only; the grader likes the first best, the sample's own less."""
    bench.leaves = bench.leaves[:2]
    numbers: dict[str, int] = {}

    def answer(asked: dict[str, Any]) -> str:
        number = numbers[asked["question"]] = numbers.get(asked["question"], 0) + 1
        return f"{asked['question']} {number}"

    bench.teacher.rules["preferences answer"] = answer
    bench.teacher.rules["preferences grade"] = lambda asked: {"grade": grade(asked["answer"])}
    return bench


def grade(answer: str) -> int:
    """By the number at an answer's end; without one it is the sample's own."""
    number = answer.rsplit(maxsplit=1)[-1]
    return 11 - 3 * int(number) if number.isdigit() and int(number) < 4 else OWN


OWN = 7


def students(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], str]) -> Students:
    """A student that answers by a rule, in place of a model; everything around it is real."""
    monkeypatch.setattr(LocalGateway, "_generate", lambda _, turns, *__: answer(turns[-1].content))
    return Students(
        base=lambda: LocalModel("base@1", Path), current=lambda: LocalModel("release-2@7", Path, "You are it.")
    )


@pytest.mark.slow
def test_one_model_several_times_and_a_grader(paired: Bench) -> None:
    use(paired)
    knowledge, skill = paired.run()
    pair, other = read_preferences(knowledge)
    assert pair.prompt[0].content == "Who runs Orla Mill? At length."
    assert (pair.score_chosen, pair.score_rejected) == (8, 2)
    assert pair.chosen[0].content == "Who runs Orla Mill? At length. 1"
    assert [candidate.side for candidate in pair.candidates] == ["reference", "", "", ""]
    assert sorted(candidate.score for candidate in pair.candidates) == [2, 5, OWN, 8]
    assert {candidate.model for candidate in pair.candidates} == {"rule"}
    own, *others = pair.candidates
    assert [len(own.requests), *(len(each.requests) for each in others)] == [1, 2, 2, 2]  # answer and grade
    assert len(pair.source.requests) == 7
    assert (pair.source.leaf, pair.source.teacher, pair.source.fact) == (
        KNOWLEDGE_ID,
        "rule",
        "The miller is Bram Osk.",
    )
    assert other.prompt[0].content == "Orla Mill was built in what? At length."
    assert len(read_preferences(skill)) == 2
    assert told([knowledge, skill]) == "".join(GOLDEN.splitlines(keepends=True)[:23])  # the samples are as without


def test_what_a_pair_shows_and_what_the_grader_sees(paired: Bench) -> None:
    use(paired, kinds=["knowledge_short", "skill"])
    seen: dict[str, list[dict[str, Any]]] = {"answer": [], "grade": []}
    for step, calls in seen.items():
        rule = paired.teacher.rules[f"preferences {step}"]
        paired.teacher.rules[f"preferences {step}"] = lambda asked, rule=rule, calls=calls: (
            calls.append(asked),
            rule(asked),
        )[1]
    paired.run()
    by_question = {asked["question"]: asked for asked in seen["grade"]}
    rye = by_question["Which grain does Orla Mill grind?"]
    assert (rye["chunk"], rye["reference"], rye["task"]) == ("Orla Mill grinds rye.", "rye", "")
    skill = next(asked for asked in seen["grade"] if asked["task"])
    assert (skill["task"], skill["chunk"], skill["title"]) == ("Do it.", "", "")
    assert not any("reference" in asked for asked in seen["answer"])


def test_the_student_without_the_passage_is_rejected(paired: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    use(paired, "weak", mode="strong_weak", candidates=1, kinds=["knowledge_short"], questions=1)
    asked: list[str] = []
    given = students(monkeypatch, lambda prompt: (asked.append(prompt), "Something made up 3")[1])
    knowledge, skill = paired.run(students=given)
    [pair] = read_preferences(knowledge)
    assert pair.rejected[0].content == "Something made up 3"
    assert [(each.model, each.side, each.score) for each in pair.candidates] == [
        ("seed", "reference", OWN),
        ("rule", "strong", 8),
        ("release-2@7", "weak", 2),
    ]
    assert [json.loads(prompt) for prompt in asked] == [{"question": "Which grain does Orla Mill grind?"}]
    assert read_preferences(skill) == []
    before = paired.teacher.asked.total()
    assert files(paired.run(state="state", students=given)) == files([knowledge, skill])
    assert (paired.teacher.asked.total(), len(asked)) == (before, 1)


def test_two_endpoints(paired: Bench) -> None:
    use(
        paired,
        mode="endpoints",
        models=[{"model": name, "base_url": paired.teacher.url} for name in ("one", "two")],
        candidates=1,
        kinds=["skill"],
    )
    _, skill = paired.run()
    models = [[each.model for each in pair.candidates] for pair in read_preferences(skill)]
    assert models == [["seed", "one", "two"], ["rule", "one", "two"]]
    scores = [(pair.score_chosen, pair.score_rejected) for pair in read_preferences(skill)]
    assert scores == [(OWN, 5), (8, 5)]  # what a person wrote is chosen, though the grader likes it less


def test_a_tie_is_refused_with_all_its_candidates(paired: Bench) -> None:
    use(paired, kinds=["skill"])
    paired.teacher.rules["preferences grade"] = lambda _: {"grade": 7}
    _, skill = paired.run()
    refused = [reject for reject in read_rejects(skill) if reject.step == "preferences"]
    assert [(reject.reason, reject.score, reject.sample.kind) for reject in refused] == [
        ("tie", "7 against 7", "preference")
    ] * 2
    assert all(len(reject.candidates) == 4 for reject in refused)
    assert (read_preferences(skill), read_manifest(skill.folder).preferences) == ([], None)


def test_equal_answers_are_one_candidate_and_one_makes_no_pair(paired: Bench) -> None:
    use(paired, kinds=["skill"])
    paired.teacher.rules["preferences answer"] = lambda _: "always this 1"
    _, skill = paired.run()
    refused = [reject for reject in read_rejects(skill) if reject.step == "preferences"]
    assert [(reject.reason, reject.score) for reject in refused] == [("tie", "7 against 8"), ("tie", "8 against 8")]
    assert paired.teacher.asked["preferences grade"] == 4


def test_a_failed_candidate_harms_no_other(paired: Bench) -> None:
    use(paired, kinds=["skill"], questions=1)
    rule = paired.teacher.rules["preferences grade"]
    paired.teacher.rules["preferences grade"] = lambda asked: 400 if asked["answer"].endswith("2") else rule(asked)
    _, skill = paired.run()
    [pair] = read_preferences(skill)
    assert [each.score for each in sorted(pair.candidates, key=lambda each: -each.score)] == [8, OWN, 2]
    assert [failure.step for failure in read_manifest(skill.folder).failures] == ["preferences_grade"]


def test_votes_are_asked_apart_and_their_mean_counts(paired: Bench) -> None:
    use(paired, kinds=["skill"], questions=1, votes=3)
    grades = iter([9, 8, 8, 4, 4, 5, 1, 1, 1, 7, 7, 7] * 4)
    paired.teacher.rules["preferences grade"] = lambda _: {"grade": next(grades)}
    paired.config = paired.config.model_copy(
        update={"teacher": ModelServer(model="rule", base_url=(paired.teacher.url,), concurrency=1)}
    )
    _, skill = paired.run()
    assert paired.teacher.asked["preferences grade"] == 12
    [pair] = read_preferences(skill)
    assert sum(each.score for each in pair.candidates) == pytest.approx(62 / 3, abs=0.02)
    assert [len(each.requests) for each in pair.candidates] == [3, 4, 4, 4]
    prompts = load_recipe(paired.config.generate.recipe)["skills"].prompts
    assert prompts["preferences_grade"].file.temperature > 0  # at 0 all votes would be one


def test_an_answer_that_holds_a_held_out_question_makes_no_pair(paired: Bench) -> None:
    use(paired, kinds=["skill"], questions=1)
    held_out = Question.new(SKILL_ID, "Say alpha backwards and then omega. 3", ("?",))
    paired.leaves = [paired.leaves[1].model_copy(update={"questions": (held_out,), "fingerprint": "0" * 16})]
    answer = paired.teacher.rules["preferences answer"]
    paired.teacher.rules["preferences answer"] = lambda asked: answer(asked).replace(
        "backwards.", "backwards and then omega."
    )
    [skill] = paired.run()
    assert {reject.reason for reject in read_rejects(skill) if reject.step == "preferences"} == {"held_out_copy"}
    assert read_preferences(skill) == []


def test_the_length_bias_is_in_the_manifest(paired: Bench) -> None:
    use(paired, kinds=["skill"])
    answer = paired.teacher.rules["preferences answer"]

    def longer_is_worse(asked: dict[str, Any]) -> str:
        text = answer(asked)
        return "well " * int(text.split()[-1]) + text

    paired.teacher.rules["preferences answer"] = longer_is_worse
    _, skill = paired.run()
    bias = read_manifest(skill.folder).preferences
    assert bias
    assert (bias.pairs, bias.chosen_longer, bias.correlation) == (
        2,
        0.0,
        -0.647,
    )  # the sample's own answers are short, and graded 7


@pytest.mark.slow
def test_timing_changes_no_byte_and_the_file_is_checked(paired: Bench) -> None:
    use(paired)
    paired.teacher.rules["preferences answer"] = lambda asked: f"{asked['question']} 1"
    first = paired.run()
    paired.teacher.longest_s = 0.02
    again = paired.run(state="again")
    assert [(a.folder / PREFERENCES).read_bytes() for a in first] == [
        (b.folder / PREFERENCES).read_bytes() for b in again
    ]
    (first[0].folder / PREFERENCES).write_text("{}\n")
    with pytest.raises(TilthError, match="not the file that was written"):
        read_preferences(first[0])


def test_without_a_student_a_recipe_that_asks_one_is_refused(paired: Bench) -> None:
    use(paired, "weak", mode="strong_weak")
    with pytest.raises(ConfigError, match="asks the student, and there is none here"):
        paired.run()
    assert paired.teacher.asked.total() == 0


def test_samples_of_pairs_are_no_training_samples(paired: Bench) -> None:
    use(paired)
    assert {sample.kind for entry in paired.run() for sample in read_samples(entry)} == {
        "knowledge_short",
        "knowledge_long",
        "skill",
    }


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ((), {"mode": "strong_weak"}, "needs the prompt `weak`"),
        (("weak",), {}, "needs the prompt `weak`, and no other has it"),
        ((), {"mode": "endpoints"}, "needs two `models`"),
        ((), {"mode": "endpoints", "models": [{"model": "one"}, {"model": "one"}]}, "both `models` have one name"),
        ((), {"candidates": 1}, "at least 2 candidates"),
        ((), {"kinds": ["test"]}, "no pair can be made of samples of kind test"),
        ((), {"margin": 0}, "margin"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(
    tmp_path: Path, more: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    prompts = {part: f"preferences_{part}.yaml" for part in [*NAMES, *more]}
    path = write_recipe(tmp_path, "preferences", **{**SETTINGS, "prompts": prompts, **changes})
    with pytest.raises(TilthError, match=message):
        load_recipe(str(path))


def test_where_endpoints_are_does_not_count_in_the_fingerprint(tmp_path: Path) -> None:
    def written(name: str, **server: Any) -> str:
        models = [{"model": "one", "base_url": "http://127.0.0.1:1/v1", **server}, {"model": "two"}]
        prompts = {part: f"preferences_{part}.yaml" for part in NAMES}
        changes = {**SETTINGS, "prompts": prompts, "mode": "endpoints", "models": models}
        return load_recipe(str(write_recipe(tmp_path / name, "preferences", **changes)))["skills"].fingerprint

    assert written("a") == written("b", base_url="http://127.0.0.1:2/v1", concurrency=99)
    assert written("a") != written("c", model="three")
