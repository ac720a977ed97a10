"""docs/guide.md: its commands are run where the tiny loop can run them, the others parsed, its settings read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from tilth.cli.main import app
from tilth.core.config import Config, load_config
from tilth.taxonomy.contribute import commit_files, init_repository
from tilth.train.plan import load_plan

from ..loop import FERRY, Loop, Spawner, knowledge_files, skill_files
from .test_guide import commands, run

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
PAGE = GUIDE.read_text(encoding="utf-8")
CHECKS_SAY_NO = {
    "tilth lint knowledge/science/botany/ferns",
    "tilth generate --max-calls 20",
    "tilth cycle --set gate.min_gain=0.9",
}


class Block(NamedTuple):
    section: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
            if language in languages:
                yield Block(section.partition("\n")[0], language, text)


@pytest.fixture
def follow(spawner: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs what stands in sections, one after the other, from a folder on; a command has to print what is shown."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def followed(place: Path, *sections: str) -> None:
        shown = [block for block in blocks("console") if block.section in sections]
        assert {block.section for block in shown} == set(sections)
        for command, lines in (each for block in shown for each in commands(block.text)):
            words = shlex.split(command)
            if words[0] == "cd":
                place /= words[1]
                continue
            ran = spawner.run(place, *words[1:]) if words[0] == "tilth" else run(place, words)
            assert ran.code == (command in CHECKS_SAY_NO), f"{command}\n{ran.out}{ran.err}"
            assert prints(lines, ran.out), f"{command}\n{ran.out}{ran.err}"

    return followed


def prints(shown: list[str], out: str) -> bool:
    """Whether the lines shown are those printed; `…` stands for lines left out, or for the rest of one."""
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown)
    return re.fullmatch(pattern, out) is not None


def test_a_new_workspace_and_an_adopted_one(follow: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "ferns.md").write_text("# Ferns\n\nFerns grow in the shade.\n")
    taxonomy = tmp_path / "taxonomy"
    leaf = taxonomy / "compositional_skills/writing/haiku"
    leaf.mkdir(parents=True)
    init_repository(taxonomy)
    for name, text in skill_files().items():
        (leaf / name).write_text(text.replace("version: 4", "version: 2"))
    commit_files(taxonomy, list(leaf.iterdir()), "Add a leaf")
    follow(tmp_path, "A laptop", "Your own documents", "An InstructLab taxonomy")


def test_samples(follow: Callable[..., None], copy: Callable[[Loop], Loop], untouched: Loop) -> None:
    follow(copy(untouched).root, "A teacher of your own")


def test_what_training_will_take_and_the_workflows(
    follow: Callable[..., None], copy: Callable[[Loop], Loop], turned_once: Loop
) -> None:
    loop = copy(turned_once)
    loop.commit(FERRY, knowledge_files(FERRY))
    follow(loop.root, "One GPU", "CI")


def test_a_branch(follow: Callable[..., None], copy: Callable[[Loop], Loop], turned_once: Loop) -> None:
    loop = copy(turned_once)
    run(loop.root, ["git", "checkout", "--quiet", "-b", "ferry"])
    loop.commit(FERRY, knowledge_files(FERRY))
    run(loop.root, ["git", "checkout", "--quiet", "-"])
    follow(loop.root, "A branch before it is merged")


def test_a_cycle_that_is_refused(follow: Callable[..., None], copy: Callable[[Loop], Loop], trained: Loop) -> None:
    loop = copy(trained)
    follow(loop.root, "A cycle that is refused or inconclusive")
    assert loop.release(2)["cycle"] == 2  # what the first of its two cycles trained was trained once


def test_releases_and_their_disk(follow: Callable[..., None], copy: Callable[[Loop], Loop], turned_twice: Loop) -> None:
    follow(copy(turned_twice).root, "Releases", "Disk and retention")


def test_a_backup_is_enough_to_go_on(
    follow: Callable[..., None], copy: Callable[[Loop], Loop], turned_twice: Loop
) -> None:
    loop, asked = copy(turned_twice), len(turned_twice.teacher.requests)
    commit_files(loop.root, [loop.root / "tilth.yaml", loop.root / "plan.yaml"], "Settings")
    follow(loop.root, "Backup and restore")
    assert {path.name for path in loop.root.parent.glob("restored/.tilth/*")} >= {"ledger.db", "releases", "store"}
    assert len(turned_twice.teacher.requests) == asked


def written_commands() -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in blocks("console", "bash")
        for line in block.text.splitlines()
        if line.removeprefix("$ ").startswith("tilth")
    ]


@pytest.mark.parametrize("command", sorted(set(written_commands())))
def test_commands_parse(command: str) -> None:
    verb, arguments = found(shlex.split(command)[1:])
    verb.make_context(command, arguments)


def test_parsing_finds_what_is_wrong() -> None:
    for command in ("releases rollback two", "train --proceses 2", "serve 1 --port"):
        verb, arguments = found(command.split())
        with pytest.raises(Exception, match=r"integer|proceses|port"):
            verb.make_context("tilth", arguments)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`(tilth [a-z][^`]*)`", PAGE))))
def test_commands_in_sentences_are_there(command: str) -> None:
    verb, arguments = found(shlex.split(command.rstrip("…"))[1:])
    flags = {flag for parameter in verb.params for flag in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= flags | {"--help"}


def found(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command of a command line, and what is left for it."""
    command: Any = typer.main.get_command(app)
    while arguments and not arguments[0].startswith("-") and hasattr(command, "list_commands"):
        context = typer.Context(command)
        command, arguments = command.get_command(context, arguments[0]), arguments[1:]
        assert command
    return command, arguments


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=lambda block: block.section)
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(block.text)
    if "phases" in yaml.safe_load(block.text):
        load_plan(str(file))
    else:
        load_config(file)


def test_settings_in_sentences_are_there() -> None:
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    named = re.findall(rf"(?<!\[)`({'|'.join(sections)})\.(\w+)", PAGE)
    assert ("teacher", "patience_s") in named
    assert [f"{part}.{name}" for part, name in named if name not in sections[part].model_fields] == []


def test_places_that_it_points_to_are_there() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert (GUIDE.parent / path).exists(), target
        assert path or anchor in anchors, target
