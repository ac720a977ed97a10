"""How long the loop's own work takes on ten thousand leaves and a million samples, and how it grows.

    python -m benchmarks.scale [--leaves 1000 3000 10000] [--samples 100] [--only STAGE]... [--folder DIR]
                               [--out benchmarks/results/scale.json]
    python -m benchmarks.scale --cycles 10 100 300

Everything but what models and trainers do: which leaves changed, which have no samples yet, what is trained and
replayed, whether a held-out question stands in it, the gate, the report. For each size a workspace is made up
(`world.py`), and each stage is run in a process of its own (`stages.py`), beside the least that has to be done with
the same bytes: git on the same files, libyaml on the same leaves, Python's json on the same samples and records. Time
is CPU time, which other work on the machine changes little. The exponent is the slope of log time over log leaves: 1
is linear, 2 quadratic.

With `--cycles` it is how the verbs of every day grow with the number of cycles behind them, each of which made a
release of 200 leaves.

Writes the JSON, and docs/results-scale.md from it. With `--only` what is not measured anew stays in it; workspaces in
`--folder` are made where they are missing, and kept. A tenth of a million samples takes two minutes and a gigabyte of
disk, a million ten times both; `mix` needs 7 GB of memory then.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..machine import commit, describe
from .page import PAGE, page
from .stages import LIMITS, OF_CYCLES, STAGES
from .world import Size, add_cycles, build

RESULTS = Path(__file__).parents[1] / "results" / "scale.json"
Measured = dict[str, dict[str, float]]
"""Leaves -> what was measured."""

LEAVES_OF_CYCLES = 200

STEEPEST = 1.25
"""An exponent up to this counts as linear: sorting, dictionaries that outgrow a cache, and noise."""


def main() -> None:
    options = _options()
    result = _by_cycles(options) if options.cycles else _by_leaves(options)
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    if options.out == RESULTS:
        PAGE.write_text(page(result))
    print(page(result))


def _by_leaves(options: argparse.Namespace) -> dict[str, Any]:
    measured = _known(options.out) if options.only else {name: Measured() for name in (*STAGES, *LIMITS)}
    with tempfile.TemporaryDirectory() as temporary:
        for leaves in options.leaves:
            root = _made(options.folder or Path(temporary), Size(leaves, options.samples))
            for name in (*(options.only or STAGES), *LIMITS):
                measured[name][str(leaves)] = _measured(name, root)
                print(f"{leaves:,} leaves, {name}: {measured[name][str(leaves)]}", flush=True)
    result: dict[str, Any] = {
        "machine": describe(),
        "beside": options.beside,
        "commit": commit(),
        "samples_per_leaf": options.samples,
        "stages": {name: _compared(limit, measured[name], measured[limit]) for name, (_, limit) in STAGES.items()},
    }
    result["met"] = all(_is_linear(stage) for stage in result["stages"].values())
    known = json.loads(options.out.read_text()) if options.out.is_file() else {}
    return result | {"cycles": known["cycles"]} if "cycles" in known else result


def _by_cycles(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured before, and this."""
    measured: dict[str, Measured] = {name: {} for name in OF_CYCLES}
    with tempfile.TemporaryDirectory() as temporary:
        root = _made(Path(temporary), Size(LEAVES_OF_CYCLES, samples_per_leaf=10))
        for cycles in options.cycles:
            add_cycles(root, cycles)
            for name in OF_CYCLES:
                measured[name][str(cycles)] = _measured(name, root)
                print(f"{cycles:,} cycles, {name}: {measured[name][str(cycles)]}", flush=True)
    stages = {
        name: {"measured": found, "exponent": exponent(options.cycles, [each["cpu_s"] for each in found.values()])}
        for name, found in measured.items()
    }
    of_cycles = {"leaves": LEAVES_OF_CYCLES, "commit": commit(), "beside": options.beside, "stages": stages}
    return json.loads(options.out.read_text()) | {"cycles": of_cycles}


def _is_linear(stage: dict[str, Any]) -> bool:
    """Also where the machine slowed down on the way, which the limit tells."""
    return min(stage["exponent"], 1 + stage["exponent"] - stage["exponent_of_limit"]) <= STEEPEST


def _known(file: Path) -> dict[str, Measured]:
    """What was measured before."""
    found: dict[str, Measured] = {}
    for name, stage in json.loads(file.read_text())["stages"].items():
        found |= {name: stage["measured"], stage["limit"]: stage["limit_measured"]}
    return found


def _made(folder: Path, size: Size) -> Path:
    """The workspace of that size; whole, if it is there."""
    place, unfinished = folder / str(size.leaves), folder / f"{size.leaves}.unfinished"
    if not place.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        build(unfinished / "taxonomy", size)
        unfinished.rename(place)
    return place / "taxonomy"


def _measured(name: str, root: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale.stages", name, str(root)]
    folder = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return {**found, "grown_mib": found["peak_mib"] - found["start_mib"]}


def _compared(limit: str, ours: Measured, its: Measured) -> dict[str, Any]:
    leaves, seconds = [int(each) for each in ours], [each["cpu_s"] for each in ours.values()]
    return {
        "limit": limit,
        "measured": ours,
        "limit_measured": its,
        "times_its_limit": {
            each: round(found["cpu_s"] / max(its[each]["cpu_s"], 0.01), 1) for each, found in ours.items()
        },
        "exponent": exponent(leaves, seconds),
        "exponent_of_limit": exponent(leaves, [each["cpu_s"] for each in its.values()]),
        "exponent_of_memory": exponent(leaves, [each["grown_mib"] for each in ours.values()]),
    }


def exponent(leaves: Sequence[int], values: Sequence[float]) -> float:
    """The slope of the line that fits best, by least squares, to the logarithms."""
    points = [(math.log(x), math.log(max(y, 0.01))) for x, y in zip(leaves, values, strict=True)]
    middle = [sum(each) / len(points) for each in zip(*points, strict=True)]
    over = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return round(over / (sum((x - middle[0]) ** 2 for x, _ in points) or 1.0), 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Measure how the loop grows.")
    parser.add_argument("--leaves", type=int, nargs="+", default=[1_000, 3_000, 10_000])
    parser.add_argument("--cycles", type=int, nargs="+", help="measure instead what hangs on how many there were")
    parser.add_argument("--samples", type=int, default=100, help="of each leaf")
    parser.add_argument("--only", action="append", choices=STAGES, help="measure this one anew, and the limits")
    parser.add_argument("--folder", type=Path, help="where workspaces are, and stay; default: they are thrown away")
    parser.add_argument("--beside", default="", help="what else the machine did meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
