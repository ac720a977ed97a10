"""The store: one folder for each (leaf fingerprint, recipe fingerprint, teacher), whole or absent.

A folder holds `samples.jsonl`, `rejects.jsonl`, `requests.txt` (the ledger keys of all answers that the flow was given,
failed ones too, one a line), `preferences.jsonl` and `tests.jsonl` where the recipe asks for them and, written last,
`manifest.json`. It is never changed and never made again. Its name says what it was made from, so a leaf that moved
finds its samples again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from .. import __version__
from ..core.atomic import new_folder, read_json, write_json, write_text
from ..core.errors import DataError
from ..core.fingerprint import file_sha256, fingerprint
from ..core.jsonl import read_records, write_records
from ..core.records import Preference, Question, Record, Reject, Sample, TokensUsed
from ..core.wording import first_fault
from ..taxonomy.leaf import Leaf
from .engine import Made
from .flow import Failure
from .flows.tests import Guesses, form, guesses
from .pairs import LengthBias, length_bias
from .recipe import Recipe

MANIFEST = "manifest.json"
SAMPLES = "samples.jsonl"
REJECTS = "rejects.jsonl"
REQUESTS = "requests.txt"
PREFERENCES = "preferences.jsonl"
TESTS = "tests.jsonl"


class Requests(Record):
    """What the making of one leaf asked of the models."""

    guessed: int = 0
    """How many were foreseen, without those to the student; 0: nobody noted it."""
    asked: int
    cached: int
    """Answered by the ledger, or together with another request that asked the same."""
    paid: int
    prompt_tokens: int
    """Of all answers used, cached ones too."""
    completion_tokens: int
    by_model: dict[str, TokensUsed] = Field(default_factory=dict[str, TokensUsed])
    """The same by the model that answered; empty: nobody noted it."""


class StepRequests(Record):
    """What one step asked, and how many of its rows ended there."""

    asked: int
    paid: int
    failed: int


class Manifest(Record):
    """What an entry was made from and what came out."""

    leaf: str
    leaf_fingerprint: str
    commit: str
    recipe: str
    recipe_fingerprint: str
    teacher: str
    judge: str
    """Empty where the recipe asks no judge."""
    seed: int
    tilth: str
    samples: int
    samples_by_kind: dict[str, int]
    rejects: int
    rejects_by_reason: dict[str, int]
    failures: tuple[Failure, ...]
    requests: Requests
    steps: dict[str, StepRequests]
    prompts: dict[str, str]
    """Fingerprint of the prompt of each step."""
    preferences: LengthBias | None = None
    """None: there are no pairs."""
    tests: dict[str, int] = Field(default_factory=dict[str, int])
    """Generated held-out questions by form."""
    guesses: dict[str, Guesses] = Field(default_factory=dict[str, Guesses])
    """By form: what the base model knew of them without the passage."""
    sha256: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """A complete folder of the store."""

    leaf: str
    """The id of the leaf as it is now."""
    leaf_fingerprint: str
    folder: Path
    samples: int
    rejects: int
    reused: bool
    """It was there before this command."""


def entry_path(store: Path, leaf: Leaf, recipe: Recipe, teacher: str) -> Path:
    """Where a new entry of a leaf is to be written."""
    return store / f"{_slug(leaf.id.rsplit('/', 1)[-1])}-{leaf.fingerprint}{_made_with(recipe, teacher)}"


def complete_entries(store: Path, recipe: Recipe, teacher: str) -> dict[str, Path]:
    """Leaf fingerprint -> the complete folder that was made from it with this recipe and teacher, whatever its name."""
    tail = _made_with(recipe, teacher)
    folders = [path.parent for path in sorted(store.glob(f"*{tail}/{MANIFEST}"), reverse=True)]
    return {folder.name.removesuffix(tail).rsplit("-", 1)[-1]: folder for folder in folders}


def _made_with(recipe: Recipe, teacher: str) -> str:
    return f"-{recipe.fingerprint}-{_slug(teacher)}"


def is_complete(folder: Path) -> bool:
    """Whether the folder was written to its end."""
    return (folder / MANIFEST).is_file()


def write_entry(folder: Path, made: Made, *, judge: str, seed: int, requests: Requests) -> None:
    """Write what came out of a leaf as one folder, the manifest last.

    Raises DataError when the disk does not take it; then there is no folder.
    """
    try:
        with new_folder(folder) as new:
            write_records(new / SAMPLES, made.samples)
            write_records(new / REJECTS, made.rejects)
            if made.job.recipe.preferences:
                write_records(new / PREFERENCES, made.preferences)
            if made.job.recipe.tests:
                write_records(new / TESTS, made.tests)
            write_text(new / REQUESTS, "".join(f"{key}\n" for key in sorted(made.tally.keys)))
            sha256 = {path.name: file_sha256(path) for path in sorted(new.iterdir())}
            manifest = _manifest(made, judge=judge, seed=seed, requests=requests, sha256=sha256)
            write_json(new / MANIFEST, manifest.model_dump(mode="json"))
    except OSError as error:
        what = f"the samples cannot be written ({error.strerror or error})"
        raise DataError(what, where=str(folder), fix="free some space; nothing that was answered is lost") from error


def open_entry(folder: Path, leaf: str, *, reused: bool) -> Entry:
    """The entry of a complete folder. Raises DataError when its manifest is missing or broken."""
    manifest = read_manifest(folder)
    return Entry(leaf, manifest.leaf_fingerprint, folder, manifest.samples, manifest.rejects, reused)


def read_manifest(folder: Path) -> Manifest:
    """What an entry's manifest says. Raises DataError when it is missing or broken."""
    path, fix = folder / MANIFEST, _REMAKE.format(folder=folder)
    try:
        return Manifest.model_validate(read_json(path, fix=fix))
    except ValidationError as error:
        raise DataError(f"not a manifest: {first_fault(error)}", where=str(path), fix=fix) from error


