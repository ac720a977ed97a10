"""`tilth watch` as people run it: pushes, broken leaves, other commands, signals; what it tells, and how often."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tilth.core.atomic import read_json, write_json

from ..loop import FERRY, Loop, Ran, Running, Spawner, knowledge_files, skill_files

Copy = Callable[[Loop], Loop]

TO_FILE = """
import os, pathlib, sys
told = [os.environ[f"TILTH_{name}"] for name in ("OUTCOME", "CYCLE", "RELEASE", "COMMIT")]
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write(" ".join(told) + "\\n" + sys.stdin.read())
"""


def git(root: Path, *arguments: str) -> str:
    names = ["-c", "user.name=ada", "-c", "user.email=ada@localhost"]
    ran = subprocess.run(["git", *names, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


@dataclass
class Watching:
    """A watch that runs."""

    running: Running

    @property
    def said(self) -> str:
        path = self.running.folder / "err"
        return path.read_text() if path.exists() else ""

    def stop(self, number: int = signal.SIGINT) -> Ran:
        self.running.send(number)
        return self.running.wait()


@contextlib.contextmanager
def watching(spawner: Spawner, loop: Loop, *arguments: str) -> Generator[Watching]:
    """Watch until the block ends, or has stopped it."""
    watching = Watching(spawner.start(loop.root, "watch", *arguments))
    try:
        yield watching
    except BaseException:
        watching.stop(signal.SIGTERM)
        raise


def post_to(path: Path) -> str:
    """The command line of something that keeps what it is given."""
    return shlex.join([sys.executable, "-c", TO_FILE, str(path)])


@pytest.fixture
def followed(turned_twice: Loop, copy: Copy, tmp_path: Path) -> tuple[Loop, Path]:
    """A workspace with nothing to do whose branch follows a remote, and a contributor's clone."""
    loop, origin, clone = copy(turned_twice), tmp_path / "origin.git", tmp_path / "contributor"
    git(tmp_path, "clone", "-q", "--bare", str(loop.root), str(origin))
    git(loop.root, "remote", "add", "origin", str(origin))
    git(loop.root, "fetch", "-q", "origin")
    git(loop.root, "branch", "-q", "--set-upstream-to=origin/main")
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    return loop, clone


def push(clone: Path, path: str, text: str) -> None:
    (clone / path).write_text(text)
    git(clone, "add", path)
    git(clone, "commit", "-qm", path)
    git(clone, "push", "-q")


@pytest.mark.slow
def test_pushes_errors_and_other_commands(spawner: Spawner, followed: tuple[Loop, Path]) -> None:
    loop, clone = followed
    good = (clone / FERRY / "qna.yaml").read_text()
    with watching(spawner, loop, "--pull", "--every", "1") as watch:
        until(lambda: "nothing to do, no news" in watch.said)
        push(clone, f"{FERRY}/qna.yaml", good.replace("version: 4", "version: four"))
        until(lambda: "; again in 1 s, or when the branch moves" in watch.said)
        with loop.workspace.lock():
            push(clone, f"{FERRY}/qna.yaml", good)
            until(lambda: "is writing here" in watch.said)
            time.sleep(1.2)
        until(lambda: watch.said.count("nothing to do, no news") == 2)
        ran = watch.stop()
    lines = ran.err.splitlines()
    assert (ran.code, lines[0]) == (0, "watching origin/main, pulled, every 1 s; Ctrl-C ends it")
    assert lines[-1] == "ended; the same command, or `tilth cycle`, goes on from here"
    assert sum("is writing here" in line for line in lines) == 1
    assert ran.out.startswith("## No verdict: an error stands in the way\n")
    assert ran.out.count("##") == 1
    assert "tilth: " not in ran.err


def first_is_told(loop: Loop) -> None:
    done = read_json(loop.state / "cycles/0001/done.json")
    write_json(loop.state / "watch.json", {"told": {"1": {"finished_at": done["finished_at"]}}})


