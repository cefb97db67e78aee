"""The main table: Ebbtide by both guarantees, Kafka Streams, Quix Streams and plain Faust, draining the same topics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import contenders
from bench.contenders import Contender
from bench.drain import Drained, Services, drain, running
from bench.report import Cell, Part, Table
from bench.workload import DAYS, Shape, make_workload
from ebbtide.testing.services.worker import Record
from enrichment.days import day_of
from streams.worker.clock_check import wall_clock_us

HEADER = (
    *(
        "contender",
        "events",
        "events/s",
        "events per CPU s",
        "CPU s per million",
        "Redis CPU s",
        "broker CPU s",
    ),
    *("peak MiB", "changes", "exactly_once is faster by ×"),
)
NOTES = """\
Each drains what lies ready in three topics of 8 partitions. The clock runs from the moment at which a worker that has
joined its group and worked off a warm-up log of other customers is let go on a log that was appended while it stood
still, until its offsets are committed at the log's end and its outputs have stopped growing. Medians of {runs} run(s)
that alternate (A B C … A B C …), after one that is not counted. CPU seconds are per million events. The slow contenders
get the first {prefix:,} events only, and are compared with what Ebbtide makes of those alone. Kafka Streams does far
less per event: recency, frequency and monetary value, and a segment by them; once as it is, and once writing as many
bytes."""


BYTES_PER_EVENT = 2_300
"""What Ebbtide writes for an event of this workload: changes, profiles, decisions and their headers."""


@dataclass(frozen=True)
class Sizes:
    """How large the main table's logs are; `prefix` must be a multiple of `warm_up`."""

    events: int = 300_000
    customers: int = 100_000
    prefix: int = 12_000
    warm_up: int = 2_000
    runs: int = 3
    seed: int = 1
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.prefix % self.warm_up or self.prefix > self.events:
            raise ValueError(f"prefix: not a multiple of {self.warm_up} up to {self.events}")


@dataclass(frozen=True)
class Logs:
    """The same for every contender and every run."""

    warm_up: Sequence[Record]
    records: Sequence[Record]


@dataclass(frozen=True)
class Entry:
    """A row: who, and how much of the log."""

    contender: Contender
    events: int
    is_compared_with: int | None = None
    """The row of Ebbtide's that its rate is compared with."""


def make_logs(sizes: Sizes) -> Logs:
    """The measured log of the last two months, and a warm-up log from the two months before."""
    today = day_of(wall_clock_us())
    warm_up = Shape(sizes.warm_up, max(sizes.warm_up // 4, 1), sizes.seed, today - DAYS, name="w")
    return Logs(
        make_workload(warm_up), make_workload(Shape(sizes.events, sizes.customers, sizes.seed, today))
    )


def entries(sizes: Sizes) -> list[Entry]:
    """The rows of the main table."""
    exactly_once = contenders.ebbtide("exactly_once")
    whole = [
        Entry(exactly_once, sizes.events),
        Entry(contenders.ebbtide("at_least_once"), sizes.events, 0),
        Entry(contenders.kafka_streams(), sizes.events, 0),
        Entry(contenders.kafka_streams(BYTES_PER_EVENT), sizes.events, 0),
    ]
    prefix = Entry(exactly_once, sizes.prefix)
    own = len(whole)
    return [
        *whole,
        prefix,
        Entry(contenders.quix(), sizes.prefix, own),
        Entry(contenders.faust(), sizes.prefix, own),
    ]


def run(services: Services, sizes: Sizes, logs: Logs, say: Callable[[str], None]) -> Part:
    """Measure all rows in turn, as often as asked for."""
    rows = entries(sizes)
    found: list[list[Drained]] = [[] for _ in rows]
    measure(services, sizes, logs, Entry(rows[0].contender, sizes.prefix))  # the broker's own warm-up
    for number in range(sizes.runs):
        for entry, own in zip(rows, found, strict=True):
            own.append(measure(services, sizes, logs, entry))
            name, rate = entry.contender.name, own[-1].events_per_s
            say(f"run {number + 1}: {name}: {entry.events:,} events, {rate:,.0f} events/s")
    return _part(sizes, rows, found)


def measure(services: Services, sizes: Sizes, logs: Logs, entry: Entry) -> Drained:
    """One run of one row."""
    with running(entry.contender, services, sizes.warm_up) as run:
        return drain(run, logs.warm_up, logs.records[: entry.events], sizes.timeout_s)


def median(drained: Sequence[Drained], name: str) -> float:
    """The median of one of their values."""
    return float(statistics.median(getattr(one, name) for one in drained))


def _part(sizes: Sizes, rows: Sequence[Entry], found: Sequence[Sequence[Drained]]) -> Part:
    rates = [median(own, "events_per_s") for own in found]
    ratios = [
        None if entry.is_compared_with is None else rates[entry.is_compared_with] / rate
        for entry, rate in zip(rows, rates, strict=True)
    ]
    cells = [_row(entry, own, ratio) for entry, own, ratio in zip(rows, found, ratios, strict=True)]
    notes = NOTES.format(runs=sizes.runs, prefix=sizes.prefix)
    figures = {
        "exactly_once_events_per_s": rates[0],
        "events_per_core_s": sizes.events / median(found[0], "worker_cpu_s"),
        "at_least_once_vs_exactly_once": rates[1] / rates[0],
        "exactly_once_vs_kafka_streams": rates[0] / rates[2],
        "exactly_once_vs_kafka_streams_bytes": rates[0] / rates[3],
        "exactly_once_vs_quix": rates[4] / rates[5],
        "exactly_once_vs_faust": rates[4] / rates[6],
    }
    return Part([Table("Draining a log", HEADER, cells, notes)], figures)


def _row(entry: Entry, own: Sequence[Drained], ratio: float | None) -> list[Cell]:
    per_million = 1e6 / entry.events
    worker_cpu_s = median(own, "worker_cpu_s")
    return [
        entry.contender.name,
        entry.events,
        median(own, "events_per_s"),
        entry.events / worker_cpu_s,
        worker_cpu_s * per_million,
        median(own, "redis_cpu_s") * per_million,
        median(own, "broker_cpu_s") * per_million,
        median(own, "peak_mib"),
        int(median(own, "changes")),
        ratio,
    ]
