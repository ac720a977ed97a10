"""The whole loop: a release, a contribution, another release; what was paid, what was kept, what each record says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
from tilth.core.atomic import read_json
from tilth.core.errors import CheckFailed, TilthError
from tilth.core.fingerprint import file_sha256
from tilth.core.progress import SilentProgress
from tilth.cycle import explain, journal
from tilth.cycle.journal import begin, find_cycle
from tilth.cycle.releases import current_release, releases, set_current
from tilth.cycle.report import report_data
from tilth.cycle.run import CycleResult, read_result, run_cycle
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.train import run as train_run
from tilth.train.phase import weights_sha256
from tilth.train.replay_buffer import read_entries

from ..loop import FERRY, MILL, SKILL, Loop, knowledge_files, skill_files

Copy = Callable[[Loop], Loop]


def turn(loop: Loop) -> CycleResult:
    return run_cycle(loop.workspace, SilentProgress())


def store(loop: Loop) -> dict[str, str]:
    """Every file of the store with its hash."""
    folder = loop.state / "store"
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_a_first_cycle_makes_a_release_with_its_lineage(turned_once: Loop) -> None:
    loop, record = turned_once, turned_once.release(1)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=loop.root, check=True, capture_output=True, text=True)
    assert record["commit"] == head.stdout.strip()
    assert (record["number"], record["cycle"], record["parent"]) == (1, 1, 0)
    assert record["student"] == str(loop.student)
    assert record["teacher"] == "rule"
    assert record["verdict"]["outcome"] == "pass"
    assert record["scores"][MILL]["correct"] == 6
    assert record["weights_sha256"] == weights_sha256(loop.state / "releases/0001/model")
    assert {dataset["leaf"] for dataset in record["datasets"]} == {MILL, SKILL}
    for card in ("model/README.md", "dataset/README.md"):
        text = (loop.state / "releases/0001" / card).read_text()
        assert text.startswith("---\nlicense:")
        assert MILL in text
        assert str(loop.root) not in text
        assert str(loop.student) not in text
    for dataset in record["datasets"]:
        samples = loop.state / "store" / dataset["entry"] / "samples.jsonl"
        assert file_sha256(samples) == dataset["sha256"]
        assert len(samples.read_text().splitlines()) == dataset["samples"] > 0


def test_every_stage_leaves_its_record(turned_once: Loop) -> None:
    folder = turned_once.state / "cycles/0001"
    files = {"cycle.json", "entries.json", "contamination.json", "train.json", "eval.json", "judgement.json"}
    assert {path.name for path in folder.iterdir()} == files | {"times.json", "report.html", "done.json", "train"}
    assert set(read_json(folder / "times.json")) == {"samples", "training", "evaluation"}
    phases = {phase["phase"]: phase for phase in read_json(folder / "train.json")["phases"]}
    assert set(phases["all"]["mix"]["by_kind"]) == {"knowledge_long", "knowledge_short", "skill"}
    assert not list(folder.glob("train/*/model"))
    assert not [path for path in turned_once.state.rglob("*") if ".tmp" in path.name]


def test_a_second_cycle_starts_from_the_first_and_asks_for_the_new_leaf_only(
    turned_once: Loop, turned_twice: Loop
) -> None:
    inputs, record = find_cycle(turned_twice.workspace, 2), turned_twice.release(2)
    assert (record["parent"], inputs.new, inputs.changes.added) == (1, (FERRY,), (FERRY,))
    assert inputs.changes.unchanged == (SKILL, MILL)
    assert record["scores"][FERRY]["correct"] >= 4
    assert record["scores"][MILL]["correct"] >= 4
    old = {dataset["entry"] for dataset in turned_once.release(1)["datasets"]}
    assert old < {dataset["entry"] for dataset in record["datasets"]}
    assert store(turned_once).items() < store(turned_twice).items()
    since = inputs.started_at.isoformat(timespec="microseconds")
    with Ledger(turned_twice.state / "ledger.db") as ledger:
        assert count(ledger, leaf=MILL, since=since) == count(ledger, leaf=SKILL, since=since) == 0
        assert count(ledger, leaf=FERRY, since=since) == count(ledger, leaf=FERRY) > 0
    mix = read_json(turned_twice.state / "cycles/0002/train.json")["phases"][0]["mix"]
    assert mix["by_origin"]["earlier_cycle"]["samples"] > 0
    parent = read_json(turned_twice.state / "cycles/0002/train.json")["phases"][0]["parent_sha256"]
    assert parent == turned_once.release(1)["weights_sha256"]


def test_each_release_has_its_replay_buffer(turned_once: Loop, turned_twice: Loop) -> None:
    first = read_entries(turned_twice.state / "replay/0001.jsonl")
    assert first == read_entries(turned_once.state / "replay/0001.jsonl")
    second = read_entries(turned_twice.state / "replay/0002.jsonl")
    assert {(entry.leaf, entry.cycle) for entry in second.values()} == {(MILL, 1), (SKILL, 1), (FERRY, 2)}
    assert first.keys() < second.keys()
    replayed = [entry for entry in second.values() if entry.cycle == 1 and entry.last_cycle == 2]
    mixes = [phase["mix"] for phase in read_json(turned_twice.state / "cycles/0002/train.json")["phases"]]
    most = max(mix["by_origin"]["earlier_cycle"]["samples"] for mix in mixes)
    assert most <= len(replayed) <= len(first)


def test_the_report_shows_what_each_epoch_was_measured_to_be(turned_once: Loop) -> None:
    done = journal.done(turned_once.workspace, 1)
    assert done
    first, last = report_data(turned_once.workspace, 1, done).phases
    assert [(each.epoch, each.chosen) for each in first.measured] == [(1, False), (2, False), (3, False), (4, True)]
    assert set(last.measured[0].numbers) == {"training loss", "training accuracy", "KL, new prompts"}
    assert "KL, new prompts" in (turned_once.state / "cycles/0001/report.html").read_text()


def test_the_report_shows_both_releases(turned_twice: Loop) -> None:
    page = (turned_twice.state / "cycles/0002/report.html").read_text()
    assert "release 1" in page
    assert "release 2" in page
    assert "Tern Ferry" in page
    assert str(turned_twice.release(2)["weights_sha256"])[:12] in page
    assert "student" in page
    assert not [path for path in (turned_twice.root, turned_twice.student.parent) if str(path) in page]


def test_the_same_again_does_nothing(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    asked, times = len(loop.teacher.requests), {path: path.stat().st_mtime_ns for path in loop.state.rglob("*.json")}
    assert turn(loop).outcome == "nothing to do"
    assert len(loop.teacher.requests) == asked
    assert {path: path.stat().st_mtime_ns for path in loop.state.rglob("*.json")} == times


def forgetful(loop: Loop) -> None:
    """A plan that replays nothing."""
    lines = [line for line in (loop.root / "plan.yaml").read_text().splitlines() if "replay" not in line]
    (loop.root / "plan.yaml").write_text("\n".join(lines))


@pytest.mark.slow
def test_a_student_that_forgot_is_refused_and_the_candidate_kept(turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    forgetful(loop)
    loop.commit(FERRY, knowledge_files(FERRY))
    result = turn(loop)
    assert result.outcome == "refused"
    assert result.verdict
    assert any(f"{MILL}: forgotten" in reason for reason in result.verdict.reasons)
    assert [release.number for release in releases(loop.workspace)] == [1]
    assert (loop.state / "cycles/0002/train/02-all/model/config.json").is_file()
    assert result.report
    assert "forgotten" in result.report.read_text()
    asked = len(loop.teacher.requests)
    assert turn(loop) == result
    assert len(loop.teacher.requests) == asked
    forced = run_cycle(loop.workspace, SilentProgress(), force=True)
    assert (forced.outcome, forced.release, len(loop.teacher.requests)) == ("released", 2, asked)
    first, second = releases(loop.workspace)
    assert (first.forced, second.forced, second.verdict.outcome) == (False, True, "fail")
    assert turn(loop).outcome == "nothing to do"


def test_roll_back_then_the_same_cycle_gives_its_result_again(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    set_current(loop.workspace, 1)
    result = turn(loop)
    assert (result.number, result.outcome, result.release) == (2, "released", 2)
    assert current_release(loop.workspace) == releases(loop.workspace)[0]
    with pytest.raises(TilthError, match="there is no release 7; releases: 1, 2"):
        set_current(loop.workspace, 7)


@pytest.mark.parametrize("change", ["moved", "reformatted", "removed", "concurrency"])
def test_what_changes_no_sample_needs_no_cycle(turned_once: Loop, copy: Copy, change: str) -> None:
    loop = copy(turned_once)
    if change == "concurrency":
        loop.configure(teacher={"model": "rule", "base_url": loop.teacher.url, "concurrency": 2})
    elif change == "reformatted":
        loop.commit(SKILL, {"qna.yaml": "# the same\n" + skill_files()["qna.yaml"]})
    else:
        command = ["git", "mv", SKILL, f"{SKILL}_2"] if change == "moved" else ["git", "rm", "-rq", SKILL]
        subprocess.run(command, cwd=loop.root, check=True)
        author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
        subprocess.run(["git", *author, "commit", "-qm", change], cwd=loop.root, check=True)
    assert turn(loop).outcome == "nothing to do"


def test_a_held_out_question_in_the_training_data_is_refused_before_training(turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    question = "From what was the wheel that Orla Mill uses once cut or cast?"
    seed = f'- {{question: "{question}", answer: larch}}\n'
    loop.commit("compositional_skills/riddles", {"qna.yaml": skill_files()["qna.yaml"] + seed})
    with pytest.raises(CheckFailed, match="wheel that Orla Mill uses") as caught:
        turn(loop)
    assert caught.value.where == MILL
    assert not (loop.state / "cycles/0002/train").exists()


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("replay: {general: 0.1, general_file: nowhere.jsonl}", r"nowhere\.jsonl: cannot be read"),
        (
            "method: grpo, rollout: {rewards: [{function: nowhere.py:good}]}",
            r"phase 'p': rollout.rewards: there is no file 'n",
        ),
        ("method: grpo, rollout: {rewards: [{model: nowhere}]}", "'nowhere' is no earlier `reward` phase"),
        pytest.param(  # it reads the student's tokenizer
            "method: distill, distill: {teacher: nowhere}", "there is no model in 'nowhere'", marks=pytest.mark.slow
        ),
        ("adapter: qlora", "needs the package bitsandbytes"),
    ],
)
def test_what_training_lacks_is_told_before_the_teacher_is_asked(
    untouched: Loop, copy: Copy, monkeypatch: pytest.MonkeyPatch, phase: str, message: str
) -> None:
    loop = copy(untouched)
    (loop.root / "plan.yaml").write_text(f"phases: [{{name: p, kinds: [skill], {phase}}}]")
    monkeypatch.setattr(train_run, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    asked = len(loop.teacher.requests)
    with pytest.raises(TilthError, match=message):
        turn(loop)
    assert len(loop.teacher.requests) == asked


def test_a_plan_is_explained_as_the_cycle_that_would_run(
    trained: Loop, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, cycles = copy(trained), list[int]()
    monkeypatch.setattr(explain, "explain_plan", lambda _, inputs, **__: cycles.append(inputs.past.cycle))
    explain.explain_training(loop.workspace, SilentProgress())
    begin(loop.workspace, find_cycle(loop.workspace, 2).model_copy(update={"identity": "that of older settings"}))
    explain.explain_training(loop.workspace, SilentProgress())
    assert cycles == [2, 3]


def test_one_command_at_a_time(untouched: Loop, copy: Copy) -> None:
    loop = copy(untouched)
    with loop.workspace.lock(), pytest.raises(TilthError, match=f"another tilth command .*pid {os.getpid()}"):
        turn(loop)


def test_the_result_of_an_open_cycle_is_not_read(untouched: Loop) -> None:
    with pytest.raises(TilthError, match="cycle 1 is not finished"):
        read_result(untouched.workspace, 1)
