"""One spelling for texts that mean the same: what answers are scored in, and held-out questions looked for in.

After SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1, and its
evaluation script): lower case, no punctuation, no articles, single spaces. Departures, each because the original calls
different answers equal or equal ones different: a decimal point stays ("3.5" is not "35"), hyphens and other marks
between words become spaces, number words become digits, "%" becomes "percent" and "n't" "not"; what tells one thing
from another stays: the letter of "vitamin A", the sign of "-5", "C++" and "C#", "x < 5" and "2 + 3", "10⁵", an emoji.
Words of scripts that write vowels as marks are whole; a sign of one that writes without spaces is a word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

QUESTION_CHARACTERS = 10_000
"""What of a question is compared with others. Nobody asks a longer one, and of some characters NFKC makes 18."""


def normalise(text: str) -> str:
    """Words in one spelling, separated by single spaces. The module says which rules apply."""
    if not text.isascii():
        text = SILENT.sub("", unicodedata.normalize("NFKC", _RAISED.sub(" ", text))).translate(_TYPOGRAPHY)
        text = _ALONE.sub(r" \g<0> ", text)
    text = _LETTER_A.sub("ª", text)
    text = _MINUS.sub("ⁱ", text)
    if "+" in text or "#" in text:
        text = _SUFFIX.sub(lambda match: match.group().translate(_KEPT), text)
    text = _OPERATORS.sub(lambda match: f" {match.group().translate(_KEPT)} ", text).lower()
    text = re.sub(r"n't\b", " not", text)
    text = text.replace("'", "").replace("%", " percent ")
    # Each pattern begins with the sign that it is about, for which the engine looks ten times faster than for what
    # stands before it.
    text = re.sub(r",(?<=\d,)(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\.(?<=[^\W\d]\.)(?=[^\W\d])", "", text)  # "p.m." and "U.S." are one word each
    text = _NO_WORD.sub(" ", text)
    words = text.split()
    words = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    text = " ".join(words).translate(_GIVEN_BACK)
    if _NUMBER_WORDS.isdisjoint(words):
        return text
    return _NUMBER.sub(lambda match: str(_number(match.group())), text)


_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "−": "-"})  # noqa: RUF001  the marks that models really write
_RAISED = re.compile("(?<=[0-9])(?=[\u00b2\u00b3\u00b9\u2070-\u208e\u00bc-\u00be\u2150-\u215e])")
"""Between a number and what NFKC would make digits of it: an exponent, an index, a fraction."""
# Signs that stay wait as letters of which NFKC leaves none.
_LETTER_A = re.compile(r"A(?<=\w A)\b")
_MINUS = re.compile(r"-(?<!\w-)(?=\d)")
_SUFFIX = re.compile(r"[^\W\d_][+#]{1,2}(?!\w)")
_KEPT = str.maketrans("+#*\u00d7/\u00f7=<>", "ⁿˢᵇᵇᶜᶜᵈᵉᶠ")
_GIVEN_BACK = str.maketrans("ªⁱⁿˢᵇᶜᵈᵉᶠ", "a-+#*/=<>")
OPERATOR = (
    r"[+*\u00d7/\u00f7=<>](?<=[\w)=<>!] .)(?==? [\w(-])|[+*\u00d7\u00f7](?<=\d.)(?=\d)|=(?<=[\w)] [=<>!].)(?= [\w(-])"
)
"""What reckons or compares: with a space at both sides, or between two digits."""
_OPERATORS = re.compile(OPERATOR)
MARKS = (
    "\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09cd"
    "\u0a01-\u0a4d\u0a81-\u0acd\u0b01-\u0b4d\u0b82-\u0bcd\u0c00-\u0c4d\u0c81-\u0ccd\u0d00-\u0d4d"
    "\u0d81-\u0ddf\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ece\u0f18-\u0f3f\u0f71-\u0f84\u102b-\u103e"
    "\u17b4-\u17d3"
)
"""Of scripts that write vowels as marks: they are part of a word."""
SILENT = re.compile("[\u00ad\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u200b-\u200f\u2060\u2066-\u2069]")
"""What stands in a word for some writers and for others not: soft hyphens, points of Arabic and Hebrew, directions."""
EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_ALONE = re.compile(f"[\u3040-\u30ff\u3400-\u9fff{EMOJI}]")
"""Words by themselves: signs of scripts that write without spaces, and emoji."""
_NO_WORD = re.compile(rf"[^\w\s{MARKS}{EMOJI}](?:(?<!\.)|(?<!\d\.)|(?!\d))|_")
_ARTICLES = frozenset({"a", "an", "the"})

_UNITS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {
    **dict(zip(_UNITS.split(), range(20), strict=True)),
    **dict(zip(_TENS.split(), range(20, 100, 10), strict=True)),
}
_NUMBER_WORDS = frozenset({*_VALUES, "hundred", "thousand"})
_ONES = "|".join(_UNITS.split()[:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS.split())})(?: (?:{_ONES}))?|{'|'.join(reversed(_UNITS.split()))})"
_BELOW_1000 = rf"(?:(?:(?:{_ONES}) )?hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_NUMBER = re.compile(rf"\b(?:(?:{_BELOW_1000} )?thousand(?: (?:and )?{_BELOW_1000})?|{_BELOW_1000})\b")


def _number(words: str) -> int:
    """The value of number words below a million: "three hundred and forty" is 340."""
    total = current = 0
    for word in words.split():
        if word == "thousand":
            total, current = (current or 1) * 1000, 0
        elif word == "hundred":
            current = (current or 1) * 100
        elif word != "and":
            current += _VALUES[word]
    return total + current


def content_words(normalised: str) -> list[str]:
    """The words of a normalised text that carry meaning, without endings, question words among them; in English."""
    return [_stem(word) for word in normalised.split() if word not in _FUNCTION_WORDS]


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    """A language has fewer words than a million samples have: each is looked at once."""
    return _ENDING.sub("", _SAME.get(word, word))


_LIST_OF_FUNCTION_WORDS = """
is are was were be been being am do does did has have had will would can could shall should may might must
of in on at to for by from with into as than and that this these those there it its they them their his her he she
you your i we our please
"""
_FUNCTION_WORDS = frozenset(_LIST_OF_FUNCTION_WORDS.split())
_SAME = {"which": "what", "whom": "who", "whose": "who"}
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")
"""Cut off so that "rings", "ringing" and "ring" are one word; the stem needs to be no word itself."""
