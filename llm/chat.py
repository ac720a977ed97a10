"""Talking to a model, whatever it is: a folder in this process, a GGUF file in llama.cpp's, an endpoint over HTTP.

Each answer is heard piece by piece while it is made.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..core.environment import keys_away
from ..core.errors import ModelError
from ..core.progress import Progress
from ..core.records import Message
from . import gguf_server
from .endpoint import Endpoint, open_endpoints
from .models import Folder, Gguf, Model
from .streaming import Answering, Sampling, StreamingModel

CONTEXT_TOKENS = 8192
"""Of a conversation with a GGUF model, where the model itself has no less."""


_LETTERS_PER_TOKEN = 128
"""The longest tokens there are: runs of spaces."""


class Partner(Protocol):
    """Whom one talks to."""

    def answer(self, conversation: Sequence[Message], sampling: Sampling, hear: Callable[[str], None]) -> None:
        """Answer the last turn; `hear` gets the answer in pieces. Raises ModelError."""
        ...


@contextlib.contextmanager
def partner(model: Model, progress: Progress) -> Generator[Partner]:
    """The model, loaded or reached, until the block ends. Raises ModelError."""
    if isinstance(model, Folder):
        progress.say(f"loading {model.name}")
        yield _WithSystemPrompt(_Here(model.path), model.system_prompt)
    elif isinstance(model, Gguf):
        with gguf_server.serve(model.path, slots=1, progress=progress, context_tokens=CONTEXT_TOKENS) as server:
            endpoint = Endpoint(server.base_url, model.path.stem, server.token, 1, gguf_server.ANSWER_S)
            with _there(endpoint) as there:
                yield _WithSystemPrompt(there, model.system_prompt)
    else:
        with open_endpoints(model.server, progress) as endpoints, _there(endpoints[0]) as there:
            yield there


class Conversation:
    """A model, by its name, and what was said with it."""

    def __init__(self, name: str, partner: Partner, sampling: Sampling) -> None:
        self.name, self._partner, self._sampling = name, partner, sampling
        self.turns: list[Message] = []

    def ask(self, question: str, hear: Callable[[str], None] = lambda _: None) -> str:
        """The answer; `hear` gets it in pieces while it is made. Raises ModelError.

        One that Ctrl-C stops is kept in `turns` as far as it came.
        """
        pieces: list[str] = []

        def heard(piece: str) -> None:
            pieces.append(piece)
            hear(piece)

        turns = [*self.turns, Message(role="user", content=question)]
        try:
            self._partner.answer(turns, self._sampling, heard)
        except KeyboardInterrupt:
            self.turns = [*turns, Message(role="assistant", content="".join(pieces))]
            raise
        self.turns = [*turns, Message(role="assistant", content="".join(pieces))]
        return self.turns[-1].content


class _WithSystemPrompt:
    def __init__(self, inner: Partner, system_prompt: str) -> None:
        self._inner, self._system_prompt = inner, system_prompt

    def answer(self, conversation: Sequence[Message], sampling: Sampling, hear: Callable[[str], None]) -> None:
        self._inner.answer(with_system_prompt(conversation, self._system_prompt), sampling, hear)


def with_system_prompt(conversation: Sequence[Message], system_prompt: str) -> list[Message]:
    """The conversation as the student was trained: the system prompt first, unless it begins with one of its own."""
    if not system_prompt or (conversation and conversation[0].role == "system"):
        return list(conversation)
    return [Message(role="system", content=system_prompt), *conversation]


class _Here:
    """A folder, loaded into this process."""

    def __init__(self, folder: Path) -> None:
        self._model, self._folder = StreamingModel(folder), folder

    def answer(self, conversation: Sequence[Message], sampling: Sampling, hear: Callable[[str], None]) -> None:
        prompt = self._model.prompt(conversation)
        room = self._model.context_tokens - len(prompt)
        if room < 1:
            what = f"the conversation has {len(prompt):,} tokens, and the model holds {self._model.context_tokens:,}"
            raise ModelError(what, where=str(self._folder), fix="begin a new conversation")
        self._model.answer([Answering(prompt, replace(sampling, max_tokens=min(sampling.max_tokens, room)), hear)])


@contextlib.contextmanager
def _there(endpoint: Endpoint) -> Generator[Partner]:
    import openai

    with keys_away():
        platform.platform()  # openai tells it, and for it Python asks the program uname, once
    client = openai.OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",  # the package wants one
        timeout=endpoint.timeout_s,
        max_retries=0,
        # A proxy that the environment names cannot reach this machine's own loopback.
        http_client=openai.DefaultHttpx2Client(trust_env=False) if endpoint.is_loopback else None,
    )
    with client:
        yield _There(client, endpoint)


class _There:
    """A model behind a server."""

    def __init__(self, client: Any, endpoint: Endpoint) -> None:
        self._client, self._model, self._where = client, endpoint.model, endpoint.base_url
        self._without_key = endpoint.without_key

    def answer(self, conversation: Sequence[Message], sampling: Sampling, hear: Callable[[str], None]) -> None:
        import openai

        request: dict[str, Any] = {
            "model": self._model,
            "messages": [turn.model_dump() for turn in conversation],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        left = _LETTERS_PER_TOKEN * sampling.max_tokens
        try:
            with self._client.chat.completions.create(**request, stream=True) as stream:
                for piece in _pieces(stream):
                    if (left := left - len(piece)) < 0:
                        what = f"the answer has no end: it is longer than {sampling.max_tokens:,} tokens can be"
                        raise ModelError(what, where=self._where, fix="ask another endpoint")
                    hear(piece)
        except _NoStreamError as error:
            what = f"the endpoint's answer is no stream of OpenAI's API ({self._without_key(str(error))})"
            raise ModelError(what, where=self._where, fix="check that the address is that of such an API") from error
        except openai.APIStatusError as error:
            said = self._without_key(error.message)[:200]
            what = f"the endpoint refuses the request (HTTP {error.status_code}: {said})"
            raise ModelError(what, where=self._where, fix="check the model's name, the key and the length") from error
        except openai.OpenAIError as error:
            what = f"the endpoint does not answer ({self._without_key(str(error))[:200]})"
            raise ModelError(what, where=self._where, fix="check that it runs and can be reached") from error


class _NoStreamError(Exception):
    """What came is not what OpenAI's API would send."""


def _pieces(stream: Any) -> Iterator[str]:
    """What is said, piece by piece, some of them empty: the package passes on whatever JSON there is."""
    answered = False
    try:
        for chunk in stream:
            for choice in chunk.choices[:1]:
                answered = True
                yield _text(choice.delta)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # JSON's and UTF-8's too
        raise _NoStreamError(str(error)[:200]) from error
    if not answered:
        raise _NoStreamError("nothing came")


def _text(delta: Any) -> str:
    content = (delta and delta.content) or ""
    if not isinstance(content, str):
        raise TypeError(f"its content is no text but {type(content).__name__}")
    return content.encode(errors="replace").decode()  # half of an emoji could not be sent again
