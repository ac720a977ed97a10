"""Ollama's Modelfile for a GGUF file: how a conversation is written, where an answer ends, and the system prompt.

Ollama has a template language of its own. ChatML, which most small models speak, is written in it here; whether a model
speaks ChatML is found out by asking its chat template, for templates of many forms do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import TilthError
from ..llm.untrusted import TEMPLATE_FAULTS, open_tokenizer

_TEMPLATE = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_NO_TEMPLATE = (
    "the chat template is none that a Modelfile is written for: Ollama looks for one of its own that is like it; if "
    "`ollama show --template` says {{ .Prompt }}, it found none, and TEMPLATE and stops are to be added by hand"
)
_STOPS = ("<|im_start|>", "<|im_end|>")


def modelfile(folder: Path, gguf: str, system_prompt: str) -> tuple[str, str]:
    """The Modelfile for the file `gguf` beside it, made from the model in `folder`; and a remark, empty if none is due.

    `system_prompt` is what the model was trained with; empty: what its chat template puts by itself.
    """
    default = _system_of_chatml(folder)
    lines = [f"FROM ./{gguf}", "PARAMETER temperature 0"]
    remark = "" if default is not None else _NO_TEMPLATE
    if default is not None:
        lines.append(f'TEMPLATE """{_TEMPLATE}"""')
        lines += [f'PARAMETER stop "{stop}"' for stop in _STOPS]
    if system := system_prompt or default:
        if '"""' in system:
            what = "a Modelfile cannot hold three quotation marks in a row"
            raise TilthError(what, where="student.system_prompt", fix="write them otherwise")
        lines.append(f'SYSTEM """{system}"""')
    return "\n".join([*lines, ""]), remark


def _system_of_chatml(folder: Path) -> str | None:
    """The system prompt that a ChatML template puts by itself, often an empty one; None where it is no ChatML."""
    from jinja2 import TemplateError

    tokenizer = open_tokenizer(folder)
    asked = [("user", "one")]
    talk = [("system", "be"), *asked, ("assistant", "two"), ("user", "three")]
    try:
        whole, alone = (_written(tokenizer, turns) for turns in (talk, asked))
    except (TemplateError, *TEMPLATE_FAULTS):  # no template, or one that knows no system prompt
        return None
    begin, end = _chatml([("system", "\0"), *asked]).split("\0")
    if whole != _chatml(talk):
        return None
    if alone == _chatml(asked):
        return ""
    return alone[len(begin) : -len(end)] if alone.startswith(begin) and alone.endswith(end) else None


def _written(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _chatml(turns: Sequence[tuple[str, str]]) -> str:
    said = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return f"{said}<|im_start|>assistant\n"
