"""The memory that training takes, beside the estimate that `tilth train --explain` shows.

    python benchmarks/train_memory.py [--only TEXT] [--out FILE]

Each case is a process of its own, or several: a random Llama of some shape is trained for three steps by the phase
runner's own trainer, and the peak is read: on a CPU the resident memory (VmHWM), less what it had before the model was
loaded; on CUDA `torch.cuda.max_memory_allocated`. Of several processes the largest peak counts.

To cases that are `held_out` no constant of the estimate was fitted: they were written down before they were measured.
Writes `benchmarks/results/train_memory.json`, the worst of both groups apart.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import commit, describe
from tilth.core.config import Config, Train
from tilth.core.records import Message
from tilth.llm.precision import compute_dtype, device
from tilth.train.auto import Resolved
from tilth.train.distributed import join
from tilth.train.masking import IGNORED, Tokens
from tilth.train.memory import Sharing, estimate, longest_batch, read_shape
from tilth.train.methods.pairs import PairTokens
from tilth.train.methods.prompts import PromptTokens, with_room
from tilth.train.methods.reward import ScoredTokens
from tilth.train.methods.row import Row
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.mix import Mix
from tilth.train.packing import DocumentTokens
from tilth.train.processes import Place
from tilth.train.profile import longest_rows, shared_tokens, trained_places
from tilth.train.tally import Tally

RESULTS = Path(__file__).parent / "results" / "train_memory.json"
STEPS = 3
PRELOADED = ("trl.trainer.sft_trainer", "peft", "transformers.models.llama.modeling_llama", "datasets")
"""What every training loads anyway: loaded once for all cases."""
SPECIAL, TEMPLATE = ("eos_token", "pad_token"), "{{ messages[-1].content }}"
FIRST_OWN, COMMON = 1000, range(10, 10_000)


@dataclass(frozen=True)
class Shape:
    """Of a Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool = True


@dataclass(frozen=True)
class Case:
    """One shape and one way to train it."""

    shape: Shape
    micro_batch_size: int
    length: int
    trained: int
    """Positions that carry loss, at the end of every row; of a pair, of both its rows; of a prompt, of its answers."""
    shared: int = 0
    """Tokens that all rows begin with; the next one is each row's own."""
    accumulate: int = 1
    recompute: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    train: Train = field(default_factory=Train)
    held_out: bool = False

    @property
    def phase(self) -> Resolved:
        """The phase that trains it."""
        return Resolved.model_validate(
            {
                "name": "memory",
                "kinds": ["skill"],
                "epochs": STEPS,
                "learning_rate": 1e-5,
                "batch_size": self.micro_batch_size * self.accumulate * self.train.processes,
                "micro_batch_size": self.micro_batch_size,
                "max_length": self.length,
                **self.settings,
            }
        )

    @property
    def rows(self) -> Sequence[Row]:
        """Those of a step, in all processes."""
        rows = [self._row(number) for number in range(self.phase.batch_size)]
        return with_room(rows, self.phase)

    def _row(self, number: int) -> Row:
        """Rows are of one length; a pair's worse answer is shorter by a token, so that there is padding."""
        alike = self.shared + 1 if self.shared else 0  # one token is left to each row, to predict its next
        ids = [*COMMON[:alike], FIRST_OWN + number, *COMMON[alike : self.length - 1]]
        first, method = self.length - self.trained, self.phase.method
        if method in {"dpo", "kto"}:
            return PairTokens(ids[:first], ids[first:], ids[first:-1])
        if method == "reward":
            return ScoredTokens(ids, ids[:-1])
        if method == "pretrain":
            return DocumentTokens(ids)
        if method == "sft":
            return Tokens(ids, [IGNORED] * first + ids[first:])
        return PromptTokens(ids[:first], 0, (Message(role="user", content="?"),), "")

    @property
    def mix(self) -> Mix:
        """What the estimate is given: counted of the rows as for a phase's `mix.json`."""
        rows = METHODS[self.phase.method].packed(self.rows, self.length)
        largest = longest_rows(rows, self.micro_batch_size)
        tokens, trained = (sum(getattr(row, name) for row in largest) for name in ("tokens", "trained"))
        none = Tally()
        return Mix(
            phase="memory", total=none, by_origin={}, by_kind={}, by_leaf={}, too_long=none,
            longest=max(row.length for row in rows),
            largest=Tally(samples=len(largest), tokens=tokens, trained_tokens=trained),
            places=trained_places(largest), shared=shared_tokens(rows), steps=STEPS, data_sha256="", tokens_sha256="",
        )  # fmt: skip


