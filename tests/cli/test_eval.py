"""`tilth eval` on a workspace with two releases: which models and questions, and what it says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tilth.llm.scripted import serve_scripted

from ..loop import FERRY, MILL, Loop, Spawner


def test_a_served_model_beside_a_release_is_asked_in_words_and_once(
    spawner: Spawner, turned_twice: Loop, tmp_path: Path
) -> None:
    loop = turned_twice.copy(tmp_path / "taxonomy")
    with serve_scripted() as url:
        first = spawner.run(loop.root, "eval", "2", f"{url}#scripted", "--json")
        assert first.code == 0, first.err
        asked = url.stats().requests
        again = spawner.run(loop.root, "eval", "2", f"{url}#scripted", "--json")
        assert asked == url.stats().requests > 0
    assert first.json == again.json
    assert first.json["settings"]["choice"] == "letter"
    assert dict(first.json["models"])[f"{url}#scripted"] == f"scripted at {url}"


def test_the_last_is_compared_with_the_first(spawner: Spawner, turned_twice: Loop) -> None:
    lines = spawner.run(turned_twice.root, "eval", "base", "1", "2").out.splitlines()
    assert lines[0].split() == ["leaf", "base", "release", "1", "release", "2", "change"]
    assert "change: release 2 against base, in points, with a 60 % interval" in lines
    found = spawner.run(turned_twice.root, "eval", "base", "2", "--json").json["compared"]
    assert {each["leaf"] for each in found} >= {FERRY, MILL}
    assert all(each["low"] <= each["value"] <= each["high"] for each in found)
    alone = spawner.run(turned_twice.root, "eval", "2")
    assert "change" not in alone.out
    assert spawner.run(turned_twice.root, "eval", "2", "--json").json["compared"] == []


def test_only_what_changed(spawner: Spawner, turned_twice: Loop) -> None:
    found = spawner.run(turned_twice.root, "eval", "2", "--changed-since", "HEAD~1", "--json").json
    assert {question["leaf"] for question in found["questions"]} == {FERRY}
    everything = spawner.run(turned_twice.root, "eval", "2", "--json").json
    assert {question["leaf"] for question in everything["questions"]} >= {FERRY, MILL}


def test_with_the_document_at_hand(spawner: Spawner, turned_twice: Loop) -> None:
    ran = spawner.run(turned_twice.root, "eval", "2", "--open-book")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert [line.strip().startswith("with the document") for line in lines].count(True) == 2
    found = json.loads(spawner.run(turned_twice.root, "eval", "2", "--open-book", "--json").out)
    assert found["open_book"]["release 2"].keys() == found["answers"]["release 2"].keys()


def test_it_writes_beside_no_other_command(spawner: Spawner, turned_twice: Loop, copy: Callable[[Loop], Loop]) -> None:
    loop = copy(turned_twice)
    with loop.workspace.lock():
        ran = spawner.run(loop.root, "eval", "2")
    assert (ran.code, ran.out) == (2, "")
    assert "another tilth command" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["7"], "there is no release 7"),
        (["bsae"], "did you mean 'base'"),
        (["/no/such/folder"], "there is no model"),
        (["--changed-since", "nowhere"], "nowhere"),
        (["--changed-since", "HEAD"], "no leaf changed since HEAD left 'HEAD'"),
    ],
)
def test_what_is_wrong_is_one_line(spawner: Spawner, turned_twice: Loop, arguments: list[str], said: str) -> None:
    ran = spawner.run(turned_twice.root, "eval", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1
