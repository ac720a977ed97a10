"""Every code is explained, and its example is true: what is called wrong is found, what is called right is not."""

from __future__ import annotations

import re

import pytest
from tilth.taxonomy.lint import lint, load_rules
from tilth.taxonomy.source import WorkingTree

LEAF = """\
# Held-out questions stand at the end.
version: 4
created_by: ada
domain: "bridges: old ones"
document_outline: A bridge and who keeps it.
document:
  files: [orrow.md]
seed_examples:
  - context: The bridge of Orrow was built in 1874.
    questions_and_answers:
      - question: When was the bridge of Orrow built?
        answer: "1874"
      - question: Who keeps the bridge of Orrow?
        answer: Ada Quill
      - question: What is the bridge of Orrow made of?
        answer: Slate
"""
SEED = """\
  - context: Stone {0} of the bridge is blue.
    questions_and_answers:
      - {{question: "What colour has stone {0}?", answer: Blue}}
      - {{question: "Where is stone {0} from?", answer: Hill {0}}}
      - {{question: "Is stone {0} red?", answer: It is blue}}
"""
HELD_OUT = """\
test_questions:
  - question: Who is the keeper at Orrow?
    answer: Ada
  - question: Which stone crosses the water at Orrow?
    answer: Slate
    wrong: [Granite, Marble, Chalk]
"""
ELSEWHERE = """\
document:
  repo: https://example.org/bridges.git
  commit: 0123456789abcdef0123456789abcdef01234567
  patterns: [orrow.md]
"""
ATTRIBUTION = "Title of work: The bridge of Orrow\nLicense of the work: CC-BY-4.0\nCreator names: Ada Quill\n"
PLACE = "knowledge/bridges/orrow/qna.yaml"

RULES = load_rules()
IN_LEAF = [code for code, rule in RULES.items() if code < "E13" and rule.wrong]
IN_ATTRIBUTION = ["E132", "W210", "W211"]


@pytest.fixture
def found(repository):
    repository.write("knowledge/bridges/orrow/orrow.md", "# Orrow\n\nA bridge.\n")
    repository.write("knowledge/bridges/orrow/attribution.txt", ATTRIBUTION)
    repository.write(PLACE, leaf())

    def codes() -> list[str]:
        return [finding.code for finding in lint(WorkingTree(repository.root))]

    assert codes() == []
    return codes


def leaf() -> str:
    return LEAF + "".join(SEED.format(number) for number in ("one", "two", "three", "four")) + HELD_OUT


def indented(text: str, spaces: str) -> str:
    return "".join(f"{spaces}{line}\n" for line in text.splitlines())


def with_wrong(right: str, wrong: str) -> str:
    """The leaf with the lines `right` replaced, at the indentation that they have there."""
    text = leaf()
    if "repo:" in right:
        text = text.replace("document:\n  files: [orrow.md]\n", ELSEWHERE)
    for spaces in ("", "  ", "      ", "        "):
        if f"\n{indented(right, spaces)}" in text:
            return text.replace(f"\n{indented(right, spaces)}", f"\n{indented(wrong, spaces)}", 1)
    first, *others = right.splitlines()
    for lead in ("  - ", "      - "):
        if f"{lead}{first}" in text:
            return text.replace(f"{lead}{first}", f"{lead}{wrong.splitlines()[0]}", 1)
    raise AssertionError(f"the leaf has no {right!r}{others}")


@pytest.mark.parametrize("code", IN_LEAF)
def test_an_example_in_a_leaf_is_true(code, found, repository):
    rule = RULES[code]
    repository.write(PLACE, with_wrong(rule.right, rule.wrong))
    assert found() == [code]
    repository.write(PLACE, with_wrong(rule.right, rule.right))
    assert found() == []


@pytest.mark.parametrize("code", IN_ATTRIBUTION)
def test_an_example_in_an_attribution_is_true(code, found, repository):
    place = "knowledge/bridges/orrow/attribution.txt"
    repository.write(place, ATTRIBUTION.replace(RULES[code].right, RULES[code].wrong))
    assert found() == [code]
    repository.write(place, ATTRIBUTION.replace(RULES[code].wrong, RULES[code].right))
    assert found() == []


@pytest.mark.parametrize(("code", "others"), [("E131", []), ("W204", []), ("W208", ["E131", "E122"])])
def test_an_example_of_a_path_is_true(code, others, found, repository):
    (repository.root / PLACE).unlink()
    (repository.root / "knowledge/bridges/orrow/attribution.txt").unlink()
    wrong, right = RULES[code].wrong.splitlines(), RULES[code].right.splitlines()
    assert right[0] in {PLACE, "knowledge/old_bridges/orrow/qna.yaml"}
    repository.write(wrong[0], leaf())
    assert sorted(found()) == sorted([code, *others])


def test_codes_are_never_taken_twice_and_stand_in_order():
    assert list(RULES) == sorted(RULES)
    assert all(re.fullmatch(r"[EW]\d{3}", code) for code in RULES)
