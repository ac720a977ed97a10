"""Our verdict on a `qna.yaml` is that of the public tools (`instructlab-schema`), but for the differences listed here.

Both are run on every leaf of two public taxonomies, and on leaves made wrong in every way that mutations.py knows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from instructlab.schema.taxonomy import DEFAULT_YAMLLINT_CONFIG, TaxonomyParser, TaxonomyReadingException
from tilth.taxonomy.qna import LeafProblems, parse_qna
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import leaf_ids
from yamllint import linter
from yamllint.config import YamlLintConfig

from .conftest import SHARED
from .mutations import mutations

WE_REFUSE = {
    "set to blank": "a text of nothing but white space says nothing",
    "a seed twice but for white space|a pair twice but for a note": "what says the same is no second example",
    "one seed with context|context removed": "a leaf is grounded or it is not; their generator refuses it later",
    "key twice|key in a seed twice": "in version 1 they take the last of them; from version 2 on they refuse them too",
    "only .*": "an empty file is no leaf; they warn of it and go on",
    "written: escaped control": "an escape sequence is for terminals, not for texts",
    "written: escaped half": "half a character can be written to no file",
    "number as key in a seed": "they let any key stand in a pair of a knowledge leaf; ours must be text",
    "merge key": "what is merged stands nowhere, so no place in the file could be told of it",
    "TAG directive": "no leaf needs tags",
}
"""Mutations -> why we refuse what they accept."""

WE_ACCEPT = {
    "version 4": "ours",
    "trailing space|blank line with spaces|no final newline": "form only, of which `tilth lint` warns and which --fix"
    " mends; they accept it in version 1 too, and refuse it from version 2 on",
    "trailing tab|tab after colon|written: text with a tab": "YAML lets a tab stand there; their parser does not",
    "written: date|written: sign with a meaning": "can only be meant as text",
}
"""Mutations -> why we accept what they refuse."""


class Theirs(TaxonomyParser):
    """Their parser; yamllint is called where they start it as a process, with their settings."""

    def __init__(self) -> None:
        super().__init__(schema_version=0, message_format="logging")  # 0: each file by its own version
        self.yq_available = False  # only tells lines

    def _yamllint(self, text: str, taxonomy: Any) -> None:
        for problem in linter.run(text, _YAMLLINT):
            if problem.level == "error":
                taxonomy.error("%s", problem.message)

    def accepts(self, file: Path) -> bool:
        try:
            return self.parse(file).errors == 0
        except TaxonomyReadingException:
            return False


_YAMLLINT = YamlLintConfig(DEFAULT_YAMLLINT_CONFIG)
Differences = Callable[[str], set[tuple[str, bool]]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def we_accept(data: bytes, path: str) -> bool:
    try:
        parse_qna(data, path)
    except LeafProblems:
        return False
    return True


@pytest.mark.slow
def test_both_judge_every_public_leaf_alike(public_tree: Path) -> None:
    theirs = Theirs()
    paths = [f"{leaf_id}/qna.yaml" for leaf_id in leaf_ids(WorkingTree(public_tree))]
    verdicts = {path: we_accept((public_tree / path).read_bytes(), path) for path in paths}
    assert verdicts == {path: theirs.accepts(public_tree / path) for path in paths}
    assert sum(verdicts.values()) in {146, 16}


GROUPS = {
    "skill 1": "instructlab-2024-07/compositional_skills/writing/freeform/poetry/haiku",
    "grounded skill 3": "instructlab-2025-04/compositional_skills/grounded/linguistics/writing/rewriting",
    "skill 3": "instructlab-2025-04/compositional_skills/linguistics/synonyms",
    "knowledge 3": "instructlab-2025-04/knowledge/arts/music/fandom/swifties",
}
MORE_GROUPS = {
    "skill 2": "instructlab-2024-07/compositional_skills/writing/freeform/emoji",
    "grounded skill 1": "instructlab-2024-07/compositional_skills/extraction/inference/quantitative/table_analaysis",
}


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], set[tuple[str, bool]]]:
    """For a leaf: the name and our verdict of each mutation that the two judge differently."""

    @cache
    def find(leaf: str) -> set[tuple[str, bool]]:
        file = SHARED / leaf / "qna.yaml"
        if not file.is_file():
            pytest.skip("the public taxonomies are not there")
        path = f"{leaf.split('/', 1)[1]}/qna.yaml"
        target = tmp_path_factory.mktemp("taxonomy") / path
        target.parent.mkdir(parents=True)
        theirs = Theirs()
        found: set[tuple[str, bool]] = set()
        all_of_them = list(mutations(shortened(file.read_bytes())))
        for name, data in all_of_them:
            target.write_bytes(data)
            if we_accept(data, path) != theirs.accepts(target):
                found.add((name, we_accept(data, path)))
        assert len(all_of_them) > 250
        return found

    return find


@pytest.mark.slow
@pytest.mark.parametrize("group", [*GROUPS, *MORE_GROUPS])
def test_both_judge_mutated_leaves_alike(group: str, differences: Differences) -> None:
    listed = {True: "|".join(WE_ACCEPT), False: "|".join(WE_REFUSE)}
    found = differences((GROUPS | MORE_GROUPS)[group])
    assert not sorted(name for name, ours in found if not re.fullmatch(listed[ours], name))


@pytest.mark.slow
def test_every_difference_that_is_listed_is_there(differences: Differences) -> None:
    found = {entry for leaf in GROUPS.values() for entry in differences(leaf)}
    for listed, ours in ((WE_ACCEPT, True), (WE_REFUSE, False)):
        names = {name for name, accepted in found if accepted is ours}
        assert not [part for key in listed for part in key.split("|") if not any(re.fullmatch(part, n) for n in names)]


def shortened(data: bytes) -> bytes:
    """The leaf with its texts cut: their tools take some milliseconds for a page."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cut(item) for item in value[:5]]
        return value[:40].strip() if isinstance(value, str) else value

    return yaml.safe_dump(cut(yaml.safe_load(data)), sort_keys=False, allow_unicode=True).encode()
