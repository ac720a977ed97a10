"""The same flows on a cluster of two Ray workers, on this machine, with a teacher over real HTTP."""

from __future__ import annotations

import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, ModelServer
from tilth.core.errors import ConfigError, ModelError
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.llm.local_gateway import LocalModel
from tilth.sdg import scale_out
from tilth.sdg.others import Students
from tilth.sdg.store import PREFERENCES, REJECTS, SAMPLES, TESTS, Entry, read_rejects, read_samples

from .conftest import KNOWLEDGE_ID, Bench, leaf

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def made(entries: list[Entry]) -> list[dict[str, bytes]]:
    names = (SAMPLES, PREFERENCES, TESTS, REJECTS)
    return [{name: file.read_bytes() for name in names if (file := entry.folder / name).exists()} for entry in entries]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: init(**options, num_cpus=2))


def test_all_workers_together_keep_to_every_limit_of_a_model() -> None:
    free = ModelServer(model="m", base_url="http://127.0.0.1:1/v1", concurrency=50)
    slow = free.model_copy(update={"concurrency": 9, "requests_per_minute": 5, "tokens_per_minute": 1000})
    assert [
        scale_out._num_workers(cores, servers) for cores, servers in ((64, [free]), (64, [free, slow]), (2, [slow]))
    ] == [
        50,
        5,
        2,
    ]
    for workers in (1, 2, 5):
        share = scale_out._share(slow, workers)
        limits = (share.concurrency, share.requests_per_minute, share.tokens_per_minute)
        assert all(0 < limit * workers <= most for limit, most in zip(limits, (9, 5, 1000), strict=True))
    assert scale_out._share(free, 4).requests_per_minute == 0  # no limit stays none


