"""`tilth report`: the HTML page of a cycle."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.errors import TilthError
from ..cycle.journal import done, last_finished
from ..cycle.report import write_report
from .options import open_workspace, shown_path


def report(
    number: Annotated[
        int,
        typer.Argument(metavar="CYCLE", help="Its number; default: the last finished one.", min=0, show_default=False),
    ] = 0,
) -> None:
    """Write the report of a cycle again, from its files, and print its path."""
    workspace = open_workspace()
    wanted = number or last_finished(workspace)
    result = done(workspace, wanted) if wanted else None
    if result is None:
        raise TilthError(f"there is no finished cycle{f' {wanted}' if wanted else ''}", fix="run `tilth cycle` first")
    print(shown_path(write_report(workspace, wanted, result)))
