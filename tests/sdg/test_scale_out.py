"""The same flows on a cluster of two Ray workers, on this machine, with a teacher over real HTTP."""

from __future__ import annotations

import shutil
import signal

import pytest
from tilth.core.config import Config, ModelServer
from tilth.core.errors import ConfigError, ModelError
from tilth.llm.ledger import Ledger
from tilth.sdg import scale_out
from tilth.sdg.store import Entry, read_rejects, read_samples

from .conftest import Bench

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def made(entries: list[Entry]) -> list[tuple[bytes, bytes]]:
    return [
        ((entry.folder / "samples.jsonl").read_bytes(), (entry.folder / "rejects.jsonl").read_bytes())
        for entry in entries
    ]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: init(**options, num_cpus=2))


@pytest.mark.usefixtures("two_workers")
def test_two_workers_make_the_bytes_that_one_process_makes(bench: Bench) -> None:
    bench.teacher.longest_s = 0.02
    here = made(bench.run())
    asked = bench.teacher.asked.total()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    there = bench.run(state="there", ray=scale_out.LOCAL)
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
        refused = bench.teacher.asked.total() - ledger.count()
        assert 1 <= refused <= 8


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
