"""Pairing the leaves that are gone with those that are new: the same leaf in another folder, edited or not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from .leaf import Leaf

_LEAST_SHARED = 0.5
"""Of all questions of two leaves: with fewer in common the one is hardly an edit of the other."""


def moves(gone: Mapping[str, str], fresh: Mapping[str, str]) -> dict[str, str]:
    """New id -> old id, from ids and fingerprints; of several with one fingerprint, the first by name is the first."""
    olds: dict[str, list[str]] = defaultdict(list)
    for leaf_id in sorted(gone, reverse=True):
        olds[gone[leaf_id]].append(leaf_id)
    return {new: olds[fresh[new]].pop() for new in sorted(fresh) if olds[fresh[new]]}


def edited_moves(gone: Mapping[str, Leaf], fresh: Mapping[str, Leaf]) -> dict[str, str]:
    """New id -> old id of leaves that share at least half of their questions, the most alike first."""
    asked_in: dict[str, list[str]] = defaultdict(list)
    before = {old: _questions(leaf) for old, leaf in gone.items()}
    for old, questions in before.items():
        for question in questions:
            asked_in[question].append(old)
    pairs: list[tuple[float, str, str]] = []
    for new, leaf in fresh.items():
        questions = _questions(leaf)
        for old, num_shared in Counter(old for question in questions for old in asked_in[question]).items():
            pairs.append((num_shared / len(questions | before[old]), old, new))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for shared, old, new in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if shared >= _LEAST_SHARED and old not in taken and new not in found:
            found[new] = old
            taken.add(old)
    return found


def _questions(leaf: Leaf) -> set[str]:
    seeds = {pair.question for seed in leaf.seed_examples for pair in seed.pairs}
    return seeds | {question.question for question in leaf.questions}
