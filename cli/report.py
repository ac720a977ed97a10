"""`tilth report`: the HTML page of a cycle, its verdict as Markdown, or the pages of all cycles in a browser."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.workspace import Workspace
from ..cycle.journal import done, last_finished
from ..cycle.report import write_report
from ..cycle.report_site import HOST, Site, open_server
from ..cycle.verdicts import verdict_on_cycle, verdict_on_head
from .options import open_workspace, shown_path

_PORT = 8090


def report(
    number: Annotated[
        int,
        typer.Argument(metavar="CYCLE", help="Its number; default: the last finished one.", min=0, show_default=False),
    ] = 0,
    *,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown",
            help="Print the verdict as Markdown instead, for a comment or a chat: on CYCLE, or on the last commit.",
        ),
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the reports of all cycles to browsers on this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Where --serve listens, else at 8090; 0: any free one.", min=0, max=65535),
    ] = None,
) -> None:
    """Write the report of a cycle again, from its files, and print its path."""
    workspace = open_workspace()
    if serve and markdown:
        raise TilthError("--serve and --markdown exclude one another", fix="leave one out")
    if port is not None and not serve:
        raise TilthError("--port is where --serve listens, and nothing else does", fix="add --serve, or leave it out")
    port = _PORT if port is None else port
    if serve and not number:
        return _serve(workspace, 0, port)
    if markdown and not number:
        print(verdict_on_head(workspace), end="")
        return None
    wanted = number or last_finished(workspace)
    result = done(workspace, wanted) if wanted else None
    if result is None:
        raise TilthError(f"there is no finished cycle{f' {wanted}' if wanted else ''}", fix="run `tilth cycle` first")
    if serve:
        _serve(workspace, number, port)
    elif markdown:
        print(verdict_on_cycle(workspace, wanted), end="")
    else:
        print(shown_path(write_report(workspace, wanted, result)))
    return None


def _serve(workspace: Workspace, number: int, port: int) -> None:
    token = secrets.token_urlsafe(16)
    with open_server(Site(workspace), port, token) as server:
        page = f"cycles/{number}" if number else ""
        print(f"http://{HOST}:{server.server_port}/{token}/{page} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")
