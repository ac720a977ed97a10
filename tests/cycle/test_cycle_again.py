"""A cycle that differs from an earlier one: what is done again, what is not, and what `tilth cycle --explain` says."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import tilth
import yaml
from tilth.core.atomic import read_json
from tilth.core.errors import DataError, TaxonomyError, TilthError
from tilth.core.jsonl import read_records
from tilth.core.progress import SilentProgress
from tilth.cycle import basis
from tilth.cycle.explain import CycleOutlook, explain_cycle
from tilth.cycle.journal import find_cycle
from tilth.cycle.run import CycleResult, run_cycle
from tilth.sdg.recipe import SHIPPED
from tilth.taxonomy.repository import resolve_commit
from tilth.train.data import TrainingSample
from tilth.train.replay_buffer import read_entries

from ..loop import (
    FERRY,
    MILL,
    SKILL,
    Loop,
    Spawner,
    Teacher,
    knowledge_files,
    make_loop,
    serve_teacher,
    skill_files,
)

Copy = Callable[[Loop], Loop]


def git(loop: Loop, *words: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", *author, *words], cwd=loop.root, check=True, capture_output=True)


def explained(loop: Loop, ref: str = "") -> tuple[CycleOutlook, dict[str, tuple[bool, str]]]:
    outlook = explain_cycle(loop.workspace, SilentProgress(), ref)
    return outlook, {each.stage: (each.runs, each.why) for each in outlook.stages}


def results(loop: Loop, cycle: int) -> dict[str, str]:
    """Phase -> its result record."""
    files = sorted((loop.state / f"cycles/{cycle:04}/train").glob("*/result.json"))
    return {file.parent.name: file.read_text() for file in files}


def test_another_last_phase_trains_that_phase_only(trained: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(trained)
    plan = loop.root / "plan.yaml"
    plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 2"))
    outlook, stages = explained(loop)
    assert (outlook.number, outlook.because) == (3, "another plan")
    assert stages["generate"] == (False, "the store has the samples of all 3 leaves")
    assert stages["train short"] == (False, "its model is there")
    assert stages["train all"] == (True, "epochs 24 -> 2; it has other samples")  # older ones take turns over epochs
    asked = len(loop.teacher.requests)
    ran = spawner.run(loop.root, "train")
    assert "phase short: done already" in ran.err
    assert "phase all: done already" not in ran.err
    assert len(loop.teacher.requests) == asked
    before, after = results(loop, 2), results(loop, 3)
    assert after["01-short"] == before["01-short"]
    assert after["02-all"] != before["02-all"] == results(trained, 2)["02-all"]


def test_another_gate_trains_nothing(trained: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(trained)
    loop.configure(gate={"significance": 0.2, "max_loss": 0.5})
    outlook, stages = explained(loop)
    assert (outlook.number, outlook.because) == (3, "gate.max_loss 0.6 -> 0.5")
    assert [stage for stage, (runs, _) in stages.items() if runs] == ["changes", "evaluate", "gate", "release"]
    assert stages["evaluate"][1] == "asks what was not answered before"
    ran = spawner.run(loop.root, "train")
    assert ran.err.count("done already") == 2
    assert results(loop, 3) == results(loop, 2)
    loop.configure()
    assert explained(loop)[0].number == 2  # the one before is gone on with


def test_another_way_of_judging_judges_again(trained: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "_CODE", basis._CODE + 1)
    outlook, stages = explained(trained)
    assert (outlook.number, outlook.because) == (3, "this tilth judges otherwise")
    assert [stage for stage, (runs, _) in stages.items() if runs] == ["changes", "evaluate", "gate", "release"]


def test_a_cycle_that_is_gone_on_with_names_the_commit_it_has_come_to(
    trained: Loop, copy: Copy, spawner: Spawner
) -> None:
    loop = copy(trained)
    git(loop, "commit", "--allow-empty", "-qm", "Of no leaf")
    assert spawner.run(loop.root, "train").err.count("done already") == 2
    assert find_cycle(loop.workspace, 2).commit == resolve_commit(loop.root, "HEAD")


def test_another_student_starts_afresh_with_all_samples(turned_once: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_once)
    other = loop.root.parent / "other"
    moved = shutil.copytree(loop.student, other / "moved")
    loop.configure(student={"model": str(moved)})
    assert explained(loop)[0].stages == ()  # the same weights elsewhere are the same student
    grown = shutil.copytree(loop.state / "releases/0001/model", other / "grown")
    loop.configure(student={"model": str(grown)})
    outlook, stages = explained(loop)
    assert (outlook.number, outlook.start) == (2, str(grown))
    assert stages["changes"] == (True, "no leaf changed")
    assert stages["train short"] == (True, "it starts from another model")
    plan = loop.root / "plan.yaml"
    plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 1").replace("epochs: 4", "epochs: 1"))
    assert spawner.run(loop.root, "train").code == 0
    inputs = find_cycle(loop.workspace, 2)
    assert (inputs.parent, inputs.new) == (0, ())
    mix = read_json(loop.state / "cycles/0002/train.json")["phases"][1]["mix"]
    assert set(mix["by_leaf"]) == {MILL, SKILL}
    assert set(mix["by_origin"]) == {"new"}


def test_a_damaged_parent_is_told_before_another_student_is_trained(turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    grown = shutil.copytree(loop.state / "releases/0001/model", loop.root.parent / "grown")
    loop.configure(student={"model": str(grown)})
    loop.commit(FERRY, knowledge_files(FERRY))
    damaged = loop.state / "releases/0001/model/model.safetensors"
    damaged.unlink()
    damaged.write_bytes(b"")
    asked = len(loop.teacher.requests)
    with pytest.raises(DataError, match="not the file that was written"):
        run_cycle(loop.workspace, SilentProgress(), until="train")
    assert len(loop.teacher.requests) == asked


def test_a_cycle_whose_release_is_gone_makes_another_of_a_new_number(
    turned_once: Loop, copy: Copy, spawner: Spawner
) -> None:
    loop = copy(turned_once)
    first = read_json(loop.state / "releases/0001/release.json")
    replay = (loop.state / "replay/0001.jsonl").read_bytes()
    (loop.state / "releases/current.json").unlink()
    (loop.state / "releases/0001/release.json").unlink()  # its model stays, and is in nobody's way
    assert explained(loop)[1]["train short"][0]
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 0, ran.err
    again = read_json(loop.state / "releases/0002/release.json")
    assert (again["cycle"], again["weights_sha256"]) == (1, first["weights_sha256"])
    assert (loop.state / "replay/0001.jsonl").read_bytes() == replay
    models = [name for name, _ in read_json(loop.state / "cycles/0001/eval.json")["models"]]
    assert models[-1] == "release 2"
    assert read_json(loop.state / "cycles/0001/done.json")["release"] == 2


def test_where_nothing_is_to_do_the_cycle_of_the_current_release_is_named(trained: Loop, copy: Copy) -> None:
    loop = copy(trained)
    git(loop, "reset", "--hard", "-q", "HEAD~1")
    assert run_cycle(loop.workspace, SilentProgress()) == CycleResult(1, "nothing to do")


def test_what_is_not_released_cannot_be_forced(untouched: Loop) -> None:
    with pytest.raises(
        TilthError, match="nothing of a `ref` is released, so `force` has no effect; leave one of them out"
    ):
        run_cycle(untouched.workspace, SilentProgress(), force=True, ref="HEAD")


def test_a_history_that_was_rewritten_changes_nothing(turned_once: Loop, copy: Copy) -> None:
    loop, released = copy(turned_once), resolve_commit(turned_once.root, "HEAD")
    git(loop, "commit", "--amend", "-qm", "In other words")
    git(loop, "reflog", "expire", "--expire=now", "--all")
    git(loop, "gc", "-q", "--prune=now")
    with pytest.raises(TaxonomyError):
        resolve_commit(loop.root, released)
    assert run_cycle(loop.workspace, SilentProgress()) == CycleResult(1, "nothing to do")
    loop.commit(FERRY, knowledge_files(FERRY))
    assert explained(loop)[1]["changes"] == (True, f"added {FERRY}")


def test_another_threshold_of_the_judge_filters_again_asks_nobody_and_is_trained(
    tmp_path: Path, tiny_student: Path, spawner: Spawner
) -> None:
    recipe = yaml.safe_load((Path(tilth.__file__).parent / "sdg/recipes/quick.yaml").read_text())
    recipe["skills"]["prompts"] |= {"judge": "skill_rubric", "foundational_judge": "skill_rubric"}
    with scoring_teacher() as teacher:
        loop = make_loop(tmp_path / "taxonomy", teacher, tiny_student)
        loop.configure(generate={"recipe": "mine.yaml"})
        plan = loop.root / "plan.yaml"
        plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 1").replace("epochs: 4", "epochs: 1"))
        asked: list[int] = []
        for lowest in (3, 4):
            recipe["skills"]["lowest_score"] = lowest
            (loop.root / "mine.yaml").write_text(yaml.safe_dump(recipe))
            assert spawner.run(loop.root, "train").code == 0
            asked.append(len(teacher.requests))
    assert asked[0] == asked[1] > 0
    before, after = (
        {
            item.id: item
            for item in read_records(loop.state / f"cycles/{cycle:04}/train/02-all/data.jsonl", TrainingSample)
        }
        for cycle in (1, 2)
    )
    gone = [before[id_].source for id_ in before.keys() - after.keys()]
    assert {source.leaf for source in gone} == {SKILL}
    assert {source.grades["judge"] for source in gone} == {"3: a little"}
    assert after.keys() < before.keys()


@contextlib.contextmanager
def scoring_teacher() -> Generator[Teacher]:
    """Serve a teacher who as a judge gives an answer 3 of 5 to what was made of "alpha", and 5 else."""
    with serve_teacher() as teacher:
        teach = teacher.reply

        def reply(body: str) -> dict[str, Any]:
            request = json.loads(body)
            form = request.get("response_format")
            if not form or "score" not in form["json_schema"]["schema"]["properties"]:
                return teach(body)
            low = "alpha" in request["messages"][-1]["content"]
            said = {"fault": "a little", "score": 3} if low else {"fault": "none", "score": 5}
            answer = teach(json.dumps({"messages": request["messages"]}))
            answer["choices"][0]["message"]["content"] = json.dumps(said)
            return answer

        teacher.reply = reply
        yield teacher


@pytest.mark.slow  # trains and examines a student
def test_a_branch_is_judged_and_released_when_it_is_merged(turned_once: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_once)
    git(loop, "branch", "-M", "main")
    git(loop, "checkout", "-qb", "ferry")
    loop.commit(FERRY, knowledge_files(FERRY))
    git(loop, "checkout", "-q", "main")
    draft = loop.root / MILL / "draft.txt"
    draft.write_text("of the user's own\n")
    before = sorted(path for path in loop.root.rglob("*") if ".git" not in path.parts and ".tilth" not in path.parts)
    told = spawner.run(loop.root, "cycle", "--ref", "ferry", "--json").json
    assert (told["cycle"], told["outcome"], told["release"]) == (2, "judged", None)
    assert sorted(p for p in loop.root.rglob("*") if ".git" not in p.parts and ".tilth" not in p.parts) == before
    assert not (loop.state / "releases/0002").exists()
    assert spawner.run(loop.root, "cycle", "--ref", "ferry", "--json").json == told
    assert spawner.run(loop.root, "cycle").out.startswith("nothing to do")
    git(loop, "merge", "-q", "ferry")
    _, stages = explained(loop)
    assert [stage for stage, (runs, _) in stages.items() if runs] == ["changes", "gate", "release"]
    ran = spawner.run(loop.root, "cycle", "--json")
    assert (ran.json["cycle"], ran.json["outcome"], ran.json["release"]) == (2, "released", 2)
    assert ran.err.count("done already") == 2
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=loop.root, check=True, capture_output=True, text=True)
    assert loop.release(2)["commit"] == head.stdout.strip()


@pytest.mark.slow  # trains and examines two students
def test_two_branches_side_by_side(turned_once: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_once)
    git(loop, "branch", "-M", "main")
    plan = loop.root / "plan.yaml"
    plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 2"))
    for name, leaf, files in (
        ("ferry", FERRY, knowledge_files(FERRY)),
        ("riddle", "compositional_skills/more", {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")}),
    ):
        git(loop, "checkout", "-qb", name, "main")
        loop.commit(leaf, files)
    git(loop, "checkout", "-q", "main")
    ran = spawner.run(loop.root, "cycle", "--ref", "ferry", "--ref", "riddle")
    head = next(line for line in ran.out.splitlines() if "ferry" in line and "riddle" in line)
    assert head.split()[:4] == ["leaf", "release", "1", "ferry"]
    assert spawner.run(loop.root, "cycle", "--ref", "nowhere").code == 2
    refused = spawner.run(loop.root, "cycle", "--ref", "ferry", "--force")
    assert (refused.code, "--force has no effect with --ref" in refused.err) == (2, True)
    refused = spawner.run(loop.root, "cycle", "--explain", "--force")
    assert (refused.code, "--force has no effect with --explain" in refused.err) == (2, True)


def test_what_would_be_generated_is_explained_leaf_by_leaf(turned_once: Loop, copy: Copy, tmp_path: Path) -> None:
    loop = copy(turned_once)
    loop.commit(FERRY, knowledge_files(FERRY))
    loop.commit(SKILL, {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
    _, stages = explained(loop)
    assert stages["changes"] == (True, f"added {FERRY}; modified {SKILL}")
    assert stages["generate"] == (True, f"{SKILL} (it changed), {FERRY} (new)")
    loop.configure(teacher={"model": "other", "base_url": loop.teacher.url})
    _, stages = explained(loop)
    assert f"{MILL} (the teacher changed)" in stages["generate"][1]
    git(loop, "reset", "--hard", "-q", "HEAD~2")
    loop.configure(generate={"recipe": "standard"})
    _, stages = explained(loop)
    assert f"{MILL} (the recipe changed)" in stages["generate"][1]


def test_samples_of_a_leaf_that_moved_are_replayed_as_its_own(turned_once: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_once)
    git(loop, "mv", MILL, f"{MILL}_2")
    git(loop, "commit", "-qm", "Move the mill")
    loop.commit("compositional_skills/other", {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
    plan = loop.root / "plan.yaml"
    plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 1").replace("epochs: 4", "epochs: 1"))
    assert spawner.run(loop.root, "train").code == 0
    mix = read_json(loop.state / "cycles/0002/train.json")["phases"][1]["mix"]
    assert set(mix["by_leaf"]) == {f"{MILL}_2", SKILL, "compositional_skills/other"}


@pytest.mark.slow  # trains and examines a student
def test_a_leaf_that_moved_and_is_made_anew_is_known_to_the_parent(
    turned_once: Loop, copy: Copy, spawner: Spawner
) -> None:
    """All of its questions are answered rightly, before and now: of a leaf that is new a gain would be asked."""
    loop = copy(turned_once)
    git(loop, "mv", MILL, f"{MILL}_2")
    git(loop, "commit", "-qm", "Move the mill")
    shipped = loop.root / "mine.yaml"
    shipped.write_text((SHIPPED / "quick.yaml").read_text().replace("rewordings: 4", "rewordings: 3"))
    loop.configure(generate={"recipe": "mine.yaml"}, gate={"significance": 0.05, "max_loss": 0.6})
    assert spawner.run(loop.root, "cycle").code == 0
    record = read_json(loop.state / "cycles/0002/cycle.json")
    assert (record["changes"]["moved"], record["new"]) == ([[MILL, f"{MILL}_2"]], [f"{MILL}_2"])
    reasons = read_json(loop.state / "cycles/0002/judgement.json")["verdict"]["reasons"]
    assert any(reason.startswith(f"Other leaf {MILL}_2: no change shown, 6 of 6 right, 6 of 6") for reason in reasons)


@pytest.mark.slow  # trains and examines a student
def test_a_removed_leaf_leaves_training_replay_and_tests(turned_once: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_once)
    assert any(entry.leaf == MILL for entry in read_entries(loop.state / "replay/0001.jsonl").values())
    git(loop, "rm", "-rq", MILL)
    git(loop, "commit", "-qm", "Remove the mill")
    _, stages = explained(loop)
    assert stages == {}  # weights do not unlearn: nothing is trained for its sake
    loop.commit(FERRY, knowledge_files(FERRY))
    plan = loop.root / "plan.yaml"
    plan.write_text(plan.read_text().replace("epochs: 24", "epochs: 1").replace("epochs: 4", "epochs: 1"))
    assert explained(loop)[1]["changes"] == (True, f"added {FERRY}; removed {MILL}")
    told = spawner.run(loop.root, "cycle", "--force", "--json").json
    assert told["release"] == 2
    folder = loop.state / "cycles/0002"
    for phase in read_json(folder / "train.json")["phases"]:
        assert MILL not in phase["mix"]["by_leaf"]
    assert {question["leaf"] for question in read_json(folder / "eval.json")["questions"]} == {FERRY}
    assert {entry.leaf for entry in read_entries(loop.state / "replay/0002.jsonl").values()} == {FERRY, SKILL}
    assert {dataset["leaf"] for dataset in loop.release(2)["datasets"]} == {FERRY, SKILL}
    shown = re.sub(r"<[^>]*>", "", (folder / "report.html").read_text().partition('id="changes"')[2])
    assert re.search(rf"removed\s+{MILL}\s", shown)
