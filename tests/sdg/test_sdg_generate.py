from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.sdg.generate import plan
from tilth.sdg.store import REJECTS, SAMPLES, Entry, read_manifest, read_rejects, read_samples

from .conftest import KNOWLEDGE_ID, RULES, SKILL_ID, Bench, about, answer, items, leaf, seeds

GOLDEN = """\
knowledge_short: Which grain does Orla Mill grind? = rye
knowledge_short: Who runs Orla Mill? = Bram Osk
knowledge_short: Orla Mill was built in what? = 1702
knowledge_short: About Orla Mill: Its wheel is made of what? = larch
knowledge_short: About Orla Mill: The miller is Bram what? = Osk
knowledge_short: Form 1: Who runs Orla Mill? = Bram Osk
knowledge_short: Form 2: Who runs Orla Mill? = Bram Osk
knowledge_short: Form 1: Orla Mill was built in what? = 1702
knowledge_short: Form 2: Orla Mill was built in what? = 1702
knowledge_short: About Orla Mill: Form 1: Its wheel is made of what? = larch
knowledge_short: About Orla Mill: Form 2: Its wheel is made of what? = larch
knowledge_long: Who runs Orla Mill? At length. = Of Orla Mill the text says Bram Osk.
knowledge_long: Orla Mill was built in what? At length. = Of Orla Mill the text says 1702.
knowledge_long: About Orla Mill: Its wheel is made of what? At length. = Of Orla Mill the text says larch.
skill: Say alpha backwards. = ahpla
skill: Say beta backwards. = ateb
skill: Say gam backwards. = mag
skill: Say ahpla1 in reverse. = 1alpha
skill: Say ahpla2 in reverse. = 2alpha
skill: Say ateb1 in reverse. = 1beta
skill: Say ateb2 in reverse. = 2beta
skill: Say mag1 in reverse. = 1gam
skill: Say mag2 in reverse. = 2gam
grounded_skill: Al has 3 apples. / How many are there? = 3
grounded_skill: Bo has 4 apples. / How many are there? = 4
grounded_skill: Al has 3 apples. Eve has 1. / Count for both. = 4
grounded_skill: Al has 3 apples. Eve has 2. / Count for both. = 5
grounded_skill: Bo has 4 apples. Eve has 1. / Count for both. = 5
grounded_skill: Bo has 4 apples. Eve has 2. / Count for both. = 6
"""


def told(entries: list[Entry]) -> str:
    samples = [sample for entry in entries for sample in read_samples(entry)]
    lines = [f"{sample.kind}: {sample.question} = {sample.answer}".replace("\n\n", " / ") for sample in samples]
    return "".join(f"{line}\n" for line in lines)


def files(entries: list[Entry]) -> list[bytes]:
    return [(entry.folder / name).read_bytes() for entry in entries for name in (SAMPLES, REJECTS)]


@pytest.mark.slow
def test_the_same_answers_give_the_same_bytes_whatever_their_order(bench: Bench) -> None:
    first = bench.run()
    assert told(first) == GOLDEN
    bench.teacher.longest_s = 0.02
    assert files(bench.run(state="again")) == files(first)


def test_provenance_is_complete(bench: Bench) -> None:
    knowledge, skill, _ = bench.run()
    samples = read_samples(knowledge)
    source = next(sample for sample in samples if sample.answer == "Osk").source
    assert (source.leaf, source.leaf_fingerprint) == (KNOWLEDGE_ID, bench.leaves[0].fingerprint)
    assert (source.commit, source.document) == ("working tree", f"{KNOWLEDGE_ID}/mill.md")
    text = (bench.root / "taxonomy" / source.document).read_text()
    assert source.span is not None
    assert source.fact == "The miller is Bram Osk." == text[slice(*source.span)]
    assert source.heading == "Orla Mill > Work"
    manifest = read_manifest(knowledge.folder)
    assert (source.recipe, source.recipe_fingerprint) == (manifest.recipe, manifest.recipe_fingerprint)
    assert (source.teacher, source.seed_example, source.grades) == ("rule", None, {"judge": "Osk"})
    assert len(source.requests) == len(set(source.requests)) == 2  # questions, judge
    long = samples[-1].source
    assert (long.heading, long.fact, long.grades) == ("Orla Mill", "Its wheel is made of larch.", {"judge": "larch"})
    assert len(long.requests) == len(set(long.requests)) == 3  # questions, judge (of both), long
    reworded = next(sample for sample in samples if sample.question == "Form 1: Who runs Orla Mill?").source
    assert (reworded.teacher, reworded.seed_example, reworded.document) == ("rule", 1, "")
    assert (reworded.fact, len(reworded.requests)) == ("The miller is Bram Osk.", 2)  # reword, judge
    seed = read_samples(skill)[1].source
    assert (seed.teacher, seed.seed_example, seed.requests, seed.grades) == ("seed", 1, (), {})
    assert [sample.source.seed_example for sample in read_samples(skill)] == [0, 1, 2, 0, 0, 1, 1, 2, 2]


