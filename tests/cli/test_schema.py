"""`tilth schema`: printed or written, and wrong versions refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..loop import Spawner


def test_the_schema_is_printed(spawner: Spawner, tmp_path: Path) -> None:
    whole = json.loads(spawner.run(tmp_path, "schema").out)
    skill = json.loads(spawner.run(tmp_path, "schema", "--kind", "skill", "--version", "2").out)
    assert {"KnowledgeV4", "SkillV2", "SkillV4"} <= whole["$defs"].keys()
    assert skill["properties"]["version"]["enum"] == [2]
    assert skill["$defs"].keys() == {"SkillSeed", "SkillV2"}


def test_the_schema_is_written_into_the_taxonomy(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / "knowledge" / "music").mkdir(parents=True)
    ran = spawner.run(tmp_path / "knowledge" / "music", "schema", "--write")
    assert (ran.code, ran.out.split(";")[0]) == (0, "wrote ../../qna.schema.json")
    assert (tmp_path / "qna.schema.json").read_text() == spawner.run(tmp_path, "schema").out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--version", "9"], "tilth: there is no version 9 of qna.yaml; use one of: 1, 2, 3, 4\n"),
        (["--kind", "knowledge", "--version", "1"], "tilth: there is no version 1 of knowledge; use one of: 3, 4\n"),
        (["--write"], "there is no taxonomy here"),
        (
            ["--write", "--kind", "skill"],
            "qna.schema.json serves all leaves; leave --kind and --version out, or --write",
        ),
    ],
)
def test_what_there_is_not_is_told_in_a_line(spawner: Spawner, tmp_path: Path, arguments: list[str], line: str) -> None:
    ran = spawner.run(tmp_path, "schema", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert line in ran.err
