"""Without docling: what is made of a PDF's lines, and which archives are refused. With it: real files of each kind."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.conversion import convert
from tilth.taxonomy.formats import Unreadable
from tilth.taxonomy.office import MAX_PARTS, MAX_UNPACKED_MB, Line, lines_to_markdown, office_to_markdown

has_docling = importlib.util.find_spec("docling") is not None
needs_docling = pytest.mark.skipif(not has_docling, reason="tilth[docs] is not installed")


def page(number: int, *lines: tuple[float, float, str]) -> list[Line]:
    """Lines given by their top, the height of their letters, and their text."""
    return [Line(text, top, top + height, number) for top, height, text in lines]


def test_lines_become_paragraphs_and_headings() -> None:
    made = lines_to_markdown(
        [
            page(
                1, (50, 30, "The Long"), (85, 30, "Bridge"), (130, 16, "1 Building"),
                (160, 10, "It was built in four-"),
                (172, 10, "teen years. It is long"), (200, 10, "• and old"), (212, 10, "• and strong."),
                (240, 16, "2 End"),
            ),
            page(2, (50, 16, "3 More"), (80, 10, "The text goes"), (700, 10, "on with")),
            page(3, (50, 10, "the next page.")),
        ]
    )  # fmt: skip
    assert made == (
        "# The Long Bridge\n\n## 1 Building\n\nIt was built in fourteen years. It is long\n\n- and old\n\n- and strong."
        "\n\n## 2 End\n\n## 3 More\n\nThe text goes\n\non with the next page.\n"
    )


def test_running_heads_page_numbers_and_tables_of_contents_are_left_out() -> None:
    pages = [
        page(number, (20, 8, "A Manual"), (100, 10, f"Text {word}."), (780, 8, f"Page {number}"))
        for number, word in enumerate(["one", "two", "three", "four"])
    ]
    pages[0].append(Line("Building . . . . . . . . 3", 400, 410, 1))
    assert lines_to_markdown(pages) == "Text one.\n\nText two.\n\nText three.\n\nText four.\n"
    assert lines_to_markdown([[], []]) == ""


def archive(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in parts.items():
            made.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"PK\x03\x04 broken", b"plain text"])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="this is no DOCX or PPTX file"):
        office_to_markdown(data, ".docx")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"word/document.xml": MAX_UNPACKED_MB + 1 << 20}, "the file unpacks to 65 MB in 1 parts"),
        ({"word/media/a.png": MAX_UNPACKED_MB + 1 << 20}, "the file unpacks to 65 MB in 1 parts"),
        ({str(number): 0 for number in range(MAX_PARTS + 1)}, "the file unpacks to 0 MB in 10001 parts"),
    ],
)
@pytest.mark.slow
def test_a_bomb_is_refused(sizes: dict[str, int], message: str) -> None:
    bomb = archive({name: b" " * size for name, size in sizes.items()})
    with pytest.raises(Unreadable, match=message):
        office_to_markdown(bomb, ".docx")


@pytest.mark.skipif(has_docling, reason="tilth[docs] is installed")
def test_without_docling_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        TaxonomyError, match=r"^a.PDF: PDF, DOCX and PPTX are read with docling, which is not .* 'tilth\[d"
    ):
        convert("a.PDF", b"%PDF", tmp_path)


def a_docx() -> bytes:
    import docx

    document = docx.Document()
    document.add_heading("Bridges", 0)
    document.add_heading("Old_ones", 1)
    document.add_paragraph("They are <old> & long.")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Name", "Length", "Tom|Bob", "9 m"], strict=True):
        cell.text = text
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def a_pptx() -> bytes:
    import pptx

    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "Bridges"
    slide.placeholders[1].text = "Old\nLong"
    buffer = io.BytesIO()
    show.save(buffer)
    return buffer.getvalue()


def a_pdf(*lines: tuple[int, int, str]) -> bytes:
    """One page; lines given by their size, their place from the bottom, and their text."""
    drawn = "".join(f"BT /F1 {size} Tf 50 {place} Td ({text}) Tj ET\n" for size, place, text in lines).encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
    ]
    made, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(made)
    return made + b"xref\n0 5\n0000000000 65535 f \n" + table + end


@needs_docling
def test_each_format_becomes_markdown_once(tmp_path: Path) -> None:
    assert convert("a.docx", a_docx(), tmp_path) == (
        "# Bridges\n\n## Old_ones\n\nThey are <old> & long.\n\n"
        "| Name         | Length   |\n|--------------|----------|\n| Tom\\|Bob | 9 m      |"
    )
    assert convert("a.pptx", a_pptx(), tmp_path) == "# Bridges\n\n- Old\n- Long"
    pdf = a_pdf((24, 700, "Bridges"), (12, 660, "They are old"), (12, 645, "and long."))
    assert convert("a.pdf", pdf, tmp_path) == "# Bridges\n\nThey are old and long.\n"
    assert len(list((tmp_path / "text").iterdir())) == 3


@needs_docling
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", b"%PDF-1.4 broken", r"a.pdf: .*; save it anew, or as Markdown"),
        ("a.docx", archive({"a.xml": b"<a/>"}), r"a.docx: .*; save it anew, or as Markdown"),
        ("a.docx", a_pptx() if has_docling else b"", r"a.docx: .*; save it anew, or as Markdown"),
        ("a.pdf", a_pdf(), "a.pdf: there is no text in the file; if it is scanned, recognise its text"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=message) as caught:
        convert(name, data, tmp_path)
    assert "\n" not in str(caught.value)
