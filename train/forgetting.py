"""Early signs of forgetting: how far the model has moved from the one that the plan started from.

After each epoch, on answers to a few of the phase's new prompts and to a few of the replayed ones, the forward
divergence KL(parent || model) in nats a token. What it comes to on the new prompts foretells how much is forgotten
(Shenfeld et al., RL's Razor, arXiv 2509.04259); on the replayed ones it says whether replay holds.

The parent is asked once, before training. Of each position its most likely tokens are kept and what the others come to
together: the divergence of that is a little below the whole one, never above it. Where DeepSpeed or FSDP have the model
in hand it is not measured, and that is said.
"""

from __future__ import annotations

import gc
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.jsonl import read_records
from ..core.records import Preference, Sample
from ..llm.precision import compute_dtype
from .adapters import keep_unpacked
from .data import Item
from .load import load_model, padding_id
from .masking import IGNORED, Tokens, tokenize
from .methods.setup import Setup
from .methods.table import METHODS

NEW, REPLAYED = "kl_new", "kl_replayed"
"""The two numbers, in `Evaluation.more`."""
_FEWEST, _MOST = 4, 32
"""Answers of each group: a twentieth of it within these bounds, so that an epoch costs little more."""
_ANSWER_TOKENS, _KEPT = 64, 256
"""Of each answer, so many tokens; of each position, so many of the vocabulary."""
_AT_ONCE, _PLACES_AT_ONCE = 8, 1024
"""Rows that go through the model at once, and those of their positions, filled up, of which there are logits."""


@dataclass(frozen=True)
class Expected:
    """What the parent expects at each position of a batch: the ids of its most likely tokens, and their log-shares."""

    tokens: Any
    log_shares: Any

    @classmethod
    def of(cls, logits: Any) -> Expected:
        """From logits of the shape (positions, vocabulary)."""
        shares, tokens = logits.float().log_softmax(-1).topk(min(_KEPT, logits.shape[-1]))
        return cls(tokens.to("cpu"), shares.to("cpu"))


def forward_kl(parent: Expected, logits: Any) -> Any:
    """KL(parent || model) at each position, all tokens that were not kept taken as one."""
    kept = parent.log_shares.to(logits.device)
    model = logits.float().log_softmax(-1).gather(-1, parent.tokens.to(logits.device))
    rest, model_rest = ((1 - each.exp().sum(-1)).clamp(min=1e-7) for each in (kept, model))
    return (kept.exp() * (kept - model)).sum(-1) + rest * (rest.log() - model_rest.log())


class Drift:
    """Measures both numbers after each epoch; is a `Look` of `EpochEnds`."""

    def __init__(self, setup: Setup, data: Path) -> None:
        self._setup, self._groups = setup, _groups(setup, data)
        self._pad = padding_id(setup.tokenizer)
        self._expected: dict[str, list[Expected]] = {}

    def ask_parent(self, trainer: Any) -> None:
        """Before the first step: in the plan's first phase the trainer's model is the parent, later it is loaded.

        It then stands beside the trainer's for a moment, in the format that matrices multiply in (qlora: in 4 bits).
        """
        phase, shared = self._setup.phase, self._setup.config.train.distributed
        if shared != "none" and METHODS[phase.method].makes == "policy":
            self._setup.watch.say(
                f"phase {phase.name}: how far it moves from the parent is not measured under {shared}"
            )
        if not self._groups:
            return
        if self._setup.origin is None:
            self._ask(trainer.model)
            return
        model = load_model(self._setup.origin, phase.adapter, compute_dtype())
        keep_unpacked(model)
        model.to(next(trainer.model.parameters()).device)
        self._ask(model)
        del model
        gc.collect()

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        """The mean over the tokens of each group."""
        found: dict[str, float] = {}
        for name, rows in self._groups.items():
            batches = zip(self._expected[name], _logits(trainer.model, rows, self._pad), strict=True)
            sums = [(float(forward_kl(parent, logits).sum()), logits.shape[0]) for parent, (logits, _) in batches]
            found[name] = round(sum(kl for kl, _ in sums) / sum(count for _, count in sums), 6)
        return found

    def _ask(self, model: Any) -> None:
        training = model.training
        model.eval()
        for name, rows in self._groups.items():
            self._expected[name] = [Expected.of(logits) for logits, _ in _logits(model, rows, self._pad)]
        model.train(training)


