"""`tilth show`: one leaf: what it says, how it is cut, what was made of it, and what releases know of it."""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import TaxonomyError, TilthError, nearest
from ..core.workspace import Workspace
from ..cycle.basis import documents_cache
from ..cycle.overview import Score, scores_over_releases
from ..cycle.releases import releases
from ..sdg.coverage import Sentence, coverage_of
from ..sdg.generate import Planned, plan, read_chunks
from ..sdg.store import open_entry, read_manifest, read_rejects
from ..taxonomy.chunks import Chunk
from ..taxonomy.documents import mirrored_files
from ..taxonomy.leaf import Leaf, read_leaf
from ..taxonomy.schema import QNA_NAME
from ..taxonomy.source import WorkingTree
from ..taxonomy.tree import leaf_ids
from .options import Json, Set, open_workspace, print_json
from .scores import rate_text
from .terminal import columns, printable, room, table
from .tree import path_in_taxonomy

_MOST_SHOWN = 12
"""Questions of one list; the file has them all."""


def show(
    name: Annotated[
        str, typer.Argument(metavar="LEAF", help="Its path, from here or from the taxonomy's root, or the end of it.")
    ],
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    as_json: Json = False,
) -> None:
    """Show one leaf: what it says, its chunks, its samples, its scores over the releases.

    The leaf is that of the working tree; its samples are those made of what it says now.
    """
    workspace = open_workspace(overrides)
    source = WorkingTree(workspace.root)
    leaf = read_leaf(source, _leaf_id(name, workspace.root, source))
    [planned] = plan([leaf], workspace.config, workspace.store)
    chunks, fault = _chunks(planned, source, workspace)
    made = _samples(planned)
    covered = _coverage(planned, source, workspace) if made and chunks else {}
    scores = scores_over_releases(workspace, leaf.id)
    trained = [
        release.number
        for release in releases(workspace)
        if leaf.fingerprint in {dataset.leaf_fingerprint for dataset in release.datasets}
    ]
    if as_json:
        shown = {path: [each.model_dump(mode="json") for each in sentences] for path, sentences in covered.items()}
        print_json(_as_json(leaf, chunks, fault, made, scores, trained) | {"coverage": shown})
        return
    _print_leaf(leaf)
    _print_chunks(leaf, chunks, fault)
    _print_samples(planned, made)
    _print_coverage(covered)
    _print_releases(leaf, scores, trained)


def _leaf_id(name: str, root: Path, source: WorkingTree) -> str:
    """The id of the leaf that is meant. Raises TaxonomyError, with the nearest, when there is none."""
    known = leaf_ids(source)
    wanted = name.removesuffix(QNA_NAME).rstrip("/")
    if wanted not in known and Path(wanted).exists():
        wanted = path_in_taxonomy(Path(wanted), root)
    alike = [leaf_id for leaf_id in known if f"/{leaf_id}".endswith(f"/{wanted}")]
    if wanted in known:
        return wanted
    if len(alike) > 1:
        raise TaxonomyError(f"{len(alike)} leaves end in {wanted!r}", fix=nearest("", alike))
    if not alike:
        raise TaxonomyError(f"there is no leaf {name!r}", fix=_nearest(wanted, known))
    return alike[0]


def _nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant: a leaf with nearly this path, or of nearly this last name, or with this in its path."""
    if difflib.get_close_matches(name, known, n=1):
        return nearest(name, known)
    by_name = {leaf_id.rsplit("/", 1)[-1]: leaf_id for leaf_id in known}
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1], by_name, n=1)
    if close:
        return f"did you mean {by_name[close[0]]!r}?"
    holding = [leaf_id for leaf_id in known if name and name in leaf_id]
    return nearest("", holding) if holding else "`tilth tree` shows them all"


def _chunks(planned: Planned, source: WorkingTree, workspace: Workspace) -> tuple[list[Chunk], str]:
    """The leaf's chunks, or why they cannot be shown. Nothing is fetched for it."""
    cache, spec = documents_cache(workspace), planned.leaf.documents
    if spec and spec.repo and mirrored_files(spec.repo, spec.commit, cache) is None:
        return [], "they are not fetched yet; `tilth generate` fetches them"
    try:
        return read_chunks(planned, source, workspace.config, cache), ""
    except TilthError as error:
        return [], str(error)


def _samples(planned: Planned) -> dict[str, dict[str, int]] | None:
    """Kind -> how many were accepted and rejected; None where none are made."""
    if not planned.complete:
        return None
    accepted = read_manifest(planned.folder).samples_by_kind
    entry = open_entry(planned.folder, planned.leaf.id, reused=True)
    rejected = Counter(reject.sample.kind for reject in read_rejects(entry))
    kinds = dict.fromkeys([*accepted, *rejected])
    return {kind: {"accepted": accepted.get(kind, 0), "rejected": rejected.get(kind, 0)} for kind in kinds}


def _coverage(planned: Planned, source: WorkingTree, workspace: Workspace) -> dict[str, list[Sentence]]:
    """Document -> its sentences, with how many samples touch each."""
    entry = open_entry(planned.folder, planned.leaf.id, reused=True)
    return coverage_of(planned.leaf, entry, source, workspace.config, documents_cache(workspace))


