"""What may stand in a `qna.yaml`: one typed model per kind and version.

Skills are read in versions 1 to 4, knowledge in 3 and 4. Versions 1 to 3 are those of the public InstructLab schema;
version 4 is ours: `document.files` and `test_questions` on top of version 3. Descriptions and `json_schema_extra` are
what an editor shows and checks (editor_schema.py); a test holds the two verdicts together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ..core.choices import MOST_OPTIONS

Section = Literal["knowledge", "compositional_skills", "foundational_skills"]
SECTIONS: tuple[Section, ...] = ("knowledge", "compositional_skills", "foundational_skills")
"""The first folder of a leaf's id; it decides which schema the leaf follows."""

QNA_NAME = "qna.yaml"
NEWEST_VERSION = 4


def _string(value: Any) -> str:
    if not isinstance(value, str):
        facts = {"value": _as_read(value)}
        raise PydanticCustomError("not_text", "YAML reads this as {value}, not as text; put it in quotes", facts)
    return value


def _text(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PydanticCustomError("blank", "there is no text; write it")
    return _string(value)


def _as_read(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {str(value)[:40]}"
        case list():
            return "a list"
        case _:
            return "keys and values"


def _at_least(least: int) -> AfterValidator:
    def check(items: list[Any]) -> list[Any]:
        if len(items) < least:
            facts = {"found": len(items), "least": least, "more": least - len(items)}
            raise PydanticCustomError("too_few", "{found} given, at least {least} needed; add {more}", facts)
        return items

    return AfterValidator(check)


def _list_field(description: str, least: int, *, unique: bool = True) -> Any:
    """What an editor is told of a list; `_at_least` and the rules of qna.py check it."""
    extra: dict[str, Any] = {"minItems": least, "uniqueItems": True} if unique else {"minItems": least}
    return Field(description=description, json_schema_extra=extra)


def _version_field(*versions: int) -> Any:
    return Field(description="Which of the formats this file has.", json_schema_extra={"enum": list(versions)})


Text = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({"type": "string", "pattern": r"\S", "patternErrorMessage": "There is no text; write it."}),
]

_QUESTION = Field(description="What a person would ask. Where it needs a text to make sense, give that as the context.")
_ANSWER = Field(description="The answer as you would want the model to give it, in full and in the tone you want.")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkillSeed(_Part):
    """A question and its answer; with a context in a grounded skill."""

    question: Annotated[Text, _QUESTION]
    answer: Annotated[Text, _ANSWER]
    context: Annotated[
        Text,
        Field(
            description="The text that the question is about. Give one to every seed example of the leaf, or to none."
        ),
    ] = ""


class Pair(_Part):
    """A question about a context, and its answer."""

    question: Annotated[Text, Field(description="A question that the context answers and that makes sense by itself.")]
    answer: Annotated[Text, Field(description="The answer, from the context alone, in few words where a few will do.")]


class PairV3(Pair):
    """As `Pair`; the public schema lets other keys stand in it."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": True})


_CONTEXT = Field(description="A passage of the document, word for word, of 500 words at most.")
_PAIRS = _list_field("At least three questions about the context, each with its answer.", 3)


class KnowledgeSeedV3(_Part):
    """A passage of the document with at least three questions about it."""

    context: Annotated[Text, _CONTEXT]
    questions_and_answers: Annotated[list[PairV3], _at_least(3), _PAIRS]


class KnowledgeSeed(_Part):
    """A passage of the document with at least three questions about it."""

    context: Annotated[Text, _CONTEXT]
    questions_and_answers: Annotated[list[Pair], _at_least(3), _PAIRS]


class HeldOutQuestion(_Part):
    """A held-out question: no model sees it before the evaluation."""

    question: Annotated[
        Text, Field(description="A question in other words than the seed examples', with one short answer.")
    ]
    answer: Annotated[
        Text,
        Field(
            description="The answer, as short as it can be: a name, a number, a few words. One of several lines or of "
            "more than twelve words is an example of a good answer, and a judge grades what the model writes."
        ),
    ]
    accept: Annotated[
        list[Text], Field(description="Other ways to write the answer that count as right, such as: nine miles.")
    ] = Field(default_factory=list)
    wrong: Annotated[
        list[Text],
        Field(
            description="Wrong answers of the right one's kind, three at best: the model chooses among all of them, "
            "instead of writing an answer of its own.",
            json_schema_extra={"maxItems": MOST_OPTIONS - 1},
            max_length=MOST_OPTIONS - 1,
        ),
    ] = Field(default_factory=list)
    must_pass: Annotated[
        bool,
        Field(description="Whether a model that answers this wrongly is never released, whatever else it learned."),
    ] = False


_REPO = Field(description="The address of the git repository that holds the documents.", examples=["https://…/….git"])
_COMMIT = Field(description="The commit of that repository whose documents are meant: its full hash.")
_PATTERNS = _list_field("Which files of that repository: paths, or globs such as *.md or docs/**/*.md.", 1)


class DocumentV3(_Part):
    """Documents in another git repository."""

    repo: Annotated[Text, _REPO]
    commit: Annotated[Text, _COMMIT]
    patterns: Annotated[list[Text], _at_least(1), _PATTERNS]


class DocumentV4(_Part):
    """Documents in this repository (`files`), or in another one (`repo`, `commit`, `patterns`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["files"], "properties": dict.fromkeys(("repo", "commit", "patterns"), False)},
                {"required": ["repo", "commit", "patterns"], "properties": {"files": False}},
            ]
        }
    )

    files: Annotated[
        list[Text],
        _at_least(1),
        Field(
            description="Paths or globs such as *.md, from this file's folder; with a / before them, from the root of"
            " the repository. Instead of repo, commit and patterns.",
            json_schema_extra={"minItems": 1},
            max_length=100,  # each is held against every file of the repository
        ),
    ] = Field(default_factory=list)
    repo: Annotated[Text, _REPO] = ""
    commit: Annotated[Text, _COMMIT] = ""
    patterns: Annotated[list[Text], _at_least(1), _PATTERNS] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_origin(self) -> DocumentV4:
        remote = [bool(self.repo), bool(self.commit), bool(self.patterns)]
        if bool(self.files) == any(remote) or (any(remote) and not all(remote)):
            raise PydanticCustomError("document", "write either files, or all of repo, commit and patterns")
        return self


