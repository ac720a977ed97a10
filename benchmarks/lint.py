"""How long `tilth lint` takes on a large taxonomy, beside `instructlab-schema` on the same files.

    python benchmarks/lint.py [--leaves 10000] [--rounds 5] [--sample 100] [--taxonomies ../shared/taxonomies]

Makes leaves out of real ones: each has other words of theirs, of the same lengths and in the same layout. `tilth` is
timed as a whole process; `instructlab-schema` file by file in this one, on a sample of each version, without its
start-up: as it comes (for files of version 2 and later it starts yamllint, and yq where that is installed), and without
those processes.
Writes `benchmarks/results/lint.json`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import json
import logging
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from instructlab.schema.taxonomy import TaxonomyParser, TaxonomyReadingException
from machine import describe

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "lint.json"
BIN = Path(sys.executable).parent
COMMANDS = {
    "cold, one process": ["--workers", "1"],
    "cold": [],
    "warm": [],
    "warm, one edited": [],
}
"""What is timed of ours -> options. Cold: without its cache."""


class WithoutProcesses(TaxonomyParser):
    """Their parser, less yamllint."""

    def _yamllint(self, text: str, taxonomy: Any) -> None:
        pass


def main() -> None:
    options = _options()
    os.environ |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    if not shutil.which("yamllint"):
        sys.exit("yamllint is not on the PATH: instructlab-schema would leave it out")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "taxonomy"
        files = build(root, options.taxonomies, options.leaves)
        ours = time_ours(root, files[len(files) // 2], options.rounds)
        theirs = {
            "as it comes": time_theirs(TaxonomyParser, files, options.sample),
            "without processes": time_theirs(WithoutProcesses, files, options.sample),
        }
        result = summary(files, ours, theirs)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULTS.read_text())


def build(root: Path, taxonomies: Path, num_leaves: int) -> list[Path]:
    """A workspace in a git repository, all committed. Returns its leaves."""
    originals = sorted(taxonomies.glob("*/**/qna.yaml"))
    texts = [original.read_bytes().decode() for original in originals]
    vocabulary = Vocabulary(texts)
    files: list[Path] = []
    for number in range(num_leaves):
        original = originals[number % len(originals)]
        leaf = original.parent.relative_to(taxonomies)
        target = root.joinpath(*leaf.parts[1:-1], f"{leaf.name}_{number}", "qna.yaml")
        target.parent.mkdir(parents=True)
        target.write_bytes(vocabulary.rewrite(texts[number % len(texts)], number).encode())
        if (attribution := original.with_name("attribution.txt")).is_file():
            shutil.copyfile(attribution, target.with_name("attribution.txt"))
        files.append(target)
    (root / "tilth.yaml").write_text("seed: 0\n")
    (root / ".gitignore").write_text(".tilth/\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@x", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    time.sleep(2)
    subprocess.run(["git", "status", "-s"], cwd=root, check=True)  # git looks again at what it wrote a second ago
    return files


class Vocabulary:
    """The longer words of some texts, by length."""

    def __init__(self, texts: list[str]) -> None:
        self._words: dict[int, list[str]] = defaultdict(list)
        for word in sorted({word for text in texts for word in _WORD.findall(text)}):
            self._words[len(word)].append(word)
        self._at = {word: at for words in self._words.values() for at, word in enumerate(words)}

    def rewrite(self, text: str, number: int) -> str:
        """The text with every longer word exchanged for another one of its length, the same one everywhere in it."""
        draw = random.Random(number)  # noqa: S311
        steps = {length: draw.randrange(len(words)) for length, words in self._words.items()}

        def other(found: re.Match[str]) -> str:
            word = found.group()
            words = self._words[len(word)]
            return words[(self._at[word] + steps[len(word)]) % len(words)]

        return _WORD.sub(other, text)


_WORD = re.compile(r"(?<![\\\w])[a-z]{4,}\b(?!:|_)")
"""No key of a leaf, and nothing that begins with an escape."""


def time_ours(root: Path, edited: Path, num_rounds: int) -> dict[str, list[float]]:
    """Wall seconds of whole processes."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(num_rounds):
        for name, options in COMMANDS.items():
            if name.startswith("cold"):
                shutil.rmtree(root / ".tilth", ignore_errors=True)
            if name.endswith("edited"):
                edited.write_text(edited.read_text().replace("created_by: ", "created_by: x", 1))
            start = time.perf_counter()
            ran = subprocess.run(
                [BIN / "tilth", "lint", "--json", *options], cwd=root, capture_output=True, check=False
            )
            seconds[name].append(time.perf_counter() - start)
            if ran.returncode not in {0, 1}:
                sys.exit(ran.stderr.decode())
    return seconds


def time_theirs(parser_of: type[TaxonomyParser], files: list[Path], num_files: int) -> dict[int, list[float]]:
    """Version -> wall seconds of each of its files that are in the sample, `num_files` at most; the median of three."""
    logging.disable(logging.CRITICAL)
    parser = parser_of(schema_version=0)  # 0: each file by its own version
    parser.yq_available = parser_of is TaxonomyParser
    seconds: dict[int, list[float]] = defaultdict(list)
    for file in random.Random(0).sample(files, len(files)):  # noqa: S311
        if len(seconds[version := version_of(file)]) < num_files:
            seconds[version].append(statistics.median(time_one(parser, file) for _ in range(3)))
    return seconds


def time_one(parser: TaxonomyParser, file: Path) -> float:
    start = time.perf_counter()
    with redirect_stdout(io.StringIO()), suppress(TaxonomyReadingException):
        parser.parse(file)
    return time.perf_counter() - start


def version_of(file: Path) -> int:
    found = re.search(r"^version: *(\d+)", file.read_text(), flags=re.MULTILINE)
    return int(found.group(1)) if found else 1


def summary(
    files: list[Path], ours: dict[str, list[float]], theirs: dict[str, dict[int, list[float]]]
) -> dict[str, Any]:
    counts = Counter(version_of(file) for file in files)
    median_s = {name: statistics.median(taken) for name, taken in ours.items()}
    estimate_s = {
        name: sum(statistics.mean(taken) * counts[version] for version, taken in by_version.items())
        for name, by_version in theirs.items()
    }
    return {
        "leaves": {"all": len(files), **{f"version {version}": counts[version] for version in sorted(counts)}},
        "machine": describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("tilth", "instructlab-schema", "yamllint")},
        "yq": bool(shutil.which("yq")),
        "tilth": {
            "measured": "whole processes",
            "median_s": {name: round(taken, 3) for name, taken in median_s.items()},
            "range_s": {name: [round(min(taken), 3), round(max(taken), 3)] for name, taken in ours.items()},
        },
        "instructlab-schema": {
            "measured": "a sample of the same files in one running process, each file three times; for each version the"
            " mean over the files of their medians times the number of files, added up",
            "sample": {f"version {version}": len(taken) for version, taken in sorted(theirs["as it comes"].items())},
            "ms_a_file": {
                name: {
                    f"version {version}": round(statistics.mean(taken) * 1e3, 2)
                    for version, taken in sorted(by.items())
                }
                for name, by in theirs.items()
            },
            "estimate_s": {name: round(taken, 1) for name, taken in estimate_s.items()},
        },
        "times_faster": {
            name: {other: round(taken / median_s[name], 1) for other, taken in estimate_s.items()} for name in median_s
        },
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time `tilth lint`.")
    parser.add_argument("--leaves", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--taxonomies", type=Path, default=ROOT.parent / "shared" / "taxonomies")
    return parser.parse_args()


if __name__ == "__main__":
    main()