def read_samples(entry: Entry) -> list[Sample]:
    """The samples of an entry. Raises DataError when the file is not the one that was written."""
    return _read(entry.folder, SAMPLES, Sample)


def read_rejects(entry: Entry) -> list[Reject]:
    """The rejects of an entry. Raises DataError when the file is not the one that was written."""
    return _read(entry.folder, REJECTS, Reject)


def read_preferences(entry: Entry) -> list[Preference]:
    """The pairs of an entry; none where its recipe makes none. Raises as `read_samples`."""
    return _read_if_made(entry.folder, PREFERENCES, Preference)


def read_tests(entry: Entry) -> list[Question]:
    """The held-out questions that were made with an entry, as those of the leaf as it is now; they may be none.

    Raises as `read_samples`.
    """
    tests = _read_if_made(entry.folder, TESTS, Question)
    return [test.model_copy(update={"leaf": entry.leaf}) for test in tests]


def read_requests(entry: Entry) -> list[str]:
    """The ledger keys that an entry rests on, sorted. Raises as `read_samples`."""
    return _whole(entry.folder, REQUESTS).read_text().split()


_REMAKE = "remove the folder {folder} and run `tilth generate`, which makes it again from the ledger"

AnyRecord = TypeVar("AnyRecord", Sample, Reject, Preference, Question)


def _read_if_made(folder: Path, name: str, kind: type[AnyRecord]) -> list[AnyRecord]:
    return _read(folder, name, kind) if name in read_manifest(folder).sha256 else []


def _read(folder: Path, name: str, kind: type[AnyRecord]) -> list[AnyRecord]:
    return list(read_records(_whole(folder, name), kind))


def _whole(folder: Path, name: str) -> Path:
    """A file of an entry, as its manifest knows it."""
    path, expected = folder / name, read_manifest(folder).sha256.get(name)
    found = file_sha256(path) if path.is_file() else "nothing"
    if found != expected:
        what = f"not the file that was written (sha256 {found[:12]}, the manifest says {str(expected)[:12]})"
        raise DataError(what, where=str(path), fix=_REMAKE.format(folder=folder))
    return path


def _slug(name: str) -> str:
    """A name as a part of a folder's name; one that has to change to be that gets its hash added."""
    slug = re.sub(r"[^\w.@-]+", "_", name, flags=re.ASCII).strip(".")[:60]
    return slug if slug == name else f"{slug}_{fingerprint(name, length=8)}"


def _manifest(made: Made, *, judge: str, seed: int, requests: Requests, sha256: dict[str, str]) -> Manifest:
    job, tally = made.job, made.tally
    failed = Counter(failure.step for failure in made.failures)
    judged = job.recipe.settings.judge or job.recipe.tests or job.recipe.preferences
    return Manifest(
        leaf=job.leaf.id,
        leaf_fingerprint=job.leaf.fingerprint,
        commit=job.source.commit,
        recipe=job.recipe.name,
        recipe_fingerprint=job.recipe.fingerprint,
        teacher=job.source.teacher,
        judge=judge if judged else "",
        seed=seed,
        tilth=__version__,
        samples=len(made.samples),
        samples_by_kind=dict(Counter(sample.kind for sample in made.samples)),
        rejects=len(made.rejects),
        rejects_by_reason=dict(Counter(reject.reason for reject in made.rejects)),
        failures=tuple(made.failures),
        requests=requests,
        steps={
            step: StepRequests(asked=asked, paid=tally.paid[step], failed=failed[step])
            for step, asked in sorted(tally.asked.items())
        },
        prompts={step: job.recipe.prompts[step].fingerprint for step in sorted(tally.asked)},
        preferences=length_bias(made.preferences),
        tests=dict(Counter(form(test) for test in made.tests)),
        guesses=guesses(made.tests, made.rejects),
        sha256=sha256,
    )
