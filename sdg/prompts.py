"""The prompts of the data engine: those that it ships, and the user's own beside a recipe."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ConfigError, nearest
from ..llm.prompts import Prompt, read_prompt

SHIPPED = Path(__file__).parent / "prompts"


def load_prompt(name_or_path: str, beside: Path = SHIPPED) -> Prompt:
    """Read a shipped prompt by its name, or one by its path (`*.yaml`, relative to `beside`).

    Raises ConfigError when there is no such prompt or its template is wrong, YamlProblems when the file is wrong.
    """
    if name_or_path.endswith(".yaml"):
        path = beside / name_or_path
        return read_prompt(path, str(path))
    path = SHIPPED / f"{name_or_path}.yaml"
    if not path.is_file():
        fix = nearest(name_or_path, [file.stem for file in SHIPPED.glob("*.yaml")])
        raise ConfigError(f"there is no prompt {name_or_path!r}", where="prompts", fix=fix)
    return read_prompt(path, f"prompts/{path.name}")
