"""What a recipe may say: a section of settings for each flow, and what each of its prompts is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_serializer, model_validator

from ..core.config import ModelServer, Section, Share
from ..core.errors import nearest
from ..core.records import Kind
from ..core.yaml_problem import shortened
from ..core.yaml_source import read_yaml

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Similarity = Annotated[float, Field(gt=0, le=1)]


Votes = Annotated[int, Field(ge=1, le=15)]
Score = Annotated[int, Field(ge=1, le=5)]


def _in_order(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("write it as [fewest, most]")
    return bounds


WordBounds = Annotated[tuple[int, int], AfterValidator(_in_order)]


class KnowledgePrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file. What has no name is not made."""

    questions: str
    reword: str
    long: str
    judge: str
    facts: str = ""
    fact_questions: str = ""
    reasons: str = ""
    multi_hop: str = ""
    faithful: str = ""
    student: str = ""


VIEW = "view_"
"""What the names of the prompts of views begin with."""


class KnowledgeSettings(Section):
    """What is made of a knowledge leaf; `recipes/quick.yaml` and, for the optional, `rich.yaml` explain the keys."""

    prompts: KnowledgePrompts
    chunk_tokens: Annotated[int, Field(ge=10)]
    calls_per_chunk: Count
    extra_questions: Annotated[int, Field(ge=0)]
    rewordings: Count
    long_instruction: str
    """Put behind a question that has a long answer, for it has a short one too."""
    judge: bool
    question_words: WordBounds
    short_answer_words: WordBounds
    long_answer_words: WordBounds
    grounded_share: Share
    near_duplicate: Similarity
    votes: Votes = 1
    lowest_score: Score = 4
    quota: Mapping[Kind, Count] = {}
    strict: bool = False
    passages: bool = False
    views: tuple[str, ...] = ()
    view_words: WordBounds = (20, 1000)
    texts_grounded_share: Share = 0.5
    questions_per_fact: Amount = 0
    reasons_per_chunk: Amount = 0
    multi_hop_partners: Amount = 0
    ask_student: bool = False

    @property
    def view_prompts(self) -> dict[str, str]:
        """Step -> prompt of each view: `view_NAME` for a shipped one, a path for one of the user's own."""
        return {f"{VIEW}{Path(view).stem}": view if view.endswith(".yaml") else f"{VIEW}{view}" for view in self.views}

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        graded = bool(self.views or self.multi_hop_partners)
        for wanted, key, parts in (
            (self.questions_per_fact, "questions_per_fact", ("facts", "fact_questions")),
            (self.reasons_per_chunk, "reasons_per_chunk", ("reasons",)),
            (self.multi_hop_partners, "multi_hop_partners", ("multi_hop",)),
            (self.ask_student, "ask_student", ("student",)),
            (graded, "views or multi-hop questions", ("faithful",)),
        ):
            for part in parts:
                if bool(wanted) != bool(getattr(self.prompts, part)):
                    raise ValueError(f"{key} and the prompt `{part}` go together: give both or none")
        if never := set(self.quota) - {"document", "knowledge_short", "knowledge_long"}:
            raise ValueError(
                f"no samples of kind {', '.join(sorted(never))} are made here, so `quota` is never reached"
            )
        if len(self.view_prompts) < len(self.views):
            raise ValueError("two views have one name")
        return self


class SkillPrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    questions: str
    answer: str
    judge: str
    grounded_questions: str
    grounded_answer: str
    grounded_judge: str
    evolve: str = ""
    foundational_judge: str = ""
    """Of foundational skills; empty: `judge`."""


Evolution = Literal["constraints", "deepen", "concretise", "reasoning", "form"]
"""How a task is made harder, as in Evol-Instruct (Xu et al. 2023, arXiv 2304.12244, section 3.2): one more condition,
more depth, a concrete case, more steps of reasoning; and another form, which is our own. The words are the prompt's."""


def _personas(value: Any) -> Any:
    """A name stands for a shipped list, so that the list counts in the recipe's fingerprint."""
    if not isinstance(value, str):
        return value
    shipped = Path(__file__).parent / "personas"
    if value not in (names := [path.stem for path in shipped.glob("*.yaml")]):
        raise ValueError(f"there is no list of personas {shortened(value)!r}; {nearest(value, names)}")
    return read_yaml(shipped / f"{value}.yaml", name=f"personas/{value}.yaml").data


