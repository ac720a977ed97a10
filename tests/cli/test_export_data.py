"""`tilth export-data`: what it prints, and what it sends to a hub that stands in for the real one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tilth.cli.export_data import Format, export_data
from tilth.cli.generate import generate
from tilth.core.errors import ModelError, TilthError
from tilth.sdg.formats import FORMATS

from ..loop import FERRY, MILL, SKILL, Loop, knowledge_files, make_loop, serve_teacher


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Loop:
    """A workspace with samples of two leaves, and the current folder."""
    root = tmp_path / "taxonomy"
    with serve_teacher() as teacher:
        loop = make_loop(root, teacher, root / "none")
        monkeypatch.chdir(root)
        generate()
    capsys.readouterr()
    return loop


@pytest.mark.slow
def test_what_it_says(loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop.commit(FERRY, knowledge_files(FERRY))
    export_data("../out", ledger=True)
    told = capsys.readouterr().out
    assert "1 leaf without samples left out" in told
    assert told.endswith("exported to ../out; README.md is its card\n")
    assert (tmp_path / "out" / "ledger.jsonl.gz").is_file()
    export_data("../out", leaf="mill", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["place"], list(found["samples_by_leaf"])) == ("../out", [MILL])
    assert not (tmp_path / "out" / "ledger.jsonl.gz").exists()
    with pytest.raises(TilthError, match="did you mean 'skill'"):
        export_data("../out", kind="skil")
    with pytest.raises(TilthError, match="DIR is empty"):
        export_data("")


def test_every_format_can_be_chosen() -> None:
    assert {format_.value for format_ in Format} == {*FORMATS, "hub"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[list[tuple[str, Any]]]:
    """What a hub on 127.0.0.1 is asked: path and body. Its key is `right`."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, body))
            if self.headers.get("Authorization") != "Bearer right" and self.path != "/api/agent-harnesses":
                self.send(401, {"error": "no such token"})
            elif self.path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                modes = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
                self.send(200, {"files": modes})
            else:
                address = f"http://127.0.0.1:{server.server_port}/datasets/ada/words"
                commit = {"commitUrl": f"{address}/commit/1", "commitOid": "1" * 40}
                self.send(200, {"url": address, "name": "ada", "errors": [], "warnings": [], **commit})

        do_GET = do_POST  # noqa: N815

        def send(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_the_hub_gets_all_files_in_one_commit(
    loop: Loop, hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "right")
    export_data("ada/words", shape=Format.hub, leaf=SKILL)
    assert "/datasets/ada/words; README.md is its card" in capsys.readouterr().out
    [made] = [json.loads(body) for path, body in hub if path == "/api/repos/create"]
    assert (made["type"], made["name"], made.get("visibility")) == ("dataset", "words", "private")
    [commit] = [body for path, body in hub if path.startswith("/api/datasets/ada/words/commit/")]
    sent = [json.loads(line) for line in commit.splitlines()]
    files = {
        each["value"]["path"]: base64.b64decode(each["value"]["content"]) for each in sent if each["key"] == "file"
    }
    assert set(files) == {"README.md", "export.json", "train.parquet", "provenance.parquet"}
    assert files["train.parquet"].startswith(b"PAR1")
    assert json.loads(files["export.json"])["samples_by_leaf"].keys() == {SKILL}


@pytest.mark.slow
def test_a_hub_that_refuses_is_one_line(
    loop: Loop, hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(TilthError, match="'HF_TOKEN' with the hub's token is not set"):
        export_data("ada/words", shape=Format.hub)
    assert hub == []
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(ModelError, match="HTTP 401"):
        export_data("ada/words", shape=Format.hub)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        export_data("ada/words", shape=Format.hub)
