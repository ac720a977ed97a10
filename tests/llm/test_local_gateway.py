from __future__ import annotations

import asyncio
import threading
import time

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm import local
from tilth.llm.ledger import Ledger
from tilth.llm.likely import NOTHING
from tilth.llm.local_gateway import LocalGateway, LocalModel
from tilth.llm.turns import Turns


def said(texts, model, ledger, progress, *, pause_s=0.0, **options):
    """The answers to all texts, each of them asked so much later than the one before."""

    async def ask(gateway, number, text):
        await asyncio.sleep(number * pause_s)
        return await gateway.ask([Message(role="user", content=text)], leaf="l", step="s", max_tokens=8, **options)

    async def ask_all():
        with Ledger(ledger) as book:
            gateway = LocalGateway(model, book, progress, Turns())
            return await asyncio.gather(*(ask(gateway, number, text) for number, text in enumerate(texts)))

    return asyncio.run(ask_all())


TEXTS = ["short", "a rather long question about nothing in particular, really", "middle length", "x", "short"]


@pytest.mark.slow
def test_each_is_answered_once_and_paid_by_nobody(tiny_model, tmp_path, progress, monkeypatch):
    torch = pytest.importorskip("torch")
    # A random model's best two tokens lie so close that bfloat16 can swap them between batch shapes.
    monkeypatch.setattr(local, "compute_dtype", lambda: torch.float32)
    asked = []
    whole = local.answer

    def answer(folder, loaded, conversation, max_new_tokens):
        asked.append(conversation[-1].content)
        return whole(folder, loaded, conversation, max_new_tokens)

    monkeypatch.setattr(local, "answer", answer)
    answers = said(TEXTS, LocalModel("tiny@1", lambda: tiny_model), tmp_path / "ledger.db", progress)
    conversations = [[Message(role="user", content=text)] for text in TEXTS]
    expected = local.generate(tiny_model, conversations, max_new_tokens=8, batch_size=1, progress=progress)
    assert [answer.text for answer in answers] == [each.text for each in expected]
    assert asked == TEXTS[:4]  # the same question twice is one
    assert len({answer.keys for answer in answers}) == 4
    assert all(answer.cached for answer in answers)
    with Ledger(tmp_path / "ledger.db") as book:
        entries = list(book.entries())
    assert [(entry.model, entry.prompt_tokens, entry.completion_tokens) for entry in entries] == [("tiny@1", 0, 0)] * 4


def test_an_answer_hangs_on_its_request_alone(tiny_model, tmp_path, progress, monkeypatch):
    def rounded(model, tokenizer, prompts, max_new_tokens):
        """As in bfloat16, where rows and padding decide between two words: half of the real student's answers."""
        return [local.Said(f"of {len(prompts)}, {max(map(len, prompts))} long", NOTHING) for _ in prompts]

    monkeypatch.setattr(local, "_answer", rounded)
    model = LocalModel("tiny@1", lambda: tiny_model)
    together = said(TEXTS, model, tmp_path / "1.db", progress)
    apart = said(TEXTS[::-1], model, tmp_path / "2.db", progress, pause_s=0.01)[::-1]
    assert together == apart


def test_what_the_ledger_has_needs_no_model(tiny_model, tmp_path, progress):
    first = said(TEXTS, LocalModel("tiny@1", lambda: tiny_model), tmp_path / "ledger.db", progress)

    def fetch():
        raise AssertionError("nothing is to be loaded")

    again = said(TEXTS, LocalModel("tiny@1", fetch), tmp_path / "ledger.db", progress)
    assert again == first


def test_the_system_prompt_is_part_of_the_request(tiny_model, tmp_path, progress):
    plain = said(["x"], LocalModel("tiny@1", lambda: tiny_model), tmp_path / "ledger.db", progress)
    told = said(["x"], LocalModel("tiny@1", lambda: tiny_model, "Be brief."), tmp_path / "ledger.db", progress)
    assert plain[0].key != told[0].key


def test_a_model_that_cannot_be_loaded_is_told_to_all_who_wait(tmp_path, progress):
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        said(TEXTS, LocalModel("none@1", lambda: tmp_path), tmp_path / "ledger.db", progress)


def test_a_stop_keeps_the_answer_that_is_coming_and_begins_no_other(tmp_path, progress, monkeypatch):
    begun, asked = threading.Event(), []

    def slowly(_, conversation, max_tokens):
        asked.append(conversation[-1].content)
        begun.set()
        time.sleep(0.05)
        return "said"

    monkeypatch.setattr(LocalGateway, "_generate", slowly)

    async def stopped():
        with Ledger(tmp_path / "ledger.db") as book:
            gateway = LocalGateway(LocalModel("none@1", lambda: tmp_path), book, progress, Turns())
            asking = [
                asyncio.create_task(gateway.ask([Message(role="user", content=str(number))], leaf="l", step="s"))
                for number in range(40)
            ]
            await asyncio.to_thread(begun.wait)
            for task in asking:
                task.cancel()
            ended = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            return [entry.completion.text for entry in book.entries()]

    assert asyncio.run(stopped()) == ["said"]
    assert asked == ["0"]


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"schema": {"type": "object"}}])
def test_what_it_cannot_do_is_refused(tmp_path, progress, options):
    with pytest.raises(ModelError, match="answers greedily and in plain text; remove"):
        said(["x"], LocalModel("none@1", lambda: tmp_path), tmp_path / "ledger.db", progress, **options)
