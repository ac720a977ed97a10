"""What the contamination check finds of planted leaks, what it takes for one, and what it costs.

    python benchmarks/leaks.py [--taxonomies ../shared/taxonomies] [--workspace DIR]

Planted leaks (`tests/data/planted_leaks.jsonl`), each in a training sample of its own: word for word, lightly edited by
a program, reworded by the embedded teacher, and the answer alone; tasks of the same skill, which are none, beside them.
On taxonomies: the seeds of skills against one another, for answers that several of them give. The nearest sample by
meaning: how often the few samples that are embedded hold the one that a comparison of all with all finds, for labelled
questions against seeds, and with `--workspace` for the held-out questions and the general set against the samples of a
real store, and what of those is taken for a leak. The cost: on synthetic questions and samples, without embeddings.
Writes `benchmarks/results/leaks.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import mul
from pathlib import Path
from typing import Any

from machine import describe
from tilth.core.errors import TilthError
from tilth.core.held_out import find_leaks, is_knowledge, share_together
from tilth.core.rate import wilson
from tilth.core.records import Message, Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.eval.contamination import NEAREST, Trained, contamination
from tilth.eval.general import general_questions
from tilth.llm.embedding import embed
from tilth.taxonomy.leaf import Leaf, read_leaf
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import starter_folder
from tilth.taxonomy.tree import leaf_ids

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "leaks.json"
SHIPPED = 0.95
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")


def main() -> None:
    options = _options()
    leaves = list(_leaves([starter_folder(), *sorted(options.taxonomies.glob("*"))]))
    results = {
        "machine": describe(),
        "planted": _planted(),
        "pairs of other questions": _labelled(),
        "answers of skills in the public trees": _answers(leaves),
        "seeds": _seeds_searched(leaves),
        **({"store": _store(options.workspace)} if options.workspace else {}),
        "cost": [_cost(*size) for size in ((40, 400, 4), (10_000, 100_000, 400), (10_000, 100_000, 1))],
    }
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(results, indent=2, ensure_ascii=False))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taxonomies", type=Path, default=ROOT.parent / "shared" / "taxonomies")
    parser.add_argument("--workspace", type=Path)
    return parser.parse_args()


# Planted leaks --------------------------------------------------------------------------------------------------------


def _planted() -> dict[str, Any]:
    """By kind and way of planting: how many there are, and found by the words alone and with meaning as well."""
    plants = [json.loads(line) for line in (DATA / "planted_leaks.jsonl").read_text().splitlines()]
    by_kind: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for kind, how in sorted({(plant["kind"], plant["how"]) for plant in plants}):
        some = [plant for plant in plants if (plant["kind"], plant["how"]) == (kind, how)]
        by_kind[kind][how] = {
            "planted": len(some),
            "by words": sum(bool(_found(plant, None)) for plant in some),
            "found": sum(bool(_found(plant, Likeness(embed, SHIPPED))) for plant in some),
        }
    for ways in by_kind.values():
        planted, found = (sum(way[name] for way in ways.values()) for name in ("planted", "found"))
        rate = wilson(found, planted)
        ways["all"] = {"planted": planted, "found": found, "95 % interval": [round(rate.low, 3), round(rate.high, 3)]}
    return by_kind


def _found(plant: dict[str, Any], likeness: Likeness | None) -> list[str]:
    question = Question.new(plant["leaf"], plant["question"], tuple(plant["answers"]), judged=plant["judged"])
    turns = tuple(Message(role=role, content=text) for role, text in plant["messages"])
    source = SOURCE.model_copy(update={"leaf": plant["leaf"]})
    sample = Sample(id="s", kind="skill", messages=turns, source=source)
    return [leak.kind for leak in find_leaks([question], [sample], likeness)]


def _labelled() -> dict[str, Any]:
    """Of pairs that are no leaks, how many are taken for one."""
    pairs = [json.loads(line) for line in (DATA / "reworded_questions.jsonl").read_text().splitlines()]
    there, found = Counter[str](), Counter[str]()
    for pair in pairs:
        question = Question.new("l", pair["held_out"], (pair["answer"],))
        sample = Sample.new("knowledge_short", pair["sample"], pair["sample_answer"], SOURCE)
        there[pair["relation"]] += 1
        found[pair["relation"]] += bool(find_leaks([question], [sample], Likeness(embed, SHIPPED)))
    return {name: {"pairs": there[name], "found": found[name]} for name in ("same_fact", "other_fact")}


# Real leaves ----------------------------------------------------------------------------------------------------------


def _answers(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """Each seed of a skill as if it were held out, against all other seeds of its tree: what has its answer."""
    found: list[list[str]] = []
    pairs = questions = 0
    for some in _by_tree(leaves):
        samples = [sample for leaf in some if not is_knowledge(leaf.id) for sample in _seeds(leaf)]
        held_out = {q.id: q for s in samples for q in [Question.new(s.source.leaf, s.question, (s.answer,))]}
        questions, pairs = questions + len(held_out), pairs + len(held_out) * (len(samples) - 1)
        by_id = {sample.id: sample for sample in samples}
        for leak in find_leaks(list(held_out.values()), samples):
            if leak.kind == "answer":
                question, sample = held_out[leak.question_id], by_id[leak.sample_id]
                found.append([question.question[-120:], sample.question[-120:], sample.answer[:120]])
    return {"questions": questions, "pairs": pairs, "found": len(found), "examples": found}


def _seeds_searched(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """Labelled questions and the starter's held-out ones, against the seeds of all trees."""
    samples = list({(s.question, s.answer): s for leaf in leaves for s in _seeds(leaf)}.values())
    pairs = [json.loads(line) for line in (DATA / "reworded_questions.jsonl").read_text().splitlines()]
    samples += [Sample.new("skill", pair["sample"], pair["sample_answer"], SOURCE) for pair in pairs]
    return _nearest(list({q.question: q for q in _as_held_out(samples, pairs)}.values()), samples)


