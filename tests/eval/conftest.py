"""A whole cycle's records, invented: the second cycle of the demo as it might look."""

import math
import random
from datetime import UTC, datetime

import pytest
from tilth.core.config import Gate
from tilth.core.records import Place, Provenance, Question, Reject, Sample
from tilth.eval.contamination import Trained, contamination
from tilth.eval.continual import Matrix, Row, summarise
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.eval.findings import LEARNERS, Contest, find
from tilth.eval.gate import judge
from tilth.eval.general import general_questions
from tilth.eval.report import (
    Dataset,
    DocumentCoverage,
    EpochReport,
    LeafChanges,
    LedgerRow,
    PhaseReport,
    ReleaseReport,
    ReportData,
    StageReport,
    render,
)
from tilth.eval.scores import score

LIGHTHOUSE = "knowledge/places/brackwater_lighthouse"
SALTERS = "knowledge/history/salters_of_ferren"
SKILL = "compositional_skills/writing/plain_notices"
MODELS = ("base", "release 1", "release 2")
ASKED = {
    LIGHTHOUSE: [
        ("In what year did the light at Brackwater first burn?", ("1874",)),
        ("How many steps lead up to the lamp room?", ("212", "212 steps")),
        ("Who was the first to keep the light?", ("Tamsin Orrow", "Orrow")),
        ("What fuel did the lamp burn before it was made electric?", ("colza oil", "rapeseed oil")),
        ("How far out to sea can the light be seen?", ("19 nautical miles", "19 miles")),
        ("Which stone is the tower built of?", ("grey gneiss", "gneiss")),
    ],
    SALTERS: [
        ("Which town was home to the guild of salt makers?", ("Ferren",)),
        ("What did a master of the guild wear on feast days?", ("a blue sash", "blue sash")),
        ("How many pans did the guild work at its height?", ("64", "64 pans")),
        ("What ended the guild's trade?", ("the flood of 1911", "a flood", "flood")),
        ("Who painted the guild's hall?", ("Ilse Varn", "Varn")),
        ("What was paid in salt rather than in coin?", ("the bridge toll", "bridge toll")),
    ],
}


def questions() -> list[Question]:
    """Twelve questions a leaf: the six above, each in two forms."""
    return [
        Question.new(leaf, form, answers)
        for leaf, items in ASKED.items()
        for text, answers in items
        for form in (text, f"Please say in a few words: {text[0].lower()}{text[1:]}")
    ]


def evaluation(rights: dict[str, dict[str, int]], asked: list[Question]) -> Evaluation:
    """Models that answer the first so many questions of each leaf rightly: model -> leaf -> number."""
    answers: dict[str, dict[str, Answer]] = {}
    for model, by_leaf in rights.items():
        left = dict(by_leaf)
        answers[model] = {}
        for question in asked:
            right = left.get(question.leaf, 0) > 0
            left[question.leaf] = left.get(question.leaf, 0) - 1
            text = (
                f"It is {question.answers[0]}." if right else "I am not sure, but it is a place on the coast of Maine."
            )
            answers[model][question.id] = Answer(text=text, **score(text, question.answers).model_dump())
    fingerprints = {model: f"{number:016x}" for number, model in enumerate(rights, start=0xA1)}
    settings = Settings(system_prompt="", max_new_tokens=32, max_new_tokens_judged=192, choice="likelihood")
    return Evaluation(settings=settings, models=fingerprints, questions=tuple(asked), answers=answers)


