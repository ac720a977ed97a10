"""`tilth train --explain` on the miniature loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.cli.plan_outlook import print_outlook
from tilth.cycle.explain import Explained
from tilth.train.auto import Resolved
from tilth.train.explain import Outlook, PhaseOutlook
from tilth.train.memory import Memory
from tilth.train.mix import Mix
from tilth.train.tally import Tally

from ..loop import FERRY, Loop, Spawner, Teacher, knowledge_files


def test_without_samples_it_says_what_is_missing(spawner: Spawner, untouched: Loop) -> None:
    ran = spawner.run(untouched.root, "train", "--explain")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("nothing to train yet\n")
    assert "without samples left out: " in ran.out
    assert ran.out.rstrip().endswith("`tilth generate` makes them")


def test_where_the_release_has_seen_all_it_says_so(spawner: Spawner, turned_once: Loop) -> None:
    ran = spawner.run(turned_once.root, "train", "--explain")
    assert (ran.code, ran.out) == (0, "nothing to train: the current release has seen all samples\n")


def test_it_shows_the_plan_with_numbers_and_changes_nothing(
    spawner: Spawner, untouched: Loop, teacher: Teacher, tmp_path: Path
) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    assert spawner.run(loop.root, "generate").code == 0
    loop.commit(FERRY, knowledge_files(FERRY))
    asked, files = len(teacher.requests), _files(loop.root)
    ran, told = (spawner.run(loop.root, "train", "--explain", *more) for more in ([], ["--json"]))
    assert (ran.code, told.code) == (0, 0)
    assert len(teacher.requests) == asked
    assert _files(loop.root) == files
    assert max(len(line) for line in ran.out.splitlines() if "/" not in line) <= 80  # a path is not broken
    for text in ("1. short", "2. all", "samples    ", "lengths    half up to ", "memory     about ", "1 leaf without"):
        assert text in ran.out
    assert "\n   replay     50 % of the phase from earlier cycles; there is nothing yet\n" in ran.out
    short, everything = told.json["outlook"]["phases"]
    assert f"\n   steps      {short['mix']['steps']:,}: 4 epochs of " in ran.out
    assert f"\n   samples    {everything['mix']['total']['samples']} (" in ran.out
    assert told.json["without_samples"] == [FERRY]


def test_what_would_not_begin_is_shown_with_the_reason(spawner: Spawner, untouched: Loop, tmp_path: Path) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    (loop.root / "mine.yaml").write_text("phases: [{name: p, kinds: [knowledge_short], select: {by: held_out}}]")
    assert spawner.run(loop.root, "generate").code == 0
    ran = spawner.run(loop.root, "train", "--explain", "--set", "train.plan=mine.yaml")
    assert ran.code == 1
    assert "\n1. p\n" in ran.out
    told = " ".join(ran.out.split())
    assert (
        "it would not begin: phase 'p': it selects by held_out, but there are no generated held-out questions; " in told
    )
    assert "nothing has been started" not in told


def _shown(capsys: pytest.CaptureFixture[str], processes: int = 1, **settings: Any) -> str:
    """What is printed of a phase with these settings, its lines joined."""
    given = {"name": "p", "kinds": ["skill"], "epochs": 2, **settings}
    phase = Resolved.model_validate(given)
    tally = Tally(samples=8, tokens=900, trained_tokens=90)
    hashes = {"data_sha256": "", "tokens_sha256": ""}
    mix = Mix(
        phase="p", total=tally, by_origin={"new": tally}, by_kind={}, by_leaf={}, too_long=Tally(), longest=9,
        steps=2, **hashes,
    )  # fmt: skip
    sizes = dict.fromkeys(("weights", "gradients", "optimizer", "activations", "logits", "process", "total"), 1)
    memory = Memory(**sizes, others=3_000_000_000)
    told = PhaseOutlook(phase="p", method=phase.method, kinds=phase.kinds, settings=phase, mix=mix, memory=memory)
    outlook = Outlook(
        phases=(told,), parameters=1, device="cpu", dtype="float32", processes=processes, free_memory_bytes=None
    )
    print_outlook(Explained(plan="mine", student="s", new=("a",), without_samples=(), outlook=outlook))
    return " ".join(capsys.readouterr().out.split())


def test_what_the_plan_says_is_shown_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    plain = _shown(capsys)
    assert "only" not in plain
    assert "average" not in plain
    assert "average of its weights and those that it starts from, which weigh 0.3" in _shown(capsys, average=0.3)
    assert "replay" not in plain
    assert "8 (all new): 900 tokens an epoch, 90 of them trained" in plain
    narrowed = _shown(
        capsys,
        leaves=["knowledge/**", "b"],
        share=0.25,
        replay={
            "earlier_phases": 0.2,
            "earlier_cycles": 0.125,
            "at_most": "500 samples",
            "per_leaf": 3,
            "weight": "age",
        },
        select={"by": "held_out", "patience": 2, "keep": 3},
    )
    assert "only leaves that match knowledge/** or b, 25 % of the new samples" in narrowed
    assert (
        "replay 20 % of the phase from earlier phases, 12.5 % of the phase from earlier cycles, at most 500 samples, "
        "at most 3 of a leaf, rather those trained long ago"
    ) in narrowed
    assert (
        "model of the epoch with the most held-out questions right; the 3 best are kept; "
        "ends after 2 without a better one"
    ) in narrowed


def test_a_phase_that_learns_from_answers_says_what_they_earn(capsys: pytest.CaptureFixture[str]) -> None:
    rewards = [{"answer": "exact"}, {"model": "scores", "weight": 0.5}, {"function": "f.py:g"}, {"judge": True}]
    rollout = {"completions": 4, "max_new_tokens": 48, "temperature": 0.7, "beta": 0.05, "rewards": rewards}
    shown = _shown(capsys, method="ppo", rollout=rollout)
    assert "ppo on skill, held to its parent by beta 0.05" in shown
    assert "up to 900 tokens" in shown
    assert "answers 4 to each prompt, of up to 48 tokens, at temperature 0.7" in shown
    assert "rewards exact answer, reward model 'scores' times 0.5, function f.py:g, the judge" in shown
    assert "other models 3.0 GB" in shown
    assert "time about a minute, by what this machine computes now, if all answers are as long as they may be;" in shown
    assert "; what it takes to reward them comes on top" in shown
    assert "comes on top" not in _shown(capsys, method="ppo", rollout={"rewards": [{"answer": "exact"}]})
    taught = _shown(capsys, method="distill", distill={"teacher": "parent"})
    assert "distill on skill, taught by parent, divergence 1" in taught


def test_what_is_for_each_of_several_processes_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, processes=2)
    assert "1 samples each, 1 at once in each process" in shown
    assert "GB in each process" in shown
    assert "each process" not in _shown(capsys, processes=2, method="distill", distill={"teacher": "parent"})


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".git/" not in str(path)}
