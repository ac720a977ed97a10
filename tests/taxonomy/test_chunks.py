# ruff: noqa: RUF001
from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tilth.taxonomy.chunks import Chunk, estimate_tokens, split
from tilth.taxonomy.documents import Document

STARTER = Path(__file__).parents[2] / "taxonomy/starter"
GOLDEN = Path(__file__).parents[1] / "data/starter_chunks.json"

PAGE = """\
# Bridges

## Old ones

The first bridge fell. The second one "Long Tom." still stands! It is made of wood.

It has a name.

A very short end.

Stone bridges
-------------

```
# no heading

one two
```

### Arches ###

Four.
"""


def found(text: str, max_tokens: int, path: str = "a.md") -> list[Chunk]:
    return split(Document(path=path, text=text), max_tokens)


def chunks(text: str, max_tokens: int, path: str = "a.md") -> list[tuple[str, str]]:
    return [(chunk.heading, chunk.text) for chunk in found(text, max_tokens, path)]


def texts(text: str, max_tokens: int) -> list[str]:
    return [chunk for _, chunk in chunks(text, max_tokens)]


@pytest.mark.parametrize("golden", json.loads(GOLDEN.read_text()), ids=lambda golden: golden["document"])
def test_the_starter_is_cut_as_ever(golden: dict[str, object]) -> None:
    """Other chunks are other prompts: whoever made samples of them would pay again."""
    path = str(golden["document"])
    made = found((STARTER / path).read_text(), 130, path)
    told = [chunk.model_dump(mode="json", include={"heading", "span", "text"}) for chunk in made]
    assert told == golden["chunks"]


def test_sections_are_chunks_and_begin_with_their_headings() -> None:
    first, second, third = chunks(PAGE, 100)
    assert first == ("Bridges > Old ones", PAGE[: PAGE.index("\n\nStone")])
    assert second == ("Bridges > Stone bridges", PAGE[PAGE.index("Stone") : PAGE.index("\n\n###")])
    assert third == ("Bridges > Stone bridges > Arches", "### Arches ###\n\nFour.")


def test_a_long_section_is_cut_between_paragraphs_then_sentences_then_lines_then_words() -> None:
    text = "\n\n".join(
        [
            "One two three.",
            "Four five.",
            "Six seven eight. Nine ten e.g. eleven\ntwelve thirteen fourteen fifteen sixteen.",
        ]
    )
    assert texts(text, 7) == [
        "One two three.\n\nFour five.",
        "Six seven eight.",
        "Nine ten e.g. eleven\ntwelve",
        "thirteen fourteen fifteen",
        "sixteen.",
    ]


def test_where_a_section_was_cut_a_short_last_sentence_is_repeated() -> None:
    sentences = [f"This is the sentence {word}." for word in ("one", "two", "three", "four", "five")]
    cut = texts(" ".join(sentences), 30)
    assert cut == [" ".join(sentences[:4]), " ".join(sentences[3:])]
    long = "This is a sentence that is too long to be repeated before another one. "
    assert texts(long * 3, 40) == [(long * 2).strip(), long.strip()]
    assert texts(f"# A\n\n{sentences[0]}\n\n# B\n\n{sentences[1]}", 10) == [
        f"# A\n\n{sentences[0]}",
        f"# B\n\n{sentences[1]}",
    ]


TABLE = "| a | b |\n|---|:-:|\n" + "".join(f"| {row} | some words |\n" for row in range(20)).rstrip("\n")
HTML_TABLE = "<table>\n<tr><td>a</td></tr>\n\n<tr><td>many more words in here</td></tr>\n</table>"
FENCED = "```python\n# no heading\n\n" + "x = 1\n" * 20 + "```"
INDENTED = "    first line of code\n\n    second line of code\n\tthird line of code"


@pytest.mark.parametrize("whole", [TABLE, HTML_TABLE, FENCED, INDENTED])
def test_tables_and_code_are_never_cut(whole: str) -> None:
    made = found(f"# Title\n\nSome words before.\n\n{whole}\n\nSome words after. And again.", 10)
    assert [(chunk.text, chunk.too_long) for chunk in made] == [
        ("# Title\n\nSome words before.", False),
        (whole.strip(), True),
        ("Some words after. And again.", False),
    ]
    assert made[1].num_tokens > 10


def test_a_table_may_follow_a_line_of_text_and_a_fence_be_part_of_a_list() -> None:
    assert texts(f"Some words about:\n{TABLE}", 10) == ["Some words about:", TABLE]
    fenced = "    ```\n    # a\n\n    b = 1  # and what it means\n    ```"
    assert texts(f"1. Run this, all of it, now:\n\n{fenced}\n\n2. Be done with it all.", 9) == [
        "1. Run this, all of it, now:",
        fenced.strip(),
        "2. Be done with it all.",
    ]


def test_what_only_looks_like_a_table_or_code_is_text() -> None:
    assert len(texts("one | two " * 20, 10)) > 3
    assert len(texts("- item\n\n    a paragraph of the item " + "that is long " * 20, 10)) > 3
    assert len(texts("<table> is a tag " * 20, 10)) > 3


def test_a_text_file_has_no_headings() -> None:
    assert chunks("# One\n\ntwo\n---\n", 10, "a.txt") == [("", "# One\n\ntwo\n---")]


