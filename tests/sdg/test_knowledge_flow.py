"""The parts of the knowledge flow that a recipe may add: facts, views, reasons, two passages, the student, rounds."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from tilth.core.progress import SilentProgress
from tilth.core.records import Place, Provenance, Question, Sample
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger
from tilth.sdg.flow import LeafRun, Outcome, Tally
from tilth.sdg.flows import knowledge
from tilth.sdg.flows.multi_hop import links
from tilth.sdg.flows.questions import facts_in
from tilth.sdg.recipe import load_recipes
from tilth.sdg.settings import KnowledgeSettings
from tilth.sdg.store import read_manifest, read_rejects, read_samples
from tilth.taxonomy.chunks import Chunk, split
from tilth.taxonomy.documents import Document

from .conftest import KNOWLEDGE_ID, RULES, Bench, about, items, leaf
from .test_sdg_generate import files

TOWN = """# Orla Mill

## Past

The mill was planned by Bram Osk. It was built in 1702.

## People

The carpenter Bram Osk came from Pellin.
"""


def named(*parts: str) -> dict[str, str]:
    """The bare prompts of these parts, and of those that every recipe has."""
    return {part: f"knowledge_{part}.yaml" for part in ("questions", "reword", "long", "judge", *parts)}


def nothing(asked: dict[str, Any]) -> dict[str, Any]:
    """Questions that no filter lets pass, so that a test sees the rest alone."""
    return items(*[{"question": "Nothing.", "answer": "nothing"}] * asked["number"])


@pytest.fixture
def town(bench: Bench) -> Bench:
    (bench.root / "taxonomy" / KNOWLEDGE_ID / "mill.md").write_text(TOWN)
    bench.leaves = [leaf(KNOWLEDGE_ID)]
    bench.teacher.rules["knowledge questions"] = nothing
    return bench


def samples_of(bench: Bench, **settings: Any) -> list[Sample]:
    bench.use_recipe("knowledge", **settings)
    return read_samples(bench.run()[0])


# Texts ---------------------------------------------------------------------------------------------------------------


def test_passages_are_documents_as_they_stand(town: Bench) -> None:
    past, people = samples_of(town, passages=True)
    assert (past.kind, past.question, past.unmask) == ("document", "Orla Mill > Past", True)
    text = (town.root / "taxonomy" / KNOWLEDGE_ID / "mill.md").read_text()
    assert past.answer == text[slice(*past.source.span or (0, 0))]
    assert people.answer == "## People\n\nThe carpenter Bram Osk came from Pellin."
    assert (past.source.teacher, past.source.requests, past.source.grades) == ("document", (), {})


VIEWS = {
    "views": ["knowledge_view.yaml"],
    "view_words": [3, 20],
    "texts_grounded_share": 0.0,
    "prompts": named("faithful"),
}


def test_a_view_is_a_document_under_the_headings_of_its_passage(town: Bench) -> None:
    town.teacher.rules |= {
        "knowledge view": lambda asked: f"1. About {asked['heading']}.\n2) Bram Osk is named here.",
        "knowledge faithful": lambda asked: {"verdict": "yes" if "Past" in asked["text"] else "no"},
    }
    (view,) = samples_of(town, **VIEWS)
    assert (view.kind, view.unmask, view.question) == ("document", True, "Orla Mill > Past (knowledge view)")
    assert view.answer == "- About Orla Mill > Past.\n- Bram Osk is named here."
    assert view.source.heading == "Orla Mill > Past"
    assert (view.source.teacher, view.source.grades, len(view.source.requests)) == ("rule", {"judge": "yes"}, 2)
    dropped = [each for each in read_rejects(town.run()[0]) if each.sample.kind == "document"]
    assert [(each.step, each.reason) for each in dropped] == [("judge", "judged_no")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Bram Osk.", "answer_length"),
        ("Bram Osk planned it in 1703.", "number_not_in_source"),
        ("Bram Osk planned it, and then he", "unfinished"),
        ("As an AI I cannot say who planned it.", "no_answer"),
        ("Bram Osk задумал эту мельницу, и он её построил.", "other_language"),
    ],
)
def test_a_view_that_no_judge_need_see(town: Bench, text: str, reason: str) -> None:
    town.teacher.rules["knowledge view"] = lambda _: text
    assert samples_of(town, **VIEWS) == []
    (entry,) = town.run()
    assert reason in read_manifest(entry.folder).rejects_by_reason
    assert "knowledge faithful" not in town.teacher.asked


def test_what_stands_under_one_title_is_no_repetition(town: Bench) -> None:
    sentences = "The mill was planned by Bram Osk and nobody else. " * 3
    (town.root / "taxonomy" / KNOWLEDGE_ID / "mill.md").write_text(
        f"# Orla Mill\n\n{sentences}\n\nIt has a red wheel.\n"
    )
    assert [sample.question for sample in samples_of(town, passages=True, chunk_tokens=15)] == ["Orla Mill"] * 2
    assert read_manifest(town.run()[0].folder).rejects_by_reason["near_duplicate"] == 2


def test_no_document_holds_a_held_out_question(town: Bench) -> None:
    question = "Who planned the mill of Orla?"
    town.leaves = [leaf(KNOWLEDGE_ID, questions=(Question.new(KNOWLEDGE_ID, question, ("Bram Osk",)),))]
    (town.root / "taxonomy" / KNOWLEDGE_ID / "mill.md").write_text(f"# Orla Mill\n\n{question} It was Bram Osk.\n")
    assert samples_of(town, passages=True) == []


# Facts ---------------------------------------------------------------------------------------------------------------


def test_facts_are_the_lines_of_a_list() -> None:
    text = (
        "Here are the facts:\n\n- It has nine arches.\n2. It was built in 1702.\n(3) Bram\u00fc lives there.\n* No.\n"
    )
    text += "- It has nine arches.\n10 arches are red."
    assert facts_in(text) == [
        "It has nine arches.",
        "It was built in 1702.",
        "Bram\u00fc lives there.",
        "10 arches are red.",
    ]


def ends(asked: dict[str, Any]) -> dict[str, Any]:
    """Two questions for the last word of a fact."""
    most, last = asked["fact"].rstrip(".").rsplit(" ", 1)
    return items(*({"question": f"{asks}{most} what?", "answer": last} for asks in ("", "Say how it ends: ")))


FACTS = {"questions_per_fact": 2, "rewordings": 1, "prompts": named("facts", "fact_questions")}
TOLD = ["The mill was planned by Bram Osk.", "It was built in 1702.", "The carpenter Bram Osk came from Pellin."]


def tell_facts(bench: Bench) -> None:
    sentence = re.compile(r"[A-Z][^.#\n]+\.")
    listed = {"knowledge facts": lambda asked: "\n".join(f"- {fact}" for fact in sentence.findall(asked["chunk"]))}
    bench.teacher.rules |= listed | {"knowledge fact_questions": ends}


def test_every_fact_is_asked_about_and_asked_again_once(town: Bench) -> None:
    tell_facts(town)
    found = [sample for sample in samples_of(town, **FACTS) if sample.kind == "knowledge_short"]
    assert [sample.source.fact for sample in found] == [fact for fact in TOLD for _ in (1, 2)] + TOLD
    asked = town.teacher.asked
    assert (asked["knowledge facts"], asked["knowledge fact_questions"]) == (2, 3)
    assert asked["knowledge reword"] == asked["knowledge long"] == 3
    reworded = found[-1]
    assert (reworded.question, reworded.answer) == (
        "About Orla Mill: Form 1: The carpenter Bram Osk came from what?",
        "Pellin",
    )
    assert len(reworded.source.requests) == 5  # facts, questions, judge, reword, judge


def test_a_fact_that_comes_up_again_is_not_reworded_again(town: Bench) -> None:
    tell_facts(town)
    samples_of(town, **FACTS, calls_per_chunk=2)
    assert town.teacher.asked["knowledge fact_questions"] == 6
    assert town.teacher.asked["knowledge reword"] == 3


def test_a_list_of_facts_that_is_refused_leaves_the_rest(town: Bench) -> None:
    tell_facts(town)
    town.teacher.rules["knowledge facts"] = lambda _: 400
    assert samples_of(town, **FACTS) == []
    assert [failure.step for failure in read_manifest(town.run()[0].folder).failures] == ["facts", "facts"]


def test_of_a_list_of_facts_that_is_cut_the_last_is_left_out(town: Bench) -> None:
    tell_facts(town)
    town.teacher.cut = {"knowledge facts"}
    found = [sample for sample in samples_of(town, **FACTS) if sample.kind == "knowledge_short"]
    assert {sample.source.fact for sample in found} == {TOLD[0]}  # of the first passage's two, and the second's one


# Two passages --------------------------------------------------------------------------------------------------------


def chunks_of(text: str, tokens: int = 200) -> list[Chunk]:
    return split(Document(path="a.md", text=text), tokens)


def test_passages_are_linked_by_the_names_that_few_share() -> None:
    text = "# Orla\n\n"
    told = [
        "The town of Orla knew Bram Osk.",
        "It was Bram Osk who went to Pellin.",
        "Nobody went to Pellin.",
        "It rains.",
    ]
    text += "".join(f"## Part {name}\n\n{sentence}\n\n" for name, sentence in zip("ABCD", told, strict=True))
    chunks = chunks_of(text)
    assert links(chunks, 1) == [(0, 1, "Bram, Osk"), (1, 2, "Pellin")]
    assert links(chunks, 0) == []
    assert links(chunks[3:], 3) == []


def test_passages_under_one_heading_are_linked_and_a_name_of_the_title_links_nothing() -> None:
    text = "# Mill of Orla\n\nSee Orla.\n\n## Past\n\n### Water\n\nIt is in Orla.\n\n### Wind\n\nThe wind of Orla.\n"
    assert links(chunks_of(text), 2) == [(1, 2, "Past")]


def test_names_that_stand_everywhere_link_nothing() -> None:
    chunks = chunks_of("# A\n\n" + "".join(f"## N{number}\n\nThe mill of Osk.\n\n" for number in range(9)))
    assert links(chunks, 3) == []
    assert len(links(chunks[:8], 1)) == 7  # of others that are as near, the first


STEPS = "The mill was planned by Bram Osk, and Bram Osk came from Pellin."
HOP = {"question": "From where came the planner of Orla mill?", "answer": "Pellin", "explanation": STEPS}
BOTH = {"multi_hop_partners": 1, "prompts": named("multi_hop", "faithful")}


def link_passages(bench: Bench, *, alone: str = "unknown", together: str = "Pellin", verdict: str = "yes") -> list[Any]:
    """The teacher's question about both passages, and what its judge says of it. Returns what was shown, in order."""
    seen: list[Any] = []

    def answer(asked: dict[str, Any]) -> str:
        seen.append(asked["heading"])
        return together if "planned" in asked["chunk"] and "Pellin" in asked["chunk"] else alone

    bench.teacher.rules |= {
        "knowledge multi_hop": lambda asked: (seen.append(asked["shared"]), HOP)[1],
        "knowledge judge": answer,
        "knowledge faithful": lambda _: {"verdict": verdict},
    }
    return seen


