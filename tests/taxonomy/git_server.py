"""A git server over https on 127.0.0.1, as `docs.test`; and what a hostile one does."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

HOST = "docs.test"
Manner = Literal["honest", "redirect", "endless pack", "endless refs", "silent"]


class GitServer:
    """Serves the repositories below `root`. `requests` are the paths that were asked for."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.manner: Manner = "honest"
        self.requests: list[str] = []
        self.num_sent = 0
        self.closed = threading.Event()
        self.certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        names = f"subjectAltName=DNS:{HOST},DNS:localhost,IP:127.0.0.1"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        made = ["-keyout", str(key), "-out", str(self.certificate), "-subj", f"/CN={HOST}", "-addext", names]
        subprocess.run(["openssl", "req", "-x509", *curve, "-days", "2", *made], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.daemon_threads = True
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]

    def url(self, name: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}/{name}"


@contextmanager
def serve(root: Path, folder: Path) -> Generator[GitServer]:
    server = GitServer(root, folder)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            server.requests.append(self.path)
            try:
                self.answer()
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def finish(self) -> None:
            super().finish()
            with suppress(OSError, ValueError):
                self.connection.settimeout(1)
                self.connection.unwrap()  # an end of the TLS connection that curl takes for one

        def answer(self) -> None:
            fetching = self.command == "POST" and b"command=ls-refs" not in (body := self.body())
            if server.manner == "redirect":
                self.send_response(302)
                self.send_header("Content-Length", "0")
                self.send_header("Location", self.path.replace("/library", "/elsewhere"))
                self.end_headers()
            elif server.manner == "silent":
                server.closed.wait()
            elif server.manner == "endless refs" and self.command == "GET":
                self.flood("application/x-git-upload-pack-advertisement", b"001e# service=git-upload-pack\n0000", b"")
            elif server.manner == "endless pack" and fetching:
                # "packfile", then sideband 1 with the head of a pack and of an object that never ends.
                start = b"000dpackfile\n" + _line(b"\1PACK\0\0\0\2\0\0\0\2" + b"\xbf\xff\xff\xff\x7f\x78\x01")
                self.flood("application/x-git-upload-pack-result", start, b"\1")
            else:
                self.pass_on(body if self.command == "POST" else b"")

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = b""
            while size := int(self.rfile.readline(), 16):
                parts += self.rfile.read(size)
                self.rfile.readline()
            return parts

        def flood(self, kind: str, start: bytes, band: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(start)
            # A stored block of a zlib stream, which inflates to itself; or a ref's line.
            block = b"\0\xff\xff\0\0" + os.urandom(65535) if band else b""
            line = _line(b"1" * 40 + b" refs/heads/" + b"x" * 60_000 + b"\n")
            flood = b"".join(_line(band + block[at : at + 65_000]) for at in range(0, len(block), 65_000)) or line
            while not server.closed.is_set():
                self.wfile.write(flood)
                server.num_sent += len(flood)

        def pass_on(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
            )
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest)
            server.num_sent += len(rest)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _line(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data
