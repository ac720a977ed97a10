"""A workspace on a disk that takes nothing: verbs that read work, verbs that write refuse in one line."""

from __future__ import annotations

import pytest

from ..loop import Loop, Spawner
from .disk import can_mount, read_only

pytestmark = pytest.mark.skipif(not can_mount(), reason="no disk can be mounted here")

READING = ("lint", "tree", "diff", "show mill", "samples", "ledger", "generate --dry-run", "releases verify")
WRITING = ("generate", "cycle", "report", "releases rollback 1", "add skill words --task Count.")


@pytest.mark.parametrize("verb", READING)
def test_verbs_that_read_work(spawner: Spawner, turned_once: Loop, verb: str) -> None:
    ran = spawner.run(turned_once.root, *verb.split(), before=read_only(turned_once.root))
    assert ran.code == 0, ran.err
    assert ran.out


@pytest.mark.parametrize("verb", WRITING)
def test_verbs_that_write_refuse(spawner: Spawner, turned_once: Loop, verb: str) -> None:
    ran = spawner.run(turned_once.root, *verb.split(), before=read_only(turned_once.root))
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith(f"tilth: {turned_once.root}/")
    assert "the file system is read-only" in ran.err
