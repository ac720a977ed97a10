"""`tilth add`: the scaffold of a leaf, for its author to fill in, or to decide on what the teacher proposes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TaxonomyError, TilthError
from ..core.workspace import Workspace
from ..core.yaml_syntax import LINE_BREAK
from ..cycle.basis import documents_cache
from ..taxonomy.attribution import ATTRIBUTION_NAME, attribution_faults
from ..taxonomy.contribute import (
    NewLeaf,
    ScaffoldKind,
    author_name,
    commit_files,
    plan_leaf,
    read_documents,
    write_leaf,
    write_schema,
)
from ..taxonomy.documents import Document
from ..taxonomy.origins import read_origins
from ..taxonomy.scaffold import Draft
from ..taxonomy.schema import QNA_NAME
from .options import Set, open_workspace, shown_path
from .terminal import TerminalProgress, printable
from .tree import path_in_taxonomy


class LeafKind(StrEnum):
    """What can be added."""

    knowledge = "knowledge"
    skill = "skill"


def add(  # noqa: PLR0913  the verb's options
    kind: Annotated[
        LeafKind,
        typer.Argument(metavar="KIND", help="What the leaf teaches: facts of a document, or how to do something."),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The leaf's folder, such as science/animals/birds.")],
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE|URL",
            help="Knowledge: a document to learn; repeatable. A file is copied beside the leaf. A URL is that of a file"
            " in a git repository: its page (https://…/blob/main/a.md), or https://….git#docs/a.md.",
        ),
    ] = None,
    task: Annotated[str, typer.Option("--task", metavar="TEXT", help="Skill: what is to be done, in a sentence.")] = "",
    created_by: Annotated[
        str, typer.Option("--created-by", metavar="NAME", help="The author; default: git's user.name.")
    ] = "",
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    grounded: Annotated[bool, typer.Option("--grounded", help="A skill whose tasks are about a given text.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Let the teacher propose its content; you decide on each proposal.")
    ] = False,
    accept_all: Annotated[
        bool, typer.Option("--accept-all", help="With --suggest: take all proposals unread; the file says so.")
    ] = False,
    commit: Annotated[bool, typer.Option("--commit", help="Commit the new files, and nothing else.")] = False,
) -> None:
    """Scaffold a leaf. Fill in the gaps, `tilth lint`, and commit it with git. Nothing is overwritten."""
    if grounded and kind is not LeafKind.skill:
        raise TilthError("--grounded is for skills", fix="leave it out: knowledge rests on its documents")
    leaf_kind: ScaffoldKind = "grounded_skill" if grounded else kind.value
    _check(leaf_kind, origins or [], task, suggest=suggest, accept_all=accept_all)
    workspace = open_workspace(overrides)
    files, remote = read_origins(origins or [], workspace.config.documents)
    if path.startswith("/"):
        path = path_in_taxonomy(Path(path), workspace.root)
    new = plan_leaf(workspace.root, leaf_kind, path, files, remote)
    documents: tuple[Document, ...] = ()
    if remote or (suggest and leaf_kind == "knowledge"):  # of another repository at once: a wrong path is told here
        documents = read_documents(new, documents_cache(workspace), workspace.config.documents)
    draft, note = Draft(task_description=task), ""
    if suggest:
        draft, note = _suggested(workspace, new, documents, task, accept_all=accept_all)
    author = created_by or (f"{workspace.config.teacher.model}, not reviewed" if note else author_name(workspace.root))
    paths = [*write_schema(workspace.root), *write_leaf(workspace.root, new, draft, created_by=author, note=note)]
    for written in paths:
        print(printable(f"wrote {shown_path(written)}"))
    if commit:
        print(f"committed as {_committed(workspace.root, paths, new.id)[:8]}")
    print(f"next: {_next(workspace.root / new.id, suggested=suggest)}")


def _next(folder: Path, *, suggested: bool) -> str:
    """What is left for the leaf's author to do; of whose words they are nobody else can say."""
    data = (folder / ATTRIBUTION_NAME).read_bytes()
    lines = LINE_BREAK.split(data.decode())
    blank = [lines[fault.line - 1].partition(":")[0] for fault in attribution_faults(data) if fault.kind == "blank"]
    steps = [f"{'read' if suggested else 'fill in'} {shown_path(folder / QNA_NAME)}"]
    steps += [f"write {' and '.join(map(repr, blank))} in {ATTRIBUTION_NAME}"] if blank else []
    return ", ".join([*steps, f"then tilth lint {shown_path(folder)}"])


def _committed(root: Path, paths: list[Path], leaf_id: str) -> str:
    """The commit's sha. Raises TaxonomyError when git, or a hook, refuses."""
    try:
        return commit_files(root, paths, f"Add {leaf_id}")
    except TaxonomyError as error:
        fix = "the files are written; mend that, then commit them with git"
        raise TaxonomyError(error.what, where=error.where, fix=fix) from error


def _check(kind: ScaffoldKind, origins: list[str], task: str, *, suggest: bool, accept_all: bool) -> None:
    """Raise TilthError for options that do not go together, before anything is read or asked."""
    if not all(origin.strip() for origin in origins):
        raise TilthError("--from is empty", fix="name a file or an address")
    if task and kind == "knowledge":
        raise TilthError("--task is for skills", fix="knowledge comes from documents: --from FILE")
    if accept_all and not suggest:
        raise TilthError("--accept-all is about proposals", fix="add --suggest, or leave it out")
    if suggest and not (origins if kind == "knowledge" else task):
        fix = "say from which document: --from FILE" if kind == "knowledge" else "say what is to be done: --task TEXT"
        raise TilthError("--suggest has nothing to go by", fix=fix)
    if suggest and not accept_all:
        from .review import check_terminal

        check_terminal()


def _suggested(
    workspace: Workspace, new: NewLeaf, documents: tuple[Document, ...], task: str, *, accept_all: bool
) -> tuple[Draft, str]:
    """The draft that comes of the teacher's proposals, and the comment for the file where nobody has read them."""
    from ..sdg.suggest import suggest as propose
    from .review import missing, review

    with workspace.lock():
        proposed = propose(
            new,
            documents,
            task=task,
            config=workspace.config,
            ledger=workspace.ledger,
            progress=TerminalProgress(),
        )
    draft = proposed if accept_all else review(proposed)
    if lacks := missing(draft, knowledge=new.kind == "knowledge"):
        print(f"left for you to write: {lacks}")
    model = workspace.config.teacher.model
    note = f"NOT REVIEWED: {model} wrote this leaf and nobody has read it. Check every line, then remove this one."
    return draft, note if accept_all else ""
