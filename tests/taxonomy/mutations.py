"""Leaves made wrong, or odd, in every way that a contributor or an editor might: what verdicts are compared on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

Path = tuple[Any, ...]


class Mutation(NamedTuple):
    """A changed leaf. `name` says how, and is the same for every leaf; `data` are the bytes of its `qna.yaml`."""

    name: str
    data: bytes


def mutations(original: bytes) -> Iterator[Mutation]:
    """All changes of one leaf; always the same ones."""
    data = yaml.safe_load(original)
    for name, changed in [*_of_places(data), *_of_seeds(data), *_of_the_top(data)]:
        yield Mutation(name, _dumped(changed).encode())
    text = original.decode()
    for name, other in [*_of_lines(text), *_of_files(text), *_of_values(data)]:
        yield Mutation(name, other.encode())
    yield Mutation("Latin-1", original + "# é\n".encode("latin-1"))
    yield Mutation("UTF-16", text.encode("utf-16"))
    yield Mutation("half a character", original + b"# \xed\xa0\x80\n")
    yield Mutation("cut character", original + "# é".encode()[:-1])


_VALUES: dict[str, Any] = {
    "null": None, "empty text": "", "blank": "  \n", "number": 1874, "float": 1.5, "bool": False, "[]": [], "{}": {},
    "text": "some text", "list of texts": ["some text"], "list of numbers": [1, 2], "keys": {"some": "text"},
    "long line": "word " * 100, "unicode": "Grüße, 世界 🌾 \u00a0\u200b", "signs": "it's \"so\": {x} [y] # & * ! | > %",
    "colon": "a: b", "number in quotes": "5", "yes in quotes": "yes", "tab in text": "a\tb", "lines": "a\n\n  b\nc\n",
}  # fmt: skip

_VERSIONS: dict[str, Any] = {
    "0": 0, "-1": -1, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "'3'": "3", "3.0": 3.0, "2.0": 2.0, "3.5": 3.5,
    "true": True, "null": None, "[3]": [3], "huge": 10**1000, "three": "three",
}  # fmt: skip

_WRITTEN = {
    "tag": ["!!str 5", "!!str", "!!binary aGk=", "!x ada", "! ada", "!!int 5", "!!python/name:os.system"],
    "date": ["2024-01-31", "2024-02-30"],
    "sign with a meaning": ["=", "<<"],
    "no text": ["12:30", "~", "yes", "0x1F", "1_000", ".inf", "1e3", "- ada", "[ada]", "{ada}", "a: b", "?"],
    "no value": ["@ada", "`ada`", "%ada", '"ada', "'it's'", "*a", "&", '"\\q"'],
    "text": ["'a'", '"a"', "a #b", "&a ada", "1:x", "-a", "?a", "|\n  a", ">-\n  a", "|2\n   a", "a\n b"],
    "text with a tab": ["a\tb"],
    "escape": [r'"\x41"', r'"\u00e9"', r'"\U0001F33E"', r'"a\t\n"'],
    "escaped control": [r'"\0"', r'"\e[31m"', r'"\x7f"'],
    "escaped half": [r'"\ud83c\udf3e"', r'"\ud800"'],
    "control": ["a\0b", "a\ab", "a\x7fb", "a\x80b", "a\ufffeb"],
    "sign": ["a\x85b", "a\u2028b", "a\u200bb", "a\ufeffb", "a🌾b", "e\u0301"],
}
"""Ways to write one value."""


def _of_places(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key, and the first item of every list: removed, renamed, or with another value."""
    for path in _paths(data):
        *above, key = path
        holder = _at(data, above)
        if isinstance(holder, list):
            yield "item removed", _with(data, above, holder[1:])
        else:
            rest = {name: value for name, value in holder.items() if name != key}
            yield f"{key} removed", _with(data, above, rest)
            yield "renamed", _with(data, above, {**rest, f"{key}s": holder[key]})
            yield "upper case", _with(data, above, {**rest, key.title(): holder[key]})
        for name, value in _VALUES.items():
            yield f"set to {name}", _with(data, path, value)
        if isinstance(_at(data, path), dict):
            where = "a pair" if "questions_and_answers" in path else "a part"
            yield f"extra key in {where}", _with(data, (*path, "note"), "x")


def _of_the_top(data: Any) -> Iterator[tuple[str, Any]]:
    for name, version in _VERSIONS.items():
        yield f"version {name}", {**data, "version": version}
    for key in ("note", "context", "document", "domain", "document_outline", "task_description", "test_questions"):
        if key not in data:
            yield f"extra key {key}", {**data, key: "x"}
    yield "other order", dict(reversed(data.items()))
    yield "a list", [data]
    yield "a text", "seed_examples"


