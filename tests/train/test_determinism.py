"""That the settings are made is all that can be tested without a GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.progress import SilentProgress, SilentTask
from tilth.train import phase, processes, run
from tilth.train.data import Files, TrainingInputs
from tilth.train.determinism import deterministic, in_whole_numbers, prepare, sums
from tilth.train.plan import Phase, Plan
from tilth.train.processes import Place
from tilth.train.run import run_plan

WORKSPACES = "CUBLAS_WORKSPACE_CONFIG"


def settings() -> list[Any]:
    import torch

    cudnn: Any = torch.backends.cudnn
    filled = torch.utils.deterministic.fill_uninitialized_memory
    return [torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark, filled]


def test_on_a_gpu_training_is_deterministic_and_what_comes_after_is_as_before() -> None:
    import torch

    before = settings()
    with deterministic("cuda"):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert settings() == [2, True, False, False]
    assert settings() == before


def test_on_a_cpu_nothing_is_changed() -> None:
    before, environment = settings(), dict[str, str]()
    with deterministic("cpu"):
        assert settings() == before
    prepare(environment, "cpu")
    assert not environment


def test_workspaces_are_fixed_unless_the_user_has_done_so() -> None:
    environment = dict[str, str]()
    prepare(environment, "cuda")
    assert environment == {WORKSPACES: ":4096:8"}
    environment = {WORKSPACES: ":16:8"}
    prepare(environment, "cuda")
    assert environment == {WORKSPACES: ":16:8"}


def test_each_of_several_processes_is_started_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACES, raising=False)
    place = Place(Train(processes=2), 0, "127.0.0.1", 1)
    assert WORKSPACES not in place.environment(0)
    monkeypatch.setattr(processes, "device", lambda: "cuda")
    assert place.environment(0)[WORKSPACES] == ":4096:8"


def test_shares_add_up_alike_in_whole_numbers() -> None:
    import torch

    shares = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1)).softmax(-1)
    assert sums(shares).equal(shares.cumsum(-1))
    assert torch.allclose(in_whole_numbers(shares), shares.double().cumsum(-1), rtol=0, atol=1e-9)
    assert in_whole_numbers(shares)[:, -1].equal(in_whole_numbers(shares.flip(-1))[:, -1])


class Watched(SilentProgress):
    """Notes the settings at each step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[SilentTask]:
        yield self.Steps(self.seen)

    class Steps(SilentTask):
        def __init__(self, seen: list[Any]) -> None:
            self.seen = seen

        def advance(self, amount: float = 1) -> None:
            self.seen += [settings()] * int(amount)


@pytest.mark.slow
def test_a_plan_on_a_gpu_trains_under_them(
    student: Path, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACES, "gone when the test ends, as what is set in its place")
    monkeypatch.delenv(WORKSPACES)
    for module in (run, phase):
        monkeypatch.setattr(module, "device", lambda: "cuda")
    one = Phase(name="p", kinds=("skill",), epochs=1, learning_rate=1e-3, batch_size=2, micro_batch_size=2)
    new, before, progress = Files([tmp_path / "new.jsonl"]), settings(), Watched()
    make.file(new.samples[0], make.samples(4, kind="skill"))
    run_plan(
        Plan(phases=(one,)),
        TrainingInputs(student, new),
        out=tmp_path / "out",
        config=Config(),
        progress=progress,
    )
    assert os.environ[WORKSPACES] == ":4096:8"
    assert progress.seen == [[2, True, False, False]] * 2
    assert settings() == before