M20, M135 = Shape(320, 8, 5, 5, 864, 32_768), Shape(576, 30, 9, 3, 1536, 49_152)
M41, M98 = Shape(384, 14, 6, 2, 1024, 49_152), Shape(640, 16, 10, 5, 1728, 40_000)
M42_UNTIED = Shape(448, 10, 7, 7, 1216, 20_000, tied=False)
MLP = {"trainable": "mlp"}
LORA, QLORA = {"adapter": "lora"}, {"adapter": "qlora"}
PAIRS = {"kinds": ["preference"]}
DPO, KTO, REWARD = ({"method": method, **PAIRS} for method in ("dpo", "kto", "reward"))
PRETRAIN = {"method": "pretrain", "kinds": ["document"]}


def answers(method: str, completions: int, tokens: int, **rollout: Any) -> dict[str, Any]:
    """Settings of a phase that learns from so many answers to each prompt, of so many tokens."""
    rollout |= {"completions": completions, "max_new_tokens": tokens}
    if method == "distill":
        return {"method": method, "rollout": rollout, "distill": {"teacher": "parent"}}
    return {"method": method, "rollout": {"rewards": [{"answer": "exact"}], **rollout}}


def shared_by(distributed: Any, *, offload: bool = False) -> Train:
    """Two processes."""
    return Train(processes=2, distributed=distributed, offload=offload)


