"""Evaluations with a judge, with forms, of served models and open book."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tilth.core.config import Config, ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Question, TokensUsed
from tilth.eval import run
from tilth.eval.answering import Answering
from tilth.eval.evaluation import Evaluation, Judging, unlike
from tilth.eval.scores import RIGHT_FROM
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import usage
from tilth.llm.models import Endpoint
from tilth.llm.scripted import ScriptedUrl, serve_scripted
from tilth.llm.wire import Retries

from .writer import fake_model, put_writer

JUDGED = [Question.new("s", f"Write notice number {n}?", (f"Notice {n}.",), judged=True) for n in range(8)]
FORMED = Question.new("general/instructions", "Answer in capitals?", ("X",), forms=("uppercase",))
CHOICE = Question.new("a", "Which wood?", ("oak",), ("larch", "oak", "pine", "ash"))


@pytest.fixture
def served() -> Iterator[ScriptedUrl]:
    with serve_scripted(always={"notice number 3": "garbage"}) as url:
        yield url


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch):
    return put_writer(monkeypatch)


def evaluate(url: str, models, folder: Path, questions, ledger: Path | None = None, **more) -> Evaluation:
    config = Config.model_validate(
        {"teacher": {"model": "grader", "base_url": url}, "eval": {"max_new_tokens": 4, "max_new_tokens_judged": 9}}
    )
    cache = folder / "cache"
    by = Answering(config, cache, ledger or cache / "ledger.db", SilentProgress())
    return run.evaluate(models, questions, by, **more)


def endpoint(url: str, model: str = "served") -> Endpoint:
    return Endpoint(model, ModelServer(model=model, base_url=(url,)))


def test_judged_answers_are_right_from_a_grade_on_and_failures_are_counted(served: ScriptedUrl, tmp_path: Path, writer):
    new = writer()
    found = evaluate(served, {"base": fake_model(tmp_path / "base")}, tmp_path, JUDGED)
    assert (found.judge.model, new.lengths) == ("grader", {9})
    answers = [found.answers["base"][question.id] for question in JUDGED]
    assert answers[3].outcome == "unjudged"
    assert (answers[3].grade, answers[3].reason != "") == (None, True)
    graded = [answer for answer in answers if answer.grade]
    assert [answer.correct for answer in graded] == [answer.grade >= RIGHT_FROM for answer in graded]
    assert {answer.outcome for answer in graded} == {"right", "wrong"}
    assert (found.unjudged("base").correct, found.unjudged("base").total) == (1, 8)
    assert found.rate("base", "s").total == 8
    assert [*found.remarks()] == [
        "8 of the questions were judged by grader", "base: 1 of 8 answers could not be judged: wrong",
    ]  # fmt: skip


def test_what_was_judged_is_not_judged_again(served: ScriptedUrl, tmp_path: Path, writer):
    base = {"base": fake_model(tmp_path / "base")}
    writer()
    first = evaluate(served, base, tmp_path, JUDGED[:3], ledger=tmp_path / "ledger.db")
    asked = served.stats().requests
    assert evaluate(served, base, tmp_path, JUDGED[:3], ledger=tmp_path / "ledger.db") == first
    assert served.stats().requests == asked == 3
    with Ledger(tmp_path / "ledger.db", reading=True) as ledger:
        (used,) = usage(ledger)
    assert first.judging == Judging(
        requests=3, tokens=TokensUsed(prompt=used.prompt_tokens, completion=used.completion_tokens)
    )


def test_what_the_judge_left_unanswered_is_counted_and_alone_asked_again(
    tmp_path: Path, writer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(Gateway.__init__.__kwdefaults__, "retries", Retries(first_wait_s=0.001))
    writer()
    base, ledger = {"base": fake_model(tmp_path / "base")}, tmp_path / "ledger.db"
    with serve_scripted(always={"notice number 3": "500", "notice number 5": "garbage"}) as url:
        found = evaluate(url, base, tmp_path, JUDGED, ledger=ledger)
    assert (found.unanswered, found.unjudged("base").correct) == (1, 2)
    assert "1 request to the judge got no answer: the same command asks again" in found.remarks()
    with serve_scripted() as url:
        again = evaluate(url, base, tmp_path, JUDGED, ledger=ledger)
        assert url.stats().requests == 1
    assert (again.unanswered, again.unjudged("base").correct) == (0, 1)  # what was answered badly is not asked again


def test_no_judged_question_needs_no_judge(tmp_path: Path, writer):
    writer()
    found = evaluate("http://127.0.0.1:9/v1", {"base": fake_model(tmp_path / "base")}, tmp_path, [FORMED, CHOICE])
    assert found.judge is None
    assert found.unjudged("base").total == 0


def test_a_form_that_is_lacked_is_named(tmp_path: Path, writer):
    new = writer()
    found = evaluate("http://127.0.0.1:9/v1", {"base": fake_model(tmp_path / "base")}, tmp_path, [FORMED])
    answer = found.answers["base"][FORMED.id]
    assert (answer.correct, answer.reason, new.lengths) == (False, "lacks uppercase", {run.FORM_TOKENS})


def test_two_models_fight_over_what_is_judged(served: ScriptedUrl, tmp_path: Path, writer):
    models = {name: fake_model(tmp_path / name, name.encode()) for name in ("base", "release 1")}
    writer()
    found = evaluate(served, models, tmp_path, [*JUDGED, CHOICE], duel=("base", "release 1"))
    assert [duel.question_id for duel in found.duels] == [question.id for question in JUDGED]
    assert {(duel.first, duel.second) for duel in found.duels} == {("base", "release 1")}
    assert found.duels[3].winner == "unjudged"
    assert Evaluation.model_validate_json(found.model_dump_json()) == found


def test_a_served_model_is_asked_in_words_and_its_answers_kept(served: ScriptedUrl, tmp_path: Path, writer):
    writer()
    models = {"base": fake_model(tmp_path / "base"), "served": endpoint(served)}
    first = evaluate(served, models, tmp_path, [CHOICE, FORMED])
    assert first.settings.choice == "letter"
    assert first.models["served"] == f"served at {served}"
    asked = served.stats().requests
    assert evaluate(served, models, tmp_path, [CHOICE, FORMED]) == first
    assert served.stats().requests == asked == 2


class Lines(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines = list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_it_is_said_that_a_server_s_answers_of_before_are_used_and_how_to_ask_anew(served: ScriptedUrl, tmp_path: Path):
    twice = [CHOICE, CHOICE.model_copy(update={"leaf": "b"}), FORMED]  # two leaves ask the same

    def ask(**settings: int) -> tuple[list[str], int]:
        config, progress, before = Config.model_validate(settings), Lines(), served.stats().requests
        models = {"mine": endpoint(served)}
        run.evaluate(models, twice, Answering(config, tmp_path, tmp_path / "ledger.db", progress))
        return progress.lines, served.stats().requests - before

    assert ask() == ([], 2)
    (line,), asked = ask()
    assert asked == 0
    assert re.fullmatch(
        r"mine: 3 of 3 answers were given before, since 20\d\d-\d\d-\d\d \d\d:\d\d UTC, and are used again; if another "
        r"model is served there now, give it another name or ask anew with `--set seed=43`",
        line,
    )
    assert ask(seed=43) == ([], 2)


def test_options_are_listed_in_an_order_of_their_own(served: ScriptedUrl, tmp_path: Path, writer):
    new = writer()
    models = {"base": fake_model(tmp_path / "base"), "served": endpoint(served)}
    many = [Question.new("a", f"Which wood is number {n}?", ("oak",), CHOICE.options) for n in range(24)]
    evaluate(served, models, tmp_path, many)
    firsts = [text.splitlines()[2] for text in new.asked]
    assert {first.split(") ")[1] for first in firsts} == set(CHOICE.options)
    assert all(first.startswith("A) ") for first in firsts)


def test_a_served_model_s_silence_is_a_wrong_answer(tmp_path: Path):
    question = Question.new("a", "Which oil?", ("rape",))
    with serve_scripted(always={"Which oil?": "empty"}) as url:
        found = evaluate(url, {"served": endpoint(url)}, tmp_path, [question, JUDGED[0]])
    answer = found.answers["served"][question.id]
    assert (answer.outcome, answer.text, answer.reason) == ("wrong", "", "it answered nothing")


def test_open_book_stands_beside_closed_book(tmp_path: Path, writer):
    new = writer()
    questions = [Question.new(leaf, f"What is {leaf} 1?", ("answer 1",)) for leaf in ("a", "b")]
    passages = {"a": ("A 1 is a one.", "Nothing else.")}
    models = {"base": fake_model(tmp_path / "base")}
    found = evaluate("http://127.0.0.1:9/v1", models, tmp_path, questions, passages=passages)
    assert [("A 1 is a one." in text, text.endswith("What is a 1?")) for text in new.asked] == [
        (False, True),
        (False, False),
        (True, True),
    ]
    assert (found.open_book_rate("base", "a").correct, found.open_book_rate("base", "a").total) == (1, 1)
    assert found.open_book_rate("base", "b").total == 0
    assert found.rate("base", "b").total == 1


def test_unlike_evaluations_are_not_compared(served: ScriptedUrl, tmp_path: Path, writer):
    writer()
    found = evaluate(served, {"base": fake_model(tmp_path / "base")}, tmp_path, JUDGED[:1])
    assert unlike(found, found) == unlike(found, found.model_copy(update={"judge": None})) == ""
    other = found.model_copy(update={"judge": found.judge.model_copy(update={"model": "larger"})})
    assert unlike(found, other) == "the judge's model 'grader' and 'larger'"
    longer = found.model_copy(update={"settings": found.settings.model_copy(update={"max_new_tokens": 5})})
    assert unlike(found, longer) == "max_new_tokens 4 and 5"


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(ModelError, match=r"cannot reach the model at \S+; look at its server, or name another model$"):
        evaluate("http://127.0.0.1:9/v1", {"served": endpoint("http://127.0.0.1:9/v1")}, tmp_path, [CHOICE])


def test_two_servers_that_call_their_models_by_one_name_are_two(tmp_path: Path):
    asked = [Question.new("a", "Which oil?", ("rape",))]

    def ask(*urls: str) -> Evaluation:
        return evaluate(urls[0], {f"model {place}": endpoint(url) for place, url in enumerate(urls)}, tmp_path, asked)

    with serve_scripted() as one, serve_scripted(always={"Which oil?": "empty"}) as other:
        found = ask(one, other)
        assert len({*found.models.values()}) == 2
        said = [answer.text for given in found.answers.values() for answer in given.values()]
        assert said[0]
        assert not said[1]
        assert [*found.remarks()] == ["model 1: 1 of 1 questions have no answer (it answered nothing): wrong"]
        before = one.stats().requests
        assert ask(one).answers["model 0"] == found.answers["model 0"]
        assert one.stats().requests == before
