"""`tilth ledger` as two people use it: one has paid for answers, the other makes the samples again without a server."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tilth.cli import ledger as verb
from tilth.cli.generate import generate
from tilth.core.errors import ModelError, TilthError
from tilth.core.workspace import Workspace
from tilth.sdg.store import MANIFEST, REJECTS, SAMPLES

from ..loop import MILL, SKILL, Spawner, first_turn, make_loop, serve_teacher

Go = Callable[[Path], None]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Go:
    return monkeypatch.chdir


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A workspace whose samples are made: one answer was repaired, some are none. The server has ended since."""
    root = tmp_path_factory.mktemp("paid") / "taxonomy"
    with serve_teacher() as teacher:
        loop = make_loop(root, teacher, root / "none")
        prices = {"prompt": 1000.0, "completion": 2000.0}
        loop.configure(teacher={"model": "rule", "base_url": teacher.url, "prices": prices})
        teach = teacher.reply

        def reply(body: str) -> dict[str, Any]:
            answer, request = teach(body), json.loads(body)
            is_repair = any(turn["role"] == "assistant" for turn in request["messages"])
            never = "beta" in first_turn(request)
            if "response_format" in request and (never or ("gam" in first_turn(request) and not is_repair)):
                answer["choices"][0]["message"]["content"] = "I would rather not."
            return answer

        teacher.reply = reply
        here = Path.cwd()
        os.chdir(root)
        try:
            generate()
        finally:
            os.chdir(here)
    return root


@pytest.fixture
def clone(paid: Path, tmp_path: Path) -> Path:
    """The taxonomy elsewhere, with the same settings and no state."""
    root = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(paid), str(root)], check=True, capture_output=True)
    for name in ("tilth.yaml", "plan.yaml"):
        shutil.copy(paid / name, root)
    return root


def made(root: Path) -> dict[str, bytes]:
    store = Workspace.open(root).store
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in store.glob("*/*")
        if path.name in {SAMPLES, REJECTS}
    }


def sha256_of(root: Path) -> str:
    """Of the samples of the mill."""
    manifests = (json.loads(path.read_text()) for path in Workspace.open(root).store.glob(f"*/{MANIFEST}"))
    return next(str(manifest["sha256"][SAMPLES]) for manifest in manifests if manifest["leaf"] == MILL)


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
@pytest.mark.slow
def test_the_same_bytes_are_made_elsewhere_with_no_request(
    paid: Path, clone: Path, tmp_path: Path, go: Go, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    go(paid)
    verb.export(tmp_path / name)
    go(clone)
    with pytest.raises(ModelError, match="cannot reach the teacher"):
        generate()
    capsys.readouterr()
    verb.import_(tmp_path / name)
    told = capsys.readouterr().out
    assert "2 leaves can be made again to the byte, without a request" in told
    generate()
    assert made(clone) == made(paid)
    assert len(made(paid)) == 4
    manifests = [json.loads(path.read_text()) for path in Workspace.open(clone).store.glob(f"*/{MANIFEST}")]
    assert [manifest["requests"]["paid"] for manifest in manifests] == [0, 0]
    assert all(manifest["requests"]["asked"] for manifest in manifests)
    assert any(manifest["failures"] for manifest in manifests)
    capsys.readouterr()
    verb.import_(tmp_path / name)
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("imported 0 answers")
    assert others == ["2 leaves are in the store already, to the byte"]
    verb.export(tmp_path / "again.jsonl")
    if name == "answers.jsonl":
        assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / name).read_bytes()


def test_what_differs_is_said(
    paid: Path, clone: Path, tmp_path: Path, go: Go, capsys: pytest.CaptureFixture[str]
) -> None:
    go(paid)
    verb.export(tmp_path / "answers.jsonl", leaf="mill")
    go(clone)
    (clone / "tilth.yaml").write_text((clone / "tilth.yaml").read_text() + "seed: 7\n")
    capsys.readouterr()
    verb.import_(tmp_path / "answers.jsonl")
    _, line = capsys.readouterr().out.splitlines()
    assert line == f"1 leaf ({MILL}): the seed was 42 and is 7; set `seed: 42` in tilth.yaml"


def test_answers_that_are_there_stay(
    paid: Path, clone: Path, tmp_path: Path, go: Go, capsys: pytest.CaptureFixture[str]
) -> None:
    go(paid)
    verb.export(tmp_path / "answers.jsonl")
    go(clone)
    verb.import_(tmp_path / "answers.jsonl")
    text = (tmp_path / "answers.jsonl").read_text()
    (tmp_path / "answers.jsonl").write_text(text.replace(r"\"content\": \"", r"\"content\": \"not "))
    capsys.readouterr()
    verb.import_(tmp_path / "answers.jsonl")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("imported 0 answers, ")
    assert second.endswith(" of these are others than in the file, and stay: samples made of them differ")
    assert third == "2 leaves can be made again without a request: `tilth generate`"


def test_other_samples_stay(
    paid: Path, clone: Path, tmp_path: Path, go: Go, capsys: pytest.CaptureFixture[str]
) -> None:
    go(paid)
    verb.export(tmp_path / "answers.jsonl", leaf="mill")
    go(clone)
    shutil.copytree(paid / ".tilth", clone / ".tilth")
    text = (tmp_path / "answers.jsonl").read_text()
    (tmp_path / "answers.jsonl").write_text(text.replace(sha256_of(paid), "0" * 64))
    capsys.readouterr()
    verb.import_(tmp_path / "answers.jsonl")
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(f"1 leaf ({MILL}): the store has other samples, and they stay; remove their folder")


def test_what_there_is_and_what_it_cost(paid: Path, spawner: Spawner, tmp_path: Path) -> None:
    told = spawner.run(paid, "ledger")
    assert (told.code, told.err) == (0, "")
    assert "it is whole" in told.out
    assert all(word in told.out for word in (MILL, SKILL, "reword", "rule", "cost"))
    found = spawner.run(paid, "ledger", "--json").json
    usage = found["usage"]
    prompt, completion = (sum(use[f"{kind}_tokens"] for use in usage) for kind in ("prompt", "completion"))
    assert found["cost"] == pytest.approx((prompt * 1000 + completion * 2000) / 1e6)
    assert (found["faults"], {use["leaf"] for use in usage}) == ([], {MILL, SKILL})
    unknown = spawner.run(paid, "ledger", "--json", "--set", "teacher.model=other").json
    assert unknown["cost"] is None
    (tmp_path / "tilth.yaml").write_text("seed: 1\n")
    assert "no model was asked yet" in spawner.run(tmp_path, "ledger").out
    assert not (tmp_path / ".tilth").exists()
    assert spawner.run(tmp_path, "ledger", "--json").json["usage"] == []


def test_a_damaged_ledger_is_a_no(paid: Path, clone: Path, spawner: Spawner) -> None:
    shutil.copytree(paid / ".tilth", clone / ".tilth")
    database = sqlite3.connect(clone / ".tilth" / "ledger.db")
    database.execute("UPDATE requests SET request = request || ' ' WHERE rowid = 2")
    database.commit()
    database.close()
    told = spawner.run(clone, "ledger")
    assert told.code == 1
    assert "keys that are not the hash of their request: 1" in told.err
    assert len(told.err.splitlines()) == 1


def test_nothing_to_export(clone: Path, tmp_path: Path, go: Go) -> None:
    go(clone)
    with pytest.raises(TilthError, match="run `tilth generate` first"):
        verb.export(tmp_path / "answers.jsonl")
    assert not (tmp_path / "answers.jsonl").exists()
