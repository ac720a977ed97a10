"""The page that lists the cycles of a workspace, and the links from one cycle's page to others: only when served."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from pydantic import AwareDatetime

from ...core.rate import Rate
from ...core.records import Record
from ..gate import Outcome
from .page import own_file, template_of
from .plots import interval_bar


class CycleRow(Record):
    """One cycle of the list."""

    number: int
    finished_at: AwareDatetime | None = None
    """None: it is open."""
    has_page: bool = False
    outcome: Outcome | None = None
    """What the gate said."""
    released: str = ""
    """The release that came of it; empty: none."""
    before: Rate | None = None
    """All held-out questions of the taxonomy's leaves, by the model before."""
    after: Rate | None = None
    """The same by the candidate."""
    changed: Sequence[str] = ()
    damage: str = ""
    """Why nothing more can be told of it."""


def render_index(title: str, cycles: Sequence[CycleRow]) -> str:
    """The list as an HTML document, in the order given."""
    return template_of("index.jinja").render(title=title, cycles=cycles, bar=interval_bar, style=own_file("style.css"))


def with_links(page: str, previous: int, following: int) -> str:
    """A cycle's page with links to the list and to its neighbours; 0 where there is none."""
    links = [Markup('<a href="../">All cycles</a>')]
    link = Markup('<a href="{0}">{1} {0}</a>')
    links += [link.format(number, word) for number, word in ((previous, "← Cycle"), (following, "→ Cycle")) if number]
    nav = Markup('<nav class="cycles" aria-label="Cycles">{}</nav>\n').format(Markup(" ").join(links))
    return page.replace("<body>\n", f"<body>\n{nav}", 1)
