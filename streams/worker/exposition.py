"""What `/metrics` answers: the worker's `Metrics`, and how its partitions stand at this moment.

The latter is made at each scrape from the partitions held then, so that no series outlives its partition here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from enrichment.days import DAY_US
from streams.worker.partition_state import Status
from streams.worker.worker import Worker

log = logging.getLogger(__name__)

DUE_COUNTED_EVERY_S = 5.0
DUE_TIMEOUT_S = 2.0


class Exposition:
    """Answers the scrapes of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._moment = _ScrapeCollector(worker)
        worker.metrics.registry.register(self._moment)

    async def answer(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that a client accepts, and its content type."""
        await self._moment.count_due()
        encode, content_type = choose_encoder(accept)
        return encode(self._worker.metrics.registry), content_type


class _ScrapeCollector(Collector):
    """Gauges of the worker and of the partitions that it holds."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._due: dict[int, int] = {}
        self._due_counted_s = -DUE_COUNTED_EVERY_S

    async def count_due(self) -> None:
        """Ask Redis how many customers are due, unless it was asked just now; without an answer nothing is said."""
        now_s = time.monotonic()
        if now_s - self._due_counted_s < DUE_COUNTED_EVERY_S:
            return
        self._due_counted_s, self._due = now_s, {}
        try:
            async with asyncio.timeout(DUE_TIMEOUT_S):
                for partition, task in list(self._worker.tasks.items()):
                    waiting = await task.count_due()
                    if waiting is not None:
                        self._due[partition] = waiting
        except (RedisError, TimeoutError, OSError) as error:
            log.debug("due customers cannot be counted: %s", error)

    def collect(self) -> Iterable[Metric]:
        """The gauges as they are now."""
        yield from self._of_worker()
        yield from self._of_partitions()

    def _of_worker(self) -> Iterable[Metric]:
        worker, settings, model = self._worker, self._worker.settings, self._worker.model
        yield InfoMetricFamily(
            "ebbtide_worker",
            "What runs, and how it is set.",
            {
                "version": version("ebbtide"),
                "group_id": settings.group_id,
                "topic_prefix": settings.topic_prefix,
                "clock": settings.clock,
                "processing_guarantee": settings.processing_guarantee,
                "model": model.name,
                "model_version": model.version,
            },
        )
        yield GaugeMetricFamily(
            "ebbtide_worker_ready", "Whether /readyz says 200.", value=float(worker.is_ready)
        )
        yield GaugeMetricFamily(
            "ebbtide_worker_failed", "Whether /healthz says 503.", value=float(worker.failure is not None)
        )
        yield GaugeMetricFamily(
            "ebbtide_input_partitions", "Partitions of each input topic.", value=worker.partitions
        )

    def _of_partitions(self) -> Iterable[Metric]:
        def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"ebbtide_{name}", meaning, labels=labels)

        status = gauge("partition_status", "1 for the status that it has.", "partition", "status")
        lag = gauge("consumer_lag_records", "Records not yet taken.", "topic", "partition")
        hidden = gauge(
            "open_transaction_records",
            "Offsets behind an open transaction of the input.",
            "topic",
            "partition",
        )
        stands = gauge(
            "open_transaction_seconds", "How long an input has stood before one.", "topic", "partition"
        )
        midnight = gauge("last_midnight_timestamp_seconds", "The last midnight passed.", "partition")
        trusted = gauge("clock_trusted", "Whether midnights may pass, by the clocks.", "partition")
        due = gauge("due_customers", "Customers whom a passed midnight still has to reach.", "partition")
        cached = gauge("cached_customers", "Customers held in memory.", "partition")
        loaded = gauge("first_load_share", "How much of its first load is done, from 0 to 1.", "partition")
        left = gauge("first_load_left_seconds", "About how long the rest of it will take.", "partition")
        for partition, task in sorted(self._worker.tasks.items()):
            label, state = str(partition), task.state
            for each in Status:
                status.add_metric([label, each.name.lower()], float(state.status is each))
            hides = task.open_transactions()
            for topic, records in task.lag(self._worker.watch.ends_of(partition)).items():
                lag.add_metric([topic, label], records)
                found = hides.get(topic)
                hidden.add_metric([topic, label], found.records if found else 0)
                stands.add_metric([topic, label], found.stands_for_s if found else 0)
            if state.checkpoint is not None and state.checkpoint.midnight_day >= 0:
                midnight.add_metric([label], state.checkpoint.midnight_day * DAY_US / 1e6)
            if state.is_clock_trusted is not None:
                trusted.add_metric([label], float(state.is_clock_trusted))
            if partition in self._due:
                due.add_metric([label], self._due[partition])
            cached.add_metric([label], task.cached_customers)
            if (
                state.checkpoint is not None
                and state.checkpoint.load is not None
                and state.checkpoint.load.records
            ):
                loaded.add_metric([label], 1.0 if state.loading is None else state.loading.share)
            progress = state.loading if state.status is Status.LOADING else None
            if progress is not None and progress.seconds_left is not None:
                left.add_metric([label], progress.seconds_left)
        yield from (status, lag, hidden, stands, midnight, trusted, due, cached, loaded, left)
