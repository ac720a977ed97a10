"""The taxonomy that a verb is run in, the leaves that its arguments name, and changes to their files."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.atomic import write_bytes
from ..core.config import Config
from ..core.errors import ConfigError, TaxonomyError
from ..core.workspace import CONFIG_NAME
from ..taxonomy.schema import SECTIONS
from ..taxonomy.source import WorkingTree
from ..taxonomy.tree import leaf_ids_under
from .options import open_workspace
from .terminal import printable


@dataclass(frozen=True)
class Taxonomy:
    """A taxonomy's working tree. `state` is a workspace's `.tilth/`; one that `tilth init` never saw has none."""

    root: Path
    config: Config
    state: Path | None = None

    def leaf_ids(self, source: WorkingTree, paths: Sequence[Path] | None) -> list[str] | None:
        """The leaves that paths of the command line name; None: all. Raises TaxonomyError where there is none."""
        return leaf_ids_under(source, self.named(paths)) if paths else None

    def named(self, paths: Sequence[Path] | None) -> list[str]:
        """Paths of the command line, seen from the taxonomy's root. Raises TaxonomyError for one outside."""
        return [self._named(path) for path in paths or ()]

    def _named(self, path: Path) -> str:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolves `..`, follows no link
        if not absolute.is_relative_to(self.root):
            what, fix = "this is outside the taxonomy", f"name something below {self.root}"
            raise TaxonomyError(what, where=str(path), fix=fix)
        return absolute.relative_to(self.root).as_posix()


def open_taxonomy() -> Taxonomy:
    """The workspace that the current folder is in; without one, the nearest taxonomy or git repository as it stands.

    Raises ConfigError when there is neither.
    """
    folders = (Path.cwd(), *Path.cwd().parents)
    if any((folder / CONFIG_NAME).is_file() for folder in folders):
        workspace = open_workspace()
        return Taxonomy(workspace.root, workspace.config, workspace.state)
    for folder in folders:
        if any((folder / name).is_dir() for name in SECTIONS) or (folder / ".git").exists():
            return Taxonomy(folder, Config())
    raise ConfigError("there is no taxonomy here", where=str(Path.cwd()), fix="go into one, or run `tilth init` here")


def unified_diff(path: str, before: bytes, after: bytes) -> str:
    """What changes in a text file, as `diff -u` and git show it; what a terminal would obey is left out."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", data.decode(errors="replace")) for data in (before, after))
    lines = [_shown(line) for line in difflib.unified_diff(old, new, f"a/{path}\n", f"b/{path}\n")]
    return "\n".join(lines)


def _shown(line: str) -> str:
    text = "\t".join(printable(part) for part in line.rstrip("\n").replace("\r", "^M").split("\t"))
    return text if line.endswith("\n") else f"{text}\n\\ No newline at end of file"


def write_leaf_file(root: Path, path: str, data: bytes) -> None:
    """Put the new bytes of a file in its place in one step; it keeps its permissions."""
    place = root / path
    mode = place.stat().st_mode
    write_bytes(place, data)
    place.chmod(mode)
