"""What samples rest on, so that others can make them again: the keys of all answers, and what these keys hang on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..core.config import Config
from ..core.errors import DataError
from ..core.records import Record
from ..core.wording import first_fault
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from .generate import Planned
from .store import REQUESTS, Entry, Manifest, read_manifest, read_requests


class Origin(Record):
    """What one entry of the store was made from, and the hashes of what came out."""

    leaf: str
    leaf_fingerprint: str
    commit: str
    recipe: str
    recipe_fingerprint: str
    teacher: str
    judge: str
    """Empty where the recipe asks no judge."""
    others: tuple[str, ...]
    """Models beside these that answered: the student, or those of a recipe."""
    seed: int
    tilth: str
    refused: int
    """Requests that the model refused: they have no answer, and are asked again."""
    sha256: dict[str, str]
    """Of the files that came out."""


@dataclass(frozen=True)
class Basis:
    """All that some entries rest on."""

    keys: list[str]
    """Ledger keys, sorted."""
    origins: list[Origin]


@dataclass(frozen=True)
class Obstacle:
    """Why leaves cannot be made again just so, and what to do about it."""

    what: str
    fix: str
    leaves: tuple[str, ...]


def basis_of(entries: Sequence[Entry], ledger: Ledger) -> Basis:
    """What the entries rest on. Raises DataError when the ledger lacks an answer that one of them was made from."""
    keys: set[str] = set()
    origins: list[Origin] = []
    for entry in entries:
        asked = read_requests(entry)
        answered = {key: found.model for key in asked if (found := ledger.get(key))}
        origins.append(_origin(entry, asked, answered, ledger))
        keys |= answered.keys()
    return Basis(sorted(keys), origins)


def read_origins(made: Sequence[Mapping[str, Any]], where: str) -> list[Origin]:
    """The origins in the header of a ledger's export. Raises DataError."""
    try:
        return [Origin.model_validate(each) for each in made]
    except ValidationError as error:
        what = f"its header does not tell what was made: {first_fault(error)}"
        raise DataError(what, where=f"{where}:1", fix="get the file anew") from error


def in_store(origins: Sequence[Origin], planned: Sequence[Planned]) -> dict[str, bool]:
    """Leaves that the store has samples of -> whether these are the origin's, byte for byte. Raises DataError."""
    folders = {each.leaf.fingerprint: each.folder for each in planned if each.complete}
    there = [(origin, folders.get(origin.leaf_fingerprint)) for origin in origins]
    return {origin.leaf: _hashes(read_manifest(folder)) == origin.sha256 for origin, folder in there if folder}


def obstacles(origins: Sequence[Origin], planned: Sequence[Planned], config: Config, commit: str) -> list[Obstacle]:
    """What keeps leaves from being made again, to the byte and without a request, at `commit` with these settings."""
    here = {each.leaf.fingerprint: each for each in planned}
    leaves: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for origin in origins:
        for found in _obstacles(origin, here.get(origin.leaf_fingerprint), config, commit):
            leaves[found].append(origin.leaf)
    return [Obstacle(what, fix, tuple(concerned)) for (what, fix), concerned in leaves.items()]


def _origin(entry: Entry, asked: Sequence[str], answered: Mapping[str, str], ledger: Ledger) -> Origin:
    """`answered`: the keys of those requests that have an answer, with the model that gave it."""
    manifest = read_manifest(entry.folder)
    refused = {failure.request for failure in manifest.failures if not ledger.get(failure.request)}
    if lost := set(asked) - answered.keys() - refused:
        what = f"the ledger lacks {len(lost):,} of the {len(asked):,} answers that {entry.leaf} was made from"
        fix = f"bring back the ledger that had them, or remove {entry.folder} and pay for them again"
        raise DataError(what, where=str(ledger.path), fix=fix)
    return Origin(
        leaf=manifest.leaf,
        leaf_fingerprint=manifest.leaf_fingerprint,
        commit=manifest.commit,
        recipe=manifest.recipe,
        recipe_fingerprint=manifest.recipe_fingerprint,
        teacher=manifest.teacher,
        judge=manifest.judge,
        others=tuple(sorted(set(answered.values()) - {manifest.teacher, manifest.judge})),
        seed=manifest.seed,
        tilth=manifest.tilth,
        refused=len(refused),
        sha256=_hashes(manifest),
    )


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {name: sha256 for name, sha256 in manifest.sha256.items() if name != REQUESTS}


def _obstacles(origin: Origin, planned: Planned | None, config: Config, commit: str) -> Iterator[tuple[str, str]]:
    """(what, what to do) of one leaf."""
    if planned is None:
        what = "no leaf at this commit says what it said"
        yield what, f"check out {origin.commit}, where it does"
        return
    if planned.recipe.fingerprint != origin.recipe_fingerprint:
        what = f"the recipe was another: {origin.recipe!r} as tilth {origin.tilth} has it"
        yield what, f"set `generate: {{recipe: {origin.recipe}}}`, or use that version"
    for role, server, was in (
        ("teacher", config.teacher, origin.teacher),
        ("judge", config.judge or config.teacher, origin.judge),
    ):
        if was and (now := identity(server)) != was:
            yield f"the {role} was {was!r} and is {now!r}", f"name that model as `{role}` in tilth.yaml"
    if origin.others:
        what = f"models beside teacher and judge answered: {', '.join(origin.others)}"
        yield what, "have the same ones here, such as that release as the current one"
    if config.seed != origin.seed:
        yield f"the seed was {origin.seed} and is {config.seed}", f"set `seed: {origin.seed}` in tilth.yaml"
    if (commit, planned.leaf.id) != (origin.commit, origin.leaf):
        what = "the samples will name this commit and path, and be the same else"
        yield what, f"check out {origin.commit} for the same bytes"
    if origin.refused:
        what = f"{origin.refused:,} requests were refused, and have no answer"
        yield what, "the model is asked for them again"
