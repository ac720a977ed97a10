"""Recipes: the YAML that parameterises the flows, a section each, with prompts beside it.

A section's fingerprint covers its numbers and its prompts' content, so that an edit makes anew what it concerns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core.config import Config, Section
from ..core.errors import ConfigError, TilthError, nearest
from ..core.fingerprint import fingerprint
from ..core.reworded import Likeness
from ..core.yaml_source import YamlProblems, read_yaml
from ..llm.embedding import embed
from ..llm.prompts import Prompt
from .judges import for_votes
from .prompt_check import faults, remarks
from .prompts import load_prompt
from .settings import (
    PARTS,
    KnowledgeSettings,
    Part,
    PreferenceSettings,
    RecipeFile,
    Settings,
    SkillSettings,
    TestSettings,
    part_of,
    prompt_names,
)

SHIPPED = Path(__file__).parent / "recipes"
_CODE = 2
"""To be raised with a change of a flow or a filter by which equal answers come to other samples: what was made before
is then stale, and made again from the ledger."""
FLOWS = {"knowledge": "knowledge", "skill": "skills", "grounded_skill": "skills", "foundational": "skills"}
"""Kind of leaf -> the flow that makes its samples."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe says of one kind of leaves, with the prompts by their part in the flow."""

    name: str
    flow: str
    settings: Settings
    prompts: Mapping[str, Prompt]
    """Those of tests and preferences too: `tests_short`, `preferences_grade`."""
    tests: TestSettings | None = None
    """None: no held-out questions are made. Only knowledge has them."""
    preferences: PreferenceSettings | None = None
    held_out_cosine: float | None = None

    @property
    def likeness(self) -> Likeness | None:
        """What tells a held-out question reworded, where the recipe asks for that."""
        return Likeness(embed, self.held_out_cosine) if self.held_out_cosine else None

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the prompts' content, so that a reworded prompt makes new samples.

        What a recipe leaves at its default does not count: a key that tilth learns later changes no older recipe.
        """
        sections = [section for section in (self.settings, self.tests, self.preferences) if section]
        said: list[Any] = [section.model_dump(exclude={"prompts"}, exclude_defaults=True) for section in sections]
        said += [self.held_out_cosine] if self.held_out_cosine else []
        prompts = {part: prompt.fingerprint for part, prompt in self.prompts.items()}
        return fingerprint([_CODE, self.flow, *said, prompts])


def load_recipe(name_or_path: str) -> dict[str, Recipe]:
    """Read a shipped recipe by its name, or the user's own by its path (`*.yaml`), and all its prompts, by flow.

    Raises ConfigError for an unknown name, YamlProblems for what a file has wrong.
    """
    path, name = _find(name_or_path)
    file = read_yaml(path, name=name).validate(RecipeFile)
    prompts = {flow: _prompts(flow, getattr(file, flow), path.parent) for flow in PARTS}
    shared = {f"preferences_{part}": prompt for part, prompt in prompts["preferences"].items()}
    tests = {f"tests_{part}": prompt for part, prompt in prompts["tests"].items()}
    knowledge, skills = prompts["knowledge"] | tests | shared, prompts["skills"] | shared
    if file.skills.personas:
        _check_personas(prompts["skills"])
    if file.skills.tasks_per_call > 1:
        _check_several(prompts["skills"])
    stem = Path(name).stem
    return {
        "knowledge": Recipe(
            stem, "knowledge", file.knowledge, knowledge, file.tests, file.preferences, file.held_out_cosine
        ),
        "skills": Recipe(
            stem, "skills", file.skills, skills, preferences=file.preferences, held_out_cosine=file.held_out_cosine
        ),
    }


class Findings(NamedTuple):
    """What is wrong with a recipe, and what could be better, each in a line."""

    faults: list[str]
    remarks: list[str]


def check_recipe(name_or_path: str) -> Findings:
    """Look at a recipe and all its prompts; nothing is spent.

    Raises ConfigError when there is no such recipe.
    """
    path, name = _find(name_or_path)
    findings = Findings([], [])
    try:
        file = read_yaml(path, name=name).validate(RecipeFile)
    except YamlProblems as error:
        return Findings(_lines(error), [])
    for flow in PARTS:
        for part, prompt in prompt_names(getattr(file, flow)).items():
            _check_prompt(prompt, path.parent, part_of(flow, part), findings)
    if not findings.faults:
        try:
            load_recipe(name_or_path)
        except TilthError as error:
            findings.faults.extend(_lines(error))
    return findings


def _check_prompt(name: str, folder: Path, part: Part, findings: Findings) -> None:
    try:
        prompt = load_prompt(name, beside=folder)
        wrong = [str(fault) for fault in faults(prompt, part)]
        findings.faults.extend(wrong)
        findings.remarks.extend([] if wrong else remarks(prompt, part))
    except TilthError as error:
        findings.faults.extend(_lines(error))


def _lines(error: TilthError) -> list[str]:
    if isinstance(error, YamlProblems):
        return [f"{problem.where(error.name)}: {problem.message}" for problem in error.problems]
    return [str(error)]


def load_recipes(config: Config) -> dict[str, Recipe]:
    """The recipe for each kind of leaf. Raises as `load_recipe`."""
    recipes = load_recipe(config.generate.recipe)
    return {kind: recipes[flow] for kind, flow in FLOWS.items()}


def _find(name_or_path: str) -> tuple[Path, str]:
    own, shipped = Path(name_or_path), SHIPPED / f"{name_or_path}.yaml"
    if own.suffix in {".yaml", ".yml"}:
        if own.suffix == ".yml" or not own.is_file():
            raise _not_there(own)
        return own, name_or_path
    if shipped.is_file():
        return shipped, f"recipes/{shipped.name}"
    fix = f"{nearest(name_or_path, _shipped())}; or give the path of a .yaml file"
    raise ConfigError(f"there is no recipe {name_or_path!r}", where="recipes", fix=fix)


def _not_there(path: Path) -> ConfigError:
    what = "a recipe's name ends in .yaml" if path.is_file() else "the file does not exist"
    near = nearest(path.name, [*(file.name for file in path.parent.glob("*.yaml")), *_shipped()])
    fix = near if near.startswith("did you mean") else "rename it" if path.is_file() else "make it, or name another"
    return ConfigError(what, where=str(path), fix=fix)


def _shipped() -> list[str]:
    return [file.stem for file in SHIPPED.glob("*.yaml")]


def _prompts(flow: str, section: Section | None, folder: Path) -> dict[str, Prompt]:
    """The prompts that a section names; a part without a name is left out."""
    prompts = {part: load_prompt(name, beside=folder) for part, name in prompt_names(section).items()}
    for part, prompt in prompts.items():
        if fault := next(faults(prompt, part_of(flow, part)), None):
            raise fault
    if isinstance(section, KnowledgeSettings | SkillSettings):
        judged = [part for part in prompts if part_of(flow, part).judges]
        prompts |= {part: for_votes(prompts[part], section.votes) for part in judged}
    if isinstance(section, PreferenceSettings):
        prompts["grade"] = for_votes(prompts["grade"], section.votes)
    return prompts


def _check_personas(prompts: Mapping[str, Prompt]) -> None:
    for part in ("questions", "grounded_questions"):
        if "persona" not in prompts[part].variables:
            fix = "use it there, or leave `personas` out of the recipe"
            raise ConfigError("it does not use the variable 'persona'", where=prompts[part].name, fix=fix)


def _check_several(prompts: Mapping[str, Prompt]) -> None:
    for part in ("questions", "grounded_questions"):
        if not prompts[part].file.answer:
            what = "without a schema it makes one task a call, and `tasks_per_call` asks for more"
            raise ConfigError(what, where=prompts[part].name, fix="set it to 1, and `calls_per_seed` higher")
