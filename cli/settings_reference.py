"""The pages about settings in docs/reference/: every key of `tilth.yaml` and of a plan, as the code reads them."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from ..core.config import Config, Section
from ..train.plan import SECTIONS, TRAINS_ON, Phase, shipped_plans
from ..train.settings import auto

_CONFIG_HEAD = """\
# Settings

Every key of `tilth.yaml`; what is left out has its default, and an unknown key is refused with the nearest known one.
`--set section.key=value` sets one for a single command. A phase of training has keys of its own: [plans.md](plans.md).
What a recipe may say stands in the shipped ones with a comment each: `tilth recipes show quick`.
"""
_PLAN_HEAD = """\
# Plans

A plan is a YAML file with a list of `phases`, each of which starts from the model that the one before it left. Its path
is `train.plan` in `tilth.yaml`, or the name of a shipped one:
{shipped}.
Begin with one of those (`train/plans/` in the clone), and look at it with `tilth train --explain`, which says what it
would train, and what became of every `auto`, before anything runs.

```yaml
phases:
  - name: facts
    kinds: [knowledge_short, knowledge_long]
    replay: {{earlier_cycles: 0.4, general: 0.25}}
    epochs: 4
    schedule: linear
```

| method | what it trains on |
|---|---|
{methods}
"""


def settings_reference() -> str:
    """The page about `tilth.yaml`."""
    return "\n".join([_CONFIG_HEAD, *_section(Config, "", {})])


def plans_reference() -> str:
    """The page about plans."""
    methods = "\n".join(f"| `{name}` | {', '.join(sorted(kinds))} |" for name, kinds in TRAINS_ON.items())
    shipped = ", ".join(f"`{name}`" for name in shipped_plans())
    return "\n".join([_PLAN_HEAD.format(shipped=shipped, methods=methods), *_section(Phase, "", {})])


def _section(kind: type[Section], path: str, told: dict[type[Section], str]) -> Iterator[str]:
    """A table of a section's own keys, then the sections in it; of one that was told already, only where that was."""
    told[kind] = path
    texts = _texts(kind)
    inner = {name: _inner(field.annotation) for name, field in kind.model_fields.items()}
    rows = [_row(name, field, texts.get(name, "")) for name, field in kind.model_fields.items() if not inner[name]]
    if path:
        yield f"## {path}\n\n{_first_paragraph(kind)}{_methods(path)}\n"
    if rows:
        yield "\n".join(["| key | value | default | what it is |", "|---|---|---|---|", *rows]) + "\n"
    for name, section in inner.items():
        there = f"{path}.{name}" if path else name
        if section in told:
            yield f"## {there}\n\n{texts[name]} Its keys are those of `{told[section]}`.\n"
        elif section:
            yield from _section(section, there, told)


def _texts(kind: type[Section]) -> dict[str, str]:
    """Field -> what stands below it in the source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    texts: dict[str, str] = {}
    for statement, below in itertools.pairwise(definition.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = _OWN_FILE.sub("", " ".join(text.split()))
            case _:
                pass
    return texts


def _first_paragraph(kind: type[Section]) -> str:
    return _OWN_FILE.sub("", " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split()))


_OWN_FILE = re.compile(r" \(`\w+\.py`[^)]*\)")
"""Where the code for it is: nothing that a user wants to know."""


def _methods(name: str) -> str:
    methods = sorted(SECTIONS.get(name, {name}) - {name})
    return f" For {', '.join(f'`{method}`' for method in methods)}." if methods else ""


def _row(name: str, field: FieldInfo, text: str) -> str:
    is_auto = any(isinstance(each, BeforeValidator) and each.func is auto for each in field.metadata)
    default = "must be said" if field.is_required() else _default(field.default, is_auto=is_auto)
    value = ("`auto`, or " if is_auto else "") + _value(field.annotation, field.metadata)
    return f"| `{name}` | {value} | {default} | {(text + _methods(name)).replace('|', chr(92) + '|')} |"


def _default(value: Any, *, is_auto: bool) -> str:
    if value is None:
        return "`auto`" if is_auto else "absent"
    if value in ("", ()):
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _value(annotation: Any, limits: list[Any]) -> str:
    """What may stand there, in words."""
    parts, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        return _value(parts[0], [*limits, *parts[1:]])
    if origin in {Union, UnionType}:
        return " or ".join(_value(part, limits) for part in parts if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"a list: {_value(parts[0], [])}"
    return _WORDS[annotation] + _limits(limits)


_WORDS = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "text"}


def _limits(limits: list[Any]) -> str:
    """The bounds of a number, those within another bound too."""
    flat = [each for limit in limits for each in (getattr(limit, "metadata", None) or [limit])]
    bounds = {name: getattr(each, name) for each in flat for name in ("gt", "ge", "lt", "le") if hasattr(each, name)}
    told = [(name, bound) for name, bound in bounds.items() if bound not in {None, _MOST}]
    return "".join(f", {_BOUNDS[name]} {bound:,.9g}" for name, bound in told)


_MOST = 1_000_000
"""No more is allowed where no bound is meant."""
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _inner(annotation: Any) -> type[Section] | None:
    """The section that a field holds, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)
