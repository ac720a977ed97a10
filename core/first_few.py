"""Many names in one line: the first of them, and how many there are besides."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 5


def first_few(names: Sequence[str]) -> str:
    """Such as `a, b, c, d, e and 1,200 more`."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
