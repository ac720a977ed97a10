"""Reading a `qna.yaml`: its schema by kind and version, then the rules that reach over several values.

What the public InstructLab tools accept is accepted, but for seed examples of which only some have a context, and texts
of nothing but white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from ..core.errors import TaxonomyError
from ..core.normalise import QUESTION_CHARACTERS, normalise
from ..core.yaml_problem import Path_, Problem, YamlProblems, shortened
from ..core.yaml_source import YamlSource, parse_yaml
from .schema import (
    KNOWLEDGE,
    NEWEST_VERSION,
    SKILLS,
    KnowledgeSeed,
    KnowledgeSeedV3,
    KnowledgeV3,
    KnowledgeV4,
    Pair,
    Qna,
    SkillSeed,
    SkillV4,
)

Item = TypeVar("Item")
_Saying = SkillSeed | KnowledgeSeedV3 | KnowledgeSeed | Pair


class LeafProblems(TaxonomyError, YamlProblems):
    """A leaf that cannot be used; `problems` holds all that is wrong with it, the text tells the first."""


def parse_qna(data: bytes, path: str) -> tuple[Qna, YamlSource]:
    """Read the bytes of the `qna.yaml` at `path`; its first folder says which schema it follows.

    Raises LeafProblems with everything that is wrong with it.
    """
    try:
        source = parse_yaml(data, path)
        qna: Qna = source.validate(_schema(source, path.split("/", 1)[0]))
    except YamlProblems as error:
        raise LeafProblems(path, error.problems) from error
    if problems := _rule_problems(qna, source):
        raise LeafProblems(path, problems)
    return qna, source


def repeated_seeds(qna: Qna) -> list[int]:
    """The indices of seed examples that say the same as an earlier one."""
    return _repeated_parts(qna.seed_examples)


def _schema(source: YamlSource, section: str) -> type[Qna]:
    if not isinstance(source.data, dict):
        what = "the file must hold keys and values: version, created_by, seed_examples and so on"
        raise YamlProblems(source.name, [Problem(1, 1, what, (), "model_type")])
    version: Any = source.data.get("version", 1)
    schemas = KNOWLEDGE if section == "knowledge" else SKILLS
    number = type(version) in {int, float}  # 3.0 is 3 to JSON Schema, and True is neither
    if number and version in schemas:
        return schemas[version]
    if "version" not in source.data:
        what = f"knowledge without a version is version 1, which is not read any more; add 'version: {NEWEST_VERSION}'"
    elif isinstance(version, str) and version.strip().isdigit():
        what = f"version {shortened(repr(version))} is text; write the number without quotes"
    elif number and version in SKILLS:
        what = f"knowledge of version {version} is not read any more; rewrite it as version {NEWEST_VERSION}"
    else:
        what = f"version {shortened(repr(version))} is unknown; use {' or '.join(map(str, schemas))}"
    raise YamlProblems(source.name, [Problem(*source.place(("version",)), what, ("version",), "version")])


def _rule_problems(qna: Qna, source: YamlSource) -> list[Problem]:
    """What a single value cannot show: repetitions, mixed kinds, held-out questions that are no longer held out."""

    def problem(kind: str, message: str, *key: str | int) -> Problem:
        return Problem(*source.place(key), message, key, kind)

    found: list[Problem] = []
    if qna.version > 1:
        found += [
            problem("repeated", "this seed example says the same as an earlier one; change it", "seed_examples", index)
            for index in repeated_seeds(qna)
        ]
    if isinstance(qna, KnowledgeV3 | KnowledgeV4):
        found += _knowledge_problems(qna, problem)
    elif len({bool(seed.context) for seed in qna.seed_examples}) > 1:
        index = next(index for index, seed in enumerate(qna.seed_examples) if not seed.context)
        what = "some seed examples have a context and this one has none; give all of them one, or none"
        found.append(problem("mixed", what, "seed_examples", index))
    if isinstance(qna, SkillV4 | KnowledgeV4):
        found += _held_out_problems(qna, problem)
    return sorted(found, key=lambda problem: (problem.line, problem.column))


def _knowledge_problems(qna: KnowledgeV3 | KnowledgeV4, problem: Callable[..., Problem]) -> list[Problem]:
    found: list[Problem] = []
    for number, seed in enumerate(qna.seed_examples):
        for index in _repeated_parts(seed.questions_and_answers):
            key: Path_ = ("seed_examples", number, "questions_and_answers", index)
            found.append(problem("repeated", "this question and answer stand here already; change them", *key))
    what = "this pattern stands here already; remove it"
    again = _repeated(qna.document.patterns, str)
    return found + [problem("repeated", what, "document", "patterns", index) for index in again]


def _held_out_problems(qna: SkillV4 | KnowledgeV4, problem: Callable[..., Problem]) -> list[Problem]:
    seeds = {comparable(question) for question in _seed_questions(qna)}
    asked = [comparable(item.question) for item in qna.test_questions]
    again = set(_repeated(asked, str))
    found: list[Problem] = []
    for index, (question, item) in enumerate(zip(asked, qna.test_questions, strict=True)):
        place: Path_ = ("test_questions", index)
        if question in seeds:
            what = "this held-out question is a seed question too, so it proves nothing; ask it in other words"
            found.append(problem("held_out", what, *place, "question"))
        elif index in again:
            what = "this held-out question stands here already; remove it"
            found.append(problem("held_out", what, *place, "question"))
        if item.wrong and item.accept:
            what = "a question with wrong answers to choose from has one right one; remove accept, or wrong"
            found.append(problem("options", what, *place, "accept"))
        what = "this option says the same as another one; change it"
        alike = _repeated((item.answer, *item.wrong), _spelling)
        found += [problem("options", what, *place, "wrong", number - 1) for number in alike]
    return found


def _spelling(option: str) -> str:
    """An option as answers are compared; one of signs alone as it is."""
    return normalise(option) or option.strip()


def comparable(question: str) -> str:
    """A question without case, punctuation and spacing: two that are equal so are the same question."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", question[:QUESTION_CHARACTERS]).casefold()).strip()


def _seed_questions(qna: SkillV4 | KnowledgeV4) -> Iterable[str]:
    for seed in qna.seed_examples:
        pairs: Sequence[Pair | SkillSeed] = seed.questions_and_answers if isinstance(seed, KnowledgeSeed) else [seed]
        yield from (pair.question for pair in pairs)


def _repeated(items: Sequence[Item], identity: Callable[[Item], Hashable]) -> list[int]:
    seen: set[Hashable] = set()
    repeated: list[int] = []
    for index, item in enumerate(items):
        said = identity(item)
        repeated += [index] if said in seen else []
        seen.add(said)
    return repeated


def _repeated_parts(parts: Sequence[_Saying]) -> list[int]:
    """The indices of parts that say the same as an earlier one, whatever the white space in it."""
    begins = {tuple(tuple(text.split(None, 5)[:5]) for text in _texts(part)) for part in parts}
    # Texts may be long and seldom begin alike: then they need not be looked at as a whole.
    return [] if len(begins) == len(parts) else _repeated(parts, _said)


def _said(part: _Saying) -> tuple[str, ...]:
    return tuple(" ".join(text.split()) for text in _texts(part))


def _texts(part: _Saying) -> list[str]:
    if isinstance(part, SkillSeed):
        return [part.question, part.answer, part.context]
    if isinstance(part, Pair):
        return [part.question, part.answer]
    return [part.context, *(text for pair in part.questions_and_answers for text in (pair.question, pair.answer))]
