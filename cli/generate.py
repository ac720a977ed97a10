"""`tilth generate`: bring the store up to date with the taxonomy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer

from ..core.config import Config, Prices
from ..core.errors import ConfigError, TilthError
from ..core.workspace import Workspace
from ..cycle.basis import Basis, documents_cache, read_basis
from ..cycle.students import students
from ..llm.budget import Budget
from ..llm.endpoint import identity
from ..sdg.coverage import Sentence, coverage_of, share_touched
from ..sdg.forecast import Forecast
from ..sdg.generate import bring_up_to_date, foresee
from ..sdg.store import Entry, Manifest, read_manifest
from .options import Json, Set, count_leaves, open_workspace, print_json, shown_path
from .terminal import TerminalProgress, printable, room, table


def generate(  # noqa: PLR0913  the verb's options
    max_calls: Annotated[int | None, typer.Option(min=0, metavar="N", help="Send at most N requests.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Send nothing more after N tokens, prompts included.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="Send nothing more after X, by the prices in tilth.yaml.")
    ] = None,
    ray: Annotated[
        str,
        typer.Option("--ray", metavar="ADDRESS", help="Work on a Ray cluster: its address, or `local` for one here."),
    ] = "",
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do and what it costs, and ask no model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have the teacher write samples for the committed leaves that have none yet; nothing is paid for twice.

    A budget that is spent stops it with exit code 1: the leaves that are done are kept, and so are all answers.
    """
    if ray and (max_calls, max_tokens, max_cost) != (None, None, None):
        raise TilthError("a budget is watched by one process", fix="leave --ray out, or the --max- option")
    workspace = open_workspace(overrides)
    if max_cost is not None:
        _refuse_no_prices(workspace.config)
    basis, cache = read_basis(workspace), documents_cache(workspace)
    if dry_run:
        _print_plan(workspace, basis, as_json=as_json)
        return
    progress = TerminalProgress()
    with workspace.lock():
        entries = bring_up_to_date(
            basis.leaves,
            basis.source,
            config=workspace.config,
            store=workspace.store,
            ledger=workspace.ledger,
            cache=cache,
            progress=progress,
            budget=Budget(max_calls, max_tokens, max_cost),
            ray=ray,
            students=students(workspace, basis.parent, progress),
        )
    manifests = [read_manifest(entry.folder) for entry in entries]
    covered = {
        entry.leaf: coverage_of(leaf, entry, basis.source, workspace.config, cache)
        for leaf, entry in zip(basis.leaves, entries, strict=True)
        if not entry.reused
    }
    if as_json:
        rows = [_row(entry, manifest) for entry, manifest in zip(entries, manifests, strict=True)]
        print_json([row | {"coverage": _share(covered.get(str(row["leaf"]), {}))} for row in rows])
        return
    _print_yield(entries, manifests, covered)
    _print_made_otherwise(entries, manifests, workspace.config)


def _refuse_no_prices(config: Config) -> None:
    """Raise ConfigError where no model has a price: then nothing costs anything, and the limit is never reached."""
    if all(server.prices == Prices() for server in (config.teacher, config.judge) if server):
        fix = "set `teacher: {prices: {prompt: X, completion: Y}}`, for a million tokens, or use --max-tokens"
        raise ConfigError("tilth.yaml has no prices, so no cost is ever reached", where="--max-cost", fix=fix)


def _share(covered: Mapping[str, list[Sentence]]) -> float | None:
    """The share of a leaf's sentences that have samples; None where it has no documents or they were not looked at."""
    sentences = [sentence for found in covered.values() for sentence in found]
    return share_touched(sentences) if sentences else None


def _row(entry: Entry, manifest: Manifest) -> dict[str, object]:
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
    }


def _print_yield(
    entries: list[Entry], manifests: list[Manifest], covered: Mapping[str, Mapping[str, list[Sentence]]]
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


def _print_failures(entries: list[Entry], manifests: list[Manifest]) -> None:
    """Rows that have no answer: what is complete is not made again by itself, so they are told of each time."""
    folders = [entry.folder for entry, manifest in zip(entries, manifests, strict=True) if manifest.failures]
    if not folders:
        return
    failures = [failure for manifest in manifests for failure in manifest.failures]
    first = f"{failures[0].source.leaf}: {failures[0].step}: {failures[0].reason}"
    print(printable(f"failed: {len(failures):,}, the first is {first}"))
    more = " and the like" if len(folders) > 1 else ""
    print(f"to ask again what was refused, remove {shown_path(folders[0])}{more}, then run `tilth generate`")


def _print_made_otherwise(entries: list[Entry], manifests: list[Manifest], config: Config) -> None:
    """Leaves that were there already, and that these settings would make otherwise: seed and judge name no folder."""
    judge = identity(config.judge or config.teacher)
    otherwise = sum(
        entry.reused and (manifest.seed != config.seed or manifest.judge not in {"", judge})
        for entry, manifest in zip(entries, manifests, strict=True)
    )
    if otherwise:
        what = f"made with another seed or judge: {count_leaves(otherwise)}"
        print(f"{what}; to make them anew remove their folders in .tilth/store")


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


def _print_plan(workspace: Workspace, basis: Basis, *, as_json: bool) -> None:
    forecasts = foresee(
        basis.leaves,
        basis.source,
        config=workspace.config,
        store=workspace.store,
        ledger=workspace.ledger,
        cache=documents_cache(workspace),
    )
    if as_json:
        print_json([vars(each) for each in forecasts])
        return
    if forecasts:
        rows = [[each.leaf, each.calls, each.cached, each.prompt_tokens + each.completion_tokens] for each in forecasts]
        print(table(rows, ["leaf", "requests", "in the ledger", "tokens"], cells=room()))
    complete = sum(each.complete for each in basis.planned)
    print(f"{count_leaves(len(forecasts))} to make, {complete:,} complete; {_total(forecasts)}")


def _total(forecasts: list[Forecast]) -> str:
    calls = sum(each.calls - each.cached for each in forecasts)
    tokens = sum(each.prompt_tokens + each.completion_tokens for each in forecasts)
    parts = [f"about {calls:,} requests to pay for", f"{tokens:,} tokens"]
    if cost := sum(each.cost for each in forecasts):
        parts.append(f"{cost:,.2f} by the prices in tilth.yaml")
    seconds = [each.seconds for each in forecasts if each.seconds is not None]
    if seconds and len(seconds) == len(forecasts):
        minutes = math.ceil(sum(seconds) / 60)
        parts.append(f"{minutes:,} {'minute' if minutes == 1 else 'minutes'} at the speed so far")
    return ", ".join(parts)
