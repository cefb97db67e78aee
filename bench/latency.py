"""Latency at offered rates: from the broker's stamp of a purchase to its change at a read_committed consumer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench import broker, contenders
from bench.drain import Run, Services, running
from bench.pipeline import Logs
from bench.probes import percentiles_ms, probing
from bench.processes import cpu_s
from bench.report import Cell, Part, Table

HEADER = (
    *("offered events/s", "sent events/s", "probes", "p50 ms", "p99 ms", "p99.9 ms", "max ms"),
    *("worker's CPUs", "broker's CPUs", "load late ms"),
)
NOTES = """\
exactly_once, one process, 8 partitions. Probes are first orders of new customers, each of which causes a change; the
rest of the load are records of the workload. From the broker's stamp (LogAppendTime, whole milliseconds) to the arrival
at a read_committed consumer on the same machine; the first {warm_up_s:g} s of each load are left out. A load of
{broker_per_s:,.0f} events/s for {broker_s:g} s comes before all of them and is not counted: so long the broker's own
code is being compiled. A change that has not come {answer_s:g} s after the load has ended counts as one that never
comes (∞). The last column is how far the load itself was behind its schedule at most."""
MOST_PROBES_PER_S = 200.0
ANSWER_S = 90.0
TARGET_PER_S = 1_000.0


@dataclass(frozen=True)
class Rates:
    """What is offered, and for how long."""

    per_s: Sequence[float] = (1.0, 1_000.0, 10_000.0)
    seconds: float = 40.0
    warm_up_s: float = 5.0
    customers: int = 100_000
    broker_warm_up_s: float = 120.0


def run(services: Services, rates: Rates, logs: Logs, say: Callable[[str], None]) -> Part:
    """Each rate on a worker of its own, which has worked off the warm-up log."""
    rows: list[list[Cell]] = []
    figures: dict[str, float] = {}
    _measured(services, replace(rates, seconds=rates.broker_warm_up_s), logs, TARGET_PER_S)
    for per_s in rates.per_s:
        row, p99_ms = _measured(services, rates, logs, per_s)
        say(f"latency at {per_s:,.0f} events/s: p99 {p99_ms:,.0f} ms")
        rows.append(row)
        figures[f"latency_p99_ms_at_{per_s:.0f}"] = p99_ms
    notes = NOTES.format(
        warm_up_s=rates.warm_up_s,
        answer_s=ANSWER_S,
        broker_per_s=TARGET_PER_S,
        broker_s=rates.broker_warm_up_s,
    )
    return Part([Table("Latency", HEADER, rows, notes)], figures)


@contextmanager
def warmed_up(services: Services, logs: Logs) -> Iterator[Run]:
    """A worker, exactly_once, that has worked off the warm-up log."""
    with running(contenders.ebbtide("exactly_once"), services, len(logs.warm_up)) as run:
        with broker.consumer(run.settings, run.settings.group_id) as client:
            run.wait_until_ready(ANSWER_S)
            broker.feed(run.settings, logs.warm_up)
            run.wait_for(logs.warm_up, client, ANSWER_S)
        yield run


def load_of(rates: Rates, per_s: float) -> dict[str, float]:
    """The options of `bench.load` for this rate."""
    return {
        "per_s": per_s,
        "probes_per_s": min(per_s, MOST_PROBES_PER_S),
        "seconds": rates.seconds,
        "customers": rates.customers,
    }


def _measured(services: Services, rates: Rates, logs: Logs, per_s: float) -> tuple[list[Cell], float]:
    """A row of the table, and the p99 in milliseconds."""
    with warmed_up(services, logs) as run:
        before_s = cpu_s(run.trees), cpu_s(services.kafka_trees)
        with probing(run.settings, run.folder, run.partitions, **load_of(rates, per_s)) as probes:
            sent, latencies = probes.results(rates.seconds + ANSWER_S)
        worker_s, broker_s = cpu_s(run.trees) - before_s[0], cpu_s(services.kafka_trees) - before_s[1]
    warm_ms = min(one.stamped_ms for one in latencies) + rates.warm_up_s * 1_000
    counted = [one for one in latencies if one.stamped_ms >= warm_ms]
    found_ms = percentiles_ms(counted, 50, 99, 99.9, 100)
    loads = worker_s / sent.seconds, broker_s / sent.seconds, sent.most_late_ms
    return [per_s, sent.records / sent.seconds, len(counted), *found_ms, *loads], found_ms[1]
