"""The JSON Schema of a `qna.yaml`: with it an editor completes keys, explains them, and marks what is wrong.

Generated from the models of schema.py. It refuses nothing that `tilth lint` accepts, and cannot refuse all that lint
does: duplicate keys, held-out questions that repeat a seed, seed examples that differ in white space alone. It keeps to
words of draft 7, for many editors know no newer ones.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from ..core.errors import TaxonomyError
from .schema import KNOWLEDGE, NEWEST_VERSION, SKILLS

SchemaKind = Literal["knowledge", "skill"]

_MODELS: dict[SchemaKind, dict[int, Any]] = {"knowledge": {**KNOWLEDGE}, "skill": {**SKILLS}}
_KNOWLEDGE_KEYS = ("document", "domain", "document_outline")


def schema_text(kind: SchemaKind | None = None, version: int | None = None) -> str:
    """The schema as the text of a JSON file; None: one that serves both kinds, or every version.

    Raises TaxonomyError for a version that there is not.
    """
    models = _models(kind, version)
    if not models:
        known = {number for versions in _models(kind, None).values() for number in versions}
        fix = f"use one of: {', '.join(map(str, sorted(known)))}"
        raise TaxonomyError(f"there is no version {version} of {kind or 'qna.yaml'}", fix=fix)
    wanted = {model: None for versions in models.values() for model in versions.values()}
    _, definitions = models_json_schema([(model, "validation") for model in wanted])
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qna.yaml",
        "description": "A leaf of a taxonomy: what a model shall know, or know how to do. `tilth lint` checks it.",
        "type": "object",
        **_choice(models),
        "$defs": definitions["$defs"],
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _models(kind: SchemaKind | None, version: int | None) -> dict[str, dict[int, Any]]:
    """Kind -> version -> model, of those that are meant."""
    found: dict[str, dict[int, Any]] = {}
    for name, versions in _MODELS.items():
        meant = {number: model for number, model in versions.items() if version in {number, None}}
        if meant and kind in {name, None}:
            found[name] = meant
    return found


def _choice(models: dict[str, dict[int, Any]]) -> dict[str, Any]:
    """Which schema applies. The kind shows in the keys that only knowledge has; an editor does not tell the folder."""
    if len(models) == 1:
        return _by_version(*models.values())
    knowledge = {"anyOf": [{"required": [key]} for key in _KNOWLEDGE_KEYS]}
    return {"if": knowledge, "then": _by_version(models["knowledge"]), "else": _by_version(models["skill"])}


def _by_version(versions: dict[int, Any]) -> dict[str, Any]:
    """One branch for each version; a file without one is version 1."""
    needed: dict[str, Any] = {} if 1 in versions else {"required": ["version"]}
    written = {"enum": list(versions), "default": max(versions), "description": _version_advice(versions)}
    branches = [{"if": _has_version(version), "then": {"$ref": _ref(model)}} for version, model in versions.items()]
    return {"properties": {"version": written}, **needed, "allOf": branches}


def _has_version(version: int) -> dict[str, Any]:
    has: dict[str, Any] = {"properties": {"version": {"const": version}}}
    return has if version == 1 else {**has, "required": ["version"]}


def _version_advice(versions: dict[int, Any]) -> str:
    older = "" if 1 in versions or 3 not in versions else " Knowledge of versions 1 and 2 is not read any more."
    return f"Which of the formats this file has. New files: {NEWEST_VERSION}.{older}"


def _ref(model: Any) -> str:
    return f"#/$defs/{model.__name__}"
