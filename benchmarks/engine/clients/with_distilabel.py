"""The works by distilabel: a pipeline of steps, each in a process of its own, its cache in the job's folder.

The cap is the size of a batch, which is how many requests a step sends at once; steps have no cap in common. This
module has no `from __future__ import annotations`, for distilabel looks at what its steps are annotated with.
"""
# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportUnusedExpression=false

from pathlib import Path
from typing import Any

import work
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step
from distilabel.steps.tasks import TextGeneration


@step(inputs=["generation"], outputs=["instruction", "item"])
def list_items(inputs: StepInput) -> Any:
    found = [item for row in inputs for item in work.items(row["generation"] or "")]
    yield [{"instruction": work.JUDGE.format(item=item), "item": item} for item in found]


@step(inputs=["generation", "item"], outputs=["instruction", "item"])
def keep(inputs: StepInput) -> Any:
    kept = [row["item"] for row in inputs if work.is_kept(row["generation"] or "")]
    yield [{"instruction": work.FINISH.format(item=item), "item": item} for item in kept]


def rows(job: work.Job) -> int:
    with _pipeline(job) as pipeline:
        _load(job) >> _ask(job, "answer")
    return _run(pipeline)


def steps(job: work.Job) -> int:
    with _pipeline(job) as pipeline:
        listed, kept = list_items(name="items"), keep(name="kept")
        _load(job) >> _ask(job, "list") >> listed >> _ask(job, "judge") >> kept >> _ask(job, "finish")
    return _run(pipeline)


def _pipeline(job: work.Job) -> Pipeline:
    return Pipeline(name="bench", cache_dir=Path(job.state) / "cache")


def _load(job: work.Job) -> LoadDataFromDicts:
    return LoadDataFromDicts(
        name="load", data=[{"instruction": prompt} for prompt in job.prompts()], batch_size=job.concurrency
    )


def _ask(job: work.Job, name: str) -> TextGeneration:
    llm = OpenAILLM(
        model="mock",
        base_url=job.url,
        api_key="none",
        generation_kwargs={"max_new_tokens": 512, "temperature": 0.0},
    )
    return TextGeneration(name=name, llm=llm, input_batch_size=job.concurrency)


def _run(pipeline: Pipeline) -> int:
    dataset = pipeline.run()["default"]["train"]
    return sum(answer is not None for answer in dataset["generation"])


if __name__ == "__main__":
    work.main({"rows": rows, "steps": steps})
