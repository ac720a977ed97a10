import gzip
import json
from dataclasses import replace

import pytest
from tilth.core.errors import DataError, TilthError
from tilth.core.fingerprint import text_sha256
from tilth.llm.ledger import Entry, Ledger, Merged
from tilth.llm.ledger_file import merge_ledger_file, write_ledger_file
from tilth.llm.ledger_report import count

MADE = [{"leaf": "knowledge/a", "seed": 7}]


def make_entry(number, text="hello"):
    request = json.dumps({"seed": number})
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
    time = "2026-01-01T00:00:00.000000+00:00"
    return Entry(text_sha256(request), "knowledge/a", "facts", "m@1", request, body, 10, 5, time, 0.5)


@pytest.fixture
def keys(ledger):
    entries = [make_entry(number, "größer\u2028\n") for number in range(3)]
    return [ledger.put(entry).key for entry in entries]


@pytest.fixture
def other(tmp_path):
    with Ledger(tmp_path / "other.db") as other:
        yield other


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_what_is_written_is_what_is_merged(ledger, other, keys, tmp_path, name):
    ledger.put(make_entry(99))
    write_ledger_file(tmp_path / name, ledger, keys, MADE)
    merged, header = merge_ledger_file(tmp_path / name, other)
    assert (merged, list(header.made)) == (Merged(3, 0, 0), MADE)
    assert [other.get(key) for key in keys] == [ledger.get(key) for key in keys]
    assert count(other) == 3
    assert merge_ledger_file(tmp_path / name, other)[0] == Merged(0, 3, 0)


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_equal_entries_are_equal_bytes(ledger, other, keys, tmp_path, name):
    write_ledger_file(tmp_path / f"1{name}", ledger, keys, MADE)
    merge_ledger_file(tmp_path / f"1{name}", other)
    write_ledger_file(tmp_path / f"2{name}", other, sorted(keys, reverse=True), MADE)
    assert (tmp_path / f"1{name}").read_bytes() == (tmp_path / f"2{name}").read_bytes()


def test_any_tool_can_check_it(ledger, keys, tmp_path):
    write_ledger_file(tmp_path / "a.jsonl.gz", ledger, keys, MADE)
    with gzip.open(tmp_path / "a.jsonl.gz", "rt", encoding="utf-8") as file:
        header, *rows = [json.loads(line) for line in file]
    assert (header["tilth_ledger"], header["answers"]) == (1, 3)
    assert "tilth ledger import" in header["about"]
    assert [row["key"] for row in rows] == sorted(keys)
    assert all(text_sha256(row["request"]) == row["key"] for row in rows)


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (('\\"seed\\": 1', '\\"seed\\": 4'), 0, "key is not the hash"),
        (('"prompt_tokens": 10', '"prompt_tokens": -1'), 2, "prompt_tokens is -1"),
        (('"seconds": 0.5', '"seconds": NaN'), 2, "seconds is nan"),
        (('"leaf"', '"leave"'), 2, "unknown key 'leave'|'leaf' is missing"),
        (('\\"choices\\"', '\\"voices\\"'), 2, "none of a chat model"),
        (('"key"', '"key'), 2, "no valid JSON"),
        (('"answers": 3', '"answers": 4'), 0, "has 3 answers, its header says 4"),
        (('"tilth_ledger": 1', '"tilth_ledger": 2'), 1, "version 2"),
        (('{"tilth_ledger": 1', '{"title": 1'), 1, "not a file that `tilth ledger export` wrote"),
    ],
)
def test_a_changed_file_is_refused_with_its_line(ledger, other, keys, tmp_path, change, line, what):  # noqa: PLR0917
    path = tmp_path / "a.jsonl"
    write_ledger_file(path, ledger, keys, MADE)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(DataError, match=what) as caught:
        merge_ledger_file(path, other)
    assert not line or caught.value.where == f"{path}:{line}"
    assert count(other) == 0


def test_a_cut_file_is_refused(ledger, other, keys, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    write_ledger_file(path, ledger, keys, MADE)
    whole = path.read_bytes()
    for wrong, what in ((whole[:-20], "unpacked"), (whole[:-8] + b"12345678", "unpacked"), (b"{}", "unpacked")):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=what):
            merge_ledger_file(path, other)
    assert count(other) == 0
    with pytest.raises(DataError, match="missing"):
        merge_ledger_file(tmp_path / "none", other)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("/home/jane/models/m.gguf", "m.gguf"),
        ("/m.gguf", "m.gguf"),
        ("~/models/m.gguf", "m.gguf"),
        ("C:\\Users\\jane\\m.gguf", "m.gguf"),
        ("C:/Users/jane/größer.gguf", "größer.gguf"),
        ("org/model", "org/model"),
        ("gpt-4o", "gpt-4o"),
        (None, None),
        (["/home/jane"], ["/home/jane"]),
    ],
)
def test_a_file_to_give_away_does_not_tell_where_a_model_lay(ledger, other, tmp_path, model, told):
    choices = [{"message": {"content": f"It is {json.dumps(model)}."}, "finish_reason": "stop"}]
    entry = replace(make_entry(1), response=json.dumps({"model": model, "choices": choices}, ensure_ascii=False))
    ledger.put(entry)
    write_ledger_file(tmp_path / "a.jsonl", ledger, [entry.key], MADE)
    merge_ledger_file(tmp_path / "a.jsonl", other)
    body = other.get(entry.key).response
    assert json.loads(body) == {"model": told, "choices": choices}  # the answer is as it was
    assert merge_ledger_file(tmp_path / "a.jsonl", ledger)[0] == Merged(0, 1, 0)


def test_other_words_are_another_answer(ledger, other, tmp_path):
    theirs, ours = make_entry(1, "hello"), make_entry(1, "good day")
    other.put(theirs)
    ledger.put(ours)
    write_ledger_file(tmp_path / "a.jsonl", other, [theirs.key], MADE)
    assert merge_ledger_file(tmp_path / "a.jsonl", ledger)[0] == Merged(0, 0, 1)
    assert ledger.get(ours.key) == ours


def test_nothing_else_is_overwritten(ledger, keys, tmp_path):
    path = tmp_path / "tilth.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(TilthError, match="something here already"):
        write_ledger_file(path, ledger, keys, MADE)
    assert path.read_text() == "seed: 1\n"
    write_ledger_file(tmp_path / "a.jsonl", ledger, keys[:1], MADE)
    write_ledger_file(tmp_path / "a.jsonl", ledger, keys, MADE)
    assert len((tmp_path / "a.jsonl").read_text().split("\n")) == 1 + 3 + 1
