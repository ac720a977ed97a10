import json
from typing import Any

import pytest
from tilth.core.config import Prices
from tilth.llm.budget import Budget, BudgetSpent
from tilth.llm.completion import Completion, read_completion


def body(usage: Any = None, content: Any = "Rain.") -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage})


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2}, (7, 2)),
        ({"prompt_tokens": 7, "completion_tokens": None}, (7, 0)),
        ({"prompt_tokens": 2**64 - 1, "completion_tokens": -1}, (0, 0)),
        ({"prompt_tokens": "many", "completion_tokens": 2.0}, (0, 2)),
        ([], (0, 0)),
        (None, (0, 0)),
    ],
)
def test_an_answer_is_read_whatever_is_said_of_its_tokens(usage: Any, counts: tuple[int, int]) -> None:
    found = read_completion(body(usage))
    assert (found.text, found.prompt_tokens, found.completion_tokens) == ("Rain.", *counts)


def test_an_answer_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "Ra"}, {"type": "image"}, "x", {"type": "text", "text": "in."}]
    assert read_completion(body(content=parts)).text == "Rain."


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ('{"choices": [{"message": {"content": "I like \\ud83d"}, "finish_reason": "length"}]}', "I like ?"),
        ('{"choices": [{"message": {"content": "\\ud83d\\ude00"}, "finish_reason": 3}]}', "\U0001f600"),
        ('{"choices": [{"message": {"content": "Rain."}}, {"message": null}]}', "Rain."),
        ("\ufeff" + body(), "Rain."),
    ],
)
def test_an_answer_is_read_whatever_is_wrong_around_it(sent: str, text: str) -> None:
    assert read_completion(sent).text == text


@pytest.mark.parametrize("sent", ["<html>", "[" * 100_000, "[]", "{}", '{"choices": []}', '{"choices": [3]}'])
def test_what_is_no_completion_is_told(sent: str) -> None:
    with pytest.raises(ValueError, match=r"validation error|nests too deep|Expecting value"):
        read_completion(sent)


@pytest.mark.parametrize("limit", [{"max_tokens": 100}, {"max_cost": 1.0}])
def test_a_limit_that_can_never_be_reached_stops_the_run(limit: dict[str, Any]) -> None:
    budget, untold, free = Budget(**limit), Completion("Rain.", "stop", 0, 0), Budget(max_calls=3)
    for each in (budget, free):
        each.take()
        each.spend(untold, Prices())
    free.take()
    with pytest.raises(BudgetSpent, match=r"does not say how many tokens .*; limit the run by --max-calls"):
        budget.take()
    assert budget.calls == 1
