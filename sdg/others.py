"""The models beside teacher and judge that pairs and tests ask: the student as it came and as it is, two endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

from ..core.errors import ConfigError
from ..core.progress import Progress
from ..llm.ask import Gateway
from ..llm.ledger import Ledger
from ..llm.local_gateway import LocalGateway, LocalModel
from ..llm.turns import Turns
from .flow import Model
from .recipe import Recipe


@dataclass(frozen=True)
class Students:
    """The student as it came, and the current release (before the first: the same). Called only when needed."""

    base: Callable[[], LocalModel]
    current: Callable[[], LocalModel]


STUDENT_STEPS = {"tests_base": "base", "preferences_weak": "student", "student": "student"}
"""The steps that ask the student, which costs nothing, and which of the two."""


def students_needed(recipes: Iterable[Recipe]) -> set[str]:
    """Which of `base` and `student` the flows of these recipes ask."""
    parts = {part for recipe in recipes for part in recipe.prompts}
    return {name for step, name in STUDENT_STEPS.items() if step in parts}


@contextlib.asynccontextmanager
async def other_models(  # noqa: PLR0913  all that its gateways are made of
    recipes: Iterable[Recipe],
    students: Students | None,
    gateway: Callable[..., Gateway],
    ledger: Ledger,
    progress: Progress,
    turns: Turns,
    *,
    from_ledger_only: bool = False,
) -> AsyncGenerator[dict[str, Model]]:
    """What `LeafRun.others` needs for these recipes. `gateway` opens one to a server.

    Raises ConfigError when a recipe asks the student and none is given.
    """
    recipes = list(recipes)
    async with contextlib.AsyncExitStack() as stack:
        others: dict[str, Model] = {}
        for part in sorted(students_needed(recipes)):
            if students is None:
                fix = "leave out `tests.prompts.base` and `ask_student`, and use another mode than strong_weak"
                raise ConfigError(f"the recipe {recipes[0].name!r} asks the student, and there is none here", fix=fix)
            model = students.base() if part == "base" else students.current()
            same = next((other for other in others.values() if other.name == model.name), None)
            if same is None:
                same = LocalGateway(model, ledger, progress, turns, from_ledger_only=from_ledger_only)
            others[part] = same
        servers = next((recipe.preferences.models for recipe in recipes if recipe.preferences), ())
        for part, server in zip(("first", "second"), servers, strict=False):
            others[part] = await stack.enter_async_context(gateway(server, role="preferences.models"))
        yield others
