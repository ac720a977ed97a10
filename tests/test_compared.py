"""docs/compared.md: the figures that it says were measured are those of the results, and what it names is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
SYSTEMS = ("tilth", "sdg_hub", "distilabel", "bespokelabs-curator", "data-designer")


def result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def row(measured: dict[str, Any], figure: str, form: str) -> str:
    """What the table has of a figure, all systems in turn."""
    cells = [form.format(told[figure]) if figure in (told := measured[name]) else "gave up" for name in SYSTEMS]
    return f" | {' | '.join(cells)} |\n"


ENGINE = result("engine")["works"]
LIMITED = ENGINE["limited"]["measured"]


@pytest.mark.parametrize(
    ("measured", "figure", "form"),
    [
        (ENGINE["one_step"]["measured"], "requests_per_s", "{:,.0f}"),
        (ENGINE["one_step"]["measured"], "cpu_ms_per_request", "{:.2f}"),
        (ENGINE["three_steps"]["measured"], "in_flight_in_the_middle", "{:.1%}"),
        (ENGINE["three_steps"]["measured"], "in_flight_over_all", "{:.1%}"),
        (LIMITED["admits 16, 429 to the rest"], "used", "{:.1%}"),
        (LIMITED["works on 16, queues the rest"], "used", "{:.1%}"),
        (ENGINE["refused_row"]["measured"], "rows", "{}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_engines_figures(measured: dict[str, Any], figure: str, form: str) -> None:
    assert row(measured, figure, form).replace("%", " %") in PAGE


def test_the_engines_other_figures() -> None:
    changed = {name: told["requests_with_one_changed"] for name, told in ENGINE["again"]["1,000 one-step rows"].items()}
    cells = [f"{changed[name]:,}" if changed[name] else "0 (the old answer)" for name in SYSTEMS]
    assert f" | {' | '.join(cells)} |\n" in PAGE
    killed = ENGINE["kills"]["600 one-step rows, killed once"]
    paid = [
        f"{killed[name]['paid_by_needed']:.2f}" if killed[name]["rows"] else "not done after 60 s" for name in SYSTEMS
    ]
    assert f" | {' | '.join(paid)} |\n" in PAGE
    edited, kills = ENGINE["again"]["tilth generate"]["one_leaf_edited"], ENGINE["kills"]["tilth generate"]
    assert says(f"one edited, tilth asks {edited['requests']} requests and takes {edited['seconds']:.1f} s")
    assert says(f"none of {kills['kills']} kills was more paid for twice than the {kills['concurrency']}")
    assert not kills["more_than_in_flight"]
    assert not kills["datasets_that_differ"]
    memory = ENGINE["memory"]["tilth generate"]
    assert says(f"{memory['peak_mib']:.0f} MiB of memory and {memory['seconds']:,.0f} s")


def test_figures_of_training_lint_diff_and_leaks() -> None:
    speed = {
        name: [f"{number:.0f}" for number in pair] for name, pair in result("train_throughput")["tokens_per_s"].items()
    }
    ours, plain, best = (" to ".join(speed[name]) for name in ("ours", "trl_defaults", "trl_best"))
    assert says(f"{ours} useful tokens a second; TRL's SFTTrainer {plain} at its defaults, {best} at its best settings")
    lint, diff = result("lint"), result("diff")["median_s"]
    cold, peer = lint["tilth"]["median_s"]["cold"], lint["instructlab-schema"]["estimate_s"]
    assert says(f"linted in {cold:.1f} s, by `instructlab-schema` in about {peer['as it comes']:.0f} s")
    assert says(f"{peer['without processes']:.0f} s without the processes")
    assert says(f"{diff['one edited: tilth']:.2f} s for one edited leaf of 10,000")
    assert says(
        f"takes {diff['one edited: instructlab-sdg 0.8.3']:.2f} s and git itself {diff['one edited: git itself']:.2f} s"
    )
    planted = {
        name: (told["all"]["found"], told["all"]["planted"]) for name, told in result("leaks")["planted"].items()
    }
    assert planted["verbatim"] == (130, 130)
    assert says("all 130 that are word for word are found")
    assert says("{} of {} lightly edited ones".format(*planted["edited"]))
    assert says("{} of {} that a model reworded".format(*planted["paraphrase"]))


def test_figures_of_learning() -> None:
    variants = result("continual")["variants"]
    told, joint, off = (variants[f"{name}, all weights, float32"] for name in ("lab", "lab, joint", "lab, replay off"))
    together = (joint["general"]["lost"] - joint["general"]["gained"]) / joint["general"]["total"]
    at_once = joint["summary"]["learning_accuracy"]["value"]
    assert says(f"All five in one cycle: {at_once:.2f}, and {together:.2f} down.")
    assert says(f"Without replay {off['summary']['forgetting']['value']:.2f} is forgotten.")
    general, learned, lost = told["general"], told["summary"]["learning_accuracy"], told["summary"]["forgetting"]
    down = (general["lost"] - general["gained"]) / general["total"]
    form = "{value:.2f} ({low:.2f} to {high:.2f}) where"
    assert says(f"learned {form.format(**learned)} the goal was 0.90; forgotten {form.format(**lost)} it was 0.03")
    assert says(f"general ability {down:.2f} down ({-general['high']:.2f} to {-general['low']:.2f}) where it was 0.02")
    for which, told in (("", "In bfloat16"), (", all weights", "With all weights in bfloat16")):
        one, two = (_learning(variants[f"{name}{which}, bfloat16"]) for name in ("lab", "lab, seed 43"))
        pairs = [f"{first} and {second}" for first, second in zip(one, two, strict=True)]
        assert says(f"{told}, two seeds: {pairs[0]}, {pairs[1]}, general ability {pairs[2]} down.")
    doubled, without = (_learning(variants[f"lab, replay {name}, bfloat16"]) for name in ("doubled", "off"))
    assert says("With twice the replay: {}, {}, {} down; without: {} is forgotten.".format(*doubled, without[1]))
    assert says("`stacked` in bfloat16, all weights: {}, {}, {} down".format(*_learning(variants["stacked, bfloat16"])))
    assert says("`quick` in float32: {}, {}, {} up".format(*_learning(variants["quick, float32"])))


def _learning(found: dict) -> tuple[str, str, str]:
    """Learned, forgotten, and the change of the general set."""
    general, summary = found["general"], found["summary"]
    change = (general["gained"] - general["lost"]) / general["total"]
    values = [summary["learning_accuracy"]["value"], summary["forgetting"]["value"], abs(change)]
    one, two, three = (f"{value + 1e-9:.2f}" for value in values)  # a half is rounded up
    return one, two, three


def says(text: str) -> bool:
    """Whether the page says so, wherever its lines break."""
    return text in re.sub(r"\s+", " ", PAGE)


def test_what_it_names_is_there() -> None:
    files = re.findall(r"\b(benchmarks/[\w/.]+\.(?:py|json))", PAGE)
    modules = re.findall(r"python -m (benchmarks\.\w+)", PAGE)
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    named = [
        *files,
        *(f"{module.replace('.', '/')}/__main__.py" for module in modules),
        *(f"docs/{link}" for link in links),
    ]
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
