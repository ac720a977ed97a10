"""A request to `/v1/chat/completions` as it comes over HTTP, and what is told where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..core.records import Message
from ..core.wording import key_name, worded
from .streaming import MAX_TOKENS, Sampling

_NOT_HERE = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "modalities",
    "audio",
    "prediction",
    "echo",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "grammar",
    "json_schema",
    "best_of",
    "use_beam_search",
    "length_penalty",
    "min_p",
    "min_tokens",
    "typical_p",
    "repetition_penalty",
    "top_k",
    "stop_token_ids",
    "ignore_eos",
    "bad_words",
    "allowed_token_ids",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
)
"""What this server cannot do, where it is asked for by a value that says so: not null, false, 0 or empty."""
_NO_WISH: Mapping[str, tuple[Any, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "top_k": (-1,),
    **dict.fromkeys(("best_of", "length_penalty", "typical_p", "repetition_penalty"), (1,)),
}
"""Values that ask for no more than text."""


class Refused(Exception):
    """A request that gets no answer: an HTTP status, and OpenAI's name for the reason."""

    def __init__(self, status: int, what: str, code: str | None = None) -> None:
        super().__init__(what)
        self.status, self.what, self.code = status, what, code


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Turn(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: tuple[_Part, ...]
    tool_calls: tuple[()] | None = ()

    @field_validator("content", mode="before")
    @classmethod
    def _text_may_stand_alone(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    def message(self) -> Message:
        text = "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class _StreamOptions(BaseModel):
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """The fields that this server heeds; what it need not know (`user`, `metadata`) may stand there too."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str
    messages: tuple[_Turn, ...] = Field(min_length=1)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = 1
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """By default the likeliest token, as in evaluation."""
    top_p: float | None = Field(default=1.0, ge=0, le=1)
    seed: int | None = None
    stop: tuple[str, ...] | None = Field(default=(), max_length=16)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_may_stand_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        more = self.__pydantic_extra__ or {}
        if unknown := [name for name in _NOT_HERE if more.get(name) and more[name] not in _NO_WISH.get(name, ())]:
            raise ValueError(f"{unknown[0]} is not supported here")
        form: Any = more.get("response_format") or {"type": "text"}
        if form != {"type": "text"}:
            raise ValueError("response_format is not supported here; ask for JSON in words")
        return self

    def conversation(self) -> list[Message]:
        """The turns."""
        return [turn.message() for turn in self.messages]

    def sampling(self, room: int, default_seed: int) -> Sampling:
        """How to answer, in at most `room` tokens."""
        wanted = self.max_completion_tokens or self.max_tokens or MAX_TOKENS
        return Sampling(
            max_tokens=min(wanted, room),
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=default_seed if self.seed is None else self.seed % (1 << 63),
            stop=tuple(text for text in self.stop or () if text),
        )


def read_request(body: bytes) -> ChatRequest:
    """The request in a body. Raises Refused."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Refused(400, str(worded(first, key_name(first["loc"]) or "the request"))) from error
