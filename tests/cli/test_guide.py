"""docs/contributing-a-leaf.md, followed to the letter: its commands are run, its files are saved where it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ..loop import Ran, Spawner

GUIDE = Path(__file__).parents[2] / "docs" / "contributing-a-leaf.md"
FAILS = {"tilth lint knowledge/crafts/kestrel_loom": 1}
"""Commands that end with another code than 0 when they are met first."""


class Block(NamedTuple):
    """A fenced block: its language, its text, and the file as which the paragraph before it says to save it."""

    language: str
    text: str
    saved_as: str


def blocks() -> Iterator[Block]:
    parts = re.split(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for before, language, text in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        saved = re.search(r"Save (?:this|it) as\s+`([^`]+)`:\s*\Z", before)
        yield Block(language, text, saved[1] if saved else "")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


def prints(shown: list[str], out: str) -> bool:
    """Whether the lines shown are those printed; `…` stands for any number of lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else re.escape(line) + r"\n" for line in shown)
    return re.fullmatch(pattern, out) is not None


def test_the_guide_does_what_it_says(spawner: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place, first = tmp_path, dict(FAILS)
    for block in blocks():
        if block.saved_as:
            (place / block.saved_as).write_text(block.text)
        for command, shown in commands(block.text) if block.language == "console" else ():
            words = shlex.split(command)
            if words[0] == "cd":
                place /= words[1]
                continue
            ran = spawner.run(place, *words[1:]) if words[0] == "tilth" else run(place, words)
            assert ran.code == first.pop(command, 0), f"{command}\n{ran.out}{ran.err}"
            assert prints(shown, ran.out), f"{command}\n{ran.out}{ran.err}"


def run(place: Path, words: list[str]) -> Ran:
    names = {f"GIT_{role}_{part}": "ada" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    ran = subprocess.run(words, cwd=place, env=os.environ | names, check=False, capture_output=True, text=True)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def test_the_guide_names_verbs_that_are_there() -> None:
    from tilth.cli.main import VERBS

    named = set(re.findall(r"(?:`|\$ )tilth (\w+)", GUIDE.read_text(encoding="utf-8")))
    assert named <= set(VERBS)
    assert {"init", "add", "lint", "show", "tree", "ci"} <= named
