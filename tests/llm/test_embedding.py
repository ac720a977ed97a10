"""Embeddings of the real model, and how well they tell a held-out question reworded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from operator import mul
from pathlib import Path

import pytest
from tilth.core.errors import ModelError
from tilth.core.held_out import find_leaks
from tilth.core.progress import SilentProgress
from tilth.core.records import Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.llm import embedding
from tilth.llm.embedding import embed, fetch_embedder

PAIRS = Path(__file__).parents[1] / "data" / "reworded_questions.jsonl"
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")
AGAIN = "import sys; from tilth.llm.embedding import embed; sys.stdout.buffer.write(embed(sys.argv[1]).tobytes())"


def test_a_machine_without_torch_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"the package torch; run `pip install 'tilth\[train\]'`, or leave"):
        fetch_embedder(SilentProgress())


@pytest.mark.slow
def test_an_embedding_is_the_same_in_every_process() -> None:
    text = "How tall is the tower?"
    there = subprocess.run([sys.executable, "-c", AGAIN, text], capture_output=True, check=True)
    assert (len(embed(text)), there.stderr) == (384, b"")
    assert bytes(memoryview(embed(text)).cast("B")) == there.stdout  # pyright: ignore[reportArgumentType]
    assert sum(map(mul, embed(text), embed(text))) == pytest.approx(1)
    assert sum(map(mul, embed(text), embed("What is the height of the tower?"))) == pytest.approx(0.963, abs=0.002)


@pytest.mark.slow
def test_a_text_longer_than_any_is_told_by_its_beginning() -> None:
    page = "The tower stands on grey gneiss above the sound. " * 100
    assert embed(page) == embed(page + "Boats leave from Pellin.")


@pytest.mark.slow
def test_near_copies_are_found_and_what_teaches_a_fact_is_kept() -> None:
    """`benchmarks/reworded.py` shows other thresholds."""
    pairs, found = Counter[str](), Counter[str]()
    for line in PAIRS.read_text().splitlines():
        pair = json.loads(line)
        question = Question.new("l", pair["held_out"], (pair["answer"],))
        sample = Sample.new("knowledge_short", pair["sample"], pair["sample_answer"], SOURCE)
        pairs[pair["relation"]] += 1
        found[pair["relation"]] += bool(find_leaks([question], [sample], Likeness(embed, 0.95)))
    assert pairs == {"near_copy": 50, "same_fact": 50, "other_fact": 50}
    assert found["near_copy"] >= 47
    assert (found["same_fact"], found["other_fact"]) == (
        0,
        1,
    )  # which has the held-out question's words, in another order
