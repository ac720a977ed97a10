from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.progress import SilentProgress
from tilth.llm.likely import NOTHING
from tilth.llm.local import Said
from tilth.train import self_generated
from tilth.train.masking import load_tokenizer
from tilth.train.self_generated import OwnAnswers


def test_an_answer_that_was_cut_is_left_out_though_the_template_wrote_part_of_it(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 256 tokens the template's part is ten, which are no part of the answer; every letter is a token."""
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 512}')
    said = {"What is  0?": "a" * 246, "What is  1?": "a" * 200}
    monkeypatch.setattr(
        self_generated,
        "generate",
        lambda _folder, asked, **_: [Said(said[turns[-1].content], NOTHING) for turns in asked],
    )
    written = "{% if message['role'] == 'assistant' %}{{ 10 * 'z' }}{% endif %}{{ message['content'] }}"
    template = make.chatml.replace("{{ message['content'] }}", written)
    own = OwnAnswers(
        model=tmp_path,
        tokenizer=make.tokenizer(template, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>"),
        system_prompt="",
        most_tokens=256,
        file=tmp_path / "own.jsonl",
        may_train=lambda _: True,
        progress=SilentProgress(),
    )
    assert [sample.question for sample in own(make.samples(2))] == ["What is  1?"]


def test_what_leaves_no_room_for_an_answer_is_not_asked(student: Path, make: Any, tmp_path: Path) -> None:
    """The model holds 256 tokens, and nearly every letter is one."""
    asked = [make.sample("Why? " + "and " * 100, "So."), make.sample("Why?", "So.")]
    own = OwnAnswers(
        model=student,
        tokenizer=load_tokenizer(student),
        system_prompt="",
        most_tokens=8,
        file=tmp_path / "own.jsonl",
        may_train=lambda _: True,
        progress=SilentProgress(),
    )
    own(asked)
    assert len((tmp_path / "own.jsonl").read_text().splitlines()) == 1