def test_rejects_keep_step_reason_and_grade(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    entry = bench.run()[0]
    rejects = read_rejects(entry)
    assert [(reject.step, reject.reason, reject.score, reject.sample.answer) for reject in rejects] == [
        ("filters", "not_a_question", "", "nothing"),
        ("judge", "judge_answers_otherwise", "oats", "rye"),
        ("filters", "not_a_question", "", "nothing"),
        ("filters", "not_a_question", "", "nothing"),
        ("judge", "judge_answers_otherwise", "oats", "rye"),
        ("judge", "judge_answers_otherwise", "oats", "rye"),
        ("duplicates", "same_question", "", "larch"),  # the wheel is told twice
        ("judge", "judge_answers_otherwise", "oats", "Of Orla Mill the text says rye."),
    ]
    assert all((reject.step == "judge") == ("oats" in reject.sample.source.grades.values()) for reject in rejects)


def test_the_manifest_counts_everything(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    entry = bench.run()[0]
    manifest = read_manifest(entry.folder)
    assert manifest.samples_by_kind == {"knowledge_short": 11, "knowledge_long": 3}
    assert (manifest.samples, entry.samples, manifest.rejects, entry.rejects) == (14, 14, 8, 8)
    assert manifest.rejects_by_reason == {"judge_answers_otherwise": 4, "not_a_question": 3, "same_question": 1}
    assert (manifest.judge, manifest.seed, manifest.failures) == ("rule", bench.config.seed, ())
    asked = manifest.requests
    assert (asked.asked, asked.paid, asked.cached) == (28, 26, 2)  # a short pair's judgement serves the long one too
    assert bench.teacher.asked == {
        "knowledge questions": 3,
        "knowledge reword": 4,
        "knowledge long": 4,
        "knowledge judge": 15,
    }
    assert asked.prompt_tokens > 100
    assert asked.completion_tokens > 50


def test_a_complete_leaf_is_not_made_again(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:]
    first = bench.run()
    before, bytes_before = bench.teacher.asked.total(), files(first)
    again = bench.run()
    assert bench.teacher.asked.total() == before
    assert files(again) == bytes_before
    assert [entry.reused for entry in first + again] == [False] * 2 + [True] * 2
    assert all(planned.complete for planned in plan(bench.leaves, bench.config, bench.store()))


def test_a_complete_store_needs_no_teacher(bench: Bench) -> None:
    bench.leaves = bench.leaves[2:]
    bench.run()
    dead = ModelServer(model="rule", base_url="http://127.0.0.1:1/v1")
    bench.config = bench.config.model_copy(update={"teacher": dead})
    assert [entry.reused for entry in bench.run()] == [True]


def test_only_the_leaf_that_changed_is_asked_for(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:]
    bench.run()
    bench.teacher.asked.clear()
    bench.leaves[0] = leaf(SKILL_ID, seed_examples=seeds(("", "Say delta backwards.", "atled")))
    assert [planned.complete for planned in plan(bench.leaves, bench.config, bench.store())] == [False, True]
    assert [entry.reused for entry in bench.run()] == [False, True]
    assert set(bench.teacher.asked) == {"skills questions", "skills answer", "skills judge"}


def test_a_moved_leaf_finds_its_samples(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    bench.run()
    moved = bench.leaves[0].model_copy(update={"id": "compositional_skills/elsewhere/reversed", "title": "Reversed"})
    bench.leaves = [moved]
    before = bench.teacher.asked.total()
    (entry,) = bench.run()
    assert (entry.leaf, entry.reused, bench.teacher.asked.total()) == (moved.id, True, before)


@pytest.mark.parametrize("change", ["recipe", "prompt", "teacher"])
@pytest.mark.slow
def test_what_a_leaf_is_made_with_decides_its_folder(bench: Bench, change: str) -> None:
    bench.leaves = bench.leaves[1:2]
    first = bench.run()
    if change == "recipe":
        bench.use_recipe("skills", tasks_per_call=1)
    elif change == "prompt":
        path = bench.root / "recipes" / "skills_answer.yaml"
        path.write_text(path.read_text().replace("max_tokens: 100", "max_tokens: 99"))
    else:
        other = bench.config.teacher.model_copy(update={"model": "other"})
        bench.config = bench.config.model_copy(update={"teacher": other})
    again = bench.run()
    assert [entry.reused for entry in again] == [False]
    assert first[0].folder.exists()
    assert first[0].folder != again[0].folder


def test_a_comment_in_a_recipe_or_prompt_changes_nothing(bench: Bench) -> None:
    bench.leaves = bench.leaves[2:]
    bench.run()
    for path in (bench.root / "recipes").iterdir():
        path.write_text("# said differently\n" + path.read_text())
    assert all(entry.reused for entry in bench.run())


def test_a_bad_answer_costs_its_row_only(bench: Bench) -> None:
    def reword(asked: dict[str, Any]) -> Any:
        return "I would rather not" if asked["answer"] == "1702" else RULES["knowledge reword"](asked)

    def judge(asked: dict[str, Any]) -> Any:
        return "" if "Form 2" in asked["question"] and "wheel" in asked["question"] else answer(asked)

    bench.teacher.rules |= {"knowledge reword": reword, "knowledge judge": judge}
    entries = bench.run()
    lost = [line for line in GOLDEN.splitlines(keepends=True) if re.search(r"Form.*1702|Form 2.*larch", line)]
    assert len(lost) == 3
    assert told(entries) == "".join(line for line in GOLDEN.splitlines(keepends=True) if line not in lost)
    failures = read_manifest(entries[0].folder).failures
    assert [(failure.step, failure.source.fact) for failure in failures] == [
        ("reword", "Orla Mill was built in 1702."),
        ("judge", "Its wheel is made of larch."),
    ]
    assert all(failure.reason and failure.request for failure in failures)
    assert len(failures[1].source.requests) == 3  # what could not be judged is still in the ledger


def test_a_judge_that_fails_takes_no_reject_with_it(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    bench.teacher.rules["knowledge judge"] = lambda _: ""
    (entry,) = bench.run()
    assert [sample.source.teacher for sample in read_samples(entry)] == ["seed", "seed"]
    assert {failure.step for failure in read_manifest(entry.folder).failures} == {"judge"}
    assert [reject.reason for reject in read_rejects(entry)] == ["not_a_question"] * 3


def test_a_chunk_without_questions_leaves_the_others(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    bench.teacher.rules["knowledge questions"] = lambda asked: "{" if "1702" in asked["chunk"] else about(asked)
    entry = bench.run()[0]
    (failure,) = read_manifest(entry.folder).failures
    assert (failure.step, failure.source.heading) == ("questions", "Orla Mill")
    assert {sample.source.heading for sample in read_samples(entry)} == {"", "Orla Mill > Work"}
    assert "1702" not in told([entry])


def test_an_answer_that_is_known_is_not_asked_for_again(bench: Bench) -> None:
    bench.use_recipe("knowledge", chunk_tokens=15, calls_per_chunk=2, rewordings=2)
    context = "Orla Mill was built in 1702. Its wheel is made of larch. The miller is Bram Osk."
    examples = seeds((context, "Is Orla Mill there?", "It is."), (context, "Who is it?", "Bram Osk, the miller."))
    bench.leaves = [leaf(KNOWLEDGE_ID, seed_examples=examples)]
    reworded: list[str] = []

    def reword(asked: dict[str, Any]) -> Any:
        reworded.append(asked["answer"])
        return RULES["knowledge reword"](asked)

    bench.teacher.rules["knowledge reword"] = reword
    bench.run()
    # An answer of function words tells no detail, so it makes none known; a part of a known one tells nothing new.
    assert sorted(reworded) == ["1702", "Bram Osk, the miller.", "It is.", "larch"]


def test_a_passage_without_a_sentence_is_asked_for_a_question(bench: Bench) -> None:
    bench.use_recipe("knowledge", extra_questions=0)
    (bench.root / "taxonomy" / KNOWLEDGE_ID / "mill.md").write_text("- wheel: larch\n")
    bench.leaves = [leaf(KNOWLEDGE_ID)]
    numbers: list[int] = []
    bench.teacher.rules["knowledge judge"] = lambda _: "larch"
    pair = {"question": "Of what is the wheel of Orla mill?", "answer": "larch"}
    bench.teacher.rules["knowledge questions"] = lambda asked: (numbers.append(asked["number"]), items(pair))[1]
    assert f"knowledge_short: {pair['question']} = larch" in told(bench.run())
    assert numbers == [1]


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Of what is the wheel " + "of the mill " * 12 + "made?", "larch", "question_length"),
        ("The wheel is larch.", "larch", "not_a_question"),
        ("Of what is the wheel of the mill made?", "larch and " * 5, "answer_length"),
        ("Is the wheel made of larch?", "larch", "answer_in_question"),
        ("In which year was the mill built?", "1703", "number_not_in_source"),
        ("Of what is the wheel of the mill made?", "oak", "not_grounded"),
        ("When, Orla Mill: in what year did they put it up?", "1702", "held_out_copy"),
    ],
)
@pytest.mark.slow
def test_every_filter_is_at_work(bench: Bench, question: str, answer: str, reason: str) -> None:
    bench.use_recipe("knowledge")
    bench.leaves = bench.leaves[:1]
    pair = {"question": question, "answer": answer}
    bench.teacher.rules["knowledge questions"] = lambda asked: items(*[pair] * asked["number"])
    (entry,) = bench.run()
    dropped = [reject for reject in read_rejects(entry) if reject.sample.source.heading == "Orla Mill"]
    assert {(reject.step, reject.reason) for reject in dropped if reject.step == "filters"} == {("filters", reason)}
    assert question not in told([entry])


def test_a_request_that_is_refused_costs_its_row_only(bench: Bench) -> None:
    whole = RULES["knowledge long"]
    bench.teacher.rules["knowledge long"] = lambda asked: 400 if asked["answer"] == "larch" else whole(asked)
    entries = bench.run()
    assert told(entries) == "".join(line for line in GOLDEN.splitlines(keepends=True) if "says larch" not in line)
    assert bench.teacher.asked["knowledge long"] == 4  # each once
    [failure] = read_manifest(entries[0].folder).failures
    assert (failure.step, failure.reason) == ("long", "HTTP 400: on purpose")


def test_a_refused_key_stops_the_run_and_leaves_no_half_entry(bench: Bench) -> None:
    bench.teacher.rules["knowledge long"] = lambda _: 401
    with pytest.raises(ModelError, match="401"):
        bench.run()
    assert not [path for path in bench.store().glob("**/*") if KNOWLEDGE_ID.rsplit("/", 1)[-1] in path.name]
    bench.teacher.rules["knowledge long"] = RULES["knowledge long"]
    assert told(bench.run()) == GOLDEN


class Interrupting(SilentProgress):
    """A person who presses Ctrl-C at the `after`th answer."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Any]:
        yield self

    def grow(self, amount: float) -> None:
        """Nothing to show."""

    def advance(self, amount: float = 1) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def note(self, text: str) -> None:
        """Nothing to show."""


@pytest.mark.slow
def test_ctrl_c_anywhere_and_again_gives_the_same_bytes_and_asks_for_nothing_twice(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    undisturbed = bench.run(state="undisturbed")
    once = bench.teacher.asked.total()
    bench.teacher.asked.clear()
    for after in (1, 6, 9):
        with pytest.raises(KeyboardInterrupt):
            bench.run(progress=Interrupting(after))
        names = [path.name for path in bench.store().iterdir()] if bench.store().exists() else []
        assert not [name for name in names if name.startswith(".")]
    assert files(bench.run()) == files(undisturbed)
    # What was in flight at each of the three stops may have been asked again: at most 8 requests each.
    assert bench.config.teacher.concurrency == 8
    assert once <= bench.teacher.asked.total() <= once + 3 * 8


def test_a_killed_run_leaves_nothing_behind_in_the_store(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    half = bench.store() / f".{SKILL_ID.rsplit('/', 1)[-1]}-123.4567.tilth.tmp"
    half.mkdir(parents=True)
    (half / SAMPLES).write_text("{}")
    bench.run()
    assert not half.exists()


def test_a_judge_of_its_own(bench: Bench) -> None:
    bench.leaves = bench.leaves[2:]
    judge = ModelServer(model="strict", base_url=bench.teacher.url)
    bench.config = bench.config.model_copy(update={"judge": judge})
    manifest = read_manifest(bench.run()[0].folder)
    assert (manifest.teacher, manifest.judge) == ("rule", "strict")


def test_without_a_judge_nothing_is_graded(bench: Bench) -> None:
    bench.use_recipe("skills", judge=False)
    bench.use_recipe("knowledge", judge=False)
    entries = bench.run()
    assert not [step for step in bench.teacher.asked if "judge" in step]
    assert all(sample.source.grades == {} for entry in entries for sample in read_samples(entry))
    assert {read_manifest(entry.folder).judge for entry in entries} == {""}


def test_no_held_out_question_enters_a_prompt_or_a_sample(bench: Bench) -> None:
    held_out = Question.new(SKILL_ID, "Say beta backwards.", ("ateb",))
    copies = (
        "Form 2: Orla Mill was built in what?",
        "The miller of the Orla Mill is Bram what?",
        "Who runs Orla Mill?",
    )
    copied = tuple(Question.new(KNOWLEDGE_ID, text, ("?",)) for text in copies)
    bench.leaves[0] = bench.leaves[0].model_copy(update={"questions": copied, "fingerprint": "1" * 16})
    bench.leaves = bench.leaves[:2]
    bench.leaves[1] = bench.leaves[1].model_copy(update={"questions": (held_out,), "fingerprint": "0" * 16})
    seen: list[str] = []

    def watch(step: str) -> Any:
        return lambda asked: (seen.append(json.dumps(asked)), RULES[step](asked))[1]

    bench.teacher.rules = {step: watch(step) for step in RULES}
    knowledge, skill = bench.run()
    assert not [prompt for prompt in seen if re.search("beta|Form 2: Orla|miller is Bram what|Who runs", prompt)]
    rejected = [
        (reject.reason, reject.sample.question) for entry in (knowledge, skill) for reject in read_rejects(entry)
    ]
    assert ("held_out_copy", "Say beta backwards.") in rejected
    assert ("held_out_copy", "Form 2: Orla Mill was built in what?") in rejected
    assert ("held_out_copy", "About Orla Mill: The miller is Bram what?") in rejected
    assert ("held_out_copy", "Who runs Orla Mill?") in rejected
    assert "Form 1: Orla Mill was built in what?" in told([knowledge])
    assert not re.search("Say beta|Form 2: Orla|miller is Bram what|Who runs", told([knowledge, skill]))


def test_a_new_task_that_repeats_a_seed_is_not_answered(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    bench.teacher.rules["skills questions"] = lambda _: {
        "q1": {"question": "Say alpha backwards!"},
        "q2": {"question": "Say up!"},
    }
    (skill,) = bench.run()
    assert {reject.reason for reject in read_rejects(skill)} == {"copy_of_seed", "same_question"}
    assert bench.teacher.asked["skills answer"] == 1  # "Say up!" comes from every seed, and one request answers it


def test_foundational_leaves_take_both_ways(bench: Bench) -> None:
    mixed = seeds(("", "Say alpha backwards.", "ahpla"), ("Al has 3 apples.", "How many are there?", "3"))
    bench.leaves = [leaf("foundational_skills/all", kind="foundational", seed_examples=mixed)]
    (entry,) = bench.run()
    assert {sample.kind for sample in read_samples(entry)} == {"foundational"}
    assert {"skills answer", "skills grounded_answer"} <= set(bench.teacher.asked)


def test_progress_says_what_became_of_the_rows(bench: Bench) -> None:
    notes: list[str] = []

    class Watching(Interrupting):
        def note(self, text: str) -> None:
            notes.append(text)

    bench.run(progress=Watching(-1))
    assert notes[-1] == "23 accepted, 7 rejected"
