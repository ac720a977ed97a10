"""Public benchmarks: models scored on tasks of lm-evaluation-harness, each score with its interval, models in pairs.

A task is what lm-eval calls one: any of those that it ships, whose data sets come from the Hugging Face hub, and those
of a folder of the user's own. A model's result on a task is a file, written last and whole: once it is there, neither
the harness nor the hub is needed. What was computed before a stop stays too (`lm_eval_student`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ..core.atomic import read_json, write_json
from ..core.errors import DataError, TilthError
from ..core.fingerprint import file_sha256, fingerprint
from ..core.progress import Progress
from ..core.rate import wilson
from ..core.records import Record
from ..core.wording import first_fault
from ..llm.precision import computed_in
from .answer_cache import AnswerCache
from .difference import Difference, paired_difference
from .model_fingerprint import hashes_file, model_fingerprint
from .statistics import holm, mcnemar

_CODE = 2
"""To be raised with a change by which a task comes to other scores: what was measured before is then measured again."""


class BenchmarkSettings(Record):
    """What decides a score besides the weights and the task."""

    limit: int | None = None
    """Only so many questions of each task, the first ones; None: all."""
    shots: int | None = None
    """Solved examples before each question; None: as the task says."""
    chat: bool = False
    """Whether the chat template is used. Published scores are mostly made without; a student is trained with it."""
    system_prompt: str = ""
    """With `chat` only."""


class BenchmarkScore(Record):
    """One metric of one model on one task, with a 95 % interval."""

    metric: str
    """Its name, and behind it in brackets the filter of the answers where the task has one."""
    value: float
    low: float
    high: float
    higher_is_better: bool = True
    right: tuple[bool, ...] = ()
    """Which questions were answered rightly, where the score is their share (the interval is Wilson's). Empty for any
    other score; its interval is a bootstrap over the questions."""


class TaskScores(Record):
    """One model on one task, or on all questions of a group of tasks."""

    task: str
    version: str
    shots: int
    questions: tuple[str, ...]
    """A hash of each, in the order of `right`."""
    scores: tuple[BenchmarkScore, ...]
    without_interval: tuple[str, ...] = ()
    """Metrics that have no interval, and so no score here."""

    @property
    def shares(self) -> dict[str, BenchmarkScore]:
        """The scores, by metric, that are shares of right answers: that of stereotypes which a model prefers is none.

        Whether a metric with part marks is one hangs on what the model answered: it may be so for another model only.
        """
        return {score.metric: score for score in self.scores if score.right and score.higher_is_better}


class Benchmark(Record):
    """One model on what was asked for by one name: a task, or a group with all of its tasks."""

    name: str
    lm_eval: str
    """The version of the harness, and with it of the tasks that it ships."""
    dtype: str
    tasks: tuple[TaskScores, ...]
    groups: Mapping[str, tuple[str, ...]]
    """The tasks of each group that has a score of its own, by the group's definition."""

    @property
    def rows(self) -> tuple[TaskScores, ...]:
        """The groups, each over all questions of its tasks together, then the tasks."""
        by_name = {each.task: each for each in self.tasks}
        pooled = (_pooled(group, [by_name[name] for name in names]) for group, names in self.groups.items())
        return (*(each for each in pooled if each.scores), *self.tasks)


class Benchmarks(Record):
    """Models on the same tasks."""

    settings: BenchmarkSettings
    models: Mapping[str, str]
    """Name -> fingerprint of the weights."""
    results: Mapping[str, tuple[Benchmark, ...]]
    """Model name -> its results, in the order in which the tasks were asked for."""

    def rows(self, model: str) -> dict[str, TaskScores]:
        """What a model scored on every group and task, by name. Raises DataError for a model that was not measured."""
        if model not in self.results:
            raise DataError(f"{model!r} was not measured, only {', '.join(self.results)}")
        return {row.task: row for each in self.results[model] for row in each.rows}


class BenchmarkComparison(Record):
    """Two models on the same questions of one task or group."""

    task: str
    metric: str
    difference: Difference
    p_value: float
    """Exact McNemar, two-sided, adjusted by Holm for all that is compared."""
    verdict: Literal["better", "worse", "no change shown"]
    """Of the later model."""


def run_benchmarks(  # noqa: PLR0913  what to measure, how, and where it stays
    models: Mapping[str, Path],
    names: Sequence[str],
    *,
    settings: BenchmarkSettings,
    cache: Path,
    batch_size: int,
    progress: Progress,
    include: Path | None = None,
) -> Benchmarks:
    """Score models, each a name and its folder, on tasks and groups of tasks.

    `include` is a folder with tasks of one's own; what Python its YAML names is run by the harness. Results and answers
    stay in `cache`. Raises TilthError where the harness is not installed or a task's data cannot be had, ModelError.
    """
    wanted = {"code": _CODE, "version": _installed()}
    wanted |= computed_in() | {"settings": settings.model_dump(), "include": _content(include)}
    fingerprints = {name: model_fingerprint(folder, hashes_file(cache)) for name, folder in models.items()}
    found: dict[str, tuple[Benchmark, ...]] = {}
    with ExitStack() as stack:
        harness = None
        for model, folder in models.items():
            files = {name: _file(cache, fingerprints[model], name, wanted) for name in dict.fromkeys(names)}
            if missing := {name: file for name, file in files.items() if not file.exists()}:
                from .lm_eval_run import Harness

                harness = harness or stack.enter_context(Harness(include, settings, batch_size, progress))
                harness.prepare(missing)  # what cannot be had is told before a model is loaded
                answered = AnswerCache[str](cache, fingerprints[model], {"harness": "lm-eval"} | computed_in())
                with harness.student(model, folder, answered) as student:
                    for name, file in missing.items():
                        write_json(file, harness.measure(student, name).model_dump(mode="json"))
            found[model] = tuple(map(_read, files.values()))
    return Benchmarks(settings=settings, models=fingerprints, results=found)


def compare_benchmarks(
    found: Benchmarks, before: str, after: str, *, significance: float
) -> tuple[BenchmarkComparison, ...]:
    """The later model against the earlier, on each task and group where a score is a share of right answers in both.

    That is length-normalised accuracy where there is one, else the first. `significance` is the chance of even one
    false verdict among them. Raises DataError when they did not answer the same questions, or one was not measured.
    """
    earlier, later = found.rows(before), found.rows(after)
    pairs = [(task, earlier[task], row) for task, row in later.items() if task in earlier]
    pairs = [(task, metric, old, new) for task, old, new in pairs if (metric := _main(old, new))]
    differences = [_difference(*pair) for pair in pairs]
    adjusted = holm([mcnemar(each.gained, each.lost) for each in differences])
    return tuple(
        BenchmarkComparison(
            task=task,
            metric=metric,
            difference=difference,
            p_value=p_value,
            verdict="no change shown" if p_value > significance else "better" if difference.value > 0 else "worse",
        )
        for (task, metric, _, _), difference, p_value in zip(pairs, differences, adjusted, strict=True)
    )


def share(metric: str, right: Sequence[bool], *, higher_is_better: bool = True) -> BenchmarkScore:
    """The score of a metric that is the share of right answers."""
    rate = wilson(sum(right), len(right))
    return BenchmarkScore(
        metric=metric,
        value=rate.value,
        low=rate.low,
        high=rate.high,
        higher_is_better=higher_is_better,
        right=tuple(right),
    )


def _installed() -> str:
    try:
        return version("lm-eval")
    except PackageNotFoundError as error:
        what = "benchmarks need lm-evaluation-harness"
        raise TilthError(what, fix="run `pip install 'tilth[benchmarks]'`") from error


def _content(include: Path | None) -> Mapping[str, str]:
    """What stands in a folder of tasks. Raises TilthError where there is none."""
    if include is None:
        return {}
    if not include.is_dir():
        raise TilthError(f"there is no folder {str(include)!r}", where="--include", fix="name one with tasks in YAML")
    files = (file for file in sorted(include.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(include)): file_sha256(file) for file in files}


def _file(cache: Path, model: str, name: str, wanted: Mapping[str, Any]) -> Path:
    return cache / model / f"{fingerprint([name, dict(wanted)])}.json"


def _read(file: Path) -> Benchmark:
    try:
        return Benchmark.model_validate(read_json(file))
    except ValidationError as error:
        what = f"not a result of a benchmark: {first_fault(error)}"
        raise DataError(what, where=str(file), fix="remove it and run again") from error


def _pooled(group: str, members: Sequence[TaskScores]) -> TaskScores:
    """All questions of a group's tasks together, by the metrics that are shares in all of them."""
    shares = [{score.metric: score for score in each.scores if score.right} for each in members]
    metrics = [metric for metric in shares[0] if all(metric in each for each in shares)] if shares else []
    return TaskScores(
        task=group,
        version="",
        shots=members[0].shots if members else 0,
        questions=tuple(question for each in members for question in each.questions),
        scores=tuple(_share_of_all(metric, [each[metric] for each in shares]) for metric in metrics),
    )


def _share_of_all(metric: str, scores: Sequence[BenchmarkScore]) -> BenchmarkScore:
    right = [right for score in scores for right in score.right]
    return share(metric, right, higher_is_better=scores[0].higher_is_better)


def _main(old: TaskScores, new: TaskScores) -> str:
    """The metric that two models are compared by; empty where none is a share in both."""
    both = [metric for metric in new.shares if metric in old.shares]
    return "acc_norm" if "acc_norm" in both else next(iter(both), "")


def _difference(task: str, metric: str, old: TaskScores, new: TaskScores) -> Difference:
    if old.questions != new.questions:
        raise DataError("the two models did not answer the same questions", where=task, fix="measure both again")
    flips = list(zip(old.shares[metric].right, new.shares[metric].right, strict=True))
    gained, lost = flips.count((False, True)), flips.count((True, False))
    return paired_difference(gained, lost, len(flips))
