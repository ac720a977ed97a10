"""How much memory a phase will take on each device, foreseen from the model's `config.json` and the longest rows.

Weights, gradients and AdamW's two moments follow from the number of parameters and from how they are shared (ZeRO:
Rajbhandari et al., arXiv 1910.02054). What the backward pass needs of the forward one was counted tensor by tensor, in
what autograd saves for a Llama layer of transformers 5.23 under scaled-dot-product attention: a layer of the same parts
(norms, attention, a gated MLP) saves about as much. `benchmarks/train_memory.py` holds the sum against measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.atomic import read_json
from ..core.config import Train
from ..core.records import Record
from ..llm.precision import compute_dtype, device
from .auto import Resolved
from .load import tensor_sizes
from .mix import Mix
from .plan import LEARNS_FROM_ANSWERS, TRAINS_ON
from .trainer import recomputes

_FLOAT = 4
_MOMENTS = 8
_LOGIT = 12
"""Bytes for each logit when the backward pass begins: float32 of the log-softmax, of its gradient and the loss's."""
_HEAP, _LARGEST_IN_HEAP = 1.4, 32 * 2**20
"""On a CPU the C library's heap has holes: resident against live bytes, as measured. What is larger is not in it."""
_FOUR_BITS = 0.53
"""Bytes for a weight of 4 bits: NF4 in blocks of 64 with doubly quantised scales (QLoRA, arXiv 2305.14314)."""
_HEADS = {"lm_head.weight", "embed_out.weight", "output.weight"}
"""What the output head is called where it has weights of its own."""
PROCESS = 550_000_000
"""Resident memory of Python, PyTorch and the libraries before a model is loaded."""


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


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch: rows, the tokens of the longest, and the positions that go through the output head."""

    rows: int
    length: int
    places: int


class Memory(Record):
    """Bytes on each device. The parts are not all there at once: `total` is the most that is."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    process: int
    """What the libraries take themselves, where the device is the CPU."""
    total: int
    host: int = 0
    """In main memory, for each process: what is offloaded."""


@dataclass(frozen=True)
class Sharing:
    """How processes share a model's training: ZeRO's stages, 0 for none; PyTorch's FSDP is as stage 3."""

    processes: int = 1
    stage: int = 0
    offload: bool = False

    @classmethod
    def of(cls, settings: Train) -> Sharing:
        """What `tilth.yaml` asks for."""
        stages = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}
        return cls(settings.processes * settings.nodes, stages[settings.distributed], settings.offload)


def read_shape(folder: Path) -> Shape:
    """Of the model in a folder. Raises DataError, ModelError."""
    config: dict[str, Any] = read_json(folder / "config.json")
    config = config.get("text_config", config)
    hidden = int(config.get("hidden_size") or config["n_embd"])
    heads = int(config.get("num_attention_heads") or config["n_head"])
    width, vocab = int(config.get("head_dim") or hidden // heads), int(config["vocab_size"])
    sizes = tensor_sizes(folder)
    return Shape(
        parameters=sum(sizes.values()),
        embedding=vocab * hidden,
        tied=not sizes.keys() & _HEADS,
        hidden=hidden,
        layers=int(config.get("num_hidden_layers") or config["n_layer"]),
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        attention=heads * width,
        keys=int(config.get("num_key_value_heads") or heads) * width,
        vocab=vocab,
    )


def estimate(
    shape: Shape, phase: Resolved, batch: Batch, sharing: Sharing = Sharing(), *, recompute: bool | None = None
) -> Memory:
    """The memory on each device while the phase trains; `recompute` is what the trainer does unless it is said."""
    recompute = recomputes(shape.parameters) if recompute is None else recompute
    weights, trained = _weights(shape, phase)
    gradients, optimizer = _FLOAT * trained, _MOMENTS * trained
    tokens = batch.rows * batch.length
    layer = tokens * _saved_in_layer(shape, phase, batch)
    kept = layer + tokens * shape.layers * _FLOAT * shape.hidden if recompute else shape.layers * layer
    in_heap = device() == "cpu" and tokens * shape.intermediate * _compute_bytes() < _LARGEST_IN_HEAP
    activations = round((kept + tokens * _backward_of_layer(shape)) * (_HEAP if in_heap else 1))
    logits = _LOGIT * shape.vocab * batch.rows * batch.places if phase.method != "reward" else 0
    weights, gradients, optimizer, host = _shared(shape, sharing, weights, gradients, optimizer)
    passing = activations + logits
    # Without accumulation the gradients come as the activations go; first that of a tied output head.
    first = _FLOAT * shape.embedding if phase.adapter == "none" and shape.tied else 0
    alone = phase.batch_size == phase.micro_batch_size * sharing.processes and sharing == Sharing()
    moving = max(gradients, passing + first) if alone else gradients + passing
    process = PROCESS if device() == "cpu" else 0
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        process=process,
        total=weights + optimizer + moving + process + (host if device() == "cpu" else 0),
        host=host,
    )