@pytest.mark.usefixtures("two_workers")
def test_two_workers_make_the_bytes_that_one_process_makes(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it, and then has said what it says of it
    bench.teacher.longest_s = 0.02
    here = made(bench.run())
    asked = bench.teacher.asked.total()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    there = bench.run(state="there", ray=scale_out.LOCAL)
    assert capfd.readouterr() == ("", "")
    assert made(there) == here
    assert signal.getsignal(signal.SIGTERM) is on_sigterm
    assert bench.teacher.asked.total() == 2 * asked
    with Ledger(bench.root / "state" / "ledger.db") as one, Ledger(bench.root / "there" / "ledger.db") as other:
        assert {entry.key for entry in one.entries()} == {entry.key for entry in other.entries()}
    assert not list((bench.root / "there").glob("*.shards"))
    shutil.rmtree(bench.store("there"))
    assert made(bench.run(state="there")) == here
    assert bench.teacher.asked.total() == 2 * asked  # what the workers were answered is in the ledger


@pytest.mark.usefixtures("two_workers")
def test_what_stops_a_flow_is_told_as_here_and_nothing_answered_is_lost(bench: Bench) -> None:
    rule = bench.teacher.rules["knowledge long"]
    bench.teacher.rules["knowledge long"] = lambda _: 401
    with pytest.raises(ModelError, match="HTTP 401"):
        bench.run(ray=scale_out.LOCAL)
    bench.teacher.rules["knowledge long"] = rule
    entries = bench.run()
    assert all(read_samples(entry) or read_rejects(entry) for entry in entries)
    with Ledger(bench.root / "state" / "ledger.db") as ledger:
        # No request was answered twice, in the workers or here.
        refused = bench.teacher.asked.total() - count(ledger)
        assert 1 <= refused <= 8


@pytest.mark.usefixtures("two_workers")
def test_what_the_ledger_has_of_another_leaf_is_not_paid_again(bench: Bench) -> None:
    bench.run()
    asked = bench.teacher.asked.total()
    elsewhere = bench.root / "taxonomy" / "knowledge" / "elsewhere" / "mill"
    shutil.copytree(bench.root / "taxonomy" / KNOWLEDGE_ID, elsewhere)
    [mill, *_] = bench.leaves
    bench.leaves = [mill.model_copy(update={"id": "knowledge/elsewhere/mill"})]
    shutil.rmtree(bench.store())
    [entry] = bench.run(ray=scale_out.LOCAL)
    assert read_samples(entry)
    assert bench.teacher.asked.total() == asked


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_two_answers_to_one_request_the_first_is_that_of_both_leaves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    if elsewhere:  # the workers find another file than the one that they are told of
        monkeypatch.setattr(scale_out, "_place", lambda _: "another machine")
    shutil.copytree(bench.root / "taxonomy" / KNOWLEDGE_ID, bench.root / "taxonomy" / "knowledge" / "copy")
    [mill, *_] = bench.leaves
    content = mill.model_dump(include={"seed_examples", "questions", "title"})
    bench.leaves = [mill, leaf("knowledge/copy", **content | {"seed_examples": mill.seed_examples[:1]})]
    numbers, both = Counter[str](), threading.Event()

    def long(asked: dict[str, Any]) -> dict[str, Any]:
        """Another answer each time. The first waits until the other leaf asks too, so it is in both workers' hands."""
        numbers[asked["question"]] += 1
        if max(numbers.values()) > 1:
            both.set()
        both.wait(30)
        return {"answer": f"At length, for the {numbers[asked['question']]}. time: {asked['answer']}."}

    bench.teacher.rules["knowledge long"] = long
    there = made(bench.run(ray=scale_out.LOCAL))
    asked = bench.teacher.asked.total()
    with Ledger(bench.root / "state" / "ledger.db") as ledger:
        assert count(ledger) < asked
    shutil.rmtree(bench.store())
    assert made(bench.run()) == there
    assert bench.teacher.asked.total() == asked


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("mode", ["strong_weak", "endpoints"])
def test_the_student_and_two_endpoints_answer_in_workers_too(bench: Bench, tiny_student: Path, mode: str) -> None:
    bench.leaves = bench.leaves[:1]
    bench.teacher.rules |= {
        "preferences answer": lambda asked: f"To {asked['question']} one says so.",
        "preferences grade": lambda asked: {"grade": 9 if "one says so" in asked["answer"] else 2},
    }
    servers = [{"model": name, "base_url": bench.teacher.url} for name in ("first", "second")]
    more: dict[str, Any] = {"models": servers} if mode == "endpoints" else {}
    parts = ("answer", "grade", *(["weak"] if mode == "strong_weak" else []))
    prompts = {part: f"preferences_{part}.yaml" for part in parts}
    settings: dict[str, Any] = {"kinds": ["knowledge_long"], "questions": 2, "candidates": 1, "votes": 1, "margin": 2}
    bench.use_recipe("preferences", mode=mode, prompts=prompts, **settings, **more)
    model = LocalModel("tiny@1", lambda: tiny_student, "Be brief.")
    students = Students(base=lambda: model, current=lambda: model)
    [here] = bench.run(students=students)
    assert made(bench.run(state="there", ray=scale_out.LOCAL, students=students)) == made([here])
    with Ledger(bench.root / "there" / "ledger.db") as ledger:
        models = {entry.model for entry in ledger.entries()}
    assert models == {"rule", *(["tiny@1"] if mode == "strong_weak" else ["first", "second"])}


def test_a_cluster_needs_a_teacher_with_an_address(bench: Bench) -> None:
    bench.config = Config(teacher=ModelServer(), generate=bench.config.generate)
    with pytest.raises(ConfigError, match=r"teacher\.base_url: --ray needs models with an address; set it, or"):
        bench.run(ray=scale_out.LOCAL)


def test_a_cluster_that_is_not_there_is_one_line(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: there is no Ray cluster .*; start one with `ray start"):
        bench.run(ray="127.0.0.1:1")


def test_shards_of_a_killed_run_are_taken_in(bench: Bench) -> None:
    bench.run()
    asked = bench.teacher.asked.total()
    fresh = bench.root / "fresh"
    (fresh / "ledger.db.shards").mkdir(parents=True)
    shutil.move(bench.root / "state" / "ledger.db", fresh / "ledger.db.shards" / "0.db")
    bench.run(state="fresh")
    assert bench.teacher.asked.total() == asked
