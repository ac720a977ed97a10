"""docs/reference/ is what the code says."""

from __future__ import annotations

from tilth.cli.main import VERBS
from tilth.cli.reference import LINT_PATH, PATH, lint_reference, reference


def test_the_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_page_about_lint_is_up_to_date() -> None:
    assert LINT_PATH.read_text(encoding="utf-8") == lint_reference(), "run `make docs`"


def test_every_verb_has_its_section() -> None:
    page = reference()
    assert all(f"\n### tilth {verb}\n" in page for verb in [*VERBS, "releases show", "releases rollback"])
