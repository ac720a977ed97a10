"""A leaf: one `qna.yaml` and the documents that it names, the same record for every version of the file."""

from __future__ import annotations

import posixpath
from typing import Any, Literal, NamedTuple

from ..core.errors import TaxonomyError
from ..core.fingerprint import bytes_sha256, fingerprint
from ..core.records import Question, Record
from ..core.yaml_source import Problem, YamlSource
from . import formats
from .globs import matching
from .qna import LeafProblems, parse_qna
from .schema import (
    QNA_NAME,
    HeldOutQuestion,
    KnowledgeSeed,
    KnowledgeSeedV3,
    KnowledgeV3,
    KnowledgeV4,
    Qna,
    SkillSeed,
    SkillV4,
)
from .source import Source

LeafKind = Literal["knowledge", "skill", "grounded_skill", "foundational"]


class SeedPair(Record):
    """A hand-written question and its answer."""

    question: str
    answer: str


class SeedExample(Record):
    """A context and what is asked about it; a skill's seed has exactly one pair, a freeform one's context is empty."""

    context: str
    pairs: tuple[SeedPair, ...]


class DocumentSpec(Record):
    """Where a leaf's documents are: `files` of this repository, or `patterns` at a `commit` of another `repo`."""

    files: tuple[str, ...] = ()
    repo: str = ""
    commit: str = ""
    patterns: tuple[str, ...] = ()


class Leaf(Record):
    """One leaf. All its texts are stripped of the space around them."""

    id: str
    """The folder's path from the repository's root."""
    kind: LeafKind
    title: str
    """The folder's own name in words."""
    version: int
    created_by: str
    task_description: str
    """What a skill does; empty for knowledge."""
    domain: str
    document_outline: str
    seed_examples: tuple[SeedExample, ...]
    documents: DocumentSpec | None
    questions: tuple[Question, ...]
    """Held out: shown to no model before the evaluation."""
    fingerprint: str
    """Of what the leaf says and its files' bytes; not of its path, its version, or how the YAML is written."""


class LoadedLeaf(NamedTuple):
    """A leaf with the YAML that it came from, where the place of every value is known."""

    leaf: Leaf
    yaml: YamlSource


def read_leaf(source: Source, leaf_id: str) -> Leaf:
    """The leaf in the folder `leaf_id`. Raises TaxonomyError; LeafProblems where `qna.yaml` or a document is wrong."""
    return load_leaf(source, leaf_id).leaf


def load_leaf(source: Source, leaf_id: str) -> LoadedLeaf:
    """As `read_leaf`, with the places of the values."""
    path = f"{leaf_id}/{QNA_NAME}"
    qna, yaml = parse_qna(source.read(path), path)
    spec = _spec(qna)
    digests = _document_digests(source, leaf_id, spec, yaml) if spec else []
    return LoadedLeaf(_leaf(leaf_id, qna, spec, digests), yaml)


def document_files(source: Source, leaf_id: str, spec: DocumentSpec) -> list[str]:
    """The paths that a leaf's `document.files` name, in the order of the entries, each once."""
    files = source.files()
    return list(dict.fromkeys(path for entry in spec.files for path in matching(from_root(leaf_id, entry), files)))


def from_root(leaf_id: str, entry: str) -> str:
    """The pattern of a `document.files` entry, seen from the root; one that begins with `../` leaves the repository."""
    return posixpath.normpath(entry.lstrip("/") if entry.startswith("/") else f"{leaf_id}/{entry}")


def _document_digests(source: Source, leaf_id: str, spec: DocumentSpec, yaml: YamlSource) -> list[str]:
    """The hashes of the leaf's own documents. Raises LeafProblems for every entry that cannot be read."""
    problems: list[Problem] = []
    digests: dict[str, str] = {}
    for index, entry in enumerate(spec.files):
        key = ("document", "files", index)
        paths = matching(from_root(leaf_id, entry), source.files())
        found = entry_problem(leaf_id, entry, paths)
        for path in paths if found is None else ():
            try:
                data = source.read(path)
            except TaxonomyError as error:
                found = found or unread_problem(path, error)
                continue
            digests[path] = bytes_sha256(formats.as_kept(path, data))
            found = found or content_problem(path, data)
        if found is not None:
            problems.append(Problem(*yaml.place(key), found[1], key, found[0]))
    if problems:
        raise LeafProblems(yaml.name, problems)
    return list(digests.values())