def test_a_question_about_two_passages_needs_both(town: Bench) -> None:
    seen = link_passages(town)
    short, long = samples_of(town, **BOTH)
    assert seen == ["Bram, Osk", "Orla Mill > Past", "Orla Mill > People", "Orla Mill > Past and Orla Mill > People"]
    assert (short.kind, short.question, short.answer) == ("knowledge_short", HOP["question"], "Pellin")
    assert (long.kind, long.answer) == ("knowledge_long", STEPS)
    assert long.question.startswith(HOP["question"])
    source = short.source
    assert (source.fact, source.heading, source.grades) == (STEPS, "Orla Mill > Past", {"judge": "Pellin"})
    text = (town.root / "taxonomy" / source.document).read_text()
    (place,) = source.also
    assert place == Place(document=source.document, heading="Orla Mill > People", span=place.span)
    assert text[slice(*place.span)].startswith("## People")
    assert len(source.requests) == 4  # the question, and the judge three times
    assert (long.source.grades, len(long.source.requests)) == ({"judge": "yes"}, 5)


@pytest.mark.parametrize(
    ("said", "rejects"),
    [
        ({"alone": "Pellin"}, {"one_passage_is_enough": 1}),
        ({"together": "unknown"}, {"judge_answers_otherwise": 1}),
        ({"verdict": "no"}, {"judged_no": 1}),
    ],
)
def test_a_question_that_needs_no_two_passages_is_rejected(
    town: Bench, said: dict[str, Any], rejects: dict[str, int]
) -> None:
    link_passages(town, **said)
    assert len(samples_of(town, **BOTH)) == ("verdict" in said)
    reasons = read_manifest(town.run()[0].folder).rejects_by_reason
    assert {reason: number for reason, number in reasons.items() if reason != "not_a_question"} == rejects


