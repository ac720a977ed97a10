"""Releases: hashed whole, read-only, pinned, and older records of them."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
from tilth.core.atomic import read_json, write_json
from tilth.core.errors import DataError, TilthError
from tilth.core.fingerprint import file_sha256
from tilth.core.progress import SilentProgress
from tilth.cycle.export import export_release
from tilth.cycle.models import find_model
from tilth.cycle.releases import (
    ancestors,
    current_release,
    disk_bytes,
    find_release,
    model_folder,
    pin,
    pinned,
    release_folder,
    releases,
    set_current,
)
from tilth.cycle.run import roll_back

from ..made_releases import WEIGHTS_BYTES, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made.at(tmp_path / "coast")
    for number in (1, 2, 3):
        made.release(number)
    return made


def test_every_file_is_hashed_and_read_only(made: Made, tmp_path: Path) -> None:
    release, folder = find_release(made.workspace, 2), release_folder(made.workspace, 2)
    assert set(release.files) == {
        "model/model.safetensors", "model/config.json", "model/README.md", "dataset/README.md",
    }  # fmt: skip
    for name, sha256 in release.files.items():
        assert file_sha256(folder / name) == sha256
        assert not (folder / name).stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert WEIGHTS_BYTES < disk_bytes(made.workspace, 2) < WEIGHTS_BYTES + 5000
    export_release(made.workspace, 2, tmp_path / "out", SilentProgress())
    assert (tmp_path / "out/model.safetensors").stat().st_mode & stat.S_IWUSR


def test_a_record_of_an_older_version_is_read(made: Made) -> None:
    path = release_folder(made.workspace, 1) / "release.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name not in {"files", "replay_sha256"}})
    assert [len(release.files) for release in releases(made.workspace)] == [0, 4, 4]
    assert not find_release(made.workspace, 1).replay_sha256


def test_the_line_that_a_release_grew_from(made: Made) -> None:
    made.release(4, parent=1)
    assert [each.number for each in ancestors(made.workspace, find_release(made.workspace, 3))] == [2, 1]
    assert [each.number for each in ancestors(made.workspace, find_release(made.workspace, 4))] == [1]
    (release_folder(made.workspace, 1) / "release.json").unlink()
    assert [each.number for each in ancestors(made.workspace, find_release(made.workspace, 3))] == [2]


def test_pins(made: Made) -> None:
    assert pinned(made.workspace) == set()
    for number in (3, 1, 1):
        pin(made.workspace, number)
    assert pinned(made.workspace) == {1, 3}
    pin(made.workspace, 3, wanted=False)
    pin(made.workspace, 2, wanted=False)
    assert pinned(made.workspace) == {1}
    with pytest.raises(TilthError, match="there is no release 9; releases: 1, 2, 3"):
        pin(made.workspace, 9)
    write_json(made.workspace.releases / "pinned.json", {"releases": ["x"]})
    with pytest.raises(DataError, match="does not list releases; remove it, and pin the releases again"):
        pinned(made.workspace)


def test_where_the_current_release_is_gone_another_one_can_be_made_current(made: Made) -> None:
    shutil.rmtree(release_folder(made.workspace, 3))
    said = "the current release is gone; restore it, or make another one current: `tilth releases rollback N`; there: 1"
    with pytest.raises(DataError, match=said):
        current_release(made.workspace)
    assert roll_back(made.workspace, 2, SilentProgress()) == current_release(made.workspace)


def test_what_was_pruned_is_neither_used_nor_rolled_back_to(made: Made, tmp_path: Path) -> None:
    write_json(release_folder(made.workspace, 1) / "pruned.json", {})
    said = "the model of release 1 was pruned; take a release that has its model: 2, 3"
    for use in (
        lambda: model_folder(made.workspace, find_release(made.workspace, 1)),
        lambda: set_current(made.workspace, 1),
        lambda: pin(made.workspace, 1),
        lambda: find_model(made.workspace, "1", SilentProgress()),
        lambda: export_release(made.workspace, 1, tmp_path / "out", SilentProgress()),
    ):
        with pytest.raises(TilthError) as caught:
            use()
        assert str(caught.value) == said
    assert current_release(made.workspace) == find_release(made.workspace, 3)
    assert not (tmp_path / "out").exists()
