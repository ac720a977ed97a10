"""The review of proposals: what a person's keys make of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tilth.cli.review import missing, review
from tilth.taxonomy.leaf import SeedExample, SeedPair
from tilth.taxonomy.scaffold import Draft


def pair(number: int) -> SeedPair:
    return SeedPair(question=f"What is thing {number}?", answer=f"answer {number}")


PROPOSED = Draft(
    domain="mills",
    document_outline="A mill.",
    seed_examples=tuple(
        SeedExample(context=f"Passage {n}.", pairs=tuple(pair(10 * n + i) for i in range(3))) for n in range(2)
    ),
    held_out=(pair(20), SeedPair(question="what is thing 10", answer="answer 10")),
)


def typist(*lines: str, end: type[BaseException] = EOFError) -> Callable[[str, str], str]:
    """Someone who types these lines, and then stops; an empty line leaves what is to be edited as it is."""
    left = list(lines)

    def ask(prompt: str, text: str) -> str:
        if not left:
            raise end
        return left.pop(0) or text

    return ask


def test_accepted_edited_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["e", "water mills", "d", "a", "d", "e", "", "another answer", "n", "a"]
    kept = review(PROPOSED, typist(*keys))
    assert (kept.domain, kept.document_outline) == ("water mills", "")
    edited = SeedPair(question=pair(2).question, answer="another answer")
    assert [seed.pairs for seed in kept.seed_examples] == [(pair(0), edited)]
    assert kept.held_out == (pair(20),)
    assert missing(kept, knowledge=True) == "4 seed example(s), 1 question(s) of a seed example"
    shown = capsys.readouterr().out
    assert "  | Passage 1." in shown
    assert "Seed example 2 of 2" in shown


def test_a_held_out_question_that_an_accepted_seed_asks_is_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    kept = review(PROPOSED, typist(*"aa" + "aaa" + "add" + "a"))
    assert kept.held_out == (pair(20),)
    assert "what is thing 10" not in capsys.readouterr().out


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_whatever_ends_the_review_keeps_what_was_accepted(end: type[BaseException]) -> None:
    kept = review(PROPOSED, typist(*"aaad", end=end))
    assert kept.seed_examples == (SeedExample(context="Passage 0.", pairs=(pair(0),)),)
    assert kept.held_out == ()


def test_quitting_and_keys_that_mean_nothing() -> None:
    kept = review(PROPOSED, typist("x", "", "?", "a", "A ", "q"))
    assert (kept.domain, kept.document_outline, kept.seed_examples) == ("mills", "A mill.", ())


def test_what_a_terminal_would_obey_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = SeedPair(question="What\x1b[2J?", answer="\x07")
    review(Draft(seed_examples=(SeedExample(context="", pairs=(hostile,)),)), typist("d"))
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert "\x07" not in out


def test_a_whole_draft_lacks_nothing() -> None:
    pairs = (pair(1), pair(2), pair(3))
    seeds = tuple(SeedExample(context="c", pairs=pairs) for _ in range(5))
    assert missing(Draft(seed_examples=seeds, held_out=(pair(4),)), knowledge=True) == ""
    assert missing(Draft(), knowledge=False) == "5 seed example(s)"
