"""The works through tilth's gateway: ledger on disk, admission, retries, all as `tilth generate` has them."""
# pyright: reportMissingImports=false, reportUnusedImport=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp  # noqa: F401  as the others do with what they need: before the clock runs
import work
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger

Ask = Callable[[str, str], Awaitable[str]]


def rows(job: work.Job) -> int:
    async def one(ask: Ask, prompt: str) -> int:
        await ask("answer", prompt)
        return 1

    return asyncio.run(_run(job, one))


def steps(job: work.Job) -> int:
    async def finished(ask: Ask, item: str) -> int:
        if not work.is_kept(await ask("judge", work.JUDGE.format(item=item))):
            return 0
        await ask("finish", work.FINISH.format(item=item))
        return 1

    async def one(ask: Ask, prompt: str) -> int:
        listed = work.items(await ask("list", prompt))
        return sum(await asyncio.gather(*(finished(ask, item) for item in listed)))

    return asyncio.run(_run(job, one))


async def _run(job: work.Job, one: Callable[[Ask, str], Awaitable[int]]) -> int:
    """Run all rows at once; one that the teacher refuses gives nothing and harms no other."""
    server = ModelServer(model="mock", base_url=job.url, concurrency=job.concurrency)
    with Ledger(Path(job.state) / "ledger.db") as ledger:
        async with Gateway(server, ledger, SilentProgress()) as gateway:

            async def ask(step: str, prompt: str) -> str:
                answer = await gateway.ask([Message(role="user", content=prompt)], leaf="bench", step=step)
                return answer.text

            async def row(prompt: str) -> int:
                try:
                    return await one(ask, prompt)
                except ModelError:
                    return 0

            return sum(await asyncio.gather(*(row(prompt) for prompt in job.prompts())))


if __name__ == "__main__":
    work.main({"rows": rows, "steps": steps})
