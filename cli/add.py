"""`tilth add`: the scaffold of a leaf, for its author to fill in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..taxonomy.contribute import add_leaf
from .options import open_workspace, shown_path


class LeafKind(StrEnum):
    """What can be added."""

    knowledge = "knowledge"
    skill = "skill"


def add(
    kind: Annotated[
        LeafKind,
        typer.Argument(metavar="KIND", help="What the leaf teaches: facts of a document, or how to do something."),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The leaf's folder, such as science/animals/birds.")],
    document: Annotated[
        Path | None, typer.Option("--document", metavar="FILE", help="Knowledge: the text to learn, Markdown or plain.")
    ] = None,
    created_by: Annotated[str, typer.Option("--created-by", metavar="NAME", help="The author's name.")] = "",
    *,
    grounded: Annotated[bool, typer.Option("--grounded", help="A skill whose tasks are about a given text.")] = False,
) -> None:
    """Scaffold a leaf. Fill in the gaps, `tilth lint`, and commit it with git."""
    workspace = open_workspace()
    leaf_kind = "grounded_skill" if kind is LeafKind.skill and grounded else kind.value
    paths = add_leaf(workspace.root, leaf_kind, path, document=document, created_by=created_by)
    for written in paths:
        print(f"wrote {shown_path(written)}")
    qna = next(written for written in paths if written.name == "qna.yaml")
    print(f"next: fill in {shown_path(qna)}, then tilth lint {shown_path(qna.parent)}")
