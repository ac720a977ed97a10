import json
from pathlib import Path

import pytest
import yaml
from tilth.core.errors import TilthError
from tilth.core.records import Question
from tilth.eval.lm_eval_tasks import export_tasks
from tilth.eval.scores import exact_match

MILL, FERRY = "knowledge/mill", "knowledge/ferry"
QUESTIONS = [
    Question.new(MILL, "What is the roof made of?", ("larch", "larch wood")),
    Question.new(MILL, "How many pans? {{ 7 * 7 }}", ("three",)),
    Question.new(MILL, "Which wood is the door?", ("oak",), ("ash", "oak", "elm")),
    Question.new(FERRY, "Who steers?", ("Ilse Varn",)),
    Question.new(FERRY, "Describe the crossing.", ("It is slow.",), judged=True),
    Question.new(FERRY, "Answer in one line.", (), forms=("lines=1",)),
]


def read(folder: Path, name: str) -> dict:
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


def rows(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_every_leaf_is_a_task_and_what_no_task_can_score_is_counted(tmp_path: Path):
    exported = export_tasks(QUESTIONS, tmp_path / "tasks")
    assert exported.tasks == {
        "tilth_knowledge_ferry": FERRY,
        "tilth_knowledge_mill": MILL,
        "tilth_knowledge_mill_choice": MILL,
    }
    assert (exported.questions, exported.left_out) == (4, {"judge": 1, "form": 1})
    assert read(tmp_path / "tasks", "tilth")["task"] == ["tilth_short", "tilth_choice"]
    assert read(tmp_path / "tasks", "tilth_short")["task"] == ["tilth_knowledge_ferry", "tilth_knowledge_mill"]
    [row] = rows(tmp_path / "tasks", "tilth_knowledge_mill_choice")
    assert row["options"][row["target"]] == "oak"
    assert rows(tmp_path / "tasks", "tilth_knowledge_mill")[1]["answers"] == ["three", "3"]


def test_the_files_are_plain_yaml_that_names_fields_never_texts_of_contributors(tmp_path: Path):
    export_tasks(QUESTIONS, tmp_path / "tasks")
    for file in (tmp_path / "tasks").glob("*.yaml"):
        assert "!function" not in file.read_text()
        assert "7 * 7" not in file.read_text()
    task = read(tmp_path / "tasks", "tilth_knowledge_mill")
    assert (task["doc_to_text"], task["doc_to_target"]) == ("question", "answers")
    assert task["dataset_kwargs"] == {"data_files": {"test": str(tmp_path / "tasks" / "tilth_knowledge_mill.jsonl")}}


def test_equal_questions_give_equal_bytes_and_the_version_follows_the_content(tmp_path: Path):
    folder = tmp_path / "tasks"

    def written() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    export_tasks(QUESTIONS, folder)
    first, version = written(), read(folder, "tilth_knowledge_mill")["metadata"]["version"]
    export_tasks(QUESTIONS, folder)
    assert written() == first
    export_tasks([question for question in QUESTIONS if question.leaf == MILL][1:], folder)
    assert read(folder, "tilth_knowledge_mill")["metadata"]["version"] != version
    assert not (folder / "tilth_knowledge_ferry.yaml").exists()


def test_leaves_of_one_name_and_of_a_groups_name_are_told_apart(tmp_path: Path):
    leaves = ["knowledge/a/b", "knowledge/a_b", "knowledge/a-b", "short"]
    exported = export_tasks([Question.new(leaf, f"Who is {leaf}?", ("Ann",)) for leaf in leaves], tmp_path / "tasks")
    assert sorted(exported.tasks.values()) == sorted(leaves)
    assert not {"tilth", "tilth_short", "tilth_choice"} & set(exported.tasks)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TilthError, match="something else than exported tasks"):
        export_tasks(QUESTIONS, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    export_tasks(QUESTIONS, tmp_path / "tasks")
    (tmp_path / "tasks" / "results.json").write_text("mine")
    with pytest.raises(TilthError, match=r"something else than exported tasks: 'results\.json'"):
        export_tasks(QUESTIONS, tmp_path / "tasks")
    with pytest.raises(TilthError, match="here is a file"):
        export_tasks(QUESTIONS, tmp_path / "mine.txt")


def test_questions_that_no_task_can_score_make_no_folder(tmp_path: Path):
    with pytest.raises(TilthError, match="no question that could be a task"):
        export_tasks([QUESTIONS[4], Question.new(MILL, "Which sign?", ("the", "?"))], tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


SAID = [
    ("larch", ("Larch",), True),
    ("The larch.", ("larch",), True),
    ("\n\n  Larch wood \nand more", ("larch", "larch wood"), True),
    ("well-known", ("well known",), True),
    ("1,000 boats", ("1000 boats",), True),
    ("3.5", ("35",), False),
    ("10 12", ("1012",), False),
    ("3", ("three",), True),
    ("three", ("three",), True),
    ("oak", ("larch",), False),
    ("", ("larch",), False),
    ("p.m.", ("PM",), True),
    ("an oak or a larch", ("larch",), False),
]


@pytest.mark.slow
def test_the_harness_matches_short_answers_as_tilth_does(tmp_path: Path):
    """What YAML says about spelling, against `eval.scores`, by the harness's own filter and metric."""
    pytest.importorskip("lm_eval", reason="needs the extra `benchmarks`")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.api.metrics import exact_match_hf_evaluate
        from lm_eval.filters.extraction import RegexFilter

        export_tasks([Question.new(f"leaf/{i}", "Who?", accepted) for i, (_, accepted, _) in enumerate(SAID)], tmp_path)
        for number, (said, accepted, right) in enumerate(SAID):
            task = read(tmp_path, f"tilth_leaf_{number}")
            first_line = task["filter_list"][0]["filter"][0]
            [[line]] = RegexFilter(**{k: v for k, v in first_line.items() if k != "function"}).apply([[said]], [])
            metric = {k: v for k, v in task["metric_list"][0].items() if k in {"ignore_case", "regexes_to_ignore"}}
            [row] = rows(tmp_path, f"tilth_leaf_{number}")
            answers = row["answers"]
            found = exact_match_hf_evaluate([line] * len(answers), answers, **metric)["exact_match"] > 0
            assert (found, exact_match(said, accepted)) == (right, right), (said, accepted)
