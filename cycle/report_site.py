"""The reports of all cycles of a workspace, served on 127.0.0.1 with links between them. Nothing is written.

An address begins with a token that only who started the server knows, for others on this machine can reach it too; it
names a cycle by its number and never a file. Requests for another host's name are refused, so that no page of the
internet can read the reports through a name that it points here.
"""

from __future__ import annotations

import hmac
import re
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..core.errors import DataError, TilthError
from ..core.rate import Rate, wilson
from ..core.workspace import Workspace
from ..eval.report.index import CycleRow, render_index, with_links
from . import journal
from .journal import JUDGEMENT, REPORT, Judgement, cycle_folder, cycle_numbers, find_cycle, read_record

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Site:
    """The pages. They are read anew each time, so that a cycle that ends is there at once."""

    workspace: Workspace

    def page(self, path: str) -> str | None:
        """The HTML at `/` and `/cycles/N`; None where there is no such page. Raises DataError."""
        numbers = cycle_numbers(self.workspace)
        if path == "/":
            return render_index(self.workspace.root.name, [self._readable_row(number) for number in reversed(numbers)])
        named = re.fullmatch(r"/cycles/([1-9][0-9]{0,5})", path)
        number, paged = int(named[1]) if named else 0, [each for each in numbers if self._file(each).is_file()]
        if number not in paged:
            return None
        at = paged.index(number)
        previous, following = ([0, *paged][at], [*paged, 0][at + 1])
        return with_links(self._file(number).read_text(encoding="utf-8", errors="replace"), previous, following)

    def _file(self, number: int) -> Path:
        return cycle_folder(self.workspace, number) / REPORT

    def _readable_row(self, number: int) -> CycleRow:
        """A damaged record hides its own cycle and no other."""
        try:
            return self._row(number)
        except (DataError, OSError) as error:
            return CycleRow(number=number, has_page=self._file(number).is_file(), damage=str(error))

    def _row(self, number: int) -> CycleRow:
        inputs, done = find_cycle(self.workspace, number), journal.done(self.workspace, number)
        if done is None:
            return CycleRow(number=number, changed=inputs.new)
        folder = cycle_folder(self.workspace, number)
        judgement = read_record(folder / JUDGEMENT, Judgement)
        return CycleRow(
            number=number,
            finished_at=done.finished_at,
            has_page=self._file(number).is_file(),
            outcome=judgement.verdict.outcome,
            released=f"release {done.release}" if done.release else "",
            before=_sum([item.before for item in judgement.comparisons]),
            after=_sum([item.after for item in judgement.comparisons]),
            changed=inputs.new,
        )


def open_server(site: Site, port: int, token: str) -> ThreadingHTTPServer:
    """A server that `serve_forever` starts; port 0 takes a free one. Its pages are below `/TOKEN/`.

    Raises TilthError where the port is taken.
    """

    class Handler(_Handler):
        pages, start = site, f"/{token}"

    try:
        return _Server((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        fix = "name another one with --port, or leave that out"
        reason = getattr(error, "strerror", "") or str(error)
        raise TilthError(f"port {port} cannot be used ({reason.lower()})", where=HOST, fix=fix) from error


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no news; the standard library would print a traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    pages: Site
    start: str
    server_version, sys_version = "tilth", ""

    def do_GET(self) -> None:
        """The page, or a line that says why there is none."""
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if host not in {HOST, "localhost"}:
            return self._send(HTTPStatus.FORBIDDEN, f"ask for http://{HOST}", "text/plain")
        start, path = self.path[: len(self.start)], self.path[len(self.start) :]
        if not hmac.compare_digest(start.encode(), self.start.encode()):
            return self._send(HTTPStatus.FORBIDDEN, "open the address that `tilth report --serve` prints", "text/plain")
        try:
            page = self.pages.page(path)
        except (DataError, OSError) as error:
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), "text/plain")
        if page is None:
            return self._send(HTTPStatus.NOT_FOUND, "there is no such page; / lists the cycles", "text/plain")
        return self._send(HTTPStatus.OK, page, "text/html")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is said of requests."""

    def _send(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _sum(rates: list[Rate]) -> Rate:
    return wilson(sum(rate.correct for rate in rates), sum(rate.total for rate in rates))
