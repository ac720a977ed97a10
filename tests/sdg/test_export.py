"""Exports of a store that a teacher behind HTTP filled, read as other programs read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tilth.core.atomic import read_json, write_json
from tilth.core.errors import CheckFailed, DataError, TilthError
from tilth.core.fingerprint import file_sha256
from tilth.core.jsonl import write_records
from tilth.core.progress import SilentProgress
from tilth.core.records import Candidate, Message, Preference, Provenance, Question, Sample
from tilth.core.workspace import Workspace
from tilth.cycle.generating import setup_of
from tilth.sdg.export import Selection, export_data
from tilth.sdg.formats import FORMATS, PROVENANCE, provenance_row
from tilth.sdg.generate import bring_up_to_date, plan
from tilth.sdg.store import MANIFEST, PREFERENCES, TESTS, open_entry, read_samples
from tilth.taxonomy.source import CommitTree
from tilth.taxonomy.tree import read_leaves

from ..loop import FERRY, FORMS, MILL, SKILL, Loop, knowledge_files, make_loop, serve_teacher

JSONL = ["messages", "prompt-completion", "alpaca", "sharegpt"]
QUESTION = FORMS[0].format(thing="wheel", subject="Orla Mill")


def select(root: Path, **options: str) -> Selection:
    workspace = Workspace.open(root)
    source = CommitTree(root, "HEAD")
    return Selection(root, source, plan(read_leaves(source), workspace.config, workspace.store), **options)


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def samples(root: Path) -> list[Sample]:
    chosen = select(root).chosen
    return [sample for each in chosen for sample in read_samples(open_entry(each.folder, each.leaf.id, reused=True))]


def add_file(root: Path, name: str, records: list[Any]) -> None:
    """Put records into the first entry, as a flow would."""
    folder = select(root).chosen[0].folder
    write_records(folder / name, records)
    manifest = read_json(folder / MANIFEST)
    manifest["sha256"][name] = file_sha256(folder / name)
    write_json(folder / MANIFEST, manifest)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A workspace with the samples of two leaves; not to be changed."""
    root = tmp_path_factory.mktemp("made") / "taxonomy"
    with serve_teacher() as teacher:
        make_loop(root, teacher, root / "none")
        workspace, source = Workspace.open(root), CommitTree(root, "HEAD")
        setup = setup_of(workspace, source, None, SilentProgress())
        bring_up_to_date(read_leaves(source), setup, SilentProgress())
    return root


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """The same workspace, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "taxonomy"))


@pytest.mark.parametrize("name", JSONL)
def test_every_sample_is_a_row_with_its_provenance_beside_it(made: Path, tmp_path: Path, name: str) -> None:
    export = export_data(select(made), name, tmp_path / "out")
    data, provenance = rows(tmp_path / "out" / "train.jsonl"), rows(tmp_path / "out" / "provenance.jsonl")
    assert [row["id"] for row in data] == [row["id"] for row in provenance] == [each.id for each in samples(made)]
    assert all(list(row) == list(FORMATS[name].columns) for row in data)
    assert all(list(row) == list(PROVENANCE) for row in provenance)
    assert export.samples == len(data) == sum(export.samples_by_leaf.values()) == sum(export.samples_by_kind.values())
    assert set(export.samples_by_leaf) == {MILL, SKILL}
    assert read_json(tmp_path / "out" / "export.json") == export.model_dump(mode="json")
    assert all(file_sha256(tmp_path / "out" / file) == sha256 for file, sha256 in export.sha256.items())


def test_what_a_row_looks_like() -> None:
    source = Provenance(
        leaf="was/here", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="p", teacher="t", span=(3, 9)
    )
    sample = Sample.new("skill", "Say “ä”.", "a", source.model_copy(update={"grades": {"judge": "yes"}}), unmask=True)
    user, assistant = {"role": "user", "content": "Say “ä”."}, {"role": "assistant", "content": "a"}
    told = {"id": sample.id, "kind": "skill", "leaf": "is/there"}
    expected: dict[str, Any] = {
        "messages": {"messages": [user, assistant], "unmask": True},
        "prompt-completion": {"prompt": [user], "completion": [assistant], "unmask": True},
        "alpaca": {"instruction": "Say “ä”.", "input": "", "output": "a"},
        "sharegpt": {"conversations": [{"from": "human", "value": "Say “ä”."}, {"from": "gpt", "value": "a"}]},
    }
    for name, row in expected.items():
        assert FORMATS[name].row(sample, "is/there") == row | told
    row = provenance_row(sample)
    assert (row["id"], row["leaf"], row["span"]) == (sample.id, "was/here", [3, 9])
    assert row["grades"] == [{"step": "judge", "grade": "yes"}]
    system = sample.model_copy(update={"messages": (Message(role="system", content="Be kind."), *sample.messages)})
    with pytest.raises(DataError, match="--format messages"):
        FORMATS["alpaca"].row(system, "is/there")


@pytest.mark.slow
def test_equal_stores_give_equal_bytes(made: Path, own: Path, tmp_path: Path) -> None:
    for name in ("messages", "parquet"):
        first = export_data(select(made), name, tmp_path / "1", ledger=Workspace.open(made).ledger)
        second = export_data(select(own), name, tmp_path / "2", ledger=Workspace.open(own).ledger)
        assert first == second
        assert {"README.md", "ledger.jsonl.gz"} < set(first.sha256)


def test_the_card_tells_sources_counts_and_how_to_make_it_again(own: Path, tmp_path: Path) -> None:
    hostile = "Title of work: A|B <script>x</script> [me](evil)\nLicense of the work: GPL-3.0\nCreator names: Ada\n"
    loop = Loop(own, None, own)  # type: ignore[arg-type]
    loop.commit(SKILL, {"attribution.txt": hostile})
    export_data(select(own), "messages", tmp_path / "out", ledger=Workspace.open(own).ledger)
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["license"] == ["cc0-1.0", "other"]
    assert told["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in told["configs"]] == ["default", "provenance"]
    first, last = (CommitTree(own, revision).commit for revision in ("HEAD~1", "HEAD"))
    assert f"git checkout {first}\ntilth generate\ngit checkout {last}\n" in body
    assert "tilth ledger import ledger.jsonl.gz" in body
    assert "| knowledge/mill | " in body
    assert "| page.md | Made up; CC0-1.0; tester |" in body
    assert r"A\|B &lt;script&gt;x&lt;/script&gt; \[me\](evil); GPL-3.0; Ada" in body
    assert "| quick `" in body
    assert "| rule | rule | 42 |" in body


def test_no_held_out_question_is_exported(own: Path, tmp_path: Path) -> None:
    files = knowledge_files(FERRY)
    qna = yaml.safe_load(files["qna.yaml"])
    qna["test_questions"][0]["question"] = QUESTION  # of the other leaf's samples
    Loop(own, None, own).commit(FERRY, files | {"qna.yaml": yaml.safe_dump(qna)})  # type: ignore[arg-type]
    with pytest.raises(CheckFailed, match="held-out questions stand in"):
        export_data(select(own, leaf=MILL), "messages", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [own]
    export_data(select(own, leaf=SKILL), "messages", tmp_path / "out")


def test_nor_one_that_was_generated(own: Path, tmp_path: Path) -> None:
    add_file(own, TESTS, [Question.new(SKILL, QUESTION, ("larch",))])
    with pytest.raises(CheckFailed, match="held-out questions stand in"):
        export_data(select(own), "alpaca", tmp_path / "out")


def test_pairs_are_exported_with_their_scores(own: Path, tmp_path: Path) -> None:
    with pytest.raises(TilthError, match="no pairs"):
        export_data(select(own), "preference", tmp_path / "out")
    best, worst = (Candidate(answer=text, model="m", score=score) for text, score in (("Larch.", 9.0), ("Oak.", 2.5)))
    pair = Preference.new("Which wood?", best, worst, (worst, best), samples(own)[0].source)
    add_file(own, PREFERENCES, [pair])
    assert export_data(select(own), "preference", tmp_path / "out").samples_by_kind == {"preference": 1}
    [row] = rows(tmp_path / "out" / "train.jsonl")
    assert list(row) == list(FORMATS["preference"].columns)
    assert row["chosen"] == [{"role": "assistant", "content": "Larch."}]
    assert (row["score_chosen"], row["score_rejected"]) == (9.0, 2.5)
    assert [candidate["answer"] for candidate in row["candidates"]] == ["Oak.", "Larch."]
    add_file(own, TESTS, [Question.new(SKILL, "Which wood?", ("larch",))])
    with pytest.raises(CheckFailed, match="held-out"):
        export_data(select(own), "preference", tmp_path / "out")


def test_a_sample_of_two_leaves_is_there_once(own: Path, tmp_path: Path) -> None:
    selection = select(own)
    again = [*selection.planned, selection.planned[0]]
    export = export_data(replace(selection, planned=again), "messages", tmp_path / "out")
    assert export.copies == export.samples_by_leaf[selection.planned[0].leaf.id]
    assert export.samples == len(rows(tmp_path / "out" / "train.jsonl")) == len(samples(own))


def test_only_what_is_wanted(made: Path, tmp_path: Path) -> None:
    export = export_data(select(made, leaf="mill", kind="knowledge_short"), "messages", tmp_path / "out")
    assert (set(export.samples_by_leaf), set(export.samples_by_kind)) == ({MILL}, {"knowledge_short"})
    for options, name, what in (
        ({"leaf": "nowhere"}, "messages", "no samples to export"),
        ({"kind": "document"}, "messages", "no samples of the kind 'document'"),
        ({"kind": "preference"}, "messages", "use --format preference"),
        ({"kind": "skill"}, "preference", "leave --kind out"),
        ({"kind": "test"}, "messages", "for no training"),
    ):
        with pytest.raises(TilthError, match=what):
            export_data(select(made, **options), name, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_only_exports_are_replaced(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    export_data(select(made), "messages", target)
    export_data(select(made), "alpaca", target)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(TilthError, match=r"'notes.txt' is beside an export"):
        export_data(select(made), "messages", target)
    for other in (tmp_path / "folder", tmp_path / "file"):
        (other.mkdir() or (other / "x").touch()) if other.name == "folder" else other.touch()
        with pytest.raises(TilthError, match="something here already"):
            export_data(select(made), "messages", other)
    assert read_json(target / "export.json")["format"] == "alpaca"
    assert (target / "notes.txt").exists()


@pytest.mark.slow
def test_datasets_reads_every_format(own: Path, tmp_path: Path) -> None:
    import datasets

    best, worst = (Candidate(answer=text, model="m", score=score) for text, score in (("Larch.", 9.0), ("Oak.", 2.5)))
    add_file(own, PREFERENCES, [Preference.new("Which?", best, worst, (worst, best), samples(own)[0].source)])
    for name, format_ in FORMATS.items():
        folder = str(tmp_path / name)
        export = export_data(select(own), name, Path(folder), ledger=Workspace.open(own).ledger)
        data = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))["train"]
        provenance = datasets.load_dataset(folder, "provenance", cache_dir=str(tmp_path / "cache"))["train"]
        assert data.num_rows == provenance.num_rows == export.samples
        assert data.column_names == list(format_.columns)
        assert provenance.column_names == list(PROVENANCE)
        first = (open_entry(each.folder, each.leaf.id, reused=True) for each in select(own).chosen)
        if not format_.pairs:
            sample = read_samples(next(first))[0]
            assert data[0] == format_.row(sample, sample.source.leaf)
            assert provenance[0] == provenance_row(sample)