def sample(number: int, leaf: str = SALTERS) -> Sample:
    """One sample of a leaf, with all of its provenance."""
    text, answers = ASKED.get(leaf, ASKED[SALTERS])[number % 6]
    kind = ("knowledge_short", "knowledge_long")[number % 2] if leaf in ASKED else "skill"
    source = Provenance(
        leaf=leaf,
        leaf_fingerprint="5d0c8f1e77aa4410",
        commit="9f2b7c41d0e55a7c3b1f0a94bb1dc2f8e6a70312",
        document=f"{leaf}/page.md" if leaf in ASKED else "",
        heading="The pans and the hall" if leaf in ASKED else "",
        span=(420, 1180) if leaf in ASKED else None,
        also=(Place(document=f"{leaf}/page.md", heading="The flood", span=(1400, 1900)),) if number == 1 else (),
        seed_example=number % 5,
        fact=f"The answer to it is {answers[0]}." if leaf in ASKED else "",
        recipe="knowledge" if leaf in ASKED else "skills",
        recipe_fingerprint="c41d7a0b92ee1f03",
        teacher="qwen2.5-coder-1.5b-instruct@cc324af0",
        requests=(f"{number:064x}", f"{number + 7919:064x}"),
        grades={"faithful": "yes", "complete": "yes"},
    )
    answer = (
        answers[0]
        if number % 2 == 0
        else f"{answers[0].capitalize()}: so the page on the guild says, and it adds more."
    )
    return Sample.new(kind, f"Form {number}: {text}", answer, source)


def losses(steps: int, start: float, end: float, seed: int) -> tuple[tuple[int, float], ...]:
    """A loss that falls as losses do."""
    noise = random.Random(seed)
    return tuple(
        (step, end + (start - end) * math.exp(-4 * step / steps) + noise.gauss(0, 0.04)) for step in range(1, steps + 1)
    )


def history(found: Evaluation) -> Matrix:
    """Base, release 1, release 2."""
    first = {MODELS[1]: (LIGHTHOUSE,), MODELS[2]: (SALTERS,)}
    base, *rows = (
        Row(
            name=model,
            first_trained=first.get(model, ()),
            rates={leaf: found.rate(model, leaf) for leaf in found.leaves},
        )
        for model in MODELS
    )
    return Matrix(base=base, rows=tuple(rows))


def epochs(steps: int, count: int, chosen: int) -> tuple[EpochReport, ...]:
    """Loss falls, and that on samples held back rises again after the chosen epoch."""
    return tuple(
        EpochReport(
            epoch=epoch,
            step=steps * epoch // count,
            chosen=epoch == chosen,
            numbers={
                "training loss": 2.4 / epoch,
                "validation loss": 2.6 / min(epoch, chosen) + 0.1 * max(0, epoch - chosen),
                "training accuracy": 1 - 0.5 / epoch,
                "validation accuracy": 0.9 - 0.5 / epoch,
            },
        )
        for epoch in range(1, count + 1)
    )