class SkillSettings(Section):
    """What is made of a skill leaf, freeform, grounded or foundational; see `recipes/quick.yaml`."""

    prompts: SkillPrompts
    examples: Count
    tasks_per_call: Count
    calls_per_seed: Count
    judge: bool
    question_words: WordBounds
    context_words: WordBounds
    answer_words: WordBounds
    near_duplicate: Similarity
    votes: Votes = 1
    """How often the judge is asked about a sample; more than half of the votes keep it."""
    lowest_score: Score = 4
    """For a judge who gives scores: the lowest that a sample is kept with."""
    evolutions: tuple[Evolution, ...] = ()
    """Each new task is made harder in one of these ways, drawn by the seed; both the old and the new one are solved."""
    evolution_rounds: Count = 1
    """How often: the second round evolves what came out of the first."""
    quota: Annotated[int, Field(ge=0)] = 0
    """How many accepted samples of each kind are enough, besides the seeds; 0: all that `calls_per_seed` calls give."""
    personas: Annotated[tuple[str, ...], BeforeValidator(_personas)] = ()
    """Who asks for new tasks, drawn by the seed: the name of a shipped list, or a list. Tasks vary by it, not facts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.evolutions) != bool(self.prompts.evolve):
            raise ValueError("evolutions and the prompt `evolve` go together: give both or none")
        return self


class PreferencePrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    answer: str
    grade: str
    weak: str = ""


class PreferenceSettings(Section):
    """What pairs of a better and a worse answer are made of; `recipes/standard.yaml` says what each key means."""

    prompts: PreferencePrompts
    mode: Literal["strong_weak", "candidates", "endpoints"]
    """Who answers: the teacher with the passage and the current release (before the first: the base) without it; the
    teacher alone; or `models`, both with the passage."""
    models: tuple[ModelServer, ...] = ()
    """Of the mode `endpoints`: two."""
    kinds: tuple[Kind, ...]
    """Samples of these kinds lend their questions."""
    questions: Count
    candidates: Count
    votes: Count
    margin: Annotated[float, Field(gt=0, le=9)]

    @field_serializer("models")
    def _names(self, models: tuple[ModelServer, ...]) -> list[str]:
        """What of them decides the answers, and so belongs in the recipe's fingerprint."""
        return [server.model for server in models]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.mode == "endpoints") != bool(self.models) or len(self.models) not in {0, 2}:
            raise ValueError("the mode `endpoints` needs two `models`, and no other has any")
        if len({server.model for server in self.models}) < len(self.models):
            raise ValueError("both `models` have one name, so the ledger would give one's answers for the other's")
        if (self.mode == "strong_weak") != bool(self.prompts.weak):
            raise ValueError("the mode `strong_weak` needs the prompt `weak`, and no other has it")
        if self.mode == "candidates" and self.candidates < 2:
            raise ValueError("the mode `candidates` needs at least 2 candidates")
        if never := {"document", "preference", "test"}.intersection(self.kinds):
            raise ValueError(f"no pair can be made of samples of kind {', '.join(sorted(never))}")
        return self


class TestPrompts(Section):
    """Names of shipped prompts, or paths (`*.yaml`) relative to the recipe file."""

    short: str
    choice: str
    judge: str
    choice_judge: str
    base: str = ""


class TestSettings(Section):
    """What held-out questions are made of a knowledge leaf; `recipes/standard.yaml` says what each key means."""

    prompts: TestPrompts
    chunks: Count
    short_per_chunk: Annotated[int, Field(ge=0)]
    choice_per_chunk: Annotated[int, Field(ge=0)]
    question_words: WordBounds
    answer_words: WordBounds
    grounded_share: Share
    near_duplicate: Similarity


class RecipeFile(Section):
    """What stands in `recipes/*.yaml`: a section for each flow."""

    knowledge: KnowledgeSettings
    skills: SkillSettings
    preferences: PreferenceSettings | None = None
    tests: TestSettings | None = None
    held_out_cosine: Similarity | None = None
    """None: a sample may ask a held-out question in other words, and only near copies of it are dropped."""


