"""Recipes: the YAML that parameterises a flow. A recipe's fingerprint covers its numbers and its prompts' content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..core.config import Config, Section, Share
from ..core.errors import ConfigError, nearest
from ..core.fingerprint import fingerprint
from ..core.yaml_source import YamlSource, read_yaml
from .prompts import Prompt, load_prompt

SHIPPED = Path(__file__).parent / "recipes"

Count = Annotated[int, Field(ge=1)]
Similarity = Annotated[float, Field(gt=0, le=1)]


def _in_order(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("write it as [fewest, most]")
    return bounds


WordBounds = Annotated[tuple[int, int], AfterValidator(_in_order)]


class KnowledgePrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    questions: str
    reword: str
    long: str
    judge: str


class KnowledgeSettings(Section):
    """A recipe for knowledge leaves; `recipes/knowledge.yaml` says what each key means."""

    flow: Literal["knowledge"]
    prompts: KnowledgePrompts
    chunk_tokens: Annotated[int, Field(ge=10)]
    calls_per_chunk: Count
    extra_questions: Annotated[int, Field(ge=0)]
    rewordings: Count
    long_instruction: str
    """Put behind a question that has a long answer, for it has a short one too."""
    judge: bool
    question_words: WordBounds
    short_answer_words: WordBounds
    long_answer_words: WordBounds
    grounded_share: Share
    near_duplicate: Similarity


class SkillPrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    questions: str
    answer: str
    judge: str
    grounded_questions: str
    grounded_answer: str
    grounded_judge: str


class SkillSettings(Section):
    """A recipe for skill leaves, freeform, grounded and foundational; see `recipes/skills.yaml`."""

    flow: Literal["skills"]
    prompts: SkillPrompts
    examples: Count
    tasks_per_call: Count
    calls_per_seed: Count
    judge: bool
    question_words: WordBounds
    context_words: WordBounds
    answer_words: WordBounds
    near_duplicate: Similarity


@dataclass(frozen=True)
class Part:
    """What a flow gives to one of its prompts, and what it must get back."""

    variables: str
    answers: str
    """The properties that the answer (with `repeat`, each item of it) must have; one in brackets is the whole item.
    Empty: it has no schema, but is plain text."""
    repeat: str = ""


_CHUNK = "title heading chunk"
_TASK = "task examples context question"
PARTS: Mapping[str, Mapping[str, Part]] = {
    "knowledge": {
        "questions": Part(f"{_CHUNK} number", "question answer", "number"),
        "reword": Part(f"{_CHUNK} fact question answer number", "[question]", "number"),
        "long": Part(f"{_CHUNK} question answer", "answer"),
        "judge": Part(f"{_CHUNK} question", ""),
    },
    "skills": {
        "questions": Part("task examples seed number", "question", "number"),
        "answer": Part(_TASK, "answer"),
        "judge": Part(f"{_TASK} answer", "verdict"),
        "grounded_questions": Part("task examples seed number", "context question", "number"),
        "grounded_answer": Part(_TASK, "answer"),
        "grounded_judge": Part(f"{_TASK} answer", "verdict"),
    },
}
"""The prompts of each flow. `examples` and `seed` have context, question and answer."""

Settings = KnowledgeSettings | SkillSettings
_FLOWS: dict[str, type[KnowledgeSettings] | type[SkillSettings]] = {
    "knowledge": KnowledgeSettings,
    "skills": SkillSettings,
}


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read, with its prompts by their part in the flow."""

    name: str
    settings: Settings
    prompts: Mapping[str, Prompt]

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of the prompts' content, so that a reworded prompt makes new samples."""
        prompts = {part: prompt.fingerprint for part, prompt in self.prompts.items()}
        return fingerprint([self.settings.model_dump(exclude={"prompts"}), prompts])


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by its name, or the user's own by its path (`*.yaml`), and all its prompts.

    Raises ConfigError for an unknown name or flow, YamlProblems for what a file has wrong.
    """
    path, name = _find(name_or_path)
    source = read_yaml(path, name=name)
    settings = source.validate(_flow(source))
    names: dict[str, str] = settings.prompts.model_dump()
    prompts = {part: load_prompt(prompt, beside=path.parent) for part, prompt in names.items()}
    for part, prompt in prompts.items():
        _check(prompt, PARTS[settings.flow][part])
    return Recipe(Path(name).stem, settings, prompts)


def load_recipes(config: Config) -> dict[str, Recipe]:
    """The recipe of each kind of leaf. Raises ConfigError when one is for another flow than its leaves need."""
    knowledge, skill = load_recipe(config.generate.knowledge), load_recipe(config.generate.skill)
    for recipe, flow, key in ((knowledge, "knowledge", "knowledge"), (skill, "skills", "skill")):
        if recipe.settings.flow != flow:
            raise ConfigError(
                f"the recipe {recipe.name!r} is for the flow {recipe.settings.flow!r}",
                where=f"generate.{key}",
                fix=f"name a recipe with `flow: {flow}`",
            )
    return {"knowledge": knowledge, "skill": skill, "grounded_skill": skill, "foundational": skill}


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


def _flow(source: YamlSource) -> type[KnowledgeSettings] | type[SkillSettings]:
    data: Any = source.data
    flow = data.get("flow") if isinstance(data, dict) else None
    if not isinstance(flow, str) or flow not in _FLOWS:
        line, column = source.place(("flow",))
        raise ConfigError(
            f"the recipe's `flow` is {flow!r}",
            where=f"{source.name}:{line}:{column}",
            fix=nearest(str(flow), _FLOWS),
        )
    return _FLOWS[flow]
