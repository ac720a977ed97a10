"""Rows until there are enough: in their order, whatever order they end in, and no more than that."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.progress import SilentProgress
from tilth.core.records import Message, Provenance, Sample
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger
from tilth.llm.scripted import ScriptedUrl, serve_scripted
from tilth.sdg.flow import LeafRun, Outcome, Tally
from tilth.sdg.recipe import load_recipe

from .conftest import SKILL_ID, leaf

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="p", teacher="t")
Row = Callable[[], Coroutine[Any, Any, list[Outcome]]]


def run(path: Path, url: str, quota: dict[Any, int], rows: Callable[[LeafRun], Iterator[Row]]) -> tuple[list[Any], int]:
    """The outcomes, and how many requests were paid for."""

    async def main() -> tuple[list[Any], int]:
        server = ModelServer(model="scripted", base_url=url, concurrency=8)
        with Ledger(path) as ledger:
            async with Gateway(server, ledger, SilentProgress()) as gateway:
                recipe = load_recipe("quick")["skills"]
                leaf_run = LeafRun(leaf(SKILL_ID), recipe, SOURCE, gateway, gateway, Tally(), lambda _: None)
                outcomes = await leaf_run.until(quota, rows(leaf_run))
                return outcomes, gateway.stats.paid

    return asyncio.run(main())


def every_other_accepted(run: LeafRun) -> Iterator[Row]:
    """Rows without end, of two requests each; every other one gives a sample. Which is first to end is chance."""

    def row(number: int) -> Row:
        async def made() -> list[Outcome]:
            for step in ("one", "two"):
                message = Message(role="user", content=f"{number} {step}")
                answer = await run.teacher.ask([message], leaf=run.leaf.id, step=step)
                run.tally.paid[step] += not answer.cached
                await asyncio.sleep(random.random() / 100)
            return [Sample.new("skill", str(number), "yes", SOURCE)] if number % 2 else []

        return made

    return (row(number) for number in count())


@pytest.fixture
def url() -> Iterator[ScriptedUrl]:
    with serve_scripted(latency_s=0.005) as url:
        yield url


@pytest.mark.slow
def test_the_first_in_order_count_whatever_order_they_end_in(tmp_path: Path, url: ScriptedUrl) -> None:
    found = [run(tmp_path / f"{number}.db", url, {"skill": 6}, every_other_accepted)[0] for number in range(3)]
    assert [[sample.question for sample in samples] for samples in found] == [["1", "3", "5", "7", "9", "11"]] * 3


def test_siblings_that_are_not_needed_are_stopped(tmp_path: Path, url: ScriptedUrl) -> None:
    _, paid = run(tmp_path / "ledger.db", url, {"skill": 6}, every_other_accepted)
    assert 24 <= paid <= 24 + 2 * 8


@pytest.mark.slow
def test_what_was_made_once_is_made_again_without_a_request(tmp_path: Path, url: ScriptedUrl) -> None:
    first, _ = run(tmp_path / "ledger.db", url, {"skill": 6}, every_other_accepted)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.settimeout(0)
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        assert run(tmp_path / "ledger.db", gone, {"skill": 6}, every_other_accepted) == (first, 0)
        with pytest.raises(BlockingIOError):
            nobody.accept()  # nothing was begun ahead


def test_rows_that_end_are_all_there_are(tmp_path: Path, url: ScriptedUrl) -> None:
    def few(leaf_run: LeafRun) -> Iterator[Row]:
        rows = every_other_accepted(leaf_run)
        return (next(rows) for _ in range(4))

    outcomes, _ = run(tmp_path / "ledger.db", url, {"skill": 100}, few)
    assert [sample.question for sample in outcomes] == ["1", "3"]
    outcomes, _ = run(tmp_path / "all.db", url, {}, few)
    assert len(outcomes) == 2
