"""What the filter for reworded held-out questions finds, by its threshold.

    python benchmarks/reworded.py [--taxonomies ../shared/taxonomies] [--workspace tilth-demo]

On labelled pairs (`tests/data/reworded_questions.jsonl`): near copies, which it has to find; questions for the same
fact in words of their own, which samples are made of, and questions for other facts, which it has to leave. Each by
the words alone, by the cosine alone, and as shipped (the answers agree as well). On taxonomies and the starter: the
seeds of a leaf against one another, which people wrote as different questions. On the starter: its seeds against its
held-out questions, and with `--workspace` the samples of a demo too.
Writes `benchmarks/results/reworded.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import mul
from pathlib import Path
from typing import Any

from machine import describe
from tilth.core.errors import TilthError
from tilth.core.held_out import find_leaks
from tilth.core.records import Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.llm.embedding import embed
from tilth.taxonomy.leaf import Leaf, read_leaf
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import starter_folder
from tilth.taxonomy.tree import leaf_ids

ROOT = Path(__file__).parents[1]
PAIRS = ROOT / "tests" / "data" / "reworded_questions.jsonl"
RESULTS = ROOT / "benchmarks" / "results" / "reworded.json"
THRESHOLDS = [0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98]
SHIPPED = 0.95
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")


def main() -> None:
    options = _options()
    starter = list(_leaves([starter_folder()]))
    results = {
        "machine": describe(),
        "CPU ms for a question": _cost_ms(),
        "pairs": _pairs(),
        "seeds of a leaf against one another": _seeds(starter + list(_leaves(options.taxonomies.glob("*")))),
        "starter: seeds against held-out questions": _against_held_out(starter, _seed_samples(starter)),
    }
    if options.workspace:
        files = options.workspace.glob(".tilth/store/*/samples.jsonl")
        samples = [Sample.model_validate_json(line) for file in files for line in file.read_text().splitlines()]
        results["starter: samples against held-out questions"] = _against_held_out(starter, samples)
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(results, indent=2, ensure_ascii=False))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taxonomies", type=Path, default=ROOT.parent / "shared" / "taxonomies")
    parser.add_argument("--workspace", type=Path)
    return parser.parse_args()


def _cost_ms() -> float:
    """Of one of 200 questions, the model loaded."""
    embed("Is it loaded?")
    began = time.process_time()
    for number in range(200):
        embed(f"How tall is tower number {number} of the Velmora Lighthouse?")
    return round((time.process_time() - began) / 200 * 1000, 1)


def _pairs() -> dict[str, Any]:
    """Relation -> how many pairs there are, and how many of them each way finds, by threshold."""
    by_relation: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for line in PAIRS.read_text().splitlines():
        pair = json.loads(line)
        by_relation[pair["relation"]].append(pair)
    return {relation: _found(pairs) for relation, pairs in by_relation.items()}


def _found(pairs: Sequence[dict[str, str]]) -> dict[str, Any]:
    held_out = [Question.new("l", pair["held_out"], (pair["answer"],)) for pair in pairs]
    samples = [Sample.new("knowledge_short", pair["sample"], pair["sample_answer"], SOURCE) for pair in pairs]
    alone = [sum(map(mul, embed(pair["held_out"]), embed(pair["sample"]))) for pair in pairs]
    shipped = [_cosine(question, sample) for question, sample in zip(held_out, samples, strict=True)]
    return {
        "pairs": len(pairs),
        "by words": sum(bool(find_leaks([q], [s])) for q, s in zip(held_out, samples, strict=True)),
        "by cosine alone": _counts(alone),
        "as shipped": _counts(shipped),
    }


def _seeds(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """Of pairs of seeds in one leaf, those that only the filter for reworded questions finds."""
    cosines: list[float] = []
    examples: list[list[str]] = []
    for leaf in leaves:
        for one, two in itertools.combinations(_seed_samples([leaf]), 2):
            held_out = Question.new(leaf.id, one.question, (one.answer,))
            cosine = 0.0 if find_leaks([held_out], [two]) else _cosine(held_out, two)
            cosines.append(cosine)
            if cosine >= SHIPPED:
                examples.append([one.question, two.question])
    return {"pairs": len(cosines), "as shipped": _counts(cosines), f"from {SHIPPED}": examples}


def _against_held_out(leaves: Sequence[Leaf], samples: Sequence[Sample]) -> dict[str, Any]:
    questions = [question for leaf in leaves for question in leaf.questions]
    leaks = find_leaks(questions, samples, Likeness(embed, THRESHOLDS[0]))
    asked = {question.id: question.question for question in questions}
    said = {sample.id: sample.question for sample in samples}
    return {
        "samples": len(samples),
        "as shipped": _counts([leak.overlap for leak in leaks]),
        "nearest": [
            [leak.overlap, asked[leak.question_id], said[leak.sample_id]]
            for leak in sorted(leaks, key=lambda leak: -leak.overlap)[:10]
        ],
    }


def _cosine(question: Question, sample: Sample) -> float:
    """Of what the filter finds; 1 where the words alone tell it, 0 where the answers differ."""
    leaks = find_leaks([question], [sample], Likeness(embed, 0.01))
    return leaks[0].overlap if leaks and leaks[0].kind == "reworded" else float(bool(leaks))


def _counts(cosines: Iterable[float]) -> dict[str, int]:
    known = list(cosines)
    return {f"{threshold:.2f}": sum(cosine >= threshold for cosine in known) for threshold in THRESHOLDS}


def _leaves(roots: Iterable[Path]) -> Iterable[Leaf]:
    for root in roots:
        tree = WorkingTree(root)
        for leaf_id in leaf_ids(tree):
            try:
                yield read_leaf(tree, leaf_id)
            except TilthError:  # some of the public leaves are wrong
                continue


def _seed_samples(leaves: Sequence[Leaf]) -> list[Sample]:
    """The pairs of the leaves; not of grounded skills, whose questions are alike and whose contexts differ."""
    return [
        Sample.new("knowledge_short", pair.question, pair.answer, SOURCE)
        for leaf in leaves
        if leaf.kind != "grounded_skill"
        for example in leaf.seed_examples
        for pair in example.pairs
    ]


if __name__ == "__main__":
    main()
