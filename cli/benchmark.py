"""`tilth benchmark`: public benchmarks, held-out questions as lm-eval tasks, questions of two turns.

Two branches compared on what the newer one changed, as InstructLab's branch benchmarks do, but on held-out questions:

    tilth benchmark export DIR --changed-since main
    tilth benchmark run tilth --include DIR --chat --model base --model 2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import ModelError, TilthError
from ..core.records import Question
from ..core.workspace import Workspace
from ..cycle.held_out_questions import held_out_questions
from ..cycle.models import FORMS, default_model, find_model
from ..eval.benchmarks import (
    BenchmarkComparison,
    Benchmarks,
    BenchmarkScore,
    BenchmarkSettings,
    compare_benchmarks,
    run_benchmarks,
)
from ..eval.lm_eval_tasks import GROUP, export_tasks
from ..eval.two_turn import Mean, TwoTurn, read_two_turn
from ..eval.two_turn_run import run_two_turn
from ..llm.models import Folder, Model
from ..taxonomy.changes import changed_leaves
from ..taxonomy.repository import merge_base
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
from .options import Json, Set, open_workspace, print_json, shown_path
from .terminal import TerminalProgress, printable, room, table

benchmark = typer.Typer(add_completion=False, rich_markup_mode=None, subcommand_metavar="[run|export|two-turn]")

_DEFAULT = "repeatable. Default: base and the current release."
_WEIGHTS = "base, a release's number, a folder of safetensors, or OWNER/NAME on the Hugging Face hub"

Models = Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help=f"{FORMS}; {_DEFAULT}")]
WithWeights = Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help=f"{_WEIGHTS}; {_DEFAULT}")]


@benchmark.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Score models on public benchmarks and on questions of two turns; export tasks for lm-eval."""
    if not context.invoked_subcommand:
        print(context.get_help())


