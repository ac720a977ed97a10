"""Held-out questions from whole runs: how they are checked, what they keep out of the samples, how they are stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tilth.core.choices import with_options
from tilth.core.errors import TilthError
from tilth.llm.local_gateway import LocalGateway, LocalModel
from tilth.sdg.flows.tests import Guesses
from tilth.sdg.others import Students
from tilth.sdg.recipe import load_recipe
from tilth.sdg.store import TESTS, read_manifest, read_rejects, read_samples, read_tests

from .conftest import KNOWLEDGE_ID, Bench, items, write_recipe
from .test_sdg_generate import GOLDEN, told

SETTINGS: dict[str, Any] = {
    "chunks": 9,
    "short_per_chunk": 1,
    "choice_per_chunk": 0,
    "question_words": [3, 40],
    "answer_words": [1, 6],
    "grounded_share": 0.5,
    "near_duplicate": 0.8,
}
NAMES = ["short", "choice", "judge", "choice_judge"]
WOODS = ["oak", "elm", "pine"]


def use(bench: Bench, *more: str, **changes: Any) -> None:
    """The settings above with these changes; `more`: prompts beside those that all recipes need."""
    prompts = {part: f"tests_{part}.yaml" for part in [*NAMES, *more]}
    bench.use_recipe("tests", **{**SETTINGS, "prompts": prompts, **changes})


def short(asked: dict[str, Any]) -> dict[str, Any]:
    """An examiner's question about the first fact of a chunk that he knows."""
    known = {
        "1702": ("What year saw the beginning of Orla Mill?", "1702"),
        "rye": ("What do farmers bring to Orla Mill?", "rye"),
        "miller": ("Whom do you meet at the door of Orla Mill?", "Bram Osk"),
    }
    question, answer = next(pair for word, pair in known.items() if word in asked["chunk"])
    return items(*[{"question": question, "answer": answer}] * asked["number"])


def choice(asked: dict[str, Any]) -> dict[str, Any]:
    question = "From which tree comes the wheel at Orla Mill?"
    return items(*[{"question": question, "answer": "larch", "distractors": WOODS}] * asked["number"])


def judge(asked: dict[str, Any]) -> str:
    return next((word for word in ("1702", "rye", "Bram Osk") if word in asked["chunk"]), "unknown")


def options_of(asked: dict[str, Any]) -> dict[str, str]:
    """Letter -> option, as a model reads them."""
    return dict(re.findall(r"^([A-D])\) (.+)$", asked["question"], re.MULTILINE))


def choose(asked: dict[str, Any]) -> str:
    return next((letter for letter, option in options_of(asked).items() if option in asked["chunk"]), "unknown")


@pytest.fixture
def examined(bench: Bench) -> Bench:
    bench.leaves = bench.leaves[:1]
    bench.teacher.rules |= {
        "tests short": short,
        "tests choice": choice,
        "tests judge": judge,
        "tests choice_judge": choose,
    }
    return bench