def test_an_explanation_must_come_to_the_answer(town: Bench) -> None:
    link_passages(town)
    said = HOP | {"explanation": "The mill was planned by Bram Osk the carpenter."}
    town.teacher.rules["knowledge multi_hop"] = lambda _: said
    assert [sample.kind for sample in samples_of(town, **BOTH)] == ["knowledge_short"]
    assert read_manifest(town.run()[0].folder).rejects_by_reason["explains_another_answer"] == 1


# The student, rounds, quotas -----------------------------------------------------------------------------------------


def run_with_student(bench: Bench, ledger_path: Path) -> list[Outcome]:
    """The flow alone, with a student that is served like the teacher."""
    recipe = load_recipes(bench.config)["knowledge"]
    settings = recipe.settings
    assert isinstance(settings, KnowledgeSettings)
    source = Provenance(leaf="", leaf_fingerprint="", commit="", recipe="", recipe_fingerprint="", teacher="rule")

    async def run() -> list[Outcome]:
        with Ledger(ledger_path) as ledger:
            async with Gateway(bench.config.teacher, ledger, SilentProgress()) as teacher:
                others = {"student": teacher}
                leaf_run = LeafRun(bench.leaves[0], recipe, source, teacher, teacher, Tally(), print, others=others)
                return await knowledge.knowledge(leaf_run, settings, chunks_of(TOWN))

    return asyncio.run(run())


