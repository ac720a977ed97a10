"""Recipes: the YAML that parameterises the flows, a section each, with prompts beside it.

A section's fingerprint covers its numbers and its prompts' content, so that an edit makes anew what it concerns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.errors import ConfigError, nearest
from ..core.fingerprint import fingerprint
from ..core.yaml_source import read_yaml
from .prompts import Prompt, load_prompt
from .settings import PARTS, Part, RecipeFile, Settings

SHIPPED = Path(__file__).parent / "recipes"
FLOWS = {"knowledge": "knowledge", "skill": "skills", "grounded_skill": "skills", "foundational": "skills"}
"""Kind of leaf -> the flow that makes its samples."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's section for one flow, with its prompts by their part in the flow."""

    name: str
    flow: str
    settings: Settings
    prompts: Mapping[str, Prompt]

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the prompts' content, so that a reworded prompt makes new samples."""
        prompts = {part: prompt.fingerprint for part, prompt in self.prompts.items()}
        return fingerprint([self.flow, self.settings.model_dump(exclude={"prompts"}), prompts])


def load_recipe(name_or_path: str) -> dict[str, Recipe]:
    """Read a shipped recipe by its name, or the user's own by its path (`*.yaml`), and all its prompts, by flow.

    Raises ConfigError for an unknown name, YamlProblems for what a file has wrong.
    """
    path, name = _find(name_or_path)
    file = read_yaml(path, name=name).validate(RecipeFile)
    recipes: dict[str, Recipe] = {}
    for flow in PARTS:
        settings: Settings = getattr(file, flow)
        names: dict[str, str] = settings.prompts.model_dump()
        prompts = {part: load_prompt(prompt, beside=path.parent) for part, prompt in names.items()}
        for part, prompt in prompts.items():
            _check(prompt, PARTS[flow][part])
        recipes[flow] = Recipe(Path(name).stem, flow, settings, prompts)
    return recipes


def load_recipes(config: Config) -> dict[str, Recipe]:
    """The recipe for each kind of leaf. Raises as `load_recipe`."""
    recipes = load_recipe(config.generate.recipe)
    return {kind: recipes[flow] for kind, flow in FLOWS.items()}


def _find(name_or_path: str) -> tuple[Path, str]:
    if name_or_path.endswith(".yaml"):
        return Path(name_or_path), name_or_path
    path = SHIPPED / f"{name_or_path}.yaml"
    if path.is_file():
        return path, f"recipes/{path.name}"
    shipped = nearest(name_or_path, [file.stem for file in SHIPPED.glob("*.yaml")])
    raise ConfigError(
        f"there is no recipe {name_or_path!r}", where="recipes", fix=f"{shipped} or give a path to a .yaml"
    )


def _check(prompt: Prompt, part: Part) -> None:
    """Raise ConfigError when a prompt does not fit its part, before anything is spent."""
    given = part.variables.split()
    for variable in sorted(prompt.variables.difference(given)):
        raise ConfigError(f"unknown variable {variable!r}", where=prompt.name, fix=nearest(variable, given))
    if prompt.file.repeat != part.repeat:
        what = f"`repeat` is {prompt.file.repeat!r}"
        raise ConfigError(what, where=prompt.name, fix=f"this part of the flow needs {part.repeat!r}")
    if bool(prompt.file.answer) != bool(part.answers):
        fix = "add one" if part.answers else "remove it: this part of the flow is answered in plain text"
        raise ConfigError("the schema is missing" if part.answers else "it has a schema", where=prompt.name, fix=fix)
    if part.answers.startswith("["):
        wanted = _SHAPES.get(part.answers.strip("[]"), _TEXT)
        if any(prompt.file.answer.get(key) != wanted[key] for key in wanted):
            raise ConfigError("the schema does not fit", where=prompt.name, fix=f"this part of the flow needs {wanted}")
        return
    for name in part.answers.split():
        wanted = _SHAPES.get(name, _TEXT)
        found = prompt.file.answer.get("properties", {}).get(name, {})
        if name not in prompt.file.answer.get("required", ()) or any(found.get(key) != wanted[key] for key in wanted):
            raise ConfigError(f"the schema does not require {name!r} as {wanted}", where=prompt.name, fix="add it")


_TEXT: dict[str, Any] = {"type": "string"}
_SHAPES = {"verdict": {**_TEXT, "enum": ["yes", "no"]}}
