"""The errors that tilth raises.

Everything a user can cause or mend is a `TilthError`; its text is one line that says where, what, and what to do.
The command line prints that line and exits; any other exception that reaches it is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 20


class TilthError(Exception):
    """Something the user can act on.

    `where` is a `file:line:column`, a path or a name; `fix` is an instruction ("run `tilth init` first").
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        line = (f"{where}: " if where else "") + what + (f"; {fix}" if fix else "")
        super().__init__(" ".join(line.split()))


class ConfigError(TilthError):
    """`tilth.yaml`, a plan, a recipe or a prompt file is wrong."""


class TaxonomyError(TilthError):
    """A leaf, a document or the git repository is wrong."""


class ModelError(TilthError):
    """A model cannot be fetched, loaded, reached, or does not answer as asked."""


class DataError(TilthError):
    """A file that tilth wrote is missing, truncated or not what its manifest says."""


class CheckFailed(TilthError):
    """A check said no: contamination, the gate, a phase that would train on nothing."""

    exit_code = 1


def closest(name: str, allowed: Iterable[str]) -> str:
    """The allowed name that is most like this one; empty where none is like it."""
    return next(iter(difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=0.6)), "")


def nearest(name: str, allowed: Iterable[str], most: int = _MOST_LISTED) -> str:
    """The end of a message about an unknown name: the closest allowed one if there is any, else the first `most`."""
    names = sorted(allowed)
    if close := closest(name, names):
        return f"did you mean {close!r}?"
    more = f", … ({len(names):,} in all)" if len(names) > most else ""
    return f"use one of: {', '.join(names[:most])}{more}"