def test_what_the_student_knows_is_reworded_once_only(town: Bench, tmp_path: Path) -> None:
    tell_facts(town)
    prompts = named("facts", "fact_questions", "student")
    town.use_recipe("knowledge", **FACTS | {"rewordings": 3, "prompts": prompts, "ask_student": True})
    numbers: dict[str, int] = {}

    def count_forms(asked: dict[str, Any]) -> dict[str, Any]:
        numbers[asked["answer"]] = asked["number"]
        return RULES["knowledge reword"](asked)

    town.teacher.rules |= {
        "knowledge student": lambda asked: "In 1702" if "built" in asked["question"] else "No idea.",
        "knowledge reword": count_forms,
    }
    outcomes = run_with_student(town, tmp_path / "ledger.db")
    assert numbers == {"1702": 1, "Osk": 3, "Pellin": 3}
    forms = [each for each in outcomes if isinstance(each, Sample) and "Form 1" in each.question]
    assert {each.answer: each.source.grades for each in forms} == {
        "1702": {"student": "In 1702", "judge": "1702"},
        "Osk": {"student": "No idea.", "judge": "Osk"},
        "Pellin": {"student": "No idea.", "judge": "Pellin"},
    }


ALL = {
    "passages": True,
    "views": ["knowledge_view.yaml"],
    "view_words": [3, 50],
    "texts_grounded_share": 0.0,
    "questions_per_fact": 2,
    "reasons_per_chunk": 1,
    "multi_hop_partners": 1,
    "calls_per_chunk": 2,
    "rewordings": 2,
    "prompts": named("facts", "fact_questions", "reasons", "multi_hop", "faithful"),
}


