"""A sweep of very many customers while live events flow: how fast it is, and what the events notice of it.

    python -m bench.sweep --customers 1000000 --partitions 4 --events-per-s 200

Fills Redis with customers made from templates, all of them due at a midnight that has come, starts a worker of one
process, sends the first orders of new customers at a steady rate, and measures for each the time from the broker's
stamp of the order to the arrival of its change at a read_committed consumer, until the sweep is done and for as long
as `--after-s` says afterwards. Kafka and Redis are those of `ebbtide.testing.services`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis as redis_sync

from bench import contenders, filled
from bench.drain import Run, Services, running
from bench.probes import Latency, percentiles_ms, probing
from bench.report import Cell, Part, Table, markdown
from ebbtide.testing.services import start_kafka, start_own_redis
from enrichment.days import day_of
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.clock_check import wall_clock_us

POLL_S = 0.2
SETTLE_S = 2.0
"""Live events so soon after the start and the end of a sweep belong to neither."""
READY_TIMEOUT_S = 600.0
SWEEP_TIMEOUT_S = 3_600.0
TARGET_CUSTOMERS = 1_000_000
HEADER = ("live events", "number", "p50 ms", "p99 ms", "max ms")
NOTES = """\
{customers:,} customers of whom the index says that they are due at a midnight that has come, {partitions} partitions,
one process; {per_s:g} first orders of new customers a second meanwhile, each from the broker's stamp to its change at a
read_committed consumer. Swept {swept:,} customers in {seconds:.1f} s: {rate:,.0f} customers/s, counted from the first
look after the load had begun; {changes:,} changes came of them. Worker's peak memory {peak:,.0f} MiB."""


@dataclass(frozen=True)
class Swept:
    """How many were due at which time (seconds, monotonic): the first look at fewer than all, and the first at none."""

    begun_s: float
    due: int
    ended_s: float

    @property
    def customers_per_s(self) -> float:
        """The rate; NaN where all was over between two looks."""
        taken_s = self.ended_s - self.begun_s
        return self.due / taken_s if taken_s > 0 else math.nan


@dataclass(frozen=True)
class Options:
    """How large a sweep, and what flows besides."""

    customers: int = 1_000_000
    partitions: int = 4
    events_per_s: float = 200.0
    after_s: float = 60.0


def run(services: Services, options: Options) -> Part:
    """Fill, start, sweep, and go on for a while."""
    contender = contenders.ebbtide("exactly_once")
    load = {"per_s": options.events_per_s, "probes_per_s": options.events_per_s}
    with running(contender, services, 0, options.partitions, filling(options)) as worker:
        worker.wait_until_ready(READY_TIMEOUT_S)
        with probing(worker.settings, worker.folder, options.partitions, **load) as probes:
            swept = watch(worker, options)
            time.sleep(options.after_s)
            probes.stop()
            _, latencies = probes.results()
        peak_mib = sum(tree.peak_mib() for tree in worker.trees)
        return _part(options, swept, latencies, probes.other_changes, peak_mib)


def filling(options: Options) -> Callable[[Settings], None]:
    """What fills Redis with as many customers, all of them due at the midnight that was the last to come."""

    def prepare(settings: Settings) -> None:
        templates = list(filled.due_customers(settings.load_model()))
        yesterday = day_of(wall_clock_us()) - 1
        asyncio.run(filled.fill(settings, templates, options.customers, options.partitions, yesterday))

    return prepare


def watch(worker: Run, options: Options) -> Swept:
    """Count those who are due until nobody is."""
    looks: list[tuple[float, int]] = []
    with redis_sync.Redis.from_url(worker.settings.redis_url) as client:
        today = day_of(wall_clock_us())
        keys = [PartitionKeys.of(worker.settings, partition).due for partition in range(options.partitions)]

        def is_over() -> bool:
            due = sum(int(str(client.zcount(key, "-inf", today))) for key in keys)
            looks.append((time.monotonic(), due))
            return due == 0

        worker.wait(is_over, POLL_S, SWEEP_TIMEOUT_S)
    begun_s, due = next((look for look in looks if look[1] < options.customers), looks[-1])
    return Swept(begun_s, due, looks[-1][0])


def _part(
    options: Options, swept: Swept, latencies: Sequence[Latency], changes: int, peak_mib: float
) -> Part:
    during = [one for one in latencies if swept.begun_s + SETTLE_S <= one.arrived_s <= swept.ended_s]
    without = [one for one in latencies if one.arrived_s > swept.ended_s + SETTLE_S]
    rows: list[list[Cell]] = [
        [name, len(of), *percentiles_ms(of, 50, 99, 100)]
        for name, of in (("during the sweep", during), ("without a sweep", without))
    ]
    notes = NOTES.format(
        customers=options.customers,
        partitions=options.partitions,
        per_s=options.events_per_s,
        swept=swept.due,
        seconds=swept.ended_s - swept.begun_s,
        rate=swept.customers_per_s,
        changes=changes,
        peak=peak_mib,
    )
    p99_during, p99_without = percentiles_ms(during, 99)[0], percentiles_ms(without, 99)[0]
    # The targets are for a million; fewer have figures of their own.
    size = "" if options.customers >= TARGET_CUSTOMERS else f"_of_{options.customers}"
    figures = {
        f"sweep{size}_customers_per_s": swept.customers_per_s,
        f"sweep{size}_latency_ratio": p99_during / p99_without,
    }
    return Part([Table("A sweep while live events flow", HEADER, rows, notes)], figures)


def main() -> None:
    """Run with the command line's options, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=Options.customers)
    parser.add_argument("--partitions", type=int, default=Options.partitions)
    parser.add_argument("--events-per-s", type=float, default=Options.events_per_s)
    parser.add_argument("--after-s", type=float, default=Options.after_s)
    options = Options(**vars(parser.parse_args()))
    with start_kafka() as kafka, start_own_redis() as redis:
        found = run(Services(kafka, redis), options)
        sys.stdout.write(markdown({"sweep": found}, f"{kafka.origin}, {Path(redis.origin).name}"))


if __name__ == "__main__":
    main()
