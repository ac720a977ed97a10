"""Running lm-evaluation-harness: its tasks found and loaded, a student measured, what comes out as records of ours.

Tasks run as `lm_eval.simple_evaluate` runs them, with its seeds, so the scores are the harness's own; that function
itself is not called, for it also starts programs that describe the machine. No model's or data set's code is run, and
no task that runs what a model has written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import random
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from ..core.errors import ModelError, TilthError, nearest
from ..core.progress import Progress
from ..llm.precision import compute_dtype
from ..llm.quiet import quiet_transformers
from .answer_cache import AnswerCache
from .benchmarks import Benchmark, BenchmarkScore, BenchmarkSettings, TaskScores, share
from .lm_eval_student import remembering_student

_RESAMPLES = 1000
_SLOW_METRICS = {"bleu": 100, "chrf": 100, "ter": 100}
"""Resamples of metrics that take long over all answers, as many as the harness takes of them."""


class Harness:
    """The harness while it is in use; a context manager, in which nothing of it reaches the terminal."""

    def __init__(self, include: Path | None, settings: BenchmarkSettings, batch_size: int, progress: Progress) -> None:
        self._include, self._settings, self._batch_size, self._progress = include, settings, batch_size, progress
        self._quiet = _quiet()
        self._manager: Any = None
        self._loaded: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._quiet.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._quiet.__exit__(*error)

    def prepare(self, names: Iterable[str]) -> None:
        """Find tasks and groups and fetch their data. Raises TilthError for what is not there or cannot be used."""
        wanted = [name for name in names if name not in self._loaded]
        if not wanted:
            return
        self._find(wanted)
        for name in wanted:
            loaded = _load(self._manager, name)
            for task in loaded["tasks"].values():
                _refuse_unsafe(task)
                _configure(task, self._settings.shots)
            self._loaded[name] = loaded

    @contextlib.contextmanager
    def student(self, name: str, folder: Path, known: AnswerCache[str]) -> Generator[Any]:
        """The model of a folder, for `measure`; `known` is what it answered before. Raises ModelError."""
        with (
            self._progress.task(f"answering with {name}", total=0, unit="answers") as task,
            remembering_student(folder, known, self._batch_size, task) as student,
        ):
            yield student

    def measure(self, student: Any, name: str) -> Benchmark:
        """A student's scores on what was prepared by that name. Raises ModelError when the harness gives up."""
        harness: Any = import_module("lm_eval")
        loaded = self._loaded[name]
        _seed(loaded["tasks"].values())
        try:
            found: Any = harness.evaluate(
                lm=student,
                task_dict={"tasks": loaded["tasks"], "groups": {}},
                limit=self._settings.limit,
                bootstrap_iters=0,
                system_instruction=(self._settings.system_prompt or None) if self._settings.chat else None,
                apply_chat_template=self._settings.chat,
                fewshot_as_multiturn=self._settings.chat,
            )
        except (AssertionError, ValueError, TypeError, LookupError, RuntimeError) as error:
            fix = "check that the task's prompts and answers fit the model's context"
            raise ModelError(f"lm-eval gave up ({_reason(error)})", where=name, fix=fix) from error
        return Benchmark(
            name=name,
            lm_eval=harness.__version__,
            dtype=str(compute_dtype()).removeprefix("torch."),
            tasks=tuple(_scores(task, loaded["tasks"][task], found) for task in loaded["tasks"]),
            groups=_groups(loaded),
        )

    def _find(self, names: Sequence[str]) -> None:
        """Tasks of one's own first: the harness's own are 13,000 files, and reading those takes a while."""
        manager: Any = import_module("lm_eval.tasks").TaskManager
        if self._manager is None and self._include:
            self._manager = manager(include_path=str(self._include), include_defaults=False)
        if self._manager is None or not set(names) <= set(self._manager.all_tasks):
            self._progress.say("reading the tasks of lm-eval")
            self._manager = manager(include_path=str(self._include) if self._include else None)
        for name in names:
            if name not in self._manager.all_tasks:
                fix = f"{nearest(name, self._manager.all_tasks)}; `lm-eval ls tasks` lists them"
                raise TilthError(f"lm-eval has no task {name!r}", fix=fix)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The harness logs, warns, prints and draws bars."""
    import datasets

    bars: Any = datasets
    logger = logging.getLogger("lm_eval")
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_transformers())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        if not bars.are_progress_bars_disabled():
            stack.callback(bars.enable_progress_bars)
            bars.disable_progress_bars()
        yield


def _load(manager: Any, name: str) -> Any:
    """The tasks of a name, with their data."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from jinja2 import TemplateError

    faults = (ValueError, TypeError, LookupError, AttributeError, ImportError, SyntaxError, StopIteration)
    try:
        return manager.load([name])
    except ModuleNotFoundError as error:
        what = f"the task needs the package {error.name!r}"
        raise TilthError(what, where=name, fix=f"run `pip install {error.name}`") from error
    except ConnectionError as error:
        what = f"its data set cannot be fetched: {', '.join(_data_sets(manager, name))} ({_reason(error)})"
        raise TilthError(what, where=name, fix=_BRING_DATA) from error
    except DatasetNotFoundError as error:
        fix = "check its name, and whether it asks for a login (`hf auth login`)"
        raise TilthError(f"its data set cannot be had ({_reason(error)})", where=name, fix=fix) from error
    except OSError as error:
        fix = "check the paths in its YAML"
        raise TilthError(f"its data cannot be read ({_reason(error)})", where=name, fix=fix) from error
    except (*faults, TemplateError, DatasetsError) as error:
        what = f"the task cannot be used ({type(error).__name__}: {_reason(error)})"
        raise TilthError(what, where=name, fix="check its YAML and its data") from error


