from __future__ import annotations

from typing import Any

import pytest
from tilth.core.errors import ConfigError
from tilth.llm.prompts import Prompt, PromptFile
from tilth.sdg.judges import ANSWERS, SHIPPED, VOTE_TEMPERATURE, Judge, Pair, for_votes, judgement, method, stands_in
from tilth.sdg.prompts import load_prompt

TEXT = """The tower is built of green slate, cut on the island itself, and it is **37 metres** tall. Its light is amber,
so that sailors cannot mistake it; see [the chart](maps/hesk.md). The first keeper stayed for twenty-six years."""
ANSWERING, VERDICT, QUOTING, RUBRIC = (
    Judge(load_prompt(name)) for name in ("knowledge_judge", "skill_judge", "quoting_judge", "skill_rubric")
)


def pair(answer: str, question: str = "What is it?") -> Pair:
    return Pair(question, answer, TEXT, "the tower")


def test_how_a_judge_is_asked_follows_from_its_prompt() -> None:
    for names in SHIPPED.values():
        for by, name in names.items():
            prompt = load_prompt(name)
            assert method(prompt) == by
            assert set(ANSWERS[by].split()) <= set(prompt.file.answer.get("required", ()))


@pytest.mark.parametrize(
    ("judge", "said", "answer", "reason"),
    [
        (ANSWERING, "Green slate.", "green slate", ""),
        (ANSWERING, "unknown", "green slate", "judge_answers_otherwise"),
        (VERDICT, {"verdict": "yes"}, "x", ""),
        (VERDICT, {"verdict": "no"}, "x", "judged_no"),
        (QUOTING, {"quote": "built of green slate", "verdict": "yes"}, "green slate", ""),
        (QUOTING, {"quote": "built of green slate", "verdict": "no"}, "green slate", "judged_no"),
        (QUOTING, {"quote": "", "verdict": "yes"}, "green slate", "quote_not_in_text"),
        (QUOTING, {"quote": "built of grey slate", "verdict": "yes"}, "slate", "quote_not_in_text"),
        (QUOTING, {"quote": "The tower is built of green slate", "verdict": "yes"}, "amber", "quote_without_answer"),
        (QUOTING, {"quote": "it is 37 metres tall", "verdict": "yes"}, "38 metres", "quote_without_answer"),
        (QUOTING, {"quote": "it is 37 metres tall", "verdict": "yes"}, "thirty-seven metres", ""),
        (RUBRIC, {"fault": "none", "score": 5}, "x", ""),
        (RUBRIC, {"fault": "a blemish", "score": 4}, "x", ""),
        (RUBRIC, {"fault": "too long", "score": 3}, "x", "low_score"),
    ],
)
def test_what_a_judge_says_keeps_or_drops(judge: Judge, said: Any, answer: str, reason: str) -> None:
    found = judgement(judge, [said], pair(answer))
    assert found.reason == reason
    assert set(found.grades) == {"judge"}
    assert (found.score is not None) is (judge is RUBRIC)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("C. hammer\nThe odd one out is the hammer, for the others are fruits of plants.", ""),
        ("D. plum", "judge_answers_otherwise"),
    ],
)
def test_of_a_solver_only_the_result_counts(said: str, reason: str) -> None:
    solved = Pair("Which is the odd one out?", "C. hammer. The others are fruits.")
    assert judgement(ANSWERING, [said], solved).reason == reason


def test_of_a_task_the_order_may_be_the_result() -> None:
    solved = Pair("Put them in order.", "A meaningful order: ploughing, sowing, growing, harvest.")
    assert judgement(ANSWERING, ["ploughing sowing growing harvest"], solved).reason == ""
    assert judgement(ANSWERING, ["harvest, growing, sowing, ploughing"], solved).reason == "judge_answers_otherwise"
    told = Pair("What is done?", "Ploughing, sowing, growing, harvest.", TEXT)
    assert judgement(ANSWERING, ["harvest, growing, sowing, ploughing"], told).reason == ""


def test_a_grade_tells_what_the_judge_said() -> None:
    assert judgement(RUBRIC, [{"fault": "too  long", "score": 3}], pair("x")).grades["judge"] == "3: too long"
    quote = {"quote": "built of green\nslate", "verdict": "yes"}
    assert judgement(QUOTING, [quote], pair("slate")).grades["judge"] == "yes: built of green slate"


