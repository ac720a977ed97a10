from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy import conversion, converter, html_markdown
from tilth.taxonomy.conversion import convert

pytestmark = pytest.mark.slow  # many processes and servers


def test_a_page_is_converted_once_for_each_content_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert convert("a.html", b"<h1>One</h1>", tmp_path) == "# One\n"
    (kept,) = (tmp_path / "text").iterdir()
    kept.write_text("kept")
    assert convert("b.HTML", b"<h1>One</h1>", tmp_path) == "kept"
    assert convert("a.html", b"<h1>Two</h1>", tmp_path) == "# Two\n"
    monkeypatch.setattr(conversion, "HTML_VERSION", html_markdown.VERSION + 1)
    assert convert("a.html", b"<h1>One</h1>", tmp_path) == "# One\n"


def test_what_is_refused_is_told_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(
        TaxonomyError, match=r"^a.html: the page's tags are nested more than 400 deep; save it as Markdown$"
    ):
        convert("a.html", b"<div>" * 1000, tmp_path)
    with pytest.raises(TaxonomyError, match=r"^a.html: there is no text in the file; save it as text$"):
        convert("a.html", b"<div></div>", tmp_path)
    assert not (tmp_path / "text").exists()


PYTHON = sys.executable


def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """A converter that does `body` where it would read the file."""
    program = tmp_path / "stand_in.py"
    program.write_text(
        f"import os, sys, time\nfrom tilth.taxonomy import converter\nconverter.TIME_S = 1\n"
        f"def markdown(suffix, data):\n    {body}\nconverter._markdown = markdown\nsys.exit(converter.main('.html'))\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{PYTHON}" "{program}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(conversion.sys, "executable", str(python))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True: pass", "takes more than 120 seconds; split it"),
        ("return 'x' * (converter.MEMORY_MB << 20)", "takes more than 3072 MB of memory; split it"),
        ("return 'x' * (33 << 20)", "the file's text has more than 32 MB; split it"),
        ("os.abort()", "the file breaks the program that reads it; save it as Markdown"),
        ("raise KeyError", "the file breaks the program that reads it; save it as Markdown"),
    ],
)
def test_a_file_that_breaks_out_of_its_limits_is_one_line(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, body)
    with pytest.raises(TaxonomyError, match=f"^a.html: [^\n]*{message}$"):
        convert("a.html", b"x", tmp_path)


def test_the_converter_has_no_keys_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    stand_in(monkeypatch, tmp_path, "return repr(dict(os.environ))")
    assert "hunter2" not in convert("a.html", b"x", tmp_path)
    stand_in(monkeypatch, tmp_path, "import socket\n    socket.create_connection(('127.0.0.1', 9))")
    with pytest.raises(TaxonomyError, match="breaks the program"):
        convert("a.html", b"y", tmp_path)


def test_a_converter_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "TIME_S", 0.5)
    stand_in(monkeypatch, tmp_path, "time.sleep(60)")
    with pytest.raises(TaxonomyError, match=r"takes more than 0\.5 seconds"):
        convert("a.html", b"x", tmp_path)
    assert converter.TIME_S == 120
