"""tilth grows a model from a taxonomy: contributions in git become data, a trained student, a proof, a release.

What the loop does is callable: `Workspace.open("garden").cycle()` (docs/python.md). A name is imported when it
is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.errors import CheckFailed, ConfigError, DataError, ModelError, TaxonomyError, TilthError
    from .core.progress import Progress, SilentProgress
    from .core.records import Preference, Question, Reject, Sample
    from .cycle.explain import CycleOutlook, Explained
    from .cycle.overview import LeafState
    from .cycle.prune import Prunable
    from .cycle.release_diff import ReleaseDiff
    from .cycle.releases import Release
    from .cycle.run import CycleResult
    from .cycle.verbs import Workspace
    from .cycle.verify import Verified
    from .eval.evaluation import Evaluation
    from .llm.budget import Budget, BudgetSpent
    from .llm.chat import Conversation
    from .sdg.forecast import Forecast
    from .sdg.store import Entry
    from .sdg.unmade import NotComplete
    from .taxonomy.changes import Changes
    from .taxonomy.lint import Finding

__all__ = [
    "Budget",
    "BudgetSpent",
    "Changes",
    "CheckFailed",
    "ConfigError",
    "Conversation",
    "CycleOutlook",
    "CycleResult",
    "DataError",
    "Entry",
    "Evaluation",
    "Explained",
    "Finding",
    "Forecast",
    "LeafState",
    "ModelError",
    "NotComplete",
    "Preference",
    "Progress",
    "Prunable",
    "Question",
    "Reject",
    "Release",
    "ReleaseDiff",
    "Sample",
    "SilentProgress",
    "TaxonomyError",
    "TilthError",
    "Verified",
    "Workspace",
    "__version__",
]

_ERRORS = ("CheckFailed", "ConfigError", "DataError", "ModelError", "TaxonomyError", "TilthError")
_HOMES = {
    **dict.fromkeys(_ERRORS, "core.errors"),
    **dict.fromkeys(("Progress", "SilentProgress"), "core.progress"),
    **dict.fromkeys(("Preference", "Question", "Reject", "Sample"), "core.records"),
    **dict.fromkeys(("Budget", "BudgetSpent"), "llm.budget"),
    **dict.fromkeys(("CycleOutlook", "Explained"), "cycle.explain"),
    "Changes": "taxonomy.changes",
    "Conversation": "llm.chat",
    "CycleResult": "cycle.run",
    "Entry": "sdg.store",
    "Evaluation": "eval.evaluation",
    "Finding": "taxonomy.lint",
    "Forecast": "sdg.forecast",
    "LeafState": "cycle.overview",
    "NotComplete": "sdg.unmade",
    "Prunable": "cycle.prune",
    "Release": "cycle.releases",
    "ReleaseDiff": "cycle.release_diff",
    "Verified": "cycle.verify",
    "Workspace": "cycle.verbs",
}
"""Where each name is defined."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
