"""What a chat-completions server answered, read from the body as it came over the wire."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field


@dataclass(frozen=True)
class Completion:
    """The parts of an answer that tilth uses. `finish_reason` is `length` when `max_tokens` cut it short."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def read_completion(body: str) -> Completion:
    """Read a response body. Raises ValueError when it is no chat completion (a proxy's page, a truncated answer)."""
    parsed = _Body.model_validate_json(body)
    choice = parsed.choices[0]
    usage = parsed.usage or _Usage()
    text = choice.message.content or ""
    return Completion(text, choice.finish_reason or "", usage.prompt_tokens, usage.completion_tokens)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None
