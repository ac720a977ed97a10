"""For all tests: hypothesis without its clock (a busy machine is no failure), and with the same examples every time.

For the tests of cycle and cli: a whole loop in miniature (`loop.py`), turned once or twice, to be copied.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from .loop import (
    FERRY,
    HUB_TOKEN,
    KEY,
    RECORD_CHILDREN,
    Loop,
    Spawner,
    Teacher,
    knowledge_files,
    make_loop,
    serve_teacher,
)

settings.register_profile("tilth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tilth")

# What a shell runs in the background ignores SIGINT, and its children inherit that: Ctrl-C could not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what `nohup` runs that of a terminal that is closed


FAST = "not slow and not models"
"""Those of `make check`."""


def pytest_configure(config: pytest.Config) -> None:
    """Bytecode is kept, whatever a container says: half of collecting is to compile, and tests start Pythons.

    Files of the fast tests go to memory where there is room: they wait thousands of times until a byte is on disk.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    memory = os.statvfs("/dev/shm")
    roomy = memory.f_bavail * memory.f_frsize > 2 << 30 and not memory.f_flag & os.ST_NOEXEC  # tests write scripts
    if roomy and config.getoption("markexpr") == FAST:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that turn a loop, or run a command, are slow without saying so."""
    for item in items:
        if isinstance(item, pytest.Function) and {"spawner", "untouched"} & {*item.fixturenames}:
            item.add_marker(pytest.mark.slow)


LOOP = ("tests/cli/", "tests/cycle/", "tests/reliability/", "tests/security/")
"""Tests that share a workspace which was turned once."""

TORCH = (
    "tests/train/",
    "tests/eval/test_run.py",
    "tests/llm/test_chat.py",
    "tests/llm/test_gguf_write.py",
    "tests/security/test_hostile_models.py",
    "tests/llm/test_local",
    "tests/llm/test_serve.py",
    "tests/llm/test_streaming.py",
    "tests/cycle/test_choosing.py",
    "tests/cycle/test_modelfile.py",
    "tests/sdg/test_export.py",
    "tests/cli/test_export_data.py",
)
"""Where torch is loaded, or datasets, which training loads too."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one has the spawner and turns the loop, one loads torch, and each file is run by one.

    Not by marks: pytest-xdist 3.8 does not see them where pytest is 9.2 (its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(TORCH):
                return "torch"
            return "loop" if nodeid.startswith(LOOP) else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def teacher() -> Generator[Teacher]:
    with serve_teacher() as teacher:
        yield teacher


@pytest.fixture(scope="session")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Generator[Spawner]:
    spawner = Spawner(tmp_path_factory.mktemp("spawner"))
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory, spawner: Spawner) -> Path:
    """Made by a process that has torch loaded."""
    folder = tmp_path_factory.mktemp("tiny") / "student"
    before = f"import pathlib, loop; loop.make_student(pathlib.Path({str(folder)!r}))"
    made = spawner.run(folder.parent, "train", "--help", before=before)
    assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher, tiny_student: Path) -> Loop:
    """A workspace in which nothing was done yet; not to be changed."""
    return make_loop(tmp_path_factory.mktemp("untouched") / "taxonomy", teacher, tiny_student)


@pytest.fixture(scope="session")
def turned_once(tmp_path_factory: pytest.TempPathFactory, untouched: Loop, spawner: Spawner) -> Loop:
    """A workspace with a first release, made by `tilth cycle` with a key; not to be changed.

    Beside it are what the command printed (`out`) and the processes that it started (`children.jsonl`).
    """
    folder = tmp_path_factory.mktemp("once")
    loop = untouched.copy(folder / "taxonomy")
    recording = RECORD_CHILDREN.format(file=str(folder / "children.jsonl"))
    ran = spawner.run(loop.root, "cycle", before=recording, OPENAI_API_KEY=KEY, HF_TOKEN=HUB_TOKEN)
    (folder / "out").write_text(ran.out + ran.err)
    assert ran.code == 0, ran.err
    return loop


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, turned_once: Loop, spawner: Spawner) -> Loop:
    """A workspace whose second cycle, about a second leaf, is trained and no more; not to be changed."""
    loop = turned_once.copy(tmp_path_factory.mktemp("trained") / "taxonomy")
    loop.commit(FERRY, knowledge_files(FERRY))
    ran = spawner.run(loop.root, "train")
    assert ran.code == 0, ran.err
    return loop


@pytest.fixture(scope="session")
def turned_twice(tmp_path_factory: pytest.TempPathFactory, trained: Loop, spawner: Spawner) -> Loop:
    """A workspace with a second release, the first one's child; not to be changed."""
    loop = trained.copy(tmp_path_factory.mktemp("twice") / "taxonomy")
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 0, ran.err
    return loop


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Loop], Loop]:
    """A workspace of one's own, like another."""
    return lambda loop: loop.copy(tmp_path / "taxonomy")
