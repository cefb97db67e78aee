"""How Ebbtide scales: over processes, over customers, in Redis' memory, and back into service after a crash."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import contenders, filled
from bench.contenders import Contender
from bench.drain import Drained, Run, Services, drain, relaunch, running
from bench.pipeline import Logs, Sizes, median
from bench.report import Cell, Part, Table
from bench.workload import Shape, make_workload
from ebbtide.testing.services.worker import Record
from enrichment.days import day_of
from streams.settings import Settings
from streams.worker.clock_check import wall_clock_us

PROCESSES_NOTES = """\
exactly_once, 8 partitions, {events:,} events, medians of {runs} run(s) in turn. On few cores the workers, the broker
and Redis take them from each other; so what is compared is events per CPU second of the workers × number of processes,
which is what they would do with a core each. CPU seconds are per million events."""
CUSTOMERS_NOTES = """\
Redis is filled with customers of thirty events a year each, and a new worker takes {events:,} events that are spread
evenly over them: everyone is cold until they are met. Redis' bytes are the difference of `used_memory` that the
customers make, keys and index included."""
RECOVERY_NOTES = """\
One process until all of 8 partitions run, by its `/readyz`; session timeout {session_s:g} s, which is what a killed
worker's partitions wait for."""
SESSION_TIMEOUT_S = 10.0
RECENT_DAYS = 2
BASE_CUSTOMERS = 100_000
READY_TIMEOUT_S = 600.0
POLL_S = 0.05
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scales:
    """How large everything is."""

    customers: Sequence[int] = (1_000, 100_000, 1_000_000)
    events: int = 100_000
    process_events: int = 200_000
    recovery_customers: int = 1_000_000
    rebuild_events: int = 100_000


# ---------------------------------------------------------------- processes


def over_processes(services: Services, sizes: Sizes, scales: Scales, logs: Logs, say: Say) -> Part:
    records = logs.records[: scales.process_events]
    found: dict[int, list[Drained]] = {1: [], 2: []}
    for _ in range(sizes.runs):
        for processes, own in found.items():
            contender = contenders.ebbtide("exactly_once", processes)
            with running(contender, services, sizes.warm_up) as run:
                run.wait_until_ready(READY_TIMEOUT_S)
                own.append(drain(run, logs.warm_up, records, sizes.timeout_s))
            say(f"{processes} process(es): {own[-1].events_per_s:,.0f} events/s")
    normalised = {
        processes: processes * len(records) / median(own, "worker_cpu_s") for processes, own in found.items()
    }
    per_million = 1e6 / len(records)
    rows: list[list[Cell]] = [
        [
            processes,
            median(own, "events_per_s"),
            normalised[processes],
            *(median(own, f"{who}_cpu_s") * per_million for who in ("worker", "redis", "broker")),
            statistics.median(one.worker_cpu_s / one.wall_s for one in own),
            normalised[processes] / normalised[1],
        ]
        for processes, own in found.items()
    ]
    header = (
        *(
            "processes",
            "events/s",
            "events per CPU s × processes",
            "worker CPU s",
            "Redis CPU s",
            "broker CPU s",
        ),
        *("workers' CPUs", "× one"),
    )
    notes = PROCESSES_NOTES.format(events=len(records), runs=sizes.runs)
    figures = {"two_processes_vs_one": normalised[2] / normalised[1]}
    return Part([Table("One and two processes", header, rows, notes)], figures)


# ---------------------------------------------------------------- customers


@dataclass(frozen=True)
class _Held:
    """A drain over customers that Redis held before."""

    customers: int
    fill_s: float
    bytes_per_customer: float
    drained: Drained


def over_customers(services: Services, sizes: Sizes, scales: Scales, logs: Logs, say: Say) -> Part:
    found = []
    for customers in scales.customers:
        found.append(_held(services, sizes, scales.events, logs.warm_up, customers))
        rate = found[-1].drained.events_per_s
        say(f"{customers:,} customers: {rate:,.0f} events/s, {found[-1].bytes_per_customer:,.0f} bytes each")
    base = next((one for one in found if one.customers == BASE_CUSTOMERS), found[0])
    rows: list[list[Cell]] = [
        [
            one.customers,
            one.drained.events_per_s,
            one.drained.events / one.drained.worker_cpu_s,
            one.drained.events_per_s / base.drained.events_per_s,
            one.bytes_per_customer,
            one.drained.peak_mib,
            one.fill_s,
        ]
        for one in found
    ]
    header = (
        *("customers", "events/s", "events per CPU s", f"× {base.customers:,}", "Redis bytes each"),
        *("worker's peak MiB", "filled in s"),
    )
    notes = CUSTOMERS_NOTES.format(events=scales.events)
    return Part([Table("Customers", header, rows, notes)], _figures(found, base))


