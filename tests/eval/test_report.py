import base64
import hashlib
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from tilth.core.config import Gate
from tilth.core.records import Candidate, Preference, Question, Sample
from tilth.eval.evaluation import Answer, Duel, Evaluation, Settings
from tilth.eval.gate import Verdict
from tilth.eval.report import LeafChanges, ReportData, render
from tilth.eval.report.data import Dataset
from tilth.eval.report.flips import best, worst
from tilth.eval.report.page import MAX_BYTES
from tilth.eval.report.plots import heat_map

from .conftest import LIGHTHOUSE, SALTERS

HOSTILE = (
    '</script><script>alert(1)</script><img src="http://evil.example/x" onerror=alert(1)> " onmouseover="x" {{ 7 * 7 }}'
)
VOID = {"meta", "input", "br", "wbr", "link", "img"}


class Page(HTMLParser):
    """Elements of a page with their attributes; complains when tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def everywhere_hostile(data: ReportData) -> ReportData:
    """The same records with the hostile text in every text that people or models write."""
    source = data.samples[0].source.model_copy(
        update={
            "heading": HOSTILE,
            "fact": HOSTILE,
            "document": HOSTILE,
            "teacher": HOSTILE,
            "grades": {HOSTILE: HOSTILE},
        }
    )
    bad = Sample.new("skill", HOSTILE, HOSTILE, source)
    question = data.evaluation.questions[0].model_copy(update={"question": HOSTILE, "answers": (HOSTILE,)})
    answers = {
        model: {id_: answer.model_copy(update={"text": HOSTILE}) for id_, answer in given.items()}
        for model, given in data.evaluation.answers.items()
    }
    found = data.evaluation.model_copy(
        update={"questions": (question, *data.evaluation.questions[1:]), "answers": answers}
    )
    rejects = tuple(
        item.model_copy(update={"sample": bad, "reason": HOSTILE, "score": HOSTILE}) for item in data.rejects
    )
    comparisons = tuple(item.model_copy(update={"leaf": item.leaf + HOSTILE}) for item in data.comparisons)
    phases = tuple(phase.model_copy(update={"name": HOSTILE, "replayed": {HOSTILE: 3}}) for phase in data.phases)
    return data.model_copy(
        update={
            "title": HOSTILE, "samples": (bad,), "evaluation": found, "rejects": rejects, "phases": phases,
            "comparisons": comparisons, "changes": LeafChanges(added=(HOSTILE,), moved=((HOSTILE, HOSTILE),)),
            "released": HOSTILE, "settings": {HOSTILE: HOSTILE}, "verdict": Verdict(outcome="fail", reasons=(HOSTILE,)),
        }
    )  # fmt: skip


@pytest.mark.slow
def test_every_section_is_there(report_page: str):
    page = Page(report_page)
    sections = [section["id"] for section in page.named("section") if "id" in section]
    assert sections == [
        "scores", "regressions", "forgetting", "changes", "training", "questions", "samples", "rejects", "coverage",
        "contamination", "cost", "lineage", "settings",
    ]  # fmt: skip
    links = [link["href"] for link in page.named("a")]
    assert links == [f"#{section}" for section in sections]
    for shown in (
        "Pass",
        "The candidate became release 2: 1 leaf is shown to be learned, no leaf is shown to be forgotten.",
        "11 of 12 right, 1 of 12 before (10 gained, 0 lost, p = 0.002; +83.3 points, 90 %: +4",
        "65–99 %",  # noqa: RUF001
        "No leaf was shown to be forgotten.",
        "17 of 100 right, 18 of 100 by base (0 gained, 1 lost",
        "2 of 2 shown",
        "<strong>88 %</strong>",
        "1&nbsp;knowledge_short",
        "48 from earlier cycles (27 %)",
        "2 min 21 s",
        "3.384",
        "It is Ferren.",
        "40 of 90 shown",
        "The pans and the hall, characters 420 to 1,180",
        "The flood, characters 1,400 to 1,900",
        "9f2b7c41d0e55a7c3b1f0a94bb1dc2f8e6a70312",
        f"<code>{7919:064x}</code>",
        "not supported by the passage",
        "60 % of 30 sentences",
        "looked for in 12 samples",
        "not noted",
        "91,204",
        "release 1</span>",
    ):
        assert shown in report_page, shown


def test_the_worst_regressions_stand_side_by_side(report_data: ReportData):
    found = report_data.evaluation
    lost = worst(found, "release 1", "release 2")
    assert [flip.question.question for flip in lost] == [
        "Which stone is the tower built of?", "Which planet is the largest one in our solar system?",
    ]  # fmt: skip
    assert len(best(found, "release 1", "release 2")) == 10
    asked, other = lost[1].question, lost[0].question
    graded = {model: dict(given) for model, given in found.answers.items()}
    graded["release 2"][asked.id] = graded["release 2"][asked.id].model_copy(update={"outcome": "unjudged"})
    fresh = next(question for question in found.questions if graded["release 2"][question.id].correct)
    for model, grade in (("release 1", 5), ("release 2", 4)):
        graded[model][fresh.id] = graded["release 2"][fresh.id].model_copy(update={"grade": grade})
    again = worst(found.model_copy(update={"answers": graded}), "release 1", "release 2")
    assert [flip.question.id for flip in again] == [other.id, fresh.id]


def test_what_the_judge_preferred_is_among_gains_and_losses(report_data: ReportData):
    found = report_data.evaluation
    same = [
        each for each in found.questions if found.answers["release 1"][each.id] == found.answers["release 2"][each.id]
    ]
    duels = tuple(
        Duel(question_id=question.id, first="release 1", second="release 2", winner=winner, orders=("A", "B"))
        for question, winner in zip(same, ("first", "second", "tie"), strict=False)
    )
    compared = found.model_copy(update={"duels": duels})
    lost, won = worst(compared, "release 1", "release 2"), best(compared, "release 1", "release 2")
    assert [flip.question.id for flip in lost if flip.by_duel] == [same[0].id]
    assert [flip.question.id for flip in won if flip.by_duel] == [same[1].id]
    assert (len(lost), len(won)) == (3, 11)


@pytest.mark.slow
def test_pairs_and_leaves_with_new_samples_are_shown(report_data: ReportData):
    better, worse = (
        Candidate(answer=answer, model="t", score=score) for answer, score in (("Clear.", 5), ("Vague.", 2))
    )
    pair = Preference.new("What is a good notice?", better, worse, (better, worse), report_data.samples[0].source)
    few = {"samples": report_data.samples[:1], "pairs": (pair,), "new": (LIGHTHOUSE, SALTERS)}
    text = render(report_data.model_copy(update=few))
    Page(text)
    assert "<option>preference</option>" in text
    assert '<dt>better, score 5</dt>\n<dd class="text">Clear.</dd>' in text
    assert '<dt>worse, score 2</dt>\n<dd class="text">Vague.</dd>' in text
    scores = text[text.index('<table class="scores">') :].replace("<wbr>", "")
    assert f'{LIGHTHOUSE}</span> <span class="change">new samples</span>' in scores
    assert f'<dt>new samples</dt>\n<dd><span class="leaf">{LIGHTHOUSE}</span>' in scores


def test_what_each_epoch_was_measured_to_be_is_shown(report_page: str):
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Phase", "Epoch", "training loss", "KL, new prompts", "validation loss", "validation accuracy")
    )
    name = '<th scope="row">1&nbsp;knowledge_short</th>'
    assert heads in report_page
    assert (
        f'{name}<td>1</td><td>1.25</td><td>0.0312</td><td></td><td></td><td></td><td class="words"></td>' in report_page
    )
    chosen = '<td>0.7512</td><td></td><td>0.9134</td><td>0.8125</td><td></td><td class="words">taken</td>'
    assert f"{name}<td>2</td>{chosen}" in report_page


def test_a_matrix_of_two_leaves_is_not_drawn_as_wide_as_a_page(report_data: ReportData):
    assert report_data.history
    few, many = (heat_map(report_data.history, report_data.history.tasks[:2] * times) for times in (1, 6))
    assert "min-width: 332px" in few
    assert "min-width: 576px" in many  # it scrolls on a phone


@pytest.mark.slow
def test_hostile_text_is_inert(report_data: ReportData):
    text = render(everywhere_hostile(report_data))
    page = Page(text)
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert "alert(1)" in text  # it is shown, as text
    assert "{{ 7 * 7 }}" in text
    handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert handlers == []


def test_nothing_is_loaded_from_anywhere(report_page: str):
    text, page = report_page, Page(report_page)
    sources = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert sources
    assert all(value is not None and value.startswith("#") for value in sources)
    assert page.named("link", "iframe", "object", "embed", "base") == []
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_the_policy_allows_our_script_and_no_other(report_page: str):
    text = report_page
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'; style-src" in text
    assert f"script-src 'sha256-{digest}'" in text


@pytest.mark.slow
def test_a_huge_cycle_stays_under_the_limit(report_data: ReportData):
    source = report_data.samples[0].source
    leaves = [source.model_copy(update={"leaf": f"leaf {number}"}) for number in range(30)]
    many = tuple(
        Sample.new("skill", f"{number:03}" + "é" * 4_997, "x" * 3_000, leaves[number % 30]) for number in range(600)
    )
    text = render(report_data.model_copy(update={"samples": many}))
    assert len(text.encode()) < MAX_BYTES
    assert re.findall(r"(\d+) of 20 shown", text) == ["10"] * 30
    assert text.count("(3,000 more characters)") == 300


@pytest.mark.slow
def test_the_worst_regressions_are_shown_however_large_the_cycle(report_data: ReportData):
    asked = [Question.new(f"leaf {number % 600}", f"{number}?", ("yes",)) for number in range(1_200)]
    said = Answer(outcome="right", exact=False, f1=0, text="y" * 900)
    right = {question.id: said for question in asked}
    lost = right | {question.id: said.model_copy(update={"outcome": "wrong"}) for question in asked[:12]}
    answers = dict.fromkeys(report_data.evaluation.models, right) | {report_data.candidate: lost}
    large = report_data.evaluation.model_copy(update={"questions": tuple(asked), "answers": answers})
    text = render(report_data.model_copy(update={"evaluation": large}))
    assert len(text.encode()) < MAX_BYTES
    assert "10 of 12 shown" in text
    assert text.count('<article class="flip">') == 10
    assert "No question is answered worse" not in text


@pytest.mark.slow
def test_of_hundreds_of_releases_the_newest_are_shown(report_data: ReportData):
    base, *rows = (report_data.history.base, *report_data.history.rows)
    older = tuple(rows[0].model_copy(update={"name": f"early {number}", "first_trained": ()}) for number in range(200))
    many = report_data.model_copy(
        update={
            "history": report_data.history.model_copy(update={"base": base, "rows": (*older, *rows)}),
            "releases": tuple(
                report_data.releases[0].model_copy(update={"name": f"early {number}"}) for number in range(200)
            )
            + report_data.releases,
        }
    )
    text = render(many)
    assert len(text.encode()) < MAX_BYTES
    assert "early 199" in text
    assert "early 9<" not in text
    assert re.findall(r"24 of (\d+) shown", text) == [f"{200 + len(rows)}", f"{200 + len(report_data.releases)}"]


@pytest.mark.slow
def test_of_thousands_of_epochs_some_are_shown(report_data: ReportData):
    phase = report_data.phases[0]
    epochs = tuple(phase.measured[0].model_copy(update={"epoch": number}) for number in range(1, 5_001))
    phases = tuple(phase.model_copy(update={"name": f"phase {n}", "measured": epochs, "losses": ()}) for n in range(4))
    text = render(report_data.model_copy(update={"phases": phases}))
    assert len(text.encode()) < MAX_BYTES
    told = re.findall(r"phase 3</th><td>(\d+)</td>", text)
    assert (told[0], len(told)) == ("1", 125)
    assert int(told[-1]) > 4_900


@pytest.mark.slow
def test_of_thousands_of_leaves_those_are_shown_that_tell_something(report_data: ReportData):
    names = [f"knowledge/rooms/leaf_{number}" for number in range(3_000)]
    same = next(item for item in report_data.comparisons if item.verdict == "no change shown")
    asked = [Question.new(leaf, f"What stands in {leaf}?", ("A table",)) for leaf in names]
    found, given = report_data.evaluation, Answer(text="A chair", outcome="wrong", exact=False, f1=0.5)
    answers = {model: {**known, **{each.id: given for each in asked}} for model, known in found.answers.items()}
    rows = [report_data.ledger[0].model_copy(update={"leaf": leaf}) for leaf in names]
    release = report_data.releases[0].model_copy(
        update={"datasets": tuple(Dataset(leaf=leaf, sha256="ab" * 32, samples=9) for leaf in names)}
    )
    many = report_data.model_copy(
        update={
            "comparisons": (*(same.model_copy(update={"leaf": leaf}) for leaf in names), *report_data.comparisons),
            "evaluation": found.model_copy(update={"questions": (*asked, *found.questions), "answers": answers}),
            "changes": LeafChanges(added=(SALTERS,), unchanged=(*names, LIGHTHOUSE)),
            "ledger": tuple(rows),
            "releases": (release, *report_data.releases[1:]),
            "verdict": Verdict(outcome="pass", reasons=tuple(f"Other leaf {leaf}: kept." for leaf in names)),
        }
    )
    text = render(many)
    Page(text)
    assert len(text.encode()) < MAX_BYTES
    scores = text[text.index('<table class="scores">') : text.index("</table>")].replace("<wbr>", "")
    assert SALTERS in scores
    assert "general/facts" in scores
    assert 100 < scores.count("knowledge/rooms/leaf_") < 500
    assert re.search(r"\d+ of 3,005 shown", text)
    assert re.search(r"2992 more, \d+ shown", text)


@pytest.mark.slow
def test_reasons_without_end_are_cut(report_data: ReportData):
    first = report_data.rejects[0]
    rejects = [first.model_copy(update={"reason": f"like sample {number}"}) for number in range(300)]
    text = render(report_data.model_copy(update={"rejects": (*rejects, rejects[299])}))
    assert "50 of 300 shown" in text
    assert '<td class="words">like sample 299</td><td>2</td>' in text
    assert "like sample 60" not in text


@pytest.mark.slow
def test_control_characters_are_made_visible(report_data: ReportData):
    planted = Sample.new("skill", "a\x00b\x1b[31mc", "line\nline", report_data.samples[0].source)
    text = render(report_data.model_copy(update={"samples": (planted,)}))
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31mc" in text
    assert "line\nline" in text


def test_an_empty_cycle_has_a_report_too():
    settings = Settings(system_prompt="Hi", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
    given = {"base": {}, "release 1": {}}
    nothing = Evaluation(settings=settings, models={name: name for name in given}, questions=(), answers=given)
    data = ReportData(
        title="Empty", cycle=1, created_at=datetime(2025, 1, 1, tzinfo=UTC), parent="base", candidate="release 1",
        verdict=Verdict(outcome="inconclusive", reasons=("Nothing was measured.",)),
        evaluation=nothing, gate=Gate(), released="", comparisons=(), changes=LeafChanges(), settings={},
    )  # fmt: skip
    text = render(data)
    Page(text)
    for shown in (
        "Inconclusive",
        "Nothing was trained",
        "No samples were made",
        "Nothing was dropped",
        "no release yet",
    ):
        assert shown in text


def test_the_record_survives_json(report_data: ReportData):
    assert ReportData.model_validate_json(report_data.model_dump_json()) == report_data
