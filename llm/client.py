"""One endpoint over HTTP: one chat-completions request, tried once. Errors of the HTTP libraries end here.

Requests go over aiohttp: the `openai` package takes eight times the CPU for each (docs/decisions/0006).
"""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple

from ..core.errors import ModelError
from .completion import Completion, read_completion
from .endpoint import Endpoint

_TRANSIENT = {408, 409, 425}
"""Statuses under 500, besides 429, that say nothing against the request itself."""
_KEEP_ALIVE_S = 15.0
"""Connections that rest longer are closed by us: many servers close theirs after 20 seconds or a minute."""
_DISCOVERY_S = 10.0
_MOST_BYTES = 8 << 20
"""Of one answer: a hundred thousand tokens of thoughts take a tenth of it."""


FailureKind = Literal["rejected", "unreachable", "timeout", "busy", "broken"]


class Failure(Exception):
    """A request that got no answer.

    `rejected`: the request or the key is wrong, asking again is useless; `unreachable`: no connection could be made;
    `timeout`: no answer in time; `busy`: 429; `broken`: a server error, a dropped connection, or not a chat completion.
    """

    def __init__(self, kind: FailureKind, what: str, *, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(what)
        self.kind, self.what, self.status, self.retry_after_s = kind, what, status, retry_after_s


class Reply(NamedTuple):
    """The body as it came, and what it says."""

    body: str
    completion: Completion


class Client:
    """An HTTP client for one endpoint; an async context manager. It tries once: when to try again is the caller's."""

    def __init__(self, endpoint: Endpoint) -> None:
        import aiohttp

        self.endpoint = endpoint
        self._constrains = True
        """Until the server says that it cannot hold an answer to a schema; then the schema is put into words."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s),
            # A proxy that the environment names cannot reach this machine's own loopback.
            trust_env=not endpoint.is_loopback,
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def complete(self, request: Mapping[str, Any], text: str) -> Reply:
        """Ask for a chat completion; `text` is the request in JSON. Raises Failure."""
        if request["model"] != self.endpoint.model:
            request = {**request, "model": self.endpoint.model}
            text = json.dumps(request, ensure_ascii=False)
        if "response_format" not in request:
            return await self._post(text)
        if self._constrains:
            try:
                return await self._post(text)
            except Failure as failure:
                if failure.kind != "rejected" or not _NO_SCHEMA.search(failure.what):
                    raise
        reply = await self._post(json.dumps(_in_words(request), ensure_ascii=False))
        self._constrains = False
        return reply

    async def served(self) -> dict[str, int]:
        """The models that the endpoint lists -> their context in tokens, 0 where it does not tell (vLLM's does).

        Empty where there is no list, which is a courtesy.
        """
        import aiohttp

        url, limit = f"{self.endpoint.base_url.rstrip('/')}/models", aiohttp.ClientTimeout(total=_DISCOVERY_S)
        try:
            async with self._session.get(url, timeout=limit, allow_redirects=False) as response:
                models: Any = json.loads(await _text(response))["data"]
            return {str(model["id"]): int(model.get("max_model_len") or 0) for model in models}
        except (aiohttp.ClientError, OSError, Failure):
            return {}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # it is no list of models
            return {}

    async def _post(self, request: str) -> Reply:
        import aiohttp

        url = f"{self.endpoint.base_url.rstrip('/')}/chat/completions"
        try:
            async with self._session.post(url, data=request.encode(), allow_redirects=False) as response:
                text = self.endpoint.without_key(await _text(response))
        except TimeoutError as error:
            raise Failure("timeout", f"no answer within {self.endpoint.timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno in {errno.EMFILE, errno.ENFILE}:
                fix = "raise the limit (`ulimit -n 4096`), or lower concurrency"
                raise ModelError("too many files are open", where=self.endpoint.base_url, fix=fix) from error
            raise Failure("unreachable", str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failure("broken", f"the connection was lost ({error})") from error
        if response.status != 200:
            raise self._status_failure(response.status, text, response.headers.get("Retry-After", ""))
        try:
            return Reply(text, read_completion(text))
        except ValueError as error:
            raise Failure("broken", f"the answer is no chat completion: {text[:80]!r}") from error

    def _status_failure(self, status: int, text: str, retry_after: str) -> Failure:
        kind: FailureKind = "rejected"
        if status == 429:
            kind = "busy"
        elif status >= 500 or status in _TRANSIENT:
            kind = "broken"
        what = f"HTTP {status}: {self.endpoint.without_key(_server_message(text))}"
        return Failure(kind, what, status=status, retry_after_s=_seconds(retry_after))


async def _text(response: Any) -> str:
    """The body of a response. Raises Failure for one that no answer of a model is as long as, before it is all here."""
    body = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        body += part
        if len(body) > _MOST_BYTES:
            raise Failure("broken", f"the answer has more than {_MOST_BYTES >> 20} MiB")
    return body.decode(errors="replace")


_NO_SCHEMA = re.compile(r"response_format|json_schema|structured|guided|grammar", re.IGNORECASE)


def _in_words(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with its schema at the end of the last message, for a server that takes no `response_format`."""
    schema = json.dumps(request["response_format"]["json_schema"]["schema"])
    *before, last = request["messages"]
    asked = f"{last['content']}\n\nAnswer with one JSON value and nothing else. Its JSON Schema is: {schema}"
    plain = {name: value for name, value in request.items() if name != "response_format"}
    return {**plain, "messages": [*before, {**last, "content": asked}]}


def _server_message(text: str) -> str:
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    if isinstance(body, dict):
        inner: Any = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(body or text or "no message").split())[:300]


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds from now (RFC 9110: a number, or a date); 0 when there is none."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(retry_after)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
