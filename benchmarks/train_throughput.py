"""How fast supervised fine-tuning runs, beside TRL's SFTTrainer at its defaults and at its best settings.

    python benchmarks/train_throughput.py [--rounds N] [--samples N] [--levers] [--model FOLDER | --shape 1b|8b]

All train the same model on the same token ids: lengths log-normal with a mean of about 300 tokens, the second half of
each sample trained, batches of 8. A variant is a process of its own; rounds alternate them. Counted are useful tokens
(padding is none) over the wall clock of whole optimizer steps, the first two left out. That they do the same work is
checked first: fed the same batches in the same order in float32, the losses of the first steps must agree.

`--levers` takes one thing away from ours at a time. Writes `benchmarks/results/train_throughput.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe
from tilth.core.config import Config
from tilth.llm.precision import compute_dtype, device
from tilth.train.auto import Resolved
from tilth.train.masking import IGNORED, Tokens, load_tokenizer
from tilth.train.metrics import Step
from tilth.train.trainer import Watch

RESULTS = Path(__file__).parent / "results" / "train_throughput.json"
BATCH, WARM, SEED = 8, 2, 1
CHECKED_STEPS = 5
MEAN_LENGTH, SPREAD, LONGEST = 300, 0.7, 1024
SHAPES = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False},
}  # fmt: skip
"""Llama 3's, for random weights."""

VARIANTS = ("trl_defaults", "trl_best", "ours")
LEVERS = ("ours_padded", "ours_unsorted", "ours_whole_head", "ours_float32")