class _Qna(_Part):
    created_by: Annotated[Text, Field(description="Who wrote this leaf, such as a GitHub name.")]


_TASK = "What is to be done, as you would tell a new colleague; the teacher is shown it."
_SKILL_SEEDS = "At least five examples of the skill, as unlike one another as it allows."
_HELD_OUT = Field(description="Held-out questions: the model is examined on them, and nothing is ever trained on them.")
_ALL_OR_NONE_GROUNDED = ConfigDict(
    json_schema_extra={
        "anyOf": [
            {"properties": {"seed_examples": {"items": {"required": ["context"]}}}},
            {"properties": {"seed_examples": {"items": {"properties": {"context": False}}}}},
        ]
    }
)


class SkillV1(_Qna):
    """A skill without a version, or of version 1."""

    model_config = _ALL_OR_NONE_GROUNDED

    version: Annotated[int, _version_field(1)] = 1
    task_description: Annotated[str, BeforeValidator(_string), Field(description=_TASK)]
    seed_examples: Annotated[list[SkillSeed], _at_least(1), _list_field(_SKILL_SEEDS, 1, unique=False)]


class SkillV2(_Qna):
    """A skill of version 2 or 3."""

    model_config = _ALL_OR_NONE_GROUNDED

    version: Annotated[int, _version_field(2, 3)]
    task_description: Annotated[Text, Field(description=_TASK)]
    seed_examples: Annotated[list[SkillSeed], _at_least(5), _list_field(_SKILL_SEEDS, 5)]


class SkillV4(SkillV2):
    """A skill of version 4."""

    version: Annotated[int, _version_field(4)]
    test_questions: Annotated[list[HeldOutQuestion], _HELD_OUT] = Field(default_factory=list)


_DOMAIN = Field(description="The field, in a few words, as on the back of a textbook.")
_OUTLINE = Field(description="What the document tells, in a sentence or two.")
_KNOWLEDGE_SEEDS = _list_field("At least five passages of the document, each with questions about it.", 5)


class KnowledgeV3(_Qna):
    """Knowledge of version 3."""

    version: Annotated[int, _version_field(3)]
    domain: Annotated[Text, _DOMAIN]
    document_outline: Annotated[Text, _OUTLINE]
    document: Annotated[DocumentV3, Field(description="Where the documents are.")]
    seed_examples: Annotated[list[KnowledgeSeedV3], _at_least(5), _KNOWLEDGE_SEEDS]


class KnowledgeV4(_Qna):
    """Knowledge of version 4."""

    version: Annotated[int, _version_field(4)]
    domain: Annotated[Text, _DOMAIN]
    document_outline: Annotated[Text, _OUTLINE]
    document: Annotated[DocumentV4, Field(description="Where the documents are.")]
    seed_examples: Annotated[list[KnowledgeSeed], _at_least(5), _KNOWLEDGE_SEEDS]
    test_questions: Annotated[list[HeldOutQuestion], _HELD_OUT] = Field(default_factory=list)


Qna = SkillV1 | SkillV2 | SkillV4 | KnowledgeV3 | KnowledgeV4
SKILLS: dict[int, type[SkillV1 | SkillV2]] = {1: SkillV1, 2: SkillV2, 3: SkillV2, 4: SkillV4}
KNOWLEDGE: dict[int, type[KnowledgeV3 | KnowledgeV4]] = {3: KnowledgeV3, 4: KnowledgeV4}
"""Version -> schema."""
