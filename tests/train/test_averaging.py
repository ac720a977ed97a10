"""A model drawn back toward its parent: the numbers, the files, and that a phase does it to its model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tilth.core.errors import ModelError
from tilth.train.averaging import average
from tilth.train.plan import Phase


def model(folder: Path, **files: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder


def test_the_mean_is_that_of_the_weights_whatever_file_they_are_in(tmp_path: Path) -> None:
    parent = model(
        tmp_path / "parent", all={"a": torch.zeros(2), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.zeros(())}
    )
    own = model(tmp_path / "own", one={"a": torch.ones(2), "c": torch.ones(())}, two={"b": torch.full((2,), 3.0)})
    written = (own / "two.safetensors").read_bytes()
    average(own, parent, 0.25)
    assert load_file(own / "one.safetensors")["a"].tolist() == [0.75, 0.75]
    assert load_file(own / "one.safetensors")["c"].tolist() == 0.75
    assert load_file(own / "two.safetensors")["b"].tolist() == [2.5, 2.5]
    assert load_file(parent / "all.safetensors")["a"].tolist() == [0.0, 0.0]
    assert (own / "two.safetensors").read_bytes()[:-8] == written[:-8]  # but for the two numbers


def test_a_parent_as_it_came_may_name_its_tensors_without_what_comes_first(tmp_path: Path) -> None:
    parent = model(tmp_path / "parent", all={"h.0.bias": torch.zeros(2)})
    own = model(tmp_path / "own", all={"transformer.h.0.bias": torch.ones(2)})
    average(own, parent, 0.5)
    assert load_file(own / "all.safetensors")["transformer.h.0.bias"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("name", "how"), [("a", "has another shape"), ("b", "is not")])
def test_a_tensor_without_a_counterpart_is_told_and_nothing_changed(tmp_path: Path, name: str, how: str) -> None:
    parent = model(tmp_path / "parent", all={"a": torch.zeros(2)})
    own = model(tmp_path / "own", all={name: torch.zeros(3)})
    before = (own / "all.safetensors").read_bytes()
    with pytest.raises(ModelError, match=rf"{name} {how} in the model .*leave `average` out"):
        average(own, parent, 0.5)
    assert (own / "all.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "reward", "kinds": ("preference",)},
        {"kinds": ("skill",), "adapter": "lora", "lora": {"merge": False}},
    ],
)
def test_what_has_no_weights_of_its_own_is_not_averaged(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="average is for a model's own weights"):
        Phase(name="p", average=0.3, **settings)
