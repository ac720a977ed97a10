"""The works by sdg_hub: a flow in YAML over a table.

It has checkpoints in the job's folder where that is kept; each of them is a barrier for all rows.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import work
import yaml
from sdg_hub import Flow

ROWS_BETWEEN_CHECKPOINTS = 100


def rows(job: work.Job) -> int:
    return _run(job, _asked(job, "answer", "{{ prompt }}", "prompt"))


def steps(job: work.Job) -> int:
    blocks = [
        *_asked(job, "list", "{{ prompt }}", "prompt"),
        _parsed("items", "list_text_content", "item", work.ITEM),
        *_asked(job, "judge", work.jinja(work.JUDGE), "item"),
        _parsed("verdict", "judge_text_content", "keep", work.KEEP),
        _block("ColumnValueFilterBlock", "kept", input_cols="keep", filter_value="yes", operation="eq"),
        *_asked(job, "finish", work.jinja(work.FINISH), "item"),
    ]
    return _run(job, blocks)


def _run(job: work.Job, blocks: list[dict[str, Any]]) -> int:
    metadata = {"name": "bench", "id": "bench-1", "version": "1.0.0", "author": "bench", "description": "bench"}
    path = Path(job.state) / "flow.yaml"
    path.write_text(yaml.safe_dump({"metadata": metadata, "blocks": blocks}), encoding="utf-8")
    flow = Flow.from_yaml(str(path))
    flow.set_model_config(model="hosted_vllm/mock", api_base=job.url, api_key="none")
    table = pd.DataFrame({"prompt": job.prompts()})
    checkpoints = {"checkpoint_dir": str(Path(job.state) / "checkpoints"), "save_freq": ROWS_BETWEEN_CHECKPOINTS}
    return len(flow.generate(table, max_concurrency=job.concurrency, **(checkpoints if job.kept else {})))


def _asked(job: work.Job, name: str, template: str, column: str) -> list[dict[str, Any]]:
    """The three blocks of one question to the model."""
    path = Path(job.state) / f"{name}.yaml"
    path.write_text(yaml.safe_dump([{"role": "user", "content": template}]), encoding="utf-8")
    return [
        _block(
            "PromptBuilderBlock",
            f"{name}_prompt",
            input_cols=[column],
            output_cols=f"{name}_messages",
            prompt_config_path=str(path),
            format_as_messages=True,
        ),
        _block(
            "LLMChatBlock",
            name,
            input_cols=f"{name}_messages",
            output_cols=f"{name}_response",
            max_tokens=512,
            temperature=0.0,
            async_mode=True,
        ),
        _block("LLMResponseExtractorBlock", f"{name}_text", input_cols=f"{name}_response", extract_content=True),
    ]


def _parsed(name: str, column: str, output: str, pattern: str) -> dict[str, Any]:
    return _block("RegexParserBlock", name, input_cols=column, output_cols=output, parsing_pattern=pattern)


def _block(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"block_type": kind, "block_config": {"block_name": name, **config}}


if __name__ == "__main__":
    work.main({"rows": rows, "steps": steps})
