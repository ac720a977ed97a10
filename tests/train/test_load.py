"""Which files of a model folder its weights are read from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tilth.core.errors import ModelError
from tilth.train.load import tensor_sizes, weight_files


def write(folder: Path, *names: str) -> None:
    import numpy as np

    for name in names:
        save_file({f"{name}.weight": np.zeros((2, 3), dtype="f4")}, folder / name)


def test_the_same_weights_under_other_names_are_not_counted(tmp_path: Path) -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(tmp_path, "consolidated.safetensors", *parts)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"{part}.weight": part for part in parts}}))
    assert [file.name for file in weight_files(tmp_path)] == parts
    assert sum(tensor_sizes(tmp_path).values()) == 12
    (tmp_path / parts[0]).unlink()
    with pytest.raises(ModelError, match=r"model-00001-of-00002.safetensors is missing; get the model anew"):
        weight_files(tmp_path)
    for broken in ("{", "[]", '{"weight_map": []}', "{}"):
        index.write_text(broken)
        with pytest.raises(ModelError, match="the index of the weights is broken"):
            weight_files(tmp_path)
    write(tmp_path, "model.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_without_an_index_all_files_are_the_weights(tmp_path: Path) -> None:
    write(tmp_path, "b.safetensors", "a.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
    with pytest.raises(ModelError, match="there are no safetensors weights"):
        weight_files(tmp_path / "none")