def entry_problem(leaf_id: str, entry: str, paths: list[str]) -> tuple[str, str] | None:
    """The kind of problem and its message, or None."""
    if from_root(leaf_id, entry).split("/", 1)[0] == "..":
        return "document_escape", f"the document {entry!r} is outside the repository; copy it into the leaf's folder"
    if not paths:
        what = f"no file of the repository matches {entry!r} (links and ignored files do not count)"
        return "document_missing", f"{what}; start it at the leaf's folder, or with / at the repository's root"
    for path in paths:
        if problem := formats.suffix_problem(path):
            return "document_format", f"{path!r} {problem}"
    return None


def content_problem(path: str, data: bytes) -> tuple[str, str] | None:
    """The kind of problem and its message, or None. Nothing is converted for it."""
    problem = formats.content_problem(path, data)
    return ("document_format", f"{path!r} {problem}") if problem else None


def unread_problem(path: str, error: TaxonomyError) -> tuple[str, str]:
    """The kind of problem and its message, for a document that its source does not give."""
    return "document_format", f"{path!r}: {error.what}" + (f"; {error.fix}" if error.fix else "")


def _leaf(leaf_id: str, qna: Qna, spec: DocumentSpec | None, digests: list[str]) -> Leaf:
    knowledge = isinstance(qna, KnowledgeV3 | KnowledgeV4)
    held_out = qna.test_questions if isinstance(qna, SkillV4 | KnowledgeV4) else []
    questions = tuple(_question(leaf_id, item) for item in held_out)
    asked = [(each.question, each.answers, *([each.options] if each.options else [])) for each in questions]
    seeds = tuple(_seed(seed) for seed in qna.seed_examples)
    content: dict[str, Any] = {
        "kind": _kind(leaf_id, seeds),
        "created_by": qna.created_by.strip(),
        "task_description": "" if knowledge else qna.task_description.strip(),
        "domain": qna.domain.strip() if knowledge else "",
        "document_outline": qna.document_outline.strip() if knowledge else "",
        "seed_examples": [seed.model_dump(mode="json") for seed in seeds],
        "documents": spec.model_dump(mode="json") if spec else None,
    }
    return Leaf(
        id=leaf_id,
        title=leaf_id.rsplit("/", 1)[-1].replace("_", " ").strip().capitalize(),
        version=qna.version,
        questions=questions,
        fingerprint=fingerprint([content, asked, digests]),
        **content,
    )


_SHORT_ANSWER_WORDS = 12
"""A longer answer has no one wording; the reference is then an example that the judge is shown."""


def _question(leaf_id: str, item: HeldOutQuestion) -> Question:
    answer = item.answer.strip()
    return Question.new(
        leaf_id,
        item.question.strip(),
        _answers(answer, item.accept),
        _answers(answer, item.wrong) if item.wrong else (),
        judged=not (item.accept or item.wrong) and ("\n" in answer or len(answer.split()) > _SHORT_ANSWER_WORDS),
        must_pass=item.must_pass,
    )


def _answers(answer: str, others: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(variant.strip() for variant in (answer, *others)))


def _seed(seed: SkillSeed | KnowledgeSeed | KnowledgeSeedV3) -> SeedExample:
    pairs = [seed] if isinstance(seed, SkillSeed) else seed.questions_and_answers
    stripped = tuple(SeedPair(question=pair.question.strip(), answer=pair.answer.strip()) for pair in pairs)
    return SeedExample(context=seed.context.strip(), pairs=stripped)


def _kind(leaf_id: str, seeds: tuple[SeedExample, ...]) -> LeafKind:
    match leaf_id.split("/", 1)[0]:
        case "knowledge":
            return "knowledge"
        case "foundational_skills":
            return "foundational"
        case _:
            return "grounded_skill" if seeds[0].context else "skill"


def _spec(qna: Qna) -> DocumentSpec | None:
    if not isinstance(qna, KnowledgeV3 | KnowledgeV4):
        return None
    own = qna.document
    files = () if isinstance(qna, KnowledgeV3) else tuple(qna.document.files)
    return DocumentSpec(files=files, repo=own.repo.strip(), commit=own.commit.strip(), patterns=tuple(own.patterns))
