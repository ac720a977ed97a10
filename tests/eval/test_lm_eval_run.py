"""lm-evaluation-harness itself, on tasks over local files and a model of a few thousand weights."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress, SilentTask
from tilth.core.records import Question
from tilth.eval.benchmarks import Benchmarks, BenchmarkSettings, run_benchmarks
from tilth.eval.lm_eval_tasks import export_tasks

from ..loop import make_student

pytestmark = pytest.mark.slow
pytest.importorskip("lm_eval", reason="needs the extra `benchmarks`")

QUESTIONS = [
    Question.new("mill", f"What is the {thing} of Orla Mill made of?", ("larch",)) for thing in ("wheel", "door")
] + [
    Question.new("mill", f"Which wood is the {thing}?", ("larch",), ("oak", "larch", "a very old black pine"))
    for thing in ("roof", "gate", "stair")
]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of tasks: those of a leaf."""
    export_tasks(QUESTIONS, tmp_path / "own", max_new_tokens=4)
    return tmp_path / "own"


def add_task(own: Path, name: str, rows: list[dict[str, Any]], **config: Any) -> None:
    (own / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(own / f"{name}.jsonl")}}}
    task = {"task": name, **data, "test_split": "test", **config}
    (own / f"{name}.yaml").write_text(yaml.safe_dump(task))


def run(student: Path, names: list[str], own: Path, **how: Any) -> Benchmarks:
    how = {"settings": BenchmarkSettings(), "progress": SilentProgress(), "batch_size": 2, **how}
    return run_benchmarks({"base": student}, names, cache=own.parent / "cache", include=own, **how)


class Counting(SilentProgress):
    """Counts answers, and stops the run at one of them."""

    def __init__(self, stops_at: int = 0) -> None:
        self.answers, self.stops_at = 0, stops_at

    def task(self, name: str, *, total: float | None, unit: str) -> Any:
        progress = self

        class Task(SilentTask):
            def advance(self, amount: float = 1) -> None:
                progress.answers += 1
                if progress.answers == progress.stops_at:
                    raise KeyboardInterrupt

        import contextlib

        return contextlib.nullcontext(Task())


