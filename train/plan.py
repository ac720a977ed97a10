"""Plans: which training phases follow one another, on what, and how. YAML files: shipped in `plans/`, or one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..core.config import Section, Share
from ..core.errors import ConfigError, nearest
from ..core.records import Kind
from ..core.yaml_source import load_yaml

_SHIPPED = Path(__file__).parent / "plans"

Positive = Annotated[int, Field(ge=1)]


class Replay(Section):
    """Older samples mixed into a phase: of the samples it trains on, these shares are replayed ones."""

    earlier_phases: Share = 0.0
    """Samples of this run that earlier phases of the plan trained on."""
    earlier_cycles: Share = 0.0
    """Samples of earlier contributions, of every kind that the plan trains."""

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.earlier_phases + self.earlier_cycles >= 1:
            raise ValueError("the replay shares must add up to less than 1, so that there is room for new samples")
        return self


class Lora(Section):
    """A low-rank adapter on every linear layer but the output head, merged into the model when the phase ends.

    Source: Hu et al., LoRA, arXiv 2106.09685; all linear layers as in "LoRA Learns Less and Forgets Less", 2405.09673.
    """

    rank: Positive = 32
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Phase(Section):
    """One training method on one selection of samples.

    AdamW with betas 0.9 and 0.95 (LAB, arXiv 2403.01081); full fine-tuning keeps float32 weights.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    method: Literal["sft"] = "sft"
    kinds: tuple[Kind, ...]
    """The kinds of samples that are new in this phase."""
    replay: Replay = Field(default_factory=Replay)
    epochs: Positive = 10
    learning_rate: Annotated[float, Field(gt=0)]
    """The peak rate; LoRA wants about ten times that of full fine-tuning."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the steps in which the learning rate rises from 0 to its peak."""
    batch_size: Positive = 8
    """Samples per optimizer step."""
    micro_batch_size: Positive = 8
    """Samples that go through the model at once: memory and speed, no effect on the result but rounding."""
    max_length: Positive = 1024
    """Longest sample in tokens, chat template included; longer ones are counted and dropped."""
    adapter: Literal["none", "lora"] = "none"
    lora: Lora = Field(default_factory=Lora)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    neftune_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Noise on the embeddings, so that a small model learns less of a question by heart than of what it asks.

    Uniform within alpha / sqrt(length * width), in training only; 5 to 15 in the source (NEFTune, arXiv 2310.05914).
    """
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.kinds:
            raise ValueError("a phase trains at least one kind of samples")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if never := {"preference", "test"}.intersection(self.kinds):
            raise ValueError(f"{self.method} cannot train on samples of kind {', '.join(sorted(never))}")
        if self.adapter == "none" and self.lora != Lora():
            raise ValueError("lora settings have no effect without `adapter: lora`")
        return self


class Plan(Section):
    """Phases in order: each starts from the model that the one before it left."""

    phases: tuple[Phase, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.phases:
            raise ValueError("a plan has at least one phase")
        names = [phase.name for phase in self.phases]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two phases are called {twice!r}; rename one")
        return self

    @property
    def kinds(self) -> frozenset[Kind]:
        """Every kind that some phase trains."""
        return frozenset(kind for phase in self.phases for kind in phase.kinds)


def shipped_plans() -> list[str]:
    """The names of the plans that come with tilth."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_plan(name_or_path: str | Path) -> Plan:
    """A shipped plan by its name, or any other by its path. Raises ConfigError or YamlProblems."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return load_yaml(path, Plan)
    if str(name_or_path) not in shipped_plans():
        fix = f"{nearest(str(name_or_path), shipped_plans())} or give a path to a .yaml"
        raise ConfigError(f"there is no plan {str(name_or_path)!r}", where="train.plan", fix=fix)
    return load_yaml(_SHIPPED / f"{name_or_path}.yaml", Plan)
