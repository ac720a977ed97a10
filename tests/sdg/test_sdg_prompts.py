"""The shipped prompts, as their recipes use them, and what a prompt file may hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tilth.core.errors import ConfigError, TilthError
from tilth.llm.prompts import Prompt, PromptFile
from tilth.llm.schema import mismatch
from tilth.sdg.judges import SHIPPED as JUDGES_SHIPPED
from tilth.sdg.prompt_check import remarks
from tilth.sdg.prompts import SHIPPED, load_prompt
from tilth.sdg.recipe import SHIPPED as RECIPES
from tilth.sdg.recipe import load_recipe
from tilth.sdg.settings import PARTS, Part, part_of
from tilth.sdg.suggest import PROMPTS as SUGGESTIONS

SEED = {"context": "A CONTEXT", "question": "A SEED", "answer": "A SOLUTION", "turn": "A TURN", "persona": ""}
SHAPED = {"examples": [SEED], "seed": SEED, "number": 3, "evolution": "deepen"}
"""Values of the variables that are no texts."""
FOLLOWING = ("tests", "preferences")
"""Sections whose prompts stand beside those of the other two, under their own name."""


def all_parts() -> dict[str, tuple[Prompt, Part]]:
    """Every prompt of every shipped recipe, with its part; the same prompt in the same part once."""
    found: dict[str, tuple[Prompt, Part]] = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        for flow, recipe in load_recipe(path.stem).items():
            for key, prompt in recipe.prompts.items():
                section, _, name = key.partition("_")
                section, name = (section, name) if section in FOLLOWING else (flow, key)
                found[f"{section}-{name}-{Path(prompt.name).stem}"] = prompt, part_of(section, name)
    return found


ALL = all_parts()
USED = [pytest.param(prompt, part, id=name) for name, (prompt, part) in ALL.items()]
REPEATED = [
    pytest.param(prompt, part, id=name) for name, (prompt, part) in ALL.items() if prompt.file.answer and part.repeat
]
JUDGES = [(name, part) for name in ("knowledge", "skills") for part in PARTS[name] if part.endswith("judge")]


def shipped(flow: str, part: str) -> Prompt:
    return load_recipe("quick")[flow].prompts[part]


def test_every_prompt_is_used() -> None:
    judges = {name for methods in JUDGES_SHIPPED.values() for name in methods.values()}
    used = {Path(prompt.name).stem for prompt, _ in ALL.values()}
    assert used | judges | set(SUGGESTIONS) == {path.stem for path in SHIPPED.glob("*.yaml")}


@pytest.mark.parametrize(("prompt", "part"), USED)
def test_a_prompt_documents_the_variables_it_is_given_and_renders(prompt: Prompt, part: Part) -> None:
    comment = (SHIPPED / Path(prompt.name).name).read_text().splitlines()[0]
    documented = re.sub(r"\([^)]*\)", "", comment.partition("Variables:")[2])
    given = part.variables.split()
    assert {name.strip() for name in documented.split(",")} <= set(given)
    assert prompt.variables <= {name.strip() for name in documented.split(",")}
    messages = prompt.messages(**{name: SHAPED.get(name, f"A {name.upper()}") for name in given})
    assert messages[-1].role == "user"
    for variable in prompt.variables - SHAPED.keys() - {"evolution"}:  # which only says what else is shown
        assert f"A {variable.upper()}" in messages[-1].content
    assert "\n\n\n" not in messages[-1].content


@pytest.mark.parametrize(("prompt", "part"), USED)
def test_no_shipped_prompt_leaves_anything_to_be_remarked(prompt: Prompt, part: Part) -> None:
    assert list(remarks(prompt, part)) == []


def test_all_views_of_a_passage_begin_alike() -> None:
    """A server reads the passage once for all of them, and they differ in their last paragraph alone."""
    views = [prompt for name, (prompt, _) in ALL.items() if name.startswith("knowledge-view_")]
    assert len(views) == len(list(SHIPPED.glob("view_*.yaml"))) == 7
    shown = [prompt.messages(title="T", heading="H", chunk="A.\n\nB.") for prompt in views]
    assert len({system.content for system, _ in shown}) == 1
    assert len({user.content.rsplit("\n\n", 1)[0] for _, user in shown}) == 1
    assert len({user.content for _, user in shown}) == 7


@pytest.mark.parametrize(("recipe", "part"), JUDGES)
def test_a_judge_is_asked_what_its_flow_needs(recipe: str, part: str) -> None:
    prompt = shipped(recipe, part)
    assert prompt.file.temperature == 0
    given = {name: SHAPED.get(name, f"A {name.upper()}") for name in PARTS[recipe][part].variables.split()}
    shown = prompt.messages(**given)[1].content
    if not PARTS[recipe][
        part
    ].answers:  # answers the questions itself; it must not see the answers that it is to confirm
        assert "answer" not in prompt.variables
        assert shown.endswith("A QUESTION")
        assert prompt.schema(**given) is None
    else:
        assert prompt.file.answer["properties"]["verdict"] == {"type": "string", "enum": ["yes", "no"]}
        assert prompt.file.max_tokens <= 40
        assert "A QUESTION" in shown
        assert "A ANSWER" in shown


def test_a_question_is_reworded_by_its_fact_and_without_its_passage() -> None:
    """A small teacher that sees the passage drifts to its other facts; without the fact it asks about anything."""
    assert shipped("knowledge", "reword").variables == {"title", "fact", "question", "answer", "number"}


@pytest.mark.parametrize(("prompt", "part"), REPEATED)
def test_one_item_is_asked_for_each(prompt: Prompt, part: Part) -> None:
    assert prompt.file.repeat == part.repeat
    items = 4 if prompt.file.repeat == "number" else ("a", "b", "c", "d")
    schema = prompt.schema(**{prompt.file.repeat: items})
    assert schema
    assert schema["required"] == ["q1", "q2", "q3", "q4"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert all(part == prompt.file.answer for part in schema["properties"].values())


def prompt(**changes: object) -> Prompt:
    content = {"system": "S", "user": "{{ fact }}", "schema": {"type": "object"}, "max_tokens": 9, **changes}
    return Prompt("mine.yaml", PromptFile.model_validate(content))


def test_the_most_that_an_answer_may_have_grows_with_its_items() -> None:
    assert prompt().max_tokens(fact="F") == 9
    assert prompt(repeat="number").max_tokens(fact="F", number=4) == 36
    assert prompt(repeat="fact").max_tokens(fact=["a", "b"]) == 18


def test_the_fingerprint_is_that_of_the_content() -> None:
    assert prompt().fingerprint == prompt().fingerprint
    others = [
        prompt(system="T"),
        prompt(user="{{fact}}"),
        prompt(max_tokens=8),
        prompt(schema={}),
        prompt(temperature=1),
    ]
    assert len({other.fingerprint for other in (prompt(), *others)}) == 6


def test_what_is_put_into_a_template_is_no_template() -> None:
    hostile = "{{ 7 * 7 }} {% for x in [] %} <b>&amp;"
    assert prompt().messages(fact=hostile)[1].content == hostile


@pytest.mark.parametrize(
    "user", ["{{ fact.__class__.__mro__ }}", "{{ ''.__class__ }}", "{{ unknown }}", "{{ fact.x }}"]
)
def test_a_template_cannot_reach_out_or_use_what_is_not_there(user: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        prompt(user=user).messages(fact="F")


def test_a_broken_template_is_refused_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: not a valid template"):
        prompt(user="{% if %}")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": {"type": "text"}}, "not a JSON schema: schema.type is 'text', not one of object, array, string"),
        ({"schema": {"type": {"a": "b"}}}, "not a JSON schema: schema.type is {'a': 'b'}, not one of object"),
        ({"schema": {"required": [["a"]]}}, "not a JSON schema: schema.required names ['a'], not a key"),
        ({"schema": {"properties": None}}, "not a JSON schema: schema.properties is NoneType, not an object"),
        ({"schema": {"properties": {"a": "text"}}}, "not a JSON schema: schema.properties.a is str, not an object"),
        ({"schema": {"items": {"required": "a"}}}, "not a JSON schema: schema.items.required is str, not a list"),
        ({"schema": {"minimum": "1"}}, "not a JSON schema: schema.minimum is str, not a number"),
        (
            {"repeat": "number", "examples": [{"given": {"fact": "F"}, "reply": {}}]},
            "`repeat` names 'number', which is",
        ),
        (
            {"repeat": "fact", "examples": [{"given": {"fact": "F"}, "reply": {}}]},
            "`repeat` names 'fact', which is no list or number",
        ),
    ],
)
def test_a_schema_that_no_answer_can_be_held_against_is_told(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {re.escape(told)}"):
        prompt(**changes)


def test_a_schema_may_allow_two_types() -> None:
    schema = {"properties": {"a": {"type": ["string", "null"]}}}
    assert [mismatch({"a": value}, schema) for value in ("x", None, 1)] == [
        "",
        "",
        "the answer.a is int, not string or null",
    ]
    prompt(schema=schema)


def test_an_unknown_prompt_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'reword'"):
        load_prompt("rewords")


def test_a_prompt_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("system: S\nuser: U\nschema: {}\nmax_tokens: 3\ncolour: red\n")
    with pytest.raises(TilthError, match=r"mine\.yaml:5:1: unknown key 'colour'"):
        load_prompt("mine.yaml", beside=tmp_path)


def test_shots_say_what_the_prompt_names() -> None:
    shot = {"context": "C", "question": "Q?", "answer": "A", "turn": "C\n\nQ?", "persona": ""}
    turns = load_prompt("skill_questions").messages(task="Do.", examples=[shot], seed=shot, persona="ships")[1:]
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "Skill: Do.\n\nWrite a task."),
        ("assistant", "C\n\nQ?"),
        ("user", "Skill: Do.\n\nWrite a task about ships."),
    ]
