# ruff: noqa: RUF001  signs of other scripts look like Latin ones
from __future__ import annotations

import pytest
from tilth.core.records import Provenance, Sample
from tilth.sdg.filters import same_language
from tilth.sdg.filters.language import script
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
    "Russian": "Башня построена из зелёного сланца, и лестница ведёт от двери в комнату с лампой.",
    "Japanese": "塔は緑の粘板岩で造られ、階段が扉から灯室へ続いている。",
    "Danish": "Tårnet er bygget af grøn skifer, og en trappe fører fra døren op til rummet med den store lampe.",
    "Norwegian": "Tårnet er bygd av grønn skifer, og en trapp går fra døra opp til rommet med den store lampa.",
    "Finnish": "Torni on rakennettu vihreästä liuskekivestä, ja portaat johtavat ovelta lamppuhuoneeseen.",
    "Turkish": "Kule yeşil arduvazdan yapılmıştır ve bir merdiven kapıdan fenerin bulunduğu odaya çıkar.",
    "Ukrainian": "Вежа збудована із зеленого сланцю, і сходи ведуть від дверей до кімнати з лампою.",
    "Greek": "Ο πύργος είναι χτισμένος από πράσινο σχιστόλιθο.",
    "Arabic": "البرج مبني من الأردواز الأخضر، ويقود الدرج من الباب إلى غرفة المصباح.",
    "Korean": "탑은 녹색 점판암으로 지어졌고 계단은 문에서 등실로 이어진다.",
}


QUESTIONS = {
    "English": "Which river flows through the middle of the town?",
    "German": "Welcher Fluss fließt mitten durch die Stadt?",
    "French": "Quelle rivière coule au milieu de la ville ?",
    "Spanish": "¿Qué río pasa por el centro de la ciudad?",
    "Italian": "Quale fiume scorre nel mezzo della città?",
    "Portuguese": "Que rio passa pelo meio da cidade?",
    "Dutch": "Welke rivier stroomt midden door de stad?",
    "Swedish": "Vilken flod rinner mitt genom staden?",
    "Polish": "Jaka rzeka płynie przez środek miasta?",
    "Russian": "Какая река течёт посреди города?",
    "Japanese": "町の真ん中をどの川が流れていますか。",
    "Danish": "Hvilken flod løber midt gennem byen?",
    "Norwegian": "Hvilken elv renner midt gjennom byen?",
    "Finnish": "Mikä joki virtaa keskellä kaupunkia?",
    "Turkish": "Şehrin ortasından hangi nehir akıyor?",
    "Ukrainian": "Яка річка тече посеред цього міста?",
    "Greek": "Ποιο ποτάμι περνάει από την πόλη;",
    "Arabic": "أي نهر يجري في وسط المدينة؟",
    "Korean": "도시 한가운데로 어떤 강이 흐릅니까?",
}
SCRIPTS = {"Russian": "CYRILLIC", "Ukrainian": "CYRILLIC", "Japanese": "HAN", "Greek": "GREEK"} | {
    "Arabic": "ARABIC",
    "Korean": "HANGUL",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_sentence_tells_its_script(name: str) -> None:
    assert script(words(TEXTS[name])) == SCRIPTS.get(name, "LATIN")


def test_a_question_is_kept_beside_its_own_language_and_dropped_beside_most_others() -> None:
    told = {passage: same_language(text) for passage, text in TEXTS.items()}
    asked = {language: pair(question, "1874") for language, question in QUESTIONS.items()}
    kept = {(passage, other) for passage in TEXTS for other in TEXTS if told[passage](asked[other]) is None}
    assert kept >= {(name, name) for name in TEXTS}
    assert (
        len(kept) <= 0.15 * len(TEXTS) ** 2
    )  # neighbours, such as Danish and Norwegian, and a passage told by neither
    assert {other for passage, other in kept if passage == "English"} <= {"English", "Dutch", "Swedish"}


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
    assert keep_or_drop(pair("Woraus ist der Turm gebaut und was ist das?", "slate")) == ("other_language", "de")
    assert same_language(TEXTS["Japanese"])(pair("What is the tower built of and who built it?", "粘板岩")) is not None


def test_what_the_passage_quotes_names_and_formulas_are_no_other_language() -> None:
    passage = "The German saying is: Wer nicht wagt, der nicht gewinnt. The tower has the sign 灯台 on its door. α + β."
    for answer in ("Wer nicht wagt, der nicht gewinnt", "灯台", "α + β = γ", "Zürich", "El Niño", "∑ xᵢ²"):
        assert same_language(passage)(pair("What is the saying of the tower?", answer)) is None


@pytest.mark.parametrize("answer", ["Las Vegas", "Reykjavik", "Tobias Renn", "Kuala Lumpur, Zürich", "x = a * b + c"])
def test_names_and_formulas_are_no_other_language(answer: str) -> None:
    assert same_language(TEXTS["English"])(pair("What is it?", answer)) is None


@pytest.mark.parametrize("passage", ["", "| 1 | 2 |\n| 3 | 4 |", "def ring(bell): return bell.sound()", "Ilse Quandt"])
def test_where_the_passage_has_no_language_nothing_is_dropped(passage: str) -> None:
    assert same_language(passage)(pair("Was ist das und wer hat es gebaut?", "从未")) is None
