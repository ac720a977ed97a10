"""core/fingerprint: equal content, equal name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.fingerprint import bytes_sha256, canonical_json, file_sha256, fingerprint

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def reversed_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(json_like)
def test_key_order_is_irrelevant(value: object) -> None:
    assert fingerprint(reversed_keys(value)) == fingerprint(value)


@given(json_like)
def test_it_survives_a_file(value: object) -> None:
    assert fingerprint(json.loads(canonical_json(value))) == fingerprint(value)


@given(json_like, json_like)
def test_other_content_has_another_name(left: object, right: object) -> None:
    assert (fingerprint(left) == fingerprint(right)) == (canonical_json(left) == canonical_json(right))


def test_it_is_the_same_everywhere() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    assert fingerprint({"b": [1, "é"], "a": None}) == "f8f17faab95c0248"
    assert fingerprint({"b": [1, "é"], "a": None}, length=8) == "f8f17faa"


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes"])
def test_what_json_cannot_hold_has_no_name(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint(value)


def test_files_and_bytes_agree(tmp_path: Path) -> None:
    data = b"tilth" * 500_000  # more than one block
    (tmp_path / "data").write_bytes(data)
    assert file_sha256(tmp_path / "data") == bytes_sha256(data) == hashlib.sha256(data).hexdigest()
