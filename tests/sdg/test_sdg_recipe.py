from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tilth.core.config import Config
from tilth.core.errors import ConfigError, TilthError
from tilth.sdg import settings
from tilth.sdg.recipe import SHIPPED, check_recipe, load_recipe, load_recipes

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


def test_the_likeness_of_held_out_questions_counts_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "knowledge")
    before = load_recipe(str(path))["skills"]
    path.write_text(path.read_text() + "held_out_cosine: 0.95\n")
    after = load_recipe(str(path))["skills"]
    assert (before.likeness, after.likeness and after.likeness.cosine) == (None, 0.95)
    assert before.fingerprint != after.fingerprint


SECTIONS = {
    "knowledge": settings.KnowledgeSettings,
    "skills": settings.SkillSettings,
    "preferences": settings.PreferenceSettings,
    "tests": settings.TestSettings,
    "": settings.RecipeFile,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_shipped_recipe_explains_every_setting(section: str) -> None:
    """In a comment on its line, in its section or among what `quick` says of knowledge; or by name in another's."""
    texts = [(SHIPPED / f"{name}.yaml").read_text() for name in SHIPPED_NAMES]
    own = [part for text in texts for part in re.findall(rf"^{section}:.*\n((?: .*\n)*)", text, re.MULTILINE)]
    said = "".join([*(own if section else texts), (SHIPPED / "quick.yaml").read_text().partition("\nskills:")[0]])
    unexplained = [
        key
        for key in SECTIONS[section].model_fields
        if not re.search(rf"^ *{key}:.* # |#.*`{key}`", said, re.MULTILINE)
    ]
    assert unexplained == []


PROMPTS = {"questions": "questions", "reword": "reword", "long": "long", "judge": "knowledge_judge"}


def changed(tmp_path: Path, **changes: object) -> str:
    content = yaml.safe_load((SHIPPED / "quick.yaml").read_text())
    content["knowledge"] |= {"questions_per_fact": 0, "prompts": PROMPTS} | changes
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
            r"skill_judge\.yaml: unknown variable 'task'",
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
        ("judge", "max_tokens", "schema: {type: string}\nmax_tokens", "the schema does not require 'verdict' as"),
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


# Checking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_a_shipped_recipe_has_nothing_wrong(name: str) -> None:
    assert check_recipe(name) == ([], [])


def test_all_faults_of_all_prompts_are_told_at_once(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "knowledge")
    for part, old, new in (
        ("questions", "number", "numbr"),
        ("long", "answer", "reply"),
        ("reword", "{{", "{% if %}{{"),
    ):
        prompt = tmp_path / f"knowledge_{part}.yaml"
        prompt.write_text(prompt.read_text().replace(old, new))
    found = check_recipe(str(path)).faults
    assert [re.sub(r".*knowledge_", "", line).split(":")[0] for line in found] == [
        *["questions.yaml"] * 2,  # the variable and `repeat`
        "reword.yaml",
        "long.yaml",
    ]


def test_all_keys_of_a_recipe_that_are_wrong_are_told_at_once(tmp_path: Path) -> None:
    found = check_recipe(changed(tmp_path, rewordings=0, chunk_token=3)).faults
    assert len(found) == 2
    assert all(re.match(r".*mine\.yaml:\d+:\d+: ", line) for line in found)
    assert {"rewordings", "chunk_token"} == {
        name for name in ("rewordings", "chunk_token") for line in found if name in line
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"views": ["summary"], "prompts": PROMPTS | {"faithful": "faithful_judge"}},
            "no prompt 'view_summary'; did you",
        ),
        ({"views": ["facts"]}, "views or multi-hop questions and the prompt `faithful` go together"),
        ({"prompts": PROMPTS | {"reasons": "reasons"}}, "reasons_per_chunk and the prompt `reasons` go together"),
        ({"questions_per_fact": 1, "prompts": PROMPTS | {"facts": "view_facts"}}, "the prompt `fact_questions`"),
        (
            {"views": ["facts", "a/facts.yaml"], "prompts": PROMPTS | {"faithful": "faithful_judge"}},
            "two views have one",
        ),
        ({"quota": {"skill": 3}}, "no samples of kind skill are made here"),
        ({"quota": {"knowledge": 3}}, "quota"),
    ],
)
def test_what_a_step_needs_is_told(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    [fault] = check_recipe(changed(tmp_path, **changes)).faults
    assert message in fault


@pytest.mark.parametrize(
    ("part", "user", "remark"),
    [
        ("questions", "{{ number }} about {{ chunk }}", "'chunk' stands behind what differs from request to request"),
        ("questions", "{{ title }}: write {{ number }}", "it does not use 'chunk'"),
        ("long", "{{ question }}\n{{ chunk }}\n{{ answer }}", "'chunk' stands behind"),
        (
            "long",
            "{{ title }} {{ chunk }}\n{{ question }}{% if heading %} ({{ heading }}){% endif %}",
            "'heading' stands",
        ),
    ],
)
def test_what_a_prompt_could_do_better_is_remarked(tmp_path: Path, part: str, user: str, remark: str) -> None:
    path = write_recipe(tmp_path, "knowledge", prompts={})
    content = yaml.safe_load(path.read_text())
    content["knowledge"]["prompts"] = PROMPTS | {part: f"knowledge_{part}.yaml"}
    path.write_text(yaml.safe_dump(content))
    prompt = yaml.safe_load((tmp_path / f"knowledge_{part}.yaml").read_text())
    (tmp_path / f"knowledge_{part}.yaml").write_text(yaml.safe_dump(prompt | {"user": user}))
    faults, remarks = check_recipe(str(path))
    assert faults == []
    assert [remark in line for line in remarks] == [True]


def test_a_task_without_examples_is_remarked_and_examples_of_its_own_will_do(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "skills")
    prompt = tmp_path / "skills_answer.yaml"
    bare = yaml.safe_load(prompt.read_text()) | {"user": "{{ task }}: {{ question }}"}
    prompt.write_text(yaml.safe_dump(bare))
    assert [line.rpartition("/")[2] for line in check_recipe(str(path)).remarks] == [
        "skills_answer.yaml: it shows no examples; use the variable 'examples', or give it some of its own"
    ]
    given = {"task": "Say it backwards.", "question": "abc"}
    prompt.write_text(yaml.safe_dump(bare | {"examples": [{"given": given, "reply": "cba"}]}))
    assert check_recipe(str(path)) == ([], [])


@pytest.mark.parametrize(
    ("name", "there", "message"),
    [
        ("mine.yml", ["mine.yml"], "mine.yml: a recipe's name ends in .yaml; rename it"),
        ("mine.yml", ["mine.yml", "mine.yaml"], "mine.yml: a recipe's name ends in .yaml; did you mean 'mine.yaml'?"),
        ("mime.yaml", ["mine.yaml"], "mime.yaml: the file does not exist; did you mean 'mine.yaml'?"),
        ("quick.yaml", [], "quick.yaml: the file does not exist; did you mean 'quick'?"),
        ("own.yml", [], "own.yml: the file does not exist; make it, or name another"),
    ],
)
def test_a_recipe_by_a_wrong_path(tmp_path: Path, name: str, there: list[str], message: str) -> None:
    for file in there:
        (tmp_path / file).touch()
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(tmp_path / name))
    assert str(caught.value) == f"{tmp_path}/{message}"
