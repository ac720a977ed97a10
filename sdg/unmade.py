"""Leaves that a run left without an entry in the store, with their reasons: told when all others are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core.errors import TaxonomyError, TilthError
from .store import Entry


class Unmade(NamedTuple):
    """A leaf that the store has no entry of, and why not, in one line."""

    leaf: str
    reason: str

    @classmethod
    def of(cls, leaf: str, error: TaxonomyError) -> Unmade:
        """A leaf that cannot be read."""
        return cls(leaf, str(error).removeprefix(f"{leaf}/"))


class NotComplete(TilthError):
    """Some leaves could not be made, or not to their end; `entries` are those of all others."""

    def __init__(self, entries: Sequence[Entry], unmade: Sequence[Unmade]) -> None:
        number, fix = len(unmade), "run the same command again: what was answered is kept"
        super().__init__(
            f"{number:,} {'leaf is' if number == 1 else 'leaves are'} not complete: {first_of(unmade)}", fix=fix
        )
        self.entries, self.unmade = entries, unmade


def first_of(unmade: Sequence[Unmade]) -> str:
    """The first leaf with its reason, and how many there are beside it."""
    leaf, reason = unmade[0]
    others = f" (and {len(unmade) - 1:,} more)" if len(unmade) > 1 else ""
    return f"{leaf}{others}: {reason}"
