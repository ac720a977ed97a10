"""The works by bespokelabs-curator: one `LLM` a step, chained by hand, its cache in the job's folder.

Its limits of requests and tokens a minute are set out of reach: what is left is the cap on requests in flight. It
counts the tokens of every prompt with a vocabulary that it would fetch; the same one comes with its `litellm`.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import work
from bespokelabs import curator


class Ask(curator.LLM):
    """A step whose rows hold their prompt."""

    def prompt(self, row: dict[str, Any]) -> str:
        """See `curator.LLM`."""
        return row["prompt"]

    def parse(self, row: dict[str, Any], response: str) -> list[dict[str, Any]]:
        """See `curator.LLM`."""
        return [{"answer": response}]


class List(Ask):
    """The first step: one row an item, with the next step's prompt."""

    def parse(self, row: dict[str, Any], response: str) -> list[dict[str, Any]]:
        """See `curator.LLM`."""
        return [{"item": item, "prompt": work.JUDGE.format(item=item)} for item in work.items(response)]


class Judge(Ask):
    """The second step: the rows that are kept."""

    def parse(self, row: dict[str, Any], response: str) -> list[dict[str, Any]]:
        """See `curator.LLM`."""
        kept = {"item": row["item"], "prompt": work.FINISH.format(item=row["item"])}
        return [kept] if work.is_kept(response) else []


def rows(job: work.Job) -> int:
    return len(_ask(Ask, job, _first(job)))


def steps(job: work.Job) -> int:
    listed = _ask(List, job, _first(job))
    kept = _ask(Judge, job, listed)
    return len(_ask(Ask, job, kept))


def _first(job: work.Job) -> list[dict[str, str]]:
    return [{"prompt": prompt} for prompt in job.prompts()]


def _ask(step: type[Ask], job: work.Job, dataset: Any) -> Any:
    llm = step(
        model_name="mock",
        backend="openai",
        generation_params={"max_tokens": 512, "temperature": 0.0},
        backend_params={
            "base_url": job.url,
            "api_key": "none",
            "max_concurrent_requests": job.concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 1_000_000_000_000,
            "require_all_responses": False,
        },
    )
    return llm(dataset, working_dir=job.state).dataset


def use_bundled_vocabulary() -> None:
    litellm = importlib.util.find_spec("litellm")
    assert litellm
    assert litellm.origin
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")


if __name__ == "__main__":
    use_bundled_vocabulary()
    work.main({"rows": rows, "steps": steps})