CASES = {
    "20M, 8 x 128": Case(M20, 8, 128, 32),
    "41M, 3 x 100": Case(M41, 3, 100, 40),
    "20M, 1 x 512, all trained": Case(M20, 1, 512, 511),
    "20M, 8 x 96, 48 shared": Case(M20, 8, 96, 32, shared=48),
    "41M, 6 x 80, 50 shared": Case(M41, 6, 80, 20, shared=50),
    "135M, 16 x 48, 24 shared": Case(M135, 16, 48, 16, shared=24),
    "20M, 1 x 128 in each of 2 processes": Case(M20, 1, 128, 32, train=shared_by("none")),
    "20M, 1 x 128 in each of 2, ZeRO-2": Case(M20, 1, 128, 32, train=shared_by("zero2")),
    "20M, 1 x 128 in each of 2, ZeRO-3": Case(M20, 1, 128, 32, train=shared_by("zero3")),
    "20M, 1 x 128 in each of 2, FSDP": Case(M20, 1, 128, 32, train=shared_by("fsdp")),
    "41M, 2 x 70 in each of 2, ZeRO-2": Case(M41, 2, 70, 20, train=shared_by("zero2"), held_out=True),
    "20M, 1 x 8 answers of 24 after 40, grpo": Case(M20, 1, 64, 24, settings=answers("grpo", 8, 24)),
    "41M, 2 x 4 answers of 20 after 30, grpo": Case(M41, 2, 50, 20, settings=answers("grpo", 4, 20), held_out=True),
    "20M, 1 x 4 answers of 24 after 40, ppo": Case(M20, 1, 64, 24, settings=answers("ppo", 4, 24, beta=0.1)),
    "20M, 1 x 8 answers of 24 after 40, distill": Case(M20, 1, 64, 24, settings=answers("distill", 8, 24)),
    "20M, 2 x 256, LoRA": Case(M20, 2, 256, 64, settings=LORA),
    "41M, 1 x 300, LoRA": Case(M41, 1, 300, 50, settings=LORA, held_out=True),
    "20M, 2 x 256, QLoRA": Case(M20, 2, 256, 64, settings=QLORA),
    "20M, 2 x 128, dpo": Case(M20, 2, 128, 32, settings=DPO),
    "41M, 2 x 90, dpo": Case(M41, 2, 90, 50, settings=DPO, held_out=True),
    "20M, 2 x 128, kto": Case(M20, 2, 128, 32, settings=KTO),
    "20M, 2 x 128, reward": Case(M20, 2, 128, 32, settings=REWARD),
    "20M, 1 x 512, pretrain": Case(M20, 1, 512, 511, settings=PRETRAIN),
    "42M untied, 2 x 160": Case(M42_UNTIED, 2, 160, 50, held_out=True),
    "20M, 3 x 128, twice a step": Case(M20, 3, 128, 32, accumulate=2),
    "20M, 4 x 128, recomputed": Case(M20, 4, 128, 32, recompute=True),
    "135M, 1 x 64": Case(M135, 1, 64, 16),
    "98M, 1 x 120": Case(M98, 1, 120, 60, held_out=True),
    "98M, 4 x 70, 40 shared": Case(M98, 4, 70, 20, shared=40, held_out=True),
    "41M, 1 x 5 answers of 30 after 20, ppo": Case(
        M41, 1, 50, 30, settings=answers("ppo", 5, 30, beta=0.1), held_out=True
    ),
    "20M, 1 x 128 in each of 2, ZeRO-1": Case(M20, 1, 128, 32, train=shared_by("zero1")),
    "20M, 1 x 128 in each of 2, ZeRO-2, offload": Case(M20, 1, 128, 32, train=shared_by("zero2", offload=True)),
    "20M, 1 x 128 in each of 2, ZeRO-3, offload": Case(M20, 1, 128, 32, train=shared_by("zero3", offload=True)),
    "135M, 16 x 48, MLPs alone": Case(M135, 16, 48, 16, settings=MLP),
    "20M, 8 x 128, MLPs alone": Case(M20, 8, 128, 32, settings=MLP),
    "42M untied, 2 x 160, MLPs alone": Case(M42_UNTIED, 2, 160, 50, settings=MLP, held_out=True),
    "41M, 2 x 90 in each of 2, ZeRO-2, MLPs alone": Case(
        M41, 2, 90, 20, settings=MLP, train=shared_by("zero2"), held_out=True
    ),
    "98M, 1 x 60 in each of 2, FSDP": Case(M98, 1, 60, 20, train=shared_by("fsdp"), held_out=True),
}


def main() -> None:
    options = _options()
    os.environ["DS_ACCELERATOR"] = device()  # else DeepSpeed tells what it had to guess
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["__main__", *PRELOADED])
    kind = str(compute_dtype()).removeprefix("torch.")
    results = {"machine": describe(), "commit": commit(), "device": device(), "dtype": kind}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            if options.only in name:
                rows.append(_compare(server, name, Path(folder)))
                print("{case:46}{measured_mb:>8,} MB{estimated_mb:>8,} MB  {off:+.1%}".format_map(rows[-1]), flush=True)
                whole = {**results, "worst": _worst(rows), "cases": rows}
                Path(options.out).write_text(json.dumps(whole, indent=2) + "\n")
    print(", ".join(f"worst of what is {group}: {off:.1%}" for group, off in _worst(rows).items()))


