"""Judges at work in a run: several votes, quotes that are looked up, scores."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest
import yaml
from tilth.core.records import Provenance, Reject, Sample
from tilth.sdg.flow import LeafRun, Tally
from tilth.sdg.recipe import load_recipes
from tilth.sdg.store import read_rejects, read_samples

from .conftest import Bench

_TEXT = {"type": "string"}
_VERDICT = {**_TEXT, "enum": ["yes", "no"]}
_SCORE = {"type": "integer", "minimum": 1, "maximum": 5}


def judge_by(bench: Bench, flow: str, names: str, **properties: Any) -> None:
    """Give a flow's judge another way to answer."""
    path = bench.root / "recipes" / f"{flow}_judge.yaml"
    shown = ", ".join(f'"{name}": {name}' for name in names.split())
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    prompt = {"system": f"{flow} judge", "user": "{{ {" + shown + "} | tojson }}", "schema": schema, "max_tokens": 99}
    path.write_text(yaml.safe_dump(prompt))


def test_more_than_half_of_the_votes_keep_a_sample(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    bench.use_recipe("skills", votes=3, tasks_per_call=2)
    times: defaultdict[str, Iterator[int]] = defaultdict(count)

    def judge(asked: dict[str, Any]) -> dict[str, str]:
        """Says no once to the first task of a call, and twice to the second."""
        noes = 1 if "1" in asked["question"] else 2
        return {"verdict": "no" if next(times[asked["question"]]) < noes else "yes"}

    bench.teacher.rules["skills judge"] = judge
    [entry] = bench.run()
    made = [sample for sample in read_samples(entry) if sample.source.teacher != "seed"]
    rejects = [reject for reject in read_rejects(entry) if reject.step == "judge"]
    assert made
    assert {sample.source.grades["votes"] for sample in made} == {"2 of 3"}
    assert {sample.source.grades["judge"] for sample in made} == {"yes"}
    assert {(reject.reason, reject.sample.source.grades["votes"]) for reject in rejects} == {("judged_no", "1 of 3")}
    assert all(len(sample.source.requests) == 2 + 3 for sample in made)
    assert bench.teacher.asked["skills judge"] == 3 * (len(made) + len(rejects))


def test_a_quote_is_looked_up_in_the_passage(bench: Bench) -> None:
    bench.leaves = bench.leaves[:1]
    judge_by(bench, "knowledge", "title heading chunk question answer", quote=_TEXT, verdict=_VERDICT)

    def judge(asked: dict[str, Any]) -> dict[str, str]:
        """Quotes the sentence with the answer; of the miller he invents one, and of larch he quotes another."""
        sentences = re.findall(r"[A-Z][^.#\n]+\.", asked["chunk"])
        quote = next((sentence for sentence in sentences if asked["answer"] in sentence), "")
        quote = {"Bram Osk": "The miller was Bram Osk.", "larch": sentences[0]}.get(asked["answer"], quote)
        return {"quote": quote, "verdict": "yes"}

    bench.teacher.rules["knowledge judge"] = judge
    [entry] = bench.run()
    made = [sample for sample in read_samples(entry) if sample.source.grades]
    reasons = {reject.reason for reject in read_rejects(entry) if reject.step == "judge"}
    assert made
    assert all(sample.source.grades["judge"].startswith("yes: ") for sample in made)
    assert not {"Bram Osk", "larch"} & {sample.answer for sample in made}
    assert reasons == {"quote_not_in_text", "quote_without_answer"}


def test_a_score_below_the_recipe_s_is_a_reject(bench: Bench) -> None:
    bench.leaves = bench.leaves[1:2]
    bench.use_recipe("skills", lowest_score=3)
    judge_by(bench, "skills", "task examples context question answer", fault=_TEXT, score=_SCORE)
    bench.teacher.rules["skills judge"] = lambda asked: {"fault": "f", "score": 3 if "l" in asked["answer"] else 2}
    [entry] = bench.run()
    made = [sample for sample in read_samples(entry) if sample.source.teacher != "seed"]
    rejects = [reject for reject in read_rejects(entry) if reject.step == "judge"]
    assert {sample.source.grades["judge"] for sample in made} == {"3: f"}
    assert {(reject.reason, reject.score) for reject in rejects} == {("low_score", "2: f")}


@pytest.mark.parametrize("said", [{"verdict": "no"}, "neither yes nor no", 400])
@pytest.mark.slow
def test_a_repetition_is_dropped_before_its_judge_is_paid_and_it_is_no_matter_of_timing(
    bench: Bench, said: Any
) -> None:
    """Three seeds, one task nearly; the judge would refuse the second of them, or fail at it."""
    bench.leaves = bench.leaves[1:2]
    bench.use_recipe("skills", near_duplicate=0.6)
    friends = "Please say omega in reverse order for the {} friends of the old mill."
    bench.teacher.rules |= {
        "skills questions": lambda asked: {"q1": {"question": friends.format(asked["seed"]["answer"])}},
        "skills answer": lambda _: "agemo",
        "skills judge": lambda asked: said if "ateb" in asked["question"] else {"verdict": "yes"},
    }
    files: set[bytes] = set()
    judged: list[int] = []
    for number, (most, longest_s) in enumerate([(1, 0), (8, 0), (8, 0.02), (8, 0.02)]):
        teacher = bench.config.teacher.model_copy(update={"concurrency": most})
        bench.config = bench.config.model_copy(update={"teacher": teacher})
        bench.teacher.longest_s = longest_s
        before = bench.teacher.asked["skills judge"]
        [entry] = bench.run(state=f"run{number}")
        judged.append(bench.teacher.asked["skills judge"] - before)
        files.add((entry.folder / "samples.jsonl").read_bytes() + (entry.folder / "rejects.jsonl").read_bytes())
    assert len(files) == 1
    assert judged[0] == 1
    [kept] = [sample for sample in read_samples(entry) if sample.source.teacher != "seed"]
    assert kept.question == friends.format("ahpla")
    rejects = read_rejects(entry)
    assert [(reject.step, reject.reason) for reject in rejects] == [("duplicates", "near_duplicate")] * 2
    assert all(not reject.sample.source.grades and len(reject.sample.source.requests) == 2 for reject in rejects)


def test_why_a_repetition_is_dropped_follows_from_the_order_of_the_rows(bench: Bench) -> None:
    bench.use_recipe("skills", near_duplicate=0.5)
    recipe = load_recipes(bench.config)["skill"]
    source = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")
    texts = ("a b c d e f g h", "c d e f x y", "a b c d e f x y")
    first, second, third = (Sample.new("skill", text, "agemo", source) for text in texts)
    early, late = (
        LeafRun(bench.leaves[1], recipe, source, cast("Any", None), cast("Any", None), Tally(), lambda _: None)
        for _ in range(2)
    )
    early.settled([first])
    seen = asyncio.run(early.grade(third, [], "judge", {}))  # before the second was there
    assert isinstance(seen, Reject)
    ended = [*early.settled([second]), *early.settled([seen])]
    assert ended == [*late.settled([first]), *late.settled([second, third])][1:]
    assert (seen.score, cast("Reject", ended[1]).score) == ("0.56", "0.71")


def test_of_two_answers_to_one_question_the_judge_says_which_is_right(bench: Bench) -> None:
    bench.leaves = [bench.leaves[0].model_copy(update={"seed_examples": (), "fingerprint": "other"})]
    both = [
        {"question": "Of what is the wheel of Orla Mill?", "answer": answer} for answer in ("1702", "larch", "larch")
    ]
    bench.use_recipe("knowledge", chunk_tokens=200)
    bench.teacher.rules["knowledge questions"] = lambda asked: {
        f"q{number + 1}": both[number % 3] for number in range(asked["number"])
    }
    bench.teacher.rules["knowledge judge"] = lambda _: "larch"
    [entry] = bench.run()
    short = [sample.answer for sample in read_samples(entry) if sample.question == both[0]["question"]]
    assert short == ["larch"]
