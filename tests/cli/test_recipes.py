"""`tilth recipes`: what is shipped is listed and shown, what a user wrote is checked."""

from __future__ import annotations

import json
from pathlib import Path

from tilth.sdg import prompts, recipe

from ..loop import Spawner


def test_recipes_are_listed_and_shown_as_they_stand(spawner: Spawner, tmp_path: Path) -> None:
    about = json.loads(spawner.run(tmp_path, "recipes", "--json").out)
    assert list(about) == ["quick", "rich", "standard"]
    assert all(text in spawner.run(tmp_path, "recipes").out for text in about.values())
    assert spawner.run(tmp_path, "recipes", "show", "quick").out == (recipe.SHIPPED / "quick.yaml").read_text()
    assert (
        spawner.run(tmp_path, "recipes", "show", "view_facts").out == (prompts.SHIPPED / "view_facts.yaml").read_text()
    )
    unknown = spawner.run(tmp_path, "recipes", "show", "quik")
    assert (unknown.code, unknown.err) == (2, "tilth: there is no recipe or prompt 'quik'; did you mean 'quick'?\n")


def test_a_recipe_made_from_a_shipped_one_is_checked(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / "tilth.yaml").write_text("generate: {recipe: mine.yaml}\n")
    text = spawner.run(tmp_path, "recipes", "show", "rich").out
    (tmp_path / "mine.yaml").write_text(text)
    ran = spawner.run(tmp_path, "recipes", "check")
    assert (ran.code, ran.out) == (0, "mine.yaml: faults: 0, remarks: 0\n")

    (tmp_path / "mine.yaml").write_text(text.replace("reasons: reasons\n", "reasons: why.yaml\n"))
    prompt = spawner.run(tmp_path, "recipes", "show", "reasons").out
    (tmp_path / "why.yaml").write_text(prompt.replace("{{ number }} such", "{{ numbers }} such"))
    ran = spawner.run(tmp_path, "recipes", "check")
    assert (ran.code, ran.out.splitlines()) == (
        1,
        ["why.yaml: unknown variable 'numbers'; did you mean 'number'?", "mine.yaml: faults: 1, remarks: 0"],
    )
    (tmp_path / "why.yaml").write_text(prompt.replace("Text about", "{{ number }} questions! Text about"))
    found = json.loads(spawner.run(tmp_path, "recipes", "check", "mine.yaml", "--json").out)
    assert found["faults"] == []
    assert found["remarks"][0].startswith("why.yaml: 'title' stands behind what differs")


def test_a_recipe_that_is_not_there_is_told_in_a_line(spawner: Spawner, tmp_path: Path) -> None:
    for name, line in (("quik", "did you mean 'quick'?"), ("none.yaml", "none.yaml: the file does not exist")):
        ran = spawner.run(tmp_path, "recipes", "check", name)
        assert (ran.code, ran.out, line in ran.err) == (2, "", True)