def tell_all(bench: Bench) -> None:
    """A teacher for everything, whose views and reasons differ by passage only, so that round 1 repeats round 0."""
    tell_facts(bench)
    why = {
        "because": "planned by Bram Osk",
        "question": "Why is Bram Osk known in Orla mill?",
        "answer": "Bram Osk is known because he planned the mill.",
    }
    bench.teacher.rules |= {
        "knowledge multi_hop": lambda _: HOP,
        "knowledge faithful": lambda _: {"verdict": "yes"},
        "knowledge reasons": lambda asked: items(*[why] * asked["number"]),
        "knowledge view": lambda asked: f"What {asked['heading']} tells is told here.",
        "knowledge questions": about,
    }


@pytest.mark.slow
def test_all_of_it_gives_the_same_bytes_whatever_the_order_of_answers(town: Bench) -> None:
    tell_all(town)
    town.use_recipe("knowledge", **ALL)
    first = town.run()
    counts = read_manifest(first[0].folder).samples_by_kind
    assert set(counts) == {"document", "knowledge_short", "knowledge_long"}
    assert counts["document"] == 4  # two passages, a view of each, none twice
    town.teacher.longest_s = 0.02
    assert files(town.run(state="again")) == files(first)


@pytest.mark.slow
def test_a_quota_ends_the_rounds(town: Bench) -> None:
    tell_all(town)
    town.use_recipe("knowledge", **ALL | {"calls_per_chunk": 500, "quota": {"document": 1}})
    first = town.run()
    assert town.teacher.asked["knowledge view"] < 100
    town.teacher.longest_s = 0.01
    assert files(town.run(state="again")) == files(first)


@pytest.mark.parametrize("judge", [True, False])
def test_the_estimate_counts_all_steps(town: Bench, judge: bool) -> None:
    tell_all(town)
    settings = ALL | {"judge": judge, "calls_per_chunk": 1, "near_duplicate": 1.0, "grounded_share": 0.0}
    town.teacher.rules |= {"knowledge judge": answer_town, "knowledge reasons": reason_by_heading}
    town.use_recipe("knowledge", **settings)
    (forecast,) = town.foresee()
    # 2 passages with 3 sentences; 2 views, 2 times a reason, 1 question about both. Nothing but the vain questions
    # (one to a passage) is dropped, and what each sentence tells is asked in other words once.
    assert read_manifest(town.run()[0].folder).requests.asked == forecast.calls


def answer_town(asked: dict[str, Any]) -> str:
    if "came the planner" in asked["question"]:
        return "Pellin" if "planned" in asked["chunk"] and "Pellin" in asked["chunk"] else "unknown"
    return next(
        word
        for asks, word in (("planned", "Osk"), ("built", "1702"), ("came", "Pellin"), ("Why", "Bram Osk"))
        if asks in asked["question"]
    )


def reason_by_heading(asked: dict[str, Any]) -> dict[str, Any]:
    why = f"Why is there {asked['heading']} in Orla mill?"
    because = "Bram Osk came from Pellin" if "Pellin" in asked["chunk"] else "planned by Bram Osk"
    return items({"because": because, "question": why, "answer": f"It is known: {because}."})


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("According to the passage, who planned the mill?", "Bram Osk", "points_to_text"),
        ("Who planned the mill?", "It is not mentioned", "no_answer"),
        ("Who planned the mill?", "Answer: Bram Osk", "leftover"),
    ],
)
def test_strict_recipes_drop_what_does_not_stand_alone(town: Bench, question: str, answer: str, reason: str) -> None:
    town.teacher.rules["knowledge questions"] = lambda asked: items(
        *[{"question": question, "answer": answer}] * asked["number"]
    )
    samples_of(town, strict=True, grounded_share=0.0)
    assert reason in read_manifest(town.run()[0].folder).rejects_by_reason
