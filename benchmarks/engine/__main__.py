"""How well the data engine uses a teacher, what it loses and what it pays twice, beside its peers.

    python -m benchmarks.engine [--peer NAME=PYTHON]... [--work NAME]... [--rounds 3] [--kills 100] [--peer-kills 3]
                                [--leaves 1000] [--samples 1000000] [--scale 1] [--out benchmarks/results/engine.json]

A mock teacher (`teacher.py`) is asked by everybody: what is measured is who asks. Each engine is run in a new process
for every figure, in turn with the others, by the API that it recommends, with the cap on requests in flight that the
work gives, and without telemetry (`clients/`). Their start-up and imports are not counted. A peer needs a Python that
it is installed in; one that is not given is left out, and the result says so:

    python -m venv ../distilabel && ../distilabel/bin/pip install 'distilabel[openai]' requests
    python -m benchmarks.engine --peer distilabel=../distilabel/bin/python

Writes one JSON file; with `--work`, what is not measured anew stays in it. The works that are measured in turn are
smaller with `--scale 0.1`, to try them; give an `--out` of your own then.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..machine import describe
from . import generate, works
from .engines import PEERS, TILTH, Engine
from .teacher import Teacher, serve

RESULTS = Path(__file__).parents[1] / "results" / "engine.json"
Work = Callable[[Teacher, list[Engine], argparse.Namespace], dict[str, Any]]


def main() -> None:
    options = _options()
    engines = [TILTH, *(Engine(*peer.split("=", 1)) for peer in options.peer)]
    found: dict[str, Any] = (
        json.loads(options.out.read_text())["works"] if options.work and options.out.exists() else {}
    )
    with serve() as teacher:
        for name in options.work or WORKS:
            print(name, flush=True)
            what, goal, measure = WORKS[name]
            sizes = {key: value for key, value in vars(options).items() if key in SIZES[name]}
            found[name] = {"work": what, "goal": goal, **sizes, **measure(teacher, engines, options)}
            _write(options.out, found, engines)
    print(options.out.read_text())


def _one_step(teacher: Teacher, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    measured = works.one_step(teacher, engines, options.rounds, options.scale)
    return _compared(measured, lambda ours: ours["requests_per_s"] >= 2000 and ours["cpu_ms_per_request"] <= 0.45)


def _three_steps(teacher: Teacher, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    measured = works.three_steps(teacher, engines, options.rounds, options.scale)
    whole = generate.three_steps(teacher, options.scale)
    found = _compared(measured, lambda ours: min(ours["in_flight_in_the_middle"], _middle(whole)) >= 0.92)
    return {**found, "tilth generate": whole}


def _middle(whole: dict[str, Any]) -> float:
    return whole["in_flight_in_the_middle"]


def _limited(teacher: Teacher, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    by_limit = {
        "admits 16, 429 to the rest": works.admits_16(teacher, engines, options.rounds, options.scale),
        "works on 16, queues the rest": works.queues_beyond_16(teacher, engines, options.rounds, options.scale),
    }
    ours = [measured["tilth"] for measured in by_limit.values()]
    met = all(each.get("used", 0) >= 0.85 and each.get("rejected", 1) < 0.05 for each in ours)
    return {"met": met, "measured": by_limit}


def _kills(teacher: Teacher, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    whole = generate.kills(teacher, options.kills)
    bad = ("more_than_in_flight", "datasets_that_differ", "failed_to_go_on")
    met = whole["unique_as_needed"] and not any(whole[name] for name in bad)
    rows = works.killed(teacher, engines, options.peer_kills) if options.peer_kills else {}
    return {"met": met, "tilth generate": whole, "600 one-step rows, killed once": rows}


def _again(teacher: Teacher, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    whole = generate.again(teacher, options.leaves)
    edited = whole["one_leaf_edited"]
    met = not whole["finished_job_again"]["requests"] and not edited["requests_of_other_leaves"]
    met = met and edited["requests"] > 0 and edited["seconds"] < 3
    note = "an engine that asks nothing although a row has changed gives the old answer for it"
    return {"met": met, "tilth generate": whole, "1,000 one-step rows": works.again(teacher, engines), "note": note}


def _refused_row(teacher: Teacher, engines: list[Engine], _options: argparse.Namespace) -> dict[str, Any]:
    whole = generate.refused_row(teacher)
    met = (whole["rows"], whole["attempts"], whole["failures"]) == (99, 1, 1) and "error" not in whole
    return {"met": met, "tilth generate": whole, "measured": works.refused_row(teacher, engines)}


def _memory(teacher: Teacher, _engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    whole = generate.memory(teacher, options.samples)
    enough = whole["samples"] >= options.samples and "error" not in whole
    peers = "left out: at their rates it takes them hours"
    return {"met": enough and whole["peak_mib"] < 1.5 * 1024, "tilth generate": whole, "peers": peers}


def _compared(measured: works.Measured, is_met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    ours = measured["tilth"]
    return {"met": "errors" not in ours and is_met(ours), "measured": measured}


WORKS: dict[str, tuple[str, str, Work]] = {
    "one_step": (
        "2,000 one-step requests, answers after 50 ms, 256 in flight",
        "at least 2,000 requests a second from call to return, at most 0.45 ms of CPU each",
        _one_step,
    ),
    "three_steps": (
        "256 rows: a request that lists 1 to 5 items, one for each that a third fails, one for each that is left; "
        "log-normal answer times of mean 1 s and sigma 0.5 that follow from the prompt, cap 64. In flight: as the "
        "teacher sees it, over 64, in the middle (from a tenth of all answers given to nine tenths) and over all; "
        "`tilth generate`: the skills flow, 3 tasks a call, with judge",
        "at least 92 % in the middle",
        _three_steps,
    ),
    "limited": (
        "1,500 one-step requests of 0.3 s, told 64 in flight, to a teacher that does 16 at once; used: mean number "
        "that it works on over 16, from the first request to the last answer",
        "at least 85 % used, less than 5 % rejected",
        _limited,
    ),
    "kills": (
        "kill -9 at a random moment, then to the end",
        "requests at most those needed and those in flight; the bytes of the dataset as without a kill",
        _kills,
    ),
    "again": (
        "a finished job again, and with one of its 1,000 leaves edited; answers at once",
        "0 requests; only that leaf's, and less than 3 s",
        _again,
    ),
    "refused_row": (
        "100 rows, of which one is refused with 400 always",
        "that row only, one attempt, reason in the report",
        _refused_row,
    ),
    "memory": ("so many samples, about 95 a leaf; answers at once", "less than 1.5 GiB at 1,000,000, flat", _memory),
}


SIZES = {
    "one_step": ("rounds", "scale"),
    "three_steps": ("rounds", "scale"),
    "limited": ("rounds", "scale"),
    "kills": ("kills", "peer_kills"),
    "again": ("leaves",),
    "refused_row": (),
    "memory": ("samples",),
}
"""The options that say how large a work is."""


def _write(out: Path, found: dict[str, Any], engines: list[Engine]) -> None:
    given = {engine.name for engine in engines}
    result = {
        "machine": describe(),
        "versions": {engine.name: engine.version() for engine in engines},
        "left_out": [peer for peer in PEERS if peer not in given],
        "works": found,
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description="Measure the data engine.")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help=", ".join(PEERS))
    parser.add_argument("--work", action="append", choices=WORKS, help="only this one; repeatable")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--peer-kills", type=int, default=3)
    parser.add_argument("--leaves", type=int, default=1000, help="of which one is edited")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
