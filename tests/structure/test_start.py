"""The command line starts without the libraries that only training and generation need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ABSENT = ["torch", "transformers", "trl", "datasets", "accelerate", "peft", "gguf", "matplotlib", "xllamacpp", "numpy"]
"""What a plain install does not have."""
SLOW = ["aiohttp", "openai", "git", "jinja2", "huggingface_hub"]
"""What is there but has no business in `--help`."""

NAMES = """
import json, sys
from tilth import Workspace
print(json.dumps([name for name in {unwanted!r} if name in sys.modules]))
"""

START = """
import importlib.abc, json, sys

asked = []

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {absent!r}:
            asked.append(name)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["tilth", "--help"]
from tilth.cli.main import main
try:
    main()
    code = 0
except SystemExit as end:
    code = end.code or 0
loaded = [name for name in {slow!r} if name in sys.modules]
print("\\n" + json.dumps({{"code": code, "asked": asked, "loaded": loaded}}))
"""


def test_help_needs_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", START.format(absent=ABSENT, slow=SLOW)]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told, report = ran.stdout.rstrip("\n").rsplit("\n", 1)
    assert json.loads(report) == {"code": 0, "asked": [], "loaded": []}
    assert "demo" in told


def test_the_names_for_scripts_wait_for_nothing_that_they_do_not_need(tmp_path: Path) -> None:
    unwanted = [*ABSENT, *SLOW, "typer", "asyncio", "tilth.cycle.run", "tilth.sdg", "tilth.train", "tilth.eval"]
    command = [sys.executable, "-W", "error", "-c", NAMES.format(unwanted=unwanted)]
    ran = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert json.loads(ran.stdout) == []
