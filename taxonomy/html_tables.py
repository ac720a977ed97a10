"""A table of an HTML page, read cell by cell and written with pipes."""

from __future__ import annotations

import re

from .formats import Unreadable

MAX_CELLS = 200_000
"""What spans make of a table counts too: a page of a few bytes can ask for any number."""


class Table:
    """Rows of cells; a cell that spans rows or columns stands in each of them, so that every row says all."""

    def __init__(self) -> None:
        self._captions: list[str] = []
        self._rows: list[list[str]] = []
        self._spans: dict[int, tuple[int, str]] = {}  # column -> rows that its cell goes on for, and its text
        self._cell: list[str] | None = None
        self._columns = self._down = 1
        self._num_cells = 0

    def start_row(self) -> None:
        """The next texts belong to a new row."""
        self._end_cell()
        self._fill_spanned()
        self._rows.append([])

    def start_cell(self, columns: str, rows: str) -> None:
        """The next texts belong to a new cell; `columns` and `rows` are its spans as the page writes them."""
        self._end_cell()
        if not self._rows:
            self._rows.append([])
        self._cell, self._columns, self._down = [], _span(columns), _span(rows)

    def add_text(self, text: str) -> None:
        """Text of the cell; what stands between cells (a caption) comes before the table."""
        if self._cell is None:
            self._captions.append(text)
        else:
            self._cell.append(text)

    def markdown(self) -> str:
        """The table, its first row being the head; empty where there is no text."""
        rows = self._finished()
        width = max(map(len, rows), default=0)
        if width * len(rows) > MAX_CELLS:
            raise Unreadable(f"a table of the page has more than {MAX_CELLS} cells; save it as Markdown")
        if width <= 1:  # used for the layout
            return "".join(f"{text}\n\n" for text in (*self._captions, *(row[0] for row in rows)))
        lines = [
            "| " + " | ".join(_escaped(cell) for cell in (*row, *[""] * (width - len(row)))) + " |" for row in rows
        ]
        captions = [f"{text}\n" for text in self._captions]
        return "\n".join([*captions, lines[0], "|" + "---|" * width, *lines[1:], ""])

    def text(self) -> str:
        """The table inside a cell of another one."""
        return " ".join([*self._captions, *(" ".join(filter(None, row)) for row in self._finished())])

    def _finished(self) -> list[list[str]]:
        self._end_cell()
        self._fill_spanned()
        return [row for row in self._rows if any(row)]

    def _end_cell(self) -> None:
        if self._cell is None:
            return
        text = " ".join(self._cell)
        self._cell = None
        for _ in range(self._columns):
            self._fill_spanned()
            column = len(self._rows[-1])
            if self._down > 1:
                self._spans[column] = (self._down - 1, text)
            self._add(text)

    def _fill_spanned(self) -> None:
        """The cells of rows above that reach into this one, up to the next free column."""
        if not self._rows:
            return
        row = self._rows[-1]
        while (spanned := self._spans.get(len(row))) and spanned[0] > 0:
            self._spans[len(row)] = (spanned[0] - 1, spanned[1])
            self._add(spanned[1])

    def _add(self, text: str) -> None:
        self._num_cells += 1
        if self._num_cells > MAX_CELLS:
            raise Unreadable(f"a table of the page has more than {MAX_CELLS} cells; save it as Markdown")
        self._rows[-1].append(text)


def _span(value: str) -> int:
    return min(max(int(value), 1), 1000) if re.fullmatch(r"[0-9]{1,4}", value) else 1


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
