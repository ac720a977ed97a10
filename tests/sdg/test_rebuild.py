"""What samples rest on, and what keeps others from making them again. Again in another workspace: tests/cli."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import DataError
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.sdg.generate import plan
from tilth.sdg.rebuild import Basis, Obstacle, basis_of, obstacles, read_origins
from tilth.sdg.store import MANIFEST, REQUESTS, Entry, read_manifest, read_requests, read_samples

from .conftest import KNOWLEDGE_ID, RULES, SKILL_ID, Bench, leaf

COMMIT = "working tree"


def basis(bench: Bench, entries: list[Entry]) -> Basis:
    with Ledger(bench.root / "state" / "ledger.db") as ledger:
        return basis_of(entries, ledger)


def found(bench: Bench, entries: list[Entry], commit: str = COMMIT) -> list[Obstacle]:
    planned = plan(bench.leaves, bench.config, bench.store())
    return obstacles(basis(bench, entries).origins, planned, bench.config, commit)


def test_all_that_was_asked_is_listed(bench: Bench) -> None:
    right, asked = RULES["knowledge long"], []

    def once_wrong(prompt: dict[str, str]) -> object:
        asked.append(prompt)
        return "no JSON" if prompt["answer"] == "1702" and asked.count(prompt) == 1 else right(prompt)

    bench.teacher.rules["knowledge long"] = once_wrong  # one answer is repaired, one never
    bench.teacher.rules["skills judge"] = lambda asked: "no JSON" if "beta" in asked["answer"] else {"verdict": "yes"}
    entries = bench.run()
    found = basis(bench, entries)
    used = {key for entry in entries for sample in read_samples(entry) for key in sample.source.requests}
    with Ledger(bench.root / "state" / "ledger.db") as ledger:
        assert len(found.keys) == count(ledger) == bench.teacher.asked.total()
        assert found.keys == sorted(key for key in found.keys if ledger.get(key))
    assert used < set(found.keys)
    assert [origin.leaf for origin in found.origins] == [entry.leaf for entry in entries]
    assert [failure.request in found.keys for failure in read_manifest(entries[1].folder).failures] == [True, True]


def test_a_refused_request_has_no_answer_and_is_told(bench: Bench) -> None:
    bench.teacher.rules["skills judge"] = lambda asked: 400 if "beta" in asked["answer"] else {"verdict": "yes"}
    bench.leaves = bench.leaves[1:2]
    entries = bench.run()
    [origin] = basis(bench, entries).origins
    assert origin.refused == 2
    [obstacle] = found(bench, entries)
    assert obstacle.what == "2 requests were refused, and have no answer"


def test_what_was_begun_behind_a_quota_and_refused_is_not_lost(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    bench.config = bench.config.model_copy(
        update={"teacher": bench.config.teacher.model_copy(update={"concurrency": 16})}
    )
    bench.use_recipe("skills", quota=2, calls_per_seed=4)
    ask, refused = RULES["skills questions"], threading.Event()

    def questions(asked: dict[str, Any]) -> Any:
        if "mag" in asked["seed"]["answer"]:  # the last seed: the quota is reached before its turn
            refused.set()
            return 400
        assert refused.wait(10)
        return ask(asked)

    bench.teacher.rules["skills questions"] = questions
    entries = bench.run()
    assert refused.is_set()
    assert not read_manifest(entries[0].folder).failures
    assert basis(bench, entries).origins[0].refused == 0


def test_a_lost_answer_is_an_error(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    entries = bench.run()
    (bench.root / "state" / "ledger.db").unlink()
    with pytest.raises(DataError, match="lacks 15 of the 15 answers"):
        basis(bench, entries)


def test_a_changed_list_is_noticed(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    [entry] = bench.run()
    assert (entry.folder / REQUESTS).read_text() == "".join(f"{key}\n" for key in read_requests(entry))
    (entry.folder / REQUESTS).write_text("")
    with pytest.raises(DataError, match="not the file that was written"):
        read_requests(entry)
    (entry.folder / MANIFEST).write_text((entry.folder / MANIFEST).read_text().replace(REQUESTS, "other.txt"))
    with pytest.raises(DataError, match="tilth generate"):
        read_requests(entry)


def test_what_differs_is_told_with_the_leaves_concerned(bench: Bench) -> None:
    entries = bench.run()
    leaves = tuple(entry.leaf for entry in entries)
    assert found(bench, entries) == []
    [moved] = found(bench, entries, commit="f" * 40)
    assert (moved.leaves, moved.what) == (leaves, "the samples will name this commit and path, and be the same else")

    judge = ModelServer(model="strict", base_url=bench.teacher.url)
    bench.config = bench.config.model_copy(update={"seed": 7, "judge": judge})
    assert [obstacle.what for obstacle in found(bench, entries)] == [
        "the judge was 'rule' and is 'strict'",
        "the seed was 42 and is 7",
    ]
    bench.config = bench.config.model_copy(update={"seed": 42, "judge": None})
    bench.use_recipe("skills", tasks_per_call=3)
    [recipe] = found(bench, entries)
    assert "recipe" in recipe.what
    assert recipe.leaves == leaves[1:]
    bench.leaves = [leaf(KNOWLEDGE_ID), *bench.leaves[1:]]
    assert found(bench, entries)[0] == Obstacle(
        "no leaf at this commit says what it said", f"check out {COMMIT}, where it does", (KNOWLEDGE_ID,)
    )


def test_another_teacher_is_told(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    entries = bench.run()
    other = ModelServer(model="other", base_url=bench.teacher.url)
    bench.config = bench.config.model_copy(update={"teacher": other})
    whats = [(obstacle.what, obstacle.leaves) for obstacle in found(bench, entries)]
    assert ("the teacher was 'rule' and is 'other'", (SKILL_ID,)) in whats


def test_models_beside_teacher_and_judge_are_told(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    entries = bench.run()
    database = sqlite3.connect(bench.root / "state" / "ledger.db")
    database.execute("UPDATE requests SET model = 'student@1' WHERE rowid = 1")
    database.commit()
    database.close()
    assert basis(bench, entries).origins[0].others == ("student@1",)
    [obstacle] = found(bench, entries)
    assert obstacle.what == "models beside teacher and judge answered: student@1"


def test_a_header_of_somebody_else_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: its header does not tell"):
        read_origins([{"leaf": "a"}], "a.jsonl")
