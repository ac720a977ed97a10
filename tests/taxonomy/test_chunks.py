from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tilth.taxonomy.chunks import split
from tilth.taxonomy.documents import Document

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


def chunks(text: str, max_words: int, path: str = "a.md") -> list[tuple[str, str]]:
    return [(chunk.heading, chunk.text) for chunk in split(Document(path=path, text=text), max_words)]


def test_sections_are_chunks_and_begin_with_their_headings():
    first, second, third = chunks(PAGE, 100)
    assert first == ("Bridges > Old ones", PAGE[: PAGE.index("\n\nStone")])
    assert second == ("Bridges > Stone bridges", PAGE[PAGE.index("Stone") : PAGE.index("\n\n###")])
    assert third == ("Bridges > Stone bridges > Arches", "### Arches ###\n\nFour.")


def test_a_long_section_is_cut_between_paragraphs_then_sentences_then_words():
    text = "\n\n".join(["One two three.", "Four five.", "Six seven eight. Nine ten e.g. eleven twelve thirteen."])
    assert [chunk for _, chunk in chunks(text, 5)] == [
        "One two three.\n\nFour five.",
        "Six seven eight.",
        "Nine ten e.g. eleven twelve",
        "thirteen.",
    ]


def test_a_text_file_has_no_headings():
    assert chunks("# One\n\ntwo\n---\n", 10, "a.txt") == [("", "# One\n\ntwo\n---")]


def test_headings_without_text_are_kept():
    assert chunks("# One\n## Two\n# Three\n", 10) == [("Three", "# One\n## Two\n# Three")]
    assert chunks("text\n\n# End", 10) == [("", "text"), ("End", "# End")]


def test_an_empty_document_has_no_chunks():
    assert chunks(" \n\n", 10) == []


def test_a_longer_fence_is_closed_by_one_as_long():
    text = "````\n```\n# no\n````\n# Yes\n\nbody"
    assert [heading for heading, _ in chunks(text, 10)] == ["", "Yes"]


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
        "A sentence. Another one! More?",
    ]
) | st.text(max_size=30)
documents = st.lists(lines, max_size=30).map("\n".join) | st.text()


@settings(max_examples=200)
@given(documents, st.integers(1, 12), st.sampled_from(["a.md", "a.txt"]))
@example("# A\n\n```\nx", 1, "a.md")
def test_chunks_are_slices_in_order_that_hold_every_character(text, max_words, path):
    document = Document(path=path, text=text)
    found = split(document, max_words)
    assert split(document, max_words) == found
    left = list(text)
    last = 0
    for chunk in found:
        start, end = chunk.span
        assert last <= start < end
        assert chunk.text == text[start:end] == chunk.text.strip()
        left[start:end] = " " * (end - start)
        last = end
    assert not "".join(left).strip()


@given(st.lists(st.text(alphabet="ab .!\n", max_size=20), max_size=10).map("\n".join), st.integers(1, 8))
def test_no_chunk_is_over_the_budget(text, max_words):
    assert all(len(chunk.text.split()) <= max_words for chunk in split(Document(path="a.txt", text=text), max_words))


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
    ],
)
def test_texts_made_to_be_slow_are_not(text):
    assert "".join("".join(chunk.split()) for _, chunk in chunks(text, 100)) == "".join(text.split())
