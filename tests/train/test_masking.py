from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message, Sample
from tilth.llm.local import opening
from tilth.train.masking import IGNORED, tokenize, tokenize_prompts
from tilth.train.methods import pairs

# What real chat templates do, without their tools (llama-3.2, gemma-2 and -3, mistral-7b-v0.3, granite-3.3, phi-3 and
# -4-mini, qwen-2.5 and -3, zephyr): trimming, folding the system prompt into a turn, a system prompt of their own, the
# date, thoughts before the last answer.
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}\n\n{{ system }}<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ first if loop.first else '' }}"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% endif %}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{{ bos_token }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    "{% if message == users[-1] and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ message['content'] }}[/INST]{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
GRANITE = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = \"Today's Date: \" + strftime_now('%B %d, %Y') + '.\nYou are a helpful assistant.' %}"
    "{% endif %}<|start_of_role|>system<|end_of_role|>{{ system }}<|end_of_text|>\n"
    "{% for message in messages %}<|start_of_role|>{{ message['role'] }}<|end_of_role|>"
    "{{ message['content'] }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
PHI3 = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PHI4 = (  # ends the whole conversation once more
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (  # thoughts are taken out of all answers, and put before the last, empty or not
    "{% for message in messages %}{% set content = message['content'] %}<|im_start|>{{ message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% set thought = '' %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' + content.lstrip('\n') }}{% else %}{{ content }}"
    "{% endif %}{% else %}{{ content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

PHI = {"special": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), "eos": "<|endoftext|>"}
GEMMA = {"special": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "bos": "<bos>", "eos": "<eos>"}
STYLES: dict[str, dict[str, Any]] = {
    "llama3": {
        "template": LLAMA3,
        "special": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
    },
    "gemma2": {"template": GEMMA2, **GEMMA},
    "gemma3": {"template": GEMMA3, **GEMMA},
    "mistral": {"template": MISTRAL, "special": ("<s>", "</s>"), "bos": "<s>", "eos": "</s>"},
    "granite": {
        "template": GRANITE,
        "special": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        "eos": "<|end_of_text|>",
    },
    "phi3": {"template": PHI3, **PHI},
    "phi4": {"template": PHI4, **PHI},
    "qwen": {"template": QWEN, "special": ("<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>"},
    "qwen3": {"template": QWEN3, "special": ("<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>"},
    "zephyr": {"template": ZEPHYR, "special": ("</s>",), "eos": "</s>"},
}
TRAINED = {
    "chatml": "It is 7.<|im_end|>",
    "llama3": "It is 7.<|eot_id|>",
    "gemma2": "It is 7.<end_of_turn>",
    "gemma3": "It is 7.<end_of_turn>",
    "mistral": " It is 7.</s>",  # the space is one token with the first word, as the model will have to write it
    "granite": "It is 7.<|end_of_text|>",
    "phi3": "It is 7.<|end|>",
    "phi4": "It is 7.<|end|>",
    "qwen": "It is 7.<|im_end|>",
    "qwen3": "<think>\n\n</think>\n\nIt is 7.<|im_end|>",  # the model has to write it all
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


def rendered(tokenizer: Any, sample: Sample) -> str:
    """As transformers renders it, on the day that training has."""
    template = tokenizer.chat_template
    for code, text in {"%d": "01", "%b": "Jan", "%B": "January", "%Y": "2025"}.items():
        template = template.replace(code, text)
    messages = [message.model_dump() for message in sample.messages]
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)


@pytest.mark.parametrize("style", TRAINED)
def test_the_answer_and_its_end_are_trained_and_nothing_else(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    tokenizer = tokenizers[style]
    sample = make.sample("What is it?", "It is 7.")
    assert trained_text(tokenizer, sample) == TRAINED[style]
    [tokens] = tokenize(tokenizer, [sample], "")
    text = rendered(tokenizer, sample)
    assert tokenizer.decode(tokens.input_ids) == text  # no second BOS, no marker left
    assert tokens.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("style", TRAINED)
def test_white_space_and_every_script_survive_as_the_template_writes_them(
    style: str, tokenizers: dict[str, Any], make: Any
) -> None:
    answer = "\n\nOne:\n\n  two\n\n\n三 😀 \ue000 "  # with a character that could have been a marker
    text = trained_text(tokenizers[style], make.sample(" What\nis it? ", answer))
    trims = style in {"llama3", "gemma2", "gemma3", "mistral"}
    start, _, end = TRAINED[style].strip().partition("It is 7.")
    written = answer.strip() if trims else answer.lstrip("\n") if style == "qwen3" else answer
    assert text.lstrip(" ") == start + written + end


@pytest.mark.parametrize("style", [style for style in TRAINED if style != "gemma2"])
def test_a_system_prompt_goes_before_the_conversation_and_is_not_trained(
    style: str, tokenizers: dict[str, Any], make: Any
) -> None:
    sample = make.sample("What is it?", "It is 7.")
    assert trained_text(tokenizers[style], sample, "Be brief.") == TRAINED[style]
    [tokens] = tokenize(tokenizers[style], [sample], "Be brief.")
    text = tokenizers[style].decode(tokens.input_ids)
    assert text.index("Be brief.") < text.index("What is it?") < text.index("It is 7.")
    if style in {"gemma3", "mistral"}:  # which have no such role: it is folded into the user's turn
        assert "Be brief.\n\nWhat is it?" in text


@pytest.mark.parametrize("style", TRAINED)
def test_unmask_trains_the_question_too(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    text = trained_text(tokenizers[style], make.sample("What is it?", "It is 7.", unmask=True))
    assert text.replace(" ", "") == ("What is it?" + TRAINED[style]).replace(" ", "")


@pytest.mark.parametrize("style", TRAINED)
def test_every_assistant_turn_of_a_conversation_is_trained(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    sample = make.sample("What is it?", "It is 7.")
    turns = (*sample.messages, Message(role="user", content="It is 7."), *sample.messages[1:])
    for prompt in ("", "Be brief.") if style != "gemma2" else ("",):
        assert trained_text(tokenizers[style], sample.model_copy(update={"messages": turns}), prompt) == (
            ("It is 7.<|im_end|>" if style == "qwen3" else TRAINED[style]) + TRAINED[style]
        )


@pytest.mark.parametrize("style", TRAINED)
def test_a_special_token_in_what_a_message_says_is_text(style: str, tokenizers: dict[str, Any], make: Any) -> None:
    tokenizer, special = tokenizers[style], STYLES.get(style, {"special": ("<|im_start|>", "<|im_end|>")})["special"]
    names = " and ".join(special)
    [plain, tokens] = tokenize(
        tokenizer, [make.sample("a", "b"), make.sample(f"What is {names}?", f"{names} are it", unmask=True)], ""
    )
    by_id = {tokenizer.convert_tokens_to_ids(name) for name in special}
    assert [token for token in tokens.input_ids if token in by_id] == [t for t in plain.input_ids if t in by_id]
    text = tokenizer.decode(tokens.input_ids)
    assert f"What is {names}?" in text
    assert f"{names} are it" in tokenizer.decode([label for label in tokens.labels if label != IGNORED])


def test_a_vocabulary_that_makes_special_tokens_of_text_is_told(make: Any) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [(letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyzTW?.'</>"]
    inner = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *letters], unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    template = "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", chat_template=template
    )
    assert trained_text(tokenizer, make.sample("What?", "That.")) == "That.</s>"
    sample = make.sample("What is </s>?", "an end.")
    with pytest.raises(ModelError, match=rf"sample {sample.id}: its text holds '</s>', of which the tokenizer makes"):
        tokenize(tokenizer, [sample], "")


def test_the_tokens_of_a_sample_are_the_same_every_day(
    tokenizers: dict[str, Any], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import chat_template_utils

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Tomorrow:
            return cls(2031, 7, 8, tzinfo=tz)

    samples = [make.sample("What is it?", "It is 7.")]
    today = [tokenize(tokenizers[style], samples, "") for style in ("llama3", "granite")]
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert [tokenize(tokenizers[style], samples, "") for style in ("llama3", "granite")] == today


def test_what_is_asked_and_what_is_trained_make_the_whole(tokenizers: dict[str, Any], make: Any) -> None:
    sample = make.sample("What is it?", "It is 7.")
    for style, tokenizer in tokenizers.items():
        [tokens], [asked] = tokenize(tokenizer, [sample], ""), tokenize_prompts(tokenizer, [sample], "")
        first = next(place for place, label in enumerate(tokens.labels) if label != IGNORED)
        assert tokens.input_ids[:first] == asked, style


def test_what_the_template_writes_before_an_answer_is_part_of_both_of_a_pair(
    tokenizers: dict[str, Any], make: Any
) -> None:
    tokenizer = tokenizers["qwen3"]
    (row,) = pairs.rows(tokenizer, [make.pair("What is it?", "It is 7.", "No idea.")], "")
    told = [tokenizer.decode(ids) for ids in row.ids()]
    assert told == [
        "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n\n</think>\n\nIt is 7.<|im_end|>",
        "<think>\n\n</think>\n\nNo idea.<|im_end|>",
    ]


@pytest.mark.parametrize("answer", ["<think>Six?</think>It is 7.", "Six?</think>It is 7."])
def test_a_template_that_takes_an_answer_apart_is_refused(answer: str, tokenizers: dict[str, Any], make: Any) -> None:
    with pytest.raises(ModelError, match=r"the chat template (leaves out|rewrites)"):
        tokenize(tokenizers["qwen3"], [make.sample("What is it?", answer)], "")


def test_a_template_that_asks_for_more_than_it_writes_is_trained_from_the_answer_on(make: Any) -> None:
    template = make.chatml.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
    tokenizer = make.tokenizer(template, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    assert trained_text(tokenizer, make.sample("What is it?", "It is 7.")) == TRAINED["chatml"]


def test_what_the_template_writes_before_an_answer_is_no_part_of_what_was_answered(tokenizers: dict[str, Any]) -> None:
    said = {style: opening(tokenizer) for style, tokenizer in tokenizers.items()}
    assert {style: text for style, text in said.items() if text} == {
        "mistral": " ",
        "qwen3": "<think>\n\n</think>\n\n",
    }


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
        tokenize(tokenizers["gemma2"], [make.sample("What is it?", "It is 7.")], "Be brief.")
