"""tilth grows a model from a taxonomy: contributions in git become data, a trained student, a proof, a release.

What the command line does is callable: `Workspace.open("garden").cycle()` (docs/python.md). A name is imported when it
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
    from .cycle.releases import Release
    from .cycle.run import CycleResult
    from .cycle.verbs import Workspace
    from .eval.evaluation import Evaluation
    from .llm.budget import Budget
    from .taxonomy.changes import Changes
    from .taxonomy.lint import Finding

__all__ = [
    "Budget",
    "Changes",
    "CheckFailed",
    "ConfigError",
    "CycleResult",
    "DataError",
    "Evaluation",
    "Finding",
    "ModelError",
    "Preference",
    "Progress",
    "Question",
    "Reject",
    "Release",
    "Sample",
    "SilentProgress",
    "TaxonomyError",
    "TilthError",
    "Workspace",
    "__version__",
]

_ERRORS = ("CheckFailed", "ConfigError", "DataError", "ModelError", "TaxonomyError", "TilthError")
_HOMES = {
    **dict.fromkeys(_ERRORS, "core.errors"),
    **dict.fromkeys(("Progress", "SilentProgress"), "core.progress"),
    **dict.fromkeys(("Preference", "Question", "Reject", "Sample"), "core.records"),
    "Budget": "llm.budget",
    "Changes": "taxonomy.changes",
    "CycleResult": "cycle.run",
    "Evaluation": "eval.evaluation",
    "Finding": "taxonomy.lint",
    "Release": "cycle.releases",
    "Workspace": "cycle.verbs",
}
"""Where each name is defined."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
