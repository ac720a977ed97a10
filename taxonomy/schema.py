"""What may stand in a `qna.yaml`: one typed model per kind and version.

Skills are read in versions 1 to 4, knowledge in 3 and 4. Versions 1 to 3 are those of the public InstructLab schema;
version 4 is ours: `document.files` and `test_questions` on top of version 3.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Section = Literal["knowledge", "compositional_skills", "foundational_skills"]
SECTIONS: tuple[Section, ...] = ("knowledge", "compositional_skills", "foundational_skills")
"""The first folder of a leaf's id; it decides which schema the leaf follows."""

QNA_NAME = "qna.yaml"
NEWEST_VERSION = 4


def _text(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PydanticCustomError("blank", "there is no text; write it")
    if not isinstance(value, str):
        raise PydanticCustomError("not_text", "must be text, not {value}; put it in quotes", {"value": str(value)[:60]})
    return value


def _at_least(least: int) -> AfterValidator:
    def check(items: list[Any]) -> list[Any]:
        if len(items) < least:
            facts = {"found": len(items), "least": least, "more": least - len(items)}
            raise PydanticCustomError("too_few", "{found} given, at least {least} needed; add {more}", facts)
        return items

    return AfterValidator(check)


Text = Annotated[str, BeforeValidator(_text)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkillSeed(_Part):
    """A question and its answer; with a context in a grounded skill."""

    question: Text
    answer: Text
    context: Text = ""


class Pair(_Part):
    """A question about a context, and its answer."""

    question: Text
    answer: Text


class PairV3(Pair):
    """As `Pair`; the public schema lets other keys stand in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KnowledgeSeedV3(_Part):
    """A passage of the document with at least three questions about it."""

    context: Text
    questions_and_answers: Annotated[list[PairV3], _at_least(3)]


class KnowledgeSeed(_Part):
    """A passage of the document with at least three questions about it."""

    context: Text
    questions_and_answers: Annotated[list[Pair], _at_least(3)]


class HeldOutQuestion(_Part):
    """A held-out question: no model sees it before the evaluation."""

    question: Text
    answer: Text
    accept: list[Text] = Field(default_factory=list)
    """Other ways to write the answer that count as right."""


class DocumentV3(_Part):
    """Documents in another git repository."""

    repo: Text
    commit: Text
    patterns: Annotated[list[Text], _at_least(1)]


class DocumentV4(_Part):
    """Documents in this repository (`files`), or in another one (`repo`, `commit`, `patterns`)."""

    files: list[Text] = Field(default_factory=list)
    """Paths or globs, from the leaf's folder; with a leading `/` from the repository's root."""
    repo: Text = ""
    commit: Text = ""
    patterns: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_origin(self) -> DocumentV4:
        remote = [bool(self.repo), bool(self.commit), bool(self.patterns)]
        if bool(self.files) == any(remote) or (any(remote) and not all(remote)):
            raise PydanticCustomError("document", "write either files, or all of repo, commit and patterns")
        return self


class _Qna(_Part):
    version: int = 1
    created_by: Text


class SkillV1(_Qna):
    """Skills without a version, or with 1."""

    task_description: str
    seed_examples: Annotated[list[SkillSeed], _at_least(1)]


class SkillV2(_Qna):
    """Skills of versions 2 and 3."""

    task_description: Text
    seed_examples: Annotated[list[SkillSeed], _at_least(5)]


class SkillV4(SkillV2):
    """Skills of version 4."""

    test_questions: list[HeldOutQuestion] = Field(default_factory=list)


class KnowledgeV3(_Qna):
    """Knowledge of version 3."""

    domain: Text
    document_outline: Text
    document: DocumentV3
    seed_examples: Annotated[list[KnowledgeSeedV3], _at_least(5)]


class KnowledgeV4(_Qna):
    """Knowledge of version 4."""

    domain: Text
    document_outline: Text
    document: DocumentV4
    seed_examples: Annotated[list[KnowledgeSeed], _at_least(5)]
    test_questions: list[HeldOutQuestion] = Field(default_factory=list)


Qna = SkillV1 | SkillV2 | SkillV4 | KnowledgeV3 | KnowledgeV4
SKILLS: dict[int, type[SkillV1 | SkillV2]] = {1: SkillV1, 2: SkillV2, 3: SkillV2, 4: SkillV4}
KNOWLEDGE: dict[int, type[KnowledgeV3 | KnowledgeV4]] = {3: KnowledgeV3, 4: KnowledgeV4}
"""Version -> schema."""