def answer_losses(model: Any, tokenizer: Any, items: Sequence[Item], system_prompt: str, longest: int) -> list[float]:
    """The mean loss of each item's answer (of a pair: the better one), in nats a token, of `longest` tokens at most.

    Of a very long answer so many of the first tokens count as there is room for. The model is on its device.
    """
    import torch

    rows = [_cut(row, _PLACES_AT_ONCE, longest) for row in _tokens(tokenizer, items, system_prompt)]
    order = sorted(range(len(rows)), key=lambda index: rows[index].length)
    batches = _logits(model, [rows[index] for index in order], padding_id(tokenizer))
    losses = [
        torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none") for logits, targets in batches
    ]
    found = [0.0] * len(rows)
    for index, part in zip(order, torch.cat(losses).split([rows[index].trained for index in order]), strict=True):
        found[index] = round(float(part.mean()), 6) if len(part) else 0.0
    return found


def _groups(setup: Setup, data: Path) -> dict[str, list[Tokens]]:
    """The rows of both groups; none where the phase's model answers nothing, or DeepSpeed or FSDP have it in hand."""
    method = METHODS[setup.phase.method]
    if method.makes == "reward_model" or setup.config.train.distributed != "none":
        return {}
    items = defaultdict[str, list[Item]](list)
    for item in read_records(data, method.record):
        if item.kind != "document":
            items[NEW if item.origin == "new" else REPLAYED].append(item)
    groups: dict[str, list[Tokens]] = {}
    for name, found in sorted(items.items()):
        rng = random.Random(f"{setup.seed}/{setup.phase.name}/{name}")  # noqa: S311 (a choice, not a secret)
        some = rng.sample(found, min(len(found), max(_FEWEST, min(len(found) // 20, _MOST))))
        rows = _tokens(setup.tokenizer, some, setup.config.student.system_prompt)
        cut = [_cut(row, _ANSWER_TOKENS, setup.phase.max_length) for row in rows]
        if kept := sorted((row for row in cut if row.trained), key=lambda row: row.length):
            groups[name] = kept
    return groups


def _tokens(tokenizer: Any, items: Sequence[Item], system_prompt: str) -> list[Tokens]:
    samples = [item.sides[0] if isinstance(item, Preference) else item for item in items]
    asked = [_answer_only(sample) for sample in samples]
    return tokenize(tokenizer, asked, system_prompt)


def _answer_only(sample: Sample) -> Sample:
    return sample.model_copy(update={"unmask": False})


def _cut(row: Tokens, trained: int, length: int) -> Tokens:
    """The row up to its so many-th trained token, and no longer than that."""
    places = row.places[:trained]
    end = min(length, places[-1] + 1 if places else 0)
    return Tokens(row.input_ids[:end], row.labels[:end])


def _logits(model: Any, rows: Sequence[Tokens], pad: int) -> Any:
    """Batch by batch: the logits at the positions that are trained, row after row, and the tokens that stand there."""
    import torch

    where, kind = next(model.parameters()).device, compute_dtype()
    for some in _batches(rows):
        width = max(1, *(row.length for row in some))
        ids = torch.tensor([row.input_ids + [pad] * (width - row.length) for row in some], device=where)
        labels = torch.tensor([row.labels + [IGNORED] * (width - row.length) for row in some], device=where)
        attended = torch.tensor([[1] * row.length + [0] * (width - row.length) for row in some], device=where)
        trained = labels[:, 1:] != IGNORED
        places = trained.any(dim=0).nonzero().flatten()
        with torch.no_grad(), torch.autocast(where.type, dtype=kind, enabled=kind == torch.bfloat16):
            output = model(input_ids=ids, attention_mask=attended, use_cache=False, logits_to_keep=places)
        yield output.logits[trained[:, places]], labels[:, 1:][trained]


def _batches(rows: Sequence[Tokens]) -> Iterator[list[Tokens]]:
    """The rows in their order, as many at once as there is room for."""
    batch, places = list[Tokens](), set[int]()
    for row in rows:
        both = places.union(row.places)
        if batch and (len(batch) == _AT_ONCE or (len(batch) + 1) * len(both) > _PLACES_AT_ONCE):
            yield batch
            batch, both = [], set(row.places)
        batch.append(row)
        places = both
    if batch:
        yield batch
