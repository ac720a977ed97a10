import pytest
from tilth.core.errors import DataError
from tilth.core.records import Question
from tilth.eval.compare import compare
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
    assert result.sentence == "a: learned, 12 of 12 right, 0 of 12 before (12 gained, 0 lost, p < 0.001)"
