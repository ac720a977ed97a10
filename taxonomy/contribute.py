"""Adding to a taxonomy: the repository, a new leaf's files, and the commit that holds exactly them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..core import atomic
from ..core.errors import TaxonomyError, nearest
from ..core.workspace import STATE_NAME
from .leaf import DOCUMENT_SUFFIXES
from .repository import git_errors, open_repository
from .scaffold import ATTRIBUTION, ATTRIBUTION_NAME, knowledge_qna, skill_qna
from .schema import QNA_NAME

if TYPE_CHECKING:
    from git import Repo

ScaffoldKind = Literal["knowledge", "skill", "grounded_skill"]

_SECTION: dict[str, str] = {
    "knowledge": "knowledge",
    "skill": "compositional_skills",
    "grounded_skill": "compositional_skills",
}
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def init_repository(root: Path) -> bool:
    """Make `root` a git repository that ignores `.tilth/`; one that is there is kept. Raises TaxonomyError.

    Returns whether `.gitignore` was written.
    """
    with git_errors(str(root)):
        if not (root / ".git").exists():
            from git import Repo

            Repo.init(root, initial_branch="main").close()
    ignore = root / ".gitignore"
    lines = ignore.read_bytes().splitlines() if ignore.exists() else []
    wanted = f"{STATE_NAME}/".encode()
    if wanted in lines:
        return False
    atomic.write_bytes(ignore, b"\n".join([*lines, wanted]) + b"\n")
    return True


def add_leaf(
    root: Path, kind: ScaffoldKind, leaf_id: str, *, document: Path | None = None, created_by: str = ""
) -> list[Path]:
    """Scaffold a leaf: `qna.yaml`, `attribution.txt` and a copy of the document, unless it is there already.

    `leaf_id` may leave its first folder out. Returns the paths written. Raises TaxonomyError, and writes
    nothing, when the id or the document is not usable or a file is there already.
    """
    leaf_id = full_leaf_id(kind, leaf_id)
    if kind != "knowledge":
        if document is not None:
            raise TaxonomyError("a skill has no document", where=leaf_id, fix="add it as knowledge, or leave it out")
        files = {QNA_NAME: skill_qna(created_by, grounded=kind == "grounded_skill")}
    else:
        name = document.name if document else f"{leaf_id.rsplit('/', 1)[-1]}.md"
        files = {QNA_NAME: knowledge_qna(name, created_by)}
        if name == ATTRIBUTION_NAME:
            raise TaxonomyError("this name is taken by the leaf's own file", where=name, fix="rename the document")
        if document and document.resolve() != (root / leaf_id / name).resolve():
            files[name] = _document_text(document)
    return add_files(root, leaf_id, {**files, ATTRIBUTION_NAME: ATTRIBUTION})


def add_files(root: Path, leaf_id: str, files: Mapping[str, str]) -> list[Path]:
    """Write `files` (name -> text) into the folder of the leaf. Returns their paths.

    Raises TaxonomyError, and writes nothing, when one of them is there already.
    """
    folder = root / leaf_id
    for name in files:
        if os.path.lexists(folder / name):
            raise TaxonomyError("the file is there already", where=f"{leaf_id}/{name}", fix="choose another path")
    try:
        for name, text in files.items():
            atomic.write_text(folder / name, text)
    except OSError as error:
        raise TaxonomyError(f"the leaf cannot be written ({error})", where=leaf_id) from error
    return [folder / name for name in files]


def full_leaf_id(kind: ScaffoldKind, leaf_id: str) -> str:
    """The id with its first folder. Raises TaxonomyError for a name not in lower_snake or another kind's folder."""
    section = _SECTION[kind]
    names = leaf_id.strip("/").split("/")
    if names[0] in _SECTION.values():
        first = names.pop(0)
        if first != section:
            raise TaxonomyError(f"a {kind} leaf belongs below {section}/, not {first}/", where=leaf_id)
    for name in names or [""]:
        if not _NAME.fullmatch(name):
            snake = "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
            fix = f"did you mean {snake!r}?" if snake else "name a folder"
            raise TaxonomyError(f"{name!r} must be lower case letters, digits and _", where=leaf_id, fix=fix)
    return "/".join([section, *names])


def commit_files(root: Path, paths: Sequence[Path], message: str) -> str:
    """Commit exactly `paths` as they are now; what else is staged stays staged. Returns the commit's sha.

    When the last commit holds them just so, nothing is committed and its sha is returned. Raises TaxonomyError.
    """
    names = [os.path.relpath(root / path, root) for path in paths]
    with git_errors(str(root)):
        repo = open_repository(root)
        repo.git.update_environment(GIT_LITERAL_PATHSPECS="1")
        repo.git.add("--", *names)
        if not repo.head.is_valid() or repo.git.diff("--cached", "--name-only", "HEAD", "--", *names):
            repo.git.commit("--quiet", "--only", "-m", message, "--", *names, env=_author(repo))
        sha = repo.head.commit.hexsha
        repo.close()
    return sha


def _document_text(document: Path) -> str:
    if document.suffix.lower() not in DOCUMENT_SUFFIXES:
        fix = nearest(document.suffix, DOCUMENT_SUFFIXES)
        raise TaxonomyError("documents of this format cannot be read", where=str(document), fix=fix)
    try:
        text = document.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise TaxonomyError("there is no such document", where=str(document)) from error
    except UnicodeDecodeError as error:
        raise TaxonomyError("not UTF-8 text", where=str(document), fix="save it as UTF-8") from error
    except OSError as error:
        raise TaxonomyError(f"the document cannot be read ({error})", where=str(document)) from error
    if not text.strip():
        raise TaxonomyError("the document is empty", where=str(document))
    return text


def _author(repo: Repo) -> dict[str, str]:
    """Git's own author where one is configured; else ours, so that a fresh machine can commit."""
    author: dict[str, str] = {}
    for key, value in (("name", "tilth"), ("email", "tilth@localhost")):
        if not repo.git.config("--default", "", "--get", f"user.{key}"):
            for role in ("AUTHOR", "COMMITTER"):
                variable = f"GIT_{role}_{key.upper()}"
                author[variable] = os.environ.get(variable) or value
    return author
