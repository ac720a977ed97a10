"""Adding to a taxonomy: the repository, a new leaf's files, and the commit that holds exactly them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from ..core import atomic
from ..core.config import Documents
from ..core.environment import keys_away
from ..core.errors import TaxonomyError
from ..core.workspace import STATE_NAME
from ..core.yaml_problem import shortened
from .attribution import ATTRIBUTION_NAME
from .documents import Document, load_documents
from .editor_schema import schema_text
from .formats import content_problem, size_problem, suffix_problem
from .leaf import DocumentSpec, Leaf
from .repository import git_errors, git_output, has_commit, open_repository, resolve_commit
from .scaffold import SCHEMA_NAME, Draft, attribution, knowledge_qna, skill_qna, yaml_text
from .schema import NEWEST_VERSION, QNA_NAME, SECTIONS

if TYPE_CHECKING:
    from git import Repo

ScaffoldKind = Literal["knowledge", "skill", "grounded_skill"]

_SECTION: dict[str, str] = {
    "knowledge": "knowledge",
    "skill": "compositional_skills",
    "grounded_skill": "compositional_skills",
}
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_LONGEST_NAME = 100
"""Letters of a folder's name: file systems take 255, and other names are made of it."""


def init_repository(root: Path) -> bool:
    """Make `root` a git repository that ignores `.tilth`; one that is there is kept. Raises TaxonomyError.

    Returns whether `.gitignore` was written.
    """
    with git_errors(str(root)):
        if (root / ".git").exists():
            git_output(root, "rev-parse", "--git-dir")
        elif (root / "HEAD").is_file() and (root / "objects").is_dir():
            raise TaxonomyError("this is a bare repository", where=str(root), fix="clone it, and go into the clone")
        else:
            from git import Repo

            with keys_away():
                Repo.init(root, initial_branch="main").close()
    ignore = root / ".gitignore"
    there = ignore.read_bytes() if ignore.exists() else b""
    wanted = STATE_NAME.encode()  # without a slash: it may be a link
    if wanted in there.splitlines():
        return False
    line_end = b"\r\n" if b"\r\n" in there else b"\n"
    before = there if not there or there.endswith(b"\n") else there + line_end
    atomic.write_bytes(ignore, before + wanted + line_end)
    return True


def write_schema(root: Path) -> list[Path]:
    """Write the schema that leaves name for editors into the taxonomy's root, unless it is there. Returns its path."""
    path = root / SCHEMA_NAME
    if os.path.lexists(path):
        return []
    atomic.write_text(path, schema_text())
    return [path]


@dataclass(frozen=True)
class NewLeaf:
    """A leaf that may be written: its id is good, its documents can be read, and none of its files is there."""

    id: str
    kind: ScaffoldKind
    spec: DocumentSpec
    """Where its documents are; empty for a skill."""
    documents: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Its own documents, by name."""
    in_place: frozenset[str] = frozenset()
    """Names of documents that are in the leaf's folder already."""
    title: str = ""
    """What its work is called."""

    def as_leaf(self, task_description: str = "") -> Leaf:
        """The leaf as flows want one, with nothing in it yet."""
        return Leaf(
            id=self.id,
            kind=self.kind,
            title=self.title.replace("_", " ").strip().capitalize(),
            version=NEWEST_VERSION,
            created_by="",
            task_description=task_description,
            domain="",
            document_outline="",
            seed_examples=(),
            documents=self.spec if self.kind == "knowledge" else None,
            questions=(),
            fingerprint="",
        )


def plan_leaf(
    root: Path, kind: ScaffoldKind, leaf_id: str, files: Sequence[Path] = (), remote: DocumentSpec | None = None
) -> NewLeaf:
    """Look at what a new leaf is to be made of: the documents `files`, or those of another repository.

    `leaf_id` may leave its first folder out. Writes nothing. Raises TaxonomyError when the id or a document cannot be
    used, or a file is there already.
    """
    leaf_id = full_leaf_id(kind, leaf_id)
    refuse_way(root, leaf_id)
    if kind != "knowledge" and (files or remote):
        raise TaxonomyError("a skill has no document", where=leaf_id, fix="add it as knowledge, or leave it out")
    if remote is not None:
        new = NewLeaf(leaf_id, kind, remote, title=leaf_id.rsplit("/", 1)[-1])
    elif kind == "knowledge":
        new = _with_files(root, leaf_id, files)
    else:
        new = NewLeaf(leaf_id, kind, DocumentSpec(), title=leaf_id.rsplit("/", 1)[-1])
    copied = [name for name in new.documents if name not in new.in_place]
    _refuse_present(root / leaf_id, leaf_id, [QNA_NAME, *copied, ATTRIBUTION_NAME])
    return new


