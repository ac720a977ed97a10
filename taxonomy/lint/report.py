"""What one `qna.yaml` shows by itself: its faults, and what is needed to look for those that lie outside of it.

All of it follows from the file's bytes and its first folder, so it is kept (`cache.py`) and can be made anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...core.yaml_source import Path_, Problem, YamlSource
from ..qna import LeafProblems, parse_qna, repeated_seeds
from ..schema import QNA_NAME, DocumentV4, KnowledgeV3, KnowledgeV4, Qna, SkillSeed
from .finding import Fault
from .form import form_faults, mended
from .near_copies import Passage, sketch

MAX_CONTEXT_WORDS = 500
"""As InstructLab's contribution guide advises; longer ones leave a small teacher no room to answer."""

_CODE_OF_KIND = {
    "syntax": "E101", "tag": "E101", "text": "E101", "key": "E101", "duplicate_key": "E102",
    "extra_forbidden": "E103", "missing": "E104", "blank": "E106", "version": "E107", "too_few": "E108",
    "repeated": "E109", "mixed": "E110", "held_out": "E111", "encoding": "E112", "size": "E114", "options": "E115",
    "document": "E121",
}  # fmt: skip
"""A problem's kind -> code; a kind that is not here is a value of the wrong type."""

_MENDABLE = {"E101", "E105", "W202", "W205", "W206", "W207"}
"""Codes of which mending may remove some."""


class Named(NamedTuple):
    """A path or a pattern that the leaf names, and where."""

    text: str
    line: int
    column: int


class Report(NamedTuple):
    """One file's faults and facts. The facts of a file that cannot be used are empty, its version is 0."""

    faults: Sequence[Fault]
    version: int = 0
    files: Sequence[Named] = ()
    origin: Sequence[Named] = ()
    """The other repository and its commit, if the documents are there."""
    patterns: Sequence[Named] = ()
    passages: Sequence[Passage] = ()

    def to_json(self) -> list[Any]:
        """As lists, numbers and texts; `report_from_json` reads it."""
        passages = [(line, column, base64.b64encode(hashes).decode()) for line, column, hashes in self.passages]
        return [*self[:-1], passages]


def report_from_json(value: list[Any]) -> Report:
    """The inverse of `Report.to_json`."""
    faults, version, files, origin, patterns, passages = value
    return Report(
        [Fault(*fault) for fault in faults],
        version,
        [Named(*named) for named in files],
        [Named(*named) for named in origin],
        [Named(*named) for named in patterns],
        [Passage(line, column, base64.b64decode(hashes)) for line, column, hashes in passages],
    )


def report(data: bytes, section: str) -> Report:
    """The report on a `qna.yaml` of `data` somewhere below the folder `section`."""
    found = _report(data, section)
    if not any(fault.code in _MENDABLE for fault in found.faults):
        return found
    if (better := mended(data, section)) == data:
        return found
    left = {(fault.code, fault.line) for fault in _report(better, section).faults}
    faults = [fault._replace(fixable=(fault.code, fault.line) not in left) for fault in found.faults]
    return found._replace(faults=faults)


def _report(data: bytes, section: str) -> Report:
    try:
        qna, yaml = parse_qna(data, f"{section}/{QNA_NAME}")
    except LeafProblems as error:
        faults = [_of_problem(problem) for problem in error.problems]
        return Report(
            faults if any(problem.kind == "size" for problem in error.problems) else [*faults, *form_faults(data)]
        )
    faults = [*form_faults(data), *_long_contexts(qna, yaml)]
    repeated: set[int] = set()
    if qna.version == 1:
        repeated = set(repeated_seeds(qna))
        what = "this seed example says the same as an earlier one; change it"
        faults += [Fault("W203", *yaml.place(("seed_examples", index)), what) for index in sorted(repeated)]
    passages = [Passage(*yaml.place(key), sketch(*texts)) for key, *texts in _texts(qna) if key[1] not in repeated]
    if not isinstance(qna, KnowledgeV3 | KnowledgeV4):
        return Report(faults, qna.version, passages=passages)
    own = qna.document

    def named(text: str, *key: str | int) -> Named:
        return Named(text.strip(), *yaml.place(("document", *key)))

    return Report(
        faults,
        qna.version,
        [named(name, "files", at) for at, name in enumerate(own.files)] if isinstance(own, DocumentV4) else (),
        [named(own.repo, "repo"), named(own.commit, "commit")] if own.repo else (),
        [named(name, "patterns", at) for at, name in enumerate(own.patterns)],
        passages,
    )


def _of_problem(problem: Problem) -> Fault:
    return Fault(_CODE_OF_KIND.get(problem.kind, "E105"), problem.line, problem.column, problem.message)


def _long_contexts(qna: Qna, yaml: YamlSource) -> Iterator[Fault]:
    for index, seed in enumerate(qna.seed_examples):
        long = len(seed.context) > 2 * MAX_CONTEXT_WORDS  # a word and a space; counting words takes its time
        if long and (num_words := len(seed.context.split())) > MAX_CONTEXT_WORDS:
            what = f"the context has {num_words} words; shorten it to {MAX_CONTEXT_WORDS}, or split the seed example"
            yield Fault("W201", *yaml.place(("seed_examples", index, "context")), what)


def _texts(qna: Qna) -> Iterator[tuple[Path_, str, str]]:
    """The questions with their answers, among which near copies are looked for, and in a grounded skill the context.

    A passage with several questions, or one question asked of several texts, is as it should be.
    """
    for index, seed in enumerate(qna.seed_examples):
        if isinstance(seed, SkillSeed):
            yield ("seed_examples", index), f"{seed.question} {seed.answer}", seed.context
            continue
        for number, pair in enumerate(seed.questions_and_answers):
            yield ("seed_examples", index, "questions_and_answers", number), f"{pair.question} {pair.answer}", ""
