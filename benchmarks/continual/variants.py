"""The ways to train that are compared: a shipped plan each, with its replay as it is or changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from tilth.train.plan import Phase, Plan, load_plan
from tilth.train.settings import Replay

SEED = 42


@dataclass(frozen=True)
class Variant:
    """A plan and what is replayed of earlier contributions."""

    name: str
    plan: str
    times: float = 1.0
    """As many of their samples as the plan has it, times this."""
    source: Literal["earlier_cycles", "self_generated"] = "earlier_cycles"
    general: bool = True
    """Whether general prompts are replayed."""
    trainable: Literal["as planned", "all", "mlp"] = "as planned"
    """Which of the student's own weights are trained."""
    averages: bool = True
    """Whether each phase's model is drawn back toward its parent, as the plan has it."""
    joint: bool = False
    """All leaves in one cycle: the upper bound."""
    seed: int = SEED

    def load(self) -> Plan:
        """The plan that it trains by. Raises ConfigError."""
        plan = load_plan(self.plan)
        if self.is_as_shipped:
            return plan
        return Plan(phases=tuple(_changed(phase, self) for phase in plan.phases if phase.method == "sft"))

    @property
    def is_as_shipped(self) -> bool:
        """Whether nothing of the plan is changed."""
        replays = self.times == 1 and self.source == "earlier_cycles" and self.general
        return replays and self.averages and self.trainable == "as planned"

    @property
    def first_cycle_of(self) -> str:
        """The variant that has the same first cycle: there is nothing to replay in it but general prompts."""
        replays_only = self.general and self.averages and self.trainable == "as planned"
        if self.joint or not replays_only:
            return self.name
        return self.plan if self.seed == SEED else f"{self.plan}, seed {self.seed}"


_VARIANTS = (
    Variant("lab", "lab"),
    Variant("lab, joint", "lab", joint=True),
    Variant("lab, replay off", "lab", times=0),
    Variant("lab, general prompts off", "lab", general=False),
    Variant("stacked", "stacked"),
    Variant("quick", "quick"),
    Variant("lab, replay halved", "lab", times=0.5),
    Variant("lab, replay doubled", "lab", times=2),
    Variant("lab, replay self-generated", "lab", source="self_generated"),
    Variant("lab, seed 43", "lab", seed=43),
    Variant("lab, replay doubled, seed 43", "lab", times=2, seed=43),
    Variant("lab, averages off", "lab", averages=False),
)
VARIANTS = (
    *_VARIANTS,
    *(replace(each, name=f"{each.name}, all weights", trainable="all") for each in _VARIANTS if each.plan == "lab"),
    Variant("stacked, MLPs alone", "stacked", trainable="mlp"),
)
"""In the order in which they are run; an adapter is no part of the weights."""


def _changed(phase: Phase, variant: Variant) -> Phase:
    """The phase with as many samples of earlier contributions as the variant has; of the rest stay as many."""
    replay = phase.replay
    amounts = {
        variant.source: replay.earlier_cycles * variant.times,
        "earlier_phases": replay.earlier_phases,
        "general": replay.general * variant.general,
    }
    whole = 1 - replay.shares + sum(amounts.values())
    shares = {source: round(amount / whole, 4) for source, amount in amounts.items()}
    changes: dict[str, Any] = {"replay": Replay.model_validate(shares), "average": phase.average * variant.averages}
    return phase.model_copy(
        update=changes | ({} if variant.trainable == "as planned" else {"trainable": variant.trainable})
    )
