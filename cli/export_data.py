"""`tilth export-data`: samples as a dataset for other programs, with a card."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer

from ..core.errors import TilthError, nearest
from ..core.records import Kind
from ..cycle.basis import read_basis
from ..llm.hub import hub_token, upload_dataset
from ..sdg.export import Export, Selection
from ..sdg.export import export_data as write_export
from .options import Json, KindText, LeafText, Set, count_leaves, open_workspace, print_json, refuse_no_leaf, shown_path
from .terminal import table


class Format(StrEnum):
    """The shapes, and `hub`: Parquet that goes to the Hugging Face hub."""

    messages = "messages"
    prompt_completion = "prompt-completion"
    preference = "preference"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    parquet = "parquet"
    hub = "hub"


def export_data(  # noqa: PLR0913  options, as the user has them
    target: Annotated[
        str, typer.Argument(metavar="DIR", help="A new folder, or an older export; with hub: the dataset's OWNER/NAME.")
    ],
    shape: Annotated[Format, typer.Option("--format", help="What the rows are to be.")] = Format.messages,
    leaf: LeafText = "",
    kind: KindText = "",
    overrides: Set = [],  # noqa: B006
    *,
    ledger: Annotated[bool, typer.Option("--ledger", help="Add the answers that the samples rest on.")] = False,
    as_json: Json = False,
) -> None:
    """Export samples of the committed leaves as a dataset with a card: sources, licences, counts, how it was made.

    messages, prompt-completion and preference are what TRL reads. On the hub a new dataset is private; the token is
    read from HF_TOKEN.
    """
    workspace = open_workspace(overrides)
    if kind and kind not in get_args(Kind):
        raise TilthError(f"there is no kind {kind!r}", where="--kind", fix=nearest(kind, get_args(Kind)))
    basis = read_basis(workspace)
    refuse_no_leaf(leaf, (each.leaf.id for each in basis.planned))
    selection = Selection(workspace.root, basis.source, basis.planned, leaf, kind)
    answers = workspace.ledger if ledger else None
    if shape is Format.hub:
        token = hub_token()
        with tempfile.TemporaryDirectory() as folder:
            export = write_export(selection, "parquet", Path(folder) / "dataset", ledger=answers)
            place = upload_dataset(target, Path(folder) / "dataset", token)
    else:
        if not target:
            raise TilthError("DIR is empty", fix="name a folder")
        export = write_export(selection, shape, Path(target), ledger=answers)
        place = shown_path(Path(target).absolute())
    if as_json:
        print_json(export.model_dump(mode="json") | {"place": place})
        return
    _print(export)
    if left := sum(not each.complete and leaf in each.leaf.id for each in basis.planned):
        print(f"{count_leaves(left)} without samples left out: run `tilth generate` first")
    print(f"exported to {place}; README.md is its card")


def _print(export: Export) -> None:
    print(table(sorted(export.samples_by_kind.items()), ["kind", "samples"]))
    if export.copies:
        print(f"{export.copies:,} samples that several leaves have are in it once")