def _store(workspace: Path) -> dict[str, Any]:
    """The held-out questions of a workspace and the general set, against all samples of its store."""
    files = sorted(workspace.glob(".tilth/store/*/samples.jsonl"))
    samples = [Sample.model_validate_json(line) for file in files for line in file.read_text().splitlines()]
    written = [question for leaf in _leaves([workspace]) for question in leaf.questions]
    questions, trained = [*written, *general_questions()], [Trained(sample, "new") for sample in samples]
    began = time.process_time()
    by_words = contamination(questions, trained)
    seconds = time.process_time() - began
    report = contamination(questions, trained, likeness=Likeness(embed, SHIPPED))
    said = {sample.id: sample.question for sample in samples}
    asked = {question.id: question.question for question in questions}
    return {
        "written": len(written),
        "general": len(questions) - len(written),
        "CPU seconds without embeddings": round(seconds, 2),
        "by words": by_words.counts,
        "with meaning": report.counts,
        "leaks": [[leak.kind, leak.overlap, asked[leak.question_id], said[leak.sample_id]] for leak in report.leaks],
        "nearest by meaning": _nearest(written, samples),
        "nearest by words is found": _nearest_by_words(written, samples),
    }


def _nearest(held_out: Sequence[Question], samples: Sequence[Sample]) -> dict[str, Any]:
    """The nearest sample by meaning that is found, and the nearest that there is, by how near that is."""
    vectors = {text: embed(text) for text in {s.question for s in samples} | {q.question for q in held_out}}
    report = contamination(held_out, (Trained(sample, "new") for sample in samples), embed=embed)
    by_band: defaultdict[str, list[float]] = defaultdict(list)
    for question, item in zip(held_out, report.items, strict=True):
        best = max(_cosine(vectors, question.question, sample.question) for sample in samples)
        found = item.by_meaning.likeness if item.by_meaning else 0.0
        band = next(name for name, low in (("0.9", 0.9), ("0.8", 0.8), ("0.6", 0.6), ("0", -1.0)) if best >= low)
        by_band[f"nearest from {band}"].append(max(0.0, best - found))
    return {
        "questions": len(held_out),
        "samples": len(samples),
        "compared for a question": NEAREST,
        **{
            band: {
                "questions": len(lost),
                "the nearest is found": sum(each < 0.001 for each in lost),
                "cosine lost at most": round(max(lost), 3),
            }
            for band, lost in sorted(by_band.items(), reverse=True)
        },
    }


def _nearest_by_words(held_out: Sequence[Question], samples: Sequence[Sample]) -> str:
    found = 0
    for question, item in zip(
        held_out, contamination(held_out, (Trained(s, "new") for s in samples)).items, strict=True
    ):
        together = share_together(question.question)
        best = max(together(turn.content) for sample in samples for turn in sample.messages)
        found += item.by_words is not None and item.by_words.likeness >= round(best, 3)
    return f"{found} of {len(held_out)}"


