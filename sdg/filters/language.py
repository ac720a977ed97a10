"""The language of a text, told without a model: by its script, and of Latin script by its function words.

Where it cannot be told (a name, a formula, code, a few words) it is "", and nothing is dropped for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from ...core.records import Sample
from ..words import words
from .drop import Drop, Filter

_FUNCTION_WORDS = {
    "English": """the of and to in is was are were that it for on with as at by an be this which who what when where how
        why has had have does did from or not their his her its they he she been than into there would about""",
    "German": """der die das und ist in den von zu mit dem des ein eine einer eines nicht auch auf für wie was wer wann
        wo warum wurde wird sind war im am zum zur es sie er welche welcher welches hat haben bei nach als aus""",
    "French": """le la les de des du et est un une en dans que qui quel quelle quels quelles pour par sur au aux ne pas
        il elle ils sont était été où quand comment pourquoi combien ce cette ces son sa ses avec se""",
    "Spanish": """el la los las de del es un una en que qué quién cuál cuándo dónde cómo cuántos por para con se su sus
        no al lo fue son era como más está ha tiene este esta pero desde hasta donde cuando entre sobre muy""",
    "Italian": """il lo la gli le di del della dei delle un una in che chi quale quando dove come perché quanti per con
        non si al alla nel nella da dal dalla alle sono era fu ha più questo questa anche""",
    "Portuguese": """os as de do da dos das um uma em no na nos nas que quem qual quando onde como por para com não se
        ao foi são era mais seu sua está tem este esta pelo pela até também""",
    "Dutch": """de het een en van is in op te dat die voor met zijn niet aan er om ook als bij naar door werd was wie
        wat waar wanneer hoe waarom welke heeft hebben deze dit uit over""",
    "Swedish": """och att det som en ett är av för på med den till inte har de om var vem vad när hur varför vilken
        vilket från vid han hon men så kan ska blev hade detta denna""",
    "Polish": """na do że się nie jest są to jak co kto kiedy gdzie dlaczego który która które ile był była było dla od
        po przez jego jej ich oraz ale czy został została tego jako""",
}
_SETS = {name: frozenset(said.split()) for name, said in _FUNCTION_WORDS.items()}
_WEIGHTS = {word: 1 / sum(word in said for said in _SETS.values()) for words_ in _SETS.values() for word in words_}
"""A word of several languages speaks for none of them alone."""
_LATIN = "LATIN"
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Han", "KATAKANA": "Han"}
"""Japanese and Chinese are not told apart: a title in Japanese may have Chinese signs only."""
_FEWEST_HITS, _MARGIN = 2, 1.5
_FEWEST_LETTERS = 3

_LETTERS = re.compile(r"[^\W\d_]")


def language(some_words: Iterable[str]) -> str:
    """The language of words as `sdg.words.words` gives them, or its script where that is not Latin; "" if unsure."""
    known = list(some_words)
    scripts = Counter(_script(letter) for word in known for letter in _LETTERS.findall(word))
    script, count = scripts.most_common(1)[0] if scripts else ("", 0)
    if count < _FEWEST_LETTERS or 2 * count <= scripts.total():
        return ""
    return _latin(known) if script == _LATIN else script.capitalize()


def _script(letter: str) -> str:
    if letter.isascii():
        return _LATIN
    name = unicodedata.name(letter, "?").split(maxsplit=1)[0]
    return _SCRIPTS.get(name, name)


def _latin(known: list[str]) -> str:
    """The language with more function words there than any other by half; one word often is no sign."""
    counts = Counter(word for text in known for word in text.split("'") if len(word) > 1)  # "A, B or C" is no French
    hits = {name: sum(_WEIGHTS[word] * min(counts[word], 3) for word in said) for name, said in _SETS.items()}
    (best, most), (_, second) = Counter(hits).most_common(2)
    different = len(_SETS[best].intersection(counts))
    return best if different >= _FEWEST_HITS and most >= _MARGIN * second else ""


def same_language(passage: str) -> Filter:
    """Drop a question or an answer in another language than the passage.

    Only words that are not in the passage count, so what it quotes, names and formulas harm nobody. Of the 66 pairs of
    knowledge and the 200 grounded seeds (tables, contracts, code) of the two public trees it drops none.
    """
    there = words(passage)
    spoken, known = language(there), frozenset(there)

    def is_same(sample: Sample) -> Drop | None:
        if spoken:
            for text in (sample.question, sample.answer):
                other = language(word for word in words(text) if word not in known)
                if other and other != spoken:
                    return Drop("other_language", other)
        return None

    return is_same
