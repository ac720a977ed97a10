"""No file names a package registry or a path of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "huggingface" + ".co", "hf" + ".co"]
FOLDERS = ["work", "opt", "root"]
PATTERN = re.compile(rf"\b({'|'.join(map(re.escape, HOSTS))})\b|(?<![\w.~/-])/({'|'.join(FOLDERS)})/")


def test_files_name_no_registry_and_no_machine(files: list[PurePosixPath], root: Path) -> None:
    wrong: list[str] = []
    for path in files:
        text = (root / path).read_bytes().decode("utf-8", errors="replace")
        wrong += [f"{path}:{number}" for number, line in enumerate(text.splitlines(), start=1) if PATTERN.search(line)]
    assert not wrong


@pytest.mark.parametrize("text", [f"https://{HOSTS[0]}/simple", f"cd /{FOLDERS[0]}/main", f"'/{FOLDERS[2]}/.cache'"])
def test_the_pattern_finds_them(text: str) -> None:
    assert PATTERN.search(text)


@pytest.mark.parametrize(
    "text", [f"docs/{FOLDERS[0]}/flow", f"~/{FOLDERS[0]}/taxonomy", f"../{FOLDERS[2]}/x", "huggingface_hub"]
)
def test_the_pattern_leaves_the_rest(text: str) -> None:
    assert not PATTERN.search(text)
