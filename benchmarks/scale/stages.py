"""The stages that are measured, and what each is held against: the least that has to be done with the same bytes.

    python -m benchmarks.scale.stages NAME WORKSPACE

Runs one of them in a process of its own and prints what it took: CPU seconds with those of the git processes that it
starts, wall seconds, MiB of memory before and at the most. What is imported, and what is read to begin with, is not
counted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from tilth.cli.releases import list_releases
from tilth.core.atomic import write_json
from tilth.core.errors import CheckFailed
from tilth.core.progress import SilentProgress
from tilth.core.workspace import Workspace
from tilth.cycle.basis import read_basis, training_files
from tilth.cycle.committed import committed_leaves, foresee_samples, make_samples
from tilth.cycle.hold_out import hold_out
from tilth.cycle.journal import (
    CONTAMINATION,
    ENTRIES,
    EVALUATION,
    JUDGEMENT,
    TRAIN,
    Judgement,
    cycle_folder,
    cycle_numbers,
    done,
    find_cycle,
    read_record,
)
from tilth.cycle.open_cycle import OpenCycle
from tilth.cycle.past import replay_buffer
from tilth.cycle.report import write_report
from tilth.cycle.run import run_cycle
from tilth.eval.evaluation import Evaluation
from tilth.eval.findings import Contest, find
from tilth.eval.gate import judge
from tilth.sdg.store import MANIFEST, SAMPLES, Entry, open_entry
from tilth.taxonomy.changes import changes
from tilth.taxonomy.source import CommitTree, EmptyTree, WorkingTree
from tilth.train.data import Pool, TrainingInputs
from tilth.train.masking import load_tokenizer
from tilth.train.mix import Student, make_mixes
from tilth.train.plan import load_plan
from tilth.train.replay_buffer import Past, read_entries

Work = Callable[[], object]

CONTEXT_TOKENS, PARAMETERS = 8192, 135_000_000


def diff(workspace: Workspace) -> Work:
    """The working tree against the release's commit."""
    return lambda: changes(CommitTree(workspace.root, "released"), WorkingTree(workspace.root))


def first_diff(workspace: Workspace) -> Work:
    """Against nothing: every leaf is read."""
    return lambda: changes(EmptyTree(), WorkingTree(workspace.root))


def generate(workspace: Workspace) -> Work:
    """What the leaves without samples would cost, one in a hundred, then a run that has nothing to do."""
    away = [(each.folder, workspace.state / each.folder.name) for each in read_basis(workspace).planned[::100]]

    def work() -> None:
        for folder, elsewhere in away:
            folder.rename(elsewhere)
        committed = committed_leaves(workspace)
        forecasts, _ = foresee_samples(workspace, committed, SilentProgress())
        assert len(forecasts) == len(away)
        for folder, elsewhere in away:
            elsewhere.rename(folder)
        entries, unmade = make_samples(workspace, committed, SilentProgress())
        assert all(entry.reused for entry in entries)
        assert not unmade

    return work


def mix(workspace: Workspace) -> Work:
    """The data of every phase of plan `lab` with its replay, from new samples and those of earlier cycles."""
    new, plan = set(find_cycle(workspace, 2).new), load_plan(workspace.config.train.plan)
    entries = _entries(workspace)
    student = Student(load_tokenizer(workspace.root / workspace.config.student.model), PARAMETERS, CONTEXT_TOKENS)
    folders = [cycle_folder(workspace, 2) / TRAIN / f"mix-{phase.name}" for phase in plan.phases]

    def work() -> None:
        past = Past(read_entries(replay_buffer(workspace, 1)), cycle=2, after=1)
        fresh = training_files(entry.folder for entry in entries if entry.leaf in new)
        older = training_files(entry.folder for entry in entries if entry.leaf not in new)
        pool = Pool.read(TrainingInputs(workspace.root, fresh, older, past))
        make_mixes(plan, pool, student, folders, workspace.config)

    return work


def contamination(workspace: Workspace) -> Work:
    """Every held-out question and the general set looked for in every sample."""
    basis, inputs = read_basis(workspace), find_cycle(workspace, 2)
    cycle = OpenCycle(workspace, basis, inputs, workspace.root, SilentProgress())
    entries = _entries(workspace)

    def work() -> None:
        with contextlib.suppress(CheckFailed):  # of so many made-up samples one may hold a question by chance
            hold_out(cycle, entries)

    return work


def gate(workspace: Workspace) -> Work:
    """Both models on every leaf, the tests between them, and the verdict."""
    return lambda: _judge(workspace, 2, "release 1", "candidate")


def report(workspace: Workspace) -> Work:
    """The page of the second cycle."""
    return _report(workspace, 2)


def first_report(workspace: Workspace) -> Work:
    """The page of the first cycle, in which every leaf is new."""
    _judge(workspace, 1, "base", "release 1")
    shutil.copy(cycle_folder(workspace, 2) / CONTAMINATION, cycle_folder(workspace, 1) / CONTAMINATION)
    return _report(workspace, 1)


def _report(workspace: Workspace, number: int) -> Work:
    from matplotlib import figure  # noqa: F401  not counted

    result = done(workspace, number)
    assert result
    return lambda: write_report(workspace, number, result)