def _print_leaf(leaf: Leaf) -> None:
    print(printable(leaf.id))
    print(printable(f"  {leaf.kind.replace('_', ' ')}, version {leaf.version}, by {leaf.created_by}"))
    for name, text in (
        ("domain", leaf.domain),
        ("outline", leaf.document_outline),
        ("task", leaf.task_description),
    ):
        if text:
            _print_text(f"{name:9}", text)
    pairs = [pair for seed in leaf.seed_examples for pair in seed.pairs]
    many = f", with {len(pairs)} questions" if len(pairs) > len(leaf.seed_examples) else ""
    print(f"\nseed examples: {len(leaf.seed_examples)}{many}")
    _print_questions([(pair.question, pair.answer) for pair in pairs])
    print(f"\nheld-out questions: {len(leaf.questions)}")
    _print_questions([(question.question, question.answers[0]) for question in leaf.questions])


def _print_questions(pairs: list[tuple[str, str]]) -> None:
    width = min(columns(sys.stdout), 120) - 3
    for question, answer in pairs[:_MOST_SHOWN]:
        print("  " + textwrap.shorten(printable(f"{question}  -> {answer}"), width, placeholder=" …"))
    if len(pairs) > _MOST_SHOWN:
        print(f"  … and {len(pairs) - _MOST_SHOWN} more")


def _print_text(name: str, text: str) -> None:
    width = min(columns(sys.stdout), 110) - 1
    print(textwrap.fill(printable(text), width, initial_indent=f"  {name} ", subsequent_indent=" " * (len(name) + 3)))


def _print_chunks(leaf: Leaf, chunks: list[Chunk], fault: str) -> None:
    if leaf.documents is None:
        return
    spec = leaf.documents
    where = ", ".join(spec.files) or f"{', '.join(spec.patterns)} of {spec.repo} at {spec.commit[:12]}"
    print(f"\ndocuments: {printable(where)}")
    if fault:
        _print_text("not shown:", fault)
        return
    rows = [
        [f"  {chunk.heading or chunk.document}", chunk.num_tokens, f"{chunk.span[0]}-{chunk.span[1]}"]
        for chunk in chunks[: 2 * _MOST_SHOWN]
    ]
    print(table(rows, [f"  chunk ({len(chunks)} in all)", "tokens, about", "characters"], cells=room()))
    for chunk in chunks:
        if chunk.too_long:
            place = f"{chunk.document}, characters {chunk.span[0]}-{chunk.span[1]}"
            _print_text("over-long:", f"{place}: a table or a block of code is never cut; split it in the document")


def _print_samples(planned: Planned, made: dict[str, dict[str, int]] | None) -> None:
    print(f"\nsamples by the recipe {planned.recipe.name}:")
    if made is None:
        print("  none of what the leaf says now; once it is committed, `tilth generate` makes them")
        return
    rows = [[f"  {kind}", count["accepted"], count["rejected"]] for kind, count in made.items()]
    print(table(rows, ["  kind", "accepted", "rejected"]))


def _print_coverage(covered: dict[str, list[Sentence]]) -> None:
    sentences = [(path, sentence) for path, found in covered.items() for sentence in found]
    if not sentences:
        return
    untouched = [(path, sentence) for path, sentence in sentences if not sentence.samples]
    touched = len(sentences) - len(untouched)
    print(f"\ncoverage: {touched} of {len(sentences)} sentences have samples ({100 * touched / len(sentences):.0f} %)")
    for path, sentence in untouched[:_MOST_SHOWN]:
        _print_text("none of:", f"{path}, characters {sentence.span[0]}-{sentence.span[1]}: {sentence.text}")
    if len(untouched) > _MOST_SHOWN:
        print(f"  … and {len(untouched) - _MOST_SHOWN} more")


def _print_releases(leaf: Leaf, scores: list[Score], trained: list[int]) -> None:
    names = ", ".join(f"release {number}" for number in trained) or "none yet"
    print(f"\nreleases trained on what it says now: {names}")
    if scores:
        print(table([[f"  {each.model}", rate_text(each.rate), each.finding] for each in scores], _SCORE_HEADERS))
        print("  right answers to held-out questions, with 95 % Wilson intervals")
    elif not leaf.questions:
        print("  it has no held-out questions: nobody can tell whether a release learned it")


_SCORE_HEADERS = ["  model", "right answers", ""]


def _as_json(
    leaf: Leaf,
    chunks: list[Chunk],
    fault: str,
    made: dict[str, dict[str, int]] | None,
    scores: list[Score],
    trained: list[int],
) -> dict[str, Any]:
    return {
        "leaf": leaf.model_dump(mode="json"),
        "chunks": [chunk.model_dump(mode="json") for chunk in chunks],
        "chunks_fault": fault or None,
        "samples": made,
        "releases": trained,
        "learned_by": next((each.model for each in scores if each.finding == "learned"), None),
        "scores": [{"model": each.model, **each.rate.model_dump(), "finding": each.finding or None} for each in scores],
    }
