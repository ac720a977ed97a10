"""What the scripted model says: strings cut from the prompt, so that equal prompts get equal answers and others differ.

It knows nothing. What it writes is never to be reported as if a model had answered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_WORDS = re.compile(r"\w[\w'-]*")
_MOST_WORDS = 9


def answer(request: Mapping[str, Any], second_choice_share: float) -> str:
    """The text for a chat-completions request: JSON that fits its schema if it has one, else a sentence."""
    script = _Script(request, second_choice_share)
    response_format = request.get("response_format") or {}
    if response_format.get("type") != "json_schema":
        return script.sentence("text")
    schema = response_format["json_schema"]["schema"]
    return json.dumps(script.value(schema, schema, "answer"), ensure_ascii=False)


def count_words(text: str) -> int:
    """The token count that the scripted model reports."""
    return len(text.split())


class _Script:
    """One answer in the making: its choices follow from the request and from the place inside the answer."""

    def __init__(self, request: Mapping[str, Any], second_choice_share: float) -> None:
        messages = request["messages"]
        self._identity = json.dumps([messages, request.get("seed"), request.get("temperature")], sort_keys=True)
        prompt = next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")
        self._words: list[str] = _WORDS.findall(prompt) or ["nothing"]
        self._share = second_choice_share
        self._said: set[str] = set()

    def value(self, schema: Mapping[str, Any], root: Mapping[str, Any], place: str) -> Any:
        """Something that fits `schema`, which stands at `place` (such as `answer.pairs[0].question`)."""
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        if "enum" in schema:
            return self._choice(schema["enum"], place)
        kind = schema.get("type", "string")
        if kind == "object":
            parts = schema.get("properties", {})
            return {name: self.value(part, root, f"{place}.{name}") for name, part in parts.items()}
        if kind == "array":
            count = max(1, schema.get("minItems", 1))
            return [self.value(schema.get("items", {}), root, f"{place}[{index}]") for index in range(count)]
        return self._scalar(kind, schema, place)

    def sentence(self, place: str, name: str = "") -> str:
        """Some words of the prompt, not said before in this answer; a question if the property is named for one."""
        start, length = self._number(place) % len(self._words), 3 + self._number(f"{place}#") % (_MOST_WORDS - 2)
        text = ""
        for step in range(len(self._words)):
            text = " ".join(self._words[(start + step + offset) % len(self._words)] for offset in range(length))
            if text not in self._said:
                break
        else:
            text = f"{text} {len(self._said)}"
        self._said.add(text)
        return text[:1].upper() + text[1:] + ("?" if "question" in name else ".")

    def _scalar(self, kind: str, schema: Mapping[str, Any], place: str) -> Any:
        if kind == "boolean":
            return self._choice([True, False], place)
        if kind in {"integer", "number"}:
            lowest = schema.get("minimum", 0)
            return lowest + self._number(place) % (int(schema.get("maximum", lowest)) - int(lowest) + 1)
        if kind == "null":
            return None
        text = self.sentence(place, re.sub(r"\[\d+\]$", "", place).rsplit(".", 1)[-1])
        return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")

    def _choice(self, options: list[Any], place: str) -> Any:
        second = len(options) > 1 and self._number(place) % 1000 < self._share * 1000
        return options[1 if second else 0]

    def _number(self, place: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._identity}\n{place}".encode()).digest()[:8], "big")
