"""Which generated held-out questions an evaluation asks: those that nothing trained holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.errors import CheckFailed
from tilth.core.jsonl import write_records
from tilth.core.progress import SilentProgress
from tilth.core.records import Candidate, Preference, Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.cycle import hold_out as checked
from tilth.cycle.hold_out import check_trained, hold_out
from tilth.cycle.journal import CONTAMINATION, TRAIN, read_record
from tilth.cycle.open_cycle import OpenCycle
from tilth.eval.contamination import ContaminationReport
from tilth.eval.general import general_questions
from tilth.sdg.engine import Job, Made
from tilth.sdg.flow import Tally
from tilth.sdg.recipe import load_recipe
from tilth.sdg.store import Entry, Requests, open_entry, write_entry
from tilth.taxonomy.leaf import Leaf
from tilth.train.data import of_origin
from tilth.train.results import PhaseResult, TrainResult

SOURCE = Provenance(leaf="a", leaf_fingerprint="b", commit="c", recipe="d", recipe_fingerprint="e", teacher="f")
NEW = ("knowledge/a", "knowledge/b")
NOTHING = Requests(asked=0, cached=0, paid=0, prompt_tokens=0, completion_tokens=0)


def made(
    store: Path, leaf_id: str, samples: Sequence[str], tests: Sequence[str], pairs: Sequence[Preference] = ()
) -> Entry:
    """An entry of a knowledge leaf with these questions in its samples and its tests."""
    leaf = Leaf.model_construct(id=leaf_id, fingerprint=leaf_id[-1] * 16, questions=())
    recipe = load_recipe("standard")["knowledge"]
    trained = [Sample.new("knowledge_short", question, "this", SOURCE) for question in samples]
    held_out = [Question.new(leaf_id, question, ("that",)) for question in tests]
    folder = store / leaf_id[-1]
    result = Made(Job(leaf, recipe, [], SOURCE, 42), trained, list(pairs), held_out, [], [], Tally())
    write_entry(folder, result, judge="judge", seed=42, requests=NOTHING)
    return open_entry(folder, leaf_id, reused=False)


def cycle(
    root: Path, *questions: Question, likeness: Likeness | None = None, general: bool = False, new: Sequence[str] = NEW
) -> OpenCycle:
    config = SimpleNamespace(eval=SimpleNamespace(general=general))
    workspace: Any = SimpleNamespace(
        store=root / "store", releases=root / "releases", cycles=root / "cycles", config=config
    )
    planned = [SimpleNamespace(recipe=SimpleNamespace(likeness=likeness))]
    basis: Any = SimpleNamespace(leaves=[SimpleNamespace(questions=questions)], planned=planned)
    inputs: Any = SimpleNamespace(number=1, new=tuple(new))
    return OpenCycle(workspace, basis, inputs, root, SilentProgress())


def report(cycle: OpenCycle) -> ContaminationReport:
    return read_record(cycle.folder / CONTAMINATION, ContaminationReport)


def test_generated_questions_stand_behind_those_of_people(tmp_path: Path) -> None:
    entry = made(tmp_path / "store", "knowledge/a", ["How tall is the tower?"], ["Who built the old harbour wall?"])
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    held_out = hold_out(cycle(tmp_path, written), [entry])
    assert [question.question for question in held_out.questions] == [
        "When did the ferry first sail?",
        "Who built the old harbour wall?",
    ]


def test_one_that_another_leaf_trains_is_left_out(tmp_path: Path) -> None:
    copied = "Who built the old harbour wall?"
    entries = [
        made(tmp_path / "store", "knowledge/a", [], [copied, "Which fish is sold on Monday morning?"]),
        made(tmp_path / "store", "knowledge/b", [copied], []),
    ]
    assert [test.question for test in hold_out(cycle(tmp_path), entries).tests] == [
        "Which fish is sold on Monday morning?"
    ]


def test_one_that_a_person_wrote_and_something_trains_is_refused(tmp_path: Path) -> None:
    entry = made(tmp_path / "store", "knowledge/a", ["When did the ferry first sail?"], [])
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    with pytest.raises(CheckFailed, match=r"knowledge/a: 1 training sample\(s\) hold a held-out question"):
        hold_out(cycle(tmp_path, written), [entry])


def test_a_general_set_is_looked_at_too(tmp_path: Path) -> None:
    general = [Sample.new("skill", "Tell me: when did the ferry first sail?", "In 1902.", SOURCE)]
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    with pytest.raises(CheckFailed, match=r"1 training sample\(s\) hold .* or the seed or general sample"):
        hold_out(cycle(tmp_path, written), [], general)


@pytest.mark.parametrize(
    ("question", "chosen", "rejected"),
    [
        ("When did the ferry first sail?", "In 1902.", "No idea."),
        ("Ask me something.", "When did the ferry first sail?", "No idea."),
        ("Ask me something.", "How are you?", "When did the ferry first sail?"),
    ],
)
def test_pairs_are_looked_at_too(tmp_path: Path, question: str, chosen: str, rejected: str) -> None:
    better, worse = (Candidate(answer=answer, model="m", score=5) for answer in (chosen, rejected))
    pair = Preference.new(question, better, worse, (better, worse), SOURCE)
    entry = made(tmp_path / "store", "knowledge/a", [], [], [pair])
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    with pytest.raises(CheckFailed, match=r"knowledge/a: 1 training sample\(s\) hold a held-out question"):
        hold_out(cycle(tmp_path, written), [entry])


def test_a_reworded_one_counts_in_what_is_made_now_and_not_in_older_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, tests = ["On which day did the ferry sail first?"], ["Who built the old harbour wall?"]
    entry = made(tmp_path / "store", "knowledge/a", trained, tests)
    written = Question.new("knowledge/b", "When did the ferry set out on its first voyage?", ("this",))
    minding = cycle(tmp_path, written, likeness=Likeness(lambda _: (1.0,), 0.95))
    assert len(hold_out(cycle(tmp_path, written), [entry]).tests) == 1
    with pytest.raises(CheckFailed, match=r"knowledge/b: 1 training sample\(s\) hold a held-out question"):
        hold_out(minding, [entry])
    before = SimpleNamespace(datasets=[SimpleNamespace(entry=entry.folder.name, leaf=entry.leaf)])
    monkeypatch.setattr(checked, "releases", lambda _: [before])
    assert hold_out(minding, []).questions == [written]


def test_one_of_the_general_set_that_something_trained_holds_is_left_out(tmp_path: Path) -> None:
    entry = made(tmp_path / "store", "knowledge/a", [general_questions()[7].question], [])
    asked = hold_out(cycle(tmp_path, general=True), [entry]).general
    assert asked == (*general_questions()[:7], *general_questions()[8:])
    assert hold_out(cycle(tmp_path), [entry]).general == ()


def test_the_report_says_of_every_question_what_comes_nearest_and_where_from(tmp_path: Path) -> None:
    entries = [
        made(tmp_path / "store", "knowledge/a", ["How tall is the harbour wall?"], ["Who built the harbour wall?"]),
        made(tmp_path / "store", "knowledge/b", ["Who built the harbour wall?"], []),
    ]
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    checked_ = cycle(tmp_path, written, new=["knowledge/b"])
    hold_out(checked_, entries, [Sample.new("skill", "Who sails the ferry?", "Nobody.", SOURCE)])
    found = report(checked_)
    assert [(item.kind, near.origin, near.text) for item in found.items if (near := item.by_words)] == [
        ("none", "general", "Who sails the ferry?"),
        ("copy", "new", "Who built the harbour wall?"),
    ]
    assert (found.as_trained, found.samples) == (False, {"new": 1, "earlier_cycle": 1, "general": 1})


def test_a_refused_cycle_leaves_its_report(tmp_path: Path) -> None:
    entry = made(tmp_path / "store", "knowledge/a", ["When did the ferry first sail?"], [])
    refused = cycle(tmp_path, Question.new("knowledge/a", "When did the ferry first sail?", ("1902",)))
    with pytest.raises(
        CheckFailed, match=r"such as 'When did the ferry first sail\?', word for word; .*contamination.json"
    ):
        hold_out(refused, [entry])
    assert report(refused).counts == {"copy": 1}


def test_what_was_trained_is_looked_for_in_the_phases_own_files(tmp_path: Path) -> None:
    """The student's answer that it replays stands in no other file."""
    written = Question.new("knowledge/a", "When did the ferry first sail?", ("1902",))
    entry = made(tmp_path / "store", "knowledge/b", ["How tall is the harbour wall?"], [])
    trained = cycle(tmp_path, written, new=["knowledge/a"])
    own = Sample.new("knowledge_short", "What should I ask?", "When did the ferry first sail?", SOURCE)
    better, worse = (Candidate(answer=answer, model="m", score=5) for answer in ("Hello.", "Bye."))
    pair = Preference.new("Greet me.", better, worse, (better, worse), SOURCE)
    phases = trained.folder / TRAIN
    leak = Sample.new("knowledge_short", "When did the ferry first sail?", "1902", SOURCE)
    write_records(phases / "01-stacked" / "data.jsonl", [of_origin(leak, "new")])  # of the plan before
    write_records(phases / "01-short" / "data.jsonl", [of_origin(own, "self_generated")])
    write_records(phases / "02-pairs" / "data.jsonl", [of_origin(pair, "new")])
    write_records(phases / "02-pairs" / "validation.jsonl", [of_origin(pair, "new")])
    done = [PhaseResult(phase=name[3:], status="trained", folder=name) for name in ("01-short", "02-pairs")]
    skipped = PhaseResult(phase="skills", status="skipped", reason="it has nothing")
    result = TrainResult(model=phases, phases=(*done, skipped))
    assert [(leak.sample_id, leak.kind) for leak in check_trained(trained, result, [entry])] == [(own.id, "copy")]
    assert report(trained).as_trained
    assert report(trained).samples == {"self_generated": 1, "new": 2, "earlier_cycle": 1}
