"""Several real processes train a tiny model: what they make, how they stop, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import ConfigError, ModelError
from tilth.core.progress import SilentProgress
from tilth.core.yaml_source import YamlProblems, YamlSource
from tilth.train import distributed, launch
from tilth.train.auto import Resolved
from tilth.train.launch import check_adapters, check_machine, join_run, launching
from tilth.train.mix import Mix, Ready
from tilth.train.phase import Models, PhaseJob
from tilth.train.plan import Plan
from tilth.train.selection import check_askable
from tilth.train.tally import Tally
from tilth.train.worker import Work, read_work

from .forks import Forks

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
SFT = {"kinds": ["knowledge_short"], "epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 2}
KEPT = {"adapter": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0, "merge": False}}
PAIRS = SFT | {"kinds": ["preference"]}
PLANS: dict[str, list[dict[str, Any]]] = {
    "sft": [SFT | {"name": "p"}],
    "accumulated": [SFT | {"name": "p", "micro_batch_size": 1}],
    "mlp": [SFT | {"name": "p", "trainable": "mlp"}],
    "lora": [SFT | KEPT | {"name": "p"}, SFT | KEPT | {"name": "goes-on"}],
    "pairs": [PAIRS | {"name": method, "method": method} for method in ("reward", "dpo", "kto")],
}
"""Of 21 samples: the last of an epoch's three steps is not full."""
GRPO = {"method": "grpo", "rollout": {"rewards": [{"answer": "exact"}], "completions": 2, "max_new_tokens": 4}}


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
        ({"rendezvous": "host:99999"}, "rendezvous is 'host:99999'; write HOST:PORT"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(YamlProblems, match=message):
        YamlSource("tilth.yaml", {"train": settings}).validate(Config)


def test_what_cannot_be_shared_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan.model_validate({"phases": [SFT | {"name": "p", "adapter": "qlora"}]})
    with pytest.raises(ConfigError, match=r"'p': `adapter: qlora` cannot be trained with `train.distributed: fsdp`"):
        check_adapters(plan, Config(train=Train(processes=2, distributed="fsdp")))
    monkeypatch.setattr(launch, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"needs the package deepspeed; run `pip install 'tilth\[deepspeed\]'`"):
        check_machine(Train(processes=2, distributed="zero2"))
    with pytest.raises(ConfigError, match=r"there is no machine 2: train\.nodes is 2"):
        join_run(Train(nodes=2, rendezvous="127.0.0.1:1"), 2, SilentProgress())


def test_one_process_needs_no_others() -> None:
    with launching(Train()) as train:
        assert train is None


_TRAIN = """
import json, sys
from pathlib import Path
from tilth.core.config import Config, Train
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.train.data import Files, TrainingInputs
from tilth.train.plan import Phase, Plan
from tilth.train.run import run_plan
folder, student, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
phase = Phase(name="p", kinds=("knowledge_short",), epochs=200, batch_size=8, micro_batch_size=2)
try:
    run_plan(Plan(phases=(phase,)), TrainingInputs(student, Files([folder / "new.jsonl"])), out=folder / "out",
             config=Config(train=Train(**settings)), progress=SilentProgress())
except KeyboardInterrupt:
    sys.exit(130)
except TilthError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def start(student: Path, make: SimpleNamespace, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run of a process of its own, too long to be waited for."""

    def start(**settings: Any) -> subprocess.Popen[str]:
        make.file(tmp_path / "new.jsonl", make.samples(21))
        command = [
            sys.executable,
            "-c",
            _TRAIN,
            str(tmp_path),
            str(student),
            json.dumps({"checkpoint_every_s": 1000, **settings}),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def wait_for_steps(run: subprocess.Popen[str], folder: Path, count: int) -> None:
    log = folder / "out" / "01-p" / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < count:
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def steps(folder: Path, phase: str = "01-p") -> list[dict[str, Any]]:
    lines = (folder / "out" / phase / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def forks(student: Path) -> Generator[Forks]:
    started = Forks(student, in_float32=True)
    yield started
    started.close()


@pytest.fixture(scope="module")
def train(forks: Forks, make: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs a plan; gives its folder, the same one to whoever trains the same alone."""
    done: dict[str, Path] = {}

    def train(phases: list[dict[str, Any]], **settings: Any) -> Path:
        key = json.dumps([phases, settings])
        if key not in done:
            done[key] = folder = tmp_path_factory.mktemp("run")
            pairs = [make.pair(f"{i}?", f"It is {i}.", "No" + " no" * (i % 4)) for i in range(21)]
            make.file(folder / "new.jsonl", make.samples(21))
            make.file(folder / "pairs.jsonl", pairs)
            recompute = settings.pop("recompute", False)
            assert forks.run(folder, phases, {"checkpoint_every_s": 1000, **settings}, recompute=recompute) == 0
        return done[key]

    return train


def assert_same_weights(one: Path, other: Path) -> None:
    import torch
    from safetensors.torch import load_file

    files = sorted(file.relative_to(one) for file in one.glob("out/*/model/**/*.safetensors"))
    assert files == sorted(file.relative_to(other) for file in other.glob("out/*/model/**/*.safetensors"))
    for file in files:
        weights, others = load_file(one / file), load_file(other / file)
        assert weights.keys() == others.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(others[name], tensor, rtol=0, atol=2e-5)


def sharing(distributed: str, plan: str, **settings: Any) -> Any:
    """A case of the next test."""
    marks = [needs_deepspeed] if distributed.startswith("zero") else []
    return pytest.param(plan, {"distributed": distributed, **settings}, id=f"{plan}-{distributed}", marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        sharing("none", "sft"),
        sharing("none", "accumulated"),
        sharing("zero1", "sft", offload=True),
        sharing("zero2", "sft"),
        sharing("zero3", "sft", recompute=True),
        sharing("fsdp", "sft", recompute=True),
        sharing("zero2", "mlp"),
        sharing("zero3", "mlp"),
        sharing("fsdp", "mlp", recompute=True),
        sharing("none", "lora", recompute=True),
        sharing("zero2", "lora"),
        sharing("zero3", "lora", offload=True),
        sharing("fsdp", "lora"),
        sharing("none", "pairs"),
        sharing("zero2", "pairs"),
        sharing("zero3", "pairs"),
        sharing("fsdp", "pairs"),
    ],
)
def test_two_processes_make_the_model_that_one_makes(
    plan: str, settings: dict[str, Any], train: Callable[..., Path]
) -> None:
    one, two = train(PLANS["sft" if plan == "accumulated" else plan]), train(PLANS[plan], processes=2, **settings)
    assert_same_weights(one, two)
    for folder in (one / "out").glob("0*"):
        for alone, shared in zip(steps(one, folder.name), steps(two, folder.name), strict=True):
            for name in ("step", "epoch", "learning_rate", "tokens", "trained_tokens"):
                assert alone[name] == shared[name], name
            assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
            assert shared["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
        for file in folder.glob("model/*.json"):
            assert (two / file.relative_to(one)).read_bytes() == file.read_bytes(), file
        left = {path.name for path in (two / folder.relative_to(one)).iterdir()}
        assert left == {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_what_learns_from_its_own_answers_is_trained_alone_amid_phases_that_are_shared(
    machines: int, train: Callable[..., Path]
) -> None:
    settings = {"processes": 2} if machines == 1 else {"nodes": 2, "rendezvous": free_address()}
    folder = train([SFT | {"name": "p"}, SFT | GRPO | {"name": "g"}, SFT | {"name": "z"}], **settings)
    assert [len(steps(folder, phase)) for phase in ("01-p", "02-g", "03-z")] == [6, 6, 6]
    said = (folder / "said").read_text()
    assert "phase g: grpo trains in one process\n" in said
    shared = [name for name in ("p", "g", "z") if f"phase {name}: machine 2 of 2\n" in said]
    assert shared == (["p", "z"] if machines == 2 else [])


@pytest.mark.parametrize("settings", [{"processes": 2}, {"distributed": "zero2"}])
def test_held_out_questions_are_asked_by_one_process_alone(settings: dict[str, Any]) -> None:
    def check(phase: dict[str, Any]) -> None:
        plan = Plan.model_validate({"phases": [SFT | phase | {"name": "p", "select": {"by": "held_out"}}]})
        check_askable(plan, there=True, config=Config(train=Train(**settings)))

    with pytest.raises(ConfigError, match=r"'p': it selects by held_out, which one process alone can do; set train"):
        check({})
    check(GRPO)


def test_a_process_that_joins_others_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(distributed, "_joined", [])
    monkeypatch.setattr(distributed, "device", lambda: "cuda")
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    distributed.join(Train(processes=4))
    assert taken == [3]


@pytest.fixture
def two_machines() -> tuple[Train, Any]:
    """The settings, and the store of the first."""
    settings = Train(nodes=2, rendezvous=free_address())
    return settings, launch._open_store(settings, at_rendezvous=True)


def test_a_machine_that_never_comes_is_waited_for_aloud(
    two_machines: tuple[Train, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(launch, "_SIGN_S", 0)
    others = launch._Others(two_machines[1], 1, 2, said.append)
    assert [others.look(), others.look()] == ["", ""]
    assert said == ["waiting for machine 2, which has not come: start it with --node-rank 1"]


@pytest.mark.parametrize(
    ("told", "raised", "message"),
    [
        ({"work/1": "stopped"}, KeyboardInterrupt, "^$"),
        ({"failed": "phase 'g': the disk is full", "work/1": "stopped"}, ModelError, "^phase 'g': the disk is full$"),
    ],
)
def test_the_other_machines_end_as_the_first_does(
    told: dict[str, str], raised: type[BaseException], message: str, two_machines: tuple[Train, Any]
) -> None:
    settings, store = two_machines
    for key, value in told.items():
        store.set(key, value)
    with pytest.raises(raised, match=message):
        join_run(settings, 1, SilentProgress())
    for thread in [each for each in threading.enumerate() if each.name == "signs of life"]:
        thread.join(2)
        assert not thread.is_alive()  # it would ask a store that is gone, which torch tells at length


@pytest.mark.slow
def test_a_first_machine_that_goes_while_it_is_found_is_waited_for(
    two_machines: tuple[Train, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = two_machines
    reach, tried = launch._store, list[int]()

    def gone_at_first(*where: Any, **how: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("connection reset by peer")
        return reach(*where, **how)

    monkeypatch.setattr(launch, "_store", gone_at_first)
    store.set("work/1", "done")
    join_run(settings, 1, SilentProgress())
    assert store.check(["bye/1"])


def test_a_first_machine_that_goes_is_told_in_a_line() -> None:
    settings = Train(nodes=2, rendezvous=free_address())
    first = [launch._open_store(settings, at_rendezvous=True)]

    def go() -> None:
        while not first[0].check(["alive/1"]):
            time.sleep(0.01)
        first.clear()

    threading.Thread(target=go).start()
    with pytest.raises(ModelError, match="the first machine is gone; look there for the reason"):
        join_run(settings, 1, SilentProgress())


def test_a_stop_that_comes_in_the_last_step_is_heard_on_any_machine(
    two_machines: tuple[Train, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = two_machines
    work = Work(job(tmp_path), Models(tmp_path, ""), tmp_path, None, Config(train=settings), "token")
    (tmp_path / "job.json").write_text(work.dump())

    class Ended:
        def __init__(self, *_: Any) -> None: ...

        def run(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(launch, "Processes", Ended)
    store.set("work/1", json.dumps([str(tmp_path / "job.json"), "token", 1]))
    with pytest.raises(KeyboardInterrupt):
        join_run(settings, 1, SilentProgress())
    assert store.check(["ended/1/1"])


@pytest.mark.slow
def test_sigterm_stops_all_after_a_step_with_a_checkpoint(start: Callable[..., Any], tmp_path: Path) -> None:
    run = start(processes=2)
    wait_for_steps(run, tmp_path, 2)
    run.terminate()
    run.communicate()
    assert run.returncode == 130
    phase = tmp_path / "out" / "01-p"
    [checkpoint] = phase.glob("checkpoints/*/checkpoint-*")
    assert int(checkpoint.name.partition("-")[2]) == len(steps(tmp_path))
    assert not list(phase.glob("process-*"))
    assert not (phase / "job.json").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_with_one_line(start: Callable[..., Any], tmp_path: Path) -> None:
    run = start(processes=2)
    wait_for_steps(run, tmp_path, 1)
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
def test_two_machines_make_the_model_that_one_makes(train: Callable[..., Path]) -> None:
    assert_same_weights(train(PLANS["sft"]), train(PLANS["sft"], nodes=2, rendezvous=free_address()))


@pytest.mark.slow
def test_a_machine_that_does_not_see_the_disk_ends_the_run(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = free_address()
    monkeypatch.setattr(launch, "_DISK_S", 0.5)
    monkeypatch.setattr(launch, "read_work", lambda _file: SimpleNamespace(token="another disk's"))
    first = start(nodes=2, rendezvous=address)
    with pytest.raises(ModelError, match="this machine does not see what the first one wrote; put the workspace on"):
        join_run(Train(nodes=2, rendezvous=address), 1, SilentProgress())
    _, errors = first.communicate()
    assert "phase 'p': machine 2: " in errors.strip().splitlines()[-1]
