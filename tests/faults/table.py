"""The table that a run of the cases prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAD = (
    "case",
    "faults injected",
    "events",
    "lost",
    "doubled",
    "chain breaks",
    "time to recover",
)


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