def write_leaf(
    root: Path, new: NewLeaf, draft: Draft | None = None, *, created_by: str = "", note: str = ""
) -> list[Path]:
    """Write `qna.yaml`, the documents to be copied, and `attribution.txt`. Returns their paths.

    `note` is a comment at the beginning of `qna.yaml`. Raises TaxonomyError when a file is there by now.
    """
    draft = draft or Draft()
    if new.kind == "knowledge":
        qna = knowledge_qna(new.id, new.spec, draft, created_by=created_by, note=note)
    else:
        qna = skill_qna(new.id, draft, created_by=created_by, grounded=new.kind == "grounded_skill", note=note)
    copied = {name: data for name, data in new.documents.items() if name not in new.in_place}
    foreign = bool(new.documents or new.spec.repo)  # of a text that is still to be written the author is known
    owned = attribution(
        title=new.title.replace("_", " "),
        link=new.spec.repo,
        revision=new.spec.commit,
        creator="" if foreign else created_by,
    )
    return add_files(root, new.id, {QNA_NAME: qna, **copied, ATTRIBUTION_NAME: owned})


def read_documents(new: NewLeaf, cache: Path, settings: Documents) -> tuple[Document, ...]:
    """The documents of a leaf that is not written yet; `cache`, `settings` and errors as in `load_documents`."""
    files = {f"{new.id}/{name}": data for name, data in new.documents.items()}
    return load_documents(new.as_leaf(), _Files(files), cache, settings)


