"""A GGUF model served on 127.0.0.1 by llama.cpp (the `xllamacpp` wheel), in a child that never outlives its parent.

Both sides stand here. The parent (`serve`) starts `python -m tilth.llm.gguf_server`, writes a fresh token to its
standard input and reads the server's address from its standard output. The child keeps reading its standard input: the
end of file means that the parent is gone, however it went. (Linux's parent-death signal is not used: it fires when the
*thread* that started the child ends.)
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..core.environment import for_children
from ..core.errors import ModelError
from ..core.progress import Progress

_START_S = 300.0
"""A cold disk may take a minute for a gigabyte."""
_STOP_S = 5.0
_POLL_S = 0.1
CONTEXT_TOKENS = 3072
"""Per slot: a page of document, instructions and an answer. 28 kB of memory per token for the embedded teacher."""
ANSWER_S = 600.0
"""How long one answer may take."""
_PROMPT_CACHE_MIB = 512
"""llama.cpp's own default is 8 GiB of main memory."""


@dataclass(frozen=True)
class LocalServer:
    """A running server. `ended` says why it is gone, and is empty while it runs."""

    base_url: str
    token: str = field(repr=False)
    ended: Callable[[], str]


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and for whom."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


@contextlib.contextmanager
def serve(
    model: Path,
    *,
    slots: int,
    progress: Progress,
    context_tokens: int = CONTEXT_TOKENS,
    listening: Listening | None = None,
) -> Generator[LocalServer]:
    """Serve a GGUF file with `slots` answers at a time until the block ends. Raises ModelError."""
    listening = listening or Listening()
    if importlib.util.find_spec("xllamacpp") is None:
        fix = "run `pip install 'tilth[teacher]'`, or set teacher.base_url to a server of yours"
        raise ModelError("serving a model needs the package xllamacpp", where=model.name, fix=fix)
    with tempfile.TemporaryFile() as log:
        child = _start(model, slots, slots * context_tokens, listening, log)
        try:
            address = _handshake(child, listening.token, progress, f"starting {model.stem}")
            if not address:
                what = f"the server did not start ({_last_lines(log)})"
                raise ModelError(what, where=model.name, fix="check free memory and the file")
            yield LocalServer(f"{address}/v1", listening.token, lambda: _why_ended(child, log))
        finally:
            _stop(child)


def _start(
    model: Path, slots: int, context_tokens: int, listening: Listening, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    # -P: what lies in the working folder (a contributed taxonomy) is never imported. Its own session: Ctrl-C on the
    # terminal is ours to handle, and the server stays up until we are done with it.
    command = [sys.executable, "-P", "-m", "tilth.llm.gguf_server", str(model), "--slots", str(slots)]
    command += ["--context-tokens", str(context_tokens), "--host", listening.host, "--port", str(listening.port)]
    pipe, environment = subprocess.PIPE, for_children()
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=log, env=environment, start_new_session=True, bufsize=0
    )


def _handshake(child: subprocess.Popen[bytes], token: str, progress: Progress, name: str) -> str:
    """Hand over the token and wait for the address; empty when the child ends or takes too long."""
    assert child.stdin
    assert child.stdout
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(f"{token}\n".encode())
    deadline = time.monotonic() + _START_S
    with progress.task(name, total=None, unit="s") as task:
        while time.monotonic() < deadline:
            if select.select([child.stdout], [], [], _POLL_S)[0]:
                return child.stdout.readline().decode().strip()
            task.advance(_POLL_S)
    return ""


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin
    assert child.stdout
    child.stdin.close()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _why_ended(child: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    return "" if child.poll() is None else f"exit status {child.returncode}: {_last_lines(log)}"


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-400:] or "it left no message"


def main() -> None:
    """The child: serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tilth.llm.gguf_server")
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--slots", type=int, default=8, help="answers at a time")
    parser.add_argument("--context-tokens", type=int, default=8 * CONTEXT_TOKENS, help="of all slots together")
    options = parser.parse_args()
    parent = os.getppid()
    address = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp writes goes to the log; the address has the real standard output to itself
    token = _read_line(sys.stdin.fileno())
    server = start_llama(options, token)
    address.write(f"{server.listening_address}\n")
    address.close()
    wait_for_parent_to_end(parent)
    os._exit(0)  # at once: the server's own shutdown would wait for the answers in flight


def _read_line(descriptor: int) -> str:
    """Up to the end of line and no further: what is buffered would hide the end of file from `select`."""
    line = b""
    while (byte := os.read(descriptor, 1)) not in {b"", b"\n"}:
        line += byte
    return line.decode()


def start_llama(options: argparse.Namespace, token: str) -> Any:
    """llama.cpp's server in this process. Exits when it cannot start.

    Why is on standard error, if the thread in which llama.cpp writes its messages got to it in time.
    """
    import xllamacpp

    llama: Any = xllamacpp
    parameters = llama.CommonParams()
    parameters.model.path = str(options.model)
    parameters.model_alias = {options.model.stem}  # else every answer tells the path, and with it the user
    parameters.hostnames, parameters.port = [options.host], options.port
    parameters.api_keys = [token]
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.context_tokens
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    parameters.ui = False
    parameters.verbosity = 1  # errors
    try:
        return llama.Server(parameters)
    except RuntimeError as error:
        sys.exit(f"the model cannot be loaded ({error})")


def wait_for_parent_to_end(parent: int) -> None:
    """Return when standard input ends or process `parent` is our parent no more.

    The second matters when a sibling was forked with a copy of the pipe's other end and lives on.
    """
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], 1.0)[0] and not os.read(sys.stdin.fileno(), 4096):
            return


if __name__ == "__main__":
    main()
