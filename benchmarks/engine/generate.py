"""What is measured of `tilth generate` as a whole, a process in a workspace; no peer has the like."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from . import workspace
from .teacher import POISON, Settings, Teacher
from .works import THREE_STEPS, Figures, in_flight, shortened
from .workspace import Shape


def three_steps(teacher: Teacher, scale: float) -> Figures:
    """The skills flow: new tasks (the fan-out), filters, answers, filters, a judge."""
    with tempfile.TemporaryDirectory() as folder:
        root = workspace.build(Path(folder), Shape(leaves=max(1, round(45 * scale)), tasks=3), teacher)
        teacher.set(THREE_STEPS)
        ran = workspace.generate(root)
        return _told(ran, {**in_flight(teacher.stats(), 64), "seconds": ran.seconds})


KILLED = Shape(leaves=6, tasks=2, concurrency=8)
KILLED_TEACHER = Settings(latency_s=0.05, sigma=0.5)


def kills(teacher: Teacher, num_kills: int) -> Figures:
    """Each kill in a fresh workspace, then once more to the end.

    A kill comes after a random number of requests and up to 0.1 s more, so that it hits what follows an answer too.
    `lost`: what was paid twice beyond the requests that were open when the process died, that is answers that had been
    sent but were not on disk.
    """
    draw = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        root = workspace.build(Path(folder) / "root", KILLED, teacher)
        whole = workspace.copy(root, Path(folder) / "whole")
        teacher.set(KILLED_TEACHER)
        workspace.generate(whole)
        needed, digest = teacher.stats().requests, workspace.dataset_digest(whole)
        each: list[Figures] = []
        for _ in range(num_kills):
            moment = draw.randint(1, needed), draw.uniform(0, 0.1)
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                each.append(_kill(teacher, workspace.copy(root, Path(inner) / "root"), *moment))
    twice = [one["requests"] - needed for one in each]
    return {
        "kills": num_kills,
        "ended_before_the_kill": sum(one["ended"] for one in each),
        "requests_needed": needed,
        "unique_as_needed": all(one["unique"] == needed for one in each),
        "concurrency": KILLED.concurrency,
        "paid_twice_mean": shortened(sum(twice) / num_kills),
        "paid_twice_most": max(twice),
        "more_than_in_flight": sum(number > KILLED.concurrency for number in twice),
        "lost_most": max(number - one["open"] for number, one in zip(twice, each, strict=True)),
        "datasets_that_differ": sum(one["digest"] != digest for one in each),
        "failed_to_go_on": sum(one["exit_code"] != 0 for one in each),
    }


def _kill(teacher: Teacher, root: Path, after_requests: int, and_s: float) -> Figures:
    teacher.set(KILLED_TEACHER)
    process = workspace.start(root)
    while teacher.stats().requests < after_requests and process.poll() is None:
        time.sleep(0.002)
    time.sleep(and_s)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    time.sleep(0.05)  # for the teacher to see that the connections are gone
    before = teacher.stats()
    ran = workspace.generate(root)
    stats = teacher.stats()
    return {
        "ended": ended,
        "open": before.abandoned,
        "requests": stats.requests,
        "unique": stats.unique,
        "digest": workspace.dataset_digest(root),
        "exit_code": ran.exit_code,
    }


def again(teacher: Teacher, num_leaves: int) -> Figures:
    """All leaves; then the finished job; then with one leaf edited. The teacher answers at once."""
    with tempfile.TemporaryDirectory() as folder:
        root = workspace.build(Path(folder), Shape(leaves=num_leaves, judge=False), teacher)
        teacher.set(Settings())
        first, asked = workspace.generate(root), teacher.stats().requests
        teacher.set(Settings())
        second, asked_again = workspace.generate(root), teacher.stats().requests
        number = num_leaves // 2
        edited = root / workspace.leaf_path(number)
        edited.write_text(edited.read_text().replace("question: ", "question: Once more, ", 1))
        workspace.commit(root)
        teacher.set(Settings(mark=workspace.mark(number)))
        third, stats = workspace.generate(root), teacher.stats()
        figures = {
            "leaves": num_leaves,
            "first": {"requests": asked, "seconds": first.seconds},
            "finished_job_again": {"requests": asked_again, "seconds": second.seconds},
            "one_leaf_edited": {
                "requests": stats.requests,
                "requests_of_other_leaves": stats.requests - stats.marked,
                "seconds": third.seconds,
            },
        }
    return _told(next((ran for ran in (first, second, third) if ran.exit_code), third), figures)


def refused_row(teacher: Teacher) -> Figures:
    """One leaf of 100 seed examples, each a row; what is made of one of them is refused with 400."""
    with tempfile.TemporaryDirectory() as folder:
        root = workspace.build(Path(folder), Shape(leaves=1, seeds=100, judge=False, poison=POISON), teacher)
        teacher.set(Settings(latency_s=0.05))
        ran, stats = workspace.generate(root), teacher.stats()
        manifests = [json.loads(path.read_text()) for path in root.glob(".tilth/store/*/manifest.json")]
    failures = [failure for manifest in manifests for failure in manifest["failures"]]
    made = sum(manifest["samples"] + manifest["rejects"] for manifest in manifests)
    figures = {
        "rows": made - 100 if manifests else 0,
        "attempts": stats.refused,
        "failures": len(failures),
        "reasons": [failure["reason"] for failure in failures],
    }
    return _told(ran, figures)


def memory(teacher: Teacher, num_samples: int) -> Figures:
    """Peak memory of the process that makes so many samples, about 95 a leaf, and memory while the store fills up."""
    with tempfile.TemporaryDirectory() as folder:
        shape = Shape(leaves=num_samples // 94 + 1, tasks=19, judge=False)
        root = workspace.build(Path(folder), shape, teacher)
        teacher.set(Settings())
        started_s = time.perf_counter()
        process = workspace.start(root)
        seen = _watch(process, root / ".tilth" / "store")
        ran = workspace.Ran(process.wait(), time.perf_counter() - started_s, workspace.said(root))
        samples = sum(_count_lines(path) for path in root.glob(".tilth/store/*/samples.jsonl"))
        ledger_mib = sum(path.stat().st_size for path in root.glob(".tilth/ledger.db*")) / 2**20
    return _told(ran, {
        "samples": samples,
        "leaves": shape.leaves,
        "requests": teacher.stats().requests,
        "seconds": ran.seconds,
        "peak_mib": max(mib for _, mib in seen),
        "mib_by_share_of_leaves": {
            f"{share:.0%}": next((mib for there, mib in seen if there >= share * shape.leaves), None)
            for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.95)
        },
        "ledger_mib": ledger_mib,
    })  # fmt: skip


def _watch(process: subprocess.Popen[bytes], store: Path) -> list[tuple[int, float]]:
    """Every half second, until it ends: how many leaves the store has, and how many MiB the process."""
    seen: list[tuple[int, float]] = [(0, 0.0)]
    while process.poll() is None:
        if resident := re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text()):
            seen.append((len(list(store.glob("[!.]*"))), int(resident[1]) / 1024))
        time.sleep(0.5)
    return seen


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _told(ran: workspace.Ran, figures: Figures) -> Figures:
    """The figures, shortened; with the last line of what the command said where it failed."""
    shorter: dict[str, Any] = _shorter(figures)
    return {**shorter, "error": ran.said.splitlines()[-1][:300]} if ran.exit_code else shorter


def _shorter(value: Any) -> Any:
    return {name: _shorter(each) for name, each in value.items()} if isinstance(value, dict) else shortened(value)
