import pytest
from tilth.core.held_out import Leak
from tilth.core.rate import wilson
from tilth.eval.compare import Comparison
from tilth.eval.gate import judge
from tilth.eval.statistics import mcnemar


def leaf(name: str, before: int, after: int, total: int = 12) -> Comparison:
    """A leaf whose score moved by plain gains or plain losses."""
    gained, lost = max(0, after - before), max(0, before - after)
    p_value = mcnemar(gained, lost)
    shown = "learned" if gained > lost else "forgotten"
    verdict = "not measured" if total == 0 else shown if p_value <= 0.05 else "no change shown"
    return Comparison(
        leaf=name,
        before=wilson(before, total),
        after=wilson(after, total),
        gained=tuple(f"g{number}" for number in range(gained)),
        lost=tuple(f"l{number}" for number in range(lost)),
        p_value=p_value,
        verdict=verdict,
    )


LEAK = Leak(question_id="q", sample_id="s", kind="copy", overlap=1)
UNMEASURED = leaf("new", 0, 0, total=0)


@pytest.mark.parametrize(
    ("comparisons", "changed", "leaks", "outcome", "first"),
    [
        ([leaf("new", 0, 11)], ["new"], [], "pass", "Changed leaf new: learned, 11 of 12 right, 0 of 12 before"),
        ([leaf("new", 0, 11)], ["new"], [LEAK], "fail", "Contamination: 1 held-out question(s) stand in 1"),
        ([leaf("new", 2, 5)], ["new"], [], "inconclusive", "it rose, but not by enough"),
        ([leaf("new", 2, 2)], ["new"], [], "fail", "nothing was learned"),
        ([leaf("new", 5, 3)], ["new"], [], "fail", "nothing was learned"),
        ([leaf("new", 12, 12)], ["new"], [], "inconclusive", "the parent left 0 questions to learn"),
        ([leaf("new", 11, 11)], ["new"], [], "inconclusive", "the parent left 1 question to learn"),
        ([leaf("new", 11, 10)], ["new"], [], "fail", "nothing was learned"),
        ([leaf("new", 0, 11), leaf("old", 12, 11)], ["new"], [], "pass", "Changed leaf new"),
        ([leaf("new", 0, 11), leaf("old", 12, 4)], ["new"], [], "fail", "Other leaf old: forgotten, 4 of 12 right"),
        ([leaf("new", 12, 4)], ["new"], [], "fail", "Changed leaf new: forgotten"),
        ([leaf("new", 0, 3), leaf("old", 12, 4)], ["new"], [], "fail", "Other leaf old"),
        ([leaf("new", 0, 11), leaf("two", 0, 3)], ["new", "two"], [], "inconclusive", "Changed leaf two"),
        ([UNMEASURED, leaf("old", 12, 12)], ["new"], [], "pass", "Changed leaf new: not measured"),
        ([UNMEASURED], ["new"], [], "inconclusive", "Nothing was measured"),
        ([], [], [], "inconclusive", "Nothing was measured"),
    ],
)
def test_verdicts(comparisons, changed, leaks, outcome, first):
    verdict = judge(comparisons, changed=changed, leaks=leaks, significance=0.05)
    assert verdict.outcome == outcome
    assert first in verdict.reasons[0]
    assert verdict.passed == (outcome == "pass")


def test_every_leaf_has_its_reason():
    comparisons = [leaf("new", 0, 11), leaf("old", 12, 11), leaf("skill", 0, 0, total=0)]
    verdict = judge(comparisons, changed=["new", "skill"], leaks=[], significance=0.05)
    assert verdict.reasons == (
        "Changed leaf new: learned, 11 of 12 right, 0 of 12 before (11 gained, 0 lost, p < 0.001).",
        "Changed leaf skill: not measured, it has no held-out questions.",
        "Other leaf old: no change shown, 11 of 12 right, 12 of 12 before (0 gained, 1 lost, p = 1.000).",
    )
