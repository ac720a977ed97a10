"""A tiny random Llama and a byte-level tokenizer with a chat template, made in the process: no download, no weights."""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.jsonl import write_records
from tilth.core.records import Candidate, Kind, Preference, Provenance, Record, Sample

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(template: str, special: tuple[str, ...], *, bos: str = "", eos: str, trained_on: str = "") -> Any:
    """A byte-level BPE tokenizer: one token per byte, and merges learned from `trained_on`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=True)  # as GPT-2 has it: white space gets an empty place
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    inner.train_from_iterator([trained_on], trainer)
    if bos:  # what a tokenizer does by itself, and must not do once more after the template did
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    names: dict[str, Any] = {"bos_token": bos} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=eos,
        additional_special_tokens=list(special),
        chat_template=template,
        **names,
    )


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama with random weights and its tokenizer."""
    import torch
    import trl.trainer.sft_trainer  # noqa: F401 (what the tests import later, frozen below with the rest)
    from accelerate.utils import imports
    from transformers import LlamaConfig, LlamaForCausalLM

    available: Any = imports
    # Asked some times a step, and each time it reads the package's metadata: longer than a tiny model's step takes.
    available._is_package_available = functools.cache(available._is_package_available)

    folder = tmp_path_factory.mktemp("student")
    tokenizer = make_tokenizer(CHATML, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gc.freeze()  # each phase collects garbage, and these libraries leave it half a second's worth of objects to walk
    return folder


def make_sample(
    question: str,
    answer: str,
    *,
    kind: Kind = "knowledge_short",
    leaf: str = "knowledge/a",
    fact: str = "",
    **more: Any,
) -> Sample:
    """A one-turn sample of a leaf."""
    source = Provenance(
        leaf=leaf,
        leaf_fingerprint="f" * 16,
        commit="c" * 40,
        fact=fact,
        recipe="r",
        recipe_fingerprint="p",
        teacher="t",
    )
    return Sample.new(kind, question, answer, source, **more)


def make_samples(count: int, **more: Any) -> list[Sample]:
    """Samples of different lengths."""
    leaf = more.get("leaf", "")
    return [make_sample(f"What is {leaf} {i}?", "It is " + "so " * (i % 5) + f"{i}.", **more) for i in range(count)]


def make_pair(question: str, chosen: str, rejected: str, **more: Any) -> Preference:
    """A better and a worse answer to a question."""
    source = make_sample(question, chosen, **more).source
    better, worse = Candidate(answer=chosen, model="t", score=9), Candidate(answer=rejected, model="t", score=2)
    return Preference.new(question, better, worse, (better, worse), source)


def write_samples(path: Path, *groups: list[Record]) -> Path:
    """A samples.jsonl or preferences.jsonl as the data engine writes it."""
    write_records(path, [sample for group in groups for sample in group])
    return path


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Makers of what the tests are made of."""
    return SimpleNamespace(
        tokenizer=make_tokenizer,
        sample=make_sample,
        samples=make_samples,
        pair=make_pair,
        file=write_samples,
        chatml=CHATML,
    )


@pytest.fixture
def on_a_gpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is foreseen of memory is foreseen there."""
    import torch
    from tilth.train import memory

    monkeypatch.setattr(memory, "device", lambda: "cuda")
    monkeypatch.setattr(memory, "compute_dtype", lambda: torch.bfloat16)


@pytest.fixture
def on_a_cpu(on_a_gpu_with_bfloat16: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of a CPU."""
    from tilth.train import fits, memory

    for module in (memory, fits):
        monkeypatch.setattr(module, "device", lambda: "cpu")
