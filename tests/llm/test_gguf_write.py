"""GGUF files of our writing, read by llama.cpp: the same tokens, the same answers."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request

import pytest
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.llm.gguf_server import serve
from tilth.llm.gguf_vocabulary import _LLAMA_3, _QWEN_2, _TEKKEN
from tilth.llm.gguf_write import write_gguf
from tilth.llm.student import student_folder

from ..loop import make_student

NASTY = (
    "Hello  world\n\n\n  tabs\t\there 12345 3.14 1²3 ½ ٣٤ don't I'M we'LL  \r\n héllo Ünïcödé 我想在apple工作 🚀👩‍👩‍👧 "
    "<|im_start|>user <|im_end|> < |im_end| > <|im_end  trailing   \n \n x_y  --==>> e\u0301 \u00a0nbsp\u2028 ''\"\"`` "
)
QUESTIONS = (
    "What is the capital of France?", "Write a haiku about rain.", "2+2?", "Name three colours.", "Who wrote Hamlet?",
    "Translate 'good morning' to Spanish.", "What is photosynthesis?", "List the planets.", "Why is the sky blue?",
    "Say hello in five languages.", "What is 12 times 12?", "Explain gravity to a child.", "What's your name?",
    "Write a polite refusal to a meeting invitation.", "Give me a shopping list for pasta.", "Who was Marie Curie?",
    "What is a lighthouse?", "Summarise: The cat sat on the mat.", "How many days are in a leap year?",
    "Write one sentence about the sea.",
)  # fmt: skip


class Llama:
    """What a llama.cpp server says of a file."""

    def __init__(self, server):
        self._server = server
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _ask(self, path, **body):
        url = self._server.base_url.removesuffix("/v1") + path
        headers = {"Authorization": f"Bearer {self._server.token}", "Content-Type": "application/json"}
        with self._opener.open(urllib.request.Request(url, json.dumps(body).encode(), headers)) as response:
            return json.loads(response.read())

    def tokens(self, text):
        return self._ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]

    def prompt(self, question):
        return self._ask("/apply-template", messages=[{"role": "user", "content": question}])["prompt"]

    def greedy(self, prompt, number):
        wishes = {"prompt": prompt, "n_predict": number, "temperature": 0, "return_tokens": True, "cache_prompt": False}
        return self._ask("/completion", **wishes, samplers=["temperature"])["tokens"]


@pytest.fixture
def llama(tmp_path):
    """Writes a folder as a GGUF file and serves it."""
    pytest.importorskip("xllamacpp")
    with contextlib.ExitStack() as stack:

        def served(folder, numbers="f32"):
            path = tmp_path / f"{numbers}.gguf"
            write_gguf(folder, path, numbers, name="a test", progress=SilentProgress())
            return Llama(stack.enter_context(serve(path, slots=1, progress=SilentProgress(), context_tokens=1024)))

        yield served


def loaded(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def prompt(tokenizer, question):
    asked = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False).input_ids


def greedy(model, prompt, number):
    import torch

    told = torch.tensor([prompt])
    made = model.generate(told, attention_mask=torch.ones_like(told), max_new_tokens=number, do_sample=False)
    return made[0, len(prompt) :].tolist()


def agreeing(one, other):
    """How many tokens are equal from the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two layers of random weights, large enough for positions to count, and a tokenizer with merges."""
    import torch

    folder = make_student(tmp_path_factory.mktemp("small") / "model")
    model = loaded(folder)[0]
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    return folder


def changed(folder, path, **changes):
    """A copy whose tokenizer splits otherwise, or whose configuration is another."""
    shutil.copytree(folder, path)
    for name, values in changes.items():
        file = path / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return path


def same_answers(folder, served, questions, number):
    """How many tokens agree, and how many there are, for each question; its tokens must be the same."""
    model, tokenizer = loaded(folder)
    found = []
    for question in questions:
        told = prompt(tokenizer, question)
        assert served.tokens(served.prompt(question)) == told
        ours, theirs = greedy(model, told, number), served.greedy(told, number)
        found.append((agreeing(ours, theirs), min(len(ours), len(theirs))))
    return found


@pytest.mark.slow
def test_a_small_model_says_the_same_in_llama_cpp(small, llama):
    served = llama(small)
    assert served.tokens(NASTY) == loaded(small)[1](NASTY).input_ids
    assert all(same == number for same, number in same_answers(small, served, QUESTIONS[:3], 12))


def split(*steps, ignore_merges=False):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps]}, "ignore_merges": ignore_merges}


def by(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


DIGITS = {"type": "Digits", "individual_digits": True}
WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = WORDS | {"use_regex": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("smollm", split(DIGITS, WORDS)),
        ("llama-bpe", split(by(_LLAMA_3), BYTES, ignore_merges=True)),
        ("qwen2", split(by(_QWEN_2), BYTES)),
        ("tekken", split(by(_TEKKEN), BYTES, ignore_merges=True)),
    ],
)
def test_each_known_splitter_splits_as_llama_cpp_does(small, tmp_path, llama, name, way):
    folder = tmp_path / name
    shutil.copytree(small, folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["pre_tokenizer"], tokenizer["model"]["ignore_merges"] = way["pre_tokenizer"], way["ignore_merges"]
    file.write_text(json.dumps(tokenizer))
    served, ours = llama(folder), loaded(folder)[1]
    assert served.tokens(NASTY) == ours(NASTY).input_ids


@pytest.mark.slow
@pytest.mark.parametrize("numbers", ["f16", "bf16", "q8_0"])
def test_shorter_numbers_stay_near(small, llama, numbers):
    served = llama(small, numbers)
    assert all(same == number for same, number in same_answers(small, served, QUESTIONS[:2], 4))


ROPE = {"rope_theta": 10000.0, "factor": 4.0}
LLAMA_3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.slow
@pytest.mark.parametrize("rope", [ROPE | {"rope_type": "linear"}, ROPE | LLAMA_3_ROPE | {"rope_type": "llama3"}])
def test_scaled_positions_are_scaled_in_llama_cpp(small, tmp_path, llama, rope):
    folder = changed(small, tmp_path / "scaled", config={"rope_parameters": rope})
    question = " ".join(QUESTIONS)
    plain = greedy(loaded(small)[0], prompt(loaded(small)[1], question), 12)
    assert same_answers(folder, llama(folder), [question], 12) == [(12, 12)]
    assert plain != greedy(loaded(folder)[0], prompt(loaded(folder)[1], question), 12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"config": {"architectures": ["Qwen2ForCausalLM"]}},
            "of the Llama architecture only, and this is Qwen2ForCausalLM",
        ),
        ({"config": {"hidden_act": "gelu"}}, "its activation is gelu"),
        ({"config": {"rope_parameters": ROPE | {"rope_type": "dynamic"}}}, "its positions are scaled by dynamic"),
        ({"tokenizer": {"normalizer": {"type": "NFC"}}}, "knows no name of llama.cpp's"),
        ({"tokenizer": {"pre_tokenizer": split(by("a"), BYTES)["pre_tokenizer"]}}, "knows no name of llama.cpp's"),
        ({"tokenizer": {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}}, "no byte-level BPE"),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused(small, tmp_path, changes, told):
    folder = changed(small, tmp_path / "model", **changes)
    with pytest.raises(ModelError) as caught:
        write_gguf(folder, tmp_path / "a.gguf", "f16", name="a test", progress=SilentProgress())
    assert told in str(caught.value)
    assert str(caught.value).endswith("convert the folder with llama.cpp's convert_hf_to_gguf.py")


def test_an_adapter_alone_and_a_broken_folder_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"there is no config\.json"):
        write_gguf(tmp_path, tmp_path / "a.gguf", "f16", name="a test", progress=SilentProgress())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        write_gguf(tmp_path, tmp_path / "a.gguf", "f16", name="a test", progress=SilentProgress())


@pytest.mark.models
@pytest.mark.parametrize("numbers", ["f16", "q8_0"])
def test_the_embedded_student_says_the_same_in_llama_cpp(llama, progress, numbers):
    folder = student_folder("smollm2-135m-instruct", progress)
    served = llama(folder, numbers)
    assert served.tokens(NASTY) == loaded(folder)[1](NASTY).input_ids
    found = same_answers(folder, served, QUESTIONS, 16)
    assert sum(same == number for same, number in found) >= {"f16": 18, "q8_0": 10}[numbers], found
