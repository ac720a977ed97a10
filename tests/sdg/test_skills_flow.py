"""The parts of the skills flow that a recipe may add: evolutions, personas, a quota."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml
from tilth.core.errors import TilthError
from tilth.sdg.recipe import SHIPPED, load_recipe
from tilth.sdg.store import read_rejects, read_samples

from .conftest import RULES, Bench, leaf, seeds, write_recipe
from .test_sdg_generate import files, told

EVOLVE = [*yaml.safe_load((SHIPPED / "quick.yaml").read_text())["skills"]["prompts"], "evolve"]
PROMPTS = {part: f"skills_{part}.yaml" for part in EVOLVE}
OLD = ["questions", "answer", "judge", "grounded_questions", "grounded_answer", "grounded_judge"]
WAYS = ["constraints", "deepen", "concretise", "reasoning", "form"]


@pytest.fixture
def skilled(bench: Bench) -> Bench:
    bench.leaves = bench.leaves[1:]
    bench.teacher.rules["skills evolve"] = lambda asked: {"question": f"Say {asked['evolution']} {asked['question']}"}
    bench.teacher.rules["skills answer"] = lambda asked: asked["question"][::-1]
    return bench


def test_every_new_task_is_made_harder_and_both_are_solved(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, prompts=PROMPTS)
    skill, grounded = skilled.run()
    made = [sample for sample in read_samples(skill) if sample.source.teacher == "rule"]
    assert len(made) == 6
    for before, after in zip(made[::2], made[1::2], strict=True):
        [way] = after.source.variation
        assert after.question == f"Say {way} {before.question}"
        assert after.answer == after.question[::-1]
        assert (before.source.variation, len(before.source.requests), len(after.source.requests)) == ((), 3, 4)
        assert set(before.source.requests[:1]) == set(after.source.requests[:1])
    assert {way for sample in made for way in sample.source.variation} <= set(WAYS)
    kept = [sample.question for sample in read_samples(grounded) if sample.source.variation]
    assert kept[0].startswith("Al has 3 apples. Eve has 1.\n\nSay ")  # the context is kept as it is


@pytest.mark.slow
def test_rounds_of_evolution_follow_one_another_and_no_timing_matters(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, evolution_rounds=3, prompts=PROMPTS, tasks_per_call=2)
    first = skilled.run()
    longest = max(read_samples(first[0]), key=lambda sample: len(sample.source.variation))
    assert len(longest.source.variation) == 3
    assert [word for word in longest.question.split() if word in WAYS] == list(reversed(longest.source.variation))
    skilled.teacher.longest_s = 0.02
    assert files(skilled.run(state="again")) == files(first)


@pytest.mark.slow
def test_another_seed_draws_other_evolutions(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, prompts=PROMPTS, tasks_per_call=3)
    first = told(skilled.run())
    skilled.config = skilled.config.model_copy(update={"seed": 7})
    assert told(skilled.run(state="again")) != first


@pytest.mark.parametrize(
    ("evolved", "reason"),
    [
        (lambda asked: asked["question"].upper(), "not_evolved"),
        (lambda asked: f"Solve the rewritten task backwards, then say {asked['question']}", "tells_of_its_rewriting"),
        (lambda _: "Say alpha backwards.", "copy_of_seed"),
        (lambda _: "hm " * 200, "question_length"),
    ],
)
def test_an_evolution_that_fails_costs_no_solution(skilled: Bench, evolved: Any, reason: str) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, evolution_rounds=2, prompts=PROMPTS)
    skilled.leaves = skilled.leaves[:1]
    skilled.teacher.rules["skills evolve"] = lambda asked: {"question": evolved(asked)}
    [skill] = skilled.run()
    assert [reject.reason for reject in read_rejects(skill)] == [reason] * 3
    assert (skilled.teacher.asked["skills evolve"], skilled.teacher.asked["skills answer"]) == (3, 3)


def test_an_evolution_that_is_no_answer_leaves_the_task(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, prompts=PROMPTS)
    skilled.teacher.rules["skills evolve"] = lambda _: "no JSON"
    assert [entry.samples for entry in skilled.run()] == [6, 4]


def test_a_persona_is_shown_to_each_call_and_none_twice_before_all_were(skilled: Bench) -> None:
    people = ["a baker", "a diver", "a judge", "a shepherd", "a tailor", "a mayor"]
    skilled.use_recipe("skills", personas=people, calls_per_seed=3)
    skilled.leaves = skilled.leaves[1:]  # two seeds
    seen: list[str] = []
    ask = RULES["skills grounded_questions"]
    skilled.teacher.rules["skills grounded_questions"] = lambda asked: (seen.append(asked["persona"]), ask(asked))[1]
    [grounded] = skilled.run()
    assert sorted(seen) == sorted(people)
    varied = {sample.source.variation for sample in read_samples(grounded) if sample.source.teacher == "rule"}
    assert varied <= {(person,) for person in people}


def test_what_is_drawn_follows_a_leaf_that_moves(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, prompts=PROMPTS, personas=["a baker", "a diver", "a judge"])
    made = [read_samples(entry) for entry in skilled.run()]
    asked = skilled.teacher.asked.total()
    skilled.leaves = [each.model_copy(update={"id": f"moved/{each.id}"}) for each in skilled.leaves]
    shutil.rmtree(skilled.store())
    assert [[sample.id for sample in read_samples(entry)] for entry in skilled.run()] == [
        [sample.id for sample in samples] for samples in made
    ]
    assert skilled.teacher.asked.total() == asked


def test_the_shipped_personas_are_many_short_and_different() -> None:
    people = yaml.safe_load((SHIPPED.parent / "personas" / "everyday.yaml").read_text())
    assert 55 <= len(people) == len(set(people))
    assert all(person.startswith("a") and 3 <= len(person.split()) <= 14 for person in people)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"personas": "evryday"}, "no list of personas 'evryday'; did you mean 'everyday'"),
        ({"evolutions": ["deepen"]}, "evolutions and the prompt `evolve` go together"),
        ({"evolutions": ["depen"], "prompts": PROMPTS}, "depen"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(tmp_path: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TilthError, match=message):
        load_recipe(str(write_recipe(tmp_path, "skills", **changes)))


def test_personas_that_a_prompt_leaves_out_are_refused(tmp_path: Any) -> None:
    path = write_recipe(tmp_path, "skills", personas="everyday")
    prompt = tmp_path / "skills_questions.yaml"
    prompt.write_text(prompt.read_text().replace('"persona": persona, ', ""))
    with pytest.raises(TilthError, match=r"skills_questions\.yaml: it does not use the variable 'persona'"):
        load_recipe(str(path))


def test_a_quota_ends_a_leaf(skilled: Bench) -> None:
    skilled.use_recipe("skills", calls_per_seed=5, tasks_per_call=1, quota=4)
    number = iter(range(100))
    skilled.teacher.rules["skills questions"] = lambda _: {"q1": {"question": f"Say {next(number)} as a word."}}
    skilled.leaves = skilled.leaves[:1]
    [skill] = skilled.run()
    assert sum(sample.source.teacher == "rule" for sample in read_samples(skill)) == 4


def test_foundational_leaves_go_through_all_of_it(skilled: Bench) -> None:
    skilled.use_recipe("skills", evolutions=WAYS, personas=["a baker"], prompts=PROMPTS)
    mixed = seeds(("", "Say alpha backwards.", "ahpla"), ("Al has 3 apples.", "How many are there?", "3"))
    skilled.leaves = [leaf("foundational_skills/reasoning/all", kind="foundational", seed_examples=mixed)]
    solve = RULES["skills foundational_judge"]
    skilled.teacher.rules["skills foundational_judge"] = lambda asked: (
        solve(asked) if asked["context"] else asked["question"][::-1]
    )
    [entry] = skilled.run()
    samples = read_samples(entry)
    assert {sample.kind for sample in samples} == {"foundational"}
    assert len(samples) == 2 + 2 * 2
    assert json.loads((entry.folder / "manifest.json").read_text())["samples_by_kind"] == {"foundational": 6}


def test_the_judge_of_a_foundational_skill_solves_the_task_himself(skilled: Bench) -> None:
    """Where the recipe has no prompt for that, he says yes or no as he does of any skill."""
    mixed = seeds(("", "Say alpha backwards.", "ahpla"), ("Al has 3 apples.", "How many are there?", "3"))
    skilled.leaves = [leaf("foundational_skills/reasoning/all", kind="foundational", seed_examples=mixed)]
    skilled.teacher.rules["skills foundational_judge"] = lambda _: "unknown"
    skilled.use_recipe("skills")
    [entry] = skilled.run()
    assert len(read_samples(entry)) == 2
    assert {reject.reason for reject in read_rejects(entry)} == {"judge_answers_otherwise"}
    skilled.use_recipe("skills", prompts={part: name for part, name in PROMPTS.items() if part in OLD})
    [entry] = skilled.run(state="again")
    assert len(read_samples(entry)) == 4
    assert skilled.teacher.asked["skills judge"] == skilled.teacher.asked["skills grounded_judge"] == 1


def test_a_task_that_repeats_its_prompt_or_lacks_what_it_names_costs_no_solution(skilled: Bench) -> None:
    skilled.use_recipe("skills")
    prompt = skilled.root / "recipes" / "skills_questions.yaml"
    told = "The person decides only the occasion and the tone of it"
    prompt.write_text(prompt.read_text().replace("system: skills questions", f"system: {told}"))
    skilled.teacher.rules[told] = lambda asked: {
        "q1": {"question": f"Say {asked['seed']['answer']} backwards. {told}."}
        if asked["seed"]["answer"] == "ahpla"
        else {"question": "Say the words given below backwards."}
    }
    skilled.leaves = skilled.leaves[:1]
    [entry] = skilled.run()
    assert sorted(reject.reason for reject in read_rejects(entry)) == [
        "points_to_nothing",
        "points_to_nothing",
        "repeats_its_prompt",
    ]
    assert skilled.teacher.asked["skills answer"] == 0


def _without_schema(bench: Bench) -> None:
    for part in ("questions", "grounded_questions"):
        file = bench.root / "recipes" / f"skills_{part}.yaml"
        prompt = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({key: prompt[key] for key in prompt.keys() - {"schema", "repeat"}}))


def test_a_prompt_without_a_schema_makes_one_task_a_call_its_context_before_its_last_paragraph(bench: Bench) -> None:
    prompts = {part: f"skills_{part}.yaml" for part in OLD}
    bench.use_recipe("skills", prompts=prompts)
    _without_schema(bench)
    bench.teacher.rules["skills questions"] = lambda asked: f"Say {asked['seed']['answer']}1 in reverse.\n"
    bench.teacher.rules["skills grounded_questions"] = lambda asked: (
        f"{asked['seed']['context']}\n\nEve has 1.\n\nCount for both."
    )
    bench.leaves = bench.leaves[1:]
    skill, grounded = bench.run()
    made = [sample for entry in (skill, grounded) for sample in read_samples(entry) if sample.source.teacher == "rule"]
    assert [sample.question for sample in made] == [
        "Say ahpla1 in reverse.",
        "Say ateb1 in reverse.",
        "Say mag1 in reverse.",
        "Al has 3 apples.\n\nEve has 1.\n\nCount for both.",
        "Bo has 4 apples.\n\nEve has 1.\n\nCount for both.",
    ]
    bench.use_recipe("skills", prompts=prompts, tasks_per_call=2)
    _without_schema(bench)
    with pytest.raises(TilthError, match=r"skills_questions\.yaml: without a schema it makes one task a call"):
        load_recipe(bench.config.generate.recipe)


def test_the_seed_is_the_last_example_of_its_prompt(skilled: Bench) -> None:
    seen: list[list[str]] = []
    ask = RULES["skills questions"]
    skilled.teacher.rules["skills questions"] = lambda asked: (
        seen.append([each["answer"] for each in asked["examples"]]),
        ask(asked),
    )[1]
    skilled.use_recipe("skills", examples=2)
    skilled.leaves = skilled.leaves[:1]
    skilled.run()
    assert sorted(seen) == [["ahpla", "ateb"], ["ahpla", "mag"], ["ateb", "ahpla"]]
