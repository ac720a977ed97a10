"""One process among several that train a phase together: what it must know, and how they agree.

`join` is called by a worker (`worker.py`) before anything else; in a process that trains alone nothing of this has an
effect. The weights are float32 and matrices multiply in the device's format however the work is shared.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..core.config import Config, Train
from ..llm.precision import compute_dtype, device
from .plan import LEARNS_FROM_ANSWERS, Phase

if TYPE_CHECKING:
    from .auto import Resolved

_TIMEOUT_S = 4 * 3600
"""How long a process waits for the others; that one of them is gone is known much sooner, from who started it."""

_joined: list[Train] = []


def for_phase(config: Config, phase: Phase) -> Config:
    """The configuration for a phase: one that learns from answers of its own is trained by one process."""
    if phase.method not in LEARNS_FROM_ANSWERS:
        return config
    alone = {"processes": 1, "nodes": 1, "distributed": "none", "offload": False}
    return config.model_copy(update={"train": config.train.model_copy(update=alone)})


def join(settings: Train) -> None:
    """Let this process be one of those that torch's environment variables tell of (RANK, WORLD_SIZE, ...)."""
    import torch

    _joined[:] = [settings]
    if device() == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # a model in 4 bits stays where it is loaded


def processes() -> int:
    """How many train together, over all machines."""
    return int(os.environ["WORLD_SIZE"]) if _joined else 1


def process() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if _joined else 0


def is_first() -> bool:
    """Whether it is the one that writes what is written once."""
    return process() == 0


def arguments(phase: Resolved) -> dict[str, Any]:
    """How a phase is shared, in the words of transformers' `TrainingArguments`."""
    sizes: dict[str, Any] = {
        "per_device_train_batch_size": phase.micro_batch_size,
        "gradient_accumulation_steps": phase.batch_size // processes() // phase.micro_batch_size,
    }
    if not _joined:
        return sizes
    settings = _joined[0]
    sizes["ddp_timeout"] = _TIMEOUT_S
    if device() == "cpu":
        sizes["ddp_backend"] = "gloo"
    if settings.distributed == "fsdp":
        return sizes | _fsdp(settings)
    if settings.distributed != "none":
        return sizes | {"deepspeed": _zero(settings)}
    # Else its buckets are laid out anew after the first step: a resumed run would add up in another order.
    return sizes | {"ddp_find_unused_parameters": True}


def settle(arguments: Any) -> None:
    """Set what transformers' `TrainingArguments` have no word for: FSDP adds gradients up in float32."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if _joined and _joined[0].distributed == "fsdp" and compute_dtype() == torch.bfloat16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        arguments.fsdp_plugin_args["mixed_precision_policy"] = policy


def share_on_cpu(trainer: Any) -> None:
    """Let the trainer's new accelerator use FSDP: on CPUs it would without a word copy the model to each process."""
    if not _joined or _joined[0].distributed != "fsdp" or trainer.is_fsdp_enabled:
        return
    from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState

    state = trainer.accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
    state.distributed_type = PartialState().distributed_type = DistributedType.FSDP  # the one is made anew of the other
    trainer.is_fsdp_enabled = True


def casts_itself() -> bool:
    """Whether what shares the work also sees to the format of products: DeepSpeed does."""
    return bool(_joined) and _joined[0].distributed.startswith("zero")


def seed_process(seed: int) -> None:
    """Let this process draw other random numbers than the others."""
    import torch

    if processes() > 1:
        torch.manual_seed(seed + process())


def added_up(*numbers: int) -> list[int]:
    """Each number, added up over the processes."""
    return _reduced(numbers, "SUM") if processes() > 1 else list(numbers)


def any_of(*flags: bool) -> list[bool]:
    """Each flag, true where it is true in any process."""
    return [bool(flag) for flag in _reduced(flags, "MAX")] if processes() > 1 else list(flags)


def of_all(noted: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """What all processes noted under each name."""
    import torch
    import torch.distributed

    if processes() == 1:
        return dict(noted)
    everyone: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(everyone, dict(noted))
    names = dict.fromkeys(name for each in everyone for name in each)
    return {name: [value for each in everyone for value in each.get(name, ())] for name in names}


def wait_for_all() -> None:
    """Return when every process is here."""
    import torch

    if processes() > 1:
        torch.distributed.barrier()


def whole_weights(trainer: Any, made: Callable[[], dict[str, Any]] | None) -> dict[str, Any] | None:
    """The model's weights in the first process, where each has a share of them only. All processes call it together.

    `made` makes them from the shares where there is an adapter. None: save what the model itself has.
    """
    kind = _joined[0].distributed if _joined else "none"
    if kind == "zero3" and made is None:
        return trainer.accelerator.get_state_dict(trainer.deepspeed)
    if kind == "zero3":
        deepspeed: Any = import_module("deepspeed")
        with deepspeed.zero.GatheredParameters(list(trainer.model.parameters())):
            return _kept(trainer.plain, made() if made else {})
    if kind == "fsdp":
        return _kept(trainer.plain, made() if made else trainer.plain.state_dict())
    return made() if made else None


def _kept(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Each weight whole, in main memory, in the first process; of tied ones the first."""
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    twice -= {name for name, _ in model.named_parameters()}
    whole: dict[str, Any] = {}
    for name, tensor in weights.items():
        if name not in twice:
            full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            whole |= {name: full.detach().cpu().clone()} if is_first() else {}
    return whole


def _reduced(numbers: tuple[int, ...], how: str) -> list[int]:
    import torch
    import torch.distributed

    tensor = torch.tensor(numbers, dtype=torch.int64, device=device())
    torch.distributed.all_reduce(tensor, getattr(torch.distributed.ReduceOp, how))
    return tensor.tolist()


def _zero(settings: Train) -> dict[str, Any]:
    """DeepSpeed's configuration. Source: Rajbhandari et al., ZeRO, arXiv 1910.02054; its offload, 2101.06840."""
    import torch

    # It would be compiled on first use, under a lock that a kill leaves behind: then all later runs wait for ever.
    import_module("deepspeed.ops").__compatible_ops__["deepspeed_shm_comm"] = False
    stage = int(settings.distributed.removeprefix("zero"))
    optimization: dict[str, Any] = {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True}
    if settings.offload:
        where = {"device": "cpu", "pin_memory": device() != "cpu"}
        optimization["offload_optimizer"] = where
        if stage == 3:
            optimization["offload_param"] = where
    return {
        "zero_optimization": optimization,
        "zero_allow_untested_optimizer": True,  # torch's own AdamW, as everywhere
        "zero_force_ds_cpu_optimizer": False,  # its own would be compiled first
        "bf16": {"enabled": False},  # that would keep the weights themselves in bfloat16; this casts them as it goes:
        "torch_autocast": {
            "enabled": compute_dtype() == torch.bfloat16,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # else small weights are rounded in the first step after a start only
        },
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "steps_per_print": math.inf,
    }


def _fsdp(settings: Train) -> dict[str, Any]:
    """Fully sharded data parallel, PyTorch's second (`fully_shard`). On a CPU all is in main memory anyway."""
    offload = settings.offload and device() != "cpu"
    return {
        "fsdp": True,
        "fsdp_config": {"version": 2, "cpu_offload": offload, "state_dict_type": "SHARDED_STATE_DICT"},
    }
