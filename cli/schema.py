"""`tilth schema`: the JSON Schema of a `qna.yaml`, for editors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ..core.atomic import write_text
from ..core.errors import TilthError
from ..taxonomy.editor_schema import schema_text
from ..taxonomy.scaffold import SCHEMA_NAME
from .leaf_files import open_taxonomy
from .options import shown_path


class Kind(StrEnum):
    """What a leaf teaches."""

    knowledge = "knowledge"
    skill = "skill"


def schema(
    kind: Annotated[Kind | None, typer.Option("--kind", help="Default: one schema for both.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", help="Of qna.yaml; default: one schema for all.")
    ] = None,
    *,
    write: Annotated[bool, typer.Option("--write", help=f"Write {SCHEMA_NAME} into the taxonomy instead.")] = False,
) -> None:
    """Print the JSON Schema of a qna.yaml, for editors. They complete its keys, explain them and mark what is wrong."""
    if write and (kind or version):
        raise TilthError(f"{SCHEMA_NAME} serves all leaves", fix="leave --kind and --version out, or --write")
    text = schema_text(kind.value if kind else None, version)
    if not write:
        print(text, end="")
        return
    path = open_taxonomy().root / SCHEMA_NAME
    write_text(path, text)
    print(f"wrote {shown_path(path)}; commit it, and editors find it in every leaf that names it in its first line")
