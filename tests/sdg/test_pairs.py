"""Which graded answers make a pair, and whether pairs lean to the longer answer."""

from __future__ import annotations

import pytest
from tilth.core.records import BY_HAND, Candidate, Preference, Provenance
from tilth.sdg.filters import Drop
from tilth.sdg.pairs import choose, length_bias

SOURCE = Provenance(leaf="a", leaf_fingerprint="b", commit="c", recipe="d", recipe_fingerprint="e", teacher="f")


def candidates(*scores: float, lengths: tuple[int, ...] = (), sides: str = "") -> tuple[Candidate, ...]:
    """One for each score, its answer its number; with `lengths`, of so many words; `s`trong and `w`eak by `sides`."""
    names = {"s": "strong", "w": "weak", "": ""}
    return tuple(
        Candidate.model_validate(
            {
                "answer": " ".join([str(number)] * (lengths[number] if lengths else 1)),
                "model": "m",
                "side": names[sides[number : number + 1]],
                "score": score,
            }
        )
        for number, score in enumerate(scores)
    )


def numbers(found: tuple[Candidate, Candidate] | Drop) -> tuple[str, str]:
    assert not isinstance(found, Drop)
    return found[0].answer.split()[0], found[1].answer.split()[0]


def test_rejected_is_not_the_worst_but_what_lies_two_deviations_below_the_mean() -> None:
    scores = (9, 8, 8, 8, 8, 8, 8, 8, 7, 7, 7, 4, 1)  # mean 7.0, deviation 2.1: 2.8 is looked for
    assert numbers(choose(candidates(*scores), margin=1)) == ("0", "11")
    assert numbers(choose(candidates(9, 6, 3), margin=1)) == ("0", "2")  # of three nothing is that far down


@pytest.mark.parametrize(("scores", "score"), [((7, 7), "7 against 7"), ((8, 7.5, 7.2), "8 against 7.5")])
def test_ties_are_refused(scores: tuple[float, ...], score: str) -> None:
    assert choose(candidates(*scores), margin=1) == Drop("tie", score)


def test_a_margin_is_enough_and_what_is_nearer_is_passed_over() -> None:
    assert numbers(choose(candidates(8, 7, 7.5), margin=1)) == ("0", "1")
    assert numbers(choose(candidates(8, 7.9, 7.9, 7.9, 7), margin=1)) == ("0", "4")


def test_of_equally_good_ones_the_shorter_and_a_rejected_one_of_its_length() -> None:
    found = choose(candidates(9, 9, 3, 3, lengths=(12, 5, 30, 6)), margin=1)
    assert numbers(found) == ("1", "3")


def test_who_saw_less_is_never_chosen_and_who_saw_more_never_rejected() -> None:
    assert numbers(choose(candidates(9, 2, 5, sides="ssw"), margin=1)) == ("0", "2")
    assert choose(candidates(6, 9, sides="sw"), margin=1) == Drop("tie", "6 against 9")


def test_what_a_person_wrote_is_chosen_however_it_was_graded() -> None:
    first, second, third = candidates(6, 10, 3)
    by_hand = first.model_copy(update={"model": BY_HAND})
    assert numbers(choose((by_hand, second, third), margin=1)) == ("0", "2")
    assert choose((by_hand.model_copy(update={"score": 1.0}), second, third), margin=1) == Drop("tie", "1 against 10")


@pytest.mark.parametrize("sides", ["s", "sss", "ww"])
def test_there_is_no_pair_without_two_sides(sides: str) -> None:
    found = choose(candidates(*range(len(sides)), sides=sides), margin=1)
    assert isinstance(found, Drop)
    assert found.reason == "too_few_answers"


def pair(chosen: int, rejected: int, *others: tuple[float, int]) -> Preference:
    """A pair of answers of so many words, scored 9 and 3; and other candidates by score and words."""
    rows = ((9.0, chosen), (3.0, rejected), *others)
    all_of_them = candidates(*(score for score, _ in rows), lengths=tuple(length for _, length in rows))
    return Preference.new("Q?", all_of_them[0], all_of_them[1], all_of_them, SOURCE)


def test_the_length_bias_is_told() -> None:
    bias = length_bias([pair(10, 5), pair(8, 8), pair(3, 9), pair(20, 4)])
    assert bias
    assert (bias.pairs, bias.chosen_longer) == (4, 0.625)
    assert length_bias([pair(10, 5), pair(20, 15)]).correlation == 1.0  # type: ignore[union-attr]
    assert length_bias([pair(4, 6)]).correlation == -1.0  # type: ignore[union-attr]
    assert length_bias([pair(8, 8)]).correlation is None  # type: ignore[union-attr]
    assert length_bias([]) is None


def test_the_correlation_is_that_within_questions() -> None:
    """A hard question with long answers is no bias: all its answers are long and all are bad."""
    bias = length_bias([pair(2, 2, (5.0, 4)), pair(50, 50, (9.0, 48), (3.0, 48))])
    assert bias
    assert bias.correlation is not None
    assert abs(bias.correlation) < 0.2


def test_the_record_is_trls_conversational_format_and_its_id_follows_from_the_turns() -> None:
    one = pair(2, 3)
    row = one.model_dump(mode="json")
    assert row["prompt"] == [{"role": "user", "content": "Q?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "0 0"}]
    assert row["rejected"] == [{"role": "assistant", "content": "1 1 1"}]
    assert (row["score_chosen"], row["score_rejected"], row["kind"]) == (9.0, 3.0, "preference")
    assert one.id == one.model_copy(update={"score_chosen": 8.0}).id == pair(2, 3, (5.0, 7)).id
    assert one.id != pair(2, 4).id
