"""The JSON Schema for editors says what `parse_qna` says, where a schema can say it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from tilth.core.errors import TaxonomyError
from tilth.core.yaml_source import YamlProblems, parse_yaml
from tilth.taxonomy.editor_schema import schema_text
from tilth.taxonomy.qna import LeafProblems, parse_qna
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import STARTER_LEAVES, starter_files
from tilth.taxonomy.tree import leaf_ids

from .mutations import mutations


@cache
def validator(kind: Any = None, version: int | None = None) -> Draft202012Validator:
    schema = json.loads(schema_text(kind, version))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("leaf", STARTER_LEAVES)
@pytest.mark.slow
def test_the_starter_leaves_are_valid(leaf: str) -> None:
    data = yaml.safe_load(starter_files(leaf)["qna.yaml"])
    kind = "knowledge" if leaf.startswith("knowledge/") else "skill"
    for schema in (validator(), validator(kind), validator(kind, 4), validator(None, 4)):
        assert list(schema.iter_errors(data)) == []
    assert not validator("skill" if kind == "knowledge" else "knowledge").is_valid(data)


def test_the_verdict_on_every_public_leaf_is_that_of_the_reader(public_tree: Any) -> None:
    for leaf_id in leaf_ids(WorkingTree(public_tree)):
        text = (public_tree / leaf_id / "qna.yaml").read_bytes()
        data = yaml.load(text, Loader=yaml.CSafeLoader)
        kind = "knowledge" if leaf_id.startswith("knowledge/") else "skill"
        assert validator(kind).is_valid(data) == accepts(text, f"{leaf_id}/qna.yaml"), leaf_id


@pytest.mark.slow
@pytest.mark.parametrize("leaf", STARTER_LEAVES)
def test_the_verdict_on_mutated_leaves_is_that_of_the_reader(leaf: str) -> None:
    different: set[str] = set()
    for name, data in mutations(starter_files(leaf)["qna.yaml"].encode()):
        try:
            value = parse_yaml(data, "").data
        except YamlProblems:
            continue
        if accepts(data, f"{leaf}/qna.yaml") != validator().is_valid(value):
            different.add(name)
    assert different == {"a seed twice but for white space"}  # which a schema does not see


def accepts(data: bytes, path: str) -> bool:
    try:
        parse_qna(data, path)
    except LeafProblems:
        return False
    return True


def test_everything_that_may_be_written_is_explained() -> None:
    definitions = json.loads(schema_text())["$defs"]
    silent = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, value in definition["properties"].items()
        if not value.get("description")
    ]
    assert silent == []
    assert {"SkillV1", "SkillV2", "SkillV4", "KnowledgeV3", "KnowledgeV4"} <= definitions.keys()


def test_a_version_that_there_is_not_is_named() -> None:
    with pytest.raises(TaxonomyError, match=r"there is no version 2 of knowledge; use one of: 3, 4"):
        schema_text("knowledge", 2)
    with pytest.raises(TaxonomyError, match=r"there is no version 9 of qna.yaml; use one of: 1, 2, 3, 4"):
        schema_text(None, 9)
    assert "SkillV2" in schema_text(None, 2)
