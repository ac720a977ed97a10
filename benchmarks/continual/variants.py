"""The ways to train that are compared: a shipped plan each, with its replay as it is or changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    joint: bool = False
    """All leaves in one cycle: the upper bound."""
    seed: int = SEED

    def load(self) -> Plan:
        """The plan that it trains by. Raises ConfigError."""
        plan = load_plan(self.plan)
        if self.times == 1 and self.source == "earlier_cycles" and self.general:
            return plan
        return Plan(phases=tuple(_replaying(phase, self) for phase in plan.phases if phase.method == "sft"))


VARIANTS = (
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
)
"""In the order in which they are run."""


def _replaying(phase: Phase, variant: Variant) -> Phase:
    """The phase with as many samples of earlier contributions as the variant has; of the rest stay as many."""
    replay = phase.replay
    amounts = {
        variant.source: replay.earlier_cycles * variant.times,
        "earlier_phases": replay.earlier_phases,
        "general": replay.general * variant.general,
    }
    whole = 1 - replay.shares + sum(amounts.values())
    shares = {source: round(amount / whole, 4) for source, amount in amounts.items()}
    return phase.model_copy(update={"replay": Replay.model_validate(shares)})
