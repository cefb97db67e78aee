"""The table that a run of the cases prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

HEAD = (
    "case",
    "faults injected",
    "events",
    "lost",
    "doubled",
    "chain breaks",
    "time to recover",
)


ROW = "row of the table of faults"
"""The property of a test's report that holds one, also in a report from another process."""


class Row(NamedTuple):
    """One case; `recovered_s` is None where nothing was published after the last fault."""

    case: str
    faults: int
    events: int
    lost: int
    doubled: int
    chain_breaks: int
    recovered_s: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        recovered = "–" if self.recovered_s is None else f"{self.recovered_s:.1f} s"
        counts = (self.faults, self.events, self.lost, self.doubled, self.chain_breaks)
        return self.case, *(f"{count:,}" for count in counts), recovered


def as_text(rows: Sequence[Row]) -> list[str]:
    """Lines in columns: the case to the left, numbers to the right."""
    cells = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(HEAD))]
    return [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in cells
    ]


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for documents."""
    lines = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_table(terminal: pytest.TerminalReporter, path: str | None) -> None:
    """Print the rows of all tests that have ended, and write them to a file if one is named."""
    reports = [report for of_outcome in terminal.stats.values() for report in of_outcome]
    ended = [report for report in reports if getattr(report, "when", None) == "teardown"]
    rows = [Row(*row) for report in ended for name, row in report.user_properties if name == ROW]
    if rows:
        terminal.section("real faults")
        for line in as_text(rows):
            terminal.write_line(line)
    if path is not None:
        Path(path).write_text(as_markdown(rows), encoding="utf-8")
