"""Tables of plain text, one line a row."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDEST = 10_000
"""Columns that nothing is wrapped or cut at: what comes next in a pipe may want the whole line."""


def table_lines(rows: Sequence[Sequence[str]], *, numbers: bool = True, indent: int = 0) -> list[str]:
    """Rows of cells as lines whose columns stand two spaces apart; the first row is the head.

    With `numbers`, all columns but the first are aligned to the right. Letters of double width count as two.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for at in range(len(rows[0])):
        table.add_column(justify="right" if numbers and at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    drawn = io.StringIO()
    Console(file=drawn, width=_WIDEST, color_system=None, highlight=False).print(table)
    return [" " * indent + line.rstrip() for line in drawn.getvalue().splitlines()]
