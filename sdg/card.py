"""The dataset card of an export: a head for Hugging Face, then where everything comes from and how to make it again.

What contributors wrote (titles, creators, links) stands in it as plain text, whatever it looks like.
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .. import __version__
from ..core.records import BY_HAND
from ..taxonomy.attribution import Work
from .formats import PROVENANCE, Columns
from .generate import Planned
from .store import Manifest
from .tables import listed_columns


@dataclass(frozen=True)
class Part:
    """One leaf of an export."""

    planned: Planned
    manifest: Manifest
    works: Sequence[Work]
    """What its `attribution.txt` names."""
    samples: int
    """How many of its samples are in the export."""


@dataclass(frozen=True)
class Facts:
    """All that a card tells."""

    format: str
    leaf: str
    kind: str
    """What was chosen, as in `Selection`."""
    columns: Columns
    files: tuple[str, str]
    """The names of the data and of its provenance."""
    commit: str
    """Of the taxonomy."""
    commits: Sequence[str]
    """Those that samples were made at, the oldest first."""
    parts: Sequence[Part]
    samples_by_kind: Mapping[str, int]
    by_author: Mapping[str, int]
    """Samples by the `teacher` of their provenance."""
    copies: int
    ledger: str
    """The file of the answers; empty where none is there."""

    @property
    def samples(self) -> int:
        """How many there are in all."""
        return sum(self.samples_by_kind.values())


def card(facts: Facts) -> str:
    """The text of `README.md`. Equal facts give equal bytes."""
    head = yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=True, width=1000)
    sections = [_summary(facts), _columns(facts), _sources(facts), _making(facts), _rebuilding(facts)]
    return f"---\n{head}---\n\n" + "\n".join("\n".join(section) + "\n" for section in sections)


def _head(facts: Facts) -> dict[str, Any]:
    data, provenance = facts.files
    named = (("default", data, facts.columns), ("provenance", provenance, PROVENANCE))
    return {
        "license": licences(part.works for part in facts.parts),
        "pretty_name": f"Samples of a taxonomy, {facts.format}",
        "size_categories": [size_category(facts.samples)],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "tilth"],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path, _ in named
        ],
        "dataset_info": [
            {"config_name": name, "features": listed_columns(columns)} for name, _, columns in named
        ],
    }  # fmt: skip


def _summary(facts: Facts) -> Iterator[str]:
    yield "# Samples of a taxonomy\n"
    leaves = _count(len(facts.parts), "leaf", "leaves")
    yield f"{facts.samples:,} training samples from {leaves} of a taxonomy at commit `{facts.commit}`,"
    yield f"exported by tilth {__version__}. Of them {'; '.join(_authors(facts.by_author))}.\n"
    if facts.copies:
        yield f"{_count(facts.copies, 'sample')} that several leaves have stand here once.\n"
    yield "| kind | samples |\n|---|---:|"
    yield from (f"| {kind} | {number:,} |" for kind, number in sorted(facts.samples_by_kind.items()))


def _authors(numbers: Mapping[str, int]) -> Iterator[str]:
    """How many samples are whose."""
    for name, number in sorted(numbers.items()):
        if name == BY_HAND:
            yield f"people wrote {number:,}, as seed examples"
        elif name == "document":
            yield f"{number:,} are passages of the documents as they stand"
        else:
            yield f"{number:,} are the words of the model {plain(name)}, kept by filters"


def _columns(facts: Facts) -> Iterator[str]:
    data, provenance = facts.files
    own = ", ".join(f"`{name}`" for name in facts.columns)
    yield "## What is in it\n"
    unmask = (
        " `unmask`: the user's turn is to be trained too, not the assistant's alone."
        if "unmask" in facts.columns
        else ""
    )
    yield f"- `{data}`: {own}.{unmask}"
    yield f"- `{provenance}` (the configuration `provenance`): by `id`, where each sample comes from: leaf, commit,"
    yield "  document and place in it (characters), seed example, recipe, teacher, ledger keys of its answers, grades."
    yield "- `export.json`: counts, and the SHA-256 of every file."
    if facts.ledger:
        yield f"- `{facts.ledger}`: every answer of a model that the samples rest on."


def _sources(facts: Facts) -> Iterator[str]:
    yield "## Sources\n"
    yield "Licences and creators are as the leaves' `attribution.txt` tells them; leaves without one tell none.\n"
    yield "| leaf | samples | documents | works, licences, creators |\n|---|---:|---|---|"
    for part in facts.parts:
        works = "<br>".join(named(work) for work in part.works) or "not told"
        yield f"| {plain(part.planned.leaf.id)} | {part.samples:,} | {_documents(part)} | {works} |"


def _making(facts: Facts) -> Iterator[str]:
    yield "## How it was made\n"
    yield "| recipe | teacher | judge | seed | tilth |\n|---|---|---|---:|---|"
    made = {(m.recipe, m.recipe_fingerprint, m.teacher, m.judge, m.seed, m.tilth) for m in _manifests(facts)}
    for recipe, fingerprint, teacher, judge, seed, version in sorted(made):
        names = (f"{plain(recipe)} `{fingerprint}`", plain(teacher), plain(judge) or "none", str(seed), version)
        yield f"| {' | '.join(names)} |"
    yield "\n| recipe | prompt | fingerprint |\n|---|---|---|"
    prompts = {(m.recipe_fingerprint, *prompt) for m in _manifests(facts) for prompt in m.prompts.items()}
    for recipe, step, fingerprint in sorted(prompts):
        yield f"| `{recipe}` | {plain(step)} | `{fingerprint}` |"


def _rebuilding(facts: Facts) -> Iterator[str]:
    ledger = facts.ledger or "ledger.jsonl.gz"
    yield "## How to make it again\n"
    if not facts.ledger:
        yield f"Ask for the answers of the models (`tilth ledger export {ledger}`); then, in a clone of the taxonomy"
    else:
        yield "In a clone of the taxonomy"
    yield "with the seed, teacher and judge of above in `tilth.yaml`:\n\n```"
    yield f"tilth ledger import {ledger}     # says what differs"
    for commit in facts.commits:
        yield f"git checkout {commit}\ntilth generate"
    if facts.commits[-1:] != [facts.commit]:
        yield f"git checkout {facts.commit}"
    options = {"--format": facts.format, "--leaf": facts.leaf, "--kind": facts.kind}
    chosen = [part for option in options.items() if option[1] for part in option]
    yield f"{shlex.join(['tilth', 'export-data', 'DIR', *chosen])}\n```\n"
    yield "No model is asked; documents of other repositories are fetched from there. A request that is made all the"
    yield "same is for an answer whose key differs: `tilth ledger import` says why."


def _manifests(facts: Facts) -> list[Manifest]:
    return [part.manifest for part in facts.parts]


def _documents(part: Part) -> str:
    spec = part.planned.leaf.documents
    if spec is None:
        return ""
    if spec.files:
        return "<br>".join(map(plain, spec.files))
    return f"{plain(spec.repo)} at {plain(spec.commit)}: {', '.join(map(plain, spec.patterns))}"


def named(work: Work) -> str:
    """A work with its licence and creators, as one cell of a table."""
    told = [work.title, work.link, work.licence or "licence not told", work.creators]
    return "; ".join(plain(text) for text in told if text)


def licences(by_leaf: Iterable[Sequence[Work]]) -> list[str]:
    """As the hub names them: `other` is one that it has no name for, `unknown` where a leaf tells none."""
    found: set[str] = set()
    for works in by_leaf:
        told = [re.sub(r"[\s_-]+", "-", work.licence.strip().lower()) for work in works if work.licence]
        found |= {name if name in _HUB_LICENCES else "other" for name in told} or {"unknown"}
    return sorted(found)


_HUB_LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "cdla-sharing-1.0", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gfdl",
}  # fmt: skip
"""Names of the hub that a taxonomy may meet, from its documentation of dataset cards."""


def size_category(samples: int) -> str:
    """As the hub names it."""
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if samples < bound), "1M<n<10M")


def plain(text: str) -> str:
    """Text of others as one cell of a table: no line ends, no markup that does more than stress a word."""
    return re.sub(r"([\\`\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
