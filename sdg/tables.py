"""Writing tables bit by bit, as JSON lines or as Parquet, and their columns as Hugging Face's datasets write them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from ..core.errors import TilthError
from .formats import Columns, Row

Put = Callable[[Row], None]

_ROWS_TOGETHER = 1000
"""Rows of a Parquet row group: what a reader has to take at once."""


@contextlib.contextmanager
def jsonl_table(path: Path) -> Generator[Put]:
    """Yield what puts a row into a new file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:

        def put(row: Row) -> None:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield put


@contextlib.contextmanager
def parquet_table(path: Path, columns: Columns) -> Generator[Put]:
    """Yield what puts a row into a new Parquet file. Raises TilthError when the packages for it are missing."""
    try:
        import datasets
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        what = f"the package {error.name} is not installed"
        raise TilthError(what, where=path.name, fix="run `pip install 'tilth[train]'`") from error
    schema = datasets.Features(_features(columns, datasets)).arrow_schema
    rows: list[Row] = []
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:

        def write() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def put(row: Row) -> None:
            rows.append(row)
            if len(rows) == _ROWS_TOGETHER:
                write()

        yield put
        if rows:
            write()


def listed_columns(columns: Columns) -> list[dict[str, Any]]:
    """The columns as the head of a dataset card lists them (`dataset_info.features`)."""
    return [{"name": name, **_listed(type_)} for name, type_ in columns.items()]


def _listed(type_: Any) -> dict[str, Any]:
    if isinstance(type_, str):
        return {"dtype": type_}
    [item] = type_
    return {"list": item if isinstance(item, str) else listed_columns(item)}


def _features(type_: Any, datasets: Any) -> Any:
    """The columns, or the type of one, as `datasets` knows it."""
    if isinstance(type_, str):
        return datasets.Value(type_)
    if isinstance(type_, list):
        [item] = type_
        return datasets.List(_features(item, datasets))
    return {name: _features(inner, datasets) for name, inner in type_.items()}
