"""A recipe that minds held-out questions in other words: from whole runs, with embeddings that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml
from tilth.core.errors import ModelError
from tilth.core.records import Question
from tilth.llm import embedding
from tilth.sdg import generate, recipe
from tilth.sdg.store import read_rejects, read_samples

from .conftest import KNOWLEDGE_ID, Bench


@pytest.fixture
def minding(bench: Bench) -> Bench:
    """One leaf with a held-out question, which none of its samples repeats by its words."""
    held_out = Question.new(KNOWLEDGE_ID, "Of which wood did they carve what turns at Orla?", ("larch",))
    bench.leaves = [bench.leaves[0].model_copy(update={"questions": (held_out,), "fingerprint": "0" * 16})]
    path = bench.root / "recipes" / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"held_out_cosine": 0.95}))
    return bench


def test_what_asks_it_in_other_words_is_dropped_and_told(minding: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(text: str) -> Sequence[float]:
        return (1.0, 0.0) if "Its wheel" in text or "Of which wood" in text else (0.8, 0.6)

    monkeypatch.setattr(recipe, "embed", embed)
    monkeypatch.setattr(generate, "fetch_embedder", lambda _: None)
    [entry] = minding.run()
    dropped = {(reject.sample.question, reject.score) for reject in read_rejects(entry) if "held_out" in reject.reason}
    told = f"reworded (1.000) of {minding.leaves[0].questions[0].id}"
    assert dropped == {("About Orla Mill: Its wheel is made of what?", told)}
    kept = {sample.answer for sample in read_samples(entry)}
    assert {"1702", "Bram Osk"} <= kept
    assert "larch" not in kept


def test_without_the_packages_nothing_is_asked(minding: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"all-minilm-l6-v2: embeddings need the package torch; run `pip install"):
        minding.run()
    assert minding.teacher.asked == {}
