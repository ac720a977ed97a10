import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.answers import MAX_WORDS, is_correct
from tilth.core.normalise import normalise
from tilth.eval.scores import exact_match, f1, score


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("1874", ["1874"]),
        ("It was first lit in 1874.", ["1874"]),
        ("In 1874, on 3 May.", ["1874"]),
        ("May 3, 1874", ["1874"]),
        ("two hundred and twelve steps", ["212"]),
        ("The tower has 212 steps.", ["two hundred twelve steps"]),
        ("TAMSIN ORROW", ["Orrow"]),
        ("It is not oil but wax.", ["wax"]),
        ("It was not used before 1900; it is wax.", ["wax"]),
        ("It was never oil. It burns wax.", ["wax"]),
        ("Dr. Vell kept it", ["Dr. Vell"]),
        ("At dawn or dusk, in spring, the master rings it", ["master"]),
        ("at dawn or at dusk", ["dawn or at dusk"]),
        ("not before dawn", ["not before dawn"]),
        ("not before dawn", ["Not before: dawn!"]),
        ("\n\n  a flood\nUser: and then?", ["the flood of 1911", "flood"]),
        ("pans 1, 2, 3", ["1, 2, 3"]),
        ("It stands at house No. 5", ["5"]),
        ("No, it is oil.", ["oil"]),
        ("It burns wax instead of oil.", ["wax"]),
        ("without oil", ["without oil"]),
    ],
)
def test_right_answers(answer: str, accepted: list[str]):
    assert is_correct(answer, accepted)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("", ["1874"]),
        ("18745", ["1874"]),
        ("1874.5", ["1874"]),
        ("Orrow's brother", ["Orrow"]),
        ("12 or 14 metres", ["12"]),
        ("12 or 14 metres", ["14 metres"]),
        ("either the flood or the war", ["war"]),
        ("12 metres or 14 metres", ["12 metres", "12"]),
        ("10, 12, 14, 16", ["12"]),
        ("It is not wax.", ["wax"]),
        ("It isn't made of wax", ["wax"]),
        ("Maybe wax", ["wax"]),
        ("neither oil nor wax", ["wax"]),
        ("not wax, but oil", ["wax"]),
        ("I do not know\nwax", ["wax"]),
        ("dusk or dawn", ["dawn"]),
        ("the", ["an"]),
        ("wax", []),
        ("It cannot be oil.", ["oil"]),
        ("There is no oil in it", ["oil"]),
        ("It burns without oil", ["oil"]),
        ("It burns wax instead of oil", ["oil"]),
        ("It is wax rather than the oil", ["oil"]),
        ("so " * MAX_WORDS + "wax", ["wax"]),
    ],
)
def test_wrong_answers(answer: str, accepted: list[str]):
    assert not is_correct(answer, accepted)


def test_squad_scores():
    assert exact_match("The blue sash.", ["blue sash"])
    assert not exact_match("a blue sash, always", ["blue sash"])
    assert f1("a blue sash, always", ["blue sash"]) == pytest.approx(2 * 2 / (3 + 2))
    assert f1("red red", ["red"]) == pytest.approx(2 / 3)  # a repeated word counts once
    assert f1("green", ["blue sash"]) == 0
    assert f1("blue", ["green", "blue"]) == 1
    assert f1("", ["blue"]) == 0


def test_all_three_are_recorded():
    found = score("It is the blue sash", ["blue sash"])
    assert (found.correct, found.exact, found.f1) == (True, False, pytest.approx(4 / 6, abs=1e-6))


@given(st.text().filter(lambda text: len(text.splitlines()) == 1 and normalise(text) != ""))
@pytest.mark.slow
def test_an_accepted_answer_is_right(text: str):
    assert is_correct(text, [text])
    assert exact_match(text, [text])
