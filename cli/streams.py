"""The standard streams as a terminal may have them: texts of others are shown, and steer nothing.

Names of leaves, answers and errors of servers are printed in many places. What a terminal would obey in them is taken
out where all of them pass, so that no place can forget it.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any

CLEAR_LINE = "\r\x1b[K"
"""The one thing that we ask of a terminal: whatever begins with it redraws a line."""
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and line feed, and those that turn the direction of what stands around them."""


class _Inert(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        start = CLEAR_LINE if text.startswith(CLEAR_LINE) else ""
        super().write(start + _STEERS.sub(" ", text[len(start) :]))
        return len(text)


def open_streams() -> None:
    """Let standard output and error pass nothing that steers a terminal, and have all three there.

    The null device stands in for one that the caller closed: else the next file opened would take its place.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A name that the terminal cannot show stops nothing.
        encoding, by_line = stream.encoding, stream.line_buffering
        setattr(sys, name, _Inert(stream.detach(), encoding, "backslashreplace", line_buffering=by_line))


def shown_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of a value; what would steer a terminal stands in it as an escape, so that it says the same."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _STEERS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)