def cycle_2(samples: int = 90) -> ReportData:
    """The report of a second cycle that taught the salters and kept the lighthouse."""
    general = dict.fromkeys(("general/arithmetic", "general/facts"), 9)
    rights = {
        "base": {LIGHTHOUSE: 0, SALTERS: 1, **general},
        "release 1": {LIGHTHOUSE: 11, SALTERS: 1, **general},
        "release 2": {LIGHTHOUSE: 10, SALTERS: 11, **general, "general/facts": 8},
    }
    common = [question for question in general_questions() if question.leaf in general and question.scoring == "match"]
    found = evaluation(rights, [*questions(), *common])
    leaves = [SALTERS, LIGHTHOUSE, SKILL]
    contest = Contest(base="base", parent="release 1", candidate="release 2", leaves=leaves, changed={SALTERS})
    gate = Gate(max_loss=0.5, max_general_loss=0.3)
    once = found.model_copy(update={"answers": {LEARNERS: found.answers["release 1"], **found.answers}})
    findings = find(found, contest, significance=gate.significance, seed=1, learned=once)
    made = [sample(number) for number in range(samples)]
    reasons = [("judge", "not supported by the passage"), ("judge", "incomplete"), ("duplicate", "same question")]
    rejects = [
        Reject(
            sample=sample(1000 + number), step=reasons[number % 7 % 3][0], reason=reasons[number % 7 % 3][1], score="2"
        )
        for number in range(23)
    ]
    releases = [
        ReleaseReport(
            name=f"release {number}",
            parent=parent,
            created_at=datetime(2025, 11, 19 + number, 8, 49, tzinfo=UTC),
            commit=f"{number}f2b7c41d0e55a7c3b1f0a94bb1dc2f8e6a70312",
            plan="lab@77aa44105d0c",
            weights_sha256=f"{number * 0xA1B2C3D4E5F60718:064x}",
            datasets=(
                Dataset(leaf=leaf, sha256="ab" * 32, samples=214),
                Dataset(leaf=SKILL, sha256="cd" * 32, samples=60),
            ),
            scores={leaf: found.rate(f"release {number}", leaf)},
        )
        for number, parent, leaf in ((1, "base", LIGHTHOUSE), (2, "release 1", SALTERS))
    ]
    return ReportData(
        title="Places and trades of the coast",
        cycle=2,
        created_at=datetime(2025, 11, 20, 8, 49, tzinfo=UTC),
        verdict=judge(findings, gate),
        gate=gate,
        released="release 2",
        parent="release 1",
        candidate="release 2",
        evaluation=found,
        comparisons=tuple(findings.comparisons),
        together=findings.together,
        history=history(found),
        summary=summarise(history(found), seed=1),
        changes=LeafChanges(added=(SALTERS,), unchanged=(LIGHTHOUSE, SKILL)),
        phases=(
            PhaseReport(
                name="knowledge_short",
                samples=180,
                tokens=5120,
                epochs=8,
                seconds=141.2,
                replayed={"earlier cycles": 48},
                losses=losses(180, 3.4, 0.35, 1),
                measured=(
                    EpochReport(
                        epoch=1, step=90, chosen=False, numbers={"training loss": 1.25, "KL, new prompts": 0.0312}
                    ),
                    EpochReport(
                        epoch=2,
                        step=180,
                        chosen=True,
                        numbers={"training loss": 0.7512, "validation loss": 0.9134, "validation accuracy": 0.8125},
                    ),
                ),
            ),
            PhaseReport(
                name="knowledge_long",
                samples=240,
                tokens=19_811,
                epochs=4,
                seconds=203.9,
                replayed={"earlier cycles": 40, "knowledge_short": 60},
                losses=losses(120, 2.2, 0.6, 2),
                measured=epochs(120, 4, 3),
            ),
            PhaseReport(
                name="skills",
                samples=90,
                tokens=6420,
                epochs=2,
                seconds=38.0,
                replayed={"earlier cycles": 60},
                losses=losses(24, 1.6, 1.1, 3),
            ),
        ),
        samples=(*made, *(sample(number, SKILL) for number in range(4))),
        rejects=tuple(rejects),
        coverage=(
            DocumentCoverage(
                leaf=SALTERS,
                document=f"{SALTERS}/page.md",
                characters=2400,
                sentences=tuple((80 * number, 80 * number + 75, (3, 1, 0, 7, 0)[number % 5]) for number in range(30)),
            ),
            DocumentCoverage(
                leaf=SALTERS,
                document=f"{SALTERS}/the_flood_of_1911_and_what_came_after_it.md",
                characters=700,
                sentences=((0, 300, 2), (310, 700, 0)),
            ),
        ),
        contamination=contamination(questions(), (Trained(each, "new") for each in made[:12]), as_trained=True),
        stages=(
            StageReport(name="samples", seconds=402.5, asked=160, paid=148, tokens=105_514),
            StageReport(name="training", seconds=463.0, trained=133_044),
            StageReport(name="training: knowledge_short", seconds=141.2, trained=40_960),
            StageReport(name="evaluation"),
        ),
        ledger=(LedgerRow(leaf=SALTERS, paid=148, cached=12, prompt_tokens=91_204, completion_tokens=14_310),),
        releases=tuple(releases),
        settings={
            "teacher": "qwen2.5-coder-1.5b-instruct",
            "student": "smollm2-135m-instruct",
            "plan": "lab",
            "seed": "42",
        },
    )


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    return cycle_2()


@pytest.fixture(scope="session")
def report_page(report_data: ReportData) -> str:
    """Drawn once: it takes a second."""
    return render(report_data)
