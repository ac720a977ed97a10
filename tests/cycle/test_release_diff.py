"""Two releases side by side: what differs is told, and better and worse only where the paired test says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tilth.core.errors import TilthError
from tilth.cycle import journal
from tilth.cycle.release_diff import release_diff

from ..made_releases import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Release 2 moved `a`, edited `b`, lost `c`, has `d` made anew and `e` added; release 3 starts from release 1."""
    made = Made.at(tmp_path / "coast")
    first = made.release(1, {"a": "a", "b": "b", "c": "c", "d": "d", "same": "s"}, {"b": 1, "d": 7, "general/sums": 4})
    anew = made.entry("d", "d").model_copy(update={"entry": "d-other"})
    datasets = [*map(made.entry, ("z", "b", "e", "same"), ("a", "b2", "e", "s")), anew]
    second = made.release(
        2, scores={"b": 8, "d": 0, "e": 3, "general/sums": 3}, datasets=datasets, teacher="other", tilth="0.2.0"
    )
    made.compared(first, second)
    made.release(3, {"a": "a"}, {"b": 5}, parent=1)
    return made


def test_leaves_and_settings(made: Made) -> None:
    found = release_diff(made.workspace, 1, 2)
    assert (found.leaves.added, found.leaves.modified, found.leaves.removed) == (("e",), ("b",), ("c",))
    assert (found.leaves.moved, found.leaves.unchanged, found.remade) == ((("a", "z"),), ("d", "same"), ("d",))
    assert found.settings == {
        "commit": ("1" * 40, "2" * 40),
        "teacher": ("rule", "other"),
        "tilth": ("0.1.0", "0.2.0"),
    }
    same = release_diff(made.workspace, 1, 1)
    assert (same.leaves.unchanged, same.settings, same.compared_in) == (("a", "b", "c", "d", "same"), {}, 0)


def test_a_plan_that_was_edited_under_its_name_is_told(made: Made) -> None:
    for number, content in ((1, "a"), (2, "b"), (3, "b")):
        inputs = journal.find_cycle(made.workspace, number)
        journal.begin(made.workspace, inputs.model_copy(update={"decided_by": {"plan": content}}))
    assert release_diff(made.workspace, 1, 3).settings["plan"] == ("lab as of cycle 1", "lab as of cycle 3")
    assert "plan" not in release_diff(made.workspace, 1, 2).settings  # another version of tilth has other defaults
    shutil.rmtree(journal.cycle_folder(made.workspace, 1))
    assert "plan" not in release_diff(made.workspace, 1, 3).settings


def test_what_a_cycle_compared_is_told_in_both_directions(made: Made) -> None:
    found, back = release_diff(made.workspace, 1, 2), release_diff(made.workspace, 2, 1)
    assert found.compared_in == back.compared_in == 2
    assert [(each.leaf, each.told) for each in found.scores] == [
        ("b", "better"), ("d", "worse"), ("e", "not compared"), ("general/sums", "no difference shown"),
    ]  # fmt: skip
    assert [each.told for each in back.scores] == ["worse", "better", "not compared", "no difference shown"]
    assert [(each.first and each.first.correct, each.second and each.second.correct) for each in back.scores] == [
        (8, 1), (0, 7), (3, None), (3, 4),
    ]  # fmt: skip


def test_what_no_cycle_compared_is_not_told(made: Made) -> None:
    found = release_diff(made.workspace, 2, 3)
    assert (found.compared_in, {each.told for each in found.scores}) == (0, {"not compared"})
    (made.workspace.cycles / "0002/judgement.json").unlink()
    assert release_diff(made.workspace, 1, 2).compared_in == 0
    with pytest.raises(TilthError, match="there is no release 4; releases: 1, 2, 3"):
        release_diff(made.workspace, 1, 4)