def test_a_verdict_is_told_once(spawner: Spawner, turned_twice: Loop, copy: Copy, tmp_path: Path) -> None:
    loop, told = copy(turned_twice), tmp_path / "told"
    first_is_told(loop)
    for said in ("released, told", "nothing to do, no news"):
        with watching(spawner, loop, "--run", post_to(told)) as watch:
            until(lambda watch=watch, said=said: said in watch.said)
            assert watch.stop(signal.SIGTERM).code == 0
    commit = git(loop.root, "rev-parse", "HEAD")
    assert told.read_text().startswith(f"released 2 2 {commit}\n## Release 2: the gate passed cycle 2\n")
    assert told.read_text().count("## Release") == 1


@pytest.mark.slow
def test_what_could_not_be_told_is_told_later(spawner: Spawner, turned_twice: Loop, copy: Copy, tmp_path: Path) -> None:
    loop, told, broken = copy(turned_twice), tmp_path / "told", tmp_path / "broken"
    first_is_told(loop)
    broken.touch()
    script = shlex.join(["sh", "-c", f"test ! -e {broken} && cat > {told}"])
    with watching(spawner, loop, "--every", "1", "--run", script) as watch:
        until(lambda: "; again in 1 s" in watch.said)
        assert list(read_json(loop.state / "watch.json")["told"]) == ["1"]
        broken.unlink()
        until(lambda: list(read_json(loop.state / "watch.json")["told"]) == ["1", "2"])
        said = watch.stop().err
    assert told.read_text().startswith("## Release 2: ")
    assert "--run: 'sh' ended with exit code 1: the verdict is not told; `tilth report --markdown 2` prints it" in said


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_it_stops_in_the_midst_of_a_cycle(spawner: Spawner, slow: Loop, number: int) -> None:
    asked = len(slow.teacher.requests)
    with watching(spawner, slow) as watch:
        until(lambda: len(slow.teacher.requests) > asked)
        ran = watch.stop(number)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.endswith("ended; the same command, or `tilth cycle`, goes on from here\n")
    assert "Traceback" not in ran.err
    with slow.workspace.lock():
        asked = len(slow.teacher.requests)
        time.sleep(0.5)
        assert len(slow.teacher.requests) == asked


@pytest.fixture
def slow(untouched: Loop, copy: Copy) -> Generator[Loop]:
    """A workspace with nothing done, and a teacher who takes his time."""
    loop = copy(untouched)
    loop.teacher.slow_s = 0.2
    yield loop
    loop.teacher.slow_s = 0.0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--run", "no-such-program now"], "--run: there is no program 'no-such-program'; name one that is on the"),
        (["--run", "cat 'a"], '--run: "cat \'a" is no command: No closing quotation; close the quotes'),
        (["--pull"], "no upstream configured for branch 'main'; `git branch --set-upstream-to=origin/main` says"),
        (["--every", "0"], "--every is '0'; write a number of at least 1; `tilth watch --help` shows how"),
    ],
)
def test_what_cannot_be_watched_is_one_line(spawner: Spawner, untouched: Loop, arguments: list[str], line: str) -> None:
    ran = spawner.run(untouched.root, "watch", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert line in ran.err


def test_a_branch_without_commits_is_not_watched(spawner: Spawner, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "tilth.yaml").touch()
    ran = spawner.run(tmp_path, "watch")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].endswith(": there is no commit 'HEAD'; commit something first")


def megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow  # two cycles in processes of their own
def test_contributions_become_releases(spawner: Spawner, turned_once: Loop, copy: Copy, tmp_path: Path) -> None:
    loop, told, sizes = copy(turned_once), tmp_path / "told", list[float]()
    with watching(spawner, loop, "--every", "1", "--run", post_to(told)) as watch:
        until(lambda: "nothing to do, no news" in watch.said)
        sizes.append(megabytes(watch.running.pid))
        loop.commit(FERRY, knowledge_files(FERRY))
        until(lambda: "released, told" in watch.said)
        sizes.append(megabytes(watch.running.pid))
        (loop.root / "plan.yaml").write_text(
            "phases: [{name: little, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]"
        )
        loop.commit("compositional_skills/other", {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
        until(lambda: watch.said.count("d, told\n") == 2)
        sizes.append(megabytes(watch.running.pid))
        ran = watch.stop()
    assert ran.code == 0
    assert told.read_text().startswith("released 2 2 ")
    assert told.read_text().count("\n## Release 2: the gate passed cycle 2\n") == 1
    assert "short: " in ran.err
    assert max(sizes) < sizes[0] + 20
