import http.client
import re
import socket
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from tilth.core.atomic import write_json
from tilth.core.config import Config
from tilth.core.errors import TilthError
from tilth.core.rate import wilson
from tilth.core.workspace import Workspace
from tilth.cycle.journal import Done, Inputs, Judgement, begin, cycle_folder, finish
from tilth.cycle.report_site import HOST, Site, open_server
from tilth.eval.compare import Comparison
from tilth.eval.gate import Verdict
from tilth.eval.report import LeafChanges

HOSTILE = "knowledge/<script>alert(1)</script>"
TOKEN = "hard-to-guess"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three cycles: released, refused, open."""
    made = Workspace(tmp_path / "coast", Config())
    (tmp_path / "secret.html").write_text("<body>\nsecret")
    for number, (outcome, release) in enumerate([("pass", 1), ("fail", 0), ("", 0)], start=1):
        inputs = Inputs(
            number=number, identity=f"{number}", commit="c0ffee", parent=0, changes=LeafChanges(), new=(HOSTILE,),
            config={}, started_at=NOW,
        )  # fmt: skip
        begin(made, inputs)
        if not outcome:
            continue
        folder = cycle_folder(made, number)
        compared = Comparison(
            leaf=HOSTILE, before=wilson(1, 12), after=wilson(11, 12), gained=(), lost=(), p_value=1, verdict="learned"
        )
        verdict = Verdict.model_validate({"outcome": outcome, "reasons": ("So it is.",)})
        write_json(
            folder / "judgement.json", Judgement(comparisons=(compared,), verdict=verdict).model_dump(mode="json")
        )
        (folder / "report.html").write_text(
            f"<html><body>\nThis is cycle {number}, which says &lt;body>.</body></html>"
        )
        done = {"outcome": "released" if release else "refused", "release": release, "finished_at": NOW}
        finish(made, number, Done.model_validate(done))
    return made


@contextmanager
def served(workspace: Workspace) -> Generator[int]:
    with open_server(Site(workspace), 0, TOKEN) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as response:
        return response.status, response.read().decode(), response.headers


def test_the_list_has_every_cycle_with_its_verdict_and_scores(workspace: Workspace) -> None:
    page = Site(workspace).page("/")
    assert page
    assert page.index("Cycle 3<span") < page.index("Cycle 2</a>") < page.index("Cycle 1</a>")
    assert re.findall(r'href="cycles/(\d)"', page) == ["2", "1"]  # the third is open and has no page
    for told in ("Pass", "Fail", "open", "release 1", "no release", "11 of 12", "65–99 %", "1 March 2026"):  # noqa: RUF001
        assert told in page
    assert "<script>" not in page
    assert Site(Workspace(workspace.root / "none", Config())).page("/")


def test_a_record_that_is_damaged_hides_its_own_cycle_only(workspace: Workspace) -> None:
    (cycle_folder(workspace, 3) / "cycle.json").write_text("{}")
    (cycle_folder(workspace, 1) / "judgement.json").unlink()
    page = Site(workspace).page("/")
    assert page
    assert page.count("not readable") == 2
    assert "judgement.json: the file is missing" in page
    for told in ("Fail", "no release", 'href="cycles/1"'):
        assert told in page


def test_a_cycle_has_links_to_its_neighbours_and_is_left_as_it_is(workspace: Workspace) -> None:
    before = (cycle_folder(workspace, 1) / "report.html").read_bytes()
    first, second = (Site(workspace).page(f"/cycles/{number}") or "" for number in (1, 2))
    assert [name in first for name in ('href="../"', 'href="2"', 'href="0"')] == [True, True, False]
    assert [name in second for name in ('href="../"', 'href="1"', 'href="3"')] == [True, True, False]
    assert first.startswith('<html><body>\n<nav class="cycles" aria-label="Cycles"><a href="../">All cycles</a> ')
    assert first.count("<nav") == 1
    assert Site(workspace).page("/cycles/3") is None  # it is open
    assert (cycle_folder(workspace, 1) / "report.html").read_bytes() == before


PATHS = [
    "/cycles/0",
    "/cycles/4",
    "/cycles/01",
    "/cycles/1/",
    "/x",
    "/?a",
    "/cycles/../../secret.html",
    "/cycles/1%2f..",
    "/../secret.html",
    "/%2e%2e/secret.html",
    "/cycles/1/../../tilth.yaml",
    "/cycles/1/report.html",
    "/cycles/999999999999999999999",
]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_else_is_served(workspace: Workspace, path: str) -> None:
    with served(workspace) as port:
        status, text, _ = ask(port, f"/{TOKEN}{path}")
    assert (status, "secret" in text) == (404, False)


def test_a_browser_that_goes_and_a_page_that_was_damaged_are_no_tracebacks(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    report = cycle_folder(workspace, 1) / "report.html"
    report.write_bytes(b"<html><body>\n\xff" + 8_000_000 * b"x")
    with served(workspace) as port:
        with socket.create_connection((HOST, port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
            connection.sendall(f"GET /{TOKEN}/cycles/1 HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            connection.recv(1000)
        status, text, _ = ask(port, f"/{TOKEN}/cycles/1")
        assert (status, "\ufffdxxx" in text) == (200, True)
        report.unlink()
        report.symlink_to(report.parent)
        assert ask(port, f"/{TOKEN}/cycles/1")[0] == 404
    assert capfd.readouterr().err == ""


def test_it_answers_this_machine_only_and_writes_nothing(workspace: Workspace) -> None:
    with served(workspace) as port:
        status, text, headers = ask(port, f"/{TOKEN}/cycles/1")
        assert (status, headers["Content-Type"], headers["X-Frame-Options"]) == (
            200,
            "text/html; charset=utf-8",
            "DENY",
        )
        assert "This is cycle 1" in text
        assert ask(port, f"/{TOKEN}/", Host=f"localhost:{port}")[0] == 200
        assert ask(port, f"/{TOKEN}/", Host="evil.example")[0] == 403
        assert ask(port, f"/{TOKEN}/", method="POST")[0] == 501
        assert ask(port, f"/{TOKEN}/", method="HEAD")[:2] == (200, "")
        (cycle_folder(workspace, 1) / "judgement.json").write_text("{}")
        status, text, _ = ask(port, f"/{TOKEN}/")
        assert (status, "not readable" in text) == (200, True)
        with pytest.raises(TilthError, match=f"port {port} cannot be used"):
            open_server(Site(workspace), port, TOKEN)


@pytest.mark.parametrize(
    "path", ["/", "/cycles/1", "//cycles/1", "/hard-to-gues/cycles/1", "/HARD-TO-GUESS/cycles/1", "/%C3%A9"]
)
def test_without_the_token_nothing_is_told(workspace: Workspace, path: str) -> None:
    with served(workspace) as port:
        status, text, headers = ask(port, path)
    assert (status, "cycle 1" in text, headers["Set-Cookie"]) == (403, False, None)


def test_links_lead_where_the_token_is(workspace: Workspace) -> None:
    with served(workspace) as port:
        start = f"http://{HOST}:{port}/{TOKEN}/"
        index = ask(port, f"/{TOKEN}/")[1]
        links = {urljoin(start, link) for link in re.findall(r'href="([^"]+)"', index)}
        assert links == {f"{start}cycles/{number}" for number in (1, 2)}
        page = ask(port, f"/{TOKEN}/cycles/2")[1]
        found = {urljoin(f"{start}cycles/2", link) for link in re.findall(r'<a href="([^"]+)"', page)}
        assert found == {start, f"{start}cycles/1"}