Settings = KnowledgeSettings | SkillSettings


@dataclass(frozen=True)
class Part:
    """What a flow gives to one of its prompts, and what it must get back."""

    variables: str
    answers: str
    """The properties that the answer (with `repeat`, each item of it) must have; one in brackets is the whole item.
    Empty: it has no schema, but is plain text."""
    repeat: str = ""
    or_text: bool = False
    """Whether plain text will do too: one item, its parts by a blank line."""
    needs: str = ""
    """The variables without which it can do nothing of use; of several with a bar between them, one."""
    judges: bool = False
    """A judge's: he may be asked in any of the ways of the module `judges`; `answers` is of the one that we ship."""


_CHUNK = "title heading chunk"
_TASK = "task examples context question"
PARTS: Mapping[str, Mapping[str, Part]] = {
    "knowledge": {
        "questions": Part(f"{_CHUNK} number", "question answer", "number", needs="chunk"),
        "reword": Part(f"{_CHUNK} fact question answer number", "[question]", "number", needs="question answer"),
        "long": Part(f"{_CHUNK} question answer", "", needs="chunk question"),
        "judge": Part(f"{_CHUNK} question", "", needs="chunk question", judges=True),
        "facts": Part(_CHUNK, "", needs="chunk"),
        "fact_questions": Part(f"{_CHUNK} fact number", "question answer", "number", needs="fact"),
        "reasons": Part(f"{_CHUNK} number", "because question answer", "number", needs="chunk"),
        "multi_hop": Part(f"{_CHUNK} other_heading other shared", "question answer explanation", needs="chunk other"),
        "faithful": Part(f"{_CHUNK} text", "verdict", needs="chunk text", judges=True),
        "student": Part("question", "", needs="question"),
        "view": Part(_CHUNK, "", needs="chunk"),
    },
    "skills": {
        "questions": Part(
            "task examples seed persona number", "question", "number", or_text=True, needs="examples|seed"
        ),
        "answer": Part(_TASK, "", needs="examples question"),
        "judge": Part(f"{_TASK} answer", "verdict", needs="question answer", judges=True),
        "grounded_questions": Part(
            "task examples seed persona number", "context question", "number", or_text=True, needs="examples|seed"
        ),
        "grounded_answer": Part(_TASK, "", needs="examples context question"),
        "grounded_judge": Part(f"{_TASK} answer", "verdict", needs="context question answer", judges=True),
        "evolve": Part(f"{_TASK} evolution", "question", needs="question evolution"),
        "foundational_judge": Part(_TASK, "", needs="question", judges=True),
    },
    "preferences": {
        "answer": Part("title chunk task question", "", needs="chunk question"),
        "weak": Part("question", "", needs="question"),
        "grade": Part("title chunk task question reference answer", "grade", needs="question answer"),
    },
    "tests": {
        "short": Part(f"{_CHUNK} number", "question answer", "number", needs="chunk"),
        "choice": Part(f"{_CHUNK} number", "question answer distractors", "number", needs="chunk"),
        "judge": Part(f"{_CHUNK} question", "", needs="chunk question"),
        "choice_judge": Part(f"{_CHUNK} question", "", needs="chunk question"),
        "base": Part("question", "", needs="question"),
    },
}
"""The prompts of each flow. `examples` and `seed` have context, question and answer, and `turn`: context and question
with a blank line between. `persona` may be empty, and that of an example is; `evolution` is an `Evolution`. In
`preferences` skills leave `title` and `chunk` empty, and knowledge leaves `task`."""


def prompt_names(section: Section | None) -> dict[str, str]:
    """Part -> the prompt that a recipe's section names for it, views included; a part without one is left out."""
    if section is None:
        return {}
    named: dict[str, str] = {part: name for part, name in section.model_dump()["prompts"].items() if name}
    return named | (section.view_prompts if isinstance(section, KnowledgeSettings) else {})


def part_of(flow: str, part: str) -> Part:
    """What a flow's part is given and must give back; all views are alike."""
    return PARTS[flow]["view" if part.startswith(VIEW) else part]