def add_files(root: Path, leaf_id: str, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write `files` (name -> content) into the folder of the leaf. Returns their paths.

    Raises TaxonomyError when one of them is there already or cannot be written: then none of them is.
    """
    folder, written = root / leaf_id, list[Path]()
    refuse_way(root, leaf_id)
    _refuse_present(folder, leaf_id, files)
    try:
        for name, content in files.items():
            atomic.write_bytes(folder / name, content.encode() if isinstance(content, str) else content)
            written.append(folder / name)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        what = f"the leaf cannot be written ({(error.strerror or str(error)).lower()})"
        raise TaxonomyError(what, where=leaf_id, fix="check that folder and its disk") from error
    return [folder / name for name in files]


def full_leaf_id(kind: ScaffoldKind, leaf_id: str) -> str:
    """The id with its first folder; a skill may name `foundational_skills/`.

    Raises TaxonomyError for a name not in lower_snake or another kind's folder.
    """
    section = _SECTION[kind]
    names = [name for name in leaf_id.split("/") if name not in {"", "."}]
    if names and names[0] in SECTIONS:
        first = names.pop(0)
        if (first == "knowledge") != (kind == "knowledge"):
            what = f"a {kind.replace('_', ' ')} leaf belongs below {section}/, not {first}/"
            raise TaxonomyError(what, where=leaf_id, fix=f"leave {first}/ out, or add the other kind")
        section = first
    if not names:
        fix = "write it like science/animals/birds"
        raise TaxonomyError(f"the path {leaf_id!r} names no folder for the leaf", fix=fix)
    for name in names:
        if len(name) > _LONGEST_NAME:
            what = f"a folder's name has {len(name)} letters"
            raise TaxonomyError(what, where=shortened(name), fix=f"choose one with {_LONGEST_NAME} at most")
        if not _NAME.fullmatch(name):
            snake = "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
            fix = f"did you mean {snake!r}?" if snake else "write it like science/animals/birds"
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
        if not has_commit(root) or repo.git.diff("--cached", "--name-only", "HEAD", "--", *names):
            repo.git.commit("--quiet", "--only", "-m", message, "--", *names, env=_author(repo))
        repo.close()
    return resolve_commit(root, "HEAD")


def author_name(root: Path) -> str:
    """The name that git would put under a commit here; empty where none is configured."""
    with git_errors(str(root)):
        repo = open_repository(root)
        name: str = repo.git.config("--default", "", "--get", "user.name")
        repo.close()
    return name


def _with_files(root: Path, leaf_id: str, files: Sequence[Path]) -> NewLeaf:
    """A knowledge leaf on files of this machine; without any, on one that its author will write."""
    names = [file.name for file in files] or [f"{leaf_id.rsplit('/', 1)[-1]}.md"]
    for name in names:
        if name in {ATTRIBUTION_NAME, QNA_NAME}:
            raise TaxonomyError("this name is taken by the leaf's own file", where=name, fix="rename the document")
        if not _can_be_named(name):
            what = (
                "a file that is hidden, or whose name has odd signs or a space at its ends, cannot be named in a leaf"
            )
            raise TaxonomyError(what, where=repr(name), fix="rename the document")
        if names.count(name) > 1:
            raise TaxonomyError("two documents have this name", where=name, fix="rename one, or name it once")
    documents = {file.name: _document_bytes(file) for file in files}
    in_place = frozenset(file.name for file in files if file.resolve() == (root / leaf_id / file.name).resolve())
    spec = DocumentSpec(files=tuple(names))
    return NewLeaf(leaf_id, "knowledge", spec, documents, in_place, title=Path(names[0]).stem)


def _can_be_named(name: str) -> bool:
    """Whether a leaf that names it, read again, means this file."""
    try:
        return not name.startswith(".") and yaml.safe_load(yaml_text(name)) == name
    except (yaml.YAMLError, UnicodeError):
        return False


class _Files:
    """A Source of files that are in memory."""

    name = "new leaf"

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def files(self) -> list[str]:
        return sorted(self._files)

    def read(self, path: str) -> bytes:
        return self._files[path]

    def blob_ids(self) -> Mapping[str, str]:
        return {}

    def others(self) -> Mapping[str, str]:
        return {}


def refuse_way(root: Path, folder_name: str) -> None:
    """Raise TaxonomyError where a link or a file stands in a folder's way: nothing is read, or written, behind it."""
    folder = root
    for name in folder_name.split("/"):
        folder = folder / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            what = f"this is a {'link' if folder.is_symlink() else 'file'}, not a folder"
            raise TaxonomyError(what, where=str(folder.relative_to(root)), fix="choose another path")


def _refuse_present(folder: Path, leaf_id: str, names: Iterable[str]) -> None:
    for name in names:
        if os.path.lexists(folder / name):
            raise TaxonomyError("the file is there already", where=f"{leaf_id}/{name}", fix="choose another path")


def _document_bytes(document: Path) -> bytes:
    try:
        if document.is_dir():
            raise TaxonomyError("this is a folder", where=str(document), fix="name a file in it")
        problem = suffix_problem(document.name) or size_problem(document.stat().st_size)
        data = b"" if problem else _read_plain(document)
    except FileNotFoundError as error:
        raise TaxonomyError(
            "there is no such document", where=str(document), fix="name a file that is there"
        ) from error
    except OSError as error:
        what = f"the document cannot be read ({(error.strerror or str(error)).lower()})"
        raise TaxonomyError(what, where=str(document), fix="name a file that can be") from error
    if problem := problem or content_problem(document.name, data):
        what, _, fix = problem.rpartition("; ")
        raise TaxonomyError(what, where=str(document), fix=fix)
    return data


def _read_plain(document: Path) -> bytes:
    """The bytes of a plain file: a device never ends, a pipe makes us wait."""
    with open(os.open(document, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123  a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise TaxonomyError("this is no plain file", where=str(document), fix="name a document")
        return file.read()


def _author(repo: Repo) -> dict[str, str]:
    """Git's own author where one is configured; else ours, so that a fresh machine can commit."""
    author: dict[str, str] = {}
    for key, value in (("name", "tilth"), ("email", "tilth@localhost")):
        if not repo.git.config("--default", "", "--get", f"user.{key}"):
            for role in ("AUTHOR", "COMMITTER"):
                variable = f"GIT_{role}_{key.upper()}"
                author[variable] = os.environ.get(variable) or value
    return author
