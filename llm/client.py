"""One endpoint over HTTP. The only file that knows the `openai` package; its errors end here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal

from .completion import read_completion
from .endpoint import Endpoint

_TRANSIENT = {408, 409, 425}
"""Statuses under 500, besides 429, that say nothing against the request itself."""


FailureKind = Literal["rejected", "unreachable", "timeout", "busy", "broken"]


class Failure(Exception):
    """A request that got no answer.

    `rejected`: the request or the key is wrong, asking again is useless; `unreachable`: no connection could be made;
    `timeout`: no answer in time; `busy`: 429; `broken`: a server error, a dropped connection, or not a chat completion.
    """

    def __init__(self, kind: FailureKind, what: str, *, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(what)
        self.kind, self.what, self.status, self.retry_after_s = kind, what, status, retry_after_s


class Client:
    """An HTTP client for one endpoint; an async context manager. It tries once: when to try again is the caller's."""

    def __init__(self, endpoint: Endpoint) -> None:
        import openai

        self._endpoint = endpoint
        # A proxy that the environment names cannot reach this machine's own loopback.
        transport = openai.DefaultAsyncHttpx2Client(trust_env=False) if endpoint.is_loopback else None
        self._openai = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or "none",  # the package wants one
            timeout=endpoint.timeout_s,
            max_retries=0,
            http_client=transport,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._openai.close()

    async def complete(self, request: Mapping[str, Any]) -> str:
        """The body of the answer to a chat-completions request, checked to be a chat completion. Raises Failure."""
        import openai

        create: Any = self._openai.chat.completions.with_raw_response.create
        try:
            response = await create(**request)
        except openai.APITimeoutError as error:
            raise Failure("timeout", f"no answer within {self._endpoint.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise _connection_failure(error) from error
        except openai.APIStatusError as error:
            raise self._status_failure(error) from error
        body: str = response.http_response.text
        try:
            read_completion(body)
        except ValueError as error:
            raise Failure("broken", f"the answer is no chat completion: {body[:80]!r}") from error
        return body

    def _status_failure(self, error: Any) -> Failure:
        status: int = error.status_code
        # Some servers repeat the key that they refuse.
        message = _server_message(error)
        if self._endpoint.api_key:
            message = message.replace(self._endpoint.api_key, "***")
        kind: FailureKind = "rejected"
        if status == 429:
            kind = "busy"
        elif status >= 500 or status in _TRANSIENT:
            kind = "broken"
        wait_s = _seconds(error.response.headers.get("retry-after", ""))
        return Failure(kind, f"HTTP {status}: {message}", status=status, retry_after_s=wait_s)


def _connection_failure(error: BaseException) -> Failure:
    """Tell a connection that could not be made from one that was lost, by the cause deep in the HTTP library."""
    cause: BaseException = error
    while cause.__cause__ is not None and type(cause).__name__ != "ConnectError":
        cause = cause.__cause__
    if type(cause).__name__ == "ConnectError":
        return Failure("unreachable", str(cause) or "no connection")
    return Failure("broken", f"the connection was lost ({cause})")


def _server_message(error: Any) -> str:
    body: Any = error.body
    if isinstance(body, dict):
        inner: Any = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(body or error.response.text or "no message").split())[:300]


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds from now (RFC 9110: a number, or a date); 0 when there is none."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time())
