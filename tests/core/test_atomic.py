"""core/atomic: whole or absent, whatever happens in the middle."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tilth.core.atomic import copy_folder, new_folder, read_json, write_bytes, write_json, write_text
from tilth.core.errors import DataError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "é\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xc3\xa9\n"
    assert names(tmp_path / "a") == ["b.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_bytes(path, b"old")

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state.json"]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_bytes(path, b"old")
    code = f"""
import os, pathlib, signal
from tilth.core.atomic import write_bytes
os.fsync = lambda _descriptor: os.kill(os.getpid(), signal.SIGKILL)
write_bytes(pathlib.Path({str(path)!r}), b"new")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [".state.json.tilth.tmp", "state.json"]
    write_bytes(path, b"n")
    assert path.read_bytes() == b"n"
    assert names(tmp_path) == ["state.json"]


def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    texts = [sign * 100_000 for sign in (b"a", b"b", b"c", b"d")]
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda number: write_bytes(path, texts[number % 4]), range(40)):
            assert path.read_bytes() in texts
    assert names(tmp_path) == ["state.json"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / ".state.json.tilth.tmp").symlink_to("outside")
    with pytest.raises(OSError, match="symbolic link"):
        write_bytes(tmp_path / "state.json", b"new")
    assert (tmp_path / "outside").read_bytes() == b"mine"


def test_json_has_one_form(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, "é"], "a": None})
    assert path.read_text(encoding="utf-8") == '{\n  "a": null,\n  "b": [\n    1,\n    "é"\n  ]\n}\n'
    assert read_json(path) == {"a": None, "b": [1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"a": None, "b": [1, "é"]}


def test_missing_and_broken_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match=r"a\.json: the file is missing"):
        read_json(path)
    for broken in (b'{"a": ', b"\xff"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.json: not valid JSON .*; remove it and run again"):
            read_json(path)


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "store" / "entry"
    with new_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "samples.jsonl").write_text("1\n", encoding="utf-8")
        assert not path.exists()
    assert names(path) == ["inner"]
    assert names(path.parent) == ["entry"]


def test_a_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    for name in ("first", "second"):
        with new_folder(path) as folder:
            (folder / name).touch()
    assert names(path) == ["second"]
    assert names(tmp_path) == ["entry"]


def test_what_others_have_beside_it_is_left_alone(tmp_path: Path) -> None:
    theirs = [".entry.old", ".entry.tmp", ".entry.lock"]
    for name in theirs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    for _ in range(2):
        with new_folder(tmp_path / "entry"):
            pass
    assert names(tmp_path) == sorted([*theirs, "entry"])
    assert all(names(tmp_path / name) == ["precious"] for name in theirs)


def test_of_two_who_make_the_same_folder_one_waits(tmp_path: Path) -> None:
    path, whole = tmp_path / "entry", list[list[str]]()

    def make(number: int) -> None:
        with new_folder(path) as folder:
            for name in "abc":
                (folder / f"{number}{name}").touch()
                time.sleep(0.002)
        with contextlib.suppress(FileNotFoundError):  # the next one is being put in its place
            whole.append(names(path))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(16)))
    assert all([name[-1] for name in found] == ["a", "b", "c"] for found in whole)
    assert whole
    assert names(tmp_path) == ["entry"]


def test_a_place_that_cannot_be_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "entry", Path("/proc/entry")):
        with pytest.raises(OSError, match=re.escape(str(path.parent))) as caught, new_folder(path):
            pass
        assert "tilth" not in str(caught.value).replace(str(tmp_path), "")


def test_a_failed_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    with new_folder(path) as folder:
        (folder / "first").touch()
    with pytest.raises(DataError), new_folder(path) as folder:
        read_json(folder / "nothing.json")
    assert names(path) == ["first"]
    assert names(tmp_path) == ["entry"]


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    with new_folder(path) as folder:
        (folder / "old").touch()
    code = f"""
import os, pathlib, shutil, signal
from tilth.core.atomic import copy_folder, new_folder
with new_folder(pathlib.Path({str(path)!r})) as folder:
    (folder / "new").touch()
    shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert names(path) == ["new"]
    with new_folder(path):
        pass
    assert names(tmp_path) == ["entry"]


def test_a_folder_is_copied_up_to_the_first_file_that_the_disk_refuses(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for name in ("a", "b/a", "b/left out", "c"):
        write_text(one / name, name)
    copy_folder(one, two, copy=os.link, without="left out")
    assert {path.relative_to(two).as_posix() for path in two.rglob("*")} == {"a", "b", "b/a", "c"}
    assert (two / "a").samefile(one / "a")

    def full(_: Path, new: Path) -> None:
        if new.name == "a":
            raise OSError(errno.ENOSPC, "No space left on device", str(new))
        raise AssertionError(new)

    with pytest.raises(OSError, match=r"No space left on device: '.*three/a'"):
        copy_folder(one, tmp_path / "three", copy=full)
