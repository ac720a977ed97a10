"""How long the loop's own work takes on ten thousand leaves and a million samples, and how it grows.

    python -m benchmarks.scale [--leaves 1250 2500 5000 10000] [--samples 100] [--out benchmarks/results/scale.json]

Everything but what models and trainers do: which leaves changed, which have no samples yet, what is trained and
replayed, whether a held-out question stands in it, the gate, the report. For each size a workspace is made up
(`world.py`), and each stage is run in a process of its own (`stages.py`), beside the least that has to be done with
the same bytes: git on the same files, libyaml on the same leaves, Python's json on the same samples and records. Time
is CPU time, which other work on the machine changes little. The exponent is the slope of log time over log leaves: 1
is linear, 2 quadratic.

Writes the JSON, and docs/results-scale.md from it. A tenth of a million samples takes three minutes and a gigabyte of
disk, a million ten times both; `mix` needs 7 GB of memory then.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..machine import commit, describe
from .page import PAGE, page
from .stages import LIMITS, STAGES
from .world import Size, build

RESULTS = Path(__file__).parents[1] / "results" / "scale.json"
STEEPEST = 1.25
"""An exponent up to this counts as linear: sorting, dictionaries that outgrow a cache, and noise."""


def main() -> None:
    options = _options()
    measured: dict[str, dict[str, Any]] = {name: {} for name in (*STAGES, *LIMITS)}
    for leaves in options.leaves:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            root = Path(folder) / "taxonomy"
            print(f"{leaves:,} leaves", flush=True)
            build(root, Size(leaves, options.samples))
            for name, by_leaves in measured.items():
                by_leaves[str(leaves)] = _measured(name, root)
                print(f"  {name}: {by_leaves[str(leaves)]}", flush=True)
    result = {
        "machine": describe(),
        "beside": options.beside,
        "commit": commit(),
        "samples_per_leaf": options.samples,
        "stages": {
            name: {
                "limit": limit,
                "measured": measured[name],
                "limit_measured": measured[limit],
                "times_its_limit": round(_last(measured[name]) / _last(measured[limit]), 1),
                "exponent": exponent(measured[name], "cpu_s"),
                "exponent_of_memory": exponent(measured[name], "grown_mib"),
            }
            for name, (_, limit) in STAGES.items()
        },
    }
    result["met"] = all(stage["exponent"] <= STEEPEST for stage in result["stages"].values())
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    if options.out == RESULTS:
        PAGE.write_text(page(result))
    print(page(result))


def _measured(name: str, root: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale.stages", name, str(root)]
    folder = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return {**found, "grown_mib": found["peak_mib"] - found["start_mib"]}


def _last(by_leaves: dict[str, dict[str, float]]) -> float:
    return max(list(by_leaves.values())[-1]["cpu_s"], 0.01)


def exponent(by_leaves: dict[str, dict[str, float]], what: str) -> float:
    """The slope of the line that fits best, by least squares, to the logarithms."""
    points = [(math.log(int(leaves)), math.log(max(found[what], 0.01))) for leaves, found in by_leaves.items()]
    middle = [sum(each) / len(points) for each in zip(*points, strict=True)]
    over = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return round(over / (sum((x - middle[0]) ** 2 for x, _ in points) or 1.0), 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Measure how the loop grows.")
    parser.add_argument("--leaves", type=int, nargs="+", default=[1_250, 2_500, 5_000, 10_000])
    parser.add_argument("--samples", type=int, default=100, help="of each leaf")
    parser.add_argument("--folder", type=Path, help="where workspaces are made; default: the system's temporary one")
    parser.add_argument("--beside", default="", help="what else the machine did meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