def test_headings_without_text_are_kept() -> None:
    assert chunks("# One\n## Two\n# Three\n", 10) == [("Three", "# One\n## Two\n# Three")]
    assert chunks("text\n\n# End", 10) == [("", "text"), ("End", "# End")]


def test_a_heading_of_a_whole_page_is_a_paragraph() -> None:
    long = "# " + "word " * 100
    assert {chunk.heading for chunk in found(f"{long}\n\ntext", 20)} == {""}
    assert max(chunk.num_tokens for chunk in found("# Heading\n" * 500, 20)) <= 20


def test_an_item_above_a_line_is_no_heading() -> None:
    assert chunks("- item\n---\n\ntext", 10) == [("", "- item\n---\n\ntext")]


def test_an_empty_document_has_no_chunks() -> None:
    assert chunks(" \n\n", 10) == []


def test_code_within_a_line_opens_no_fence() -> None:
    assert texts("```pip install x``` gets it.\n\n# Use\n\nRun it.", 9) == [
        "```pip install x``` gets it.",
        "# Use\n\nRun it.",
    ]


def test_a_longer_fence_is_closed_by_one_as_long() -> None:
    text = "````\n```\n# no\n````\n# Yes\n\nbody"
    assert [heading for heading, _ in chunks(text, 10)] == ["", "Yes"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("这座灯塔建于一八七四年。它的墙壁是绿色的石板！" * 4, "这座灯塔建于一八七四年。它的墙壁是绿色的石板！"),
        ("यह पुल पत्थर का बना है। यह बहुत पुराना है। " * 4, "यह पुल पत्थर का बना है। यह बहुत पुराना है।"),
    ],
)  # fmt: skip
def test_other_scripts_are_cut_after_their_own_stops(text: str, first: str) -> None:
    assert texts(text, estimate_tokens(first) + 2)[0] == first


def test_a_script_without_stops_is_cut_at_spaces_then_between_letters() -> None:
    thai = "ประภาคารแห่งนี้สร้างขึ้นในปีพุทธศักราช สองพันสี่ร้อยสิบเจ็ดโดยสถาปนิกที่ไม่เคยสร้างอาคารสูงกว่าร้านขนมปังมาก่อน"
    made = texts(thai, 31)
    assert made[0] == thai.split(maxsplit=1)[0]
    assert "".join(made) == "".join(thai.split())
    assert not any(chunk[0] in "\u0e31\u0e34\u0e35\u0e36\u0e37\u0e38\u0e39\u0e48\u0e49\u0e4c" for chunk in made)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert set("".join(texts(family * 9, 10)).split(family)) == {""}
    assert all(chunk.startswith("\U0001f468") for chunk in texts(family * 9, 10))


lines = st.sampled_from(
    [
        "# One",
        "## Two ##",
        "###### Six",
        "#",
        "",
        "  ",
        "```",
        "~~~~",
        "===",
        "---",
        "| a | b |",
        "|---|---|",
        "    code",
        "- item",
        "    ```",
        "<table>",
        "</table>",
        "。你好！",
        "A sentence. Another one! More?",
    ]
) | st.text(max_size=30)
documents = st.lists(lines, max_size=30).map("\n".join) | st.text()


@settings(max_examples=300)
@given(documents, st.integers(1, 20), st.sampled_from(["a.md", "a.txt"]))
@example("# A\n\n```\nx", 1, "a.md")
@example("a\n| a | b |\n|---|---|\n    x\n\n    y", 2, "a.md")
@pytest.mark.slow
def test_chunks_are_slices_in_order_that_hold_every_character(text: str, max_tokens: int, path: str) -> None:
    made = found(text, max_tokens, path)
    assert found(text, max_tokens, path) == made
    left = list(text)
    last_start = last_end = 0
    for chunk in made:
        start, end = chunk.span
        assert last_start <= start < end <= len(text)
        assert last_end < end
        assert chunk.text == text[start:end] == chunk.text.strip()
        assert chunk.num_tokens == estimate_tokens(chunk.text)
        left[start:end] = " " * (end - start)
        last_start, last_end = start, end
    assert not "".join(left).strip()


prose = st.lists(st.text(alphabet="ab .!\n。é", max_size=40), max_size=10).map("\n".join)


@given(prose, st.integers(1, 12))
def test_no_chunk_of_text_is_over_the_budget(text: str, max_tokens: int) -> None:
    made = found(text, max_tokens, "a.txt")
    assert all(chunk.num_tokens <= max_tokens and not chunk.too_long for chunk in made)
    overlaps = [max(0, one.span[1] - two.span[0]) for one, two in pairwise(made)]
    assert all(overlap <= max_tokens for overlap in overlaps)  # a quarter of the budget, of 4 bytes a token


@pytest.mark.parametrize(
    "text",
    [
        "`" * 50_000,
        "# " * 50_000,
        "a. " * 50_000,
        "\n" * 50_000,
        "#" * 50_000 + " x",
        "-" * 50_000,
        "a\n" * 50_000 + "-",
        "| a | b |\n|---|---|\n" * 10_000,
        "<table>\n" * 20_000,
        "    x\n\n" * 20_000,
        "a" + "\u0301" * 50_000,
        "." * 50_000 + ")" * 50_000,
    ],
)
@pytest.mark.slow
def test_texts_made_to_be_slow_are_not(text: str) -> None:
    assert "".join("".join(chunk.split()) for _, chunk in chunks(text, 100)).startswith("".join(text.split())[:100])
