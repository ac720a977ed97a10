"""Texts about a passage: the passage as it stands, views of it (summaries, facts, implications), and long reasons.

Texts in many forms and questions together teach what a document says better than either alone (SPA, arXiv 2603.22213;
Synthetic Mixed Training, arXiv 2603.23562). Texts are `document` samples, for continued pre-training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...core.records import Provenance, Sample
from .. import filters
from ..flow import LeafRun, Outcome
from ..settings import VIEW, KnowledgeSettings
from ..words import content_words, stems, words
from .passage import Passage, kept, long_question

WHOLE = "document"
"""The teacher of a passage that is a sample as it stands."""


def whole_passages(run: LeafRun, settings: KnowledgeSettings, passages: Sequence[Passage]) -> list[Outcome]:
    """The passages themselves, where the recipe wants them; none that holds a held-out question."""
    if not settings.passages:
        return []
    outcomes: list[Outcome] = []
    for passage in passages:
        source = passage.source.model_copy(update={"teacher": WHOLE})
        sample = _document(passage, "", passage.text, source)
        drop = run.not_held_out(sample)
        outcomes.append(run.reject(sample, drop) if drop else sample)
    return outcomes


_NUMBERING = re.compile(r"^\s{0,200}\(?\d+[.)] ", re.MULTILINE)
"""Of a list: its numbers are no numbers of the text's."""


async def text_view(run: LeafRun, settings: KnowledgeSettings, passage: Passage, step: str, call: int) -> list[Outcome]:
    """What the teacher writes about a passage, asked with the prompt of one view. Raises RowFailed and ModelError."""
    reply = await run.ask(step, passage.source, passage.variables, index=call)
    name = step.removeprefix(VIEW).replace("_", " ")
    sample = _document(passage, name, _NUMBERING.sub("- ", reply.data), reply.source)
    checks = [
        filters.answer_length(settings.view_words),
        filters.is_finished,
        filters.no_chat_tokens,
        filters.no_instructions(run.recipe.prompts[step].told, passage.text),
        filters.same_language(passage.text),
        filters.repeats_itself,
        filters.grounded(passage.evidence, settings.texts_grounded_share),
        _throughout(passage, settings),
        run.not_held_out,
    ]
    return [await run.grade(sample, checks, "faithful", {**passage.variables, "text": sample.answer})]


async def reasons(run: LeafRun, settings: KnowledgeSettings, passage: Passage, call: int) -> list[Outcome]:
    """Questions about why and how, with their answers in full. Raises RowFailed and ModelError."""
    variables = {**passage.variables, "number": settings.reasons_per_chunk}
    reply = await run.ask("reasons", passage.source, variables, index=call)
    outcomes: list[Outcome] = []
    told: list[Sample] = []
    for item in reply.items:
        sample = long_question(passage, item["question"], item["answer"], reply.source)
        made_up = _unfounded(passage, item["because"], sample, settings.texts_grounded_share)
        if drop := made_up or _throughout(passage, settings)(sample):
            outcomes.append(run.reject(sample, drop))
        else:
            told.append(sample)
    return [*await kept(run, settings, passage, told), *outcomes]


_ONE_SENTENCE = 0.2
"""So much less than of the whole must stand in the passage of each sentence: one may be the teacher's own words."""


def _throughout(passage: Passage, settings: KnowledgeSettings) -> filters.Filter:
    return filters.grounded_throughout(passage.evidence, max(0.0, settings.texts_grounded_share - _ONE_SENTENCE))


_FEWEST_REASON_WORDS = 4


def _unfounded(passage: Passage, because: str, sample: Sample, share: float) -> filters.Drop | None:
    """Why a reason is made up: what the text should say of it does not stand there, or is not what is answered."""
    quoted = words(because)
    there, answer = words(passage.text), frozenset(stems(words(sample.answer)))
    places = range(len(there) - len(quoted) + 1)
    if len(quoted) < _FEWEST_REASON_WORDS or not any(there[at : at + len(quoted)] == quoted for at in places):
        return filters.Drop("reason_not_in_text")
    wanted = stems(content_words(because))
    told = sum(stem in answer for stem in wanted) / max(1, len(wanted))
    return None if told >= share else filters.Drop("reason_not_told", f"{told:.2f}")


def _document(passage: Passage, view: str, text: str, source: Provenance) -> Sample:
    """A text under the headings of its passage, the view's name behind them."""
    title = passage.heading or passage.title
    return Sample.new("document", f"{title} ({view})" if view else title, text, source, unmask=True)
