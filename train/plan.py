"""Plans: which training phases follow one another, on what, and how. YAML files: shipped in `plans/`, or one's own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ..core.config import Section
from ..core.errors import ConfigError, nearest
from ..core.records import Kind
from ..core.yaml_problem import shortened
from ..core.yaml_source import load_yaml
from .settings import (
    Above0,
    AutoCount,
    AutoNumber,
    Distill,
    Lora,
    NotNegative,
    Positive,
    Ppo,
    Preference,
    Replay,
    Reward,
    Rollout,
    Selection,
    TooLong,
)

_SHIPPED = Path(__file__).parent / "plans"

MethodName = Literal["pretrain", "sft", "dpo", "kto", "reward", "grpo", "rloo", "distill", "ppo"]

_ANSWERS: frozenset[Kind] = frozenset({"knowledge_short", "knowledge_long", "foundational", "skill", "grounded_skill"})
_TEXTS: frozenset[Kind] = frozenset({"document"})
TRAINS_ON: dict[MethodName, frozenset[Kind]] = {
    "pretrain": _TEXTS,
    "sft": _ANSWERS | _TEXTS,
    "dpo": frozenset({"preference"}),
    "kto": frozenset({"preference"}),
    "reward": frozenset({"preference"}),
    "grpo": _ANSWERS,
    "rloo": _ANSWERS,
    "distill": _ANSWERS,
    "ppo": _ANSWERS,
}
"""The kinds of samples that each method can use."""

LOSS_ON_ROWS: frozenset[MethodName] = frozenset({"pretrain", "sft", "dpo", "kto", "reward"})
"""Methods whose loss can be measured on samples that are not trained; the others learn from answers of their own."""

DRAWS_BY_MICRO_BATCH: frozenset[MethodName] = frozenset({"grpo", "rloo", "distill"})
"""Methods whose answers hang on which prompts are answered together; those of ppo are drawn for each by itself."""

DROPS_OUT: frozenset[MethodName] = frozenset({"sft", "pretrain"})
"""Methods with dropout: the others compare what two models say, or train the one that answers."""

LEARNS_FROM_ANSWERS: frozenset[MethodName] = frozenset({"grpo", "rloo", "ppo", "distill"})
"""Methods that train on answers of the model's own; each of their rows is a prompt."""

SECTIONS: dict[str, frozenset[MethodName]] = {
    "preference": frozenset({"dpo", "kto"}),
    "rollout": LEARNS_FROM_ANSWERS,
    "distill": frozenset({"distill"}),
    "ppo": frozenset({"ppo"}),
    "neftune_alpha": frozenset({"pretrain", "sft"}),
}
"""Settings that only some methods have."""


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"the name {shortened(name)!r} becomes a folder's: use small letters, digits, - and _")
    return name


class Phase(Section):
    """One training method on one selection of samples.

    AdamW with betas 0.9 and 0.95 (LAB, arXiv 2403.01081); full fine-tuning keeps float32 weights. What is
    left out or `auto` in the YAML is None until `auto.resolve` has chosen it.
    """

    name: Annotated[str, AfterValidator(_folder_name)]
    """Small letters, digits, - and _: its folder is called so."""
    method: MethodName = "sft"
    """How it learns."""
    kinds: tuple[Kind, ...]
    """The kinds of samples that are new in this phase."""
    leaves: Annotated[tuple[str, ...], Field(min_length=1)] = ("**",)
    """Patterns of leaf ids (`knowledge/**`): only samples of leaves that match one."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How much of the new samples is used: each leaf in proportion, each fact in turn."""
    replay: Replay = Field(default_factory=Replay)
    epochs: Positive = 10
    """Passes over its samples."""
    learning_rate: AutoNumber = None
    """The peak rate; LoRA wants about ten times that of full fine-tuning."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What becomes of the rate after the warm-up: it stays, or falls to 0 at the end."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the steps in which the learning rate rises from 0 to its peak."""
    batch_size: AutoCount = None
    """Samples per optimizer step; for pretrain rows, which documents share (`packing.py`)."""
    micro_batch_size: AutoCount = None
    """Samples that go through the model at once: memory and speed, no effect on the result but rounding. But grpo, rloo
    and distill draw other answers with another size, and neftune_alpha and lora.dropout other noise."""
    max_length: AutoCount = None
    """Longest sample in tokens, chat template included."""
    too_long: TooLong = Field(default_factory=TooLong)
    trainable: Literal["all", "mlp"] = "all"
    """Which of the model's own weights are trained; `mlp`: those of the layers' MLPs, and all else stays as it is.

    Less of all else is forgotten, facts are learned as well or somewhat worse, and a step takes less memory and time
    (docs/log.md; that the choice of parts decides what is forgotten: Zhu et al., arXiv 2510.08564).
    """
    adapter: Literal["none", "lora", "qlora"] = "none"
    """What is trained: the model's own weights, a low-rank adapter, or one on weights held in 4 bits."""
    lora: Lora = Field(default_factory=Lora)
    weight_decay: NotNegative = 0.0
    """AdamW's: what each step takes off the weights, times the rate."""
    neftune_alpha: NotNegative = 0.0
    """Noise on the embeddings, so that a small model learns less of a question by heart than of what it asks.

    Uniform within alpha / sqrt(length * width), in training only; 5 to 15 in the source (NEFTune, arXiv 2310.05914).
    """
    clip_norm: Above0 = 1.0
    """Gradients are scaled down to this norm."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much the model that the phase starts from weighs in the mean of both that it leaves (`averaging.py`)."""
    select: Selection = Field(default_factory=Selection)
    preference: Preference = Field(default_factory=Preference)
    rollout: Rollout = Field(default_factory=Rollout)
    distill: Distill | None = None
    ppo: Ppo = Field(default_factory=Ppo)

    @property
    def holds(self) -> str:
        """Whose longest context bounds its rows."""
        with_teacher = self.distill and self.distill.teacher != "parent"
        return "all that student and teacher hold" if with_teacher else "all that the model holds"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.kinds:
            raise ValueError("a phase trains at least one kind of samples")
        if never := set(self.kinds) - TRAINS_ON[self.method]:
            raise ValueError(f"{self.method} cannot train on samples of kind {', '.join(sorted(never))}")
        _check_batch(self)
        _check_sections(self)
        return self


