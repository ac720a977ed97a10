"""How long `tilth diff` takes on a large taxonomy, beside git itself and the function by which InstructLab does it.

    python benchmarks/diff.py [--leaves 10000] [--commits 300] [--rounds 7] [--peer PYTHON]

Builds a repository with `git fast-import`, edits a leaf, and times whole processes in turn, so that what else the
machine does falls on all of them. Writes `benchmarks/results/diff.json`.

PYTHON is an interpreter for which `pip install --no-deps instructlab-sdg==0.8.3` and `pip install gitpython
instructlab-schema==0.4.2` were run. Of that package the function that lists changed files runs as it stands; neither
the validation that follows it there is timed, nor the import of what it does not use (`datasets`, `docling`).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import describe

RESULTS = Path(__file__).parent / "results" / "diff.json"
TILTH = str(Path(sys.executable).with_name("tilth"))

GIT_ITSELF = ["sh", "-c", 'git status --porcelain >/dev/null && git diff --name-status "$0" >/dev/null']
"""What git alone needs to tell which files changed; its base follows."""

PEER = """
import importlib.metadata, importlib.util, sys, types
for name, value in (("datasets", "Dataset"), ("peer", "unused"), ("peer.chunkers", "DocumentChunker")):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], value, object)
files = importlib.metadata.files("instructlab-sdg")
path = next(str(file.locate()) for file in files if str(file).endswith("instructlab/sdg/utils/taxonomy.py"))
spec = importlib.util.spec_from_file_location("peer.taxonomy", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print("\\n".join(sorted(module._get_taxonomy_diff(".", sys.argv[1]))))
"""


def main() -> None:
    options = _options()
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "taxonomy"
        build(root, options.leaves, options.commits)
        seconds = time_in_turn(root, commands(options.peer), options.rounds)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    result = {
        "leaves": options.leaves,
        "commits": options.commits,
        "machine": describe(),
        "versions": {"tilth": importlib.metadata.version("tilth"), "git": _output("git", "--version").split()[-1]},
        "median_s": {name: round(median, 3) for name, median in medians.items()},
        "range_s": {name: [round(min(taken), 3), round(max(taken), 3)] for name, taken in seconds.items()},
        "times_git_itself": ratios(medians, "git itself"),
        "times_instructlab": ratios(medians, "instructlab-sdg 0.8.3"),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULTS.read_text())


def commands(peer: str | None) -> dict[str, list[str]]:
    """Name -> command. `old` is a branch that ends at the first commit, so that all commits lie between."""
    found = {
        "tilth --help": [TILTH, "--help"],
        "one edited: tilth": [TILTH, "diff", "HEAD"],
        "one edited: git itself": [*GIT_ITSELF, "HEAD"],
        "all commits: tilth": [TILTH, "diff", "--merge-base", "old"],
        "all commits: git itself": [*GIT_ITSELF, "old"],
    }
    if peer:
        found["one edited: instructlab-sdg 0.8.3"] = [peer, "-c", PEER, "HEAD"]
        found["all commits: instructlab-sdg 0.8.3"] = [peer, "-c", PEER, "old"]
    return found


def time_in_turn(root: Path, named: dict[str, list[str]], num_rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each command, once a round, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in named}
    for number in range(num_rounds + 1):
        for name, command in named.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(medians: dict[str, float], other: str) -> dict[str, float]:
    """For each case, how many times longer tilth takes than `other`."""
    return {
        case: round(medians[f"{case}: tilth"] / medians[name], 2)
        for case, _, who in (name.partition(": ") for name in medians)
        if who == other and (name := f"{case}: {other}")
    }


def build(root: Path, num_leaves: int, num_commits: int) -> None:
    """A workspace whose every commit edits one leaf, with one more edit that is not committed."""
    root.mkdir()
    _git(root, "init", "--quiet", "--initial-branch=main")
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=root, check=True, input=b"".join(history(num_leaves, num_commits))
    )
    _git(root, "reset", "--quiet", "--hard")
    (root / "tilth.yaml").write_text("seed: 0\n")
    edited = root / leaf_id(num_leaves // 2) / "qna.yaml"
    edited.write_text(edited.read_text().replace("question: ", "question: Once more, ", 1))
    time.sleep(2)
    _git(root, "status", "--porcelain")  # as whoever works there does: git looks again at what it wrote a second ago


def history(num_leaves: int, num_commits: int) -> Iterator[bytes]:
    """A stream for `git fast-import`."""
    yield b"reset refs/heads/main\n"
    yield _commit("all", {path: text for number in range(num_leaves) for path, text in leaf_files(number, 0).items()})
    yield b"reset refs/heads/old\nfrom refs/heads/main\n\n"
    for commit in range(1, num_commits):
        yield _commit(f"edit {commit}", leaf_files(commit % num_leaves, commit))


def leaf_id(number: int) -> str:
    section = "knowledge" if number % 2 else "compositional_skills"
    return f"{section}/field_{number % 7}/part_{number % 101}/leaf_{number}"


def leaf_files(number: int, edition: int) -> dict[str, str]:
    """Path -> text: a skill, or knowledge with a document; each of its own words."""
    words = random.Random(number * 1000 + edition)  # noqa: S311
    folder = leaf_id(number)
    if number % 2:
        return {
            f"{folder}/qna.yaml": _knowledge(words),
            f"{folder}/page.md": "# Page\n\n" + "\n\n".join(_text(words, 80) for _ in range(8)) + "\n",
        }
    seeds = "".join(f"  - question: {_text(words, 12)}\n    answer: {_text(words, 40)}\n" for _ in range(5))
    start = f"version: 3\ncreated_by: ada\ntask_description: {_text(words, 9)}\n"
    return {f"{folder}/qna.yaml": f"{start}seed_examples:\n{seeds}"}


def _knowledge(words: random.Random) -> str:
    pairs = lambda: "".join(  # noqa: E731
        f"      - question: {_text(words, 10)}\n        answer: {_text(words, 15)}\n" for _ in range(3)
    )
    seeds = "".join(f"  - context: {_text(words, 60)}\n    questions_and_answers:\n{pairs()}" for _ in range(5))
    start = f"version: 4\ncreated_by: ada\ndomain: {_text(words, 2)}\ndocument_outline: {_text(words, 8)}\n"
    return f"{start}document:\n  files: [page.md]\nseed_examples:\n{seeds}"


def _text(words: random.Random, num_words: int) -> str:
    return " ".join("".join(words.choices("abcdefghiklmnoprstu", k=words.randint(2, 9))) for _ in range(num_words))


def _commit(message: str, files: dict[str, str]) -> bytes:
    head = f"commit refs/heads/main\ncommitter ada <ada@x> 1700000000 +0000\ndata {len(message)}\n{message}\n"
    parts = [head.encode()]
    for path, text in files.items():
        parts.append(f"M 100644 inline {path}\ndata {len(text)}\n{text}\n".encode())
    return b"".join([*parts, b"\n"])


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time `tilth diff`.")
    parser.add_argument("--leaves", type=int, default=10_000)
    parser.add_argument("--commits", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", metavar="PYTHON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
