"""`tilth releases verify`: what is missing, changed or extra is named, and nothing else is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tilth.core.atomic import read_json, write_json, write_text
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle import verify as module
from tilth.cycle.candidate import _dataset
from tilth.cycle.prune import prunable, prune
from tilth.cycle.verify import Verified, verify
from tilth.sdg.store import Entry

from ..made_releases import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made.at(tmp_path / "coast")
    made.release(1, {"knowledge/mill": "mill"})
    made.release(2, {"knowledge/mill": "mill", "knowledge/ferry": "ferry"})
    return made


def check(made: Made, *numbers: int) -> list[Verified]:
    return verify(made.workspace, numbers, SilentProgress())


def faults(made: Made) -> list[tuple[int, str, str]]:
    return [(each.release, fault.where, fault.what) for each in check(made) for fault in each.faults]


def test_whole_releases_are_ok_and_shared_samples_read_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    read, sha256_of = list[Path](), module.file_sha256
    monkeypatch.setattr(module, "file_sha256", lambda path: (read.append(path), sha256_of(path))[1])
    found = check(made)
    assert [(each.release, each.pruned, each.listed, each.files, each.faults) for each in found] == [
        (1, False, True, 6, ()), (2, False, True, 7, ()),
    ]  # fmt: skip
    assert len(read) == len(set(read)) == 12
    assert [each.release for each in check(made, 2)] == [2]
    with pytest.raises(TilthError, match="there is no release 7; releases: 1, 2"):
        check(made, 7)


def truncate(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 5)


def flatter(path: Path) -> None:
    record = read_json(path)
    write_json(path, record | {"scores": {leaf: rate | {"correct": 99} for leaf, rate in record["scores"].items()}})


def unseal(path: Path) -> None:
    record = read_json(path)
    del record["record_sha256"]
    write_json(path, record)


@pytest.mark.parametrize(
    ("path", "harm", "what", "fix"),
    [
        ("releases/0002/model/model.safetensors", truncate, "changed", "restore it from an export, or roll back"),
        ("releases/0002/model/config.json", Path.unlink, "missing", "restore it from an export"),
        ("releases/0002/dataset/README.md", truncate, "changed", "restore it"),
        ("releases/0002/model/pickle.bin", Path.touch, "extra", "remove it: it is no part of the release"),
        ("replay/0002.jsonl", truncate, "changed", "restore it: the next cycle draws by it"),
        ("replay/0002.jsonl", Path.unlink, "missing", "restore it"),
        ("releases/0002/release.json", Path.unlink, "the file is missing", "restore it, or remove its folder"),
        ("releases/0002/release.json", flatter, "changed", "restore it: what it tells of scores and lineage"),
        ("releases/0002/release.json", unseal, "changed", "restore it: what it tells of scores and lineage"),
        ("releases/0002/release.json", truncate, "not valid JSON (", "restore it, or remove its folder"),
    ],
)
def test_each_fault_is_named(made: Made, path: str, harm: Callable[[Path], None], what: str, fix: str) -> None:
    harm(made.workspace.state / path)
    first, second = check(made)
    assert not first.faults
    (fault,) = second.faults
    assert fault.where == f".tilth/{path}"
    assert fault.what.startswith(what)
    assert fault.fix.startswith(fix)


def test_samples_that_left_the_store_are_named_with_their_leaf(made: Made) -> None:
    (entry,) = made.workspace.store.glob("mill-*")
    shutil.rmtree(entry)
    where = f".tilth/store/{entry.name}/samples.jsonl"
    assert faults(made) == [(1, where, "missing"), (2, where, "missing")]
    assert check(made)[0].faults[0].fix.startswith("it holds samples of knowledge/mill: restore it")


def test_pairs_of_answers_are_checked(made: Made) -> None:
    mill = made.entry("knowledge/mill", "mill")
    folder = made.workspace.store / mill.entry
    write_text(folder / "preferences.jsonl", "pair")
    entry = Entry(mill.leaf, mill.leaf_fingerprint, folder, samples=1, rejects=0, reused=True)
    made.release(3, datasets=[_dataset(entry)])
    assert faults(made) == []
    write_text(folder / "preferences.jsonl", "other pair")
    assert faults(made) == [(3, f".tilth/store/{mill.entry}/preferences.jsonl", "changed")]


def test_of_an_older_record_the_weights_are_checked(made: Made) -> None:
    folder = made.workspace.releases / "0001"
    record = read_json(folder / "release.json")
    write_json(
        folder / "release.json",
        {name: record[name] for name in record.keys() - {"files", "replay_sha256", "record_sha256"}},
    )
    (folder / "model/notes.txt").touch()
    assert [(each.listed, each.files, each.faults) for each in check(made, 1)] == [(False, 1, ())]
    truncate(folder / "model/model.safetensors")
    assert faults(made) == [(1, ".tilth/releases/0001/model", "its weights are not those of the record")]
    (folder / "model/model.safetensors").unlink()
    assert faults(made) == [(1, ".tilth/releases/0001/model", "there are no safetensors weights")]


def test_a_record_that_was_written_anew_does_not_hide_other_weights(made: Made) -> None:
    folder = made.workspace.releases / "0001"
    record, weights = read_json(folder / "release.json"), folder / "model/model.safetensors"
    truncate(weights)
    files = record["files"] | {"model/model.safetensors": module.file_sha256(weights)}
    write_json(folder / "release.json", record | {"files": files})
    assert faults(made) == [
        (1, ".tilth/releases/0001/release.json", "changed"),
        (1, ".tilth/releases/0001/model", "its weights are not those of the record"),
    ]


def test_of_a_pruned_release_what_is_kept_is_checked(made: Made) -> None:
    prune(made.workspace, prunable(made.workspace, 1))
    assert [(each.pruned, each.files, each.faults) for each in check(made)] == [(True, 4, ()), (False, 7, ())]
    truncate(made.workspace.releases / "0001/model/README.md")
    assert faults(made) == [(1, ".tilth/releases/0001/model/README.md", "changed")]