def _of_seeds(data: Any) -> Iterator[tuple[str, Any]]:
    seeds = data["seed_examples"]
    first = seeds[0]
    name, text = next((key, value) for key, value in first.items() if isinstance(value, str))
    changes: dict[str, list[Any]] = {f"{number} seeds": seeds[:number] for number in range(7)}
    changes["a seed twice"] = [*seeds, first]
    changes["a seed twice, keys turned"] = [*seeds, dict(reversed(first.items()))]
    changes["a seed twice but for white space"] = [*seeds, {**first, name: f"{text} \n"}]
    changes["seeds turned"] = seeds[::-1]
    if "questions_and_answers" in first:
        pairs = first["questions_and_answers"]
        lists: dict[str, list[Any]] = {f"{number} pairs": pairs[:number] for number in range(4)}
        lists["a pair twice"] = [*pairs, pairs[0]]
        lists["a pair twice but for a note"] = [*pairs, {**pairs[0], "note": "x"}]
        changes |= {key: [{**first, "questions_and_answers": some}, *seeds[1:]] for key, some in lists.items()}
        yield "a pattern twice", _with(data, ("document", "patterns"), ["*.md", "*.md"])
    else:
        freeform = [{"question": seed["question"], "answer": seed["answer"]} for seed in seeds]
        changes["no seed with context"] = freeform
        changes["every seed with context"] = [{**seed, "context": "x"} for seed in seeds]
        if len(seeds) > 1:
            changes["one seed with context"] = [{**first, "context": "x"}, *freeform[1:]]
    for key, some in changes.items():
        yield key, {**data, "seed_examples": some}


def _of_lines(text: str) -> Iterator[tuple[str, str]]:
    """White space, comments, and keys that stand twice."""
    key = next(line for line in text.splitlines(keepends=True) if line.startswith("created_by"))
    for name, instead in {
        "key twice": key + key,
        "trailing space": f"{key.rstrip()}  \n",
        "trailing tab": f"{key.rstrip()}\t\n",
        "blank line": f"{key}\n",
        "blank line with spaces": f"{key}   \n",
        "comment": f"{key.rstrip()}  # the author\n",
        "comment without space": f"{key.rstrip()}#x\n",
        "line indented": f" {key}",
        "line indented by a tab": f"\t{key}",
        "CRLF in one line": f"{key.rstrip()}\r\n",
        "no colon": key.replace(":", ""),
        "no space after colon": key.replace(": ", ":"),
        "two spaces after colon": key.replace(": ", ":  "),
        "tab after colon": key.replace(": ", ":\t"),
        "? key": f"? {key.replace(': ', chr(10) + ': ')}",
    }.items():
        yield name, text.replace(key, instead)
    for name, other in {"key in a seed twice": r"\2", "number as key in a seed": "5"}.items():
        yield name, re.sub(r"^( +)(question|answer):", rf"\g<1>{other}: x\n\g<0>", text, count=1, flags=re.MULTILINE)


def _of_files(text: str) -> Iterator[tuple[str, str]]:
    """What surrounds the data."""
    data = yaml.safe_load(text)
    yield "as it is", text
    yield "as JSON", json.dumps(data, ensure_ascii=False) + "\n"
    yield "in flow style", yaml.safe_dump(data, default_flow_style=True, width=10**6)
    yield (
        "in quotes",
        yaml.safe_dump(data, default_style='"').replace('!!int "', "").replace('"version": 3"', "version: 3"),
    )
    yield "no final newline", text.rstrip("\n")
    yield "final newlines", text + "\n\n\n"
    yield "CRLF", text.replace("\n", "\r\n")
    yield "CR", text.replace("\n", "\r")
    yield "BOM", "\ufeff" + text
    yield "comments around", f"# first\n{text}# last\n"
    yield "document start", f"---\n{text}"
    yield "document end", f"{text.rstrip()}\n...\n"
    yield "two documents", f"{text.rstrip()}\n---\nx: 1\n"
    yield "YAML directive", f"%YAML 1.1\n---\n{text}"
    yield "TAG directive", f"%TAG ! tag:x.org,2024:\n---\n{text}"
    yield "indented as a whole", re.sub("^(?=.)", " ", text, flags=re.MULTILINE)
    yield "cut in the middle", text[: len(text) // 2]
    yield "merge key", f"{text.rstrip()}\n<<: {{}}\n"
    for odd in ("5", "yes", "null", "1.5", "[a]", "2024-01-31", '""', "note", '"created_by "', "&a note", "!!str note"):
        yield f"key {odd}", f"{text.rstrip()}\n{odd}: x\n"
    for nothing in ("", "# nothing\n", "[]\n", "{}\n", "''\n", "0\n", "false\n", "null\n", "---\n"):
        yield f"only {nothing!r}", nothing


def _of_values(data: Any) -> Iterator[tuple[str, str]]:
    text = _dumped({**data, "created_by": "@"})
    for name, values in _WRITTEN.items():
        yield from ((f"written: {name}", text.replace("'@'", value, 1)) for value in values)
    yield "alias", text.replace("'@'", "&a ada").replace("question: ", "question: *a #", 1)
    yield "anchor twice", text.replace("'@'", "&a ada").replace("question: ", "question: &a ", 1)


def _dumped(data: Any) -> str:
    return yaml.dump(data, sort_keys=False, allow_unicode=True, width=10**6, Dumper=yaml.CSafeDumper)


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all keys, and of the first item of each list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _at(data: Any, path: Any) -> Any:
    for part in path:
        data = data[part]
    return data


def _with(data: Any, path: Any, value: Any) -> Any:
    """A copy in which `value` stands at `path`."""
    if not path:
        return value
    part, *rest = path
    inner = _with(data[part] if rest else None, rest, value)
    return {**data, part: inner} if isinstance(data, dict) else [*data[:part], inner, *data[part + 1 :]]
