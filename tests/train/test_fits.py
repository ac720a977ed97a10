"""What does not fit into memory is refused before anything trains, with what would."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed
from tilth.train import fits, memory
from tilth.train.fits import check_memory, free_memory
from tilth.train.memory import PROCESS
from tilth.train.tally import Tally

from .test_memory import ANSWERS, GB, SMALL, mix, phase, train

pytestmark = pytest.mark.usefixtures("on_a_gpu_with_bfloat16")


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize(
    ("free", "advice"),
    [
        (9.0, "set its micro_batch_size to 8, which takes about 8.. GB"),
        (3.2, "set its micro_batch_size to 1"),
        (2.2, "set its micro_batch_size to 1 and train with `adapter: lora`"),
        (1.9, "set its micro_batch_size to 1 and train with `adapter: qlora`"),
        (0.5, "use a machine with more, or a smaller student"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    free: float, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(free * GB))
    monkeypatch.setattr(fits, "_resident", lambda: PROCESS)
    monkeypatch.setattr(fits, "find_spec", lambda name: name)
    job, largest = phase(batch_size=16, micro_batch_size=16), Tally(samples=16, tokens=8192, trained_tokens=2048)
    with pytest.raises(
        CheckFailed, match=rf"phase 'p': training takes about .* GB of memory, and {free} GB .*{advice}"
    ):
        check_memory(job, mix(largest=largest), SMALL, Train())


def test_an_adapter_on_4_bits_is_advised_only_where_it_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def advised(adapter: str = "none", shape: memory.Shape = SMALL, distributed: Any = "none") -> list[str]:
        return [value for _, value in fits._lighter(phase(adapter=adapter), shape, train(distributed))]

    monkeypatch.setattr(fits, "find_spec", lambda name: name)
    assert [advised(adapter) for adapter in ("none", "lora", "qlora")] == [["lora", "qlora"], ["qlora"], []]
    adapted = dataclasses.replace(SMALL, adapted=True)
    assert advised(distributed="fsdp") == advised(shape=adapted) == ["lora"]
    monkeypatch.setattr(fits, "find_spec", lambda _name: None)
    assert advised() == ["lora"]


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize(
    ("trainable", "free", "advice"),
    [
        ("all", 2.7, "and train with `trainable: mlp`$"),
        ("all", 2.2, "and train with `adapter: lora`$"),
        ("mlp", 2.2, "and train with `adapter: lora` instead of `trainable: mlp`$"),
    ],
)
def test_what_would_fit_of_the_weights_alone(
    trainable: str, free: float, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(free * GB))
    monkeypatch.setattr(fits, "_resident", lambda: PROCESS)
    monkeypatch.setattr(fits, "find_spec", lambda _name: None)
    shape = dataclasses.replace(SMALL, mlp=30 * 3 * 576 * 1536)
    with pytest.raises(CheckFailed, match=advice):
        check_memory(phase(micro_batch_size=2, trainable=trainable), mix(), shape, Train())


@pytest.mark.usefixtures("on_a_cpu")
def test_what_would_fit_can_be_dealt_out_to_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(26 * GB))
    job, largest = phase(batch_size=36, micro_batch_size=18), Tally(samples=18, tokens=9216, trained_tokens=2304)
    with pytest.raises(CheckFailed, match="set its micro_batch_size to 9,"):  # 12 would fit, but does not divide 18
        check_memory(job, mix(largest=largest), SMALL, Train(processes=2))


@pytest.mark.usefixtures("on_a_cpu")
def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(20 * GB))
    check_memory(phase(), mix(), SMALL, Train())
    monkeypatch.setattr(fits, "free_memory", lambda: None)
    check_memory(phase(), mix(), SMALL, Config().train)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "device", lambda: "cuda")
    monkeypatch.setattr(fits, "free_memory", lambda: int(1000 * GB))
    monkeypatch.setattr(fits, "free_on_gpus", lambda count: int(16 * GB) if count == 1 else int(8 * GB))


TAUGHT = {"distill": {"teacher": "parent"}}


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(
    ("method", "settings"), [("grpo", ANSWERS), ("rloo", ANSWERS), ("ppo", ANSWERS), ("distill", TAUGHT)]
)
def test_answers_that_cannot_be_rehearsed_on_a_gpu_are_foreseen(method: str, settings: dict[str, Any]) -> None:
    job = phase(method=method, batch_size=16, micro_batch_size=16, **settings)
    many = mix(largest=Tally(samples=16, tokens=16 * 512))
    message = r"phase 'p': training takes about .* GB of each GPU's memory, and 16\.0 GB are free; "
    message += "set its micro_batch_size to 2, which takes about 1[12]"
    with pytest.raises(CheckFailed, match=message):
        check_memory(job, many, SMALL, Train())
    check_memory(job.model_copy(update={"micro_batch_size": 1, "max_length": 64}), many, SMALL, Train())


@pytest.mark.usefixtures("on_a_gpu")
def test_on_a_gpu_what_deepspeed_trains_is_foreseen_and_all_else_is_rehearsed() -> None:
    job, largest = phase(batch_size=64, micro_batch_size=32), mix(largest=Tally(samples=32, tokens=16_384))
    check_memory(job, largest, SMALL, Train())
    check_memory(job, largest, SMALL, Train(processes=2, distributed="fsdp"))
    with pytest.raises(CheckFailed, match=r"of each GPU's memory, and 8\.0 GB are free; set its micro_batch_size to"):
        check_memory(job, largest, SMALL, Train(processes=2, distributed="zero2"))


@pytest.mark.usefixtures("on_a_gpu")
def test_what_is_offloaded_from_gpus_must_fit_into_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    offloading = Train(processes=2, distributed="zero2", offload=True)
    check_memory(phase(), mix(), SMALL, offloading)
    monkeypatch.setattr(fits, "free_memory", lambda: int(1.5 * GB))
    with pytest.raises(CheckFailed, match=r"offloaded takes about 2\.6 GB of main memory, and 1\.5 GB are free; set `"):
        check_memory(phase(), mix(), SMALL, offloading)


def test_how_much_gpus_have_free_is_unknown_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "_FREE_ON_GPUS", "print(min((9, 7, 1)[gpu] for gpu in range({count})))")
    assert fits.free_on_gpus(2) == 7
    monkeypatch.setattr(fits, "_FREE_ON_GPUS", "raise RuntimeError({count})")
    assert fits.free_on_gpus(1) is None


def test_free_memory_is_the_least_that_any_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (free_memory() or 0) > 1500
    files = {"memory.max": "3000", "memory.current": "2000", "memory.stat": "anon 1\ninactive_file 500\n"}
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for name, text in files.items():
        (inner.parent / name).write_text(text)
        (inner / name).write_text("max" if name == "memory.max" else text)
    monkeypatch.setattr(fits, "_GROUPS", tmp_path)
    monkeypatch.setattr(fits, "_own_group", lambda: "outer/inner")
    assert free_memory() == 1500