def _judge(workspace: Workspace, number: int, parent: str, candidate: str) -> None:
    folder, inputs = cycle_folder(workspace, number), find_cycle(workspace, number)
    evaluation = read_record(folder / EVALUATION, Evaluation)
    leaves = list(json.loads((folder / ENTRIES).read_text()))
    contest = Contest(base="base", parent=parent, candidate=candidate, leaves=leaves, changed=set(inputs.new))
    config = workspace.config
    findings = find(evaluation, contest, significance=config.gate.significance, seed=config.seed)
    verdict = judge(findings, config.gate)
    judgement = Judgement(comparisons=tuple(findings.comparisons), together=findings.together, verdict=verdict)
    write_json(folder / JUDGEMENT, judgement.model_dump(mode="json"))


def _entries(workspace: Workspace, number: int = 2) -> list[Entry]:
    names = json.loads((cycle_folder(workspace, number) / ENTRIES).read_text())
    return [open_entry(workspace.store / name, leaf, reused=True) for leaf, name in names.items()]


# What they are held against -------------------------------------------------------------------------------------------


def git_itself(workspace: Workspace) -> Work:
    """git, telling which files changed."""
    command = "git status --porcelain >/dev/null && git diff --name-status released >/dev/null"
    return lambda: subprocess.run(["sh", "-c", command], cwd=workspace.root, check=True)


def leaves(workspace: Workspace) -> Work:
    """Every file of HEAD as git writes it out, and libyaml reading each `qna.yaml`."""

    def work() -> None:
        listed = _git(workspace, ["ls-tree", "-r", "HEAD"], b"").decode().splitlines()
        blobs = [line.split()[2] for line in listed]
        out = _git(workspace, ["cat-file", "--batch"], "\n".join(blobs).encode())
        at = 0
        for line in listed:
            end = out.index(b"\n", at)
            size = int(out[at:end].split()[2])
            if line.endswith("qna.yaml"):
                yaml.load(out[end + 1 : end + 1 + size], yaml.CSafeLoader)
            at = end + size + 2

    return work


def samples(workspace: Workspace) -> Work:
    """Python's json reading every sample."""
    return lambda: _read_json(entry.folder / SAMPLES for entry in _entries(workspace))


def records(workspace: Workspace, number: int = 2) -> Work:
    """Python's json reading what the page is made of: the records of the cycle, the samples of its new leaves."""
    new = set(find_cycle(workspace, number).new)
    entries = _entries(workspace, number)
    files = sorted(cycle_folder(workspace, number).glob("*.json"))
    files += sorted(workspace.releases.glob("*/release.json"))
    files += [cycle_folder(workspace, 1) / EVALUATION] if number > 1 else []

    def work() -> None:
        for file in (*files, *(entry.folder / MANIFEST for entry in entries)):
            json.loads(file.read_bytes())
        _read_json(entry.folder / SAMPLES for entry in entries if entry.leaf in new)

    return work


def _git(workspace: Workspace, arguments: Sequence[str], given: bytes) -> bytes:
    return subprocess.run(["git", *arguments], cwd=workspace.root, check=True, input=given, capture_output=True).stdout


def _read_json(paths: Iterator[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                json.loads(line)


first_records = functools.partial(records, number=1)

# What hangs on how many cycles there were -----------------------------------------------------------------------------


def nothing_to_do(workspace: Workspace) -> Work:
    """`tilth cycle`."""

    def work() -> None:
        assert run_cycle(workspace, SilentProgress()).outcome == "nothing to do"

    return work


def list_of_releases(workspace: Workspace) -> Work:
    """`tilth releases`."""
    os.chdir(workspace.root)
    return list_releases


def history(workspace: Workspace) -> Work:
    """The page of the newest cycle, which has all before it."""
    number = cycle_numbers(workspace)[-1]
    _judge(workspace, number, f"release {number - 1}", f"release {number}")
    return _report(workspace, number)


OF_CYCLES: dict[str, Callable[[Workspace], Work]] = {
    "nothing to do": nothing_to_do,
    "releases": list_of_releases,
    "history": history,
}

LIMITS: dict[str, Callable[[Workspace], Work]] = {
    "git itself": git_itself,
    "git and libyaml on every leaf": leaves,
    "json on every sample": samples,
    "json on the cycle's records": records,
    "json on the first cycle's records": first_records,
}

STAGES: dict[str, tuple[Callable[[Workspace], Work], str]] = {
    "diff": (diff, "git itself"),
    "first diff": (first_diff, "git and libyaml on every leaf"),
    "generate": (generate, "git and libyaml on every leaf"),
    "mix": (mix, "json on every sample"),
    "contamination": (contamination, "json on every sample"),
    "gate": (gate, "json on the cycle's records"),
    "report": (report, "json on the cycle's records"),
    "first report": (first_report, "json on the first cycle's records"),
}
"""Name -> the stage, and its limit; in this order, for the report shows what the stages before it leave."""


def measure(work: Work) -> dict[str, float]:
    """What a piece of work takes."""
    before, wall, cpu = _memory_mib(), time.perf_counter(), _cpu_s()
    work()
    return {
        "cpu_s": round(_cpu_s() - cpu, 3),
        "wall_s": round(time.perf_counter() - wall, 3),
        "start_mib": round(before),
        "peak_mib": round(_memory_mib()),
    }


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory_mib() -> float:
    """The most so far. Not `ru_maxrss`: that begins with the memory of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def main() -> None:
    name, root = sys.argv[1:]
    workspace = Workspace.open(Path(root))
    prepare = STAGES[name][0] if name in STAGES else (LIMITS | OF_CYCLES)[name]
    print(json.dumps(measure(prepare(workspace))))


if __name__ == "__main__":
    main()
