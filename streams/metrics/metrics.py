"""What a worker has done since it started, as Prometheus counters and histograms, updated once per micro-batch.

Each worker has a registry of its own. What holds at the moment of a scrape is in `streams/worker/exposition.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, Protocol, get_args

import prometheus_client as prometheus

from enrichment.deciding.results import Results
from schemas.changes import DIRECTIONS, TRIGGERS
from schemas.profiles import DIMENSIONS
from schemas.rejection import REASONS
from schemas.topics import INPUT_TOPICS, OutputTopic
from schemas.triggers import GROUPS
from streams.metrics.renamed import RenamedMetrics
from streams.micro_batch import MicroBatch
from streams.outbox import counts_of

Phase = Literal["fetch", "compute", "persist", "publish"]
OUTCOMES: Final = ("accepted", "duplicate", "erased", "dead_letter")
CASES: Final = ("clean", "unpublished", "lost_writes", "first_start")
SOURCES: Final = ("broker", "occurred_at")

COUNT_BUCKETS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
PHASE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LATENCY_BUCKETS_S: Final = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    1_800,
    3_600,
    86_400,
)
RESTORE_BUCKETS_S: Final = (1, 5, 15, 60, 300, 900, 3_600, 10_800)

# A series for the creation time of each other one: nothing here needs it.
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Stopwatch:
    """How long each phase of a micro-batch took, in seconds and in all: from the end of whatever phase came before."""

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = {}
        self._since_s = time.perf_counter()

    def lap(self, phase: Phase) -> None:
        """End a phase."""
        now_s = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now_s - self._since_s
        self._since_s = now_s


@dataclass(slots=True)
class Restored:
    """What a restore has done, to be filled in by it."""

    records: int = 0


class BatchWork(Protocol):
    """What came of a micro-batch's records, as its `BatchProcessor` tells it."""

    results: Results
    records: int
    refused: Counter[tuple[str, str]]
    """(topic, reason) → dead letters."""
    change_counts: Counter[tuple[str, str, str]]
    """(dimension, direction, trigger) → changes."""
    latency_samples: list[tuple[str, int]]
    """(`broker` or `occurred_at`, microseconds) of each event that changed a standing."""


