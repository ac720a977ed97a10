"""Held-out questions as tasks of lm-evaluation-harness, for whoever measures without tilth.

    tilth benchmark export DIR
    lm-eval run --include_path DIR --tasks tilth --model hf --model_args pretrained=FOLDER --apply_chat_template

One task for each leaf: short answers are generated, options are ranked by their likelihood for each character. The
files are YAML and JSON lines only, no code. What YAML cannot say is stricter or missing: a short answer must *be* an
accepted one, where tilth also takes a line that states it; what a judge grades or a check of form decides is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from ..core.atomic import new_folder, read_json, write_json, write_text
from ..core.errors import DataError, TilthError
from ..core.fingerprint import fingerprint
from ..core.normalise import normalise
from ..core.records import Question, Record

GROUP = "tilth"
"""The group of all tasks; `tilth_short` and `tilth_choice` in it have a score of their own."""
MANIFEST, README = "tilth-tasks.json", "README.md"

Part = Literal["short", "choice"]


class ExportedTasks(Record):
    """What was written."""

    tasks: Mapping[str, str]
    """The name of each task -> its leaf."""
    questions: int
    left_out: Mapping[str, int]
    """How a question is scored -> how many such there are that no task can score."""


def export_tasks(questions: Iterable[Question], folder: Path, *, max_new_tokens: int = 32) -> ExportedTasks:
    """Write the questions as tasks to a new folder, or over an older export; equal questions give equal bytes.

    Tasks name their data by its path, for lm-eval knows no place but the one it is run in: a folder that was moved is
    to be exported again. Raises TilthError where the folder holds something else, or no question can be a task.
    """
    folder = folder.resolve()
    _refuse_other(folder)
    by_task, left_out = _sorted_out(questions)
    if not by_task:
        raise TilthError("there is no question that could be a task", where=str(folder), fix=_NONE)
    names = _names(by_task)
    with new_folder(folder) as new:
        for (leaf, part), asked in by_task.items():
            _write_task(new, folder, names[leaf, part], part, asked, max_new_tokens)
        _write_groups(new, names)
        exported = ExportedTasks(
            tasks={name: leaf for (leaf, _), name in names.items()},
            questions=sum(map(len, by_task.values())),
            left_out=left_out,
        )
        write_text(new / README, _README.format(folder=folder))
        write_json(new / MANIFEST, exported.model_dump(mode="json"))
    return exported


_NONE = "write `test_questions` with short answers in a leaf, and commit it"

_PARTS: Mapping[str, Part] = {"match": "short", "choice": "choice"}
"""How a question is scored -> in which of a leaf's tasks it is."""


def _refuse_other(folder: Path) -> None:
    """An export replaces the folder, so nothing may be in it that no export has written."""
    if not folder.exists():
        return
    fix = "name a new folder"
    if not folder.is_dir():
        raise TilthError("here is a file", where=str(folder), fix=fix)
    manifest = folder / MANIFEST
    tasks = _exported(manifest).tasks if manifest.is_file() else {}
    groups = (GROUP, *(f"{GROUP}_{part}" for part in _PARTS.values()))
    ours = {MANIFEST, README, *(f"{name}{end}" for name in (*tasks, *groups) for end in (".yaml", ".jsonl"))}
    if others := sorted({file.name for file in folder.iterdir()} - ours):
        raise TilthError(f"here is something else than exported tasks: {others[0]!r}", where=str(folder), fix=fix)


def _exported(manifest: Path) -> ExportedTasks:
    fix = "name a new folder"
    try:
        return ExportedTasks.model_validate(read_json(manifest, fix=fix))
    except ValidationError as error:
        raise DataError("not the JSON that was written", where=str(manifest), fix=fix) from error


