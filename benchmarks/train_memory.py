"""The memory that training takes, beside the estimate that `tilth train --explain` shows.

    python benchmarks/train_memory.py [--only TEXT] [--out FILE]

Each case is a process of its own: a random Llama of some shape is trained for three steps by the phase runner's own
trainer, on rows, pairs or prompts of one length, and the peak is read: on a CPU the resident memory (VmHWM), less what
it had before the model was loaded; on CUDA `torch.cuda.max_memory_allocated`. Writes
`benchmarks/results/train_memory.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import describe
from tilth.core.config import Config
from tilth.core.records import Message
from tilth.llm.precision import device
from tilth.train.auto import Resolved
from tilth.train.masking import IGNORED, Tokens
from tilth.train.memory import Batch, estimate, read_shape
from tilth.train.methods.pairs import PairTokens
from tilth.train.methods.prompts import PromptTokens
from tilth.train.methods.row import Row

RESULTS = Path(__file__).parent / "results" / "train_memory.json"
STEPS = 3
SPECIAL, TEMPLATE = ("eos_token", "pad_token"), "{{ messages[-1].content }}"


@dataclass(frozen=True)
class Case:
    """One shape and one way to train it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    micro_batch_size: int
    length: int
    trained: int
    """Positions that carry loss, at the end of every row; of a pair, of both its rows; of a prompt, of its answers."""
    accumulate: int = 1
    recompute: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def phase(self) -> Resolved:
        """The phase that trains it."""
        return Resolved.model_validate(
            {
                "name": "memory",
                "kinds": ["skill"],
                "epochs": STEPS,
                "learning_rate": 1e-5,
                "batch_size": self.micro_batch_size * self.accumulate,
                "micro_batch_size": self.micro_batch_size,
                "max_length": self.length,
                **self.settings,
            }
        )

    @property
    def batch(self) -> Batch:
        """What goes through the model at once: rows one after another, both conversations of pairs, or all answers."""
        method = self.phase.method
        rows = self.micro_batch_size * {"sft": 1, "dpo": 2}.get(method, self.phase.rollout.completions)
        return Batch(rows, self.length, rows * self.length, rows * self.trained, joined=method == "sft")

    @property
    def rows(self) -> list[Row]:
        """Those of a step, all alike; a pair's worse answer is shorter by a token, so that there is padding."""
        ids, first = list(range(10, 10 + self.length)), self.length - self.trained
        row: Row = Tokens(ids, [IGNORED] * first + ids[first:])
        if self.phase.method == "dpo":
            row = PairTokens(ids[:first], ids[first:], ids[first:-1])
        elif self.phase.method in {"grpo", "ppo"}:
            row = PromptTokens(ids[:first], 0, (Message(role="user", content="?"),), "", self.trained)
        return [row] * self.phase.batch_size


M20 = {"hidden": 320, "layers": 8, "heads": 5, "kv_heads": 5, "intermediate": 864, "vocab": 32768}
M60 = {"hidden": 512, "layers": 12, "heads": 8, "kv_heads": 4, "intermediate": 1408, "vocab": 49152}
M135 = {"hidden": 576, "layers": 30, "heads": 9, "kv_heads": 3, "intermediate": 1536, "vocab": 49152}
LORA, QLORA = {"adapter": "lora"}, {"adapter": "qlora"}
DPO = {"method": "dpo", "kinds": ["preference"]}
ANSWERED = {"rollout": {"completions": 8, "max_new_tokens": 48, "rewards": [{"answer": "exact"}]}}
GRPO = {"method": "grpo", **ANSWERED}
CASES = {
    "20M, 8 x 128": Case(**M20, micro_batch_size=8, length=128, trained=32),
    "20M, 8 x 512": Case(**M20, micro_batch_size=8, length=512, trained=64),
    "20M, 8 x 512, all trained": Case(**M20, micro_batch_size=8, length=512, trained=512),
    "20M, 2 x 2048": Case(**M20, micro_batch_size=2, length=2048, trained=64),
    "20M, 8 x 512, LoRA": Case(**M20, micro_batch_size=8, length=512, trained=64, settings=LORA),
    "20M, 8 x 512, QLoRA": Case(**M20, micro_batch_size=8, length=512, trained=64, settings=QLORA),
    "20M, 4 x 512, pairs": Case(**M20, micro_batch_size=4, length=512, trained=64, settings=DPO),
    "60M, 16 x 256": Case(**M60, micro_batch_size=16, length=256, trained=64),
    "60M, 4 x 256, twice a step": Case(**M60, micro_batch_size=4, length=256, trained=64, accumulate=2),
    "135M, 1 x 64": Case(**M135, micro_batch_size=1, length=64, trained=16),
    "135M, 4 x 256": Case(**M135, micro_batch_size=4, length=256, trained=64),
    "135M, 4 x 256, twice a step": Case(**M135, micro_batch_size=4, length=256, trained=64, accumulate=2),
    "135M, 16 x 256": Case(**M135, micro_batch_size=16, length=256, trained=64),
    "135M, 8 x 256, LoRA": Case(**M135, micro_batch_size=8, length=256, trained=64, settings=LORA),
    "135M, 8 x 256, QLoRA": Case(**M135, micro_batch_size=8, length=256, trained=64, settings=QLORA),
    "135M, 4 x 256, pairs": Case(**M135, micro_batch_size=4, length=256, trained=64, settings=DPO),
    "135M, 4 x 8 answers of 48 after 80": Case(**M135, micro_batch_size=4, length=128, trained=48, settings=GRPO),
    "135M, 8 x 256, recomputed": Case(**M135, micro_batch_size=8, length=256, trained=64, recompute=True),
}