class Metrics:
    """The counters and histograms of one worker. Every series is there from the start, so that its rate is whole."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)

        def counter(name: str, meaning: str, **labels: tuple[str, ...]) -> prometheus.Counter:
            made = prometheus.Counter(f"ebbtide_{name}", meaning, tuple(labels), registry=registry)
            for values in product(*labels.values()) if all(labels.values()) and labels else ():
                made.labels(*values)
            return made

        def histogram(
            name: str, meaning: str, buckets: tuple[float, ...], **labels: tuple[str, ...]
        ) -> prometheus.Histogram:
            made = prometheus.Histogram(
                f"ebbtide_{name}", meaning, tuple(labels), registry=registry, buckets=buckets
            )
            for values in product(*labels.values()) if labels else ():
                made.labels(*values)
            return made

        self._events = counter(
            "events_total", "Records taken from the inputs.", topic=INPUT_TOPICS, outcome=OUTCOMES
        )
        self._dead_letters = counter(
            "dead_letters_total", "Records that became dead letters.", topic=INPUT_TOPICS, reason=REASONS
        )
        self._changes = counter(
            "changes_total",
            "Segment changes published.",
            dimension=DIMENSIONS,
            direction=DIRECTIONS,
            trigger=TRIGGERS,
        )
        self._reactivations = counter(
            "reactivation_triggers_total", "Re-activation triggers published.", group=GROUPS
        )
        self._reactivations_dropped = counter(
            "reactivation_triggers_dropped_total",
            "Re-activations that fell due with no permitted channel.",
        )
        self._output = counter(
            "output_records_total", "Records published, by output topic.", topic=get_args(OutputTopic)
        )
        self._batch_records = histogram("batch_records", "Input records per micro-batch.", COUNT_BUCKETS)
        self._batch_customers = histogram(
            "batch_customers", "Customers of whom a micro-batch wrote anything.", COUNT_BUCKETS
        )
        self._batch_duration = histogram(
            "batch_duration_seconds",
            "Duration of a micro-batch's phases.",
            PHASE_BUCKETS_S,
            phase=get_args(Phase),
        )
        self._latency = histogram(
            "event_to_change_latency_seconds",
            "From an event that changed a standing to the change being published.",
            LATENCY_BUCKETS_S,
            since=SOURCES,
        )
        self._lookups = counter(
            "cache_lookups_total", "Customers looked up in the cache.", result=("hit", "miss")
        )
        self._midnights = counter("midnights_passed_total", "Midnights passed.", partition=())
        self._recoveries = counter(
            "recoveries_total",
            "Partitions taken over, by what was found.",
            kind=CASES,
        )
        self._back_offs = counter(
            "back_offs_total", "Errors after which a partition is taken over again.", error=()
        )
        self._restores = counter("restores_total", "Restores of Redis that ended.", result=("done", "failed"))
        self._restore_duration = histogram(
            "restore_duration_seconds", "Duration of restores that were done.", RESTORE_BUCKETS_S
        )
        self._restore_records = counter("restore_records_total", "Input records read by restores done.")
        self._restoring = prometheus.Gauge(
            "ebbtide_restore_running",
            "1 while a partition is being restored.",
            ("partition",),
            registry=registry,
        )
        RenamedMetrics(
            registry,
            (
                self._batch_records,
                self._batch_customers,
                self._batch_duration,
                self._recoveries,
                self._restores,
                self._restore_duration,
                self._restore_records,
                self._restoring,
            ),
        )

    def note_batch(self, work: BatchWork, batch: MicroBatch, watch: Stopwatch, published_us: int) -> None:
        """A micro-batch that has been published, at this time."""
        results = work.results
        for (topic, outcome), count in results.outcomes.items():
            self._events.labels(topic, outcome).inc(count)
        for (topic, reason), count in work.refused.items():
            self._dead_letters.labels(topic, reason).inc(count)
        for labels, count in work.change_counts.items():
            self._changes.labels(*labels).inc(count)
        for group, count in Counter(str(trigger["group"]) for trigger in results.triggers).items():
            self._reactivations.labels(group).inc(count)
        self._reactivations_dropped.inc(results.triggers_dropped)
        self.note_output(counts_of(batch.outbox))
        self._batch_records.observe(work.records)
        self._batch_customers.observe(len(batch.states) + len(batch.rescheduled))
        for phase, seconds in watch.seconds.items():
            self._batch_duration.labels(phase).observe(seconds)
        latency = {source: self._latency.labels(source) for source in SOURCES}
        for source, came_us in work.latency_samples:
            latency[source].observe(max(0, published_us - came_us) / 1e6)

    def note_output(self, published: Counter[OutputTopic]) -> None:
        """Records that have been published."""
        for topic, count in published.items():
            self._output.labels(topic).inc(count)

    def note_midnights(self, partition: int, before_day: int, after_day: int) -> None:
        """A partition's last midnight has moved on; the first one of all is no passing."""
        if 0 <= before_day < after_day:
            self._midnights.labels(partition).inc(after_day - before_day)

    def note_lookups(self, hits: int, misses: int) -> None:
        """Look-ups in a cache since the last time."""
        self._lookups.labels("hit").inc(hits)
        self._lookups.labels("miss").inc(misses)

    def note_recovery(self, case: str) -> None:
        """A recovery that succeeded, by what it found: one of `CASES`."""
        self._recoveries.labels(case).inc()

    def note_back_off(self, error: Exception) -> None:
        """An error after which the partition is taken over again."""
        self._back_offs.labels(type(error).__name__).inc()

    @contextmanager
    def restore(self, partition: int) -> Iterator[Restored]:
        """Watch a restore, which fills in what it has done."""
        restored, result, started_s = Restored(), "failed", time.perf_counter()
        self._restoring.labels(partition).set(1)
        try:
            yield restored
            result = "done"
            self._restore_duration.observe(time.perf_counter() - started_s)
            self._restore_records.inc(restored.records)
        finally:
            self._restores.labels(result).inc()
            self._restoring.remove(partition)
