"""Model files made to do harm: no code of theirs runs, no memory is filled, and each ends in one line."""

from __future__ import annotations

import ast
import json
import shutil
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import ModelError, TilthError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm import gguf_server, gguf_write, local, untrusted

from ..loop import make_student

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
Path({mark!r}).write_text("the code of the model ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "hostile"
class Model(LlamaForCausalLM):
    config_class = Config
class Tokens(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def hostile(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny model with other settings and files."""

    def made(files: dict[str, str | bytes] | None = None, **changes: dict[str, Any]) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny, folder)
        for name, values in changes.items():
            file = folder / f"{name}.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))
        for name, data in (files or {}).items():
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return folder

    return made


def openers() -> dict[str, Callable[[Path], object]]:
    """Every way in which a model folder is opened."""
    import torch
    from tilth.cycle.modelfile import modelfile
    from tilth.train import reward_model
    from tilth.train.load import load_model, read_class
    from tilth.train.masking import load_tokenizer
    from tilth.train.methods import distill

    return {
        "evaluation": local.load,
        "training": load_model,
        "tokenizer": load_tokenizer,
        "sizes": read_class,
        "reward": lambda folder: reward_model._load(folder, torch.float32),
        "distill": distill._output_size,
        "gguf": gguf_write._read,
        "modelfile": lambda folder: modelfile(folder, "x.gguf", ""),
    }


def tried(folder: Path) -> dict[str, str]:
    """What each way says; it raises nothing else than a TilthError of one line."""
    said = {}
    for name, opener in openers().items():
        try:
            opener(folder)
            said[name] = "opened"
        except TilthError as error:
            said[name] = str(error)
    assert not any("\n" in text for text in said.values())
    return said


def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks at the terminal, where a yes would run the code."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.mark.parametrize("kind", ["hostile", "llama"])
def test_no_code_of_a_model_folder_is_run(hostile, tmp_path, monkeypatch, kind):
    nobody_is_asked(monkeypatch)
    code = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model", "AutoModel": "code.Model"}
    names = {"auto_map": {"AutoTokenizer": ["code.Tokens", "code.Tokens"]}, "tokenizer_class": "Tokens"}
    folder = hostile(
        {"code.py": CODE.format(mark=str(tmp_path / "mark"))},
        config={"auto_map": code, "model_type": kind},
        tokenizer_config=names,
    )
    said = tried(folder)
    assert not (tmp_path / "mark").exists()
    assert "custom code" in said["tokenizer"]
    assert ("custom code" in said["training"]) == (kind == "hostile")  # a known model needs no code of its own


@pytest.mark.slow
def test_every_model_folder_is_opened_without_code() -> None:
    """`from_pretrained` is called where the switches are given, or reads nothing but numbers."""
    numbers = {"GenerationConfig", "LoraConfig"}
    calls = {
        f"{path.relative_to(ROOT)}:{node.lineno}": ast.unparse(node)
        for room in ("llm", "train", "eval", "cycle", "sdg")
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained")
    }
    assert len(calls) > 5
    assert {
        place: call
        for place, call in calls.items()
        if "**NO_CODE" not in call and call.partition(".")[0] not in numbers
    } == {}
    assert untrusted.NO_CODE == {"trust_remote_code": False, "local_files_only": True}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"attn_implementation": "evil/kernel"}, "wants somebody else's code 'evil/kernel'"),
        ({"text_config": {"_attn_implementation": {"": "evil/kernel"}}}, "wants somebody else's code 'evil/kernel'"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1,000,000,000, more than the files have tensors"),
        ({"hidden_size": 10**12}, "cannot be loaded"),
        ({"hidden_size": "many"}, "cannot be loaded"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
        ({"hidden_act": "__import__('os').abort()"}, "cannot be loaded"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "cannot be loaded"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_hostile_configuration_is_one_line(hostile, changes, told):
    said = tried(hostile(config=changes))
    assert told in said["training"]
    assert told in said["evaluation"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "", "{"])
def test_broken_json_is_one_line(hostile, name, text):
    said = tried(hostile({name: text}))
    assert "cannot be loaded" in said["tokenizer"]


def test_pickled_weights_beside_safetensors_are_not_read(hostile, tmp_path):
    import torch

    class Owned:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "mark", "the pickle ran"))

    folder = hostile()
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save(Owned(), folder / name)
    tried(folder)
    assert not (tmp_path / "mark").exists()
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in tried(folder)["training"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.slow
def test_an_adapter_s_file_leads_to_no_other_model(hostile):
    named = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "evil/other"}
    said = tried(hostile({"adapter_config.json": json.dumps(named)}))
    assert "cannot be loaded" in said["training"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{% for a in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_chat_template_is_sandboxed(hostile, template):
    folder = hostile({"chat_template.jinja": template})
    tokenizer = untrusted.open_tokenizer(folder)
    with pytest.raises(ModelError, match="its chat template cannot be used"):
        local.prompt_tokens(tokenizer, [Message(role="user", content="Hi")], folder)


@pytest.mark.slow
def test_checkpoints_are_read_as_numbers_only():
    """States of the optimizer and of the generators are pickles by name: the library may load no objects."""
    import transformers.trainer

    tree = ast.parse(Path(transformers.trainer.__file__).read_text(encoding="utf-8"))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert len(loads) > 5
    assert [ast.unparse(call) for call in loads if "weights_only=True" not in ast.unparse(call)] == []


def head(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


LLAMA = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")


@pytest.mark.parametrize(
    "data",
    [
        head(2**62, 0),
        head(0, 2**62),
        head(0, 1) + struct.pack("<Q", 2**60) + b"x",
        head(0, 1) + text(b"general.architecture") + struct.pack("<IIQ", 9, 8, 2**60),
        head(1, 1) + LLAMA + text(b"a") + struct.pack("<IQQQQIQ", 4, *[2**62] * 4, 0, 0),
    ],
    ids=["tensors", "keys", "string", "array", "shape"],
)
@pytest.mark.slow
def test_a_gguf_file_of_absurd_sizes_is_one_line(tmp_path, data):
    pytest.importorskip("xllamacpp")
    (tmp_path / "model.gguf").write_bytes(data)
    with (
        pytest.raises(ModelError, match=r"model\.gguf: the server did not start") as caught,
        gguf_server.serve(tmp_path / "model.gguf", slots=1, progress=SilentProgress()),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_model_server_tells_strangers_only_that_it_is_there(tiny: Path, tmp_path: Path) -> None:
    """llama.cpp answers pages of any origin, so its token is all that keeps them out."""
    pytest.importorskip("xllamacpp")
    gguf_write.write_gguf(tiny, tmp_path / "m.gguf", "f32", name="m", progress=SilentProgress())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with gguf_server.serve(tmp_path / "m.gguf", slots=1, progress=SilentProgress(), context_tokens=512) as server:
        place = server.base_url.removesuffix("/v1")
        assert place.startswith("http://127.0.0.1:")
        told, refused = dict[str, bytes](), set[int]()
        for path in (
            "/health",
            "/",
            "/v1/models",
            "/props",
            "/slots",
            "/v1/chat/completions",
            "/completion",
            "/tokenize",
        ):
            for token in ("", "guessed"):
                headers = {"Origin": "http://evil.example", "Authorization": f"Bearer {token}"}
                data = b"{}" if path.endswith(("completions", "completion", "tokenize")) else None
                try:
                    with opener.open(urllib.request.Request(place + path, data, headers), timeout=20) as answer:
                        told[path] = answer.read()
                except urllib.error.HTTPError as error:
                    refused.add(error.code)
                    error.close()
    assert told == {"/health": b'{"status":"ok"}'}
    assert refused <= {401, 404}
