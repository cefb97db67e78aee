"""Feature rows: aggregates of many customers on many days at once, as columns.

A row is a view (a customer at one moment) seen on a day. All windows of N days end with that day. Money is
exact: int64 base micro-units, of which window sums are taken as differences of running sums (exact modulo
2^64, and one customer's sums are kept below 2^61).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.customer import View
from enrichment.days import FOREVER_DAY
from enrichment.engagement import COST_WINDOW_DAYS, COUNT_WINDOW_DAYS
from enrichment.model import Model

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NO_DAY = -1
_DAYS_PER_VIEW = 1 << 25


@dataclass(frozen=True, slots=True)
class Features:
    """One array per aggregate, one element per row; `NO_DAY` and NaN stand for what is not defined."""

    views: Sequence[View]
    view_at: Ints
    day: Ints
    profiling_allowed: Bools
    first_order_day: Ints
    last_order_day: Ints
    last_engaged_day: Ints
    order_count: Ints
    purchase_days: Ints
    revenue_micros: Ints
    refunded_micros: Ints
    margin_micros: Ints
    repeat_spend_days: Ints
    repeat_spend_micros: Ints
    order_count_30d: Ints
    order_count_90d: Ints
    order_count_365d: Ints
    revenue_30d_micros: Ints
    revenue_90d_micros: Ints
    revenue_365d_micros: Ints
    margin_365d_micros: Ints
    counted_365d_micros: Ints
    cost_to_serve_365d_micros: Ints
    cost_to_acquire_micros: Ints
    weighted_engagement_90d: Floats
    consent_breadth: Ints
    declared_intent: Floats

    def __len__(self) -> int:
        return len(self.day)

    def view(self, row: int) -> View:
        """The customer that a row is about."""
        return self.views[int(self.view_at[row])]


def build_features(views: Sequence[View], view_at: Ints, day: Ints, model: Model) -> Features:
    """The rows (`views[view_at[i]]` on `day[i]`) for all i at once; no day is before its view's newest."""
    totals = np.array(
        [
            (
                NO_DAY if view.money.totals.first_day is None else view.money.totals.first_day,
                NO_DAY if view.money.totals.last_day is None else view.money.totals.last_day,
                NO_DAY if view.last_engaged_day is None else view.last_engaged_day,
                view.money.totals.orders,
                view.money.totals.purchase_days,
                view.money.totals.revenue_micros,
                view.money.totals.refunded_micros,
                view.money.totals.margin_micros,
                view.money.totals.repeat_spend_days,
                view.money.totals.repeat_spend_micros,
                view.cost_to_acquire_micros,
                min(view.permissions.profiling_until_day, FOREVER_DAY),
            )
            for view in views
        ],
        dtype=np.int64,
    ).reshape(len(views), 12)[view_at]
    money = _Windows([view.money.columns for view in views], view_at, day)
    orders, counted = money.sums(1), money.sums(2)
    revenue, margin, refunds = money.sums(3), money.sums(4), money.sums(6)
    engaged = _Windows([view.engaged.columns for view in views], view_at, day)
    points = np.concatenate([view.engaged.points for view in views]) if views else np.zeros(0)
    declared = np.array(
        [np.nan if view.declared_intent is None else view.declared_intent for view in views], dtype=np.float64
    )
    return Features(
        views=views,
        view_at=view_at,
        day=day,
        profiling_allowed=day <= totals[:, 11],
        first_order_day=totals[:, 0],
        last_order_day=totals[:, 1],
        last_engaged_day=totals[:, 2],
        order_count=totals[:, 3],
        purchase_days=totals[:, 4],
        revenue_micros=totals[:, 5],
        refunded_micros=totals[:, 6],
        margin_micros=totals[:, 7],
        repeat_spend_days=totals[:, 8],
        repeat_spend_micros=totals[:, 9],
        order_count_30d=money.within(30, orders),
        order_count_90d=money.within(90, orders),
        order_count_365d=money.within(365, orders),
        revenue_30d_micros=money.within(30, revenue),
        revenue_90d_micros=money.within(90, revenue),
        revenue_365d_micros=money.within(365, revenue),
        margin_365d_micros=money.within(365, margin),
        counted_365d_micros=money.within(365, counted),
        cost_to_serve_365d_micros=engaged.within(COST_WINDOW_DAYS, engaged.sums(1))
        + money.within(COST_WINDOW_DAYS, refunds) * model.cost_per_refund_micros,
        cost_to_acquire_micros=totals[:, 10],
        weighted_engagement_90d=engaged.decayed(COUNT_WINDOW_DAYS, points, model.engagement.half_life_days),
        consent_breadth=_breadth(views, view_at, day),
        declared_intent=declared[view_at],
    )


class _Windows:
    """Day buckets of all views in one row after another, and which of them each row's windows hold.

    `columns` has, per view, an array of (days, numbers) whose first number is the day, ascending.
    """

    def __init__(self, columns: Sequence[Ints], view_at: Ints, day: Ints) -> None:
        sizes = np.fromiter(map(len, columns), dtype=np.int64, count=len(columns))
        self._columns = np.concatenate(columns) if columns else np.zeros((0, 1), dtype=np.int64)
        self._bucket_day = self._columns[:, 0]
        of_view = np.repeat(np.arange(len(columns), dtype=np.int64), sizes)
        self._keys = of_view * _DAYS_PER_VIEW + self._bucket_day
        self._row_key = view_at * _DAYS_PER_VIEW + day
        self._day = day
        self._end = np.searchsorted(self._keys, self._row_key, side="right")
        self._starts: dict[int, npt.NDArray[np.intp]] = {}

    def _start(self, window_days: int) -> npt.NDArray[np.intp]:
        if window_days not in self._starts:
            self._starts[window_days] = np.searchsorted(self._keys, self._row_key - window_days, side="right")
        return self._starts[window_days]

    def sums(self, at: int) -> Ints:
        """Running sums of one column, from before the first bucket on."""
        running = np.zeros(len(self._bucket_day) + 1, dtype=np.int64)
        np.cumsum(self._columns[:, at], out=running[1:])
        return running

    def within(self, window_days: int, running: Ints) -> Ints:
        """Per row, the sum over the days of its window."""
        return running[self._end] - running[self._start(window_days)]

    def decayed(self, window_days: int, points: Floats, half_life_days: float) -> Floats:
        """Per row, the sum over its window of the buckets' points, which halve every `half_life_days`.

        Each row adds up its own buckets, in their order, so that no row depends on any other.
        """
        start = self._start(window_days)
        counts = self._end - start
        row = np.repeat(np.arange(len(counts)), counts)
        within_row = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        bucket = np.repeat(start, counts) + within_row
        decay = np.exp2(-np.arange(window_days) / half_life_days)
        weights = points[bucket] * decay[self._day[row] - self._bucket_day[bucket]]
        return np.bincount(row, weights=weights, minlength=len(counts)).astype(np.float64)


def _breadth(views: Sequence[View], view_at: Ints, day: Ints) -> Ints:
    """How many channels may be used on each row's day."""
    widest = max((len(view.permissions.channels) for view in views), default=0)
    if widest == 0:
        return np.zeros(len(day), dtype=np.int64)
    last_days = np.array(
        [
            [last_day for _, last_day in view.permissions.channels]
            + [-1] * (widest - len(view.permissions.channels))
            for view in views
        ],
        dtype=np.int64,
    )
    return np.asarray((last_days[view_at] >= day[:, None]).sum(axis=1), dtype=np.int64)
