"""A folder of safetensors behind HTTP, as OpenAI's API has it: `/v1/models` and `/v1/chat/completions`.

One thread has the model (`batcher.py`); requests come and go on the event loop. What this server cannot do (tools,
schemas, log-probabilities) is refused, never ignored.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import logging
import os
import random
import signal
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, TilthError
from .batcher import Batcher
from .chat import with_system_prompt
from .chat_request import ChatRequest, Refused, read_request
from .gguf_server import Listening
from .models import Folder
from .streaming import Answering, StreamingModel

if TYPE_CHECKING:
    from aiohttp import web

    _Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MOST_BODY_BYTES = 16 << 20
_STOP_S = 0.5
"""How long answers on their way may take once the server is to stop; then they are cut."""


def bound(listening: Listening) -> socket.socket:
    """A socket that listens where the server is to be, so that a taken port is told before a model is loaded.

    Raises TilthError.
    """
    try:
        return socket.create_server((listening.host, listening.port), backlog=128)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        said = (getattr(error, "strerror", "") or str(error)).partition(" (while")[0]
        reason = os.strerror(number) if number > 0 else said
        where = f"{listening.host}:{listening.port}"
        nowhere = number < 0 or number == errno.EADDRNOTAVAIL  # the resolver's errors are negative
        fix = (
            "name an IPv4 address of this machine with --host"
            if nowhere
            else "choose another with --port; 0 takes a free one"
        )
        raise TilthError(f"cannot listen there ({reason.lower()})", where=where, fix=fix) from error


def serve_folder(folder: Folder, listener: socket.socket, token: str, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the model's name once it answers. Raises ModelError."""
    asyncio.run(_until_signal(_Server(folder, StreamingModel(folder.path), token), listener, ready))


async def _until_signal(server: _Server, listener: socket.socket, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.run(listener, ready, stop)


def served_name(name: str) -> str:
    """How a server calls a model: `release-2`, or the last part of a path."""
    return name.rstrip("/").rsplit("/", 1)[-1].replace(" ", "-")


class _Server:
    def __init__(self, folder: Folder, model: StreamingModel, token: str) -> None:
        self._name, self._system_prompt = served_name(folder.name), folder.system_prompt
        self._model, self._batcher, self._token = model, Batcher(model), token
        self._card = {"id": self._name, "object": "model", "created": int(time.time()), "owned_by": "tilth"}

    async def run(self, listener: socket.socket, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=_MOST_BODY_BYTES)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name}", self._one_model)
        app.router.add_post("/v1/chat/completions", self._chat)
        quiet = logging.Logger("tilth serve")  # of what is no HTTP aiohttp would print a traceback, token or not
        quiet.addHandler(logging.NullHandler())
        runner = web.AppRunner(app, access_log=None, logger=quiet, handler_cancellation=True, shutdown_timeout=_STOP_S)
        await runner.setup()
        self._batcher.start()
        try:
            await web.SockSite(runner, listener).start()
            ready(self._name)
            await stop.wait()
        finally:
            await runner.cleanup()  # cancels what is on its way
            await asyncio.to_thread(self._batcher.stop)  # while there still is a loop to hear it

    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """The token is asked for first, and every error has OpenAI's shape."""
        from aiohttp import web

        try:
            self._refuse_stranger(request.headers.get("Authorization", ""))
            return await handler(request)
        except Refused as refused:
            return web.json_response(_error(refused), status=refused.status)
        except web.HTTPException as error:
            refused = Refused(error.status, f"{error.reason}: {request.method} {request.path}")
            return web.json_response(_error(refused), status=error.status)
        except web.RequestPayloadError as error:
            return web.json_response(_error(Refused(400, f"the body cannot be read: {error}")), status=400)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  a bug, told to whoever asked
            return web.json_response(_error(Refused(500, f"{type(error).__name__}: {error}")), status=500)

    async def _models(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response({"object": "list", "data": [self._card]})

    async def _one_model(self, request: web.Request) -> web.Response:
        from aiohttp import web

        self._refuse_other_model(request.match_info["name"])
        return web.json_response(self._card)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        wanted = read_request(await request.read())
        self._refuse_other_model(wanted.model)
        prompt = self._prompt(wanted)
        room = self._model.context_tokens - len(prompt)
        if room < 1:
            what = f"the messages have {len(prompt)} tokens, and the model holds {self._model.context_tokens}"
            raise Refused(400, what, "context_length_exceeded")
        pieces: asyncio.Queue[str | _Ended] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hear(piece: str | _Ended) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        answering = Answering(prompt, wanted.sampling(room, random.getrandbits(32)), hear)
        self._batcher.submit(answering, lambda problem: hear(_Ended(problem)))
        completion = _Completion(self._name, answering, _until_ended(pieces))
        try:
            return await (completion.stream(request, wanted) if wanted.stream else completion.whole())
        finally:
            answering.cancel()

    def _prompt(self, wanted: ChatRequest) -> list[int]:
        try:
            return self._model.prompt(with_system_prompt(wanted.conversation(), self._system_prompt))
        except ModelError as error:
            raise Refused(400, error.what) from error

    def _refuse_stranger(self, given: str) -> None:
        scheme, _, token = given.partition(" ")
        is_known = hmac.compare_digest(token.strip().encode(errors="replace"), self._token.encode())
        if scheme.lower() != "bearer" or not is_known:
            raise Refused(401, "the bearer token is missing or wrong", "invalid_api_key")

    def _refuse_other_model(self, name: str) -> None:
        if name != self._name:
            raise Refused(404, f"there is no model {name!r} here; use {self._name!r}", "model_not_found")


class _Ended(str):
    """The end of an answer: why it failed, or empty."""


async def _until_ended(pieces: asyncio.Queue[str | _Ended]) -> AsyncGenerator[str]:
    while not isinstance(piece := await pieces.get(), _Ended):
        yield piece
    if piece:
        raise Refused(500, f"the answer failed ({piece})")


class _Completion:
    """One answer as OpenAI's API has it, whole or in chunks."""

    def __init__(self, model: str, answering: Answering, pieces: AsyncGenerator[str]) -> None:
        self._answering, self._pieces = answering, pieces
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    async def whole(self) -> web.Response:
        from aiohttp import web

        text = "".join([piece async for piece in self._pieces])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None}
        body = {**self._head, "object": "chat.completion", "usage": self._usage()}
        return web.json_response({**body, "choices": [{**choice, "finish_reason": self._answering.finish}]})

    async def stream(self, request: web.Request, wanted: ChatRequest) -> web.StreamResponse:
        from aiohttp import web

        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            await _send(response, self._chunk({"role": "assistant", "content": ""}))
            async for piece in self._pieces:
                await _send(response, self._chunk({"content": piece}))
            await _send(response, self._chunk({}, self._answering.finish))
            if wanted.stream_options and wanted.stream_options.include_usage:
                await _send(response, {**self._chunk({}), "choices": [], "usage": self._usage()})
            await response.write(b"data: [DONE]\n\n")
        except Refused as refused:  # the status is sent already
            await _send(response, _error(refused))
        except ConnectionError:
            pass  # the client has gone
        return response

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _usage(self) -> dict[str, int]:
        asked, answered = len(self._answering.prompt), len(self._answering.tokens)
        return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


async def _send(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode())


def _error(refused: Refused) -> dict[str, Any]:
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    return {"error": {"message": refused.what, "type": kind, "param": None, "code": refused.code}}