def _worst(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    groups = {"fitted": False, "held_out": True}
    return {
        group: max((abs(row["off"]) for row in rows if row["held_out"] == held_out), default=0)
        for group, held_out in groups.items()
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--out", default=RESULTS)
    return parser.parse_args()


def _compare(server: Any, name: str, folder: Path) -> dict[str, Any]:
    case, model = CASES[name], folder / f"model-{list(CASES).index(name)}"
    _run(server, [(_make_model, (case.shape, model))])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = Place(case.train, 0, "127.0.0.1", listener.getsockname()[1])
    with tempfile.TemporaryDirectory() as own:
        count = case.train.processes
        _run(server, [(_train, (name, model, Path(own), place, process)) for process in range(count)])
        told = [json.loads((Path(own) / f"{process}.json").read_text()) for process in range(count)]
    measured = max(told, key=lambda each: each["peak"])
    shape, mix = read_shape(model), case.mix
    found = estimate(
        shape, case.phase, longest_batch(case.phase, mix, shape), Sharing.of(case.train), recompute=case.recompute
    )
    estimated = found.total - measured["before"] if found.process else found.total
    shutil.rmtree(model)
    return {
        "case": name,
        "held_out": case.held_out,
        "processes": count,
        "measured_mb": round(measured["peak"] / 1e6),
        "estimated_mb": round(estimated / 1e6),
        "off": round(estimated / measured["peak"] - 1, 3),
        "before_mb": round(measured["before"] / 1e6),
        "cpu_s": sum(each["cpu_s"] for each in told),
        "parts_mb": {part: round(size / 1e6) for part, size in found.model_dump().items()},
    }


def _run(server: Any, jobs: Sequence[tuple[Any, tuple[Any, ...]]]) -> None:
    """Each in a process of its own, at the same time, to their end."""
    children = [server.Process(target=what, args=given) for what, given in jobs]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise SystemExit(1)


def _make_model(shape: Shape, folder: Path) -> None:
    """In another process, so that its memory is not counted."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _train(name: str, model: Path, folder: Path, place: Place, process: int) -> None:
    """In a process of its own: three steps, then what they took, in a file."""
    if not place.settings.alone:
        os.environ.update(place.environment(process))
        del os.environ["TORCHELASTIC_USE_AGENT_STORE"]  # the first process makes it
        join(place.settings)
    import torch
    from tilth.train import trainer as trainer_module
    from tilth.train.trainer import Watch
    from transformers import PreTrainedTokenizerFast

    case = CASES[name]
    if case.recompute:
        trainer_module.__dict__["_CHECKPOINT_ACTIVATIONS_FROM"] = 1
    names = dict.fromkeys(SPECIAL, "</s>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), chat_template=TEMPLATE, **names)
    _map_as_parent()
    before = _now("VmRSS")
    setup = Setup(
        phase=case.phase,
        parent=model,
        models={},
        tokenizer=tokenizer,
        rows=case.rows,
        checkpoints=folder / "run" / "phase" / "checkpoints",
        seed=1,
        config=Config(train=case.train),
        watch=Watch(lambda _step: None, 1e9),
    )
    METHODS[case.phase.method].trainer(setup).train()
    peak = torch.cuda.max_memory_allocated() if device() == "cuda" else _now("VmHWM") - before
    told = {"peak": peak, "before": before, "cpu_s": round(time.process_time(), 1)}
    (folder / f"{process}.json").write_text(json.dumps(told))


def _map_as_parent() -> None:
    """Touch what the parent has of its libraries' files: a fork begins without them, a new process with them."""
    page = os.sysconf("SC_PAGE_SIZE")
    with Path(f"/proc/{os.getppid()}/pagemap").open("rb") as present:
        for line in Path("/proc/self/maps").read_text().splitlines():
            places, access, *_, inode = line.split()[:5]
            first, last = (int(place, 16) // page for place in places.split("-"))
            if inode != "0" and access.startswith("r"):
                present.seek(8 * first)
                entries = array("Q", present.read(8 * (last - first)))
                for number in (number for number, entry in enumerate(entries, first) if entry >> 63):
                    ctypes.string_at(number * page, 1)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"</s>": 0}, "</s>"))


def _now(name: str) -> int:
    """A figure of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
