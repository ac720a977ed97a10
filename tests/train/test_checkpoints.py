from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.errors import CheckFailed
from tilth.train import checkpoints, disk
from tilth.train.auto import Resolved
from tilth.train.memory import Shape


def write(folder: Path, step: int) -> Path:
    """A checkpoint as the library writes it, still aside."""
    written = checkpoints.aside(folder) / f"checkpoint-{step}"
    (written / "global_step").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(b"weights" * step)
    (written / "global_step" / "rank0.pt").write_bytes(b"state")
    return written


def publish(folder: Path, step: int, keep: int = 1) -> Path:
    write(folder, step)
    checkpoints.publish(folder, step, keep=keep)
    return folder / f"checkpoint-{step}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_checkpoint_stays_and_nothing_else(tmp_path: Path) -> None:
    assert checkpoints.newest_whole(tmp_path, 99) is None
    for step in (2, 9, 10):
        published = publish(tmp_path, step)
        assert checkpoints.newest_whole(tmp_path, 99) == published
        assert names(tmp_path) == [published.name]
    assert checkpoints.step_of(published) == 10
    assert checkpoints.step_of(publish(tmp_path, 11, keep=2)) == 11
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-11"]


def test_what_was_being_written_is_no_checkpoint(tmp_path: Path) -> None:
    whole = publish(tmp_path, 4)
    write(tmp_path, 8)
    assert names(tmp_path) == [".unfinished", "checkpoint-4"]
    assert checkpoints.newest_whole(tmp_path, 99) == whole
    assert names(tmp_path) == ["checkpoint-4"]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "changed": lambda folder: (folder / "model.safetensors").write_bytes(b"weightz" * 8),
    "cut": lambda folder: (folder / "model.safetensors").write_bytes(b"weigh"),
    "gone": lambda folder: (folder / "global_step" / "rank0.pt").unlink(),
    "unsealed": lambda folder: (folder / checkpoints.MANIFEST).unlink(),
    "torn": lambda folder: (folder / checkpoints.MANIFEST).write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_deleted_and_the_one_before_it_taken(tmp_path: Path, damage: str) -> None:
    before, newest = publish(tmp_path, 4, keep=2), publish(tmp_path, 8, keep=2)
    DAMAGES[damage](newest)
    assert checkpoints.newest_whole(tmp_path, 99) == before
    assert names(tmp_path) == ["checkpoint-4"]


def test_a_checkpoint_of_more_steps_than_are_logged_is_not_taken(tmp_path: Path) -> None:
    before, _newest = publish(tmp_path, 4, keep=2), publish(tmp_path, 8, keep=2)
    assert checkpoints.newest_whole(tmp_path, 7) == before
    assert names(tmp_path) == ["checkpoint-4"]
    assert checkpoints.newest_whole(tmp_path, 0) is None
    assert checkpoints.step_of(None) == 0


def shape(parameters: int) -> Shape:
    return Shape(
        parameters=parameters,
        embedding=0,
        tied=True,
        hidden=100,
        layers=1,
        intermediate=100,
        attention=100,
        keys=100,
        vocab=0,
        mlp=3 * 100 * 100,
    )


def phase(**settings: Any) -> Resolved:
    given: dict[str, Any] = {"name": "p", "kinds": ("skill",), "select": {"by": "last"}, **settings}
    return Resolved.model_validate(given)


def test_a_phase_needs_two_checkpoints_or_its_checkpoint_and_its_model() -> None:
    full = disk.disk_of(phase(), shape(1000), keep_checkpoints=1)
    assert (full.checkpoint, full.model, full.most) == (12_000, 4000, 24_000)
    selecting = disk.disk_of(phase(select={"by": "held_out"}), shape(1000), keep_checkpoints=2)
    assert selecting.most == 3 * 12_000 + 4000
    lora = disk.disk_of(phase(adapter="lora", lora={"rank": 1}), shape(1_000_000), keep_checkpoints=1)
    assert lora.checkpoint == 12 * (2 * 200 * 2 + 3 * 200)
    assert lora.most == lora.checkpoint + 4_000_000
    part = disk.disk_of(phase(trainable="mlp"), shape(1_000_000), keep_checkpoints=1)
    assert (part.checkpoint, part.model) == (4_000_000 + 8 * shape(1_000_000).mlp, 4_000_000)


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = [(phase(name="one"), tmp_path / "out" / "01-one"), (phase(name="two"), tmp_path / "out" / "02-two")]
    free = SimpleNamespace(free=26_000_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free if folder == tmp_path else None)

    def check() -> None:
        disk.check_disk(phases, shape(1_000_000_000), keep_checkpoints=1)

    message = (
        r"'two': it needs up to 28\.0 GB of disk \(2 checkpoints of 12\.0 GB, 1 model of 4\.0 GB\), "
        r"but only 26\.0 GB are free; free some \(`tilth releases prune` shows what may go\), or train with "
        r"`adapter: lora`"
    )
    with pytest.raises(CheckFailed, match=message):
        check()
    free.free = 28_000_000_000
    check()


def test_what_an_interrupted_run_has_left_is_part_of_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "01-p" / "checkpoints" / "inputs", 500)
    there = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    need = disk.disk_of(phase(), shape(1000), keep_checkpoints=1).most
    for free, refused in ((need - there, False), (need - there - 1, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda _folder, free=free: SimpleNamespace(free=free))
        with pytest.raises(CheckFailed) if refused else contextlib.nullcontext():
            disk.check_disk([(phase(), tmp_path / "01-p")], shape(1000), keep_checkpoints=1)