def main() -> None:
    options = _options()
    if options.case:
        _train(CASES[options.case], Path(options.folder))
        return
    rows = [_compare(name, case) for name, case in CASES.items() if options.only in name]
    worst = max(abs(row["off"]) for row in rows)
    results = {"machine": describe(), "device": device(), "worst": worst, "cases": rows}
    Path(options.out).write_text(json.dumps(results, indent=2) + "\n")
    print(f"worst: {worst:.1%}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--out", default=RESULTS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(name: str, case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--case", name, "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured = json.loads(done.stdout.splitlines()[-1])
        foreseen = estimate(read_shape(Path(folder) / "model"), case.phase, case.batch, recompute=case.recompute)
    estimated = foreseen.total - measured["before"] if foreseen.process else foreseen.total
    row = {
        "case": name,
        "measured_mb": round(measured["peak"] / 1e6),
        "estimated_mb": round(estimated / 1e6),
        "off": round(estimated / measured["peak"] - 1, 3),
        "cpu": describe()["cpu"],
        "before_mb": round(measured["before"] / 1e6),
        "parts_mb": {part: round(size / 1e6) for part, size in foreseen.model_dump().items()},
    }
    print(f"{name:32}{row['measured_mb']:>8,} MB{row['estimated_mb']:>8,} MB  {row['off']:+.1%}", flush=True)
    return row


def _train(case: Case, folder: Path) -> None:
    """In a process of its own: three steps, then one line of JSON."""
    import torch
    import trl.trainer.sft_trainer  # noqa: F401 (part of what is there before the model)
    from tilth.train import trainer as trainer_module
    from tilth.train.methods.setup import Setup
    from tilth.train.methods.table import METHODS
    from tilth.train.trainer import Watch
    from transformers import PreTrainedTokenizerFast

    _make_model(case, folder / "model")
    if case.recompute:
        trainer_module.__dict__["_CHECKPOINT_ACTIVATIONS_FROM"] = 1
    names = dict.fromkeys(SPECIAL, "</s>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), chat_template=TEMPLATE, **names)
    before = _now("VmRSS")
    setup = Setup(
        phase=case.phase,
        parent=folder / "model",
        models={},
        tokenizer=tokenizer,
        rows=case.rows,
        checkpoints=folder / "checkpoints",
        seed=1,
        config=Config(),
        watch=Watch(lambda _step: None, 1e9),
    )
    METHODS[case.phase.method].trainer(setup).train()
    peak = torch.cuda.max_memory_allocated() if device() == "cuda" else _now("VmHWM") - before
    print(json.dumps({"peak": peak, "before": before}))


def _make_model(case: Case, folder: Path) -> None:
    """In another process again, so that its memory is not counted."""
    program = (
        "import json, sys; from transformers import LlamaConfig, LlamaForCausalLM;"
        "LlamaForCausalLM(LlamaConfig(**json.loads(sys.argv[1]))).save_pretrained(sys.argv[2])"
    )
    config = {
        "hidden_size": case.hidden,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.heads,
        "num_key_value_heads": case.kv_heads,
        "intermediate_size": case.intermediate,
        "vocab_size": case.vocab,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
    }
    subprocess.run([sys.executable, "-c", program, json.dumps(config), folder], check=True, capture_output=True)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"</s>": 0}))


def _now(name: str) -> int:
    """A figure of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
