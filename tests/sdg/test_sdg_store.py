from __future__ import annotations

import re
from pathlib import Path

import pytest
from tilth.core.errors import DataError
from tilth.sdg.recipe import load_recipe, load_recipes
from tilth.sdg.store import (
    MANIFEST,
    REJECTS,
    SAMPLES,
    entry_path,
    open_entry,
    read_manifest,
    read_rejects,
    read_samples,
)

from .conftest import SKILL_ID, Bench, leaf


@pytest.mark.parametrize("name", [SAMPLES, REJECTS])
def test_a_changed_file_is_noticed(bench: Bench, name: str) -> None:
    bench.leaves = bench.leaves[2:]
    (entry,) = bench.run()
    path = entry.folder / name
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match=re.escape(f"{name}: not the file that was written")) as caught:
        (read_samples if name == SAMPLES else read_rejects)(entry)
    assert "tilth generate" in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match=re.escape(name)):
        (read_samples if name == SAMPLES else read_rejects)(entry)


def test_an_entry_is_what_its_manifest_says(bench: Bench) -> None:
    bench.leaves = bench.leaves[2:]
    (entry,) = bench.run()
    assert open_entry(entry.folder, entry.leaf, reused=False) == entry
    recipe = load_recipes(bench.config)["skill"]
    assert entry.folder.name == f"apples-{bench.leaves[0].fingerprint}-{recipe.fingerprint}-rule"
    manifest = entry.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"samples":', '"simples":'))
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(entry.folder)


@pytest.mark.parametrize("teacher", ["org/model:8b", "a" * 300, "..", "qwen2.5@cc324af0", "ünïcode"])
def test_any_teacher_name_gives_one_folder_below_the_store(tmp_path: Path, teacher: str) -> None:
    recipe = load_recipe("quick")["skills"]
    path = entry_path(tmp_path, leaf(SKILL_ID), recipe, teacher)
    assert path.parent == tmp_path
    path.mkdir()
    assert path != entry_path(tmp_path, leaf(SKILL_ID), recipe, f"{teacher}_")
