"""Metrics that version 0.1 called otherwise: exposed by their old names too, for one version more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

OLD_NAMES: Final[Mapping[str, str]] = {
    "ebbtide_batch_records": "ebbtide_step_records",
    "ebbtide_batch_customers": "ebbtide_step_customers",
    "ebbtide_batch_duration_seconds": "ebbtide_step_duration_seconds",
    "ebbtide_recoveries": "ebbtide_take_overs",
    "ebbtide_restores": "ebbtide_rebuilds",
    "ebbtide_restore_duration_seconds": "ebbtide_rebuild_duration_seconds",
    "ebbtide_restore_records": "ebbtide_rebuild_records",
    "ebbtide_restore_running": "ebbtide_rebuild_running",
}
"""Metric → its old name, both without the `_total` of counters."""


class RenamedMetrics(Collector):
    """The same samples once more, by the old names."""

    def __init__(self, registry: CollectorRegistry, metrics: Iterable[MetricWrapperBase]) -> None:
        self._metrics = tuple(metrics)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The old metrics, as a scrape asks for them."""
        for wrapped in self._metrics:
            for metric in wrapped.collect():
                if (old := OLD_NAMES.get(metric.name)) is not None:
                    yield _called(metric, old)


def _called(metric: Metric, name: str) -> Metric:
    renamed = Metric(name, f"The old name of {metric.name}, which will go.", metric.type, metric.unit)
    renamed.samples = [
        Sample(name + sample.name.removeprefix(metric.name), *sample[1:]) for sample in metric.samples
    ]
    return renamed
