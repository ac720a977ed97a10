"""For all tests: hypothesis without its clock (a busy machine is no failure), and with the same examples every time.

For the tests of cycle and cli: a whole loop in miniature (`loop.py`), turned once or twice, to be copied.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings
from tilth.core.progress import SilentProgress

from .loop import FERRY, Loop, Spawner, Teacher, knowledge_files, make_loop, make_student, serve_teacher

settings.register_profile("tilth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tilth")

# What a shell runs in the background ignores SIGINT, and its children inherit that: Ctrl-C could not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the miniature loop runs in one process of several, so that the loop is turned once."""
    for item in items:
        if {"untouched", "turned_once", "trained"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("loop"))


@pytest.fixture(scope="session")
def teacher() -> Generator[Teacher]:
    with serve_teacher() as teacher:
        yield teacher


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("tiny") / "student")


@pytest.fixture(scope="session")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Generator[Spawner]:
    spawner = Spawner(tmp_path_factory.mktemp("spawner"))
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher, tiny_student: Path) -> Loop:
    """A workspace in which nothing was done yet; not to be changed."""
    return make_loop(tmp_path_factory.mktemp("untouched") / "taxonomy", teacher, tiny_student)


@pytest.fixture(scope="session")
def turned_once(tmp_path_factory: pytest.TempPathFactory, untouched: Loop, spawner: Spawner) -> Loop:
    """A workspace with a first release, made by `tilth cycle`; not to be changed."""
    loop = untouched.copy(tmp_path_factory.mktemp("once") / "taxonomy")
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 0, ran.err
    return loop


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, turned_once: Loop) -> Loop:
    """A workspace whose second cycle, about a second leaf, is trained and no more; not to be changed."""
    from tilth.cycle.run import run_cycle

    loop = turned_once.copy(tmp_path_factory.mktemp("trained") / "taxonomy")
    loop.commit(FERRY, knowledge_files(FERRY))
    assert run_cycle(loop.workspace, SilentProgress(), until="train").outcome == "trained"
    return loop


@pytest.fixture(scope="session")
def turned_twice(tmp_path_factory: pytest.TempPathFactory, trained: Loop) -> Loop:
    """A workspace with a second release, the first one's child; not to be changed."""
    from tilth.cycle.run import run_cycle

    loop = trained.copy(tmp_path_factory.mktemp("twice") / "taxonomy")
    assert run_cycle(loop.workspace, SilentProgress()).outcome == "released"
    return loop


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Loop], Loop]:
    """A workspace of one's own, like another."""
    return lambda loop: loop.copy(tmp_path / "taxonomy")
