"""Several real processes train a tiny model: what they make, how they stop, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed, ConfigError, ModelError
from tilth.core.progress import SilentProgress
from tilth.core.yaml_source import YamlProblems, YamlSource
from tilth.train import launch
from tilth.train.auto import Resolved
from tilth.train.launch import check_machine, join_run, launching
from tilth.train.mix import Mix, Ready, Tally
from tilth.train.phase import Models, PhaseJob
from tilth.train.worker import Work, read_work


def job(folder: Path, **settings: Any) -> PhaseJob:
    """A phase that nothing was written for."""
    phase = Resolved(name="p", kinds=("skill",), **{"batch_size": 8, "micro_batch_size": 2, **settings})
    mix = Mix(
        phase="p", total=Tally(), by_origin={}, by_kind={}, by_leaf={}, too_long=Tally(), longest=1, steps=1,
        data_sha256="", tokens_sha256="",
    )  # fmt: skip
    return PhaseJob(Ready(phase, {"batch_size": "8 (21 samples)"}, mix), folder, 42)


def test_a_job_file_says_all_that_a_process_must_know(tmp_path: Path) -> None:
    models = Models(tmp_path / "student", "a" * 64, {"judge": (tmp_path / "reward", "b" * 64)})
    config = Config(train=Train(processes=4, distributed="zero3", offload=True))
    work = Work(job(tmp_path), models, tmp_path / "c", tmp_path / "c" / "checkpoint-3", config, "token")
    (tmp_path / "job.json").write_text(work.dump())
    assert read_work(tmp_path / "job.json") == work


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nodes": 2}, "more than one node needs train.rendezvous"),
        ({"offload": True}, "offload has no effect with `distributed: none`"),
        ({"distributed": "fsdp"}, "it needs more than one"),
        ({"rendezvous": "host"}, "rendezvous is 'host'; write HOST:PORT"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(YamlProblems, match=message):
        YamlSource("tilth.yaml", {"train": settings}).validate(Config)


def test_what_cannot_be_shared_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(train: Train, **settings: Any) -> None:
        with launching(train, [job(tmp_path, **settings)]):
            pytest.fail("it started")

    with pytest.raises(CheckFailed, match=r"'p': its batch_size 8 cannot be dealt out to 3 processes; .*multiple of 3"):
        start(Train(processes=3))
    monkeypatch.setattr(launch, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"needs the package deepspeed; run `pip install 'tilth\[deepspeed\]'`"):
        check_machine(Train(processes=2, distributed="zero2"))
    with pytest.raises(ConfigError, match=r"there is no machine 2: train\.nodes is 2"):
        join_run(Train(nodes=2, rendezvous="127.0.0.1:1"), 2, SilentProgress())


def test_one_process_needs_no_others(tmp_path: Path) -> None:
    with launching(Train(), [job(tmp_path)]) as train:
        assert train is None


_IN_FLOAT32 = """
import torch
import tilth.llm.precision as precision
precision.compute_dtype = lambda: torch.float32
"""
_TRAIN = """
import json, sys
from pathlib import Path
from tilth.core.config import Config, Train
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.train import processes
from tilth.train.data import Files
from tilth.train.launch import join_run
from tilth.train.plan import Phase, Plan
from tilth.train.run import run_plan
folder, student, settings, phase, node = sys.argv[1:]
settings, folder = Train(**json.loads(settings)), Path(folder)
processes._COMMAND = (sys.executable, "-P", str(folder / "worker.py"))
phase = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 2, **json.loads(phase)}
try:
    if node != "0":
        join_run(settings, int(node), SilentProgress())
        sys.exit()
    plan = Plan(phases=(Phase(name="p", kinds=("knowledge_short",), **phase),))
    result = run_plan(plan, new=Files([folder / "new.jsonl"]), earlier=Files(), student=Path(student),
                      out=folder / "out", config=Config(train=settings), progress=SilentProgress())
except KeyboardInterrupt:
    sys.exit(130)
except TilthError as error:
    sys.exit(str(error))