@pytest.mark.parametrize(
    ("said", "kept", "votes"),
    [("yyy", True, "3 of 3"), ("yny", True, "2 of 3"), ("nny", False, "1 of 3"), ("yn", False, "1 of 2")],
)
def test_more_than_half_of_the_votes_keep(said: str, kept: bool, votes: str) -> None:
    judge = Judge(VERDICT.prompt, votes=len(said))
    found = judgement(judge, [{"verdict": "yes" if vote == "y" else "no"} for vote in said], pair("x"))
    assert (found.reason == "") is kept
    assert found.grades == {"judge": "yes" if kept else "no", "votes": votes}


@pytest.mark.parametrize(("scores", "middle"), [((5, 1, 4), 4), ((3, 3, 5), 3), ((5, 5, 1), 5)])
def test_the_middle_score_decides(scores: tuple[int, ...], middle: int) -> None:
    found = judgement(Judge(RUBRIC.prompt, votes=3), [{"fault": "", "score": score} for score in scores], pair("x"))
    assert found.score == middle
    assert (found.reason == "") is (middle >= 4)
    assert judgement(Judge(RUBRIC.prompt, lowest_score=3), [{"fault": "", "score": 3}], pair("x")).reason == ""


def test_votes_differ_only_where_the_prompt_is_warm() -> None:
    cold, warm = VERDICT.prompt, Prompt("w", PromptFile(system="", user="u", max_tokens=1, temperature=0.3))
    assert for_votes(cold, 1) is cold
    assert for_votes(cold, 3).file.temperature == VOTE_TEMPERATURE
    assert for_votes(cold, 3).fingerprint != cold.fingerprint
    assert for_votes(warm, 3) is warm


@pytest.mark.parametrize(
    ("quote", "there"),
    [
        ("the tower is built of Green Slate", True),
        ("it is 37 metres tall.", True),
        ("so that sailors cannot mistake it; see the chart", True),
        ("The first keeper stayed for 26 years", True),
        ("The tower is built of green slate ... it is 37 metres tall", True),
        ("The tower is built of green slate […] Its light is amber", True),
        ("six years", False),
        ("The tower is 37 metres tall", False),
        ("light", True),
        ("ligh", False),
        ("...", False),
        ("", False),
    ],
)
def test_a_quote_stands_in_the_text_or_not(quote: str, there: bool) -> None:
    assert stands_in(quote, TEXT) is there


WITH_EXAMPLES = [name for names in SHIPPED.values() for name in names.values() if load_prompt(name).file.examples]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_judge_are_judged_as_they_say(name: str) -> None:
    prompt = load_prompt(name)
    kept: list[bool] = []
    for example in prompt.file.examples:
        given = example.given
        shown = Pair(given["question"], given["answer"], given.get("chunk", ""), given.get("title", ""))
        found = judgement(Judge(prompt), [example.reply], shown)
        kept.append(not found.reason)
        if method(prompt) == "quoting":
            assert kept[-1] is (example.reply["verdict"] == "yes")
            assert not example.reply["quote"] or stands_in(example.reply["quote"], given["chunk"])
        else:
            assert (example.reply["fault"] == "none") is (example.reply["score"] == 5)
    assert True in kept
    assert False in kept


def test_a_rubric_shows_every_score() -> None:
    for name in ("skill_rubric", "grounded_rubric"):
        assert {example.reply["score"] for example in load_prompt(name).file.examples} == {1, 2, 3, 4, 5}


def test_quoting_and_rubrics_have_examples() -> None:
    assert set(WITH_EXAMPLES) == {"quoting_judge", "skill_rubric", "grounded_rubric"}


def test_examples_stand_before_the_question_and_must_fit_the_schema() -> None:
    shown = {"given": {"x": "1"}, "reply": {"verdict": "yes"}}
    schema = {"type": "object", "properties": {"verdict": {"enum": ["yes", "no"]}}, "required": ["verdict"]}
    content = {"system": "S", "user": "is {{ x }}", "schema": schema, "examples": [shown], "max_tokens": 9}
    messages = Prompt("mine", PromptFile.model_validate(content)).messages(x="2")
    assert [(message.role, message.content) for message in messages] == [
        ("system", "S"),
        ("user", "is 1"),
        ("assistant", '{"verdict": "yes"}'),
        ("user", "is 2"),
    ]
    for example in ({**shown, "reply": {"verdict": "maybe"}}, {**shown, "reply": "yes"}, {**shown, "given": {}}):
        with pytest.raises(ConfigError, match="mine: "):
            Prompt("mine", PromptFile.model_validate({**content, "examples": [example]}))
