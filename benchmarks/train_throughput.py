"""How fast supervised fine-tuning runs, beside TRL's SFTTrainer at its defaults and at its best settings.

    python benchmarks/train_throughput.py [--rounds N] [--samples N] [--mean TOKENS] [--levers] [--lora]
                                          [--model FOLDER | --shape small|1b|8b] [--out FILE]

All train the same model on the same token ids: lengths log-normal with a mean of about 300 tokens (short questions and
answers have 48), the second half of each sample trained, batches of 8. As real ones do, all rows begin with what the
model's chat template writes before a question (with random weights there is none); `data.shared` says how many tokens
that is. Ours puts them through the model once a batch on a CPU; they are counted in each row, for TRL and for ours.

A variant is a process of its own; rounds alternate them. Counted are useful tokens (padding is none) over the wall
clock from the end of one optimizer step to the end of the next, the first two left out; `mfu` is the arithmetic of all
of them over what the device does in a product of matrices (`train/flops.py`), what is spared too. That all do the same
work is checked first: fed the same 50 batches in the same order in float32, the losses of ours and of TRL at its best
must agree (the batches are of two short samples, for a CPU takes minutes for float32). How far those of TRL's defaults
are from them on the same batches, in bfloat16 as they have it, is told beside it.

`--levers` takes one thing away from ours at a time. Writes `benchmarks/results/train_throughput.json`. To try it out:

    python benchmarks/train_throughput.py --levers --rounds 1 --samples 32 --shape small --out /tmp/small.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import describe
from tilth.core.config import Config
from tilth.llm.precision import compute_dtype, device
from tilth.train import varlen
from tilth.train.auto import Resolved
from tilth.train.flops import peak_flops, shape, step_flops
from tilth.train.masking import IGNORED, Tokens, load_tokenizer
from tilth.train.metrics import Step
from tilth.train.settings import Lora
from tilth.train.trainer import Watch

RESULTS = Path(__file__).parent / "results" / "train_throughput.json"
BATCH, WARM, SEED = 8, 2, 1
CHECKED_STEPS, CHECKED_BATCH, CHECKED_LENGTH, MOST_APART = 50, 2, 60, 0.01
MEAN_LENGTH, SPREAD, LONGEST = 300, 0.7, 1024
TEMPLATE = "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"
SHAPES = {
    "small": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
              "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False},
}  # fmt: skip
"""Llama 3's, for random weights, and a small one to see that all variants run."""

VARIANTS = ("trl_defaults", "trl_best", "ours")
LEVERS = ("ours_padded", "ours_unshared", "ours_unsorted", "ours_whole_head", "ours_float32", "ours_unfused",
          "ours_recomputed")  # fmt: skip
"""Ours less one thing each: no padding, the shared beginning of rows once, batches of like lengths, the output head at
trained positions only, bfloat16, the fused optimizer, activations kept. The whole head goes with padded batches."""
COMPILED = "ours_compiled"
"""Ours and torch.compile, on a GPU."""


def rows(samples: int, model: Path, mean: int = MEAN_LENGTH) -> list[Tokens]:
    """Token ids with log-normal lengths; words of a text follow Zipf's law, and so do these behind their beginning."""
    vocabulary, begin = _vocabulary(model), beginning(model)
    rng = random.Random(SEED)  # noqa: S311 (reproducible data, not a secret)
    mu = -SPREAD * SPREAD / 2
    ranks = range(1, min(vocabulary, 20_000) - 10)
    weights = [1 / rank for rank in ranks]
    made: list[Tokens] = []
    for _ in range(samples):
        length = max(len(begin) + 16, min(LONGEST, round(mean * rng.lognormvariate(mu, SPREAD))))
        ids = begin + [rank + 9 for rank in rng.choices(ranks, weights, k=length - len(begin))]
        asked = max(length // 2, len(begin))
        made.append(Tokens(ids, [IGNORED] * asked + ids[asked:]))
    return made


def beginning(model: Path) -> list[int]:
    """What the model's chat template writes before a question."""
    tokenizer = load_tokenizer(model)
    question = "?" * 9
    written = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False)
    return tokenizer(written.partition(question)[0], add_special_tokens=False)["input_ids"]


def lengths_of(all_rows: list[Tokens]) -> dict[str, float]:
    """What the data is like."""
    lengths = sorted(row.length for row in all_rows)
    return {
        "samples": len(lengths),
        "mean": round(statistics.fmean(lengths), 1),
        "median": statistics.median(lengths),
        "longest": lengths[-1],
        "shared": varlen.shared_beginning([row.columns() for row in all_rows]),
    }


