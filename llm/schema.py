"""A light check of parsed JSON against the part of JSON Schema that tilth's own prompts use.

Servers enforce the schema while they generate; this catches those that do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def mismatch(value: Any, schema: Mapping[str, Any], place: str = "the answer") -> str:
    """The first way in which `value` breaks `schema`, in words; empty when it fits.

    Knows type, enum, properties, required, additionalProperties, items, minItems, maxItems, minLength, maxLength,
    minimum and maximum.
    """
    kinds = _kinds(schema)
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        return f"{place} is {type(value).__name__}, not {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is {value!r}, not one of {schema['enum']}"
    match value:
        case dict():
            found = _object_mismatch(value, schema, place)
        case list():
            found = _array_mismatch(value, schema, place)
        case str():
            found = _range_mismatch(len(value), schema, ("minLength", "maxLength"), f"the length of {place}")
        case int() | float():
            found = _range_mismatch(value, schema, ("minimum", "maximum"), place)
        case _:
            found = ""
    return found


def schema_fault(schema: Any, place: str = "schema") -> str:
    """The first part of a JSON schema, as YAML gives it, that `mismatch` cannot go by, in words; empty when it can."""
    if not isinstance(schema, dict):
        return f"{place} is {type(schema).__name__}, not an object"
    if wrong := [kind for kind in _kinds(schema) if not isinstance(kind, str) or kind not in _TYPES]:
        return f"{place}.type is {wrong[0]!r}, not one of {', '.join(_TYPES)}"
    for keys, kind in ((_LISTS, list), (_LIMITS, (int, float)), (("properties",), dict)):
        for key in keys:
            if key in schema and (isinstance(schema[key], bool) or not isinstance(schema[key], kind)):
                return f"{place}.{key} is {type(schema[key]).__name__}, not {_CALLED[kind]}"
    if wrong := [name for name in schema.get("required", ()) if not isinstance(name, str)]:
        return f"{place}.required names {wrong[0]!r}, not a key"
    parts = {f"{place}.properties.{name}": part for name, part in schema.get("properties", {}).items()}
    parts |= {f"{place}.items": schema["items"]} if "items" in schema else {}
    return next((fault for where, part in parts.items() if (fault := schema_fault(part, where))), "")


_LISTS = ("required", "enum")
_LIMITS = ("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum")
_CALLED = {list: "a list", (int, float): "a number", dict: "an object"}


def _kinds(schema: Mapping[str, Any]) -> list[Any]:
    """The types that it allows; none: any."""
    kind = schema.get("type", [])
    return kind if isinstance(kind, list) else [kind]


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"  # to Python, True is an integer
    return isinstance(value, _TYPES[kind])


def _object_mismatch(value: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> str:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{place} lacks {name!r}"
    for name, part in value.items():
        if name in properties:
            if found := mismatch(part, properties[name], f"{place}.{name}"):
                return found
        elif schema.get("additionalProperties") is False:
            return f"{place} has {name!r}, which was not asked for"
    return ""


def _array_mismatch(value: list[Any], schema: Mapping[str, Any], place: str) -> str:
    if found := _range_mismatch(len(value), schema, ("minItems", "maxItems"), f"the length of {place}"):
        return found
    items: Mapping[str, Any] = schema.get("items", {})
    return next((found for i, part in enumerate(value) if (found := mismatch(part, items, f"{place}[{i}]"))), "")


def _range_mismatch(number: float, schema: Mapping[str, Any], limits: tuple[str, str], place: str) -> str:
    least, most = schema.get(limits[0]), schema.get(limits[1])
    if least is not None and number < least:
        return f"{place} is {number}, less than {least}"
    if most is not None and number > most:
        return f"{place} is {number}, more than {most}"
    return ""