_BRING_DATA = (
    "run once where the Hugging Face hub can be reached and copy that cache (HF_HOME) here, or write a task over a "
    "local file and name its folder by --include"
)


def _data_sets(manager: Any, name: str) -> list[str]:
    """The data sets of a task, or of all tasks of a group or tag."""
    entry = manager.task_index.get(name)
    if entry is None:
        return []
    config: Mapping[str, Any] = entry.cfg or {}
    members = [*entry.tags, *_members(config.get("task"))] if entry.kind.name in {"GROUP", "TAG"} else []
    own = [str(config["dataset_path"])] if "dataset_path" in config else []
    return sorted({*own, *(found for member in members for found in _data_sets(manager, member))})


def _members(listed: Any) -> list[str]:
    """The names in a group's list: each is a name, or a mapping that holds one."""
    items: list[Any] = listed if isinstance(listed, list) else []
    names = ((item.get("task") or item.get("group")) if isinstance(item, dict) else item for item in items)
    return [name for name in names if isinstance(name, str)]


def _refuse_unsafe(task: Any) -> None:
    fix = "run it by lm-eval itself, in a sandbox"
    if getattr(task, "UNSAFE_CODE", False):
        raise TilthError("the task runs code that a model wrote", where=task.task_name, fix=fix)
    if getattr(task, "MULTIMODAL", False):
        raise TilthError("the task shows pictures or sounds", where=task.task_name, fix="choose a task of text alone")


def _configure(task: Any, shots: int | None) -> None:
    """As `simple_evaluate` does: a task that fixes its number of shots at 0 keeps it."""
    own = task.get_config("num_fewshot")
    if own is None or (shots is not None and own != 0):
        task.set_config(key="num_fewshot", value=shots or 0)


def _seed(tasks: Iterable[Any]) -> None:
    """The seeds of `simple_evaluate`, anew for each model: all see the same examples before a question."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(1234)
    torch.manual_seed(1234)
    for task in tasks:
        task.set_fewshot_seed(seed=1234)


def _groups(loaded: Any) -> dict[str, tuple[str, ...]]:
    """Groups whose definition gives them a score."""
    return {
        name: tuple(task.task_name for task in group.get_all_tasks())
        for name, group in loaded["groups"].items()
        if group.has_aggregation
    }


def _scores(name: str, task: Any, found: Any) -> TaskScores:
    samples: list[Mapping[str, Any]] = found["samples"][name]
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    scores: list[BenchmarkScore] = []
    without: list[str] = []
    for filter_ in filters:
        mine = [sample for sample in samples if sample["filter"] == filter_]
        for metric in dict.fromkeys(metric for sample in mine for metric in sample["metrics"]):
            label = metric if filter_ == "none" else f"{metric} ({filter_})"
            values = [sample[metric] for sample in mine if metric in sample]
            score = _score(label, metric, values, task, found["results"][name][f"{metric},{filter_}"])
            scores += [score] if score else []
            without += [] if score else [label]
    return TaskScores(
        task=name,
        version=str(found["versions"].get(name)),
        shots=int(found["n-shot"].get(name) or 0),
        questions=tuple(sample["doc_hash"][:16] for sample in samples if sample["filter"] == filters[0]),
        scores=tuple(scores),
        without_interval=tuple(without),
    )


def _score(label: str, metric: str, values: Sequence[Any], task: Any, value: Any) -> BenchmarkScore | None:
    """None where the value is no number, or its spread cannot be told."""
    better = task.higher_is_better().get(metric) is not False
    if not _is_number(value):
        return None
    if all(_is_number(each) and each in {0, 1} for each in values) and math.isclose(sum(values) / len(values), value):
        return share(label, [bool(each) for each in values], higher_is_better=better)
    interval = _bootstrap(values, task.aggregation().get(metric), _SLOW_METRICS.get(metric, _RESAMPLES))
    if interval is None:
        return None
    low, high = interval
    return BenchmarkScore(metric=label, value=float(value), low=low, high=high, higher_is_better=better)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def _bootstrap(values: Sequence[Any], aggregate: Any, resamples: int) -> tuple[float, float] | None:
    """The percentile interval of whatever a task makes of all its questions; None for fewer than two of them."""
    if len(values) < 2 or aggregate is None:
        return None
    draw = random.Random(0)  # noqa: S311
    found = sorted(float(aggregate(draw.choices(values, k=len(values)))) for _ in range(resamples))
    tail = resamples * 25 // 1000
    return (found[tail], found[-1 - tail]) if all(map(math.isfinite, found)) else None


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
