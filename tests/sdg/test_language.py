# ruff: noqa: RUF001  signs of other scripts look like Latin ones
from __future__ import annotations

import pytest
from tilth.core.records import Provenance, Sample
from tilth.sdg.filters import same_language
from tilth.sdg.filters.language import language
from tilth.sdg.words import words

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")
TEXTS = {
    "English": "The tower is built of green slate, and a stair leads from the door to the lamp room.",
    "German": "Der Turm ist aus grünem Schiefer gebaut, und eine Treppe führt von der Tür zum Lampenraum.",
    "French": "La tour est construite en ardoise verte, et un escalier mène de la porte à la salle de la lampe.",
    "Spanish": "La torre está hecha de pizarra verde, y una escalera lleva desde la puerta hasta el cuarto del farol.",
    "Italian": "La torre è fatta di ardesia verde, e una scala porta dalla porta alla stanza della lampada.",
    "Portuguese": "A torre é feita de ardósia verde, e uma escada leva da porta até a sala da lâmpada no alto.",
    "Dutch": "De toren is gebouwd van groene leisteen, en een trap leidt van de deur naar de kamer van het licht.",
    "Swedish": "Tornet är byggt av grön skiffer, och en trappa leder från dörren till rummet med den stora lampan.",
    "Polish": "Wieża jest zbudowana z zielonego łupku, a schody prowadzą od drzwi do pokoju, który jest na górze.",
    "Cyrillic": "Башня построена из зелёного сланца, и лестница ведёт от двери в комнату с лампой.",
    "Han": "塔は緑の粘板岩で造られ、階段が扉から灯室へ続いている。",
    "Greek": "Ο πύργος είναι χτισμένος από πράσινο σχιστόλιθο.",
    "Arabic": "البرج مبني من الأردواز الأخضر، ويقود الدرج من الباب إلى غرفة المصباح.",
    "Hangul": "탑은 녹색 점판암으로 지어졌고 계단은 문에서 등실로 이어진다.",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_sentence_tells_its_language(name: str) -> None:
    assert language(words(TEXTS[name])) == name


@pytest.mark.parametrize(
    "text",
    ["", "1874", "Ilse Quandt", "Las Vegas", "x = a * b + c", "for i in range(3): print(i)", "A, B, C, D and E", "É"],
)
def test_what_has_no_language_tells_none(text: str) -> None:
    assert language(words(text)) in {"", "English"}


def pair(question: str, answer: str) -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE)


def test_a_pair_in_another_language_is_dropped() -> None:
    keep_or_drop = same_language(TEXTS["English"])
    question = "What is the tower built of?"
    assert keep_or_drop(pair(question, "green slate")) is None
    for answer in ("绿色的板岩，塔是用它建的", "Der Turm ist aus Schiefer", "из зелёного сланца"):
        drop = keep_or_drop(pair(question, answer))
        assert drop is not None
        assert drop.reason == "other_language"
    assert keep_or_drop(pair("Woraus ist der Turm gebaut und was ist das?", "slate")) == ("other_language", "German")
    assert same_language(TEXTS["Han"])(pair("What is the tower built of and who built it?", "粘板岩")) is not None


def test_what_the_passage_quotes_names_and_formulas_are_no_other_language() -> None:
    passage = "The German saying is: Wer nicht wagt, der nicht gewinnt. The tower has the sign 灯台 on its door. α + β."
    for answer in ("Wer nicht wagt, der nicht gewinnt", "灯台", "α + β = γ", "Zürich", "El Niño", "∑ xᵢ²"):
        assert same_language(passage)(pair("What is the saying of the tower?", answer)) is None


@pytest.mark.parametrize("passage", ["", "| 1 | 2 |\n| 3 | 4 |", "def ring(bell): return bell.sound()", "Ilse Quandt"])
def test_where_the_passage_has_no_language_nothing_is_dropped(passage: str) -> None:
    assert same_language(passage)(pair("Was ist das und wer hat es gebaut?", "从未")) is None
