"""`.ci/audit`: what pip-audit finds fails the check, and what it could not look up is never called clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).parents[2] / ".ci/audit"
CLEAN: dict[str, Any] = {"name": "clean", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (3.0)"}


def audit(folder: Path, packages: list[dict[str, Any]] | None, first: dict[str, Any] = CLEAN) -> tuple[int, str]:
    """Run it on a pip-audit that finds `packages` in the lock, and `first` in its first line; None: it fails."""
    tool, lock = folder / "audit/bin/pip-audit", folder / "lock.txt"
    tool.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("# a lock\nclean==1.0\nbad==2.0\n")
    os.utime(lock, (0, 0))
    said = {"probe.txt": json.dumps({"dependencies": [first]}), "lock.txt": json.dumps({"dependencies": packages})}
    found = "sys.exit('no connection')" if packages is None else f"print({said!r}[pathlib.Path(sys.argv[2]).name])"
    tool.write_text(f"#!{sys.executable}\nimport pathlib, sys\n{found}\nsys.exit(1)\n")
    tool.chmod(0o755)
    command = [sys.executable, str(AUDIT), str(folder / "audit"), str(lock)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([CLEAN], 0, "1 of 1 packages looked up, 0 vulnerable\n"),
        ([CLEAN, BAD], 1, "bad 2.0 has PYSEC-1, mended in 2.1\naudit: 2 of 2 packages looked up, 1 vulnerable\n"),
        ([CLEAN, UNKNOWN], 0, "1 of 2 packages looked up, 0 vulnerable\naudit: unknown to the service: odd\n"),
        (None, 0, "skipped, pip-audit 2.10.1 cannot be had or does not answer (JSONDecodeError)\n"),
    ],
)
@pytest.mark.slow
def test_what_is_vulnerable_fails_the_audit(tmp_path: Path, packages: Any, code: int, told: str) -> None:
    assert audit(tmp_path, packages) == (code, f"audit: {told}")


def test_a_service_that_knows_nothing_is_not_taken_for_a_clean_lock(tmp_path: Path) -> None:
    assert audit(tmp_path, [UNKNOWN], UNKNOWN) == (0, "audit: skipped, no advisory service is reachable\n")
    assert not (tmp_path / "audit/audit.json").exists()  # asked again the next time


@pytest.mark.slow
def test_answers_are_kept_for_a_day_and_for_one_lock(tmp_path: Path) -> None:
    audit(tmp_path, [CLEAN, BAD])
    assert audit(tmp_path, None)[0] == 1
    os.utime(tmp_path / "audit/audit.json", (1, 1))
    assert "skipped" in audit(tmp_path, None)[1]
