"""docs/results-scale.md, written from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "results-scale.md"

_WHAT = {
    "diff": "`tilth diff`: the working tree against the release's commit, 2 % of the leaves changed",
    "first diff": "the same before the first release: every leaf is read",
    "generate": "`tilth generate --dry-run` with 1 % of the leaves to make, then `tilth generate` with nothing to do",
    "mix": "every phase's data of plan `lab`: 2 % of the leaves new, replay drawn from all others",
    "contamination": "two held-out questions of each leaf and the general set, looked for in every sample",
    "gate": "parent and candidate compared on every leaf, and the verdict",
    "report": "the page of a cycle with 2 % of the leaves new",
    "first report": "the page of the first cycle: every leaf and every sample is new",
}


_OF_CYCLES = {
    "nothing to do": "`tilth cycle` with nothing to do",
    "releases": "`tilth releases`: a line for each",
    "history": "the page of the newest cycle, with the scores of all before it",
}


def page(result: dict[str, Any]) -> str:
    """The page."""
    stages: dict[str, dict[str, Any]] = result["stages"]
    sizes = list(next(iter(stages.values()))["measured"])
    most, per_leaf, machine = int(sizes[-1]), result["samples_per_leaf"], result["machine"]
    heads = " | ".join(f"{int(size):,}" for size in sizes)
    lines = [
        "# Results: ten thousand leaves\n",
        "Written by `python -m benchmarks.scale` from `benchmarks/results/scale.json`; do not edit it by hand.\n",
        f"What the loop itself does on made-up taxonomies of up to {most:,} leaves with {per_leaf} samples each,"
        f" {most * per_leaf:,} in all: everything but what models and trainers do. Each stage ran in a process of its"
        " own. Time is CPU seconds of one core, git's included. Beside each stage stands a limit that was measured in"
        " the same run: the least that has to be done with the same bytes.\n",
        "- **exponent**: how time grows with the number of leaves, as the slope of its logarithm; 2 is quadratic.",
        "- **limit**: the same bytes read by git, libyaml or Python's json, and nothing done with them. It is linear:"
        " what its exponent is above 1, it owes to the machine.\n",
        f"## Time\n\n| stage | {heads} | exponent | limit | its exponent | times its limit |",
        f"|---|{'---:|' * len(sizes)}---:|---|---:|---:|",
    ]
    for name, stage in stages.items():
        seconds = " | ".join(f"{found['cpu_s']:.1f} s" for found in stage["measured"].values())
        limit = f"{stage['limit']}, {stage['limit_measured'][sizes[-1]]['cpu_s']:.1f} s"
        times = " to ".join(f"{stage['times_its_limit'][size]:.1f}" for size in (sizes[0], sizes[-1]))
        slopes = f"{stage['exponent']:.2f} | {limit} | {stage['exponent_of_limit']:.2f}"
        lines.append(f"| {name} | {seconds} | {slopes} | {times} |")
    lines += [
        "\n## Memory\n\nMiB at the most, in brackets what of it the stage added.\n",
        f"| stage | {heads} | exponent |",
        f"|---|{'---:|' * len(sizes)}---:|",
    ]
    for name, stage in stages.items():
        peaks = " | ".join(f"{found['peak_mib']:,} ({found['grown_mib']:,})" for found in stage["measured"].values())
        lines.append(f"| {name} | {peaks} | {stage['exponent_of_memory']:.2f} |")
    lines += ["\n## The stages\n", *(f"- **{name}**: {_WHAT[name]}." for name in stages)]
    lines += _of_cycles(result["cycles"]) if "cycles" in result else []
    beside = f" Meanwhile the machine did other work: {result['beside']}." if result["beside"] else ""
    lines.append(
        f"\n{machine['cpu']}, one core of it, {machine['memory_gib']} GiB, Python {machine['python']}, commit"
        f" {result['commit']}. One run.{beside}"
    )
    return "\n".join(lines) + "\n"


def _of_cycles(result: dict[str, Any]) -> list[str]:
    stages: dict[str, dict[str, Any]] = result["stages"]
    sizes = list(next(iter(stages.values()))["measured"])
    lines = [
        f"\n## Hundreds of cycles\n\nCPU seconds in a workspace of {result['leaves']} leaves after as many cycles, each"
        " of which made a release of them all. A cycle with something to do reads the records of all releases a few"
        f" times, as `tilth releases` does once. Measured at commit {result['commit']}."
        + (f" Meanwhile the machine did other work: {result['beside']}." if result["beside"] else ""),
        f"\n| what | {' | '.join(f'{int(size):,} cycles' for size in sizes)} | exponent |",
        f"|---|{'---:|' * len(sizes)}---:|",
    ]
    for name, stage in stages.items():
        seconds = " | ".join(f"{found['cpu_s']:.2f} s" for found in stage["measured"].values())
        lines.append(f"| {_OF_CYCLES[name]} | {seconds} | {stage['exponent']:.2f} |")
    return lines
