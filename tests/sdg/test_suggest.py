"""Proposals for a new leaf, from a teacher over real HTTP who knows the things of `loop.py`."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tilth.core.config import Config, ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.llm.ask import Gateway
from tilth.llm.scripted import serve_scripted
from tilth.llm.wire import Retries
from tilth.sdg.prompts import load_prompt
from tilth.sdg.suggest import PROMPTS, suggest, without_copies
from tilth.taxonomy.contribute import NewLeaf, plan_leaf, read_documents, write_leaf
from tilth.taxonomy.leaf import SeedExample, SeedPair
from tilth.taxonomy.lint import lint
from tilth.taxonomy.qna import parse_qna
from tilth.taxonomy.scaffold import Draft
from tilth.taxonomy.source import WorkingTree

from ..loop import THINGS, Teacher, first_turn, suggesting_teacher


@pytest.fixture
def teacher() -> Generator[Teacher]:
    with suggesting_teacher() as teacher:
        yield teacher


@pytest.fixture
def config(teacher: Teacher) -> Config:
    return Config(teacher=ModelServer(model="rule", base_url=teacher.url))


def page(things: Sequence[str]) -> str:
    """A document with a section about every thing of the mill."""
    sections = [
        f"## The {thing}\n\nThe {thing} of Orla Mill is made of larch. {'It is old. ' * 30}\n" for thing in things
    ]
    return "\n".join(["# Orla Mill\n", *sections])


@pytest.fixture
def mill(tmp_path: Path) -> NewLeaf:
    """A new leaf on a page about the mill."""
    (tmp_path / "page.md").write_text(page(THINGS))
    return plan_leaf(tmp_path / "taxonomy", "knowledge", "mill", [tmp_path / "page.md"])


def propose(new: NewLeaf, config: Config, root: Path, **options: Any) -> Draft:
    documents = read_documents(new, root / "cache", config.documents) if new.kind == "knowledge" else ()
    return suggest(new, documents, config=config, ledger=root / "ledger.db", progress=SilentProgress(), **options)


def test_a_knowledge_leaf_of_proposals_alone_has_no_fault(mill: NewLeaf, config: Config, tmp_path: Path) -> None:
    draft = propose(mill, config, tmp_path)
    assert len(draft.seed_examples) == 6
    assert all(seed.context in page(THINGS) and len(seed.pairs) >= 3 for seed in draft.seed_examples)
    assert {thing for thing in THINGS for pair in draft.held_out if thing in pair.question} == set(THINGS)
    assert draft.domain
    root = tmp_path / "taxonomy"
    write_leaf(root, mill, draft, created_by="ada")
    assert [str(finding) for finding in lint(WorkingTree(root)) if finding.path.endswith("qna.yaml")] == []


def test_nothing_is_asked_twice(mill: NewLeaf, config: Config, teacher: Teacher, tmp_path: Path) -> None:
    first = propose(mill, config, tmp_path)
    asked = len(teacher.requests)
    assert asked > 10
    assert propose(mill, config, tmp_path) == first
    assert len(teacher.requests) == asked


@pytest.mark.slow
def test_a_long_document_is_asked_about_from_beginning_to_end(config: Config, teacher: Teacher, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page([f"{thing} {number}" for number in range(20) for thing in THINGS]))
    draft = propose(plan_leaf(tmp_path, "knowledge", "mill", [tmp_path / "page.md"]), config, tmp_path)
    numbers = [int(number) for seed in draft.seed_examples for number in re.findall(r"## The \w+ (\d+)", seed.context)]
    assert numbers == sorted(numbers)
    assert (numbers[0] < 5, numbers[-1] > 14) == (True, True)
    assert len(teacher.requests) < 100


@pytest.mark.parametrize("grounded", [False, True])
def test_a_skill_is_proposed_from_its_task(config: Config, tmp_path: Path, *, grounded: bool) -> None:
    new = plan_leaf(tmp_path, "grounded_skill" if grounded else "skill", "backwards")
    draft = propose(new, config, tmp_path, task="Say alpha backwards.")
    assert draft.task_description == "Say alpha backwards."
    assert len({seed.pairs[0].question for seed in draft.seed_examples}) == len(draft.seed_examples) >= 5
    assert all(bool(seed.context) == grounded for seed in draft.seed_examples)
    [qna, _] = write_leaf(tmp_path, new, draft, created_by="ada")
    parse_qna(qna.read_bytes(), qna.relative_to(tmp_path).as_posix())


def test_what_the_judge_refuses_is_not_proposed(config: Config, teacher: Teacher, tmp_path: Path) -> None:
    teacher.verdict = "no"
    with pytest.raises(ModelError, match="compositional_skills/backwards: the teacher proposed nothing"):
        propose(plan_leaf(tmp_path, "skill", "backwards"), config, tmp_path, task="Say alpha backwards.")


def test_an_answer_that_fits_no_schema_costs_its_passage_alone(
    mill: NewLeaf, config: Config, teacher: Teacher, tmp_path: Path
) -> None:
    right = teacher.reply

    def wrong_about_the_wheel(body: str) -> dict[str, Any]:
        answer = right(body)
        asked = first_turn(json.loads(body))
        if "wheel" in asked and "another detail" in asked:
            answer["choices"][0]["message"]["content"] = "no JSON"
        return answer

    teacher.reply = wrong_about_the_wheel
    draft = propose(mill, config, tmp_path)
    assert draft.seed_examples
    assert not any("wheel" in pair.question for pair in draft.held_out)


def test_a_held_out_question_that_a_seed_asks_is_no_proof() -> None:
    def pair(question: str) -> SeedPair:
        return SeedPair(question=question, answer="larch")

    seeds = [SeedExample(context="c", pairs=(pair("What is the wheel of Orla Mill made of?"),))]
    kept = pair("Which wood did the builders take for the wheel of Orla Mill?")
    again = pair("which wood did the builders take for the wheel of orla mill")
    assert without_copies([pair("Of what is the wheel of Orla Mill made?"), kept, again], seeds) == [kept]


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_documents_its_variables_and_has_its_answer_typed(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.variables <= {"title", "chunk", "number", "question", "answer", "task"}
    first = (Path(__file__).parents[2] / "sdg" / "prompts" / f"{name}.yaml").read_text().splitlines()[0]
    assert set(first.partition("Variables: ")[2].split(", ")) == prompt.variables
    assert yaml.safe_dump(prompt.file.answer)


def test_a_teacher_that_does_not_answer_is_no_teacher_that_proposed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(Gateway, retries=Retries(tries=2, first_wait_s=0.001))
    monkeypatch.setattr("tilth.sdg.suggest.Gateway", quick)
    new = plan_leaf(tmp_path / "taxonomy", "skill", "backwards", [])
    with serve_scripted(always={"Say words backwards.": "500"}) as url:
        config = Config(teacher=ModelServer(model="scripted", base_url=str(url)))
        with pytest.raises(ModelError, match=r"the teacher gave no answer \(HTTP 500: on purpose, 2 tries\); run the"):
            propose(new, config, tmp_path, task="Say words backwards.")
