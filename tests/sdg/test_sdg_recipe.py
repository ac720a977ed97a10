from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tilth.core.config import Config
from tilth.core.errors import ConfigError, TilthError
from tilth.sdg.recipe import SHIPPED, load_recipe, load_recipes

from .conftest import write_recipe

SHIPPED_NAMES = [path.stem for path in SHIPPED.glob("*.yaml")]


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_shipped_recipes_load(name: str) -> None:
    for flow, recipe in load_recipe(name).items():
        assert (recipe.name, recipe.flow) == (name, flow)
        assert recipe.fingerprint == load_recipe(name)[flow].fingerprint


def test_every_kind_of_leaf_has_its_recipe() -> None:
    flows = {kind: recipe.flow for kind, recipe in load_recipes(Config()).items()}
    assert flows == {"knowledge": "knowledge", "skill": "skills", "grounded_skill": "skills", "foundational": "skills"}


def test_the_fingerprint_follows_settings_and_prompts_and_nothing_else(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a", "knowledge")
    first = load_recipe(str(path))["knowledge"].fingerprint
    assert load_recipe(str(write_recipe(tmp_path / "b", "knowledge")))["knowledge"].fingerprint == first
    assert load_recipe(str(write_recipe(tmp_path / "c", "knowledge", rewordings=7)))["knowledge"].fingerprint != first
    prompt = tmp_path / "a" / "knowledge_long.yaml"
    prompt.write_text("# a remark\n" + prompt.read_text())
    assert load_recipe(str(path))["knowledge"].fingerprint == first
    prompt.write_text(prompt.read_text().replace("system: knowledge long", "system: other"))
    assert load_recipe(str(path))["knowledge"].fingerprint != first


PROMPTS = {"questions": "questions", "reword": "reword", "long": "long", "judge": "knowledge_judge"}


def changed(tmp_path: Path, **changes: object) -> str:
    content = yaml.safe_load((SHIPPED / "quick.yaml").read_text())
    content["knowledge"] |= changes
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_token": 10}, "unknown key 'knowledge.chunk_token'; did you mean 'chunk_tokens'"),
        ({"rewordings": 0}, "rewordings"),
        ({"extra_questions": -1}, "extra_questions"),
        ({"question_words": [9, 3]}, "fewest, most"),
        ({"near_duplicate": 0}, "near_duplicate"),
        (
            {"prompts": PROMPTS | {"questions": "qestions"}},
            "did you mean 'questions'",
        ),
        (
            {"prompts": PROMPTS | {"judge": "skill_judge"}},
            r"skill_judge\.yaml: unknown variable 'answer'",
        ),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(TilthError, match=message):
        load_recipe(changed(tmp_path, **changes))


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("questions", "repeat: number", "repeat: ''", "`repeat` is ''; this part of the flow needs 'number'"),
        ("questions", "- answer", "- question", "does not require 'answer'"),
        ("questions", "type: string", "type: integer", "does not require 'question' as"),
        ("reword", "type: string", "type: object", "the schema does not fit; this part of the flow needs {'type': 'st"),
        ("judge", "max_tokens", "schema: {type: string}\nmax_tokens", "it has a schema; remove it"),
        ("judge", "repeat: ''", "repeat: chunk", "`repeat` is 'chunk'; this part of the flow needs ''"),
    ],
)
def test_a_prompt_that_does_not_give_what_its_part_needs_is_refused(
    tmp_path: Path, part: str, old: str, new: str, message: str
) -> None:
    recipe = write_recipe(tmp_path, "knowledge")
    prompt = tmp_path / f"knowledge_{part}.yaml"
    assert old in prompt.read_text()
    prompt.write_text(prompt.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=rf"knowledge_{part}\.yaml: .*{re.escape(message)}"):
        load_recipe(str(recipe))


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        load_recipe("quikc")
    with pytest.raises(ConfigError, match="the file does not exist; make it"):
        load_recipe(str(tmp_path / "none.yaml"))
