"""Requests that are tried in vain: a matter of single prompts, or of the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.llm.ask import Answer, Gateway, RequestFailed, Unanswered
from tilth.llm.budget import Budget
from tilth.llm.ledger import Ledger
from tilth.llm.scripted import serve_scripted
from tilth.llm.wire import Retries

from .test_wire import ask_all, completion, prompt, serve


def kinds(answers: Sequence[object]) -> list[type]:
    return [type(answer) for answer in answers]


@pytest.mark.parametrize("fault", ["500", "drop", "malformed", "hang"])
@pytest.mark.slow
def test_a_prompt_that_the_model_chokes_on_harms_no_other(ledger: Ledger, fault: str) -> None:
    with serve_scripted(always={"About 2.": fault}) as url:
        server = ModelServer(model="scripted", base_url=str(url), concurrency=2, timeout_s=0.2)
        answers = ask_all(server, ledger, range(6))
        assert kinds(answers) == [Answer, Answer, Unanswered, Answer, Answer, Answer]
        again = ask_all(server, ledger, range(6))
        assert kinds(again) == [Answer, Answer, RequestFailed, Answer, Answer, Answer]
        assert "in this run and in an earlier one" in str(again[2])
        assert [answer.cached for answer in again if isinstance(answer, Answer)] == [True] * 5
        assert url.stats().faults[fault] == 2 * (2 if fault == "hang" else 6)


def one_by_one(url: str, ledger: Ledger, numbers: range, budget: Budget | None = None) -> list[object]:
    """What each is answered, or fails with; the first error that stops a run is the last."""

    async def run() -> list[object]:
        server, answers = ModelServer(model="m", base_url=url, patience_s=0.01), list[object]()
        retries = Retries(tries=2, first_wait_s=0.001)
        async with Gateway(server, ledger, SilentProgress(), retries=retries, budget=budget) as gateway:
            for number in numbers:
                try:
                    answers.append(await gateway.ask(prompt(number), leaf="l", step="s"))
                except (Unanswered, RequestFailed) as error:
                    answers.append(error)
                except ModelError as error:
                    return [*answers, error]
        return answers

    return asyncio.run(run())


def test_a_text_that_many_prompts_are_about_stops_nothing_while_the_endpoint_answers_others(ledger: Ledger) -> None:
    bodies: list[str] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        bodies.append(body["messages"][0]["content"])
        chokes = bodies[-1] in {prompt(number)[0].content for number in range(1, 9)}
        return (500, {"error": {"message": "on purpose"}}) if chokes else (200, completion("yes"))

    with serve(reply) as url:
        budget = Budget()
        answers = one_by_one(url, ledger, range(10), budget)
    assert kinds(answers) == [Answer, *[Unanswered] * 8, Answer]
    assert bodies.count("Say yes.") == 8
    assert (budget.calls, budget.tokens) == (len(bodies), 10 * 15)


def test_an_endpoint_that_answers_nothing_any_more_stops_the_run(ledger: Ledger) -> None:
    asked: list[str] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body["messages"][0]["content"])
        return (200, completion("yes")) if len(asked) == 1 else (502, {"error": {"message": "bad gateway"}})

    with serve(reply) as url:
        answers = one_by_one(url, ledger, range(10))
    assert kinds(answers) == [Answer, ModelError]
    assert "the teacher answers nothing any more for " in str(answers[-1])
    assert "not even 'Say yes.' (HTTP 502: bad gateway); look there, then run the same command" in str(answers[-1])
    assert asked[-1] == "Say yes."


def test_a_model_that_never_answers_what_it_is_asked_is_told_once(ledger: Ledger) -> None:
    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        easy = body["messages"][0]["content"] == "Say yes."
        return (200, completion("yes")) if easy else (500, {"error": {"message": "no grammar"}})

    with serve(reply) as url:
        answers = one_by_one(url, ledger, range(20))
    assert kinds(answers) == [*[Unanswered] * 9, ModelError]
    assert "10 requests to the teacher failed and none was answered (HTTP 500: no grammar" in str(answers[-1])
