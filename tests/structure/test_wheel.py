"""The wheel, built through the sdist, holds the whole package and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest


def copy_files(root: Path, files: list[PurePosixPath], target: Path) -> None:
    """Only what is tracked: an old `egg-info` would tell the sdist of files that `pyproject.toml` forgot."""
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, target / path)


@pytest.mark.slow
def test_the_wheel_is_the_package(
    root: Path, files: list[PurePosixPath], package_files: list[PurePosixPath], tmp_path: Path
) -> None:
    copy_files(root, files, tmp_path / "source")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), "source"]
    built = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    [wheel] = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {PurePosixPath(name) for name in archive.namelist()}
    package = {path for path in held if path.parts[0] == "tilth"}
    assert package == {PurePosixPath("tilth") / path for path in package_files}
    assert {path.parts[0] for path in held - package} == {wheel.name.split("-py3")[0] + ".dist-info"}
    assert {"licenses", "METADATA", "entry_points.txt"} <= {path.parts[1] for path in held - package}
