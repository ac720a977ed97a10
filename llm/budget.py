"""What a run may spend, over all its models: requests, tokens, money. Checked before every request that is paid for."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.config import Prices
from ..core.errors import CheckFailed
from .completion import Completion


class BudgetSpent(CheckFailed):
    """A budget's limit is reached: nothing more is sent. What was answered is kept."""


@dataclass
class Budget:
    """Limits (None: none) and what was spent. Answers on their way when a limit is reached still come on top of it."""

    max_calls: int | None = None
    max_tokens: int | None = None
    """Prompt and completion tokens together."""
    max_cost: float | None = None
    """In the currency of the prices in `tilth.yaml`."""
    calls: int = 0
    """Requests sent, refused ones too."""
    tokens: int = 0
    cost: float = 0.0
    untold: bool = False
    """Whether a server answered without saying how many tokens that took."""

    def take(self) -> None:
        """Count a request that is about to be sent. Raises BudgetSpent where a limit is reached, or never can be."""
        if self.untold and (self.max_tokens, self.max_cost) != (None, None):
            what = (
                "the server does not say how many tokens an answer takes, so no limit of tokens or cost is ever reached"
            )
            raise BudgetSpent(what, fix="limit the run by --max-calls instead; what was answered is kept")
        for name, spent, limit in (
            ("calls", self.calls, self.max_calls),
            ("tokens", self.tokens, self.max_tokens),
            ("cost", self.cost, self.max_cost),
        ):
            if limit is not None and spent >= limit:
                fix = "what was answered is kept; run again, with as much to spend or more, to go on"
                raise BudgetSpent(f"the budget is spent ({spent:,.6g} of {limit:,.6g} {name})", fix=fix)
        self.calls += 1

    def spend(self, completion: Completion, prices: Prices) -> None:
        """Count an answer that was paid for."""
        self.untold = self.untold or not completion.prompt_tokens  # every request has some
        self.tokens += completion.prompt_tokens + completion.completion_tokens
        self.cost += prices.of(completion.prompt_tokens, completion.completion_tokens)
