"""What others wrote does nothing in Markdown, as a parser reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tilth.cycle.markdown import code, prose, table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "@org/team", "#12", "GH-12", "org/repo#3", "https://evil.example/x", "www.evil.example", "evil.example",
    "me@evil.example", "![a](https://evil.example/x.png)", "[a](javascript:x)", "<img src=x onerror=y>", "<!channel>",
    "<!-- a", "`code`", "``", "a`", "`b", "a|b", "\\|", "a\\", "**b**", "_a_b_", "~~a~~", "$x$", ":smile:", "&copy;",
    "x``y`z`", "`a```;x`y", "(`a`b`)",
    "&#64;you", "# head", "- item", "---", "1. item", "a\n\n# head", "a\r\nb", "\x1b[31m", "\u202eabc", "${{ x }}",
]  # fmt: skip
LINKED = re.compile(r"[@#/&$_*~`|\[\]\\]|<\S|:\w|\w\.[a-z]|GH-\d", re.ASCII)
"""What a forge may make something of outside of code."""


def leaves(tokens: list[Token]) -> list[Token]:
    """The innermost tokens."""
    return [leaf for token in tokens for leaf in (leaves(token.children) if token.children else [token])]


def texts(markdown: str) -> list[str]:
    """What stands outside of code; there must be nothing but text and code."""
    found = leaves(PARSER.parse(markdown))
    assert {token.type for token in found} <= {"paragraph_open", "paragraph_close", "text", "code_inline"}
    return [token.content for token in found if token.type == "text"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_code(text: str) -> None:
    assert texts(f"So: {code(text)}.") == ["So: ", "."]
    for words in (text, f"({text}):", f"'{text}'?"):
        assert not any(LINKED.search(part) for part in texts(f"So: {prose(words)} etc."))


@given(st.text(min_size=1))
@pytest.mark.slow
def test_any_text_is_inert(text: str) -> None:
    assert not any(LINKED.search(part) for part in texts(f"So {prose(text)} etc"))


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), min_size=2, max_size=2))
@pytest.mark.slow
def test_a_cell_holds_its_text(cells: list[str]) -> None:
    found = leaves(PARSER.parse(table(["a", "b"], [[code(cell) for cell in cells]])))
    assert [token.content for token in found if token.type == "code_inline"] == cells


def test_sentences_of_ours_stay_as_they_are() -> None:
    said = "learned, 6 of 6 right, 0 of 6 before (6 gained, 0 lost, p < 0.001; +12.5, -3.0 to +4.1 points): 15%."
    assert prose(said) == said
    assert prose(f"Changed leaf knowledge/mill: {said}") == f"Changed leaf `knowledge/mill`: {said}"


def test_commands_stay_whole() -> None:
    said = "no leaf is committed; run `tilth add knowledge`, or (`tilth init`)."
    assert prose(said) == said
    assert texts(prose("a`b` `c d`e `f `g` h`")) == [" ", " ", " ", " ", " "]


def test_long_texts_lose_their_end() -> None:
    assert len(code("a" * 10_000)) < 500
    assert prose("word " * 10_000).endswith("…")
