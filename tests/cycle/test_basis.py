"""What a cycle calls a change, whatever git's history says, and what makes it another cycle."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tilth.cycle.basis import leaf_changes, read_basis
from tilth.cycle.releases import Dataset
from tilth.eval import judging
from tilth.eval.report.data import LeafChanges

from ..loop import FERRY, MILL, SKILL, Loop, Teacher, knowledge_files, make_loop, skill_files


def new_loop(tmp_path: Path) -> Loop:
    """A workspace whose teacher is never asked."""
    return make_loop(tmp_path / "taxonomy", Teacher("http://127.0.0.1:1/v1"), tmp_path / "student")


def test_of_two_equal_leaves_one_may_move_and_one_go() -> None:
    before = tuple(
        Dataset(leaf=leaf, leaf_fingerprint=fingerprint, entry="", sha256="", samples=1)
        for leaf, fingerprint in (("a/one", "1"), ("a/two", "1"), ("a_b/c", "2"), ("a/b_c", "3"))
    )
    found = leaf_changes(before, {"a/three": "1", "a_b/c": "2", "a/b_c": "4", "a/new": "5"})
    assert found == LeafChanges(
        added=("a/new",),
        modified=("a/b_c",),
        removed=("a/two",),
        moved=(("a/one", "a/three"),),
        unchanged=("a_b/c",),
    )


def test_two_leaves_of_equal_content_make_no_other_cycle_once_their_samples_are_there(tmp_path: Path) -> None:
    loop = new_loop(tmp_path)
    loop.commit("compositional_skills/again", skill_files())
    before = read_basis(loop.workspace)
    for each in before.planned:
        each.folder.mkdir(parents=True)
        (each.folder / "manifest.json").write_text("{}")
    after = read_basis(loop.workspace)
    assert len({each.folder for each in after.planned}) == 2 < len(before.planned)
    assert after.identity == before.identity
    loop.commit(SKILL, {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
    assert read_basis(loop.workspace).decided_by["samples"] != before.decided_by["samples"]
    loop.configure(teacher={"model": "other", "base_url": loop.teacher.url})
    assert len({basis.decided_by["samples"] for basis in (before, after, read_basis(loop.workspace))}) == 2


def test_another_prompt_of_the_judge_s_makes_another_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = new_loop(tmp_path)
    before = read_basis(loop.workspace).decided_by
    shipped = judging._prompt
    monkeypatch.setattr(judging, "_prompt", lambda _: shipped("pairwise"))
    after = read_basis(loop.workspace).decided_by
    assert {part for part in before if before[part] != after[part]} == {"judge"}


@pytest.mark.slow
def test_another_document_changes_the_leaf_that_names_it_and_no_other(tmp_path: Path) -> None:
    loop, page = new_loop(tmp_path), "manual/ferry.md"
    qna = yaml.safe_load(knowledge_files(FERRY)["qna.yaml"])
    fetched = {"repo": "https://localhost/manual.git", "commit": "a" * 40, "patterns": ["*.md"]}

    def leaves() -> dict[str, str]:
        return {each.leaf.id: each.leaf.fingerprint for each in read_basis(loop.workspace).planned}

    def changed(leaf: str, files: dict[str, str]) -> set[str]:
        before = leaves()
        loop.commit(leaf, files)
        return {each for each, fingerprint in leaves().items() if before.get(each) != fingerprint}

    loop.commit("manual", {"ferry.md": "The door of Tern Ferry is made of brass.\n"})
    assert changed(FERRY, {"qna.yaml": yaml.safe_dump(qna | {"document": {"files": [f"/{page}"]}})}) == {FERRY}
    assert changed("manual", {"ferry.md": "The stair of Tern Ferry is made of brass.\n"}) == {FERRY}
    assert changed("manual", {"mill.md": "No leaf names it.\n"}) == set()
    assert changed(MILL, {"page.md": "The wheel of Orla Mill is made of larch.\n"}) == {MILL}
    assert changed(FERRY, {"qna.yaml": yaml.safe_dump(qna | {"document": fetched})}) == {FERRY}
    later = qna | {"document": fetched | {"commit": "b" * 40}}
    assert changed(FERRY, {"qna.yaml": yaml.safe_dump(later)}) == {FERRY}


@pytest.mark.slow
def test_a_workspace_elsewhere_goes_on_with_the_same_cycle(tmp_path: Path) -> None:
    loop = new_loop(tmp_path)
    for name in ("base", "other"):
        (loop.root / "models" / name).mkdir(parents=True)
    loop.configure(student={"model": "./models/base"})
    moved = loop.copy(tmp_path / "elsewhere")
    assert read_basis(moved.workspace).identity == read_basis(loop.workspace).identity
    for each in (loop, moved):
        (each.root / "plan.yaml").write_text(
            "phases: [{name: g, method: grpo, kinds: [skill], rollout: {rewards: [{function: 'r.py:f'}]}}]\n"
        )
        (each.root / "r.py").write_text("def f(*_):\n    return 1\n")
        each.configure(student={"model": "./models/base"}, train={"plan": "plan.yaml"})
    assert read_basis(moved.workspace).identity == read_basis(loop.workspace).identity
    (moved.root / "r.py").write_text("def f(*_):\n    return 0\n")  # what a reward says decides what is learned
    assert read_basis(moved.workspace).decided_by["plan"] != read_basis(loop.workspace).decided_by["plan"]
    moved.configure(student={"model": "./models/other"})
    assert read_basis(moved.workspace).decided_by["student"] != read_basis(loop.workspace).decided_by["student"]


def test_what_must_be_passed_and_other_weights_in_the_same_folder_make_another_cycle(tmp_path: Path) -> None:
    loop, qna = new_loop(tmp_path), yaml.safe_load(knowledge_files(MILL)["qna.yaml"])
    before = read_basis(loop.workspace)
    qna["test_questions"][0]["must_pass"] = True
    loop.commit(MILL, {"qna.yaml": yaml.safe_dump(qna)})
    strict = read_basis(loop.workspace)
    assert {part for part in before.decided_by if before.decided_by[part] != strict.decided_by[part]} == {"questions"}
    loop.student.mkdir()
    found = [strict]
    for weights in (b"w", b"x"):
        (loop.student / "model.safetensors").write_bytes(weights)
        found.append(read_basis(loop.workspace))
    assert len({basis.decided_by["student"] for basis in found}) == 3
    assert not loop.state.joinpath("answers").exists()  # to look writes nothing
