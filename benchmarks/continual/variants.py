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
    joint: bool = False
    """All leaves in one cycle: the upper bound."""
    seed: int = SEED

    def load(self) -> Plan:
        """The plan that it trains by. Raises ConfigError."""
        plan = load_plan(self.plan)
        if self.times == 1 and self.source == "earlier_cycles":
            return plan
        phases = [_replaying(phase, self.times, self.source) for phase in plan.phases if phase.method == "sft"]
        return Plan(phases=tuple(phases))


VARIANTS = (
    Variant("lab", "lab"),
    Variant("lab, replay off", "lab", times=0),
    Variant("stacked", "stacked"),
    Variant("quick", "quick"),
    Variant("lab, replay halved", "lab", times=0.5),
    Variant("lab, replay doubled", "lab", times=2),
    Variant("lab, all replayed", "lab", times=4),
    Variant("lab, replay self-generated", "lab", source="self_generated"),
    Variant("lab, joint", "lab", joint=True),
)
"""In the order in which they are run."""


def _replaying(phase: Phase, times: float, source: str) -> Phase:
    """The phase with so many samples of earlier contributions; what it replays of its own plan stays as many."""
    replay = phase.replay
    new = 1 - replay.shares
    earlier, own = replay.earlier_cycles * times / new, replay.earlier_phases / new
    whole = 1 + earlier + own
    shares = {source: round(earlier / whole, 4), "earlier_phases": round(own / whole, 4)}
    return phase.model_copy(update={"replay": Replay.model_validate(shares)})