print(result.phases[0].weights_sha256)
"""


@pytest.fixture
def start(student: Path, make: SimpleNamespace, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run, in float32, in a folder of a name. 21 samples: the last of an epoch's three steps is not full."""

    def start(name: str, train: dict[str, Any], *, node: int = 0, **phase: Any) -> subprocess.Popen[str]:
        folder = tmp_path / name
        if not folder.exists():
            make.file(folder / "new.jsonl", make.samples(21))
            (folder / "worker.py").write_text(_IN_FLOAT32 + "from tilth.train.worker import main\nmain()\n")
        settings = json.dumps({"checkpoint_every_s": 1000, **train})
        command = [sys.executable, "-c", _IN_FLOAT32 + _TRAIN, str(folder), str(student), settings]
        return subprocess.Popen(
            [*command, json.dumps(phase), str(node)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def end(run: subprocess.Popen[str]) -> str:
    """What a run printed, when it has ended well."""
    printed, errors = run.communicate()
    assert run.returncode == 0, errors
    return printed.strip()


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "out" / "01-p" / "model" / "model.safetensors")


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "out" / "01-p" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def wait_for_steps(run: subprocess.Popen[str], folder: Path, count: int) -> None:
    log = folder / "out" / "01-p" / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < count:
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "phase"),
    [
        pytest.param({}, {}, id="ddp"),
        pytest.param({}, {"micro_batch_size": 1}, id="ddp-accumulated"),
        pytest.param({"distributed": "zero2"}, {}, id="zero2", marks=needs_deepspeed),
        pytest.param({"distributed": "zero3"}, {}, id="zero3", marks=needs_deepspeed),
        pytest.param({"distributed": "fsdp"}, {}, id="fsdp"),
    ],
)
def test_two_processes_make_the_model_that_one_makes(
    train: dict[str, Any], phase: dict[str, Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    end(start("one", {}))
    end(start("two", {"processes": 2, **train}, **phase))
    one, two = tmp_path / "one", tmp_path / "two"
    for alone, shared in zip(steps(one), steps(two), strict=True):
        for name in ("step", "epoch", "learning_rate", "tokens", "trained_tokens"):
            assert alone[name] == shared[name], name
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert shared["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
    assert weights(one).keys() == weights(two).keys()
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=0, atol=2e-5)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        model = Path("out") / "01-p" / "model" / name
        assert (two / model).read_bytes() == (one / model).read_bytes(), name
    left = {path.name for path in (two / "out" / "01-p").iterdir()}
    assert left == {path.name for path in (one / "out" / "01-p").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "share"),
    [
        pytest.param({}, "rng_state_1.pth", id="ddp"),
        pytest.param({"distributed": "fsdp"}, "pytorch_model_fsdp_0/__1_0.distcp", id="fsdp"),
        pytest.param({"distributed": "zero3"}, "*/*zero_pp_rank_1*_optim_states.pt", id="zero3", marks=needs_deepspeed),
    ],
)
def test_kill_9_of_all_processes_and_the_same_call_again_end_with_the_same_bytes(
    train: dict[str, Any], share: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"processes": 2, "checkpoint_every_s": 1e-6, **train}
    phase = {"epochs": 3, "micro_batch_size": 1, "adapter": "lora" if not train else "none"}
    straight = end(start("straight", settings, **phase))
    for kill in (4, 7):  # in the second and in the third epoch
        run = start("killed", settings, **phase)
        wait_for_steps(run, tmp_path / "killed", kill)
        for pid in (run.pid, *children(run.pid)):
            os.kill(pid, signal.SIGKILL)
        run.communicate()
        [newest] = (tmp_path / "killed").glob("out/01-p/checkpoints/*/checkpoint-*")
        assert any(newest.glob(share)), "the model is not shared at all"
    assert end(start("killed", settings, **phase)) == straight
    told = [[(line["step"], line["loss"]) for line in steps(tmp_path / name)] for name in ("straight", "killed")]
    assert told[0] == told[1]


@pytest.mark.slow
def test_sigterm_stops_all_after_a_step_with_a_checkpoint(start: Callable[..., Any], tmp_path: Path) -> None:
    run = start("a", {"processes": 2}, epochs=200)
    wait_for_steps(run, tmp_path / "a", 2)
    run.terminate()
    run.communicate()
    assert run.returncode == 130
    phase = tmp_path / "a" / "out" / "01-p"
    [checkpoint] = phase.glob("checkpoints/*/checkpoint-*")
    assert int(checkpoint.name.partition("-")[2]) == len(steps(tmp_path / "a"))
    assert not list(phase.glob("process-*"))
    assert not (phase / "job.json").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_with_one_line(start: Callable[..., Any], tmp_path: Path) -> None:
    run = start("a", {"processes": 2}, epochs=200)
    wait_for_steps(run, tmp_path / "a", 1)
    started = children(run.pid)
    os.kill(started[1], signal.SIGKILL)
    _, errors = run.communicate()
    assert run.returncode == 1
    line = errors.strip().splitlines()[-1]
    assert line.startswith(
        "phase 'p': training process 1 was killed (SIGKILL); is the memory full? its messages are in"
    )
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


@pytest.mark.slow
def test_two_machines_make_the_model_that_one_makes(start: Callable[..., Any], tmp_path: Path) -> None:
    import torch

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"nodes": 2, "rendezvous": address}
    second = start("two", settings, node=1)  # first: it waits
    first = start("two", settings)
    end(first)
    end(second)
    end(start("one", {}))
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_a_machine_that_does_not_see_the_disk_ends_the_run(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(launch, "_DISK_S", 0.5)
    monkeypatch.setattr(launch, "read_work", lambda _file: SimpleNamespace(token="another disk's"))
    first = start("a", {"nodes": 2, "rendezvous": address})
    with pytest.raises(ModelError, match="this machine does not see what the first one wrote; put the workspace on"):
        join_run(Train(nodes=2, rendezvous=address), 1, SilentProgress())
    _, errors = first.communicate()
    assert "phase 'p': machine 2: " in errors.strip().splitlines()[-1]
