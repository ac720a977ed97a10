"""What an Ollama Modelfile says of a chat template."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tilth.core.errors import TilthError
from tilth.cycle.modelfile import modelfile

from ..loop import make_student


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("model") / "student")


WITH_SYSTEM = """{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
Be good.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
ALIKE = WITH_SYSTEM.replace("{{ message['content'] }}", "{{ message['content'] }} ")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "prompt", "system"),
    [
        (WITH_SYSTEM, "", "Be good."),
        (WITH_SYSTEM, "Be brief.", "Be brief."),
        (ALIKE, "", None),
        (NO_SYSTEM, "", None),
        ("", "", None),
    ],
)
def test_a_modelfile_says_what_the_chat_template_does(
    student: Path, tmp_path: Path, template: str, prompt: str, system: str | None
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(student, folder)
    (folder / "chat_template.jinja").write_text(template) if template else (folder / "chat_template.jinja").unlink()
    written, remark = modelfile(folder, "a.gguf", prompt)
    assert ("TEMPLATE" in written, bool(remark)) == (system is not None, system is None)
    assert (f'SYSTEM """{system}"""\n' in written) == (system is not None)


def test_a_prompt_that_a_modelfile_cannot_hold(student: Path) -> None:
    with pytest.raises(TilthError, match="three quotation marks"):
        modelfile(student, "a.gguf", 'Say """')
