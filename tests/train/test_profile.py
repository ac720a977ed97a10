from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import CheckFailed
from tilth.core.yaml_source import YamlProblems, parse_yaml
from tilth.train.data import Pool
from tilth.train.masking import IGNORED, Tokens
from tilth.train.methods.pairs import PairTokens
from tilth.train.methods.prompts import PromptTokens
from tilth.train.methods.reward import ScoredTokens
from tilth.train.mix import Ready, make_mixes, read_rows
from tilth.train.mix import Student as Model
from tilth.train.packing import Block
from tilth.train.plan import Phase, Plan
from tilth.train.profile import length_profile, trained_places


@pytest.fixture(scope="module")
def tokenizer(make: Any) -> Any:
    return make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")


def mixed(samples: list[Any], tokenizer: Any, out: Path, context: int = 1 << 20, **settings: Any) -> Ready:
    given = {"batch_size": 8, "micro_batch_size": 4, "learning_rate": 1e-3, **settings}
    plan = Plan(phases=(Phase.model_validate({"name": "short", "kinds": ["knowledge_short"], **given}),))
    [mix] = make_mixes(plan, Pool(samples), Model(tokenizer, 1_000_000, context), [out], Config())
    assert isinstance(mix, Ready)
    return mix


def test_percentiles_are_lengths_of_rows() -> None:
    profile = length_profile([*range(1, 100), 1000])
    assert (profile.p50, profile.p90, profile.p95, profile.p99, profile.longest) == (50, 90, 95, 99, 1000)
    assert length_profile([7]).model_dump() == {"p50": 7, "p90": 7, "p95": 7, "p99": 7, "longest": 7}


CUT = {"too_long": {"policy": "cut", "lost_share": 0.5}}


def test_a_long_answer_is_cut_at_its_end_and_its_end_is_not_trained(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(20), make.sample("Why?", "So. " * 40)]
    ready = mixed(samples, tokenizer, tmp_path, max_length=100, **CUT)
    rows = read_rows(ready.phase, tmp_path / "data.jsonl", tokenizer, "")
    assert ready.mix.total.samples == len(rows) == 21
    [cut] = [row for row in rows if row.length == 100]
    assert isinstance(cut, Tokens)
    whole = 4 * 40 + 1  # a token for each byte, and the end of the turn
    assert tokenizer.eos_token_id not in cut.labels
    assert cut.labels[-1] == cut.input_ids[-1] != IGNORED
    assert ready.mix.cut.model_dump() == {
        "samples": 1,
        "tokens": ready.mix.lengths.longest - 100,
        "trained_tokens": whole - cut.trained,
    }
    assert ready.mix.too_long.samples == 0
    assert ready.mix.longest == 100
    assert ready.mix.total.trained_tokens == sum(row.trained for row in rows)


def test_a_row_whose_answer_would_be_cut_off_is_dropped(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(20), make.sample("Why? " * 40, "So.")]
    mix = mixed(samples, tokenizer, tmp_path, max_length=100, **CUT).mix
    assert (mix.total.samples, mix.too_long.samples, mix.cut.samples) == (20, 1, 0)


def test_cutting_too_much_is_refused_as_dropping_is(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(20), make.sample("Why?", "So. " * 40)]
    with pytest.raises(CheckFailed, match=r"'short': 1 of 21 samples .* would be lost .* \(0\.5% may be\); raise its "):
        mixed(samples, tokenizer, tmp_path, max_length=100, too_long={"policy": "cut"})


def test_the_refusal_names_the_shortest_length_that_would_do(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(90), make.sample("Why?", "So. " * 40), make.sample("Who?" * 100, "I.")]
    with pytest.raises(CheckFailed, match=r"raise its max_length to (\d+)") as refused:
        mixed(samples, tokenizer, tmp_path, max_length=100)
    needed = int(str(refused.value).rsplit(" ", 1)[-1])
    assert mixed(samples, tokenizer, tmp_path, max_length=needed).mix.too_long.samples == 1  # the long question
    with pytest.raises(CheckFailed):
        mixed(samples, tokenizer, tmp_path, max_length=needed - 1)


def test_room_for_answers_that_is_too_large_is_what_is_to_be_lowered(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    grpo: dict[str, Any] = {"method": "grpo", "batch_size": 4, "context": 256}
    asked = {"rewards": [{"answer": "exact"}], "completions": 4}
    with pytest.raises(
        CheckFailed, match=r"all that the model holds: lower its rollout\.max_new_tokens to (\d+)$"
    ) as refused:
        mixed(make.samples(8), tokenizer, tmp_path, **grpo, rollout={**asked, "max_new_tokens": 250})
    room = int(str(refused.value).rsplit(" ", 1)[-1])
    assert mixed(make.samples(8), tokenizer, tmp_path, **grpo, rollout={**asked, "max_new_tokens": room})
    with pytest.raises(CheckFailed):
        mixed(make.samples(8), tokenizer, tmp_path, **grpo, rollout={**asked, "max_new_tokens": room + 1})


def test_only_answers_can_be_cut() -> None:
    text = "{phases: [{name: p, method: dpo, kinds: [preference], too_long: {policy: cut}}]}"
    with pytest.raises(YamlProblems, match=r"too_long\.policy: cut is for sft"):
        parse_yaml(text, "plan.yaml").validate(Plan)


def test_trained_places_are_those_of_any_row() -> None:
    rows = [Tokens([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4]), Tokens([1, 2], [IGNORED, 2])]
    assert trained_places(rows) == 3
    assert trained_places([Tokens([1, 2], [1, 2])]) == 1  # nothing predicts the first


def test_only_answers_have_trained_places() -> None:
    pairs = [PairTokens([1] * 5, [2] * 3, [3]), PairTokens([1] * 4, [2], [3] * 2)]
    assert trained_places(pairs) == 4  # 4 to 7
    prompts = [PromptTokens([1] * count, 0, (), "", max_new_tokens=6, completions=4) for count in (3, 9)]
    assert trained_places(prompts) == 6  # filled up on the left, they end together
    assert trained_places([ScoredTokens([1, 2], [3])]) == 0
    assert trained_places([Block(([1, 2, 3], [4, 5]))]) == 3


def test_every_answer_to_a_prompt_counts() -> None:
    prompt = PromptTokens([1] * 10, 0, (), "", max_new_tokens=6, completions=4)
    assert (prompt.length, prompt.tokens, prompt.trained) == (16, 64, 24)