def _as_held_out(samples: Sequence[Sample], pairs: Sequence[dict[str, str]]) -> Iterator[Question]:
    """Held-out questions that none of the samples asks word for word."""
    asked = {sample.question for sample in samples}
    for pair in pairs:
        if pair["held_out"] not in asked:
            yield Question.new("l", pair["held_out"], (pair["answer"],))
    for leaf in _leaves([starter_folder()]):
        yield from leaf.questions


def _cosine(vectors: dict[str, Sequence[float]], one: str, two: str) -> float:
    return sum(map(mul, vectors[one], vectors[two]))


def _by_tree(leaves: Sequence[Leaf]) -> list[list[Leaf]]:
    """Leaves of one taxonomy together: an id that comes again begins the next."""
    trees: list[list[Leaf]] = [[]]
    for leaf in leaves:
        if any(leaf.id == other.id for other in trees[-1]):
            trees.append([])
        trees[-1].append(leaf)
    return trees


def _seeds(leaf: Leaf) -> Iterator[Sample]:
    source = SOURCE.model_copy(update={"leaf": leaf.id})
    for example in leaf.seed_examples:
        for pair in example.pairs:
            grounded = leaf.kind == "grounded_skill" and example.context
            yield Sample.new(
                "skill", f"{example.context}\n\n{pair.question}" if grounded else pair.question, pair.answer, source
            )


def _leaves(roots: Iterable[Path]) -> Iterator[Leaf]:
    for root in roots:
        tree = WorkingTree(root)
        for leaf_id in leaf_ids(tree):
            try:
                yield read_leaf(tree, leaf_id)
            except TilthError:  # some of the public leaves are wrong
                continue


# Cost -----------------------------------------------------------------------------------------------------------------


def _cost(num_questions: int, num_samples: int, subjects: int) -> dict[str, Any]:
    """Seconds of one core and memory, by words alone; every hundredth sample holds a question word for word."""
    rng = random.Random(16)  # noqa: S311 (a reproducible choice, not a secret)
    world = _World(rng, subjects)
    questions = [world.question(number) for number in range(num_questions)]
    planted = {number: rng.choice(questions) for number in range(0, num_samples, 100)}
    memory, began = _memory_mib(), time.process_time()
    report = contamination(questions, (Trained(world.sample(number, planted), "new") for number in range(num_samples)))
    seconds, grown = time.process_time() - began, _memory_mib() - memory
    began = time.process_time()
    for number in range(num_samples):
        world.sample(number, planted)
    return {
        "questions": num_questions,
        "samples": num_samples,
        "subjects": subjects,
        "seconds": round(seconds - (time.process_time() - began), 1),
        "memory, MiB": round(grown),
        "planted copies": len(planted),
        "found": len({leak.sample_id for leak in report.leaks if leak.kind == "copy"}),
        "other leaks": sum(leak.kind != "copy" for leak in report.leaks),
    }


class _World:
    """Questions and answers about subjects, of words as frequent as in a language (Zipf)."""

    def __init__(self, rng: random.Random, subjects: int) -> None:
        self._rng = rng
        letters = ["".join(rng.choices("bdfgklmnprstv", k=1) + rng.choices("aeiou", k=1)) for _ in range(64)]
        self._words = ["".join(rng.choices(letters, k=rng.choice([2, 3, 4]))) for _ in range(20_000)]
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(self._words))))
        self._subjects = [" ".join(rng.sample(self._words, 2)).title() for _ in range(subjects)]

    def question(self, number: int) -> Question:
        asked = self._some(4)
        text = f"What {asked[0]} does the {asked[1]} of the {self._subject(number)} {asked[2]} in the {asked[3]}?"
        return Question.new("knowledge/l", text, (" ".join(self._some(2)),))

    def sample(self, number: int, planted: dict[int, Question]) -> Sample:
        text = planted[number].question if number in planted else self.question(number).question
        answer = f"The {self._subject(number)}: {' '.join(self._some(40 if number % 3 else 6))}."
        return Sample.new("knowledge_short", text, answer, SOURCE)

    def _subject(self, number: int) -> str:
        return self._subjects[number % len(self._subjects)]

    def _some(self, count: int) -> list[str]:
        return self._rng.choices(self._words, cum_weights=self._weights, k=count)


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
