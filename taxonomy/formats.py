"""The formats of documents: which are read as they stand, which are converted, and what is wrong with one's bytes."""

from __future__ import annotations

TEXT_SUFFIXES = (".md", ".markdown", ".txt")
HTML_SUFFIXES = (".html", ".htm")
OFFICE_SUFFIXES = (".pdf", ".docx", ".pptx")
"""These need the extra `tilth[docs]`."""
DOCUMENT_SUFFIXES = (*TEXT_SUFFIXES, *HTML_SUFFIXES, *OFFICE_SUFFIXES)
"""The documents that tilth reads; others are refused by their name alone."""

MAX_DOCUMENT_MB = 32
"""The largest file that is a document: a thick book's text is 3 MB."""


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Unreadable(Exception):
    """A file is not what its name says, or hostile; the message says what to do. For the process that converts it."""


def as_kept(path: str, data: bytes) -> bytes:
    """The bytes of a file with the line ends that git keeps: of the same text a checkout may hold others (autocrlf)."""
    return data.replace(b"\r\n", b"\n") if path.lower().endswith((*TEXT_SUFFIXES, *HTML_SUFFIXES, ".yaml")) else data


# What is wrong is said as the rest of a sentence that begins with the document: `what; what to do`.


def suffix_problem(path: str) -> str:
    """Why a file of this name is no document, and what to do; empty if it may be one."""
    if path.lower().endswith(DOCUMENT_SUFFIXES):
        return ""
    return f"cannot be read; use one of: {', '.join(DOCUMENT_SUFFIXES)}"


def size_problem(num_bytes: int) -> str:
    """Why a file of this size is no document, and what to do; empty if it may be one."""
    if num_bytes <= MAX_DOCUMENT_MB << 20:
        return ""
    return f"has {num_bytes >> 20} MB, at most {MAX_DOCUMENT_MB} are read; split it"


def content_problem(path: str, data: bytes) -> str:
    """Why these bytes are no document, and what to do; empty if they may be one. Nothing is converted for it."""
    if problem := suffix_problem(path) or size_problem(len(data)):
        return problem
    if data.startswith(_LFS_POINTER):
        return "is a pointer of Git LFS, and the text is elsewhere; commit the file itself (`git lfs untrack`)"
    if path.lower().endswith(TEXT_SUFFIXES):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return "is not UTF-8 text; save it as UTF-8"
        if "\0" in text:
            return "holds NUL bytes, so it is no text; save it as UTF-8"
        return "" if text.strip() else "is empty; write it"
    return "" if data.strip() else "is empty; write it"
