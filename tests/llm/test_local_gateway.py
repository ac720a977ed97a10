from __future__ import annotations

import asyncio
import threading
import time

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm import local
from tilth.llm.ledger import Ledger
from tilth.llm.local_gateway import LocalGateway, LocalModel


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """A random model's best two tokens lie so close that bfloat16 can swap them between batch shapes."""
    import torch

    monkeypatch.setattr(local, "compute_dtype", lambda: torch.float32)


def said(texts, model, ledger, progress, **options):
    async def ask_all():
        with Ledger(ledger) as book:
            gateway = LocalGateway(model, book, progress)
            asked = (
                gateway.ask([Message(role="user", content=text)], leaf="l", step="s", max_tokens=8, **options)
                for text in texts
            )
            try:
                return await asyncio.gather(*asked)
            finally:
                await gateway.close()

    return asyncio.run(ask_all())


TEXTS = ["short", "a rather long question about nothing in particular, really", "middle length", "x", "short"]


def test_many_rows_are_answered_together_as_one_by_one_and_paid_by_nobody(tiny_model, tmp_path, progress, monkeypatch):
    batches = []
    whole = local.answer
    monkeypatch.setattr(local, "answer", lambda *all_of_it: (batches.append(len(all_of_it[2])), whole(*all_of_it))[1])
    model = LocalModel("tiny@1", lambda: tiny_model)
    answers = said(TEXTS, model, tmp_path / "ledger.db", progress)
    conversations = [[Message(role="user", content=text)] for text in TEXTS]
    expected = local.generate(tiny_model, conversations, max_new_tokens=8, batch_size=1, progress=progress)
    assert [answer.text for answer in answers] == expected
    assert batches == [4]  # the same question twice is one
    assert len({answer.keys for answer in answers}) == 4
    assert all(answer.cached for answer in answers)
    with Ledger(tmp_path / "ledger.db") as book:
        [usage] = book.usage()
    assert (usage.model, usage.requests, usage.prompt_tokens, usage.completion_tokens) == ("tiny@1", 4, 0, 0)


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


def test_a_stop_ends_the_batch_keeps_its_answers_and_begins_no_other(tmp_path, progress, monkeypatch):
    begun, batches = threading.Event(), []

    def slowly(_, orders):
        batches.append(len(orders))
        begun.set()
        time.sleep(0.05)
        return [order.conversation[-1].content for order in orders]

    monkeypatch.setattr(LocalGateway, "_generate", slowly)

    async def stopped():
        with Ledger(tmp_path / "ledger.db") as book:
            gateway = LocalGateway(LocalModel("none@1", lambda: tmp_path), book, progress)
            asked = [
                asyncio.create_task(gateway.ask([Message(role="user", content=str(number))], leaf="l", step="s"))
                for number in range(40)
            ]
            await asyncio.to_thread(begun.wait)
            for task in asked:
                task.cancel()
            await gateway.close()
            return book.count()

    assert asyncio.run(stopped()) == 16
    assert batches == [16]


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"schema": {"type": "object"}}])
def test_what_it_cannot_do_is_refused(tmp_path, progress, options):
    with pytest.raises(ModelError, match="answers greedily and in plain text; remove"):
        said(["x"], LocalModel("none@1", lambda: tmp_path), tmp_path / "ledger.db", progress, **options)
