"""`tilth chat`: talk to a model in the terminal, or to two at once to compare them; lines in, lines out in a pipe."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.progress import Progress
from ..cycle.models import FORMS, default_model, find_model
from ..llm.chat import Conversation, partner
from ..llm.streaming import MAX_TOKENS, Sampling
from .columns import side_by_side
from .options import Json, Set, open_workspace
from .streams import CLEAR_LINE, shown_json
from .terminal import TerminalProgress, printable, room

_LEAST_CELLS = 100
"""Of a line on which two answers stand side by side."""
_COMMAND = re.compile(r"/\w*")


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{FORMS}; default: the current release.")] = "",
    compare: Annotated[str, typer.Option(metavar="OTHER", help="Ask this model too, and show both answers.")] = "",
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: always the likeliest word.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = MAX_TOKENS,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    as_json: Json = False,
) -> None:
    """Talk to a model. In a pipe each line is a turn, and each answer a line.

    /reset begins a new conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer. Line breaks in an answer become
    spaces in a pipe; --json keeps them.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    names = [model or default_model(workspace), *([compare] if compare else [])]
    found = [find_model(workspace, name, progress) for name in names]
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    with contextlib.ExitStack() as stack:
        sides = [_Side(each.name, stack.enter_context(partner(each, progress)), sampling) for each in found]
        if sys.stdin.isatty() and not as_json:
            _in_person(sides, progress)
        else:
            _line_by_line(sides, as_json=as_json)


class _Side(Conversation):
    """A model that is talked to here."""

    def ask(self, question: str, hear: Callable[[str], None] = lambda _: None) -> str:
        """The answer; one that Ctrl-C stops is kept as far as it came. Raises ModelError."""
        with contextlib.suppress(KeyboardInterrupt) if sys.stdin.isatty() else contextlib.nullcontext():
            super().ask(question, hear)
        return self.turns[-1].content


def _line_by_line(sides: Sequence[_Side], *, as_json: bool) -> None:
    for line in _piped_lines():
        question = _question(line, sides)
        if question is None:
            return
        if not question:
            continue
        answers = {side.name: side.ask(question) for side in sides}
        if as_json:
            print(shown_json({"question": question, "answers": answers}), flush=True)
            continue
        for name, answer in answers.items():
            said = printable(" ".join(answer.split()))
            print(f"{name}: {said}" if len(sides) > 1 else said, flush=True)


def _piped_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise TilthError("not UTF-8 text", where=f"standard input:{number}", fix="write it in UTF-8") from error


def _question(line: str, sides: Sequence[_Side]) -> str | None:
    """The question in a line; empty where there is none or a command was done, None to leave.

    Raises TilthError for a command that there is not.
    """
    text = line.strip()
    if text == "/exit":
        return None
    if text == "/reset":
        for side in sides:
            side.turns = []
        return ""
    if _COMMAND.fullmatch(text):
        raise TilthError(f"there is no command {text!r}", fix="use /reset or /exit")
    return text


def _in_person(sides: Sequence[_Side], progress: Progress) -> None:
    with contextlib.suppress(ImportError):
        import_module("readline")  # `input` edits lines with it
    signal.signal(signal.SIGTERM, _leave)
    progress.say(
        f"{' and '.join(side.name for side in sides)}: /reset begins anew, /exit leaves, Ctrl-C stops an answer"
    )
    question: str | None = ""
    while question is not None:
        try:
            question = _question(_typed(), sides)
            if question:
                _show_answers(question, sides)
        except TilthError as error:
            progress.say(str(error))


def _leave(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one, while Python ends, would kill
    raise SystemExit(0)


def _typed() -> str:
    """A line; empty after Ctrl-C, and `/exit` at Ctrl-D."""
    try:
        return input("> ").encode(errors="replace").decode()
    except KeyboardInterrupt:
        print()
        return ""
    except EOFError:
        print()
        return "/exit"


def _show_answers(question: str, sides: Sequence[_Side]) -> None:
    cells = room() or 0
    if len(sides) > 1 and cells >= _LEAST_CELLS:
        print(side_by_side([(side.name, _with_a_note(side, question)) for side in sides], cells))
        return
    for side in sides:
        if len(sides) > 1:
            print(f"[{side.name}]")
        side.ask(question, _print_piece)
        print()


def _with_a_note(side: _Side, question: str) -> str:
    """The answer; until it is there, a line says who is at it."""
    print(f"{side.name} is answering …", end="", flush=True)
    try:
        return side.ask(question)
    finally:
        print(CLEAR_LINE, end="", flush=True)


def _print_piece(piece: str) -> None:
    """What a model says may hold escapes, which steer a terminal."""
    print("".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in piece), end="", flush=True)
