import os
from pathlib import Path

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.fingerprint import bytes_sha256
from tilth.llm.endpoint import identity


def test_a_model_is_named_by_what_it_computes(tmp_path: Path):
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF one")
    assert identity(ModelServer(model=str(file))) == f"own@{bytes_sha256(b'GGUF one')[:8]}"
    file.write_bytes(b"GGUF two")
    os.utime(file, ns=(1, 1))
    assert identity(ModelServer(model=str(file))) == f"own@{bytes_sha256(b'GGUF two')[:8]}"
    assert identity(ModelServer(model="own.gguf", base_url=("http://127.0.0.1:9/v1",))) == "own.gguf"


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(ModelError, match=r"none\.gguf: there is no such file; name a GGUF file that is there"):
        identity(ModelServer(model=str(tmp_path / "none.gguf")))