class Plan(Section):
    """Phases in order: each starts from the model that the one before it left.

    A `reward` phase leaves a reward model for later phases to name; the model goes past it.
    """

    phases: tuple[Phase, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.phases:
            raise ValueError("a plan has at least one phase")
        names = [phase.name for phase in self.phases]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two phases are called {twice!r}; rename one")
        if all(phase.method == "reward" for phase in self.phases):
            raise ValueError("a plan needs a phase that trains the model itself, not only reward models")
        trains = [phase for phase in self.phases if phase.method != "reward"]
        if trains[0].distill and trains[0].distill.teacher == "parent":
            raise ValueError("`teacher: parent` is the model that the plan starts from: it teaches nothing at first")
        for before, phase in itertools.pairwise(trains):
            _check_parent(before, phase)
        return self

    @property
    def kinds(self) -> frozenset[Kind]:
        """Every kind that some phase trains."""
        return frozenset(kind for phase in self.phases for kind in phase.kinds)


def _check_parent(before: Phase, phase: Phase) -> None:
    """The library measures from the weights under an adapter, and one that is gone on with is not the parent there."""
    goes_on = before.adapter != "none" and not before.lora.merge and phase.adapter != "none"
    if goes_on and phase.adapter == "qlora":
        raise ValueError(
            f"{phase.name!r} cannot go on with the adapter of {before.name!r}, which is not taken out of weights of 4 "
            f"bits: write `lora: {{merge: true}}` in {before.name!r}"
        )
    if goes_on and phase.method in {"grpo", "rloo"} and phase.rollout.beta:
        raise ValueError(
            f"rollout.beta of {phase.name!r} holds it to its parent, whose adapter it would go on with: "
            f"write `lora: {{merge: true}}` in {before.name!r}, or `beta: 0`"
        )


def _check_batch(phase: Phase) -> None:
    batch, micro = phase.batch_size, phase.micro_batch_size
    if batch and micro and batch % micro:
        raise ValueError(f"batch_size {batch} is not a multiple of micro_batch_size {micro}")
    if phase.method == "pretrain" and phase.max_length == 1:
        raise ValueError("pretrain needs a max_length of 2 at least: nothing predicts the first token of a row")


def _check_sections(phase: Phase) -> None:
    """Settings that would have no effect are mistakes; rewards that are needed must be there."""
    for name, methods in SECTIONS.items():
        if phase.method not in methods and getattr(phase, name) != Phase.model_fields[name].get_default(
            call_default_factory=True
        ):
            raise ValueError(f"{name} has no effect on {phase.method}; it is for {', '.join(sorted(methods))}")
    if phase.method != "sft" and (phase.replay.general or phase.replay.self_generated):
        raise ValueError("replay.general and replay.self_generated are for sft: they are answers to be learned")
    _check_weights(phase)
    if phase.too_long.policy == "cut" and phase.method != "sft":
        raise ValueError(f"too_long.policy: cut is for sft; what is too long for {phase.method} can only be dropped")
    if phase.method in {"grpo", "rloo", "ppo"} and not phase.rollout.rewards:
        raise ValueError(f"{phase.method} needs rollout.rewards: what an answer earns")
    if phase.rollout.rewards and not any(reward.weight for reward in phase.rollout.rewards):
        raise ValueError("every reward has the weight 0, so no answer earns anything")
    if phase.method == "distill" and phase.distill is None:
        raise ValueError("distill needs distill.teacher: the model to learn from")
    if phase.method == "distill" and (phase.rollout.rewards or phase.rollout.beta):
        raise ValueError("rollout.rewards and rollout.beta have no effect on distill")
    if phase.method in {"grpo", "rloo"} and phase.rollout.completions == 1:
        raise ValueError(f"{phase.method} compares the answers to a prompt: rollout.completions must be at least 2")
    _check_selection(phase)


def _check_weights(phase: Phase) -> None:
    if phase.adapter == "none" and phase.lora != Lora():
        raise ValueError("lora settings have no effect without `adapter: lora`")
    if phase.trainable != "all" and (phase.adapter != "none" or phase.method == "reward"):
        raise ValueError("trainable is for the model's own weights, not for an adapter or a reward model")
    if phase.lora.dropout != Lora().dropout and phase.method not in DROPS_OUT:
        raise ValueError(f"lora.dropout has no effect on {phase.method}, which trains without dropout; leave it out")
    if phase.average and (phase.method == "reward" or (phase.adapter != "none" and not phase.lora.merge)):
        raise ValueError("average is for a model's own weights, not for a reward model or an adapter that is kept")


def _check_selection(phase: Phase) -> None:
    if phase.method not in LOSS_ON_ROWS and (phase.select.by == "validation_loss" or phase.select.validation):
        raise ValueError(f"{phase.method} learns from answers of its own: no loss on samples held back says how well")
    if phase.method == "reward" and phase.select.by == "held_out":
        raise ValueError("a reward model answers no held-out question; select it by validation_loss")


def shipped_plans() -> list[str]:
    """The names of the plans that come with tilth."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_plan(name_or_path: str | Path) -> Plan:
    """A shipped plan by its name, or any other by its path, beside which its own files may lie.

    Raises ConfigError or YamlProblems.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        plan = load_yaml(path, Plan)
        return plan.model_copy(update={"phases": tuple(_from(path.parent, phase, plan) for phase in plan.phases)})
    if str(name_or_path) not in shipped_plans():
        fix = f"{nearest(str(name_or_path), shipped_plans())} (a path ends in .yaml)"
        raise ConfigError(f"there is no plan {str(name_or_path)!r}", where="train.plan", fix=fix)
    return load_yaml(_SHIPPED / f"{name_or_path}.yaml", Plan)


def by_content(phase: Phase, held: Callable[[Path], str]) -> dict[str, Any]:
    """The settings of a phase with what lies on this machine by what `held` says of it instead of by its path.

    Reward functions, general sets and folders of models: where they lie makes no difference, and what they hold does.
    """
    told = phase.model_dump(mode="json")

    def replace(settings: dict[str, Any] | None, name: str) -> None:
        path, colon, function = (settings or {}).get(name, "").rpartition(":")
        path, function = (path, function) if colon else (function, "")
        if settings and Path(path).is_absolute() and Path(path).exists():
            settings[name] = f"{held(Path(path))}{colon}{function}"

    for reward in told["rollout"]["rewards"]:
        replace(reward, "function")
        replace(reward, "model")
    replace(told["distill"], "teacher")
    replace(told["replay"], "general_file")
    return told


def _from(folder: Path, phase: Phase, plan: Plan) -> Phase:
    """The phase with the paths of what lies beside its plan, or else in the current folder.

    What names another phase, or the parent, is no path.
    """
    named = {"", "parent", *(each.name for each in plan.phases)}
    places = folder.absolute(), Path.cwd()

    def found(name: str) -> str:
        there = (str(place / name) for place in places if name and (place / name.rpartition(":")[0]).is_file())
        return next(there, name)

    def model(name: str) -> str:
        there = (str(place / name) for place in places if (place / name / "config.json").is_file())
        return name if name in named else next(there, name)

    rewards = tuple(
        reward.model_copy(update={"function": found(reward.function), "model": model(reward.model)})
        for reward in phase.rollout.rewards
    )
    rollout = phase.rollout.model_copy(update={"rewards": rewards})
    distill = phase.distill and phase.distill.model_copy(update={"teacher": model(phase.distill.teacher)})
    general = phase.replay.general_file and str(folder / phase.replay.general_file)
    replay = phase.replay.model_copy(update={"general_file": general})
    return phase.model_copy(update={"rollout": rollout, "distill": distill, "replay": replay})


__all__ = [
    "TRAINS_ON",
    "Lora",
    "MethodName",
    "Phase",
    "Plan",
    "Replay",
    "Reward",
    "by_content",
    "load_plan",
    "shipped_plans",
]