@benchmark.command()
def run(  # noqa: PLR0913  options, as the user has them
    tasks: Annotated[list[str], typer.Argument(metavar="TASK", help="Tasks and groups as lm-eval names them.")],
    models: WithWeights = None,
    include: Annotated[
        Path | None, typer.Option("--include", metavar="DIR", help="A folder of tasks of your own, or exported ones.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N questions of each task.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option("--shots", metavar="N", min=0, help="Solved examples before each question.")
    ] = None,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask by the model's chat template, as exported tasks are to be asked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score models on tasks of lm-evaluation-harness; the last of two or more is compared with the first, in pairs.

    Needs `pip install 'tilth[benchmarks]'`. What was measured before is not measured again. Data sets come from the
    Hugging Face hub; tasks in a folder of your own may use local files. Python that such a folder names is run.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    config = workspace.config
    folders = dict(_folder(workspace, name, progress) for name in _named(workspace, models))
    settings = BenchmarkSettings(
        limit=limit, shots=shots, chat=chat, system_prompt=config.student.system_prompt if chat else ""
    )
    with workspace.lock():
        found = run_benchmarks(
            folders,
            tasks,
            settings=settings,
            cache=workspace.state / "benchmarks",
            batch_size=config.eval.batch_size,
            progress=progress,
            include=include.resolve() if include else None,
        )
    first, *_, last = [*folders, *folders]
    significance = config.gate.significance
    compared = compare_benchmarks(found, first, last, significance=significance) if len(folders) > 1 else ()
    if as_json:
        print_json(_as_json(found, compared))
    else:
        _print(found, compared)


@benchmark.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an older export.")],
    since: Annotated[
        str, typer.Option("--changed-since", metavar="REF", help="Only leaves that changed since HEAD left REF.")
    ] = "",
    overrides: Set = [],  # noqa: B006
    *,
    as_json: Json = False,
) -> None:
    """Write the held-out questions as lm-eval tasks: one for each committed leaf, and groups of all.

    They are those that `tilth eval` asks. Anyone with lm-eval can run them; tilth is not needed for that.
    """
    workspace = open_workspace(overrides)
    questions = _questions(workspace, since)
    exported = export_tasks(questions, folder, max_new_tokens=workspace.config.eval.max_new_tokens)
    if as_json:
        print_json(exported.model_dump(mode="json") | {"place": str(folder.resolve())})
        return
    print(table([[task, leaf] for task, leaf in exported.tasks.items()], ["task", "leaf"], cells=room()))
    left = ", ".join(f"{count} {_SCORED[how]}" for how, count in exported.left_out.items())
    print(f"{exported.questions} questions" + (f"; left out, for no task can score them: {left}" if left else ""))
    place = shown_path(folder.absolute())
    print(f"exported to {place}; try `tilth benchmark run {GROUP} --include {place} --chat`")


def _questions(workspace: Workspace, since: str) -> list[Question]:
    found = held_out_questions(workspace, read_leaves(CommitTree(workspace.root, "HEAD")))
    if not since:
        return found
    changed = changed_leaves(workspace.root, merge_base(workspace.root, since))
    if not changed:
        raise TilthError(f"no leaf changed since HEAD left {since!r}", where="--changed-since", fix="name another REF")
    return [question for question in found if question.leaf in changed]


_SCORED = {"judge": "for a judge", "form": "checked by form", "match": "without a word in the answer"}


@benchmark.command("two-turn")
def two_turn(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, or JSON lines in MT-Bench's shape.")],
    models: Models = None,
    overrides: Set = [],  # noqa: B006
    *,
    as_json: Json = False,
) -> None:
    """Have models answer questions of two turns, and the judge of tilth.yaml grade each answer from 1 to 10.

    A question in FILE is {"category": …, "turns": […, …], "reference": […, …]}; in YAML they stand under `questions`.
    Answers and grades are kept in the ledger. `eval.max_new_tokens_judged` is the length of an answer at most.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    questions = read_two_turn(file)
    with workspace.lock():
        found = run_two_turn(
            {model.name: model for model in _models(workspace, models, progress)},
            questions,
            config=workspace.config,
            cache=workspace.state / "answers",
            ledger=workspace.ledger,
            progress=progress,
        )
    if as_json:
        print_json(
            found.model_dump(mode="json") | {"means": {name: _means_as_json(found, name) for name in found.models}}
        )
    else:
        _print_two_turn(found, embedded_judge=not (workspace.config.judge or workspace.config.teacher).base_url)


# Models --------------------------------------------------------------------------------------------------------------


def _named(workspace: Workspace, models: list[str] | None) -> list[str]:
    return list(dict.fromkeys(models or ["base", default_model(workspace)]))


def _models(workspace: Workspace, models: list[str] | None, progress: TerminalProgress) -> list[Model]:
    return [find_model(workspace, name, progress) for name in _named(workspace, models)]


def _folder(workspace: Workspace, name: str, progress: TerminalProgress) -> tuple[str, Path]:
    model = find_model(workspace, name, progress)
    if not isinstance(model, Folder):
        fix = f"name {_WEIGHTS}"
        raise ModelError("benchmarks need the weights of a model", where=name, fix=fix)
    return model.name, model.path


# Benchmarks ----------------------------------------------------------------------------------------------------------


def _print(found: Benchmarks, compared: Sequence[BenchmarkComparison]) -> None:
    verdicts = {(each.task, each.metric): each for each in compared}
    models = list(found.models)
    by_model = {model: found.rows(model) for model in models}
    rows: list[list[object]] = []
    for task, first in by_model[models[0]].items():
        rows_of_task = [by_model[model].get(task) for model in models]
        for score in first.scores:
            scores = [_score(row.scores, score.metric) if row else None for row in rows_of_task]
            said = [_verdict(verdicts.get((task, score.metric)))] if compared else []
            rows.append([task, score.metric, len(first.questions), *map(_score_text, scores), *said])
    change = ["change"] if compared else []
    print(table(rows, ["task", "metric", "questions", *models, *change], cells=room()))
    for row in by_model[models[0]].values():
        if row.without_interval:
            print(f"{row.task}: not shown, for there is no interval: {', '.join(row.without_interval)}")
        if found.settings.shots not in {None, row.shots}:
            print(f"{row.task}: asked with {row.shots} solved examples, which the task fixes")
    one = found.results[models[0]][0]
    print(f"95 % intervals: Wilson for shares of right answers, else bootstrap; lm-eval {one.lm_eval}, {one.dtype}")
    if compared:
        print(f"change: {models[-1]} against {models[0]}, in points, on the same questions")
        print("better and worse: by McNemar's exact test, adjusted by Holm for all rows with a change")


def _score(scores: Sequence[BenchmarkScore], metric: str) -> BenchmarkScore | None:
    return next((score for score in scores if score.metric == metric), None)


def _score_text(score: BenchmarkScore | None) -> str:
    if score is None:
        return ""
    if score.right:
        return f"{100 * score.value:.1f} % ({100 * score.low:.1f}\N{EN DASH}{100 * score.high:.1f})"
    return f"{score.value:.4g} ({score.low:.4g}\N{EN DASH}{score.high:.4g})"


def _verdict(each: BenchmarkComparison | None) -> str:
    if each is None:
        return ""
    gap = each.difference
    said = f"{each.verdict}: " if each.verdict != "no change shown" else ""
    return f"{said}{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def _as_json(found: Benchmarks, compared: Sequence[BenchmarkComparison]) -> dict[str, Any]:
    """Without the answers to single questions: those stay in the workspace."""
    scores = {
        model: {
            task: {"questions": len(row.questions), "version": row.version, "shots": row.shots}
            | {"scores": [score.model_dump(mode="json", exclude={"right"}) for score in row.scores]}
            for task, row in found.rows(model).items()
        }
        for model in found.models
    }
    return {
        "settings": found.settings.model_dump(mode="json"),
        "models": dict(found.models),
        "lm_eval": next(each.lm_eval for results in found.results.values() for each in results),
        "scores": scores,
        "compared": [each.model_dump(mode="json") | {"value": each.difference.value} for each in compared],
    }


# Questions of two turns ----------------------------------------------------------------------------------------------


def _print_two_turn(found: TwoTurn, *, embedded_judge: bool) -> None:
    rows: list[list[object]] = []
    parts: list[tuple[str, dict[str, Any]]] = [
        ("both turns", {}),
        ("first turn", {"turn": 1}),
        ("second turn", {"turn": 2}),
        *((category, {"category": category}) for category in found.categories),
    ]
    for label, part in parts:
        rows.append([label, *(_mean_text(found.mean(model, **part)) for model in found.models)])
    print(table(rows, ["mean grade, 1 to 10", *found.models], cells=room()))
    models = list(found.models)
    if len(models) > 1 and (gap := found.difference(models[0], models[-1])):
        print(f"{models[-1]} against {models[0]}: {gap.value:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})")
    for model in models:
        if unjudged := found.unjudged(model):
            print(f"{model}: {unjudged} of {2 * len(found.questions)} answers not graded, and in no mean")
        if _is_judge(found.models[model], found.judge.model):
            print(f"{model} was graded by itself: judges like their own answers")
    if embedded_judge:
        print("the embedded judge is too small for this (docs/log.md): name a stronger one as `judge` in tilth.yaml")
    print(
        f"{len(found.questions)} questions, judged by {printable(found.judge.model)}; "
        "95 % bootstrap intervals over questions, or the whole scale where they are fewer than five"
    )


def _is_judge(model: str, judge: str) -> bool:
    """Whether both name the same model: by its name, or a file by the hash of what it holds."""
    name = model.partition(" at ")[0]
    hashes = [each.rpartition("@")[2] for each in (name, judge) if "@" in each]
    return name == judge or (len(hashes) == 2 and hashes[0] == hashes[1])


def _mean_text(mean: Mean | None) -> str:
    return f"{mean.value:.2f} ({mean.low:.2f}\N{EN DASH}{mean.high:.2f})" if mean else "nothing graded"


def _means_as_json(found: TwoTurn, model: str) -> dict[str, Any]:
    means = {
        "both": found.mean(model),
        "first": found.mean(model, turn=1),
        "second": found.mean(model, turn=2),
        **{category: found.mean(model, category=category) for category in found.categories},
    }
    return {name: mean.model_dump(mode="json") if mean else None for name, mean in means.items()} | {
        "unjudged": found.unjudged(model)
    }
