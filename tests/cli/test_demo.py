"""`tilth demo` with the scripted teacher and a tiny student: the way through, not what is learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tilth.llm.scripted import serve_scripted

from ..loop import Spawner

PLAN = "phases: [{name: all, kinds: [knowledge_short, skill], epochs: 1, learning_rate: 1.0e-6, max_length: 2048}]"


@pytest.mark.slow
def test_the_demo_goes_through_and_again_through_what_is_done(
    spawner: Spawner, tiny_student: Path, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    with serve_scripted() as url:
        config = {
            "teacher": {"model": "scripted", "base_url": str(url)},
            "student": {"model": str(tiny_student)},
            "train": {"plan": "plan.yaml"},
        }
        (tmp_path / "tilth.yaml").write_text(yaml.safe_dump(config))
        refused = spawner.run(tmp_path, "demo", ".")
        assert refused.code == 1, refused.err
        assert refused.out.count("no release") == 1
        passes = "import tilth.eval.gate as gate; gate.Verdict.passed = True"
        (tmp_path / "tilth.yaml").write_text(yaml.safe_dump({**config, "seed": 7}))
        ran = spawner.run(tmp_path, "demo", ".", before=passes)
        assert ran.code == 0, ran.err
        assert "requests to the teacher, by the ledger" in ran.out
        assert "this is release 2" in ran.out
        asked = url.stats().requests
        again = spawner.run(tmp_path, "demo", ".")
        assert again.code == 0, again.err
        assert "this is release 2" in again.out
        assert url.stats().requests == asked
