"""A hostile page in the user's browser: what it can do with the servers of this machine, tried in Chromium."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.workspace import Workspace
from tilth.cycle.report_site import Site, open_server

from ..chromium import CHROMIUM, browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no chromium here")]


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>hostile</title>")

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Generator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


READ = """fetch(URL).then((answer) => answer.text()).then((text) => "read: " + text, (error) => "refused: " + error)"""
BLIND = """fetch(URL, {mode: "no-cors"}).then((answer) => answer.text().then((text) => answer.type + ":" + text))"""
FRAME = """new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => { let text = "none";
        try { text = frame.contentDocument.body.textContent } catch (error) { text = "closed" }
        done(text) };
    frame.src = URL; document.body.append(frame); })"""


def test_a_page_of_elsewhere_reads_no_report(tmp_path: Path) -> None:
    """Not even one that knows the token; another port is another origin."""
    site = Site(Workspace(tmp_path / "secret-taxonomy", Config()))
    with (
        running(open_server(site, 0, "token")) as port,
        running(ThreadingHTTPServer(("127.0.0.1", 0), _Page)) as hostile,
        browser(tmp_path / "profile") as tab,
    ):
        url = f"http://127.0.0.1:{port}/token/"
        tab.open(url)
        assert "secret-taxonomy" in tab.evaluate("document.body.textContent")
        tab.open(f"http://127.0.0.1:{hostile}/")
        assert tab.evaluate(READ.replace("URL", repr(url))).startswith("refused: ")
        assert tab.evaluate(BLIND.replace("URL", repr(url))) == "opaque:"
        assert "secret" not in tab.evaluate(FRAME.replace("URL", repr(url)))
        assert tab.evaluate(READ.replace("URL", repr(f"http://127.0.0.1:{hostile}/"))).startswith("read: <!doctype")
