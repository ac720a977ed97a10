"""How much memory a phase will take on each device, foreseen from the model's `config.json` and the longest rows.

Weights, gradients and AdamW's two moments follow from the number of parameters and from how they are shared (ZeRO:
Rajbhandari et al., arXiv 1910.02054). What the backward pass needs of the forward one was counted tensor by tensor, in
what autograd saves for a Llama layer of transformers 5.23 under scaled-dot-product attention: a layer of the same parts
(norms, attention, a gated MLP) saves about as much; a test counts it again. `benchmarks/train_memory.py` holds the sum
against measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..core.config import Train
from ..core.records import Record
from ..llm.precision import compute_dtype, device
from .adapters import FOLDER
from .auto import Resolved
from .load import count_parameters, is_in_mlp, read_class, read_number, tensor_sizes
from .methods.rollouts import TILE, TILE_ON_CPU, TILE_WIDTH
from .mix import Mix
from .plan import LEARNS_FROM_ANSWERS, TRAINS_ON, MethodName, Phase
from .trainer import recomputes
from .varlen import FASTER_IN_FLOAT32, can_join_rows_in

FLOAT, MOMENTS = 4, 8
"""Bytes for each parameter: a weight or a gradient, and AdamW's two moments."""
_LOGIT = 12
"""Bytes for each logit when the backward pass begins: float32 of the log-softmax, of its gradient and the loss's.

Before ppo's begins it is the log-softmax, its exponential, the product of both, and the logit itself."""
_HOLES, _HOLES_WITH_ADAPTER, _LARGEST_IN_HEAP = 0.25, 0.5, 32 * 2**20
"""On a CPU the C library's heap has holes: of all that the layers put there in a pass, whether it is kept or not, so
much stays resident though it is free. A freed piece between others that are kept is too small for the next one of its
own size, which asks for room to be aligned in (glibc's bug 14581); adapters compute more for a moment, and leave more.
Measured over eighteen ways to train (`benchmarks/train_memory.py`). What is larger than 32 MiB is not in the heap."""
_FOUR_BITS = 0.53
"""Bytes for a weight of 4 bits: NF4 in blocks of 64 with doubly quantised scales (QLoRA, arXiv 2305.14314)."""
_HEADS = {"lm_head.weight", "embed_out.weight", "output.weight"}
"""What the output head is called where it has weights of its own."""
_JOINED = frozenset({"sft", "pretrain"})
"""Methods whose rows are joined where the model allows it (`methods/supervised.py`)."""
_IN_TILES: dict[MethodName, tuple[int, int]] = {"grpo": (31, 2), "rloo": (31, 2), "distill": (44, 8)}
"""Methods whose logits are never there as a whole: TRL makes and forgets them tile by tile. Bytes for each logit of a
tile: on a CPU what is computed of it in the backward pass, all of it whole, for prompts too; on a GPU the tile alone.
Counted in `trl/kernels/chunked_logprob.py` and `chunked_divergence.py` of TRL 1.16."""
_BUCKET, _LIVE = 500_000_000, 1_000_000_000
"""DeepSpeed's `reduce_bucket_size`, and its `stage3_max_live_parameters`: a smaller model stays gathered."""
PROCESS = 610_000_000
"""Resident memory of Python, PyTorch and the libraries: 557 MB before a model is loaded, the rest once it trains."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides how much memory it takes."""

    parameters: int
    embedding: int
    """Parameters of the input embedding; it is the output head too where they are tied."""
    tied: bool
    hidden: int
    layers: int
    intermediate: int
    attention: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together."""
    vocab: int
    mlp: int = 0
    """Parameters of the layers' MLPs."""
    joins: bool = True
    """Whether it takes rows that follow one another without padding (`varlen`)."""
    adapted: bool = False
    """Whether there is an adapter beside it, which the phase before kept (`adapters`)."""

    @property
    def matrices(self) -> int:
        """Parameters that matrices multiply with, norms left in: all but an embedding that is only looked up."""
        return self.parameters if self.tied else self.parameters - self.embedding

    @property
    def in_layers(self) -> int:
        """Parameters of the layers."""
        return self.parameters - self.embedding * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter on every matrix of the layers: rank times what goes in and what comes out."""
        attention = 2 * (self.hidden + self.attention) + 2 * (self.hidden + self.keys)
        return rank * self.layers * (attention + 3 * (self.hidden + self.intermediate))

    def trained(self, phase: Phase) -> int:
        """Parameters that a phase trains."""
        if phase.adapter != "none":
            return self.adapter(phase.lora.rank)
        return self.mlp if phase.trainable == "mlp" else self.parameters

    def after(self, phase: Phase) -> Shape:
        """Of the model that the next phase starts from, when this one starts from a model of this shape."""
        keeps = phase.adapter != "none" and not phase.lora.merge
        return self if phase.method == "reward" else replace(self, adapted=keeps)


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch."""

    rows: int
    length: int
    """Tokens of the longest row."""
    tokens: int
    """Of all rows, padding too."""
    logits: int
    """Positions of all rows that go through the output head."""
    joined: bool
    """Whether the rows follow one another: then there is neither padding nor a mask (`varlen`)."""
    shared: int = 0
    """Tokens that all rows begin with, which are among `tokens` once."""


