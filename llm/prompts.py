"""Prompts: one YAML file each, with the instructions, the Jinja template and the JSON schema of the answer.

A prompt file may be the user's own and its variables come from contributions, so templates run in Jinja's sandbox and
what is put into them is never read as a template. Put the fixed part first (`system`), then the document or the fact,
then what varies: servers reuse the longest common beginning of two prompts.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..core.config import Section
from ..core.errors import ConfigError
from ..core.fingerprint import fingerprint
from ..core.records import Message
from ..core.yaml_source import load_yaml
from .schema import mismatch, schema_fault

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment


class Example(Section):
    """A conversation that shows the model what is wanted: it stands before the real one, as turns of its own."""

    given: dict[str, Any]
    """The variables of the template."""
    reply: Any
    """What the model is to say: a value that fits the schema, or text."""


class PromptFile(Section):
    """What stands in `prompts/*.yaml`."""

    system: str
    """The system message: plain text, the same for every leaf."""
    user: str
    """The user message: a Jinja template."""
    answer: dict[str, Any] = Field(alias="schema", default_factory=dict)
    """JSON schema of the answer, or (with `repeat`) of one of its items; without one the answer is plain text."""
    repeat: str = ""
    """A variable, a list or a number: the answer is an object with the keys q1, q2, ... and one item for each."""
    examples: tuple[Example, ...] = ()
    shots: str = ""
    """A variable that holds examples of the leaf's own: turns of their own, as `examples`."""
    says: Literal["answer", "question", "turn"] = "answer"
    """What of such an example the model says in its turn."""
    max_tokens: Annotated[int, Field(ge=1)]
    """Of the answer, or (with `repeat`) of each of its items: a small model does not always end by itself."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


class Prompt:
    """A prompt file that was read, with its template compiled."""

    def __init__(self, name: str, file: PromptFile) -> None:
        """Raise ConfigError when the template is not valid Jinja, or an example is not as the prompt asks."""
        from jinja2 import TemplateSyntaxError

        self.name, self.file = name, file
        try:
            self._user, self._used = _compiled(file.user)
        except TemplateSyntaxError as error:
            what = f"not a valid template: {error.message}"
            raise ConfigError(what, where=name, fix=f"mend line {error.lineno} of `user`") from error
        if fault := schema_fault(file.answer):
            raise ConfigError(f"not a JSON schema: {fault}", where=name, fix="mend `schema`")
        self._shown = tuple(message for example in file.examples for message in self._example(example))

    def __reduce__(self) -> tuple[type[Prompt], tuple[str, PromptFile]]:
        """Compiled templates cannot be sent to other processes."""
        return Prompt, (self.name, self.file)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the parsed content: comments, white space and what is left at its default do not count."""
        return fingerprint(self.file.model_dump(exclude_defaults=True))

    @property
    def told(self) -> str:
        """Instructions and template, as they stand in the file."""
        return f"{self.file.system}\n{self.file.user}"

    @property
    def variables(self) -> frozenset[str]:
        """The names that must be given to `messages` and `schema`."""
        return self._used | {name for name in (self.file.repeat, self.file.shots) if name}

    def messages(self, **variables: Any) -> tuple[Message, ...]:
        """The conversation to send. Raises ConfigError when the template asks for what is not there."""
        system = self.file.system.strip()
        first = [Message(role="system", content=system)] if system else []
        return (*first, *self._shown, *self._shots(variables), self._asked(variables))

    def _shots(self, variables: Mapping[str, Any]) -> list[Message]:
        shots = variables.get(self.file.shots, ()) if self.file.shots else ()
        turns = [
            (self._asked({**variables, **shot}), Message(role="assistant", content=shot[self.file.says]))
            for shot in shots
        ]
        return [message for turn in turns for message in turn]

    def _asked(self, variables: Mapping[str, Any]) -> Message:
        from jinja2 import TemplateError

        try:
            user = self._user.render(**variables).strip()
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            known = ", ".join(sorted(variables))
            raise ConfigError(
                f"the template failed: {error}", where=self.name, fix=f"its variables are: {known}"
            ) from error
        return Message(role="user", content=user)

    def _example(self, example: Example) -> tuple[Message, Message]:
        schema = self.schema(**example.given)
        problem = mismatch(example.reply, schema or {"type": "string"}, "an example's reply")
        if problem:
            raise ConfigError(problem, where=self.name, fix="mend it, for a model does as it is shown")
        reply = example.reply if schema is None else json.dumps(example.reply, ensure_ascii=False)
        return self._asked(example.given), Message(role="assistant", content=reply)

    def prefix(self, **variables: Any) -> str:
        """What requests that show the same passage have in common, in one word; empty where none is shown."""
        return fingerprint([self.fingerprint, variables["chunk"]]) if "chunk" in self.variables else ""

    def schema(self, **variables: Any) -> dict[str, Any] | None:
        """The JSON schema of the answer; None for plain text."""
        if not self.file.repeat:
            return self.file.answer or None
        keys = [f"q{number}" for number in range(1, self._items(variables) + 1)]
        properties = dict.fromkeys(keys, self.file.answer)
        return {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}

    def max_tokens(self, **variables: Any) -> int:
        """The most tokens that the answer may have."""
        return self.file.max_tokens * (self._items(variables) if self.file.repeat else 1)

    def _items(self, variables: Mapping[str, Any]) -> int:
        items = variables.get(self.file.repeat)
        if not isinstance(items, int | list | tuple):
            what = f"`repeat` names {self.file.repeat!r}, which is {'no list or number' if items else 'not given'}"
            raise ConfigError(what, where=self.name, fix="give it to each example, or repeat by another variable")
        return items if isinstance(items, int) else len(items)


def read_prompt(path: Path, name: str) -> Prompt:
    """Read a prompt file, which errors call `name`. Raises ConfigError where its template is wrong, YamlProblems."""
    return Prompt(name, load_yaml(path, PromptFile, name=name))


@functools.cache
def _compiled(template: str) -> tuple[Template, frozenset[str]]:
    """A template and its variables: kept, for a recipe's flows share prompts and each look at a recipe reads them all.

    Raises TemplateSyntaxError.
    """
    from jinja2.meta import find_undeclared_variables

    parsed = _jinja().parse(template)
    variables = frozenset(find_undeclared_variables(parsed))
    return _jinja().from_string(parsed), variables


@functools.cache
def _jinja() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )


_MARKS_OF_TURNS = re.compile(r"(?<=<)(?=\||/?s>|/?(?:start|end)_of_turn>)|(?<=\|)(?=>)|(?<=\[)(?=/?INST\])")
"""Within what chat templates set between turns: servers read it as that wherever it stands."""


def harmless(text: str) -> str:
    """What others wrote, as it may stand in a prompt, in a fence."""
    return _MARKS_OF_TURNS.sub(" ", text)


def mark(*written: str) -> str:
    """The mark of fences around what others wrote: it follows from all of it, so nobody can write it."""
    return fingerprint(written, length=8)
