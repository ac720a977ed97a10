"""The verdict on a cycle as Markdown: what its first line says, what its tables hold, and how long it may be."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tilth.core.atomic import read_json, write_json
from tilth.core.errors import TilthError
from tilth.core.records import TokensUsed
from tilth.cycle.journal import ENTRIES, EVALUATION, JUDGEMENT, cycle_folder, done, find_cycle
from tilth.cycle.releases import set_current
from tilth.cycle.report import report_data, write_report
from tilth.cycle.verdicts import no_verdict, verdict_on_cycle, verdict_on_head
from tilth.eval.evaluation import Judge, Judging
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import usage
from tilth.taxonomy.contribute import commit_files
from tilth.taxonomy.repository import resolve_commit

from ..loop import FERRY, MILL, SKILL, Loop, knowledge_files

Copy = Callable[[Loop], Loop]

COMMENT = 65_536
"""Characters that a comment on GitHub may have."""


def change(path: Path, **values: Any) -> None:
    """Put other values into a record."""
    write_json(path, read_json(path) | values)


def refuse_second(loop: Loop, outcome: str = "fail") -> None:
    """Make the second cycle of a loop one that the gate refused."""
    folder = cycle_folder(loop.workspace, 2)
    verdict = read_json(folder / JUDGEMENT)["verdict"] | {"outcome": outcome}
    change(folder / JUDGEMENT, verdict=verdict)
    change(folder / "done.json", outcome="refused", release=0)
    shutil.rmtree(loop.state / "releases/0002")
    write_json(loop.state / "releases/current.json", {"release": 1})


def commit_settings(loop: Loop) -> None:
    """A commit that changes no leaf."""
    commit_files(loop.root, [loop.root / "tilth.yaml", loop.root / "plan.yaml"], "Settings")


def test_a_release(turned_twice: Loop) -> None:
    workspace = turned_twice.workspace
    page, commit = verdict_on_cycle(workspace, 2), find_cycle(workspace, 2).commit
    lines = page.splitlines()
    assert lines[0] == "## Release 2: the gate passed cycle 2"
    assert lines[2].startswith(f"Commit {commit[:10]} of `taxonomy`, ")
    assert f"- Changed leaf `{FERRY}`: learned, " in page
    head = lines.index("| leaf | release 1 | release 2 | difference (95 %) | paired test |")
    ferry, mill = lines[head + 2 : head + 4]
    assert ferry.startswith(f"| `{FERRY}` (added) | 0/6 (0\N{EN DASH}39 %) | ")
    assert ferry.endswith(" | learned |")
    assert mill.startswith(f"| `{MILL}` | 6/6 (61\N{EN DASH}100 %) | ")
    assert "to +" in ferry.split("|")[4]
    assert f"- added: `{FERRY}`\n- as before: 2\n" in page
    assert re.search(r"\| samples \| \d+ s \| [1-9]\d* \| [1-9]\d* \| [1-9][\d,]* \|  \|\n\| training \| ", page)
    assert "`tilth report 2`" in page
    assert str(turned_twice.root) not in page


def test_a_first_release_says_nothing_better_than_the_test_shows(turned_once: Loop) -> None:
    page = verdict_on_cycle(turned_once.workspace, 1)
    assert page.startswith("## Release 1: the gate passed cycle 1\n")
    assert f"- added: `{SKILL}`, `{MILL}`\n- as before: 0" in page
    assert f"`{SKILL}`: not measured" in page
    assert not any(line.startswith(f"| `{SKILL}`") for line in page.splitlines())


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_a_refusal(turned_twice: Loop, copy: Copy, outcome: str) -> None:
    loop = copy(turned_twice)
    refuse_second(loop, outcome)
    page = verdict_on_head(loop.workspace)
    assert page.startswith(f"## No release: the gate's verdict on cycle 2 is {outcome}\n")
    assert page == verdict_on_cycle(loop.workspace, 2)
    change(cycle_folder(loop.workspace, 2) / "done.json", outcome="released", release=2)
    forced = verdict_on_cycle(loop.workspace, 2).splitlines()[0]
    assert forced == f"## Release 2, forced: the gate's verdict on cycle 2 is {outcome}"


def test_a_branch_that_passed(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    change(cycle_folder(loop.workspace, 2) / "done.json", outcome="judged", release=0)
    first = verdict_on_cycle(loop.workspace, 2).splitlines()[0]
    assert first == "## No release: the gate passed cycle 2 of a branch that is not merged"


def test_a_change_without_proof_bears_no_word(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    path = cycle_folder(loop.workspace, 2) / JUDGEMENT
    items = [item | {"verdict": "no change shown"} for item in read_json(path)["comparisons"]]
    change(path, comparisons=items)
    page = verdict_on_cycle(loop.workspace, 2)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("|")[5] for row in rows] == ["  ", "  "]


def test_the_last_commit(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    assert verdict_on_head(loop.workspace) == verdict_on_cycle(loop.workspace, 2)
    commit_settings(loop)
    page = verdict_on_head(loop.workspace)
    assert page.startswith("## Nothing to do: the current release has seen every committed leaf\n")
    assert "; release 2 is the current one." in page
    assert page.endswith(": Release 2: the gate passed cycle 2.\n")
    loop.commit(MILL, {"page.md": knowledge_files(MILL)["page.md"] + "\nIt is closed on Mondays.\n"})
    assert verdict_on_head(loop.workspace).startswith("## No verdict yet: 1 leaf waits for a cycle\n")


def test_a_commit_that_was_released_by_a_cycle_which_began_before_it(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    change(cycle_folder(loop.workspace, 2) / "cycle.json", commit=resolve_commit(loop.root, "HEAD~1"))
    assert verdict_on_head(loop.workspace) == verdict_on_cycle(loop.workspace, 2)


def test_after_a_rollback_the_page_says_which_release_is_current(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    set_current(loop.workspace, 1)
    page = verdict_on_head(loop.workspace).splitlines()
    assert page[0] == "## Release 2: the gate passed cycle 2"
    assert page[2].endswith("; release 1 is the current one")


def test_a_cycle_that_is_not_finished(trained: Loop) -> None:
    page = verdict_on_head(trained.workspace)
    assert page.startswith("## No verdict yet: cycle 2 is not finished\n")
    assert "release 1 is the current one" in page
    with pytest.raises(TilthError, match="cycle 2 is not finished"):
        verdict_on_cycle(trained.workspace, 2)


def test_a_leaf_that_cannot_be_read(untouched: Loop, copy: Copy) -> None:
    loop = copy(untouched)
    loop.commit(MILL, {"qna.yaml": "version: four\n"})
    page = verdict_on_head(loop.workspace)
    assert page.startswith("## No verdict: an error stands in the way\n")
    assert f"\n`{MILL}/qna.yaml:1:1`: " in page


def test_a_taxonomy_that_was_never_trained_on(untouched: Loop) -> None:
    page = verdict_on_head(untouched.workspace)
    assert page.startswith("## No verdict yet: 2 leaves wait for a cycle\n")
    assert page.endswith("no release is the current one.\n")


def test_what_it_cost_is_left_out_where_the_samples_are_gone(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    shutil.rmtree(loop.state / "store" / read_json(cycle_folder(loop.workspace, 2) / ENTRIES)[FERRY])
    page = verdict_on_cycle(loop.workspace, 2)
    assert "### What changed" in page
    assert "### Time and cost" not in page


def test_what_samples_and_judging_cost_is_told_by_the_prices_of_their_models(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    folder = cycle_folder(loop.workspace, 2)
    finished = done(loop.workspace, 2)
    assert finished
    assert "`tilth.yaml` has no prices: tokens only." in verdict_on_cycle(loop.workspace, 2)
    assert "tilth.yaml has no prices" in write_report(loop.workspace, 2, finished).read_text()

    settings = read_json(folder / "cycle.json")["config"]
    servers = {
        "teacher": settings["teacher"] | {"prices": {"prompt": 1000.0, "completion": 2000.0}},
        "judge": settings["teacher"] | {"model": "strict", "prices": {"prompt": 5.0, "completion": 0.0}},
    }
    change(folder / "cycle.json", config=settings | servers)
    judging = Judging(requests=9, tokens=TokensUsed(prompt=2_000_000, completion=7)).model_dump()
    change(folder / EVALUATION, judge=Judge(model="strict", prompt="p").model_dump(), judging=judging)
    with Ledger(loop.workspace.ledger, reading=True) as ledger:
        used = usage(ledger, leaf=FERRY)
    spent = sum(use.prompt_tokens / 1000 + use.completion_tokens / 500 for use in used)
    samples, *_, evaluation = report_data(loop.workspace, 2, finished).stages
    assert samples.price == pytest.approx(spent)
    assert (evaluation.asked, evaluation.tokens, evaluation.price) == (9, 2_000_007, 10.0)
    rows = [line.split("|")[1:-1] for line in verdict_on_cycle(loop.workspace, 2).splitlines() if line.startswith("|")]
    told = {row[0].strip(): [cell.strip() for cell in row] for row in rows}
    place = told["stage"].index("price")
    assert [told[name][place] for name in ("samples", "training", "evaluation")] == [f"{spent:,.4f}", "", "10.0000"]
    page = write_report(loop.workspace, 2, finished).read_text()
    assert "Their price" in page
    assert f"<td>{spent:,.4f}</td>" in page


def test_an_error_names_no_path_of_this_machine(untouched: Loop) -> None:
    said = f"{untouched.root}: @all, <b>no</b> space left"
    page = no_verdict(untouched.workspace, "0123456789abcdef", said)
    elsewhere = f"{Path.home()}/.cache/models/smol: no; see (/data/set/a.txt), http://h.example/v1/x or knowledge/a/b"
    told = no_verdict(untouched.workspace, "0123456789abcdef", elsewhere)
    assert "smol: no; see (a.txt), " in told.replace("`", "")
    assert "http://h.example/v1/x or knowledge/a/b" in told.replace("`", "")
    assert page == (
        "## No verdict: an error stands in the way\n\nCommit 0123456789 of `taxonomy`\n\n"
        "taxonomy: `@all`, `<b>no</b>` space left\n"
    )


def test_a_thousand_hostile_leaves_fit_into_a_comment(turned_twice: Loop, copy: Copy) -> None:
    loop = copy(turned_twice)
    folder = cycle_folder(loop.workspace, 2)
    names = [f"knowledge/@org/team/<img src=x>/`|{number:04}" + "`x" * 300 for number in range(1_000)]
    judgement, inputs = read_json(folder / JUDGEMENT), read_json(folder / "cycle.json")
    item = next(item for item in judgement["comparisons"] if item["leaf"] == FERRY)
    verdict = {"outcome": "fail", "reasons": [f"Changed leaf {name}: forgotten." for name in names]}
    change(folder / JUDGEMENT, comparisons=[item | {"leaf": name} for name in names], verdict=verdict)
    moved = [[name, f"{name}2"] for name in names]
    changes = {"added": names, "modified": names, "removed": names, "moved": moved, "unchanged": names}
    change(folder / "cycle.json", changes=inputs["changes"] | changes, new=[f"{name}3" for name in names])
    page = verdict_on_cycle(loop.workspace, 2)
    assert len(page) < COMMENT
    assert "- and 980 more" in page
    assert "960 leaves are in the report only." in page
    assert "and 990 more" in page
    assert done(loop.workspace, 2)