def _sorted_out(
    questions: Iterable[Question],
) -> tuple[dict[tuple[str, Part], list[Question]], Mapping[str, int]]:
    by_task: defaultdict[tuple[str, Part], list[Question]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for question in questions:
        part = _PARTS.get(question.scoring)
        if part and (part == "choice" or _accepted(question)):
            by_task[question.leaf, part].append(question)
        else:
            left_out[question.scoring] += 1
    return dict(sorted(by_task.items())), dict(left_out)


def _names(tasks: Iterable[tuple[str, Part]]) -> dict[tuple[str, Part], str]:
    """A name for each task; leaves that would share one, or have a group's, get the hash of their path behind it."""
    plain = {task: _plain_name(*task) for task in tasks}
    often = Counter([*plain.values(), GROUP, *(f"{GROUP}_{part}" for part in _PARTS.values())])
    return {
        task: name if often[name] == 1 else f"{name}_{fingerprint(task[0], length=8)}" for task, name in plain.items()
    }


def _plain_name(leaf: str, part: Part) -> str:
    name = re.sub(r"\W", "_", f"{GROUP}/{leaf}", flags=re.ASCII)
    return name if part == "short" else f"{name}_choice"


def _write_task(
    new: Path, folder: Path, name: str, part: Part, questions: Sequence[Question], max_new_tokens: int
) -> None:
    rows = [_short_row(question) if part == "short" else _choice_row(question) for question in questions]
    write_text(new / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    how = _short(max_new_tokens) if part == "short" else _CHOICE
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "question",
        **how,
        "metadata": {"version": fingerprint([rows, how], length=8), "leaf": questions[0].leaf},
    }
    _write_yaml(new / f"{name}.yaml", task)


def _short_row(question: Question) -> dict[str, Any]:
    return {"id": question.id, "question": question.question, "answers": _accepted(question)}


def _accepted(question: Question) -> list[str]:
    """Each accepted answer as it stands, and as tilth spells it, so that "three" and "3" are both among them.

    One of which nothing is left, such as "%", would be equal to no answer at all.
    """
    spelt = dict.fromkeys([*question.answers, *map(normalise, question.answers)])
    return [text for text in spelt if _left(text)]


def _left(text: str) -> str:
    for pattern in _SAME_SPELLING:
        text = re.sub(pattern, "", text)
    return text


def _choice_row(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.question,
        "options": list(question.options),
        "target": question.options.index(question.answers[0]),
    }


_SAME_SPELLING = (
    r"(?i)\b(?:a|an|the)\b",
    r"(?<=\d),(?=\d{3}(?!\d))",
    r"(?<!\d)[\W_]+|[\W_]+(?!\d)",
)
"""What is no difference between two answers, as far as leaving out can say it: articles, thousands' commas, and every
sign and space but those between digits. `core.normalise` knows more: number words, "%" and "n't"."""


def _short(max_new_tokens: int) -> dict[str, Any]:
    exact = {
        "metric": "exact_match",
        "aggregation": "mean",
        "higher_is_better": True,
        "ignore_case": True,
        "regexes_to_ignore": list(_SAME_SPELLING),
    }
    first_line = {"function": "regex", "regex_pattern": r"(\S[^\n]*)", "group_select": 0, "fallback": ""}
    return {
        "output_type": "generate_until",
        "doc_to_target": "answers",
        "generation_kwargs": {"do_sample": False, "until": [], "max_gen_toks": max_new_tokens},
        "filter_list": [{"name": "first_line", "filter": [first_line, {"function": "take_first"}]}],
        "metric_list": [exact],
    }


_CHOICE: Mapping[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "options",
    "doc_to_target": "target",
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
    ],
}

_AGGREGATED: Mapping[Part, list[dict[str, Any]]] = {
    "short": [{"metric": "exact_match", "filter_list": ["first_line"]}],
    "choice": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


def _write_groups(new: Path, names: Mapping[tuple[str, Part], str]) -> None:
    """Scores of different kinds have no mean, so the group of all has none of its own."""
    parts: list[str] = []
    for part, aggregated in _AGGREGATED.items():
        if members := [name for (_, of), name in names.items() if of == part]:
            group = {"group": f"{GROUP}_{part}", "task": members, "aggregate_metric_list": aggregated}
            _write_yaml(new / f"{GROUP}_{part}.yaml", group)
            parts.append(f"{GROUP}_{part}")
    _write_yaml(new / f"{GROUP}.yaml", {"group": GROUP, "task": parts})


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=120))


_README = """\
# Held-out questions as lm-evaluation-harness tasks

    lm-eval run --include_path {folder} --tasks tilth --model hf \\
      --model_args pretrained=FOLDER --apply_chat_template

`tilth` is all of them, `tilth_short` and `tilth_choice` have a score each, and every leaf has a task. Short answers are
scored by `exact_match` of their first line, without regard to case, punctuation and articles; options by `acc_norm`.

The tasks name their data by its whole path: after moving the folder, export it again or mend `data_files`.
Who trains on these questions measures nothing any more.
"""
