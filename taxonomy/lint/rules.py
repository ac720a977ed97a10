"""The table of codes (`rules.yaml`): what each stands for, why it matters, an example wrong and right."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ...core.yaml_source import load_yaml

OneLine = Annotated[str, AfterValidator(str.strip)]


class Rule(BaseModel):
    """What one code stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, Field(pattern=r"[EW]\d{3}")]
    what: OneLine
    why: OneLine
    fixed: Literal["never", "sometimes", "always"] = "never"
    """Whether `tilth lint --fix` mends it."""
    wrong: str = ""
    right: str = ""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """What its findings are."""
        return "error" if self.code.startswith("E") else "warning"


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]


@cache
def load_rules() -> dict[str, Rule]:
    """Code -> rule, in the order of the codes."""
    table = load_yaml(Path(__file__).with_name("rules.yaml"), _Rules)
    return {rule.code: rule for rule in table.rules}