def longest_batch(phase: Resolved, mix: Mix) -> Batch:
    """The micro-batch that takes the most memory. Both answers of a pair go through the model at once."""
    each = 2 if "preference" in TRAINS_ON[phase.method] else 1
    each = phase.rollout.completions if phase.method in LEARNS_FROM_ANSWERS else each
    rows = min(phase.micro_batch_size, mix.total.samples) * each
    length = min(mix.longest, phase.max_length)  # documents are split
    return Batch(rows, length, min(mix.places, length))


def gigabytes(size: int) -> str:
    """`3.1 GB`."""
    return f"{size / 1e9:,.1f} GB"


def _weights(shape: Shape, phase: Resolved) -> tuple[int, int]:
    """Bytes of the weights, with their copies in the format that matrices multiply in, and how many are trained."""
    copied = _compute_bytes() if _compute_bytes() < _FLOAT else 0
    if phase.adapter == "none":
        return _FLOAT * shape.parameters + copied * shape.matrices, shape.parameters
    trained = shape.adapter(phase.lora.rank)
    if phase.adapter == "lora":
        return _FLOAT * (shape.parameters + trained) + copied * shape.matrices, trained
    outside = shape.parameters - shape.in_layers
    quantized = round(_FOUR_BITS * shape.in_layers)
    return quantized + _FLOAT * (outside + trained) + copied * shape.embedding, trained


def _saved_in_layer(shape: Shape, phase: Resolved, batch: Batch) -> int:
    """Bytes for each token that a layer keeps for the backward pass."""
    wide, size = shape.hidden, _compute_bytes()
    mask = size * batch.length if batch.rows > 1 else 0
    if phase.adapter == "none":
        inputs = 3 if size == _FLOAT else 6  # float32 needs no copy of what several matrices take
        return 16 * wide + size * (inputs * wide + 4 * shape.intermediate + 3 * shape.attention) + mask
    dropped = 21 * wide + _FLOAT * shape.intermediate if phase.lora.dropout else 0
    adapted = 6 * wide + 4 * shape.intermediate + 4 * shape.attention + 7 * phase.lora.rank
    return 8 * wide + dropped + size * adapted + mask


def _backward_of_layer(shape: Shape) -> int:
    """Bytes for each token that the backward pass of one layer takes for a moment."""
    return _compute_bytes() * 3 * shape.intermediate + 2 * _FLOAT * shape.hidden


def _shared(shape: Shape, sharing: Sharing, weights: int, gradients: int, optimizer: int) -> tuple[int, int, int, int]:
    """What of each is on a device, and what is in main memory for it."""
    share = max(1, sharing.processes)
    if sharing.stage == 0:
        return weights, gradients * (1 if share == 1 else 2), optimizer, 0  # the others' come in buckets as large
    optimizer = (optimizer + _FLOAT * optimizer // _MOMENTS) // share  # DeepSpeed keeps the weights of its share again
    gradients = gradients // share if sharing.stage >= 2 else gradients
    host = optimizer if sharing.offload else 0
    if sharing.stage == 3:
        gathered = 2 * _FLOAT * max(shape.in_layers // shape.layers, shape.embedding)
        host += weights // share if sharing.offload else 0
        weights = gathered + (0 if sharing.offload else weights // share)
    return weights, gradients, 0 if sharing.offload else optimizer, host


def _compute_bytes() -> int:
    """Of a number in the format that matrices multiply in."""
    return compute_dtype().itemsize
