"""core/text_faults: what is refused in a text, and that it covers all of Unicode."""

from __future__ import annotations

import unicodedata

import pytest
from tilth.core.text_faults import text_fault


@pytest.mark.parametrize(
    "text",
    ["", "a\tb\r\nc\x85", "Grüße, 世界 🌾\u200d", "e" + "\u0301" * 30, "—" * 80, "हिन्दी", "한국어", "ｶﾞｷﾞ", "─┼" * 90],
)
def test_honest_text_has_no_fault(text: str) -> None:
    assert text_fault(text) is None


@pytest.mark.parametrize("sign", ["\0", "\a", "\x1b", "\x7f", "\x9b", "\ufffe", "\uffff"])
def test_control_characters_are_refused(sign: str) -> None:
    assert text_fault(f"a{sign}b") == f"the control character {sign!r} cannot stand in a text; remove it"


def test_every_control_character_is_seen() -> None:
    signs = [*range(0x20), *range(0x7F, 0xA0)]
    assert [chr(sign) for sign in signs if text_fault(f"—{chr(sign)}") is None] == ["\t", "\n", "\r", "\x85"]


@pytest.mark.parametrize("marks", ["\u0300\u0316", "\u0301", "\uff9e\u0334", "\u0344\u0316", "\u302a\u05b0"])
def test_marks_without_end_are_refused(marks: str) -> None:
    """Two such texts of 500,000 characters would keep `unicodedata.normalize` busy for minutes."""
    assert "more than 30 accents" in (text_fault("ä" + marks * 100_000) or "")
    assert "more than 30 accents" in (text_fault(f"world — {marks * 31} world") or "")


@pytest.mark.slow
def test_every_mark_of_unicode_is_seen() -> None:
    signs = map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
    marks = [sign for sign in signs if unicodedata.combining(unicodedata.normalize("NFKD", sign)[0])]
    assert [mark for mark in marks if text_fault(mark * 31) is None] == []
    assert len(marks) > 800
