"""The language of a text: by its script, and among texts of one script by n-grams of its words (the package `eld`).

Where it cannot be told (a name, a formula, code, a few words) nothing is dropped for it. On 20 sentences in each of 20
languages beside passages in each, 3,566 of 3,800 in another language are dropped and none of 200 in the passage's own;
of 1,056 pairs of people and of the embedded teacher none (see docs/log.md).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ...core.records import Sample
from ..words import words
from .drop import Drop, Filter

_MARGIN = 0.3
"""By how much another language must fit better than the passage's: of those pairs the worst comes to 0.16."""
_SURE = 0.5
"""How well a passage's language must fit: prose comes to 0.5 and more, code and tables mostly to less."""
_FEWEST_WORDS = 4
"""Of fewer words many are names."""
_LATIN, _HAN = "LATIN", "HAN"
_SCRIPTS = {"CJK": _HAN, "HIRAGANA": _HAN, "KATAKANA": _HAN}
"""Japanese and Chinese are not told apart: a title in Japanese may have Chinese signs only."""
_FEWEST_LETTERS = 3

_LETTERS = re.compile(r"[^\W\d_]")


def same_language(passage: str) -> Filter:
    """Drop a question or an answer in another language than the passage; the score is its script or its ISO code.

    Only words that are not in the passage count, so what it quotes, names and formulas harm nobody.
    """
    there = words(passage)
    known, written = frozenset(there), script(there)
    fits = _fits(there)
    spoken = max((name for name in fits if fits[name] >= _SURE), key=lambda name: fits[name], default="")

    def is_same(sample: Sample) -> Drop | None:
        for text in (sample.question, sample.answer):
            left = [word for word in words(text) if word not in known]
            if other := _other_script(left, written) or (_other_language(left, spoken) if spoken else ""):
                return Drop("other_language", other)
        return None

    return is_same


def script(some_words: Iterable[str]) -> str:
    """The script of most letters of words as `sdg.words.words` gives them; "" of a few letters, or if none prevails."""
    scripts = Counter(_script(letter) for word in some_words for letter in _LETTERS.findall(word))
    name, count = scripts.most_common(1)[0] if scripts else ("", 0)
    return "" if count < _FEWEST_LETTERS or 2 * count <= scripts.total() else name


def _script(letter: str) -> str:
    if letter.isascii():
        return _LATIN
    name = unicodedata.name(letter, "?").split(maxsplit=1)[0]
    return _SCRIPTS.get(name, name)


def _other_script(left: Sequence[str], written: str) -> str:
    other = script(left) if written else ""
    return other.capitalize() if other != written else ""


def _other_language(left: Sequence[str], spoken: str) -> str:
    """The language that fits words much better than the spoken one, if any."""
    fits = _fits(left)
    best = max(fits, key=lambda name: fits[name], default=spoken)
    return best if fits.get(best, 0) - fits.get(spoken, 0) >= _MARGIN else ""


def _fits(some_words: Sequence[str]) -> Mapping[str, float]:
    """How well each language fits; none of a few words, or where signs are words."""
    telling = [word for word in some_words if len(word) > 1 and word[0].isalpha()]
    return _detector()(" ".join(telling)) if len(telling) >= _FEWEST_WORDS and script(telling) != _HAN else {}


@functools.cache
def _detector() -> Callable[[str], Mapping[str, float]]:
    from eld import LanguageDetector

    detector = LanguageDetector()

    def fits(text: str) -> Mapping[str, float]:
        return detector.detect(text).scores() or {}

    return fits
