"""docs/python.md, run to the letter in a workspace of its own; and the methods where a notebook or a wrong name is."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tilth import ConfigError, NotComplete, TilthError, Workspace

from ..loop import FERRY, MILL, SKILL, Loop, Spawner

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
Copy = Callable[[Loop], Loop]


class Example(NamedTuple):
    """A block of Python and what it is said to print; nothing is said: it prints nothing."""

    code: str
    prints: str


def examples() -> list[Example]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```\n+(?:^```text\n(.*?)^```$)?", text, flags=re.DOTALL | re.MULTILINE)
    return [Example(*each) for each in found]


def fits(shown: str, printed: str) -> bool:
    """Whether that was printed; a line `…` stands for any number of lines, `…` in a line for any text."""
    lines = (
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown.splitlines()
    )
    return re.fullmatch("".join(lines), printed) is not None


def test_the_page_does_what_it_says(trained: Loop, spawner: Spawner, tmp_path: Path) -> None:
    trained.copy(tmp_path / "garden")
    end = "\nprint('\\x1e', end='')\n"
    script = "".join(example.code + end for example in examples()) + "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    ran = spawner.run(tmp_path, "train", before=script)
    assert ran.code == 0, ran.err
    printed = ran.out.split("\x1e")[:-1]
    assert len(printed) == len(examples()) > 10
    for example, out in zip(examples(), printed, strict=True):
        assert fits(example.prints, out), f"{example.code}\n{out}"
    assert (tmp_path / "release-1" / "model.safetensors").exists()


def test_the_page_names_every_method_and_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(?:Workspace\.)?(\w+)\(", row)}
    methods = {name for name, value in vars(Workspace).items() if not name.startswith("_") and callable(value)}
    assert named == methods | {"open", "init"}


def test_models_are_asked_where_a_loop_runs_already(untouched: Loop, copy: Copy) -> None:
    loop = copy(untouched)

    async def cell() -> list[str]:
        await asyncio.sleep(0)
        garden = Workspace.open(loop.root)
        assert {each.leaf for each in garden.forecast()} == {MILL, SKILL}
        return [entry.leaf for entry in garden.generate()]

    assert asyncio.run(cell()) == [SKILL, MILL]
    garden = Workspace.open(loop.root, {"student.system_prompt": "Hi 😀"})
    assert garden.config.student.system_prompt == "Hi 😀"
    assert garden.forecast() == []
    assert {sample.kind for sample in garden.samples(kind="skill")} == {"skill"}
    assert {sample.source.leaf for sample in garden.samples("mill")} == {MILL}


def test_interrupt_stops_what_runs_beside_a_notebooks_loop(untouched: Loop, copy: Copy) -> None:
    loop = copy(untouched)
    before = len(loop.teacher.requests)

    async def cell() -> None:
        Workspace.open(loop.root).generate()

    loop.teacher.reached = lambda: signal.raise_signal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())
    finally:
        loop.teacher.reached = lambda: None
    assert len(loop.teacher.requests) > before
    assert [entry.leaf for entry in Workspace.open(loop.root).generate()] == [SKILL, MILL]


def test_a_leaf_that_cannot_be_read_harms_no_other(untouched: Loop, copy: Copy) -> None:
    loop = copy(untouched)
    loop.commit(FERRY, {"qna.yaml": "version: 4\n"})
    with pytest.raises(NotComplete, match=FERRY) as raised:
        Workspace.open(loop.root).generate(MILL, FERRY)
    assert [entry.leaf for entry in raised.value.entries] == [MILL]


def test_what_is_wrong_is_told_in_one_line(
    untouched: Loop, copy: Copy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = copy(untouched).root  # a roll back takes the lock, so it writes
    garden = Workspace.open(root)
    for call in (
        garden.result,
        lambda: garden.report(3),
        lambda: garden.rollback(1),
        lambda: garden.lint("x"),
    ):
        with pytest.raises(TilthError, match=r"there is no .*; .+"):
            call()
    with pytest.raises(ConfigError, match="run `tilth init` first"):
        Workspace.open(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ConfigError, match=r"--set gate\.max_loss"):
        Workspace.open(root, {"gate.max_loss": "much"})


def test_a_small_number_is_a_number(untouched: Loop) -> None:
    assert Workspace.open(untouched.root, {"gate.max_loss": 1e-05}).config.gate.max_loss == 1e-05
