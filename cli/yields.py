"""What `tilth generate` tells of the leaves that it made: what came out of each, what the steps asked, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..core.config import Config
from ..llm.endpoint import identity
from ..sdg.coverage import Sentence, share_touched
from ..sdg.store import Entry, Manifest
from .options import count_leaves, shown_path
from .terminal import printable, room, table


def row_of(entry: Entry, manifest: Manifest, covered: Mapping[str, list[Sentence]]) -> dict[str, object]:
    """An entry as JSON. `covered` as in `coverage_of`; empty for one that was there before."""
    return {
        "leaf": entry.leaf,
        "samples": entry.samples,
        "samples_by_kind": manifest.samples_by_kind,
        "preferences": manifest.preferences.model_dump() if manifest.preferences else None,
        "tests": manifest.tests,
        "guesses": {form: guesses.model_dump() for form, guesses in manifest.guesses.items()},
        "rejects": entry.rejects,
        "rejects_by_reason": manifest.rejects_by_reason,
        "failed": len(manifest.failures),
        "reused": entry.reused,
        "paid": 0 if entry.reused else manifest.requests.paid,
        "steps": {} if entry.reused else {step: use.model_dump() for step, use in manifest.steps.items()},
        "folder": str(entry.folder),
        "coverage": _share(covered),
    }


def print_yield(
    entries: Sequence[Entry], manifests: list[Manifest], covered: Mapping[str, Mapping[str, list[Sentence]]]
) -> None:
    """What came out of each leaf, over all new ones what the steps asked, and what failed."""
    rows: list[list[object]] = []
    for entry, manifest in zip(entries, manifests, strict=True):
        share = _share(covered.get(entry.leaf, {}))
        touched = "" if share is None else f"{100 * share:.0f} %"
        paid, note = (0, "reused") if entry.reused else (manifest.requests.paid, _shares(_made(manifest)))
        rows.append([entry.leaf, entry.samples, entry.rejects, len(manifest.failures), paid, touched, note])
    print(table(rows, ["leaf", "samples", "rejects", "failed", "paid", "coverage", ""], cells=room()))
    _print_steps([manifest for entry, manifest in zip(entries, manifests, strict=True) if not entry.reused])
    _print_failures(entries, manifests)


def _print_steps(new: list[Manifest]) -> None:
    """What each step asked for the new leaves, and why samples were dropped."""
    if not new:
        return
    steps = sorted({step for manifest in new for step in manifest.steps})
    asked = {step: [manifest.steps[step] for manifest in new if step in manifest.steps] for step in steps}
    rows = [
        [step, *(sum(getattr(use, field) for use in asked[step]) for field in ("asked", "paid", "failed"))]
        for step in steps
    ]
    print()
    print(table(rows, ["step", "asked", "paid", "failed"]))
    reasons: Counter[str] = Counter()
    for manifest in new:
        reasons.update(manifest.rejects_by_reason)
    if reasons:
        print(f"rejected: {_shares(dict(reasons.most_common()))}")
    _print_bias(new)


def _print_failures(entries: Sequence[Entry], manifests: list[Manifest]) -> None:
    """Rows that have no answer: what is complete is not made again by itself, so they are told of each time."""
    folders = [entry.folder for entry, manifest in zip(entries, manifests, strict=True) if manifest.failures]
    if not folders:
        return
    failures = [failure for manifest in manifests for failure in manifest.failures]
    first = f"{failures[0].source.leaf}: {failures[0].step}: {failures[0].reason}"
    print(printable(f"failed: {len(failures):,}, the first is {first}"))
    more = " and the like" if len(folders) > 1 else ""
    print(f"to ask again what was refused, remove {shown_path(folders[0])}{more}, then run `tilth generate`")


def print_made_otherwise(entries: Sequence[Entry], manifests: list[Manifest], config: Config) -> None:
    """Leaves that were there already, and that these settings would make otherwise: seed and judge name no folder."""
    judge = identity(config.judge or config.teacher)
    otherwise = sum(
        entry.reused and (manifest.seed != config.seed or manifest.judge not in {"", judge})
        for entry, manifest in zip(entries, manifests, strict=True)
    )
    if otherwise:
        what = f"made with another seed or judge: {count_leaves(otherwise)}"
        print(f"{what}; to make them anew remove their folders in .tilth/store")


def _share(covered: Mapping[str, list[Sentence]]) -> float | None:
    """The share of a leaf's sentences that have samples; None where it has no documents or they were not looked at."""
    sentences = [sentence for found in covered.values() for sentence in found]
    return share_touched(sentences) if sentences else None


def _made(manifest: Manifest) -> dict[str, int]:
    """All that came out, by kind."""
    pairs, tests = manifest.preferences.pairs if manifest.preferences else 0, sum(manifest.tests.values())
    return {
        **manifest.samples_by_kind,
        **({"preference": pairs} if pairs else {}),
        **({"test": tests} if tests else {}),
    }


def _print_bias(manifests: list[Manifest]) -> None:
    """Whether pairs lean to the longer answer, and what the base model knew of the held-out questions."""
    if paired := [manifest.preferences for manifest in manifests if manifest.preferences]:
        count = sum(bias.pairs for bias in paired)
        longer = sum(bias.chosen_longer * bias.pairs for bias in paired) / count
        print(f"preference: of {count} pairs {longer:.0%} have the longer answer chosen")
    for form in sorted({form for manifest in manifests for form in manifest.guesses}):
        guesses = [manifest.guesses[form] for manifest in manifests if form in manifest.guesses]
        right, asked = sum(each.right for each in guesses), sum(each.asked for each in guesses)
        by_chance = f" ({guesses[0].chance:.0%} by chance)" if guesses[0].chance else ""
        print(f"test: the base model knew {right} of {asked} {form.replace('_', ' ')} answers{by_chance}")


def _shares(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