# One variant, in its own process --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What a variant is to do."""

    model: Path
    rows: list[Tokens]
    folder: Path
    lora: bool
    fixed: bool
    """The same batches in the same order, in float32 but for TRL's defaults."""

    @property
    def batch(self) -> int:
        """Samples of a step."""
        return CHECKED_BATCH if self.fixed else BATCH


def run_ours(work: Work, variant: str) -> list[dict[str, float]]:
    """A phase of tilth's own."""
    from tilth.train import trainer as phase_trainers
    from tilth.train.methods import supervised
    from tilth.train.methods.setup import Setup

    if variant == "ours_unsorted" or work.fixed:
        phase_trainers.PhaseTraining._get_train_sampler = lambda *_: InOrder(len(work.rows))  # noqa: SLF001
    if variant == "ours_float32" or work.fixed:
        phase_trainers.compute_dtype = _float32
    if variant in {"ours_padded", "ours_whole_head"}:
        varlen.join_rows_in = _no
    if variant == "ours_unshared":
        varlen.shared_beginning = _nothing
    if variant == "ours_whole_head":
        supervised.ExactLoss.compute_loss = _whole_head_loss
    if variant == "ours_recomputed":
        phase_trainers.__dict__["_CHECKPOINT_ACTIVATIONS_FROM"] = 1
    steps: list[Step] = []
    phase = Resolved(name="p", kinds=("skill",), epochs=1, learning_rate=1e-5, batch_size=work.batch,
                     micro_batch_size=work.batch, max_length=LONGEST, adapter="lora" if work.lora else "none",
                     **({"lora": Lora(dropout=0.0)} if work.lora else {}))  # fmt: skip
    watch = Watch(steps.append, 1e9)
    tokenizer = load_tokenizer(work.model)
    trainer = supervised.trainer(Setup(phase, work.model, {}, tokenizer, work.rows, work.folder, SEED, Config(), watch))
    if variant == "ours_unfused":
        trainer.args.optim = "adamw_torch"
    if variant == COMPILED:
        trainer.model.compile(dynamic=True)
    trainer.train()
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


