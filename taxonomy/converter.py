"""The process that reads one hostile file: `python -m tilth.taxonomy.converter SUFFIX`, bytes in, Markdown out.

It exits with 0, with REFUSED and a line on the standard error that says why, or as its limits make it end.
"""

from __future__ import annotations

import resource
import sys

from .formats import HTML_SUFFIXES, Unreadable
from .html_markdown import html_to_markdown

TIME_S = 120
"""Of CPU: a book of 1,000 pages takes 30."""
MEMORY_MB = 3072
"""Of address space; docling with a thick book has 800 in use."""
MAX_TEXT_MB = 32
"""Of Markdown."""

REFUSED = 3
OUT_OF_MEMORY = 4


def main(suffix: str) -> int:
    """Convert the standard input; the exit code."""
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_S, TIME_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_TEXT_MB << 20, MAX_TEXT_MB << 20))
    sys.addaudithook(_refuse_network)
    try:
        text = _markdown(suffix, sys.stdin.buffer.read()).encode(errors="replace")
    except MemoryError:
        return OUT_OF_MEMORY
    except Unreadable as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    if len(text) > MAX_TEXT_MB << 20:
        sys.stderr.write(f"the file's text has more than {MAX_TEXT_MB} MB; split it\n")
        return REFUSED
    sys.stdout.buffer.write(text)
    return 0


def _markdown(suffix: str, data: bytes) -> str:
    if suffix in HTML_SUFFIXES:
        return html_to_markdown(data)
    from .office import office_to_markdown

    return office_to_markdown(data, suffix)


def _refuse_network(event: str, _: object) -> None:
    """For libraries that look something up by themselves; a stop for honest code, not for an exploit."""
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
        raise PermissionError("no network here")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
