"""What the ledger tells: what was asked of which model, and whether the file is whole."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.fingerprint import text_sha256
from .ledger import Ledger


@dataclass(frozen=True)
class Usage:
    """What one step of one leaf has asked of one model."""

    leaf: str
    step: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Summed over requests, which overlap: not wall-clock time."""
    first: str
    """When the first and the `last` of them were answered, as `now` writes it."""
    last: str


def usage(ledger: Ledger, *, leaf: str | None = None, since: str = "") -> list[Usage]:
    """What was asked, by leaf, step and model, in that order: of one leaf, at or after a time (as `now` writes it)."""
    of_leaf = "" if leaf is None else "AND leaf = :leaf"
    query = f"""
        SELECT leaf, step, model, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(seconds),
            MIN(created_at), MAX(created_at)
        FROM requests WHERE created_at >= :since {of_leaf}
        GROUP BY leaf, step, model ORDER BY leaf, step, model
    """  # noqa: S608
    return [Usage(*row) for row in ledger.rows(query, leaf=leaf, since=since)]


def count(ledger: Ledger, *, leaf: str | None = None, since: str = "") -> int:
    """How many requests were answered; narrowed as in `usage`."""
    return sum(use.requests for use in usage(ledger, leaf=leaf, since=since))


def faults(ledger: Ledger) -> list[str]:
    """What is wrong with the file: pages that SQLite finds damaged, keys that are not the hash of their request."""
    found = [line for (line,) in ledger.rows("PRAGMA quick_check(3)") if line != "ok"]
    wrong = [key for key, request in ledger.rows("SELECT key, request FROM requests") if text_sha256(request) != key]
    if wrong:
        found.append(f"keys that are not the hash of their request: {len(wrong):,}, such as {wrong[0]}")
    return found
