"""Other users of the machine: what they can read, write, reach and put in the way."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tilth.core import atomic
from tilth.core.errors import TaxonomyError
from tilth.core.workspace import STATE_NAME
from tilth.taxonomy.repository import refuse_tracked

from ..loop import Loop, Spawner


def test_a_cycle_gives_others_no_more_than_the_umask_does(turned_once: Loop) -> None:
    mask = os.umask(0o077)
    os.umask(mask)
    made = [path for path in (turned_once.state, *turned_once.state.rglob("*")) if not path.is_symlink()]
    assert {"ledger.db", "release.json", "report.html", "model.safetensors"} <= {path.name for path in made}
    assert mask & stat.S_IWOTH  # else nothing is shown here
    assert [path for path in made if path.stat().st_mode & mask] == []


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_users_umask_is_obeyed(spawner: Spawner, untouched: Loop, copy: Any, mask: int) -> None:
    loop = copy(untouched)
    ran = spawner.run(loop.root, "generate", before=f"import os; os.umask({mask})")
    assert ran.code == 0, ran.err
    made = [path for path in loop.state.rglob("*") if not path.is_symlink()]
    assert {"ledger.db", "lock", "manifest.json", "samples.jsonl"} <= {path.name for path in made}
    assert [path for path in made if path.stat().st_mode & mask] == []


@pytest.mark.parametrize(
    ("what", "said"), [("link", "symbolic link"), ("pipe", "No such device"), ("pipe that is read", "not a file")]
)
def test_what_lies_in_the_way_of_a_temporary_file_is_not_written_through(tmp_path: Path, what: str, said: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    way = tmp_path / ".file.json.tilth.tmp"
    way.symlink_to(victim) if what == "link" else os.mkfifo(way)
    reader = os.open(way, os.O_RDONLY | os.O_NONBLOCK) if what == "pipe that is read" else 0
    with pytest.raises(OSError, match=said):
        atomic.write_text(tmp_path / "file.json", "ours")
    if reader:
        os.close(reader)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("brought", ["store/x/manifest.json", "releases/0001/release.json", "lock", ""])
def test_state_that_a_contribution_brings_is_refused(
    untouched: Loop, spawner: Spawner, copy: Any, brought: str
) -> None:
    """Samples and releases of somebody else, a link in place of the lock, or of the whole folder."""
    loop = copy(untouched)
    victim = loop.root.parent / "victim"
    victim.mkdir()
    place = loop.root / STATE_NAME / brought
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim) if brought in {"lock", ""} else place.write_text("{}")
    subprocess.run(["git", "add", "--force", STATE_NAME], cwd=loop.root, check=True)
    for verb in (
        ["generate"],
        ["lint"],
        ["releases"],
        ["samples"],
        ["cycle", "--explain"],
        ["init", "."],
        ["demo", "."],
    ):
        ran = spawner.run(loop.root, *verb)
        assert ran.code == 2, ran.out
        assert f"git tracks '{STATE_NAME}" in ran.err
        assert ran.err.count("\n") == 1
    assert list(victim.iterdir()) == []
    with pytest.raises(TaxonomyError, match="git rm -r"):
        refuse_tracked(loop.root, STATE_NAME)


def test_what_git_tracks_of_a_workspace_in_a_folder_of_a_repository_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "sub"
    (inner / STATE_NAME).mkdir(parents=True)
    (inner / STATE_NAME / "ledger.db").write_text("x")
    for command in (["init", "-q"], ["add", "-f", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    with pytest.raises(TaxonomyError, match=rf"git tracks 'sub/{re.escape(STATE_NAME)}/ledger.db'"):
        refuse_tracked(inner, STATE_NAME)