def _figures(found: Sequence[_Held], base: _Held) -> dict[str, float]:
    """The target of ten million has a figure only where there were as many."""
    most = max(found, key=lambda one: one.customers)
    ratio = most.drained.events_per_s / base.drained.events_per_s
    figures = {
        "redis_bytes_per_customer": most.bytes_per_customer,
        f"customers_{most.customers}_vs_{base.customers}": ratio,
    }
    if most.customers >= 10_000_000 and base.customers == BASE_CUSTOMERS:
        figures["most_customers_vs_100k"] = ratio
    return figures


def _held(services: Services, sizes: Sizes, events: int, warm_up: Sequence[Record], customers: int) -> _Held:
    shape = Shape(events, customers, sizes.seed, day_of(wall_clock_us()), is_uniform=True, days=RECENT_DAYS)
    records = make_workload(shape)
    took: list[float] = []

    def prepare(settings: Settings) -> None:
        before, began_s = used_bytes(services), time.monotonic()
        fill_yearly(settings, customers)
        took.extend((time.monotonic() - began_s, (used_bytes(services) - before) / customers))

    with running(contenders.ebbtide("exactly_once"), services, sizes.warm_up, prepare=prepare) as run:
        drained = drain(run, warm_up, records, sizes.timeout_s)
    return _Held(customers, took[0], took[1], drained)


def fill_yearly(settings: Settings, customers: int, partitions: int = 8) -> None:
    """Customers of thirty events a year, none of whom is due."""
    templates = list(filled.yearly_customers(settings.load_model()))
    asyncio.run(filled.fill(settings, templates, customers, partitions, day_of(wall_clock_us())))


def used_bytes(services: Services) -> int:
    """The memory that Redis' data take."""
    with services.redis.client() as client:
        return int(client.info("memory")["used_memory"])


# ----------------------------------------------------------------- recovery


def recovery(services: Services, sizes: Sizes, scales: Scales, logs: Logs, say: Say) -> Part:
    contender = contenders.ebbtide("exactly_once", session_timeout_s=SESSION_TIMEOUT_S)
    started_s, recovered_s = _restarted(services, sizes, scales, contender)
    say(
        f"{scales.recovery_customers:,} customers: start {started_s:.1f} s, after kill -9 {recovered_s:.1f} s"
    )
    records = logs.records[: scales.rebuild_events]
    rebuilt_s = _rebuilt(services, sizes, logs.warm_up, records)
    say(f"restored from {len(records):,} records in {rebuilt_s:.1f} s")
    customers = f"{scales.recovery_customers:,} customers in Redis"
    rows: list[list[Cell]] = [
        [f"start, {customers}", started_s],
        [f"start after kill -9, {customers}", recovered_s],
        [f"start with an empty Redis, {len(records):,} records in the inputs", rebuilt_s],
    ]
    notes = RECOVERY_NOTES.format(session_s=SESSION_TIMEOUT_S)
    figures = {"start_s": started_s, "recovery_s": recovered_s, "rebuild_s": rebuilt_s}
    return Part([Table("Start and recovery", ("", "s until all run"), rows, notes)], figures)


def _restarted(services: Services, sizes: Sizes, scales: Scales, contender: Contender) -> tuple[float, float]:
    """Seconds of a first start, and of one after kill -9."""
    prepare = partial(fill_yearly, customers=scales.recovery_customers)
    with running(contender, services, sizes.warm_up, prepare=prepare) as run:
        began_s = run.launched_s
        run.wait_until_ready(READY_TIMEOUT_S)
        started_s = time.monotonic() - began_s
        run.send(signal.SIGKILL)
        with relaunch(run) as again:
            return started_s, _ready_s(again)


def _rebuilt(services: Services, sizes: Sizes, warm_up: Sequence[Record], records: Sequence[Record]) -> float:
    """Seconds of a start with an empty Redis; the worker before has left the group in order."""
    with running(contenders.ebbtide("exactly_once"), services, sizes.warm_up) as run:
        drain(run, warm_up, records, sizes.timeout_s)
        for process in run.processes:
            process.stop()
        services.redis.flush()
        with relaunch(run) as again:
            return _ready_s(again)


def _ready_s(run: Run) -> float:
    run.wait_until_ready(READY_TIMEOUT_S)
    return time.monotonic() - run.launched_s
