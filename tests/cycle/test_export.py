"""A release in the forms that other programs take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tilth.core.atomic import read_json
from tilth.core.errors import DataError, TilthError
from tilth.core.fingerprint import file_sha256
from tilth.core.progress import SilentProgress
from tilth.cycle.export import Format, export_release
from tilth.cycle.releases import is_as_written

from ..loop import Loop, Spawner


def export(loop: Loop, target: Path, form: Format = "safetensors") -> tuple[set[str], str]:
    remark = export_release(loop.workspace, 1, target, SilentProgress(), form=form)
    record = loop.release(1)
    assert Path(record["plan"]).is_absolute()  # a path of this machine is for nobody else
    assert Path(record["student"]).is_absolute()
    told = record | {"plan": "plan.yaml", "student": "student"}
    assert {**read_json(target / "release.json"), "record_sha256": ""} == told | {"record_sha256": ""}
    assert is_as_written(target)
    assert all(path.stat().st_nlink == 1 for path in target.rglob("*") if path.is_file())
    return {path.name for path in target.iterdir()}, remark


def test_an_export_is_a_plain_model_folder(turned_once: Loop, tmp_path: Path) -> None:
    names, remark = export(turned_once, tmp_path / "out")
    assert {"config.json", "tokenizer.json"} <= names
    model = turned_once.state / "releases/0001/model/model.safetensors"
    assert (file_sha256(tmp_path / "out/model.safetensors"), remark) == (file_sha256(model), "")
    with pytest.raises(TilthError, match="something here already"):
        export(turned_once, tmp_path / "out")


def test_a_damaged_release_is_not_exported(turned_once: Loop, tmp_path: Path) -> None:
    loop = turned_once.copy(tmp_path / "damaged")
    weights = loop.state / "releases/0001/model/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors: not the file that was written; restore it"):
        export(loop, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_disk_that_is_full_is_told_by_its_place(
    spawner: Spawner, turned_once: Loop, tmp_path: Path, form: Format
) -> None:
    pytest.importorskip("gguf")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    target = tmp_path / "out"
    ran = spawner.run(turned_once.root, "releases", "export", "1", str(target), "--format", form, before=limit)
    assert ran.code == 2
    told = ran.err.splitlines()[-1]
    assert re.fullmatch(rf"tilth: {target}\S*: (file too large|no space left on device); .*", told), ran.err
    assert not target.exists()


def test_an_export_for_the_hub_has_a_card(turned_once: Loop, tmp_path: Path) -> None:
    names, _ = export(turned_once, tmp_path / "out", "hub")
    assert {"README.md", "model.safetensors"} <= names
    own = turned_once.state / "releases/0001/model/README.md"
    assert (tmp_path / "out/README.md").read_text() == own.read_text()
    loop = turned_once.copy(tmp_path / "older")
    (loop.state / "releases/0001/model/README.md").unlink()
    export(loop, tmp_path / "again", "hub")
    card = (tmp_path / "again/README.md").read_text()
    assert card.startswith('---\nlibrary_name: "transformers"\npipeline_tag: "text-generation"\ntags: ["tilth"]\n---\n')


def test_an_export_for_llama_cpp_and_ollama(spawner: Spawner, turned_once: Loop, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    target = tmp_path / "ollama"
    ran = spawner.run(turned_once.root, "releases", "export", "1", str(target), "--format", "ollama", "--type", "q8_0")
    assert (ran.code, ran.out.startswith("exported to ")) == (0, True), ran.err
    assert {path.name for path in target.iterdir()} == {"release-1-q8_0.gguf", "release.json", "Modelfile"}
    assert (target / "release-1-q8_0.gguf").read_bytes()[:4] == b"GGUF"
    written = (target / "Modelfile").read_text()
    assert written.startswith("FROM ./release-1-q8_0.gguf\nPARAMETER temperature 0\nTEMPLATE ")
    assert 'PARAMETER stop "<|im_end|>"\n' in written
    assert "SYSTEM" not in written


def test_a_wish_without_effect_is_refused(spawner: Spawner, turned_once: Loop, tmp_path: Path) -> None:
    ran = spawner.run(turned_once.root, "releases", "export", "1", str(tmp_path / "out"), "--type", "f16")
    assert ran.err == "tilth: --type has no effect with --format safetensors; leave it out, or write --format gguf\n"
    assert (ran.code, list(tmp_path.iterdir())) == (2, [])
