"""What a run of the benchmarks found, as Markdown for people and as JSON: its tables, and the targets beside them."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

Cell = str | int | float | None
"""Numbers are written with three digits that matter; None and NaN as a dash."""


@dataclass(frozen=True)
class Table:
    """Rows under a title; `notes` say how they were measured."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: str = ""


@dataclass(frozen=True)
class Part:
    """What one benchmark found: tables, and figures by name for the targets."""

    tables: Sequence[Table]
    figures: Mapping[str, float] = field(default_factory=dict)


Failures = dict[str, str]
"""Why a part found nothing, by its name."""


@dataclass(frozen=True)
class Target:
    """A figure that must be at least (`≥`) or at most (`≤`) so much; without a sign it is only reported beside it."""

    figure: str
    says: str
    sign: Literal["≥", "≤", ""]
    bound: float
    unit: str

    def is_met(self, value: float) -> bool | None:
        """Whether a value is on the right side of the bound; None where nothing hangs on it."""
        if not self.sign:
            return None
        return value >= self.bound if self.sign == "≥" else value <= self.bound


TARGETS = (
    Target(
        "exactly_once_vs_kafka_streams",
        "exactly_once against Kafka Streams with a simple model, one process each",
        "≥",
        3.0,
        "×",
    ),
    Target(
        "exactly_once_vs_kafka_streams_bytes",
        "exactly_once against Kafka Streams writing as many bytes",
        "≥",
        5.0,
        "×",
    ),
    Target("exactly_once_vs_quix", "exactly_once against Quix Streams, one process each", "≥", 3.0, "×"),
    Target("exactly_once_vs_faust", "exactly_once against plain Faust, one process each", "≥", 25.0, "×"),
    Target("at_least_once_vs_exactly_once", "at_least_once against exactly_once", "≤", 1.15, "×"),
    Target(
        "two_processes_vs_one",
        "two processes against one, throughput per CPU second × processes",
        "≥",
        1.7,
        "×",
    ),
    Target("worker_cpu_us_at_6", "worker's CPU per event, 6 events per customer", "≤", 11.0, "µs"),
    Target("worker_cpu_us_at_30", "worker's CPU per event, 30 events per customer", "≤", 13.0, "µs"),
    Target("first_load_per_s", "first load, compiled core", "≥", 100_000, "records/s"),
    Target("replay_vs_live", "replay from files against live, event clock", "≥", 2.0, "×"),
    Target("latency_p99_ms_at_1000", "p99 at 1,000 events/s, exactly_once", "≤", 50.0, "ms"),
    Target("latency_p99_ms_at_10000", "p99 at 10,000 events/s, exactly_once", "≤", 150.0, "ms"),
    Target(
        "redis_bytes_per_customer",
        "Redis per customer with 30 events a year, keys included",
        "≤",
        1_200,
        "bytes",
    ),
    Target(
        "most_customers_vs_100k", "events/s with 10 million customers against 100 thousand", "≥", 0.7, "×"
    ),
    Target("sweep_customers_per_s", "sweep of 1 million due customers", "≥", 50_000, "customers/s"),
    Target("sweep_latency_ratio", "live p99 during the sweep against without", "≤", 2.0, "×"),
    Target("events_per_core_s", "goal: events per second of one core of the worker", "", 100_000, "events/s"),
)


def markdown(parts: Mapping[str, Part], services: str, failures: Mapping[str, str] = {}) -> str:
    """The whole report; targets without a figure in this run are left out of their table, but named."""
    lines = [f"# Benchmarks, {datetime.now(UTC):%Y-%m-%d}", "", _machine(services), ""]
    for name, reason in failures.items():
        lines += [f"**{name} failed**: {reason}", ""]
    lines += _table(_targets(_figures(parts)))
    for part in parts.values():
        for table in part.tables:
            lines += _table(table)
    return "\n".join(lines)


def document(parts: Mapping[str, Part], services: str, failures: Mapping[str, str] = {}) -> dict[str, object]:
    """The same for programs."""
    figures = _figures(parts)
    return {
        "machine": _machine(services),
        "failures": failures,
        "figures": figures,
        "targets": [
            {
                **asdict(target),
                "measured": figures[target.figure],
                "met": target.is_met(figures[target.figure]),
            }
            for target in TARGETS
            if target.figure in figures
        ],
        "parts": {name: asdict(part) for name, part in parts.items()},
    }


def _figures(parts: Mapping[str, Part]) -> dict[str, float]:
    return {name: value for part in parts.values() for name, value in part.figures.items()}


def _machine(services: str) -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {platform.system()}, Python {platform.python_version()}, {services}."


def _targets(figures: Mapping[str, float]) -> Table:
    rows: list[list[Cell]] = []
    for target in TARGETS:
        if target.figure in figures:
            value = figures[target.figure]
            met = {True: "yes", False: "no", None: ""}[target.is_met(value)]
            bound = f"{target.sign} {_written(target.bound)} {target.unit}".strip()
            rows.append([target.says, bound, f"{_written(value)} {target.unit}", met])
    missing = [target.says for target in TARGETS if target.figure not in figures]
    notes = f"Not measured in this run: {'; '.join(missing)}." if missing else ""
    return Table("Targets", ("what", "target", "measured", "met"), rows, notes)


def _table(table: Table) -> list[str]:
    cells = [[_written(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.header, *cells, strict=True)]
    aligned = [all(isinstance(row[at], str) for row in table.rows) for at in range(len(table.header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if is_text else cell.rjust(width)
            for cell, width, is_text in zip(row, widths, aligned, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if is_text else "-" * (width - 1) + ":"
        for width, is_text in zip(widths, aligned, strict=True)
    ]
    lines = [f"## {table.title}", "", line(list(table.header)), line(rule), *map(line, cells), ""]
    return [*lines, table.notes, ""] if table.notes else lines


def _written(cell: Cell) -> str:
    if cell is None or cell != cell:
        return "–"
    if isinstance(cell, str):
        return cell
    if math.isinf(cell):
        return "∞"
    if abs(cell) >= 100 or cell == int(cell):
        return f"{cell:,.0f}"
    return f"{cell:.3g}"
