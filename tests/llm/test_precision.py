"""torch is asked once what it computes in, and again where the answer may be another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tilth.llm import precision


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """How often torch was."""
    import torch

    calls: list[str] = []
    monkeypatch.setenv("TILTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "device", lambda: calls.append("device") or "cpu")
    monkeypatch.setattr(precision, "compute_dtype", lambda: torch.bfloat16)
    return calls


def test_torch_is_asked_once(asked: list[str]) -> None:
    expected = {"device": "cpu", "dtype": "bfloat16"}
    assert [precision.computed_in() for _ in range(3)] == [expected] * 3
    assert asked == ["device"]


def test_torch_is_asked_again_on_another_machine_and_where_other_gpus_may_be_seen(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    precision.computed_in()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    precision.computed_in()
    monkeypatch.setattr(precision, "_first_flags", lambda: "flags: avx2")
    precision.computed_in()
    monkeypatch.setattr(precision, "version", lambda _name: "1.0")
    precision.computed_in()
    assert len(asked) == 4


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"machine": 1}'])
def test_what_was_kept_may_be_broken_or_impossible_to_keep(asked: list[str], tmp_path: Path, broken: str) -> None:
    precision.computed_in()
    kept = tmp_path / "cache" / "computed_in.json"
    kept.write_text(broken or json.dumps({"machine": json.loads(kept.read_text())["machine"]}))
    assert precision.computed_in()["dtype"] == "bfloat16"
    kept.unlink()
    kept.mkdir()
    assert precision.computed_in()["dtype"] == "bfloat16"
    assert len(asked) == 3
