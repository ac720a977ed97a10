from __future__ import annotations

import pytest
from tilth.taxonomy.attribution import Work, allowed, attribution_faults, read_works

from .conftest import SHARED

WHOLE = """\
Title of work: The bridge of Orrow
Link to work:
Revision:
License of the work: CC-BY-4.0
Creator names: Ada Quill
"""


def kinds(text: str | bytes) -> list[tuple[str, int]]:
    data = text.encode() if isinstance(text, str) else text
    return [(fault.kind, fault.line) for fault in attribution_faults(data) if fault.licence != "CC-BY-4.0"]


def test_a_whole_one_has_no_fault():
    assert kinds(WHOLE) == []
    assert kinds(f"{WHOLE}\n{WHOLE}") == []
    assert kinds("\ufeff" + WHOLE.replace("\n", "\r\n")) == []


def test_a_scaffold_that_nobody_filled_in_says_nothing():
    blank = "".join(f"{line.partition(':')[0]}:\n" for line in WHOLE.splitlines())
    assert kinds(blank) == [("blank", 1), ("blank", 4), ("blank", 5)]


def test_lines_are_those_that_an_editor_shows():
    assert kinds("Title of work: a\x0cb\r\nRevision: \u2028\nLicense of the work:\rCreator names:") == [
        ("blank", 3),
        ("blank", 4),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("blank", 1)]),
        (" \n\n", [("blank", 1)]),
        ("self-authored", [("no_licence", 1)]),
        ("Creator names: Ada", [("no_licence", 1)]),
        ("Source: self-authored\nLicense: CC-BY-4.0", []),
        (WHOLE.replace("CC-BY-4.0", ""), [("blank", 4)]),
        (b"Title of work: \xff", [("encoding", 1)]),
    ],
)
def test_faults(text, found):
    assert kinds(text) == found


@pytest.mark.parametrize(
    ("licence", "is_allowed"),
    [
        ("CC-BY-SA-4.0", True),
        ("cc by-sa 4.0", True),
        ("CC BY-SA  4.0 ", True),
        ("GPL-3.0 OR CC-BY-SA-4.0", True),
        ("CC-BY-NC-SA-4.0", False),
        ("CC-BY-SA", False),
        ("CC-BY-SA-4.0 AND GPL-3.0", False),
        ("N/A", False),
    ],
)
def test_a_licence_is_on_the_list_whatever_its_spelling(licence, is_allowed):
    assert allowed(licence, ("MIT", "CC-BY-SA-4.0")) is is_allowed


BRIDGE = Work("The bridge of Orrow", "", "CC-BY-4.0", "Ada Quill")


@pytest.mark.parametrize(
    ("text", "works"),
    [
        (WHOLE, [BRIDGE]),
        (f"created_by: ada\n\n{WHOLE}\n\n{WHOLE}", [BRIDGE, BRIDGE]),
        (WHOLE + WHOLE, [BRIDGE, BRIDGE]),
        ("Source: self-authored\nLicense: MIT", [Work("", "self-authored", "MIT", "")]),
        ("Title of work: A\nLink to work: N/A\nRevision: 3\nCreator names: -", [Work("A", "", "", "")]),
        ("self-authored", []),
        (b"Title of work: \xff", [Work("\ufffd", "", "", "")]),
        ("", []),
    ],
)
def test_the_works_that_it_names(text, works):
    assert read_works(text.encode() if isinstance(text, str) else text) == works


def test_works_of_the_public_trees():
    if not SHARED.exists():
        pytest.skip("the public trees are not there")
    works = [work for file in SHARED.rglob("attribution.txt") for work in read_works(file.read_bytes())]
    assert len(works) == 14
    assert sum(work.licence == "CC-BY-SA-4.0" for work in works) == 6
    assert {work.creators for work in works if "Bullet" in work.title or "bullet" in work.title} >= {"self-authored"}


def test_no_public_attribution_is_an_error():
    files = sorted(SHARED.rglob("attribution.txt"))
    if not files:
        pytest.skip("the public trees are not there")
    found = {fault.kind for file in files for fault in attribution_faults(file.read_bytes())}
    assert found == {"licence", "no_licence"}
