"""The first load against live: the same events, lying in the inputs before the worker starts, or coming after."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec
import redis

from bench import broker, contenders
from bench.drain import POLL_S, Run, Services, running
from bench.pipeline import Entry, Logs, Sizes, make_logs, measure
from bench.report import Part, Table
from ebbtide.testing.services.worker import Record
from enrichment.kernel import core_of
from streams.checkpoint import FirstLoad
from streams.settings import Settings
from streams.state.keys import PartitionKeys

EVENTS_PER_CUSTOMER = 30
HEADER = ("what", "events", "seconds", "events/s", "as fast as live by ×")
NOTES = """\
The same {events:,} events of {customers:,} customers, one process, exactly_once, by the wall clock. Of a first load the
clock runs from the start of the first partition to the end of the last one's load, when everybody has been decided on;
live as in the main table. Medians of {runs} run(s)."""


def run(services: Services, sizes: Sizes, logs: Logs, say: Callable[[str], None]) -> Part:
    """Live, and a load by each core that is there, in turn."""
    sizes = replace(sizes, customers=sizes.events // EVENTS_PER_CUSTOMER)
    logs = replace(logs, records=make_logs(sizes).records)
    contender = contenders.ebbtide("exactly_once")
    cores = ["python"] if core_of("auto").compiled is None else ["python", "compiled"]
    taken_s: dict[str, list[float]] = {"live": [], **{f"first load, {core} core": [] for core in cores}}
    for number in range(sizes.runs):
        taken_s["live"].append(measure(services, sizes, logs, Entry(contender, sizes.events)).wall_s)
        for core in cores:
            taken_s[f"first load, {core} core"].append(_loaded_s(services, sizes, logs.records, core))
        rates = [f"{name} {sizes.events / of[-1]:,.0f} events/s" for name, of in taken_s.items()]
        say(f"run {number + 1}: {', '.join(rates)}")
    medians = {name: statistics.median(of) for name, of in taken_s.items()}
    live_s = medians["live"]
    rows = [
        (name, sizes.events, own_s, sizes.events / own_s, live_s / own_s) for name, own_s in medians.items()
    ]
    notes = NOTES.format(events=sizes.events, customers=sizes.customers, runs=sizes.runs)
    loaded_s = medians[f"first load, {cores[-1]} core"]
    figures = {"first_load_vs_live": live_s / loaded_s, "first_load_per_s": sizes.events / loaded_s}
    return Part([Table("The first load", HEADER, rows, notes)], figures)


def _loaded_s(services: Services, sizes: Sizes, records: Iterable[Record], core: str) -> float:
    """How long a first load of these records takes by a core."""
    own = list(records)

    def feed(settings: Settings) -> None:
        broker.feed(settings, own)

    with running(contenders.ebbtide("exactly_once", core=core), services, 0, prepare=feed) as made:
        made.wait(lambda: any(_loads(made)), POLL_S, sizes.timeout_s)
        began_s = time.monotonic()
        made.wait(lambda: _is_through(made), POLL_S, sizes.timeout_s)
        return time.monotonic() - began_s


def _loads(made: Run) -> list[FirstLoad | None]:
    """What each partition notes of its first load; None where it has not begun."""
    with redis.Redis.from_url(made.settings.redis_url) as client:
        asked = client.pipeline(transaction=False)
        for partition in range(made.partitions):
            asked.hget(PartitionKeys.of(made.settings, partition).meta, "load")
        return [msgspec.json.decode(found, type=FirstLoad) if found else None for found in asked.execute()]


def _is_through(made: Run) -> bool:
    return all(load is not None and load.is_over for load in _loads(made))
