"""`tilth chat` in a pipe and on a terminal. The model is the loop's student, or the scripted one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from tilth.llm.scripted import serve_scripted

from ..loop import Loop, Ran, Spawner

SAY = "import io, sys; sys.stdin = io.TextIOWrapper(io.BytesIO({said!r}))"
Chat = Callable[..., Ran]


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    with serve_scripted() as url:
        yield f"{url}#scripted"


@pytest.fixture
def chat(spawner: Spawner, turned_once: Loop) -> Chat:
    def ran(said: bytes, *arguments: str) -> Ran:
        return spawner.run(turned_once.root, "chat", *arguments, before=SAY.format(said=said))

    return ran


def test_each_line_has_its_answer(chat: Chat, turned_once: Loop) -> None:
    asked = "What is the wheel of Orla Mill made of?"
    ran = chat(f"{asked}\n\n/reset\n{asked}\n/exit\nnot asked\n".encode(), "--max-tokens", "6")
    assert ran.code == 0, ran.err
    assert ran.out == "larch\nlarch\n"
    assert ran.err == "loading release 1\n"


def test_two_models_are_compared(chat: Chat, url: str) -> None:
    ran = chat(b"One?\nTwo?\n", "base", "--compare", url, "--max-tokens", "3", "--json")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["question"] for row in rows] == ["One?", "Two?"]
    assert all(list(row["answers"]) == ["base", url] for row in rows)
    assert all(row["answers"][url] for row in rows)
    plain = chat(b"One?", "base", "--compare", url, "--max-tokens", "3").out.splitlines()
    assert [line.partition(": ")[0] for line in plain] == ["base", url]


@pytest.mark.parametrize(
    ("said", "arguments", "told"),
    [
        (b"/rest\n", ["base"], "there is no command '/rest'; use /reset or /exit"),
        (b"\xff\n", ["base"], "standard input:1: not UTF-8 text; write it in UTF-8"),
        (b"", ["bse"], "there is no model 'bse'; did you mean 'base'? Else write base, teacher, "),
        (b"", ["2"], "there is no release 2; releases: 1"),
        (b"x\n", ["http://127.0.0.1:9/v1#m"], "http://127.0.0.1:9/v1: the endpoint does not answer"),
        (b"", ["--temperature", "9"], "--temperature is '9'; write a number of at most 2"),
    ],
)
def test_what_goes_wrong_is_one_line(chat: Chat, said: bytes, arguments: list[str], told: str) -> None:
    ran = chat(said, *arguments)
    last = ran.err.splitlines()[-1]
    assert (ran.code, ran.out, last.startswith("tilth: ")) == (2, "", True)
    assert told in last


ON_ITS_OWN = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C is a signal to whom the terminal belongs to
from tilth.cli.main import main
sys.argv[0] = "tilth"
main()
"""


class Terminal:
    """A command on a terminal of its own, killed at the end if it still runs."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 80) -> None:
        mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-c", ON_ITS_OWN, *arguments]
        environment = os.environ | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._mine, self.shown = mine, ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._mine)

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def end(self) -> int:
        """The exit code after SIGTERM. It is sent again for as long as the command goes on: see `interrupt`."""
        for _ in range(100):
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.5)
        raise AssertionError(self.shown)

    def interrupt(self) -> None:
        """Type Ctrl-C until the prompt is there, as a person does.

        One that comes after Python has looked for signals and before it waits for a key is seen at the next key only.
        """
        for _ in range(100):
            self.type("\x03")
            with contextlib.suppress(TimeoutError):
                self.until("> ", 0.5)
                return
        raise AssertionError(self.shown)

    def until(self, text: str, seconds: float = 60.0) -> str:
        """What is shown until `text` is, and with it."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            if time.monotonic() > deadline:
                raise TimeoutError(self.shown)
            if select.select([self._mine], [], [], 0.1)[0]:
                self.shown += os.read(self._mine, 4096).decode(errors="replace")
        before, found, self.shown = self.shown.partition(text)
        return before + found


def test_on_a_terminal(turned_once: Loop, url: str) -> None:
    with Terminal(turned_once.root, "chat", url) as terminal:
        assert "/reset begins anew" in terminal.until("> ")
        terminal.type("Hello there\n")
        assert len(terminal.until("> ").splitlines()) >= 2
        terminal.type("/what\n")
        assert "there is no command '/what'" in terminal.until("> ")
        terminal.interrupt()
        terminal.type("/reset\n")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(60) == 0


def test_ctrl_c_stops_an_answer_and_sigterm_the_chat(turned_once: Loop) -> None:
    with serve_scripted(script=("hang",)) as url, Terminal(turned_once.root, "chat", f"{url}#scripted") as terminal:
        terminal.until("> ")
        terminal.type("Hello there\n")
        while not url.stats().requests:
            time.sleep(0.05)
        terminal.interrupt()
        terminal.type("Again\n")
        terminal.until("> ")
        assert terminal.end() == 0


def test_two_answers_stand_side_by_side(turned_once: Loop, url: str) -> None:
    with Terminal(turned_once.root, "chat", url, "--compare", url, columns=120) as terminal:
        terminal.until("> ")
        terminal.type("Hello there\n")
        rows = terminal.until("\n> ").replace("\x1b[K", "").splitlines()
        assert any(row.split() == [url, url] for row in rows)
        assert any(row.split() == ["-" * 58] * 2 for row in rows)
