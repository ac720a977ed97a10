"""Numbers, moments and texts of others as the page shows them."""

from __future__ import annotations

import re
from datetime import UTC

from markupsafe import Markup
from pydantic import AwareDatetime

from ...core.rate import Rate

_LONGEST_TEXT = 2_000
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(value: str) -> str:
    """Control characters, and what no XML may hold, made visible."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", value.replace("\r\n", "\n"))


def text(value: str) -> str:
    """A text as the page shows it: control characters made visible, the end of a very long one counted, not shown."""
    shown = clean(value)
    rest = len(shown) - _LONGEST_TEXT
    return shown if rest <= 0 else f"{shown[:_LONGEST_TEXT]} … ({rest:,} more characters)"


def leaf(name: str) -> Markup:
    """A leaf's id, which may break after its slashes and underscores."""
    parts = Markup("<wbr>").join(re.split(r"(?<=[/_])", name))
    return Markup('<span class="leaf">{}</span>').format(parts)


def interval(rate: Rate) -> str:
    """Both ends, in percent."""
    return f"{100 * rate.low:.0f}\N{EN DASH}{100 * rate.high:.0f} %"


def points(share: float) -> str:
    """A difference in percentage points, with its sign."""
    whole = round(100 * share)
    return f"{whole:+}".replace("-", "\N{MINUS SIGN}") if whole else "0"


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def number(value: float) -> str:
    """Thousands apart; no more than four digits behind the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def money(value: float) -> str:
    """In whatever currency the prices have: a small model's answers cost fractions of a cent."""
    return f"{value:,.4f}"


def moment(value: AwareDatetime) -> str:
    """Day and minute, in UTC."""
    return f"{value.astimezone(UTC):%-d %B %Y, %H:%M} UTC"


FILTERS = {
    "leaf": leaf, "text": text, "interval": interval, "points": points, "duration": duration, "number": number,
    "moment": moment, "money": money,
}  # fmt: skip
"""By the names that the templates use."""
