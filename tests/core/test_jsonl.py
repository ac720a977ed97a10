"""core/jsonl: records in, records out, and the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tilth.core.errors import DataError
from tilth.core.jsonl import read_records, write_records
from tilth.core.records import Message


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    messages = [Message(role="user", content=text) for text in ("a\nb", "é\u2028\u0085 \r", "")]
    assert write_records(path, messages) == 3
    assert path.read_bytes().count(b"\n") == 3
    assert list(read_records(path, Message)) == messages


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"role": "user", "cont', "no valid JSON"),
        (b'{"role": "user"}', "the key 'content' is missing"),
        (b'{"role": "robot", "content": "x"}', "role is 'robot'"),
        (b'{"role": "user", "content": "\xff"}', "no valid JSON"),
        (b"", "no valid JSON"),
    ],
)
def test_the_bad_line_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "messages.jsonl"
    good = b'{"role": "user", "content": "x"}'
    path.write_bytes(b"\n".join([good, line, good]) + b"\n")
    records = read_records(path, Message)
    assert next(records).content == "x"
    with pytest.raises(DataError, match=f"messages.jsonl:2: not a Message: {reason}"):
        next(records)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl: the file is missing"):
        list(read_records(tmp_path / "nothing.jsonl", Message))
