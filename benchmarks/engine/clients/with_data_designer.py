"""The works by NeMo Data Designer: columns over a seed table, its artifacts in the job's folder.

The number of rows is fixed in a run of it, so the fan-out of `steps` is between two runs; the filter is a column that
is skipped. A kill takes what is not in a whole group of records, so these are smaller where the folder is kept.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import data_designer.config as dd
import pandas as pd
import work
from data_designer.interface import DataDesigner

RECORDS_IN_A_GROUP = 100
"""Where the folder is kept; else its own 1,000."""


def rows(job: work.Job) -> int:
    return len(_create(job, "rows", pd.DataFrame({"prompt": job.prompts()}), [_column("answer", "{{ prompt }}")]))


def steps(job: work.Job) -> int:
    listed = _create(job, "listed", pd.DataFrame({"prompt": job.prompts()}), [_column("answer", "{{ prompt }}")])
    found = [item for answer in listed["answer"] for item in work.items(answer)]
    columns = [
        _column("verdict", work.jinja(work.JUDGE)),
        _column(
            "finished",
            work.jinja(work.FINISH),
            skip=dd.SkipConfig(when="{{ '<keep>no' in verdict }}"),
        ),
    ]
    made = _create(job, "finished", pd.DataFrame({"item": found}), columns)
    return len(made.dropna(subset=["finished"]))


def _column(name: str, prompt: str, **more: Any) -> Any:
    return dd.LLMTextColumnConfig(name=name, model_alias="mock", prompt=prompt, **more)


def _create(job: work.Job, name: str, seeds: pd.DataFrame, columns: list[Any]) -> pd.DataFrame:
    provider = dd.ModelProvider(name="bench", endpoint=job.url, provider_type="openai", api_key="none")
    parameters = dd.ChatCompletionInferenceParams(
        temperature=0.0, max_tokens=512, max_parallel_requests=job.concurrency
    )
    model = dd.ModelConfig(
        alias="mock", model="mock", provider="bench", inference_parameters=parameters, skip_health_check=True
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.DataFrameSeedSource(df=seeds))
    for column in columns:
        config.add_column(column)
    designer = DataDesigner(artifact_path=Path(job.state), model_providers=[provider])
    groups = {"buffer_size": RECORDS_IN_A_GROUP} if job.kept else {}
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None, **groups))
    made = designer.create(config, num_records=len(seeds), dataset_name=name, resume=dd.ResumeMode.IF_POSSIBLE)
    return made.load_dataset()


if __name__ == "__main__":
    work.main({"rows": rows, "steps": steps})
