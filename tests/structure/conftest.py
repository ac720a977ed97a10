"""What the structure tests look at: the files of the repository, tracked or about to be."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """A Python file of the package, parsed. `path` is relative to the repository."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The top-level folder it stands in; empty for the package's own `__init__.py`."""
        return self.path.parts[0] if len(self.path.parts) > 1 else ""

    @property
    def package(self) -> tuple[str, ...]:
        """The package that relative imports start from, without the leading `tilth`."""
        return self.path.parts[:-1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def files() -> list[PurePosixPath]:
    """Every file that is tracked, or would be with `git add .`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(PurePosixPath(name) for name in set(listed.split("\0")) if name and (ROOT / name).is_file())


@pytest.fixture(scope="session")
def package_files(files: list[PurePosixPath]) -> list[PurePosixPath]:
    """The files that belong to the package: all under a top-level folder with an `__init__.py`, and two beside them."""
    rooms = {path.parts[0] for path in files if len(path.parts) == 2 and path.name == "__init__.py"}
    beside = {"__init__.py", "py.typed"}
    return [path for path in files if path.parts[0] in (rooms if len(path.parts) > 1 else beside)]


@pytest.fixture(scope="session")
def modules(package_files: list[PurePosixPath]) -> list[Module]:
    """The package's Python files, parsed."""
    texts = [(path, (ROOT / path).read_text(encoding="utf-8")) for path in package_files if path.suffix == ".py"]
    return [Module(path, text, ast.parse(text, str(path))) for path, text in texts]