def students(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Students:
    """A base that answers by a rule, in place of a model; everything around it is real."""
    monkeypatch.setattr(LocalGateway, "_generate", lambda _, turns, *__: answer(json.loads(turns[-1].content)))
    model = LocalModel("base@1", Path)
    return Students(base=lambda: model, current=lambda: model)


def test_questions_of_chunks_are_kept_beside_the_samples(examined: Bench) -> None:
    use(examined)
    [entry] = examined.run()
    tests = read_tests(entry)
    assert [(test.question, test.answers, test.options) for test in tests] == [
        ("What year saw the beginning of Orla Mill?", ("1702",), ()),
        ("What do farmers bring to Orla Mill?", ("rye",), ()),
        ("Whom do you meet at the door of Orla Mill?", ("Bram Osk",), ()),
    ]
    source = tests[0].source
    assert source
    assert (tests[0].leaf, source.leaf, source.heading, source.teacher) == (
        KNOWLEDGE_ID,
        KNOWLEDGE_ID,
        "Orla Mill",
        "rule",
    )
    assert (source.grades, len(source.requests)) == ({"judge": "1702"}, 2)
    assert (read_manifest(entry.folder).tests, read_manifest(entry.folder).guesses) == ({"short_answer": 3}, {})
    assert told([entry]) == "".join(GOLDEN.splitlines(keepends=True)[:14])  # the samples are as without


def test_no_sample_repeats_a_test(examined: Bench) -> None:
    """The tests are made first, so a sample that is one of them is refused before it is judged or reworded."""
    use(examined)
    copied = "Orla Mill was built in what?"
    examined.teacher.rules["tests short"] = lambda asked: (
        items({"question": copied, "answer": "1702"}) if "1702" in asked["chunk"] else short(asked)
    )
    [entry] = examined.run()
    assert copied in [test.question for test in read_tests(entry)]
    assert not [sample for sample in read_samples(entry) if copied in sample.question]
    leaked = [reject for reject in read_rejects(entry) if reject.reason == "held_out_copy"]
    assert [reject.sample.question for reject in leaked] == [copied]
    assert copied not in " ".join(reject.sample.question for reject in read_rejects(entry) if reject.step == "judge")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Which grain does Orla Mill grind?", "larch", "copy_of_seed"),
        ("Which grains did the Orla Mill grind?", "larch", "copy_of_seed"),
        ("Orla Mill: in what year did they put it up?", "1702", "held_out_copy"),  # a person's held-out question
        ("Nothing more about Orla Mill.", "rye", "not_a_question"),
        ("What does Orla Mill grind, rye?", "rye", "answer_in_question"),
        ("In which year did Orla Mill burn?", "1899", "number_not_in_source"),
        ("Who owns Orla Mill today?", "a count from abroad", "not_grounded"),
        ("Who is named in the text about Orla Mill?", "Bram Osk", "points_to_text"),
    ],
)
@pytest.mark.slow
def test_what_makes_no_test(examined: Bench, question: str, answer: str, reason: str) -> None:
    use(examined, chunks=1)
    seen: list[str] = []
    examined.teacher.rules["tests judge"] = lambda asked: (seen.append(asked["question"]), "unknown")[1]
    examined.teacher.rules["tests short"] = lambda _: items({"question": question, "answer": answer})
    [entry] = examined.run()
    rejects = [reject for reject in read_rejects(entry) if reject.sample.kind == "test"]
    assert [reject.reason for reject in rejects] == [reason]
    assert seen == []  # no judge is asked a held-out question, or paid for a bad one


def test_a_question_that_the_passage_does_not_answer_is_dropped(examined: Bench) -> None:
    use(examined)
    examined.teacher.rules["tests judge"] = lambda asked: "oats" if "rye" in asked["chunk"] else judge(asked)
    [entry] = examined.run()
    assert [test.answers[0] for test in read_tests(entry)] == ["1702", "Bram Osk"]
    [dropped] = [reject for reject in read_rejects(entry) if reject.sample.kind == "test"]
    assert (dropped.step, dropped.reason, dropped.score) == ("judge", "judge_answers_otherwise", "oats")


def test_questions_that_ask_nearly_the_same_are_asked_once(examined: Bench) -> None:
    use(examined)
    examined.teacher.rules["tests short"] = lambda _: items(
        {"question": "From which tree comes the wheel at Orla Mill?", "answer": "larch"}
    )
    examined.teacher.rules["tests judge"] = lambda _: "larch"
    [entry] = examined.run()
    assert len(read_tests(entry)) == 1
    rejects = [reject for reject in read_rejects(entry) if reject.sample.kind == "test"]
    assert {(reject.step, reject.reason) for reject in rejects} <= {
        ("duplicates", "near_duplicate"),
        ("filters", "not_grounded"),
    }
    assert len(rejects) == 2


@pytest.mark.slow
def test_options_stand_in_an_order_that_the_seed_draws(examined: Bench) -> None:
    use(examined, short_per_chunk=0, choice_per_chunk=1)
    [entry] = examined.run()
    [test] = read_tests(entry)
    assert sorted(test.options) == sorted([*WOODS, "larch"])
    assert [option for option in test.options if option != "larch"] == WOODS
    assert test.answers == ("larch",)
    assert test.asked == with_options(test.question, test.options)
    places: set[int] = set()
    for seed in range(4):
        examined.config = examined.config.model_copy(update={"seed": seed})
        [again] = read_tests(examined.run(state=f"seed{seed}")[0])
        places.add(again.options.index("larch"))
    assert len(places) > 1


