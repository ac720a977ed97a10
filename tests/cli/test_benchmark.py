"""`tilth benchmark`: what it prints and refuses; the harness itself is run in `tests/eval/test_lm_eval_run.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tilth.cli.benchmark import _is_judge
from tilth.llm.scripted import serve_scripted

from ..loop import Spawner

QUESTIONS = """
questions:
  - {category: one, turns: ["What is a mill?", "And a wheel?"], reference: ["A building.", ""]}
  - {category: two, turns: ["What is a roof?", "And a door?"]}
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, spawner: Spawner) -> Path:
    """With the starter taxonomy, each leaf a commit of its own; tests have folders and models of their own in it."""
    root = tmp_path_factory.mktemp("benchmark")
    assert spawner.run(root, "init").code == 0
    (root / "questions.yaml").write_text(QUESTIONS)
    return root


def test_held_out_questions_are_exported_leaf_by_leaf(workspace: Path, spawner: Spawner) -> None:
    said = spawner.run(workspace, "benchmark", "export", "tasks")
    told = spawner.run(workspace, "benchmark", "export", "tasks", "--json")
    assert (said.code, told.code) == (0, 0), said.err
    assert "tilth_knowledge_music_zellophar            knowledge/music/zellophar" in said.out
    assert "tilth_general_arithmetic" in said.out
    assert "exported to tasks; try `tilth benchmark run tilth --include tasks --chat`" in said.out
    assert " checked by form\n" in said.out
    assert told.json["questions"] == sum(
        len(file.read_text().splitlines()) for file in (workspace / "tasks").glob("*.jsonl")
    )


def test_only_what_changed_since_a_branch_is_exported(workspace: Path, spawner: Spawner) -> None:
    unchanged = spawner.run(workspace, "benchmark", "export", "new", "--changed-since", "HEAD")
    assert (unchanged.code, unchanged.err) == (
        2,
        "tilth: --changed-since: no leaf changed since HEAD left 'HEAD'; name another REF\n",
    )
    told = spawner.run(workspace, "benchmark", "export", "new", "--changed-since", "HEAD~3", "--json")
    assert told.code == 0, told.err
    assert set(told.json["tasks"].values()) == {"knowledge/music/zellophar"}


def test_answers_of_two_turns_are_graded_and_what_was_not_is_told(workspace: Path, spawner: Spawner) -> None:
    with serve_scripted() as model, serve_scripted(always={"And a door": "garbage"}) as judge:
        command = ["benchmark", "two-turn", "questions.yaml", "--model", f"{model}#scripted"]
        judged = ["--set", "judge.model=strict", "--set", f"judge.base_url={judge}"]
        said = spawner.run(workspace, *command, *judged)
        told = spawner.run(workspace, *command, *judged, "--json")
        assert model.stats().requests == 4
    assert (said.code, told.code) == (0, 0), said.err
    lines = said.out.splitlines()
    assert lines[0].startswith(f"mean grade, 1 to 10  {model}#scripted")
    assert [line.split("  ")[0] for line in lines[2:7]] == ["both turns", "first turn", "second turn", "one", "two"]
    assert f"{model}#scripted: 1 of 4 answers not graded, and in no mean" in said.out
    assert lines[-1].startswith("2 questions, judged by strict; 95 % bootstrap intervals")
    means = told.json["means"][f"{model}#scripted"]
    assert (means["unjudged"], means["two"], means["first"]["questions"]) == (1, None, 2)


def test_a_model_that_judges_itself_is_pointed_at(workspace: Path, spawner: Spawner) -> None:
    with serve_scripted() as url:
        teacher = ["--set", "teacher.model=vain", "--set", f"teacher.base_url={url}"]
        said = spawner.run(workspace, "benchmark", "two-turn", "questions.yaml", "--model", "teacher", *teacher)
    assert "teacher was graded by itself: judges like their own answers" in said.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["run", "arc_easy", "--model", "http://127.0.0.1:9/v1#x"],
            "benchmarks need the weights of a model; name base",
        ),
        (["two-turn", "gone.yaml"], "tilth: gone.yaml: the file does not exist"),
        (["two-turn", "tilth.yaml"], "the key 'questions' is missing"),
        (["export", "knowledge"], "here is something else than exported tasks: 'music'"),
        (["export", "tasks", "--changed-since", "gone"], "there is no commit 'gone'"),
        (["run"], "missing argument 'TASK'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(workspace: Path, spawner: Spawner, arguments: list[str], line: str) -> None:
    ran = spawner.run(workspace, "benchmark", *arguments)
    assert ran.code == 2
    assert line in ran.err
    assert ran.err.count("\n") == 1


def test_it_says_what_there_is(workspace: Path, spawner: Spawner) -> None:
    assert "two-turn" in spawner.run(workspace, "benchmark").out


@pytest.mark.parametrize(
    ("model", "judge", "same"),
    [
        ("vain at http://127.0.0.1:8000/v1", "vain", True),
        ("vain at http://127.0.0.1:8000/v1", "strict", False),
        ("small-q4_k_m@cc324af0", "small@cc324af0", True),
        ("small-q4_k_m@cc324af0", "small@00000000", False),
        ("small-q4_k_m@cc324af0", "small", False),
    ],
)
def test_a_model_is_known_by_its_name_or_by_the_hash_of_its_file(model: str, judge: str, same: bool) -> None:
    assert _is_judge(model, judge) is same
