"""Live by each core, for customers who come seldom and for those who come often: the worker's CPU per event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench import contenders
from bench.drain import Drained, Services
from bench.pipeline import Entry, Logs, Sizes, make_logs, measure
from bench.report import Cell, Part, Table
from enrichment.kernel import core_of

PER_CUSTOMER = (6, 30)
SLOW_SHARE = 5
"""The Python core gets so many times fewer events."""
HEADER = (
    "core",
    "events per customer",
    "events",
    "events/s",
    "worker CPU µs per event",
    "Redis CPU µs",
    "peak MiB",
)
NOTES = """\
One process, exactly_once, by the wall clock, 8 partitions; logs as in the main table, but for the number of customers.
Medians of {runs} run(s)."""


def run(services: Services, sizes: Sizes, logs: Logs, say: Callable[[str], None]) -> Part:
    """Each core with each log, in turn."""
    cores = ["python"] if core_of("auto").compiled is None else ["compiled", "python"]
    found: dict[tuple[str, int], list[Drained]] = {}
    for _ in range(sizes.runs):
        for per_customer in PER_CUSTOMER:
            for core in cores:
                events = sizes.events if core == "compiled" else sizes.events // SLOW_SHARE
                own = replace(sizes, events=events, customers=max(1, events // per_customer))
                own_logs = replace(logs, records=make_logs(own).records)
                entry = Entry(contenders.ebbtide("exactly_once", core=core), events)
                drained = measure(services, own, own_logs, entry)
                found.setdefault((core, per_customer), []).append(drained)
                say(f"{core} core, {per_customer} events per customer: {drained.events_per_s:,.0f} events/s")
    rows: list[list[Cell]] = []
    figures: dict[str, float] = {}
    for (core, per_customer), runs in found.items():
        one = sorted(runs, key=lambda drained: drained.events_per_s)[len(runs) // 2]
        cpu_us, redis_us = (1e6 * used_s / one.events for used_s in (one.worker_cpu_s, one.redis_cpu_s))
        rows.append([core, per_customer, one.events, one.events_per_s, cpu_us, redis_us, one.peak_mib])
        if core == cores[0]:
            figures[f"worker_cpu_us_at_{per_customer}"] = cpu_us
    return Part([Table("Live by each core", HEADER, rows, NOTES.format(runs=sizes.runs))], figures)
