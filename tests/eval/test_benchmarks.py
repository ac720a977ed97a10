"""`run_benchmarks` with a stand-in for the harness; with the harness itself in `test_lm_eval_run.py`."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import DataError, TilthError
from tilth.core.progress import SilentProgress
from tilth.eval import benchmarks
from tilth.eval.benchmarks import (
    Benchmark,
    Benchmarks,
    BenchmarkScore,
    BenchmarkSettings,
    TaskScores,
    compare_benchmarks,
    run_benchmarks,
    share,
)

SETTINGS = BenchmarkSettings()


def task(name: str, right: str, *metrics: str, questions: str = "") -> TaskScores:
    """A task whose questions are letters, answered rightly where `right` has a 1."""
    rights = [each == "1" for each in right]
    asked = tuple(f"{name}{number}{questions}" for number in range(len(right)))
    scores = tuple(share(metric, rights) for metric in metrics or ("acc",))
    return TaskScores(task=name, version="1", shots=0, questions=asked, scores=scores)


def measured(*tasks: TaskScores, groups: dict[str, tuple[str, ...]] | None = None) -> Benchmark:
    return Benchmark(name="asked", lm_eval="0.4.13", dtype="float32", tasks=tasks, groups=groups or {})


def both(before: Benchmark, after: Benchmark) -> Benchmarks:
    return Benchmarks(settings=SETTINGS, models={"old": "a", "new": "b"}, results={"old": (before,), "new": (after,)})


def test_models_are_compared_in_pairs_on_every_task_with_holm_over_all():
    old = measured(task("a", "0" * 10), task("b", "01" * 5), task("c", "1" * 9 + "0"))
    new = measured(task("a", "1" * 10), task("b", "01" * 5), task("c", "0" * 9 + "1"))
    found = {each.task: each for each in compare_benchmarks(both(old, new), "old", "new", significance=0.05)}
    assert {name: each.verdict for name, each in found.items()} == {
        "a": "better",
        "b": "no change shown",
        "c": "worse",
    }
    assert found["a"].p_value == pytest.approx(3 * 2 / 2**10)
    assert (found["c"].difference.gained, found["c"].difference.lost, found["c"].difference.total) == (1, 9, 10)


def test_a_group_is_scored_over_all_questions_of_its_tasks():
    found = measured(task("a", "11"), task("b", "00000010"), groups={"both": ("a", "b")})
    [group, *_] = found.rows
    assert (group.task, group.scores[0].value, len(group.questions)) == ("both", 0.3, 10)
    assert group.scores[0] == share("acc", group.scores[0].right)


def test_a_group_has_no_score_of_a_metric_that_one_of_its_tasks_lacks():
    found = measured(task("a", "11", "acc"), task("b", "10", "exact_match"), groups={"both": ("a", "b")})
    assert [row.task for row in found.rows] == ["a", "b"]


def test_length_normalised_accuracy_is_the_main_score():
    found = measured(task("a", "10", "acc", "acc_norm"))
    (compared,) = compare_benchmarks(both(found, found), "old", "new", significance=0.05)
    assert compared.metric == "acc_norm"
    spread = BenchmarkScore(metric="bleu", value=3.0, low=2.0, high=4.0)
    only = task("a", "10").model_copy(update={"scores": (spread,)})
    assert only.shares == {}
    assert compare_benchmarks(both(measured(only), measured(only)), "old", "new", significance=0.05) == ()


def test_models_are_compared_by_a_metric_that_is_a_share_for_both():
    spread = BenchmarkScore(metric="f1", value=0.4, low=0.2, high=0.6)
    weak = task("a", "0000", "f1", "em")  # of a model that has no part marks f1 looks like a share
    strong = weak.model_copy(update={"scores": (spread, share("em", [True, False, True, False]))})
    for old, new in ((weak, strong), (strong, weak)):
        (found,) = compare_benchmarks(both(measured(old), measured(new)), "old", "new", significance=0.05)
        assert (found.metric, found.difference.gained + found.difference.lost) == ("em", 2)
    only = weak.model_copy(update={"scores": (spread,)})
    assert compare_benchmarks(both(measured(weak), measured(only)), "old", "new", significance=0.05) == ()


def test_a_share_that_is_better_when_low_is_no_right_answer():
    worse = task("a", "1111111111").model_copy(
        update={"scores": (share("pct_stereotype", [True] * 10, higher_is_better=False),)}
    )
    assert worse.shares == {}
    (group, _) = measured(worse, groups={"all": ("a",)}).rows
    assert (group.task, group.shares, group.scores[0].higher_is_better) == ("all", {}, False)


def test_other_questions_are_not_compared():
    old, new = measured(task("a", "10")), measured(task("a", "10", questions="x"))
    with pytest.raises(DataError, match="did not answer the same questions"):
        compare_benchmarks(both(old, new), "old", "new", significance=0.05)
    with pytest.raises(DataError, match="'newer' was not measured"):
        compare_benchmarks(both(old, old), "old", "newer", significance=0.05)


class Stand:
    """Stands where the harness does: remembers what it measured, dies at its `dies_at`-th task."""

    measured: list[tuple[str, str]]
    dies_at = 0

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> "Stand":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepare(self, names: Any) -> None:
        pass

    @contextmanager
    def student(self, name: str, folder: Path, known: Any) -> Generator[str]:
        yield folder.name

    def measure(self, student: str, name: str) -> Benchmark:
        self.measured.append((student, name))
        if len(self.measured) == self.dies_at:
            raise KeyboardInterrupt
        return Benchmark(name=name, lm_eval="1", dtype="float32", tasks=(task(name, "10"),), groups={})


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> type[Stand]:
    from tilth.eval import lm_eval_run

    Stand.measured, Stand.dies_at = [], 0
    monkeypatch.setattr(lm_eval_run, "Harness", Stand)
    monkeypatch.setattr(benchmarks, "_installed", lambda: "1")
    return Stand


def model(folder: Path, weights: str) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_text(weights)
    return folder


def run(models: dict[str, Path], names: list[str], cache: Path, **how: Any) -> Benchmarks:
    how = {"settings": SETTINGS, "batch_size": 1, "progress": SilentProgress(), **how}
    return run_benchmarks(models, names, cache=cache, **how)


def test_a_result_that_is_there_is_not_measured_again(tmp_path: Path, stand: type[Stand]):
    models = {"base": model(tmp_path / "one", "1"), "other": model(tmp_path / "two", "2")}
    stand.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(models, ["a", "b"], tmp_path / "cache")
    stand.dies_at = 0
    found = run(models, ["a", "b"], tmp_path / "cache")
    assert stand.measured == [("one", "a"), ("one", "b"), ("two", "a"), ("two", "a"), ("two", "b")]
    assert list(found.rows("other")) == ["a", "b"]
    run(models, ["b", "a"], tmp_path / "cache")
    assert len(stand.measured) == 5


def test_a_broken_result_is_named(tmp_path: Path, stand: type[Stand]):
    models = {"base": model(tmp_path / "one", "1")}
    run(models, ["a"], tmp_path / "cache")
    [file] = [file for folder in (tmp_path / "cache").iterdir() if folder.is_dir() for file in folder.iterdir()]
    file.write_text('{"name": "a"}')
    with pytest.raises(DataError, match=r"\.json: not a result of a benchmark: .* is missing.*; remove it"):
        run(models, ["a"], tmp_path / "cache")


def test_other_settings_and_other_tasks_of_ones_own_are_measured_anew(tmp_path: Path, stand: type[Stand]):
    models, own = {"base": model(tmp_path / "one", "1")}, tmp_path / "own"
    own.mkdir()
    (own / "task.yaml").write_text("task: a")
    for _ in range(2):
        run(models, ["a"], tmp_path / "cache")
        run(models, ["a"], tmp_path / "cache", settings=BenchmarkSettings(limit=5))
        run(models, ["a"], tmp_path / "cache", include=own)
    assert len(stand.measured) == 3
    (own / "task.yaml").write_text("task: a\n# edited")
    run(models, ["a"], tmp_path / "cache", include=own)
    assert len(stand.measured) == 4


def test_what_is_missing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand: type[Stand]):
    models = {"base": model(tmp_path / "one", "1")}
    with pytest.raises(TilthError, match=r"--include: there is no folder .*nowhere"):
        run(models, ["a"], tmp_path / "cache", include=tmp_path / "nowhere")
    monkeypatch.undo()

    def absent(_: str) -> str:
        raise benchmarks.PackageNotFoundError

    monkeypatch.setattr(benchmarks, "version", absent)
    with pytest.raises(TilthError, match=r"pip install 'tilth\[benchmarks\]'"):
        run(models, ["a"], tmp_path / "cache")