def test_scores_are_those_of_the_harness_itself(student: Path, own: Path, capfd: pytest.CaptureFixture[str]):
    found = run(student, ["tilth"], own).rows("base")
    assert capfd.readouterr() == ("", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval

        manager = lm_eval.tasks.TaskManager(include_path=str(own), include_defaults=False)
        itself = lm_eval.simple_evaluate(
            "hf", f"pretrained={student},dtype=float32", ["tilth"], task_manager=manager, device="cpu", batch_size=2
        )["results"]
    short, choice = found["tilth_mill"], found["tilth_mill_choice"]
    assert short.scores[0].value == itself["tilth_mill"]["exact_match,first_line"]
    by_metric = {score.metric: score for score in choice.scores}
    assert by_metric["acc"].value == itself["tilth_mill_choice"]["acc,none"]
    assert (
        by_metric["acc_norm"].value
        == itself["tilth_choice"]["acc_norm,none"]
        == found["tilth_choice"].shares["acc_norm"].value
    )
    assert len(choice.questions) == len(by_metric["acc"].right) == 3


def test_a_run_that_was_stopped_goes_on_and_pays_nothing_twice(student: Path, own: Path):
    stopped = Counting(stops_at=8)
    with pytest.raises(KeyboardInterrupt):
        run(student, ["tilth"], own, progress=stopped)
    again = Counting()
    found = run(student, ["tilth"], own, progress=again)
    assert again.answers == 2 + 3 * 3 - 8
    fresh = run_benchmarks(
        {"base": student},
        ["tilth"],
        settings=BenchmarkSettings(),
        cache=own.parent / "other",
        batch_size=2,
        progress=SilentProgress(),
        include=own,
    )
    assert found.rows("base") == fresh.rows("base")


def test_every_model_sees_the_same_solved_examples(student: Path, own: Path):
    rows = [{"ask": f"What stands in room {number}?", "say": f" table {number % 7}"} for number in range(12)]
    add_task(own, "rooms", rows, output_type="loglikelihood", doc_to_text="ask", doc_to_target="say", num_fewshot=3)
    how = {"settings": BenchmarkSettings(), "progress": SilentProgress(), "batch_size": 2, "include": own}
    second = shutil.copytree(student, own.parent / "second")
    weights = load_file(second / "model.safetensors")
    save_file({name: 1.1 * tensor for name, tensor in weights.items()}, second / "model.safetensors", {"format": "pt"})
    both = run_benchmarks({"base": student, "other": second}, ["rooms"], cache=own.parent / "both", **how)
    alone = run_benchmarks({"other": second}, ["rooms"], cache=own.parent / "alone", **how)
    assert both.rows("other")["rooms"].shots == 3
    assert both.rows("other") == alone.rows("other")


def test_a_limit_takes_the_first_questions_and_chat_asks_otherwise(student: Path, own: Path):
    limited = run(student, ["tilth_mill_choice"], own, settings=BenchmarkSettings(limit=2)).rows("base")
    whole = run(student, ["tilth_mill_choice"], own).rows("base")
    assert limited["tilth_mill_choice"].questions == whole["tilth_mill_choice"].questions[:2]
    counting = Counting()
    chat = BenchmarkSettings(chat=True, system_prompt="Be brief.")
    run(student, ["tilth_mill_choice"], own, settings=chat, progress=counting)
    assert counting.answers == 9


def test_a_score_that_is_no_share_has_a_bootstrap_interval(student: Path, own: Path):
    rows = [{"text": f"The {thing} of the mill is of larch, {number}."} for number, thing in enumerate("abcdef")]
    add_task(own, "pages", rows, output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="text")
    add_task(own, "page", rows[:1], output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="text")
    found = run(student, ["pages", "page"], own).rows("base")
    by_metric = {score.metric: score for score in found["pages"].scores}
    assert set(by_metric) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    for score in by_metric.values():
        assert score.low < score.value < score.high
        assert not score.right
        assert not score.higher_is_better
    assert (found["page"].scores, len(found["page"].without_interval)) == ((), 3)


def test_tasks_that_cannot_or_must_not_run_are_refused_in_one_line(student: Path, own: Path):
    rows = [{"question": "Who?", "answer": "Ann"}]
    plain = {"output_type": "generate_until", "doc_to_text": "question", "doc_to_target": "answer"}
    add_task(own, "unsafe", rows, unsafe_code=True, **plain)
    add_task(own, "broken", rows, **{**plain, "output_type": "sing"})
    add_task(own, "gone", rows, **plain)
    (own / "gone.jsonl").unlink()
    add_task(own, "empty", [], **plain)
    add_task(own, "open", rows, **{**plain, "doc_to_text": "{{ question"})
    (own / "needy.yaml").write_text("task: needy\nprocess_docs: !function nowhere_to_be_found.docs\n")
    wrong = {
        "unsafe": "the task runs code that a model wrote",
        "broken": "the task cannot be used .*sing",
        "gone": "its data cannot be read",
        "empty": "the task cannot be used",
        "open": "the task cannot be used .*TemplateSyntaxError",
        "needy": "cannot be used|needs the package",
    }
    for name, message in wrong.items():
        with pytest.raises(TilthError, match=f"^{name}: .*{message}") as raised:
            run(student, [name], own)
        assert "\n" not in str(raised.value)


def test_without_the_hub_the_data_set_is_named_and_a_wrong_name_gets_the_nearest(student: Path, tmp_path: Path):
    script = f"""
import pathlib
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.eval.benchmarks import BenchmarkSettings
from tilth.eval.lm_eval_run import Harness

with Harness(None, BenchmarkSettings(), 1, SilentProgress()) as harness:
    errors = []
    for name in ("ai2_arc", "arc_esay"):
        try:
            harness.prepare([name])
        except TilthError as error:
            errors.append(str(error))
pathlib.Path({str(tmp_path / "said")!r}).write_text("\\n".join(errors))
"""
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | offline, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    hub, name = (tmp_path / "said").read_text().splitlines()
    assert hub.startswith("ai2_arc: its data set cannot be fetched: allenai/ai2_arc (")
    assert "--include" in hub
    assert name == "lm-eval has no task 'arc_esay'; did you mean 'arc_easy'?; `lm-eval ls tasks` lists them"
