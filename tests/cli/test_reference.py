"""docs/reference/ is what the code says."""

from __future__ import annotations

import re

from tilth.cli.main import VERBS
from tilth.cli.reference import pages, reference
from tilth.cli.settings_reference import plans_reference, settings_reference
from tilth.core.config import Config
from tilth.core.yaml_source import load_yaml
from tilth.train.plan import Plan


def test_the_pages_are_up_to_date() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_verb_has_its_section() -> None:
    page = reference()
    assert all(f"\n### tilth {verb}\n" in page for verb in [*VERBS, "releases show", "releases rollback"])


def test_every_setting_is_told_with_its_default() -> None:
    page = settings_reference()
    assert "| `significance` | a number, at least 0.001, below 0.5 | `0.05` | Level of the tests" in page
    assert all(f"\n## {section}\n" in page for section in [*Config.model_fields, "teacher.prices"] if section != "seed")
    for rows in (page, plans_reference()):
        keys = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.*) \|$", rows, re.MULTILINE)
        assert len(keys) > 40
        assert all(text for *_, text in keys), "a setting has no docstring"
    assert "| `beta` | a number, above 0 | `0.1` | How strongly the model is held" in plans_reference()
    assert "\n## rollout.rewards\n" in plans_reference()


def test_the_plan_that_is_shown_is_one(tmp_path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", plans_reference(), re.DOTALL)
    (tmp_path / "plan.yaml").write_text(shown)
    assert load_yaml(tmp_path / "plan.yaml", Plan).phases[0].replay.general == 0.25
