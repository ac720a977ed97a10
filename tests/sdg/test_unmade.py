"""What a run cannot make: it harms no other leaf, is told at the end, and is asked for again by the next run."""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import BY_HAND
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger
from tilth.llm.wire import Retries
from tilth.sdg import generate
from tilth.sdg.store import read_manifest, read_samples
from tilth.sdg.unmade import NotComplete, Unmade
from tilth.taxonomy.leaf import DocumentSpec

from .conftest import KNOWLEDGE_ID, RULES, SKILL_ID, Bench, leaf
from .test_sdg_generate import files


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(Gateway, retries=Retries(tries=3, first_wait_s=0.001))
    monkeypatch.setattr(generate, "Gateway", quick)


def choke(bench: Bench) -> None:
    """The teacher answers 500 whenever it is asked for a long answer about larch."""
    whole = RULES["knowledge long"]
    bench.teacher.rules["knowledge long"] = lambda asked: 500 if asked["answer"] == "larch" else whole(asked)


def test_a_request_that_is_never_answered_leaves_its_leaf_open_and_makes_the_others(bench: Bench) -> None:
    choke(bench)
    with pytest.raises(NotComplete) as caught:
        bench.run()
    assert str(caught.value) == (
        f"1 leaf is not complete: {KNOWLEDGE_ID}: 1 request got no answer (HTTP 500: on purpose, 3 tries); "
        "run the same command again: what was answered is kept"
    )
    assert caught.value.exit_code == 2
    assert [entry.leaf for entry in caught.value.entries] == [each.id for each in bench.leaves[1:]]
    assert bench.teacher.asked["knowledge long"] == 3 + 3  # three answered, one tried three times


def test_what_a_second_run_tries_in_vain_too_fails_its_row_and_the_leaf_is_complete(bench: Bench) -> None:
    choke(bench)
    with pytest.raises(NotComplete):
        bench.run()
    before = bench.teacher.asked.total()
    entries = bench.run()
    assert bench.teacher.asked.total() == before + 3  # the same again, and nothing else
    [failure] = read_manifest(entries[0].folder).failures
    assert failure.reason == "HTTP 500: on purpose, 3 tries, in this run and in an earlier one"
    bench.run()
    assert bench.teacher.asked.total() == before + 3


def test_what_was_not_answered_is_asked_again_and_the_leaf_is_as_if_nothing_had_been(bench: Bench) -> None:
    undisturbed = bench.run(state="undisturbed")
    choke(bench)
    with pytest.raises(NotComplete):
        bench.run()
    before = bench.teacher.asked.total()
    bench.teacher.rules["knowledge long"] = RULES["knowledge long"]
    entries = bench.run()
    assert files(entries) == files(undisturbed)
    assert read_manifest(entries[0].folder).failures == ()
    assert bench.teacher.asked.total() == before + 1  # a short pair's judgement serves the long one too


def test_a_teacher_that_answers_nothing_stops_the_run(bench: Bench) -> None:
    bench.teacher.down = True
    with pytest.raises(ModelError, match=r"the teacher answers nothing, not even 'Say yes\.' \(HTTP 500: on purpose\)"):
        bench.run()
    assert not list(bench.store().glob("*/manifest.json"))


class Listening(SilentProgress):
    """Keeps what is said, and how far the task is."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.totals: list[float] = []
        self.done = 0.0

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Any]:
        self.totals.append(total or 0)
        yield self

    def advance(self, amount: float = 1) -> None:
        self.done += amount

    def grow(self, amount: float) -> None:
        self.totals.append(self.totals[-1] + amount)

    def note(self, text: str) -> None:
        """Nothing to show."""


def test_a_document_that_cannot_be_read_stops_no_other_leaf(bench: Bench) -> None:
    gone = DocumentSpec(repo="https://127.0.0.1:9/none.git", commit="0" * 40, patterns=("*.md",))
    broken = leaf("knowledge/places/gone", documents=gone)
    undisturbed = bench.run(state="undisturbed")
    bench.leaves.insert(1, broken)
    progress = Listening()
    with pytest.raises(NotComplete) as caught:
        bench.run(progress=progress)
    assert files(list(caught.value.entries)) == files(undisturbed)
    [(leaf_id, reason)] = caught.value.unmade
    assert (leaf_id, reason.startswith("qna.yaml: the host '127.0.0.1'")) == (broken.id, True)
    assert progress.said == [f"cannot be read, and left out: {broken.id}: {reason}"]  # before hours have passed


def test_the_end_of_the_progress_follows_what_leaves_take(bench: Bench) -> None:
    choke(bench)
    bench.teacher.rules["skills questions"] = lambda _: {"q1": {"question": "Say up!"}, "q2": {"question": "Say up!"}}
    progress = Listening()
    with pytest.raises(NotComplete):
        bench.run(progress=progress)
    assert len(progress.totals) == 1 + 3
    assert progress.done == progress.totals[-1] != progress.totals[0]


def test_of_many_the_first_is_told() -> None:
    error = NotComplete([], [Unmade(KNOWLEDGE_ID, "gone"), Unmade(SKILL_ID, "lost")])
    assert str(error).startswith(f"2 leaves are not complete: {KNOWLEDGE_ID} (and 1 more): gone; ")


def test_what_is_cut_becomes_no_sample_and_a_judge_may_say_on(bench: Bench) -> None:
    bench.leaves = bench.leaves[:2]
    bench.teacher.cut = {"knowledge judge"}
    whole, solved = map(read_samples, bench.run())
    bench.teacher.cut |= {"knowledge long", "skills answer"}
    knowledge, skill = bench.run(state="cut")
    assert read_samples(knowledge) == [sample for sample in whole if sample.kind != "knowledge_long"]
    assert len(read_samples(knowledge)) < len(whole)
    assert [sample.source.teacher for sample in read_samples(skill)] == [BY_HAND] * 3
    assert len(solved) > 3
    failures = read_manifest(knowledge.folder).failures
    assert {(failure.step, failure.reason) for failure in failures} == {
        ("long", "the answer was cut at the 100 tokens of its prompt")
    }
    with Ledger(bench.root / "cut" / "ledger.db") as ledger:
        assert all(ledger.get(failure.request) for failure in failures)