@pytest.mark.parametrize(
    ("distractors", "reason"),
    [
        (["oak", "Oak.", "pine"], "options_alike"),
        (["oak", "larch wood", "pine"], "distractor_is_right"),
        (["oak", "in 1702", "pine"], "options_of_two_kinds"),
    ],
)
@pytest.mark.slow
def test_distractors_are_wrong_different_and_of_one_kind(examined: Bench, distractors: list[str], reason: str) -> None:
    use(examined, short_per_chunk=0, choice_per_chunk=1)
    rule = {"question": "From which tree comes the wheel at Orla Mill?", "answer": "larch", "distractors": distractors}
    examined.teacher.rules["tests choice"] = lambda _: items(rule)
    [entry] = examined.run()
    assert read_tests(entry) == []
    assert reason in {reject.reason for reject in read_rejects(entry) if reject.sample.kind == "test"}


def test_what_the_base_knows_measures_nothing(examined: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    use(examined, "base")
    given = students(monkeypatch, lambda asked: "It is rye." if "farmers" in asked["question"] else "no idea")
    [entry] = examined.run(students=given)
    assert [test.answers[0] for test in read_tests(entry)] == ["1702", "Bram Osk"]
    [dropped] = [reject for reject in read_rejects(entry) if reject.step == "base"]
    assert (dropped.reason, dropped.score, dropped.sample.answer) == ("base_knows", "1/1", "rye")
    source = read_tests(entry)[0].source
    assert source
    assert (source.grades, len(source.requests)) == ({"judge": "1702", "base": "0/1"}, 3)
    assert read_manifest(entry.folder).guesses == {"short_answer": Guesses(asked=3, right=1, chance=0.0)}


@pytest.mark.parametrize(
    ("says", "right", "kept"),
    [
        (lambda _: "A", 1, True),  # the same letter always: it is right once in four
        (lambda _: "dunno", 0, True),
        (lambda asked: next(letter for letter, option in options_of(asked).items() if option == "larch"), 4, False),
        (lambda _: "larch", 4, False),
        (lambda asked: "larch" if options_of(asked)["D"] != "larch" else "oak", 3, False),
        (lambda asked: "larch" if options_of(asked)["A"] == "larch" else "B", 2, True),
    ],
)
@pytest.mark.slow
def test_a_base_that_guesses_by_chance_knows_nothing(
    examined: Bench, monkeypatch: pytest.MonkeyPatch, says: Any, right: int, kept: bool
) -> None:
    use(examined, "base", short_per_chunk=0, choice_per_chunk=1)
    [entry] = examined.run(students=students(monkeypatch, says))
    assert len(read_tests(entry)) == kept
    [counted] = read_manifest(entry.folder).guesses.values()
    assert (counted.right, counted.chance) == (right * counted.asked // 4, 0.25)


def test_skills_have_no_tests_and_few_chunks_are_from_all_over(bench: Bench) -> None:
    bench.teacher.rules |= {"tests short": short, "tests judge": judge}
    use(bench, chunks=2)
    knowledge, skill, _ = bench.run()
    assert [(skill.folder / TESTS).exists(), (knowledge.folder / TESTS).exists()] == [False, True]
    assert read_tests(skill) == []
    headings = [test.source.heading for test in read_tests(knowledge) if test.source]
    assert headings == ["Orla Mill", "Orla Mill > Work"]


def test_timing_changes_no_byte_and_a_moved_leaf_takes_its_tests_along(examined: Bench) -> None:
    use(examined, choice_per_chunk=1)
    [first] = examined.run()
    examined.teacher.longest_s = 0.02
    [again] = examined.run(state="again")
    assert (first.folder / TESTS).read_bytes() == (again.folder / TESTS).read_bytes()
    moved = examined.leaves[0].model_copy(update={"id": "knowledge/elsewhere/orla_mill"})
    (examined.root / "taxonomy" / KNOWLEDGE_ID).parent.parent.joinpath("elsewhere").mkdir()
    (examined.root / "taxonomy" / KNOWLEDGE_ID).rename(examined.root / "taxonomy" / moved.id)
    examined.leaves = [moved]
    [entry] = examined.run()
    assert entry.reused
    assert {test.leaf for test in read_tests(entry)} == {moved.id}


def test_a_wrong_prompt_is_told_in_one_line(tmp_path: Path) -> None:
    prompts = {part: f"tests_{part}.yaml" for part in NAMES}
    path = write_recipe(tmp_path, "tests", **{**SETTINGS, "prompts": prompts})
    prompt = tmp_path / "tests_choice.yaml"
    prompt.write_text(prompt.read_text().replace("maxItems: 3", "maxItems: 4"))
    with pytest.raises(TilthError, match=r"tests_choice\.yaml: the schema does not require 'distractors' as"):
        load_recipe(str(path))