def run_trl(work: Work, variant: str) -> list[dict[str, float]]:
    """TRL's own trainer on the same ids."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    settings: dict[str, Any] = {
        "output_dir": str(work.folder),
        "per_device_train_batch_size": work.batch,
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
    if variant == "trl_best":
        settings |= {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length",
                     "bf16": compute_dtype() == torch.bfloat16}  # fmt: skip
    if work.fixed:
        settings |= {"lr_scheduler_type": "constant", "adam_beta2": 0.95}
        settings |= {"bf16": False} if variant == "trl_best" else {}
    ends: list[float] = []
    batches: list[int] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:  # read from the device, so the step is over
                ends.append(time.monotonic())
                losses.append(float(logs["loss"]))

    class Counting(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            batches.append(int(inputs["attention_mask"].sum()))
            return super().compute_loss(model, inputs, *given, **named)

        def _get_train_sampler(self, *given: Any) -> Any:
            return InOrder(len(work.rows)) if work.fixed else super()._get_train_sampler(*given)

    data = {
        "input_ids": [row.input_ids for row in work.rows],
        "completion_mask": [[int(label != IGNORED) for label in row.labels] for row in work.rows],
    }
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=Lora().rank, lora_alpha=Lora().alpha)
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(str(work.model), dtype=torch.float32),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_dict(data),
        processing_class=load_tokenizer(work.model),
        callbacks=[Clock()],
        peft_config=lora if work.lora else None,
    )
    trainer.train()
    return [
        {"loss": loss, "seconds": end - begin, "tokens": tokens}
        for loss, (begin, end), tokens in zip(losses, itertools.pairwise(ends), batches, strict=True)
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


def _nothing(_rows: Any) -> int:
    return 0


def _float32() -> Any:
    import torch

    return torch.float32


# All of them ----------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--mean", type=int, default=MEAN_LENGTH)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES))
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--levers", action="store_true", help="also take one thing away from ours at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--variant", choices=[*VARIANTS, *LEVERS, COMPILED], help=argparse.SUPPRESS)
    parser.add_argument("--fixed", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.variant:
        print(json.dumps(_one(given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        given.model = _model(given, Path(folder) / "model")
        found = _all(given)
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["ratio"]))


def _one(given: argparse.Namespace) -> list[dict[str, float]]:
    from tilth.llm.quiet import quiet_transformers

    run = run_trl if given.variant.startswith("trl") else run_ours
    made = rows(given.samples, given.model, CHECKED_LENGTH if given.fixed else given.mean)
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        return run(Work(given.model, made, Path(folder), given.lora, given.fixed), given.variant)


def _all(given: argparse.Namespace) -> dict[str, Any]:
    made = rows(given.samples, given.model, given.mean)
    print(f"{len(made)} rows, which all begin with the same {lengths_of(made)['shared']} tokens", flush=True)
    peak, each = peak_flops(), flops_of_a_token(given.model, made, lora=given.lora)
    same = agreement(given)
    print(
        f"losses of {same['steps']} steps agree to {same['largest_difference']:.1g}, "
        f"with those of TRL's defaults to {same['largest_difference_to_trl_defaults']:.1g}",
        flush=True,
    )
    levers = (*LEVERS, *((COMPILED,) if device() == "cuda" else ())) if given.levers else ()
    speeds: dict[str, list[float]] = {}
    losses: dict[str, float] = {}
    for number in range(given.rounds):
        for name in (*VARIANTS, *(levers if number == 0 else ())):
            steps = measure(given, name)
            losses[name] = round(statistics.fmean(step["loss"] for step in steps), 4)
            speeds.setdefault(name, []).append(round(speed(steps), 1))
            print(f"{name}: {speeds[name][-1]} tokens/s", flush=True)
    median = {name: statistics.median(found) for name, found in speeds.items()}
    return {
        "machine": describe(),
        "device": device(),
        "model": given.shape or given.model.name,
        "adapter": "lora" if given.lora else "none",
        "data": {**lengths_of(made), "batch": BATCH},
        "agreement": same,
        "tokens_per_s": speeds,
        "mean_loss_of_the_epoch": losses,
        "peak_tflops": round(peak / 1e12, 2),
        "mfu": {name: round(tokens * each / peak, 3) for name, tokens in median.items()},
        "ratio": {
            "to_trl_defaults": round(median["ours"] / median["trl_defaults"], 2),
            "to_trl_best": round(median["ours"] / median["trl_best"], 2),
        },
        "of_ours": {name: round(median[name] / median["ours"], 2) for name in levers},
    }


def measure(given: argparse.Namespace, variant: str, **changes: Any) -> list[dict[str, float]]:
    """Run one variant in a process of its own; its steps."""
    of_all = {name: getattr(given, name) for name in ("model", "samples", "mean", "lora")}
    work = {**of_all, "variant": variant, **changes}
    command = [sys.executable, __file__]
    for name, value in work.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)] if value else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.decode().splitlines()[-1])


def speed(steps: list[dict[str, float]]) -> float:
    """Useful tokens a second over all steps but the first ones."""
    timed = steps[WARM:]
    return sum(step["tokens"] for step in timed) / sum(step["seconds"] for step in timed)


def flops_of_a_token(model: Path, made: list[Tokens], *, lora: bool) -> float:
    """What training takes for each useful token of the data, in the mean."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(model)))
    tokens, trained = sum(row.length for row in made), sum(row.trained for row in made)
    squares = sum(row.length**2 for row in made)
    return step_flops(shape(empty, whole=not lora), tokens=tokens, trained=trained, squares=squares) / tokens


def agreement(given: argparse.Namespace) -> dict[str, Any]:
    """The losses of the first steps on the same batches in the same order, ours beside TRL's."""
    names, samples = ("trl_best", "trl_defaults", "ours"), CHECKED_STEPS * CHECKED_BATCH
    best, defaults, ours = (
        [step["loss"] for step in measure(given, name, samples=samples, fixed=True)] for name in names
    )
    worst = _apart(best, ours)
    if worst > MOST_APART:
        sys.exit(f"the losses of ours and TRL's differ by {worst}: they do not do the same work")
    found = {"trl": best, "trl_defaults": defaults, "ours": ours}
    return {
        "steps": len(ours),
        **{name: [round(loss, 4) for loss in losses] for name, losses in found.items()},
        "largest_difference": worst,
        "largest_difference_to_trl_defaults": _apart(defaults, ours),
    }


def _apart(some: list[float], others: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


def _model(given: argparse.Namespace, folder: Path) -> Path:
    if given.model:
        return given.model
    if given.shape:
        return random_model(given.shape, folder)
    from tilth.core.progress import SilentProgress
    from tilth.llm.student import student_folder

    return student_folder("smollm2-135m-instruct", SilentProgress())


def random_model(shape: str, folder: Path) -> Path:
    """A Llama of some shape with random weights, and a tokenizer that only has to be there."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(max_position_embeddings=8192, **SHAPES[shape])).save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({"</s>": 0}))
    names = dict.fromkeys(("eos_token", "pad_token"), "</s>")
    PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=TEMPLATE, **names).save_pretrained(folder)
    return folder


def _vocabulary(model: Path) -> int:
    return json.loads((model / "config.json").read_text())["vocab_size"]


if __name__ == "__main__":
    main()
