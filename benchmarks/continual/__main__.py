"""Five contributions, one after the other: what is learned, forgotten and otherwise lost, by plan and by replay.

    python -m benchmarks.continual FOLDER [--only VARIANT]...

The embedded student learns five invented leaves (`taxonomy/`), a cycle for each, from the samples that the embedded
teacher made of them once (recipe `quick`). After every cycle it is asked all held-out questions of all five leaves,
twenty each, and in the end the general set. `variants.py` lists what is compared; joint training, all leaves in one
cycle, is the upper bound. Cycles are trained and evaluated by the product's own parts (`train.run`, `eval.run`); there
is no gate, for a student that is refused would not forget.

FOLDER keeps samples, models (about 3 GB a variant) and answers: killed and called again, it goes on. What was trained
is not trained again, so take another FOLDER where plans have changed. After every variant it writes
`benchmarks/results/continual.json`, `docs/results.md` and the plot of that (`pip install matplotlib`).
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilth.cli.terminal import TerminalProgress
from tilth.core.atomic import write_json
from tilth.core.records import Question
from tilth.core.workspace import Workspace
from tilth.cycle.models import answering
from tilth.eval.general import general_questions
from tilth.eval.run import evaluate
from tilth.llm.precision import computed_in
from tilth.llm.student import student_folder
from tilth.sdg.store import Entry

from ..machine import commit, describe
from .curve import Ask, curve
from .cycles import Course, cycles
from .outcome import BASE, Cycle, Outcome, outcome
from .page import BOUND, write_page
from .samples import generated, untaught, workspace_in
from .variants import VARIANTS, Variant

RESULTS = Path(__file__).parents[1] / "results" / "continual.json"


def main() -> None:
    options, progress = _options(), TerminalProgress()
    workspace = workspace_in(options.folder / "made")
    leaves, entries = generated(workspace, progress)
    student = student_folder(workspace.config.student.model, progress)
    questions = [question for leaf in leaves for question in leaf.questions]
    course = Course(entries, student, workspace.config, options.folder / "runs", progress)
    ask = functools.partial(evaluate, by=answering(workspace, progress))
    setting = _setting(workspace, entries) | {"untaught": untaught(leaves, entries)}
    for variant in [variant for variant in VARIANTS if not options.only or variant.name in options.only]:
        found, last = _run(variant, course, questions, ask)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"variants": {}, "runs": {}}
        results |= setting
        name = f"{variant.name}, {computed_in()['dtype']}"
        results["variants"][name] = found.model_dump(mode="json")
        results["runs"][name] = {"commit": commit(), "machine": describe()} | computed_in()
        if variant.name == BOUND:
            points = curve(last, student, questions, ask, options.folder / "mean")
            results["curve_of"], results["curve"] = name, [point.model_dump(mode="json") for point in points]
        write_json(RESULTS, results)
        write_page(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--only", action="append", choices=names, help="a variant; again for more")
    return parser.parse_args()


def _setting(workspace: Workspace, entries: Sequence[Entry]) -> dict[str, Any]:
    config = workspace.config
    return {
        "student": config.student.model,
        "teacher": config.teacher.model,
        "recipe": config.generate.recipe,
        "samples": {entry.leaf: entry.samples for entry in entries},
    }


def _run(variant: Variant, course: Course, questions: Sequence[Question], ask: Ask) -> tuple[Outcome, Path]:
    """Train its cycles and evaluate after each, base model first; the last one, returned too, on the general set."""
    models, costs, leaves = {BASE: course.student}, list[Cycle](), [entry.leaf for entry in course.entries]
    evaluation = ask(models, questions)
    for number, (model, cost) in enumerate(cycles(variant, course), start=1):
        models[f"after {number}"] = model
        costs.append(cost)
        evaluation = ask(models, questions)
        rates = {leaf: evaluation.rate(f"after {number}", leaf) for leaf in leaves}
        said = ", ".join(f"{leaf} {rate.correct} of {rate.total}" for leaf, rate in rates.items())
        course.progress.say(f"{variant.name}, after {number}: {said}")
    last = list(models)[-1]
    general = ask({BASE: course.student, last: models[last]}, general_questions())
    return outcome(variant, leaves, costs, evaluation, general), models[last]


if __name__ == "__main__":
    main()
