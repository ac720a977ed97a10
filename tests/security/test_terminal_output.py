"""What others wrote steers no terminal, wherever it is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tilth.cli.streams import shown_json

from ..loop import Loop, Spawner

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u202e\u2066"
SIGNS = frozenset(STEERING) - frozenset("owned0123456789;[]Jm")

SAY = """
import sys
from tilth.cli.streams import open_streams
from tilth.core.errors import TilthError
open_streams()
print(sys.argv[1], end=sys.argv[2])
print(TilthError(sys.argv[1], where=sys.argv[1]), file=sys.stderr)
sys.stdout.writelines([sys.argv[1]])
"""


def test_what_steers_a_terminal_passes_no_stream() -> None:
    ran = subprocess.run([sys.executable, "-c", SAY, f"a{STEERING}b\tc\n", STEERING], capture_output=True, check=True)
    said = (ran.stdout + ran.stderr).decode()
    assert SIGNS.isdisjoint(said)
    assert "owned" in said
    assert "b\tc\n" in said


@pytest.mark.parametrize("begins", ["\r\x1b[K", "\r\x1b[K\r\x1b[K\x1b[2J", "x\r\x1b[K"])
def test_our_own_redrawing_passes_at_the_beginning_only(begins: str) -> None:
    ran = subprocess.run([sys.executable, "-c", SAY, begins, ""], capture_output=True, check=True)
    assert ran.stdout.count(b"\x1b") == (2 if begins.startswith("\r") else 0)  # it is written twice


CHAT = """
import sys
from tilth.cli.chat import _print_piece
_print_piece(sys.argv[1])
"""


@pytest.mark.slow
def test_what_a_model_says_piece_by_piece_steers_no_terminal() -> None:
    """Even where nobody has opened the streams."""
    said = f"{STEERING} first\r\nsecond\tthird"
    ran = subprocess.run([sys.executable, "-c", CHAT, said], capture_output=True, check=True)
    assert SIGNS.isdisjoint(ran.stdout.decode())
    assert ran.stdout.endswith(b"first \nsecond\tthird")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, untouched: Loop) -> Path:
    """A workspace with two hostile leaves, one of them broken, and a hostile attribution."""
    root = untouched.copy(tmp_path_factory.mktemp("planted") / "taxonomy").root
    for leaf, text in {f"knowledge/a{STEERING}": "version: 4\n", f"compositional_skills/b{STEERING}": ""}.items():
        (root / leaf).mkdir()
        (root / leaf / "qna.yaml").write_text(text)
        (root / leaf / "attribution.txt").write_text(f"License of the work: {STEERING}\n")
    author = ["-c", f"user.name={STEERING}", "-c", "user.email=a@x"]
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", *author, "commit", "-qm", STEERING], cwd=root, check=True)
    return root


VERBS = [
    ["lint"],
    ["lint", "--json"],
    ["lint", "--format", "github"],
    ["lint", "--format", "sarif"],
    ["tree"],
    ["tree", "--json"],
    ["diff", "--json"],
    ["show", f"knowledge/a{STEERING}"],
    ["generate", "--dry-run"],
    ["samples"],
    ["recipes", STEERING],
    ["releases", "show", STEERING],
    ["migrate", "--diff"],
    ["chat", STEERING],
    ["--set", STEERING],
]


@pytest.mark.parametrize("arguments", VERBS, ids=[" ".join(verb).encode("ascii", "replace").decode() for verb in VERBS])
def test_hostile_names_steer_no_terminal(planted: Path, spawner: Spawner, arguments: list[str]) -> None:
    ran = spawner.run(planted, *arguments)
    assert SIGNS.isdisjoint(ran.out + ran.err)
    assert ran.out or ran.err
    if "--json" in arguments:
        assert "\\u001b]0;owned" in ran.out  # it says it all the same


def test_json_says_the_same() -> None:
    value = {"path": STEERING, "list": [STEERING, "é\u2028"]}
    assert SIGNS.isdisjoint(shown_json(value, indent=2))
    assert json.loads(shown_json(value, indent=2)) == value
