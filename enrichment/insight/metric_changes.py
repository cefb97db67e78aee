"""Metric changes: the smallest change in one metric that would move a customer up, found by the functions that decide.

Every metric change alters a customer's aggregates as if one thing had been different, and leaves the rest as it is;
what else hangs on these aggregates follows. Candidates are tried from the smallest on, all at once, on arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import CustomerSnapshot
from enrichment.customer.validation import MAX_GROSS_MICROS
from enrichment.lifetime.lifetime_value import RECENT_DAYS
from enrichment.model import METRICS, Model
from enrichment.scoring.evaluate import Table, evaluate_features
from enrichment.scoring.features import Features, build_features
from enrichment.scoring.scores import RATIO_CAP

Floats = npt.NDArray[np.float64]
Columns = dict[str, Any]
"""Aggregates of one customer by their names in `Features`; numbers, or arrays of candidates."""

STEPS = 200
MORE_ORDERS = 24
MORE_CHANNELS = 5
LARGEST_FACTOR = 5.0


class MetricChange(NamedTuple):
    """One metric, what it takes to change it, and the aggregates of each candidate, from the smallest change on."""

    metric: str
    meaning: str
    columns: Columns
    size: int


class Tried(NamedTuple):
    """All candidates of all metric changes as one table; the first row is the customer as they are."""

    table: Table
    rows: list[tuple[MetricChange, range]]


def try_metric_changes(snapshot: CustomerSnapshot, day: int, model: Model) -> Tried:
    """Score every candidate of every metric change for one customer on a day."""
    present = build_features([snapshot], np.zeros(1, dtype=np.int64), np.array([day], dtype=np.int64), model)
    now: Columns = {
        field.name: getattr(present, field.name)[0].item()
        for field in dataclasses.fields(Features)
        if field.name not in {"snapshots", "snapshot_at"}
    }
    metric_changes = [metric_change for make in _CHANGES for metric_change in make(now, model)]
    size = 1 + sum(metric_change.size for metric_change in metric_changes)
    days = np.full(size, day, dtype=np.int64)
    features = build_features([snapshot], np.zeros(size, dtype=np.int64), days, model)
    altered: dict[str, Any] = {}
    rows, start = [], 1
    for metric_change in metric_changes:
        part = range(start, start + metric_change.size)
        start = part.stop
        for name, values in metric_change.columns.items():
            column = altered.setdefault(name, getattr(features, name).copy())
            column[part.start : part.stop] = values
        rows.append((metric_change, part))
    features = dataclasses.replace(features, **altered)
    return Tried(evaluate_features(features, model), rows)


def _recency(now: Columns, model: Model) -> Iterator[MetricChange]:
    """The last order later; for one-time buyers that would be another first order."""
    recency = now["day"] - now["last_order_day"]
    if now["order_count"] > 0 and now["purchase_days"] > 1 and recency > 0:
        days = now["day"] - np.arange(recency - 1, -1, -1)
        columns = {"last_order_day": days}
        for window in RECENT_DAYS:
            start = now["day"] - window  # the last day before the window
            moved_in = (now["last_order_day"] <= start) & (days > start)
            columns[f"repeat_days_{window}d"] = now[f"repeat_days_{window}d"] + moved_in
        yield MetricChange("recency_days", "with no more orders", columns, recency)


def _order_count(now: Columns, model: Model) -> Iterator[MetricChange]:
    """More orders of the same average value within the year, on days of their own."""
    if now["order_count_365d"] == 0:
        return
    more = np.arange(1, MORE_ORDERS + 1)
    spend = np.rint(more * (now["counted_365d_micros"] / now["order_count_365d"])).astype(np.int64)
    columns = {name: now[name] + more for name in ("order_count_365d", "order_count", "purchase_days")}
    columns["repeat_spend_days"] = now["repeat_spend_days"] + (more if now["counted_365d_micros"] > 0 else 0)
    columns |= {name: now[name] + spend for name in ("counted_365d_micros", "repeat_spend_micros")}
    columns |= _brought(now, spend)
    yield MetricChange("order_count_365d", "of the same average value", columns, len(more))


def _order_value(now: Columns, model: Model) -> Iterator[MetricChange]:
    """As many orders, all of them larger by a factor."""
    counted = now["counted_365d_micros"]
    # Sums of money stay within the bounds that they have.
    if not 0 < counted <= MAX_GROSS_MICROS / LARGEST_FACTOR:
        return
    average = counted / now["order_count_365d"] / 1e6
    factors = _grid(average, average * LARGEST_FACTOR) / average
    more = np.rint(counted * (factors - 1)).astype(np.int64)
    columns = _brought(now, more)
    columns["counted_365d_micros"] = counted + more
    columns["repeat_spend_micros"] = np.rint(now["repeat_spend_micros"] * factors).astype(np.int64)
    columns["revenue_90d_micros"] = np.rint(now["revenue_90d_micros"] * factors).astype(np.int64)
    yield MetricChange("average_order_value_365d", "with as many orders", columns, len(factors))


def _margin(now: Columns, model: Model) -> Iterator[MetricChange]:
    """The same revenue of the year at a better margin."""
    revenue, margin = now["revenue_365d_micros"], now["margin_365d_micros"]
    if revenue > margin:
        targets = np.rint(_grid(margin / 1e6, revenue / 1e6) * 1e6).astype(np.int64)
        columns = {"margin_365d_micros": targets, "margin_micros": now["margin_micros"] + targets - margin}
        yield MetricChange("margin_365d", "on the same revenue", columns, len(targets))


def _engagement(now: Columns, model: Model) -> Iterator[MetricChange]:
    highest = model.metrics["weighted_engagement_90d"].breakpoints[-1][0]
    points = now["weighted_engagement_90d"]
    if points < highest:
        grid = _grid(points, highest)
        yield MetricChange(
            "weighted_engagement_90d", "by more interactions", {"weighted_engagement_90d": grid}, len(grid)
        )


def _channels(now: Columns, model: Model) -> Iterator[MetricChange]:
    more = now["consent_breadth"] + np.arange(1, MORE_CHANNELS + 1)
    yield MetricChange("consent_breadth", "by consent to more", {"consent_breadth": more}, MORE_CHANNELS)


def _intent(now: Columns, model: Model) -> Iterator[MetricChange]:
    declared = now["declared_intent"]
    points = 0.0 if np.isnan(declared) else declared
    if points < 100:
        grid = _grid(points, 100.0)
        yield MetricChange(
            "declared_intent", "by answers that tell of it", {"declared_intent": grid}, len(grid)
        )


def _cost_to_serve(now: Columns, model: Model) -> Iterator[MetricChange]:
    """Less cost for the revenue that there is; against none, only no cost at all counts less."""
    cost, revenue = now["cost_to_serve_365d_micros"], now["revenue_365d_micros"]
    if cost <= 0:
        return
    highest = min(cost, revenue * RATIO_CAP) if revenue > 0 else 0
    lower = np.rint(highest - _grid(0.0, highest / 1e6) * 1e6).astype(np.int64) if highest else np.zeros(1)
    columns = {"cost_to_serve_365d_micros": np.maximum(lower, 0).astype(np.int64)}
    yield MetricChange("cost_to_serve_ratio", "for the same revenue", columns, len(lower))


_CHANGES: Sequence[Callable[[Columns, Model], Iterator[MetricChange]]] = (
    _recency,
    _order_count,
    _order_value,
    _margin,
    _engagement,
    _channels,
    _intent,
    _cost_to_serve,
)


def _brought(now: Columns, more_micros: npt.NDArray[np.int64]) -> Columns:
    """More revenue of the year and of the lifetime, at the margin that the customer's revenue had so far."""
    revenue = now["revenue_micros"]
    rate = min(max(now["margin_micros"] / revenue, -1.0), 1.0) if revenue > 0 else 0.0
    margin = np.rint(more_micros * rate).astype(np.int64)
    return {
        "revenue_micros": now["revenue_micros"] + more_micros,
        "revenue_365d_micros": now["revenue_365d_micros"] + more_micros,
        "margin_micros": now["margin_micros"] + margin,
        "margin_365d_micros": now["margin_365d_micros"] + margin,
    }


def _grid(present: float, highest: float) -> Floats:
    """At most about STEPS numbers above `present` and up to `highest`: multiples of 1, 2 or 5 × 10^n, to be read."""
    width = (highest - present) / STEPS
    step = 10.0 ** np.floor(np.log10(width))
    step *= next(factor for factor in (1.0, 2.0, 5.0, 10.0) if factor * step >= width)
    first = np.floor(present / step) + 1
    numbers = np.arange(first, np.floor(highest / step) + 1) * step
    numbers = numbers[(numbers > present) & (numbers < highest)]
    return np.append(np.round(numbers, 9), highest)


def metric_at(table: Table, row: int, metric: str) -> tuple[float | None, float]:
    """A metric of a row, None where it is not defined, and its points."""
    at = METRICS.index(metric)
    value = float(table.scored.metrics[row, at])
    return None if np.isnan(value) else value, float(table.scored.points[row, at])
