import pytest
from tilth.core.errors import DataError
from tilth.core.records import Question
from tilth.eval.compare import compare, together
from tilth.eval.difference import paired_difference
from tilth.eval.evaluation import Answer, Evaluation, Settings


def evaluation(before: dict[str, str], after: dict[str, str]) -> Evaluation:
    """Leaf -> a string of 1 for a right answer and 0 for a wrong one, for both models."""
    asked = [Question.new(leaf, f"{leaf} {place}?", ("x",)) for leaf in before for place in range(len(before[leaf]))]
    answers = {
        name: dict(zip((question.id for question in asked), map(_answer, "".join(marks.values())), strict=True))
        for name, marks in (("old", before), ("new", after))
    }
    settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
    return Evaluation(settings=settings, models={"old": "a", "new": "b"}, questions=tuple(asked), answers=answers)


def _answer(mark: str) -> Answer:
    return Answer(text=mark, outcome="right" if mark == "1" else "wrong", exact=mark == "1", f1=float(mark))


def test_a_copy_with_other_questions_has_their_scores():
    found = evaluation({"up": "01", "down": "11"}, {"up": "11", "down": "00"})
    assert (found.leaves, found.rate("new", "up").correct) == (("down", "up"), 2)
    half = found.model_copy(update={"questions": found.questions[:1]})
    assert (half.leaves, half.rate("new", "up").total, half.of_leaf("down")) == (("up",), 1, ())
    assert found == evaluation({"up": "01", "down": "11"}, {"up": "11", "down": "00"})


def test_findings():
    found = evaluation(
        {"up": "0" * 12, "down": "1" * 12, "same": "110011001100", "shuffled": "111111000000"},
        {"up": "1" * 10 + "00", "down": "0" * 11 + "1", "same": "110011001100", "shuffled": "000000111111"},
    )
    leaves = ["same", "up", "down", "shuffled", "skill"]
    results = compare(found, "old", "new", leaves, significance=0.05)
    assert [(result.leaf, result.verdict) for result in results] == [
        ("same", "no change shown"),
        ("up", "learned"),
        ("down", "forgotten"),
        ("shuffled", "no change shown"),
        ("skill", "not measured"),
    ]
    same, up, down, shuffled, skill = results
    assert (up.before.correct, up.after.correct, len(up.gained), len(up.lost)) == (0, 10, 10, 0)
    assert (len(down.gained), len(down.lost)) == (0, 11)
    assert (len(shuffled.gained), len(shuffled.lost), same.p_value) == (6, 6, 1)
    assert up.p_value == pytest.approx(3 * 2 / 2**10)  # second of four, after "down"
    assert (skill.after.total, skill.p_value) == (0, 1)


def test_one_leaf_is_learned_by_six_gains_and_two_leaves_are_not():
    six, none = "1" * 6, "0" * 6
    alone = compare(evaluation({"a": none}, {"a": six}), "old", "new", ["a"], significance=0.05)
    assert [result.verdict for result in alone] == ["learned"]
    both = evaluation({"a": none, "b": none}, {"a": six, "b": none})
    assert compare(both, "old", "new", ["a", "b"], significance=0.05)[0].verdict == "no change shown"


def test_unknown_model():
    with pytest.raises(DataError, match="'newer' was not evaluated, only old, new"):
        compare(evaluation({"a": "0"}, {"a": "1"}), "old", "newer", ["a"], significance=0.05)


def test_sentence():
    (result,) = compare(evaluation({"a": "0" * 12}, {"a": "1" * 12}), "old", "new", ["a"], significance=0.05)
    numbers = "12 gained, 0 lost, p < 0.001; +100.0 points, 90 %: +63.2 to +100.0"
    assert result.sentence == f"a: learned, 12 of 12 right, 0 of 12 before ({numbers})"
    (stricter,) = compare(evaluation({"a": "0" * 12}, {"a": "1" * 12}), "old", "new", ["a"], significance=0.005)
    assert "+100.0 points, 99 %: +28.8 to" in stricter.numbers


def test_leaves_together_have_one_difference():
    found = evaluation({"a": "0" * 12, "b": "1" * 12, "c": ""}, {"a": "1" * 9 + "000", "b": "1" * 11 + "0", "c": ""})
    group = together("both", found, "old", "new", ["a", "b", "c"], significance=0.05, seed=1)
    assert group
    assert (group.leaves, group.before.correct, group.after.correct) == (("a", "b"), 12, 20)
    assert (group.difference.gained, group.difference.lost, group.difference.total) == (9, 1, 24)
    assert group.p_value == pytest.approx(2 * 11 / 2**10)
    assert group.difference == paired_difference(9, 1, 24, level=0.9)
    assert together("none", found, "old", "new", ["c"], significance=0.05, seed=1) is None


def test_a_question_of_two_leaves_is_one_of_each_and_counts_once_together():
    """A leaf that is there twice would show with three questions what takes six."""
    asked = [Question.new(leaf, f"{place}?", ("x",)) for leaf in ("a", "b") for place in range(3)]
    settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
    answers = {name: {each.id: _answer(mark) for each in asked} for name, mark in (("old", "0"), ("new", "1"))}
    found = Evaluation(settings=settings, models={"old": "a", "new": "b"}, questions=tuple(asked), answers=answers)
    assert [len(item.gained) for item in compare(found, "old", "new", ["a", "b"], significance=0.05)] == [3, 3]
    both = together("both", found, "old", "new", ["a", "b"], significance=0.05, seed=1)
    assert both is not None
    assert (both.leaves, both.difference.gained, both.difference.total, both.after.total) == (("a", "b"), 3, 3, 3)
    assert both.p_value == 0.25


def test_questions_of_one_document_count_less_than_questions_of_many():
    """Eight leaves lose one question each, or one leaf loses eight: the second is less sure to be all that is lost."""
    names = [f"leaf {number}" for number in range(8)]
    before = dict.fromkeys(names, "1" * 12)
    lows = [
        together("all", each, "old", "new", names, significance=0.05, seed=1)
        for each in (
            evaluation(before, dict.fromkeys(names, "0" + "1" * 11)),
            evaluation(before, before | {"leaf 3": "0" * 8 + "1" * 4}),
        )
    ]
    spread, together_lost = (group.difference for group in lows if group)
    assert spread.value == together_lost.value
    assert spread.low == paired_difference(0, 8, 96, level=0.9).low
    assert together_lost.low < spread.low - 0.03
