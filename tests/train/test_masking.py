from __future__ import annotations

from typing import Any

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message, Sample
from tilth.train.masking import IGNORED, tokenize

# The shapes of real chat templates, as text (llama-3.1, gemma-2, mistral-7b-instruct, granite-3, phi-3, zephyr).
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "[INST] {{ message['content'] }} [/INST]{% else %} {{ message['content'] }}</s>{% endif %}{% endfor %}"
)
GRANITE = (
    "{% for message in messages %}<|start_of_role|>{{ message['role'] }}<|end_of_role|>"
    "{{ message['content'] }}<|end_of_text|>\n{% endfor %}"
)
PHI = "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
ZEPHYR = "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] + eos_token }}\n{% endfor %}"

STYLES: dict[str, dict[str, Any]] = {
    "llama3": {
        "template": LLAMA3,
        "special": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
    },
    "gemma": {
        "template": GEMMA,
        "special": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "bos": "<bos>",
        "eos": "<eos>",
    },
    "mistral": {"template": MISTRAL, "special": ("<s>", "</s>"), "bos": "<s>", "eos": "</s>"},
    "granite": {
        "template": GRANITE,
        "special": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        "eos": "<|end_of_text|>",
    },
    "phi": {
        "template": PHI,
        "special": ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "eos": "<|endoftext|>",
    },
    "zephyr": {"template": ZEPHYR, "special": ("</s>",), "eos": "</s>"},
}
TRAINED = {
    "chatml": "It is 7.<|im_end|>",
    "llama3": "It is 7.<|eot_id|>",
    "gemma": "It is 7.<end_of_turn>",
    "mistral": " It is 7.</s>",  # the space is one token with the first word, as the model will have to write it
    "granite": "It is 7.<|end_of_text|>",
    "phi": "It is 7.<|end|>",
    "zephyr": "It is 7.</s>",
}


@pytest.fixture(scope="module")
def tokenizers(make: Any) -> dict[str, Any]:
    words = "It is 7. is It what is it" * 3
    chatml = {"template": make.chatml, "special": ("<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>"}
    return {name: make.tokenizer(**style, trained_on=words) for name, style in {"chatml": chatml, **STYLES}.items()}


def trained_text(tokenizer: Any, sample: Sample, system_prompt: str = "") -> str:
    [tokens] = tokenize(tokenizer, [sample], system_prompt)
    assert len(tokens.input_ids) == len(tokens.labels)
    assert all(label in {token, IGNORED} for token, label in zip(tokens.input_ids, tokens.labels, strict=True))
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


@pytest.mark.parametrize("style", TRAINED)
def test_the_answer_and_its_end_are_trained_and_nothing_else(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    tokenizer = tokenizers[style]
    sample = make.sample("What is it?", "It is 7.")
    assert trained_text(tokenizer, sample) == TRAINED[style]
    [tokens] = tokenize(tokenizer, [sample], "")
    rendered = tokenizer.apply_chat_template([m.model_dump() for m in sample.messages], tokenize=False)
    assert tokenizer.decode(tokens.input_ids) == rendered  # no second BOS, no marker left


@pytest.mark.parametrize("style", TRAINED)
def test_white_space_and_every_script_survive_as_the_template_writes_them(
    style: str, tokenizers: dict[str, Any], make: Any
) -> None:
    answer = "\n\nOne:\n\n  two\n\n\n三 😀 \ue000 "  # with a character that could have been a marker
    text = trained_text(tokenizers[style], make.sample(" What\nis it? ", answer))
    trims = style in {"llama3", "gemma"}
    end = TRAINED[style].strip().removeprefix("It is 7.")
    assert text.lstrip(" ") == (answer.strip() if trims else answer) + end


@pytest.mark.parametrize("style", [style for style in TRAINED if style != "gemma"])
def test_a_system_prompt_goes_before_the_conversation_and_is_not_trained(
    style: str, tokenizers: dict[str, Any], make: Any
) -> None:
    if style == "mistral":  # this template has no system role: it would write the prompt as an answer
        return
    sample = make.sample("What is it?", "It is 7.")
    assert trained_text(tokenizers[style], sample, "Be brief.") == TRAINED[style]
    [tokens] = tokenize(tokenizers[style], [sample], "Be brief.")
    assert "Be brief." in tokenizers[style].decode(tokens.input_ids)


@pytest.mark.parametrize("style", TRAINED)
def test_unmask_trains_the_question_too(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    text = trained_text(tokenizers[style], make.sample("What is it?", "It is 7.", unmask=True))
    assert text.replace(" ", "") == ("What is it?" + TRAINED[style]).replace(" ", "")


@pytest.mark.parametrize("style", TRAINED)
def test_every_assistant_turn_of_a_conversation_is_trained(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    sample = make.sample("What is it?", "It is 7.")
    turns = (*sample.messages, Message(role="user", content="It is 7."), *sample.messages[1:])
    text = trained_text(tokenizers[style], sample.model_copy(update={"messages": turns}))
    assert text == TRAINED[style] * 2


def test_the_first_token_never_counts_as_trained(tokenizers: dict[str, Any], make: Any) -> None:
    tokenizer = make.tokenizer("{% for m in messages %}{{ m['content'] }}</s>{% endfor %}", ("</s>",), eos="</s>")
    [tokens] = tokenize(tokenizer, [make.sample("a", "b", unmask=True)], "")
    assert tokenizer.decode(tokens.input_ids) == "a</s>b</s>"
    assert tokens.labels[0] != IGNORED
    assert tokens.trained == 2


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{% for m in messages %}{{ m['content'] | upper }}</s>{% endfor %}", None),
        ("{% for m in messages %}{{ m['content'] | replace('7', '8') }}</s>{% endfor %}", None),
        ("{% for m in messages %}{{ m['content'][:5] }}</s>{% endfor %}", "rewrites"),
        ("{% for m in messages %}{{ m['content'] | length }}</s>{% endfor %}", "rewrites"),
        ("{{ messages[0]['content'] }}</s>", "leaves out"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}</s>{% endfor %}", "repeats"),
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "no special token"),
        ("{{ raise_exception('not like this') }}", "not like this"),
    ],
)
def test_a_template_that_does_more_than_trim_is_right_or_refused(template: str, what: str | None, make: Any) -> None:
    tokenizer = make.tokenizer(template, ("</s>",), eos="</s>")
    sample = make.sample("What is it?", "It is 7.")
    if what is None:
        assert trained_text(tokenizer, sample) in {"IT IS 7.</s>", "It is 8.</s>"}
        return
    with pytest.raises(ModelError, match=what) as refusal:
        tokenize(tokenizer, [sample], "")
    assert sample.id in str(refusal.value)


def test_a_template_without_a_system_role_refuses_a_system_prompt(tokenizers: dict[str, Any], make: Any) -> None:
    with pytest.raises(ModelError, match=r"System role not supported.*student\.system_prompt"):
        tokenize(tokenizers["gemma"], [make.sample("What is it?", "It is 7.")], "Be brief.")
