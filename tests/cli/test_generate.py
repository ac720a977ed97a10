"""`tilth generate` and `tilth samples`: what they print, and what they refuse before anything is spent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tilth.cli import ledger
from tilth.cli.cycle import cycle
from tilth.cli.export_data import export_data
from tilth.cli.generate import generate
from tilth.cli.samples import samples
from tilth.core.errors import ConfigError, ModelError, TaxonomyError, TilthError
from tilth.llm.scripted import serve_scripted
from tilth.sdg.unmade import NotComplete

from ..loop import FERRY, MILL, SKILL, Loop, knowledge_files, make_loop, serve_teacher


@pytest.fixture
def loop(tmp_path: Path) -> Generator[Loop]:
    """A workspace without samples, and the current folder."""
    with serve_teacher() as teacher:
        yield make_loop(tmp_path / "taxonomy", teacher, tmp_path / "none")


@pytest.fixture(autouse=True)
def _inside(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(loop.root)


@pytest.mark.slow
def test_a_cost_that_nothing_adds_to_is_no_limit(loop: Loop) -> None:
    with pytest.raises(ConfigError, match="has no prices"):
        generate(max_cost=1.0)
    assert not loop.teacher.requests
    generate(max_cost=1.0, overrides=["teacher.prices={prompt: 0.1}"])
    assert loop.teacher.requests


@pytest.mark.slow
def test_what_failed_is_told_each_time_with_the_way_out(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_scripted(rates={"400": 0.3}) as url:
        told: list[str] = []
        for _ in range(2):
            generate(overrides=[f"teacher={{model: fake, base_url: '{url}'}}"])
            told.append(capsys.readouterr().out)
    assert "reused" not in told[0]
    assert told[1].count("reused") == 2
    for text in told:
        assert "the first is" in text
        assert "HTTP 400: on purpose" in text
        assert "to ask again what was refused, remove .tilth/store/" in text


@pytest.mark.slow
def test_leaves_that_other_settings_made_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    generate()
    assert "another seed" not in capsys.readouterr().out
    generate(overrides=["seed=7"])
    assert "made with another seed or judge: 2 leaves" in capsys.readouterr().out


@pytest.mark.slow
def test_texts_are_indented_and_steer_no_terminal(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    teach = loop.teacher.reply

    def reply(body: str) -> dict[str, Any]:
        answer = teach(body)
        message = answer["choices"][0]["message"]
        if not message["content"].startswith("{") and "Write a task" not in body:
            message["content"] = "one\x1b[2J\ntwo"
        return answer

    loop.teacher.reply = reply
    generate()
    capsys.readouterr()
    samples(leaf=SKILL, rejects=True)  # two lines, which no seed has
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "  A: one [2J\n     two\n" in told


@pytest.mark.slow
def test_samples_says_what_is_missing(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    samples()
    assert "2 leaves of 2 without samples: run `tilth generate`" in capsys.readouterr().out
    generate()
    loop.commit(FERRY, knowledge_files(FERRY))
    capsys.readouterr()
    samples(limit=1)
    assert "1 leaf of 3 without samples" in capsys.readouterr().out


@pytest.mark.slow
def test_a_leaf_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    generate()
    for verb in (
        lambda: samples(leaf="nope"),
        lambda: export_data(str(tmp_path / "out"), leaf="nope"),
        lambda: ledger.export(tmp_path / "answers.jsonl", leaf="nope"),
    ):
        with pytest.raises(TilthError, match="no committed leaf has 'nope' in its path"):
            verb()


def told(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """What was printed, and what was said beside it."""
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def test_what_is_not_committed_is_told_and_left_out(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    generate(dry_run=True)
    assert told(capsys)[1] == []
    page = loop.root / MILL / "page.md"
    page.write_text(page.read_text() + "\nMore.\n")
    for number in range(6):
        (loop.root / f"compositional_skills/new{number}").mkdir()
        (loop.root / f"compositional_skills/new{number}/qna.yaml").write_text("broken: [")
    shutil.rmtree(loop.root / SKILL)
    generate(dry_run=True)
    out, err = told(capsys)
    names = [f"{SKILL} (removed)", *(f"compositional_skills/new{number}" for number in range(4))]
    assert err == [f"not committed, and left out: {', '.join(names)} and 3 more"]
    assert out[-1].startswith("2 leaves to make")


def test_cycle_tells_it_too(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(loop.root / SKILL)
    with pytest.raises(ModelError, match="there is no model"):  # the student of these tests
        cycle()
    assert f"not committed, and left out: {SKILL} (removed)" in told(capsys)[1]


@pytest.mark.slow
def test_a_leaf_or_a_folder_alone(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    generate([loop.root / "compositional_skills"])
    assert [line.split()[0] for line in told(capsys)[0] if "/" in line] == [SKILL]
    generate([loop.root / MILL], dry_run=True)
    assert told(capsys)[0][-1].startswith("1 leaf to make, 0 complete")
    (loop.root / FERRY).mkdir(parents=True)
    for name, text in knowledge_files(FERRY).items():
        (loop.root / FERRY / name).write_text(text)
    with pytest.raises(TaxonomyError, match="there is no leaf 'knowledge/ferry' in the last commit; commit it first"):
        generate([loop.root / FERRY])
    with pytest.raises(TaxonomyError, match="there is no leaf 'knowledge/fery'; did you mean 'knowledge/ferry'"):
        generate([loop.root / "knowledge/fery"])


@pytest.mark.slow
def test_a_broken_leaf_harms_no_other_and_cycle_insists_on_it(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    files = knowledge_files(FERRY)
    loop.commit(FERRY, {"qna.yaml": files["qna.yaml"], "attribution.txt": files["attribution.txt"]})
    reason = "no file of the repository matches 'page.md'"
    for as_json in (False, True):
        with pytest.raises(NotComplete, match=f"1 leaf is not complete: {FERRY}: .*{reason}"):
            generate(as_json=as_json)
        out, err = told(capsys)
        assert any(line.startswith(f"cannot be read, and left out: {FERRY}: ") for line in err)
    rows = json.loads("\n".join(out))
    assert [row["leaf"] for row in rows if "problem" not in row] == [SKILL, MILL]
    assert [row["leaf"] for row in rows if "problem" in row] == [FERRY]
    with pytest.raises(NotComplete):
        generate(dry_run=True)
    assert any(line.startswith(f"not complete: {FERRY}: ") for line in told(capsys)[0])
    with pytest.raises(TaxonomyError, match=reason):
        cycle()