class Memory(Record):
    """Bytes on each device. The parts are not all there at once: `total` is the most that is."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    others: int
    """Weights of models that are asked only: a teacher, the reference, reward models."""
    process: int
    """What the libraries take themselves, where the device is the CPU."""
    total: int
    host: int = 0
    """In main memory, for each process: what is offloaded."""


@dataclass(frozen=True)
class Sharing:
    """How processes share a model's training: by DeepSpeed in ZeRO's stages, 0 for none; FSDP is as stage 3."""

    processes: int = 1
    stage: int = 0
    offload: bool = False
    deepspeed: bool = True

    @classmethod
    def of(cls, settings: Train) -> Sharing:
        """What `tilth.yaml` asks for."""
        stages = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}
        stage, deepspeed = stages[settings.distributed], settings.distributed != "fsdp"
        return cls(settings.total_processes, stage, settings.offload, deepspeed)


def read_shape(folder: Path) -> Shape:
    """Of the model in a folder. Raises DataError, ModelError."""
    kind, config = read_class(folder)
    text = config.get_text_config()
    hidden, vocab, layers = (
        read_number(config, name, folder) for name in ("hidden_size", "vocab_size", "num_hidden_layers")
    )
    heads = getattr(text, "num_attention_heads", 0)  # there are none in a model without attention
    width = getattr(text, "head_dim", None) or hidden // max(1, heads)
    sizes = tensor_sizes(folder)
    return Shape(
        parameters=sum(sizes.values()),
        embedding=vocab * hidden,
        tied=not sizes.keys() & _HEADS,
        hidden=hidden,
        layers=layers,
        intermediate=getattr(text, "intermediate_size", None) or 4 * hidden,
        attention=heads * width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * width,
        vocab=vocab,
        mlp=sum(size for name, size in sizes.items() if is_in_mlp(name)),
        joins=can_join_rows_in(kind, config),
        adapted=(folder / FOLDER).exists(),
    )


def estimate(
    shape: Shape, phase: Resolved, batch: Batch, sharing: Sharing = Sharing(), *, recompute: bool | None = None
) -> Memory:
    """The memory on each device while the phase trains; `recompute` is what the trainer does unless it is said."""
    recompute = recomputes(shape.parameters) if recompute is None else recompute
    weights, copies, trained = _weights(shape, phase)
    gradients, optimizer = FLOAT * trained, MOMENTS * trained
    tokens = batch.tokens
    layer = _saved_in_layer(shape, phase, batch)
    kept = layer + tokens * shape.layers * FLOAT * shape.hidden if recompute else shape.layers * layer
    momentary = tokens * _backward_of_layer(shape)
    in_heap = device() == "cpu" and tokens * shape.intermediate * _compute_bytes() < _LARGEST_IN_HEAP
    share = _HOLES if phase.adapter == "none" else _HOLES_WITH_ADAPTER
    holes = round(share * (shape.layers * layer + momentary)) if in_heap else 0
    activations = kept + momentary + holes
    logits = _logits(shape, phase, batch)
    weights, gradients, optimizer, host = _shared(shape, sharing, weights, gradients, optimizer)
    passing = activations + logits
    # Without accumulation the gradients come as the weights' copies and the activations go, the last ones beside one
    # layer's activations; into a heap's free pieces only where these are as large. A tied embedding has two gradients:
    # the output head's comes first.
    first = FLOAT * shape.embedding if shape.tied and trained == shape.parameters else 0
    if sharing != Sharing() or phase.batch_size != phase.micro_batch_size:
        moving = gradients + passing
    elif device() != "cpu" or tokens * _compute_bytes() >= shape.hidden * FLOAT:
        moving = max(gradients - copies + layer + momentary, passing)
    else:
        moving = gradients - min(gradients, copies) + passing
    others, process = _others(shape, phase), PROCESS if device() == "cpu" else 0
    most = max(first + moving, _beside_a_step(shape, phase))
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        others=others,
        process=process,
        total=weights + optimizer + most + others + process + (host if device() == "cpu" else 0),
        host=host,
    )


def longest_batch(phase: Resolved, mix: Mix, shape: Shape) -> Batch:
    """The micro-batch that takes the most memory; of a phase that was given a smaller one than its mix has, a guess.

    Both answers of a pair go through the model at once, and all answers to a prompt.
    """
    rows, length = min(phase.micro_batch_size, mix.largest.samples), min(mix.longest, phase.max_length)
    if shape.joins and phase.method in _JOINED:
        share, shared = rows / mix.largest.samples, once(mix) if rows > 1 else 0
        tokens = min(round(share * mix.largest.tokens), rows * length) - (rows - 1) * shared
        trained = min(round(share * mix.largest.trained_tokens), tokens)
        return Batch(rows, length, tokens, trained, joined=True, shared=shared)
    rows *= 2 if "preference" in TRAINS_ON[phase.method] else 1
    rows *= phase.rollout.completions if phase.method in LEARNS_FROM_ANSWERS else 1
    return Batch(rows, length, rows * length, rows * min(mix.places, length), joined=False)


def once(mix: Mix) -> int:
    """Tokens that go through the model once for a micro-batch: what its rows share, on a CPU."""
    return mix.shared if device() == "cpu" else 0


def gigabytes(size: int) -> str:
    """`3.1 GB`."""
    return f"{size / 1e9:,.1f} GB"


def _others(shape: Shape, phase: Resolved) -> int:
    """Bytes of models beside the one that is trained.

    The reference is one; only under an adapter that is new it is the same model without the adapter.
    """
    rollout, found = phase.rollout, 0
    if phase.distill:
        found += FLOAT * _parameters(phase.distill.teacher, shape)
    if rollout.beta and (phase.adapter == "none" or shape.adapted):
        found += _loaded(shape, phase)
    return found + sum(
        _compute_bytes() * _parameters(reward.model, shape) for reward in rollout.rewards if reward.model
    )


def _beside_a_step(shape: Shape, phase: Resolved) -> int:
    """Bytes that the end of an epoch takes, when activations are gone.

    There the merged weights of an adapter are made, in main memory (`merge`), or a model answers held-out questions.
    """
    merged = 0 if phase.adapter == "none" or device() != "cpu" else FLOAT * shape.in_layers
    if phase.adapter == "qlora" and merged:  # beside the weights that those in 4 bits were made from
        merged += FLOAT * shape.parameters
    return max(merged, _compute_bytes() * shape.parameters if phase.select.by == "held_out" else 0)


def _parameters(model: str, shape: Shape) -> int:
    """Of the model in a folder, or of one that was made from the student: the plan's parent, a reward phase's."""
    folder = Path(model)
    return count_parameters(folder) if (folder / "config.json").is_file() else shape.parameters


def _weights(shape: Shape, phase: Resolved) -> tuple[int, int, int]:
    """Bytes of the weights with their copies, of these alone, and how many weights are trained.

    The copies are in the format that matrices multiply in. Autograd has them from the forward pass until the backward
    pass has used them.
    """
    trained = shape.trained(phase)
    copied = shape.embedding if phase.adapter == "qlora" else shape.matrices
    copies = copied * (_compute_bytes() if _compute_bytes() < FLOAT else 0)
    adapter = 0 if phase.adapter == "none" else FLOAT * trained
    return _loaded(shape, phase) + adapter + copies, copies, trained


def _loaded(shape: Shape, phase: Resolved) -> int:
    """Bytes of the weights as `load_model` has them."""
    if phase.adapter == "qlora":
        return round(_FOUR_BITS * shape.in_layers) + FLOAT * (shape.parameters - shape.in_layers)
    return FLOAT * shape.parameters


def _saved_in_layer(shape: Shape, phase: Resolved, batch: Batch) -> int:
    """Bytes that a layer keeps for the backward pass."""
    size = _compute_bytes()
    dropout = phase.adapter != "none" and phase.lora.dropout > 0
    copied = size != FLOAT or dropout  # else matrices that take the same states keep them once
    each = (16 if phase.adapter == "none" else 8) * shape.hidden + size * (5 if copied else 2) * shape.hidden
    each += size * 4 * shape.intermediate + _attended(shape, batch, dropout=dropout)
    if dropout:  # what is drawn of each input
        each += (FLOAT if device() == "cpu" else 1) * (5 * shape.hidden + shape.attention + shape.intermediate)
    if phase.adapter != "none":
        each += size * 7 * phase.lora.rank
    if phase.adapter == "qlora":
        each += 3 * (FLOAT - size) * shape.intermediate  # as matrices of 4 bits give
    return batch.tokens * each + (_attended_again(shape, batch) if batch.shared else 0)


def _attended(shape: Shape, batch: Batch, *, dropout: bool) -> int:
    """Bytes for each token that attention keeps: queries, keys, values, what comes out of it."""
    if batch.rows > 1 and not batch.joined:  # under a mask keys and values are kept for each query head
        return _compute_bytes() * ((5 if dropout else 4) * shape.attention + batch.length)
    one_by_one = batch.joined and device() == "cpu"  # there rows attend one by one, and are put together
    put_together = _compute_bytes() * shape.attention if one_by_one or dropout else 0
    return _attention_bytes(batch) * 2 * (shape.attention + shape.keys) + put_together


def _attention_bytes(batch: Batch) -> int:
    """A number in a product of attention: joined rows that are short have them in float32 (`varlen.attend`)."""
    in_float32 = batch.joined and device() == "cpu" and batch.length <= FASTER_IN_FLOAT32
    return FLOAT if in_float32 else _compute_bytes()


def _attended_again(shape: Shape, batch: Batch) -> int:
    """Bytes that attention keeps of what rows share, for each row anew: keys and values of all it sees, and a mask.

    Under a mask they are kept for each query head (`varlen.attend`).
    """
    numbers = batch.length * (2 * shape.attention * batch.rows + batch.tokens - batch.shared)
    return _attention_bytes(batch) * numbers


def _backward_of_layer(shape: Shape) -> int:
    """Bytes for each token that the backward pass of one layer takes for a moment."""
    return _compute_bytes() * 3 * shape.intermediate + 2 * FLOAT * shape.hidden


def _logits(shape: Shape, phase: Resolved, batch: Batch) -> int:
    """Bytes for the logits that are there at a time, and what is computed of them."""
    if phase.method not in _IN_TILES:
        more = _compute_bytes() if phase.method == "ppo" else 0
        return (_LOGIT + more) * shape.vocab * batch.logits
    on_cpu, on_gpu = _IN_TILES[phase.method]
    width = min(shape.vocab, TILE_WIDTH)
    if device() == "cpu":
        return on_cpu * min(batch.tokens, TILE_ON_CPU) * width
    return on_gpu * min(batch.logits, TILE) * width


def _shared(shape: Shape, sharing: Sharing, weights: int, gradients: int, optimizer: int) -> tuple[int, int, int, int]:
    """What of each is on a device, and what is in main memory for it."""
    share = max(1, sharing.processes)
    if sharing.stage == 0:
        return weights, gradients * (1 if share == 1 else 2), optimizer, 0  # the others' come in buckets as large
    host, largest = 0, FLOAT * max(shape.in_layers // shape.layers, shape.embedding)
    if sharing.deepspeed:
        optimizer += FLOAT * optimizer // MOMENTS  # it keeps the weights of its share again
        gradients, host = _exchanged(shape, sharing, gradients)
    else:  # whole of the group of weights under way, and once more to be sent; gloo copies that
        gradients = gradients // share + (3 if device() == "cpu" else 2) * largest
    optimizer //= share
    host += optimizer if sharing.offload else 0
    if sharing.stage == 3:
        gathered = FLOAT * min(shape.parameters, _LIVE) if sharing.deepspeed else 2 * largest
        host += weights // share if sharing.offload else 0
        weights = gathered + (0 if sharing.offload else weights // share)
    return weights, gradients, 0 if sharing.offload else optimizer, host


def _exchanged(shape: Shape, sharing: Sharing, gradients: int) -> tuple[int, int]:
    """Bytes of DeepSpeed's gradients on a device and in main memory, with the bucket in which they are exchanged.

    On a GPU the bucket is there whole; in main memory as far as it is filled, and once more when it is sent. To scatter
    a sum gloo makes all of it, in one more copy.
    """
    share = gradients // max(1, sharing.processes)
    kept = 0 if sharing.offload else share if sharing.stage >= 2 or device() == "cpu" else gradients
    copies = 3 if sharing.stage == 3 else 2
    bucket = copies * min(gradients, FLOAT * _BUCKET) if device() == "cpu" else FLOAT * _BUCKET
    return kept + bucket, share + 2 * FLOAT * shape.embedding if sharing.offload else 0


def _compute_bytes() -> int:
    """Of a number in the format that matrices multiply in."""
    return compute_dtype().itemsize
