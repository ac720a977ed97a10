"""Every fault of a taxonomy's leaves, with its place. `read_leaf` refuses what has an error here, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from ..core.errors import TaxonomyError
from ..core.records import Record
from ..core.yaml_source import Problem
from .leaf import LoadedLeaf, load_leaf
from .qna import LeafProblems, parse_qna, repeated_seeds
from .schema import QNA_NAME
from .source import Source
from .tree import known_ids, leaf_ids

MAX_CONTEXT_WORDS = 500
"""As InstructLab's contribution guide advises; longer ones leave a small teacher no room to answer."""

CODES = {
    "E101": "the file is not valid YAML, or uses more of YAML than text, lists and keys",
    "E102": "a key stands twice in one place",
    "E103": "a key that the schema does not know",
    "E104": "a key that must be there is missing",
    "E105": "a value of the wrong type",
    "E106": "a text is empty",
    "E107": "a version that is not read",
    "E108": "too few seed examples, questions or patterns",
    "E109": "a seed example, a question or a pattern stands twice",
    "E110": "some seed examples have a context and some have none",
    "E111": "a held-out question is a seed question too, or stands twice",
    "E112": "the file cannot be read, or is not UTF-8 text",
    "E121": "the origin of the documents is incomplete or given twice",
    "E122": "a document is not there, or a pattern matches nothing",
    "E123": "a document is outside the repository",
    "E124": "a document is not readable Markdown or text",
    "W201": f"a context has more than {MAX_CONTEXT_WORDS} words",
    "W202": "spaces at the end of a line",
    "W203": "a seed example of a version 1 leaf stands twice",
    "W204": "a file that looks like a leaf stands where it is not read",
}
"""Code -> what it stands for. Codes are never given to another fault."""

_CODE_OF_KIND = {
    "syntax": "E101", "tag": "E101", "text": "E101", "key": "E101", "size": "E101", "duplicate_key": "E102",
    "extra_forbidden": "E103", "missing": "E104", "blank": "E106", "version": "E107", "too_few": "E108",
    "repeated": "E109", "mixed": "E110", "held_out": "E111", "encoding": "E112", "document": "E121",
    "document_missing": "E122", "document_escape": "E123", "document_format": "E124",
}  # fmt: skip
"""A problem's kind -> code; a kind that is not here is one of pydantic's type errors."""


class Finding(Record):
    """One fault. `line` and `column` count from 1; the text of it is one line that any editor can follow."""

    code: str
    severity: Literal["error", "warning"]
    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message}"


def lint(source: Source, ids: Iterable[str] | None = None) -> list[Finding]:
    """The findings in the leaves `ids` (None: all, and misplaced files), by place.

    Raises TaxonomyError for an id that is no leaf, never for what is in one.
    """
    findings = [finding for leaf_id in known_ids(source, ids) for finding in _leaf_findings(source, leaf_id)]
    if ids is None:
        findings += _misplaced(source)
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.column, finding.code))


def _leaf_findings(source: Source, leaf_id: str) -> Iterator[Finding]:
    path = f"{leaf_id}/{QNA_NAME}"
    try:
        data = source.read(path)
    except TaxonomyError as error:
        yield _finding("E112", path, 1, 1, error.what)
        return
    try:
        loaded = load_leaf(source, leaf_id)
    except LeafProblems as error:
        yield from (_of_problem(path, problem) for problem in error.problems)
    else:
        yield from _leaf_warnings(path, loaded, data)
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if spaces := re.search(r"(?<![ \t])[ \t]+$", line):
            yield _finding("W202", path, number, spaces.start() + 1, "spaces at the end of the line; remove them")


def _of_problem(path: str, problem: Problem) -> Finding:
    return _finding(_CODE_OF_KIND.get(problem.kind, "E105"), path, problem.line, problem.column, problem.message)


def _leaf_warnings(path: str, loaded: LoadedLeaf, data: bytes) -> Iterator[Finding]:
    for index, seed in enumerate(loaded.leaf.seed_examples):
        num_words = len(seed.context.split())
        if num_words > MAX_CONTEXT_WORDS:
            what = f"the context has {num_words} words; shorten it to {MAX_CONTEXT_WORDS}"
            yield _finding("W201", path, *loaded.yaml.place(("seed_examples", index, "context")), what)
    if loaded.leaf.version == 1:
        for index in repeated_seeds(parse_qna(data, path)[0]):
            what = "this seed example says the same as an earlier one; change it"
            yield _finding("W203", path, *loaded.yaml.place(("seed_examples", index)), what)


def _misplaced(source: Source) -> Iterator[Finding]:
    read = {f"{leaf_id}/{QNA_NAME}" for leaf_id in leaf_ids(source)}
    for path in source.files():
        if path not in read and path.rsplit("/", 1)[-1].lower() in {"qna.yaml", "qna.yml"}:
            what = "this is not read as a leaf; name it qna.yaml, in a folder below knowledge or compositional_skills"
            yield _finding("W204", path, 1, 1, what)


def _finding(code: str, path: str, line: int, column: int, message: str) -> Finding:
    severity = "error" if code.startswith("E") else "warning"
    return Finding(code=code, severity=severity, path=path, line=line, column=column, message=" ".join(message.split()))
