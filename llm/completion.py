"""What a chat-completions server answered, read from the body as it came over the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field


@dataclass(frozen=True)
class Completion:
    """The parts of an answer that tilth uses. `finish_reason` is `length` when `max_tokens` cut it short."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def read_completion(body: str) -> Completion:
    """Read a response body. Raises ValueError when it is no chat completion (a proxy's page, a truncated answer)."""
    try:
        parsed = _Body.model_validate_json(body)
    except ValueError:
        parsed = _Body.model_validate_json(_mended(body))
    choice = parsed.choices[0]
    usage = parsed.usage or _Usage()
    text = choice.message.content or ""
    return Completion(text, choice.finish_reason or "", usage.prompt_tokens, usage.completion_tokens)


def _mended(body: str) -> bytes:
    """The same without what some servers get wrong around an answer. Raises ValueError when it is no JSON.

    A mark at its begin, half of an emoji where it was cut, and second choices, which nobody asked for.
    """
    try:
        value = json.loads(body.removeprefix("\ufeff"))
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    if isinstance(value, dict) and isinstance(choices := value.get("choices"), list):
        value["choices"] = choices[:1]
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _joined(content: Any) -> Any:
    """Some servers send an answer in parts, `[{"type": "text", "text": "…"}, …]`; what is no text in it is left out."""
    if not isinstance(content, list):
        return content
    parts: list[Any] = content
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _if_text(reason: Any) -> Any:
    return reason if isinstance(reason, str) else None


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_joined)] = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Annotated[str | None, BeforeValidator(_if_text)] = None


_MOST_TOKENS = 2**53
"""More than anybody sends, and what every database and JSON reader holds exactly."""


def _counted(tokens: Any) -> int:
    """0 for what is no count: null, below 0 or beyond all bounds. The answer beside it was paid for."""
    return int(tokens) if isinstance(tokens, int | float) and 0 <= tokens < _MOST_TOKENS else 0


_Count = Annotated[int, BeforeValidator(_counted)]


class _Usage(BaseModel):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


def _told(usage: Any) -> Any:
    return usage if isinstance(usage, dict) else None


class _Body(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage | None, BeforeValidator(_told)] = None
