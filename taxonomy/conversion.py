"""HTML, PDF, DOCX and PPTX to Markdown: by another process, once for each content.

A parser of hostile files may be made to hang, to fill the memory or to do what the file says. So it runs in a process
of its own (`converter.py`) that has limits of time, memory and output, none of our environment (there are keys in it),
and no network as far as Python goes; the result is kept under the hash of the bytes and the version of the converter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath

from ..core.atomic import write_text
from ..core.errors import TaxonomyError
from ..core.fingerprint import bytes_sha256
from .converter import MEMORY_MB, OUT_OF_MEMORY, REFUSED, TIME_S
from .formats import HTML_SUFFIXES
from .html_markdown import VERSION as HTML_VERSION

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")


def convert(path: str, data: bytes, cache: Path) -> str:
    """The Markdown of a file, told apart by the suffix of its `path`; `cache` keeps it.

    Raises TaxonomyError: tilth[docs] is not installed, or the file is not readable, or not within the limits.
    """
    suffix = PurePosixPath(path).suffix.lower()
    kept = cache / "text" / f"{bytes_sha256(data)}{suffix}.{_version(suffix, path)}.md"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    text = _converted(path, suffix, data)
    if not text.strip():
        fix = "save it as text" if suffix in HTML_SUFFIXES else "if it is scanned, recognise its text (OCR) first"
        raise TaxonomyError("there is no text in the file", where=path, fix=fix)
    write_text(kept, text)
    return text


def _version(suffix: str, path: str) -> str:
    if suffix in HTML_SUFFIXES:
        return f"v{HTML_VERSION}"
    from importlib import metadata

    try:
        return f"docling-{metadata.version('docling-slim')}"
    except metadata.PackageNotFoundError as error:
        fix = "run `pip install 'tilth[docs]'`"
        raise TaxonomyError(
            "PDF, DOCX and PPTX are read with docling, which is not installed", where=path, fix=fix
        ) from error


def _converted(path: str, suffix: str, data: bytes) -> str:
    command = [sys.executable, "-P", "-m", "tilth.taxonomy.converter", suffix]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            check=False,
            timeout=2 * TIME_S,
            env={**environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
        )
    except subprocess.TimeoutExpired as error:
        raise _too_slow(path) from error
    if done.returncode == 0:
        return done.stdout.decode()
    if done.returncode == REFUSED:
        what, _, fix = done.stderr.decode(errors="replace").rstrip().rpartition("\n")[2].rpartition("; ")
        raise TaxonomyError(what, where=path, fix=fix)
    if done.returncode == OUT_OF_MEMORY:
        raise TaxonomyError(f"reading the file takes more than {MEMORY_MB} MB of memory", where=path, fix="split it")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _too_slow(path)
    raise TaxonomyError("the file breaks the program that reads it", where=path, fix="save it as Markdown")


def _too_slow(path: str) -> TaxonomyError:
    return TaxonomyError(f"reading the file takes more than {TIME_S} seconds", where=path, fix="split it")
