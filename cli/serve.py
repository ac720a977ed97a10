"""`tilth serve`: a model behind HTTP for whatever speaks OpenAI's API."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from typing import Annotated

import typer

from ..core.environment import withhold
from ..core.errors import ModelError, TilthError
from ..core.progress import Progress
from ..cycle.models import default_model, find_model
from ..llm.chat import CONTEXT_TOKENS
from ..llm.gguf_server import Listening
from ..llm.gguf_server import serve as serve_gguf
from ..llm.models import Endpoint, Gguf
from ..llm.serve import bound, serve_folder
from .options import Set, open_workspace
from .terminal import TerminalProgress

_SLOTS = 4
"""Answers at a time of a GGUF file; each takes memory for its context."""
_LOOK_S = 0.2
_FORMS = "base, teacher, a release's number, a folder of safetensors, OWNER/NAME on the hub, or a .gguf file"


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{_FORMS}; default: the current release.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="0.0.0.0: every address of this machine.")] = "127.0.0.1",
    token_env: Annotated[
        str, typer.Option(metavar="VAR", help="The variable with the bearer token; default: a new one is printed.")
    ] = "",
    overrides: Set = [],  # noqa: B006  typer copies it
) -> None:
    """Serve a model as OpenAI's API has it, until Ctrl-C.

    Safetensors are served by transformers, GGUF files by llama.cpp. Clients send the bearer token. Answers are the
    likeliest ones unless a request asks for a temperature.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    listening = Listening(host, port, _token(token_env))
    with contextlib.suppress(KeyboardInterrupt):
        found = find_model(workspace, model or default_model(workspace), progress)
        if isinstance(found, Endpoint):
            what = "an endpoint is served already"
            raise ModelError(what, where=found.name, fix="name a release, base, a folder or a .gguf file")
        listener = bound(listening)
        place = "http://{}:{}/v1".format(*listener.getsockname()[:2])

        def ready(name: str) -> None:
            print(f"{found.name} answers at {place} as {name!r}; Ctrl-C ends it")
            if not token_env:
                print(f"bearer token: {listening.token}")
            print(end="", flush=True)

        if isinstance(found, Gguf):
            taken = Listening(host, listener.getsockname()[1], listening.token)
            listener.close()
            _serve_gguf(found, taken, progress, ready)
        else:
            progress.say(f"loading {found.name}")
            serve_folder(found, listener, listening.token, ready)


def _token(variable: str) -> str:
    if not variable:
        return secrets.token_urlsafe(32)
    if not (token := os.environ.get(variable, "")):
        raise TilthError(
            f"the environment variable {variable!r} with the token is not set", fix="set it, or leave --token-env out"
        )
    withhold([variable])  # it goes over a pipe
    return token


def _serve_gguf(model: Gguf, listening: Listening, progress: Progress, ready: Callable[[str], None]) -> None:
    served = serve_gguf(model.path, slots=_SLOTS, progress=progress, context_tokens=CONTEXT_TOKENS, listening=listening)
    with served as server:
        if model.system_prompt:
            progress.say("student.system_prompt is not put before conversations here: clients send it")
        ready(model.path.stem)
        while not (ended := server.ended()):
            time.sleep(_LOOK_S)
        raise ModelError(f"the server has ended ({ended})", where=model.name, fix="run the same command again")
