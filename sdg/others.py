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
from .flow import Model
from .recipe import Recipe


@dataclass(frozen=True)
class Students:
    """The student as it came, and the current release (before the first: the same). Called only when needed."""

    base: Callable[[], LocalModel]
    current: Callable[[], LocalModel]


def students_needed(recipes: Iterable[Recipe]) -> set[str]:
    """Which of `base` and `student` the flows of these recipes ask."""
    parts = {part for recipe in recipes for part in recipe.prompts}
    asked = {"base": {"tests_base"}, "student": {"preferences_weak", "student"}}
    return {name for name, steps in asked.items() if steps & parts}


def refuse_elsewhere(recipes: Iterable[Recipe]) -> None:
    """Raise ConfigError when flows of these recipes ask models that only this process can reach."""
    for recipe in recipes:
        if students_needed([recipe]) or (recipe.preferences and recipe.preferences.models):
            what = f"the recipe {recipe.name!r} asks the student, or two endpoints, which --ray cannot"
            raise ConfigError(what, where="generate.recipe", fix="leave --ray out, or use another recipe")


@contextlib.asynccontextmanager
async def other_models(
    recipes: Iterable[Recipe],
    students: Students | None,
    gateway: Callable[..., Gateway],
    ledger: Ledger,
    progress: Progress,
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
                same = LocalGateway(model, ledger, progress)
                stack.push_async_callback(same.close)
            others[part] = same
        servers = next((recipe.preferences.models for recipe in recipes if recipe.preferences), ())
        for part, server in zip(("first", "second"), servers, strict=False):
            others[part] = await stack.enter_async_context(gateway(server, role="preferences.models"))
        yield others