def rows(samples: int, vocabulary: int) -> list[Tokens]:
    """Token ids with log-normal lengths; words of a text follow Zipf's law, and so do these."""
    rng = random.Random(SEED)  # noqa: S311 (reproducible data, not a secret)
    mu = -SPREAD * SPREAD / 2
    ranks = range(1, min(vocabulary, 20_000) - 10)
    weights = [1 / rank for rank in ranks]
    made: list[Tokens] = []
    for _ in range(samples):
        length = max(16, min(LONGEST, round(MEAN_LENGTH * rng.lognormvariate(mu, SPREAD))))
        ids = [rank + 9 for rank in rng.choices(ranks, weights, k=length)]
        made.append(Tokens(ids, [IGNORED] * (length // 2) + ids[length // 2 :]))
    return made


def lengths_of(all_rows: list[Tokens]) -> dict[str, float]:
    """What the data is like."""
    lengths = sorted(row.length for row in all_rows)
    return {
        "samples": len(lengths),
        "mean": round(statistics.fmean(lengths), 1),
        "median": statistics.median(lengths),
        "longest": lengths[-1],
    }


# One variant, in its own process --------------------------------------------------------------------------------------


def run_ours(model: Path, all_rows: list[Tokens], folder: Path, lever: str, *, fixed: bool) -> list[dict[str, float]]:
    """A phase of tilth's own."""
    from tilth.train import trainer as phase_trainers
    from tilth.train import varlen
    from tilth.train.methods import supervised
    from tilth.train.methods.setup import Setup

    if lever == "ours_unsorted" or fixed:
        phase_trainers.PhaseTraining._get_train_sampler = lambda *_: InOrder(len(all_rows))  # noqa: SLF001
    if lever == "ours_float32" or fixed:
        phase_trainers.compute_dtype = _float32
    if lever in {"ours_padded", "ours_whole_head"}:
        varlen.join_rows_in = _no
    if lever == "ours_whole_head":
        supervised.ExactLoss.compute_loss = _whole_head_loss
    steps: list[Step] = []
    phase = Resolved(name="p", kinds=("skill",), epochs=1, learning_rate=1e-5, batch_size=BATCH,
                     micro_batch_size=BATCH, max_length=LONGEST)  # fmt: skip
    setup = Setup(phase, model, {}, load_tokenizer(model), all_rows, folder, SEED, Config(), Watch(steps.append, 1e9))
    supervised.trainer(setup).train()
    return [{"loss": step.loss, "seconds": step.seconds, "tokens": step.tokens} for step in steps]


def _whole_head_loss(_trainer: Any, model: Any, inputs: Any, num_items_in_batch: int = 1, **_: Any) -> Any:
    """All positions through the output head, as a model's own loss has it."""
    import torch

    targets = inputs.pop("labels")[:, 1:]
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    summed = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return summed / num_items_in_batch


def run_trl(model: Path, all_rows: list[Tokens], folder: Path, variant: str, *, fixed: bool) -> list[dict[str, float]]:
    """TRL's own trainer on the same ids."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    best = variant == "trl_best"
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": 1e-5,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": device() == "cpu",
        "seed": SEED,
        "completion_only_loss": True,  # its default for rows of prompt and completion; without it the mask is ignored
    }
    if best:
        settings |= {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length",
                     "bf16": compute_dtype() == torch.bfloat16}  # fmt: skip
    if fixed:
        settings |= {"bf16": False, "lr_scheduler_type": "constant", "adam_beta2": 0.95}
    seconds: list[float] = []
    batches: list[int] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.monotonic() - self.began)

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    class Counting(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            batches.append(int(inputs["attention_mask"].sum()))
            return super().compute_loss(model, inputs, *given, **named)

        def _get_train_sampler(self, *given: Any) -> Any:
            return InOrder(len(all_rows)) if fixed else super()._get_train_sampler(*given)

    data = {
        "input_ids": [row.input_ids for row in all_rows],
        "completion_mask": [[int(label != IGNORED) for label in row.labels] for row in all_rows],
    }
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_dict(data),
        processing_class=load_tokenizer(model),
        callbacks=[Clock()],
    )
    trainer.train()
    return [
        {"loss": loss, "seconds": took, "tokens": tokens}
        for loss, took, tokens in zip(losses, seconds, batches, strict=True)
    ]


class InOrder:
    """A sampler that shuffles nothing."""

    def __init__(self, count: int) -> None:
        self._count = count

    def set_epoch(self, epoch: int) -> None:
        """Every pass is alike."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Any:
        return iter(range(self._count))


def _no(_model: Any) -> bool:
    return False


def _float32() -> Any:
    import torch

    return torch.float32


# All of them ----------------------------------------------------------------------------------------------------------


def measure(model: Path, samples: int, variant: str, *, fixed: bool = False) -> list[dict[str, float]]:
    """Run one variant in a process of its own; its steps."""
    command = [sys.executable, __file__, "--model", str(model), "--samples", str(samples), "--variant", variant]
    done = subprocess.run([*command, *(["--fixed"] if fixed else [])], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.decode().splitlines()[-1])


def speed(steps: list[dict[str, float]]) -> float:
    """Useful tokens a second over all steps but the first ones."""
    timed = steps[WARM:]
    return sum(step["tokens"] for step in timed) / sum(step["seconds"] for step in timed)


def agreement(model: Path) -> dict[str, Any]:
    """The losses of the first steps on the same batches in the same order, in float32, ours beside TRL's."""
    both = {variant: measure(model, CHECKED_STEPS * BATCH, variant, fixed=True) for variant in ("trl_best", "ours")}
    theirs, ours = ([round(step["loss"], 4) for step in both[name]] for name in ("trl_best", "ours"))
    worst = max(abs(one - other) for one, other in zip(theirs, ours, strict=True))
    return {"steps": len(ours), "trl": theirs, "ours": ours, "largest_difference": round(worst, 4)}


def random_model(shape: str, folder: Path) -> Path:
    """A Llama of some shape with random weights, and a tokenizer for it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.train.conftest import CHATML, make_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=8192, **SHAPES[shape])
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer(CHATML, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>").save_pretrained(folder)
    return folder


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES))
    parser.add_argument("--levers", action="store_true", help="also take one thing away from ours at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--variant", choices=[*VARIANTS, *LEVERS], help=argparse.SUPPRESS)
    parser.add_argument("--fixed", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.variant:
        _one(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        _all(given, _model(given, Path(folder)))


def _model(given: argparse.Namespace, folder: Path) -> Path:
    if given.model or given.shape:
        return given.model or random_model(given.shape, folder)
    from tilth.core.progress import SilentProgress
    from tilth.llm.student import student_folder

    return student_folder("smollm2-135m-instruct", SilentProgress())


def _one(given: argparse.Namespace) -> None:
    from tilth.llm.quiet import quiet_transformers

    run = run_trl if given.variant.startswith("trl") else run_ours
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        vocabulary = json.loads((given.model / "config.json").read_text())["vocab_size"]
        steps = run(given.model, rows(given.samples, vocabulary), Path(folder), given.variant, fixed=given.fixed)
    print(json.dumps(steps))


def _all(given: argparse.Namespace, model: Path) -> None:
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    same = agreement(model)
    print(f"losses of {same['steps']} steps agree to {same['largest_difference']}", flush=True)
    speeds: dict[str, list[float]] = {name: [] for name in (*VARIANTS, *LEVERS)}
    for number in range(given.rounds):
        for name in (*VARIANTS, *(LEVERS if given.levers and number == 0 else ())):
            speeds[name].append(round(speed(measure(model, given.samples, name)), 1))
            print(f"{name}: {speeds[name][-1]} tokens/s", flush=True)
    median = {name: statistics.median(found) for name, found in speeds.items() if found}
    found = {
        "machine": describe(),
        "device": device(),
        "model": given.shape or model.name,
        "data": {**lengths_of(rows(given.samples, vocabulary)), "batch": BATCH},
        "agreement": same,
        "tokens_per_s": speeds,
        "ratio": {
            "to_trl_defaults": round(median["ours"] / median["trl_defaults"], 2),
            "to_trl_best": round(median["ours"] / median["trl_best"], 2),
        },
        "without": {
            name.removeprefix("ours_"): round(median[name] / median["ours"], 2) for name in LEVERS if name in median
        },
    }
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["ratio"]))


if __name__ == "__main__":
    main()
