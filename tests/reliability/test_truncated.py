"""Files of the state that were cut: found by their hash or by how they read, made again, or named with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tilth.core.errors import DataError
from tilth.cycle.past import read_past, replay_buffer
from tilth.cycle.releases import find_release

from ..loop import FERRY, Loop, Spawner, knowledge_files

Copy = Callable[[Loop], Loop]


def cut(path: Path) -> Path:
    """Leave the first half of a file, whoever may write to it and whatever else bears its bytes."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    return path


def one_line(spawner: Spawner, loop: Loop, *arguments: str) -> str:
    ran = spawner.run(loop.root, *arguments)
    assert (ran.code, "Traceback" in ran.err) == (2, False), ran.err
    return ran.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["samples.jsonl", "rejects.jsonl", "manifest.json"])
def test_an_entry_of_the_store_is_made_again_from_the_ledger(
    spawner: Spawner, turned_once: Loop, copy: Copy, name: str
) -> None:
    loop = copy(turned_once)
    path = next(loop.state.glob(f"store/mill-*/{name}"))
    whole, asked = path.read_bytes(), len(loop.teacher.requests)
    cut(path)
    told = one_line(spawner, loop, "samples", *["--rejects"] * (name == "rejects.jsonl"))
    assert str(path) in told
    assert f"remove the folder {path.parent} and run `tilth generate`" in told
    shutil.rmtree(path.parent)
    assert spawner.run(loop.root, "generate").code == 0
    assert len(loop.teacher.requests) == asked
    assert path.read_bytes() == whole or name == "manifest.json"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_nothing_is_paid_or_trained_for_a_release_whose_model_was_cut(
    spawner: Spawner, turned_once: Loop, copy: Copy, name: str
) -> None:
    loop = copy(turned_once)
    loop.commit(FERRY, knowledge_files(FERRY))
    path, asked = cut(loop.state / "releases/0001/model" / name), len(loop.teacher.requests)
    told = one_line(spawner, loop, "cycle")
    assert told == f"tilth: {path}: not the file that was written; {told.partition('; ')[2]}"
    assert "restore it from an export, or roll back to another release" in told
    assert len(loop.teacher.requests) == asked
    assert spawner.run(loop.root, "releases", "verify").code == 1


def test_a_replay_buffer_that_was_cut_is_taken_from_its_cycle(turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    workspace, release = loop.workspace, find_release(loop.workspace, 1)
    whole = read_past(workspace, release, 2)
    assert whole.entries
    cut(replay_buffer(workspace, 1))
    assert read_past(workspace, release, 2) == whole
    replay_buffer(workspace, 1).unlink()
    assert read_past(workspace, release, 2) == whole
    cut(loop.state / "cycles/0001/train/replay.jsonl")
    with pytest.raises(DataError, match=r"0001\.jsonl: not the replay buffer that was written; restore it"):
        read_past(workspace, release, 2)


@pytest.mark.slow  # trains and examines a student
@pytest.mark.parametrize(
    "name",
    [
        "cycles/0002/train/01-short/result.json",
        "cycles/0002/train/02-all/data.jsonl",
        "cycles/0002/train/02-all/model/model.safetensors",
        "cycles/0002/train.json",
        "cycles/0002/entries.json",
    ],
)
def test_records_of_an_open_cycle_are_made_again(spawner: Spawner, trained: Loop, copy: Copy, name: str) -> None:
    loop, asked = copy(trained), len(trained.teacher.requests)
    cut(loop.state / name)
    ran = spawner.run(loop.root, "cycle")
    assert (ran.code, "this is release 2" in ran.out) == (0, True), ran.err
    assert len(loop.teacher.requests) == asked


@pytest.mark.parametrize("name", ["judgement.json", "eval.json", "train.json", "done.json", "cycle.json"])
def test_records_of_a_finished_cycle_are_named(spawner: Spawner, turned_once: Loop, copy: Copy, name: str) -> None:
    loop = copy(turned_once)
    path = cut(loop.state / "cycles/0001" / name)
    told = one_line(spawner, loop, "report", "1")
    assert told.startswith(f"tilth: {path}: not valid JSON (")
    assert "; restore it, or remove its folder and run `tilth cycle`" in told


def test_the_pointer_to_the_current_release_is_written_anew(spawner: Spawner, turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    path = cut(loop.state / "releases/current.json")
    assert "`tilth releases rollback N` writes it anew" in one_line(spawner, loop, "diff")
    assert spawner.run(loop.root, "releases", "rollback", "1").code == 0
    assert path.read_bytes() == (turned_once.state / "releases/current.json").read_bytes()
    assert spawner.run(loop.root, "cycle").out.startswith("nothing to do")


def test_an_answer_that_was_cut_is_asked_again(spawner: Spawner, turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    files = {path: path.read_bytes() for path in loop.state.glob("answers/*.jsonl")}
    for path in files:
        cut(path)
    assert spawner.run(loop.root, "eval").code == 0
    assert {path: sorted(path.read_bytes().splitlines()) for path in files} == {
        path: sorted(data.splitlines()) for path, data in files.items()
    }
