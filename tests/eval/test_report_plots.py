import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from tilth.core.config import Gate
from tilth.core.errors import TilthError
from tilth.eval.report import DocumentCoverage, EpochReport, PhaseReport, ReportData, drawing
from tilth.eval.report.plots import coverage_plot, forest_plot, heat_map
from tilth.eval.report.training_plots import curves, replay_plot


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def phase(name: str, losses: Sequence[tuple[int, float]], **more: object) -> PhaseReport:
    given = {"samples": 10, "tokens": 1, "replayed": {}, "epochs": 1, "seconds": 1} | more
    return PhaseReport.model_validate({"name": name, "losses": tuple(losses), **given})


@pytest.mark.slow
def test_a_figure_takes_the_colours_of_the_page_and_the_same_bytes_come_out(report_data: ReportData):
    again = [forest_plot(report_data.comparisons, report_data.together, report_data.gate) for _ in range(2)]
    assert again[0] == again[1]
    svg = again[0]
    assert {"var(--ink)", "var(--soft)", "var(--rule)", "var(--s1)", "var(--s5)"} <= set(
        re.findall(r"var\(--\w+\)", svg)
    )
    assert not re.search(r"#0a0[bc]|font-family|<style|<metadata|xmlns|DejaVu", svg)
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(set(ids)) == len(ids)
    assert all(f"#{id_}" in svg for id_ in ids)


@pytest.mark.slow
def test_the_forest_has_every_leaf_that_was_measured_and_the_groups(report_data: ReportData):
    shown = texts(forest_plot(report_data.comparisons, report_data.together, report_data.gate))
    names = ["knowledge/history/salters_of_ferren", "knowledge/places/brackwater_lighthouse"]
    told = ("changed leaves", "other leaves", "other leaves since they were learned", "general set")
    groups = [f"{name} (90 %)" for name in told]
    assert [text for text in shown if text in [*names, *groups]] == [*names, *groups]
    assert "+83 (+39 to +95)" in shown
    assert "compositional_skills/writing/plain_notices" not in shown
    assert forest_plot((), (), Gate()) == ""


def test_the_heat_map_has_a_number_with_its_interval_for_each_model_and_leaf(report_data: ReportData):
    assert report_data.history
    leaves = [*report_data.history.tasks, "knowledge/unknown"]
    svg = heat_map(report_data.history, leaves)
    shown = texts(svg)
    assert [text for text in shown if text.endswith(" %")] == ["0 %", "8 %", "92 %", "8 %", "83 %", "92 %"]
    assert shown.count("65–99") == 2  # noqa: RUF001
    assert shown.count("–") == 3  # noqa: RUF001
    assert {"base", "release 1", "release 2", "1 brackwater_lighth…"} <= set(shown)
    assert svg.count("fill: none; stroke: var(--ink); stroke-width: 2") == 2


def test_a_loss_that_is_not_a_number_leaves_a_gap():
    nan, infinite = float("nan"), float("inf")
    broken = EpochReport(epoch=1, step=4, chosen=True, numbers={"training loss": nan, "validation accuracy": 0.5})
    svg = curves([phase("p", [(1, 2.0), (2, nan), (3, infinite), (4, 1.0)], measured=(broken,))])
    assert not re.search(r"\bnan\b|\binf\b", svg)
    assert "accuracy" in texts(svg)
    assert curves([phase("p", [])]) == ""


def test_a_reward_is_drawn_below_nothing_as_well():
    measured = tuple(
        EpochReport(
            epoch=epoch, step=epoch, chosen=epoch == 2, numbers={"training loss": 0.1, "training reward": earned}
        )
        for epoch, earned in ((1, -0.8), (2, -0.3))
    )
    svg = curves([phase("p", [(1, 0.1), (2, 0.1)], measured=measured)])
    assert "reward" in texts(svg)
    assert {"−0.8", "−0.4"} <= set(texts(svg))  # noqa: RUF001


@pytest.mark.parametrize("steps", [1, 7, 5000])
def test_long_curves_are_thinned(steps: int):
    svg = curves([phase("p", [(step, float(step % 7)) for step in range(1, steps + 1)])])
    longest = max(
        (re.findall(r"[ML] ", path.attrib["d"]) for path in ElementTree.fromstring(svg).iter("path")), key=len
    )
    assert len(longest) <= 200


def test_replay_is_shown_by_where_it_came_from():
    svg = replay_plot([phase("short", []), phase("long", [], replayed={"earlier cycles": 2, "a general set": 1})])
    assert {"1 short", "2 long", "new in this cycle", "earlier cycles", "a general set"} <= set(texts(svg))
    assert replay_plot([phase("none", [], samples=0)]) == ""


@pytest.mark.slow
def test_the_documents_of_which_least_is_told_come_first():
    told = [
        DocumentCoverage(
            leaf="l", document=name, characters=1000, sentences=tuple((n, n + 1, n % 2) for n in range(900))
        )
        for name in ("half.md",)
    ]
    told += [DocumentCoverage(leaf="l", document="nothing.md", characters=9, sentences=((0, 9, 0),))]
    told += [DocumentCoverage(leaf="l", document="empty.md", characters=0, sentences=())]
    svg = coverage_plot(told)
    assert [text for text in texts(svg) if text.endswith(".md")] == ["nothing.md", "half.md"]
    assert {"0 % of 1 sentences", "50 % of 900 sentences"} <= set(texts(svg))
    assert svg.count("<path") < 250


HOSTILE = ["<b>&amp;</b>", "$\\frac{1}{$", "\x00\x1b[31m", "\u202eabc", "😀" * 3, "x" * 500, "a\nb", "a\ufffe\uffffb"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_can_be_drawn(name: str):
    svg = replay_plot([phase(name, [], replayed={name: 3})])
    assert "<b>" not in svg
    assert "\x00" not in svg
    assert "\n" not in "".join(texts(svg))
    assert max(map(len, texts(svg))) < 110


def test_without_matplotlib_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "find_spec", lambda _: None)
    with pytest.raises(TilthError, match=r"needs the package matplotlib.*pip install"):
        replay_plot([phase("p", [])])
