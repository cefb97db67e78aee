"""How far long work has come, on stderr: a bar on a terminal, else a plain line every two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

Report = Callable[[int, int], None]
"""Called with (done, in all); 0 in all where that is not known. Cheap enough to be called for each batch."""
INTERVAL_S: Final = 2.0


@contextmanager
def reporting(
    what: str, unit: str = "events", *, stream: IO[str] | None = None, interval_s: float = INTERVAL_S
) -> Iterator[Report]:
    """A `Report` for the length of the block, such as `reporting("replay")`.

    Plain lines look like `replay: 120,000 of 482,310 events (24%), 61,200 events/s`; the last one comes at
    the end, unless the block raised or never reported. `stream` is stderr unless given.
    """
    out = stream or sys.stderr
    if out.isatty():
        with _bar(what, unit, out) as report:
            yield report
        return
    lines = _Lines(what, unit, out, interval_s)
    yield lines.report
    lines.finish()


class _Lines:
    """Plain lines, at most one each `interval_s` seconds."""

    def __init__(self, what: str, unit: str, stream: IO[str], interval_s: float) -> None:
        self._what, self._unit, self._stream, self._interval_s = what, unit, stream, interval_s
        self._started_s = self._written_s = time.monotonic()
        self._done = self._total = self._written_done = 0

    def report(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if time.monotonic() - self._written_s >= self._interval_s:
            self._write()

    def finish(self) -> None:
        if self._done > self._written_done:
            self._write()

    def _write(self) -> None:
        self._written_s, self._written_done = time.monotonic(), self._done
        elapsed_s = self._written_s - self._started_s
        in_all = f" of {self._total:,}" if self._total else ""
        share = f" ({self._done / self._total:.0%})" if self._total else ""
        rate = f", {self._done / elapsed_s:,.0f} {self._unit}/s" if elapsed_s > 0 else ""
        print(
            f"{self._what}: {self._done:,}{in_all} {self._unit}{share}{rate}", file=self._stream, flush=True
        )


@contextmanager
def _bar(what: str, unit: str, stream: IO[str]) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream)) as progress:
        task = progress.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield report
