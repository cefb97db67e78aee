"""Feature rows: aggregates of many customers on many days at once, as columns.

A row is a snapshot (a customer at one moment) seen on a day. All windows of N days end with that day. Money is
exact: int64 base micro-units, of which window sums are taken as differences of running sums (exact modulo
2^64, and one customer's sums are kept below 2^61).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import ENGAGED_DAY, CustomerSnapshot
from enrichment.customer.engagement import COST_WINDOW_DAYS, COUNT_WINDOW_DAYS
from enrichment.customer.orders import DAY_BYTES, NUMBERS
from enrichment.customer.orders import NO_DAY as NO_DAY
from enrichment.lifetime.lifetime_value import RECENT_DAYS
from enrichment.model import Model

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_DAYS_PER_VIEW = 1 << 25


@dataclass(frozen=True, slots=True)
class Features:
    """One array per aggregate, one element per row; `NO_DAY` and NaN stand for what is not defined.

    `repeat_days_*` are the purchase days of a window, the customer's first one left out; they are counted only for a
    model whose family of purchases looks back, and 0 for any other.
    """

    snapshots: Sequence[CustomerSnapshot]
    snapshot_at: Ints
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
    repeat_days_30d: Ints
    repeat_days_90d: Ints
    repeat_days_180d: Ints
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

    @property
    def recent(self) -> Ints:
        """What families that look back take as `recent`: shape (rows, 3), by `lifetime_value.RECENT_DAYS`."""
        return np.stack([self.repeat_days_30d, self.repeat_days_90d, self.repeat_days_180d], axis=1)

    def snapshot(self, row: int) -> CustomerSnapshot:
        """The customer that a row is about."""
        return self.snapshots[int(self.snapshot_at[row])]


def build_features(
    snapshots: Sequence[CustomerSnapshot], snapshot_at: Ints, day: Ints, model: Model
) -> Features:
    """The rows (`snapshots[snapshot_at[i]]` on `day[i]`) for all i at once; no day is before its snapshot's newest."""
    totals = _ints([snapshot.money.packed_totals for snapshot in snapshots]).reshape(len(snapshots), 9)[
        snapshot_at
    ]
    last_engaged_day = np.array(
        [
            NO_DAY if snapshot.last_engaged_day is None else snapshot.last_engaged_day
            for snapshot in snapshots
        ],
        dtype=np.int64,
    )
    cost_to_acquire_micros = np.array(
        [snapshot.cost_to_acquire_micros for snapshot in snapshots], dtype=np.int64
    )
    profiling_until_day = np.array(
        [snapshot.permissions.profiling_until_day for snapshot in snapshots], dtype=np.int64
    )
    declared = np.array(
        [np.nan if snapshot.declared_intent is None else snapshot.declared_intent for snapshot in snapshots],
        dtype=np.float64,
    )
    days = _ints([snapshot.money.packed for snapshot in snapshots]).reshape(-1, NUMBERS)
    money = _Windows(
        days[:, 0], [len(snapshot.money.packed) // DAY_BYTES for snapshot in snapshots], snapshot_at, day
    )
    orders, counted, revenue, margin, refunds = (_running_sums(days[:, at]) for at in (1, 2, 3, 4, 6))
    repeated = _repeat_days(money, days[:, 1], totals[:, 0], day, model)
    contacts = np.frombuffer(b"".join([snapshot.engaged for snapshot in snapshots]), dtype=ENGAGED_DAY)
    engaged = _Windows(
        contacts["day"],
        [len(snapshot.engaged) // ENGAGED_DAY.itemsize for snapshot in snapshots],
        snapshot_at,
        day,
    )
    return Features(
        snapshots=snapshots,
        snapshot_at=snapshot_at,
        day=day,
        profiling_allowed=day <= profiling_until_day[snapshot_at],
        first_order_day=totals[:, 0],
        last_order_day=totals[:, 1],
        last_engaged_day=last_engaged_day[snapshot_at],
        order_count=totals[:, 2],
        purchase_days=totals[:, 3],
        revenue_micros=totals[:, 4],
        refunded_micros=totals[:, 6],
        margin_micros=totals[:, 5],
        repeat_spend_days=totals[:, 7],
        repeat_spend_micros=totals[:, 8],
        order_count_30d=money.within(30, orders),
        order_count_90d=money.within(90, orders),
        order_count_365d=money.within(365, orders),
        repeat_days_30d=repeated[0],
        repeat_days_90d=repeated[1],
        repeat_days_180d=repeated[2],
        revenue_30d_micros=money.within(30, revenue),
        revenue_90d_micros=money.within(90, revenue),
        revenue_365d_micros=money.within(365, revenue),
        margin_365d_micros=money.within(365, margin),
        counted_365d_micros=money.within(365, counted),
        cost_to_serve_365d_micros=engaged.within(COST_WINDOW_DAYS, _running_sums(contacts["cost_micros"]))
        + money.within(COST_WINDOW_DAYS, refunds) * model.cost_per_refund_micros,
        cost_to_acquire_micros=cost_to_acquire_micros[snapshot_at],
        weighted_engagement_90d=engaged.decayed(
            COUNT_WINDOW_DAYS, contacts["points"], model.engagement.half_life_days
        ),
        consent_breadth=_breadth(snapshots, snapshot_at, day),
        declared_intent=declared[snapshot_at],
    )


def repeat_days_within(snapshot: CustomerSnapshot, days: Ints) -> Ints:
    """One customer's purchase days after the first within windows that end on these days: shape (days, 3).

    The windows are `RECENT_DAYS`; what was bought after a day is not in its windows.
    """
    columns, first_day = snapshot.money.columns, snapshot.money.totals.first_day
    bought = columns[columns[:, 1] > 0, 0]
    bought = bought[bought != first_day]
    end = np.searchsorted(bought, days, side="right")
    starts = [np.searchsorted(bought, days - window, side="right") for window in RECENT_DAYS]
    return np.stack([end - start for start in starts], axis=1).astype(np.int64)


def _repeat_days(money: _Windows, orders: Ints, first_order_day: Ints, day: Ints, model: Model) -> list[Ints]:
    """Per window of `RECENT_DAYS`, each row's purchase days in it, the first one left out; 0 if nobody asks."""
    if not model.lifetime_value.purchase_model.looks_back:
        return [np.zeros(len(day), dtype=np.int64)] * len(RECENT_DAYS)
    purchases = _running_sums((orders > 0).astype(np.int64))
    return [
        money.within(window, purchases) - ((first_order_day > day - window) & (first_order_day <= day))
        for window in RECENT_DAYS
    ]


def _ints(parts: Sequence[bytes]) -> Ints:
    return np.frombuffer(b"".join(parts), dtype=np.int64)


def _running_sums(values: Ints) -> Ints:
    """Running sums from before the first value on."""
    running = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=running[1:])
    return running


class _Windows:
    """Day buckets of all snapshots in one row after another, and which of them each row's windows hold.

    `bucket_day` has the days of all snapshots, ascending within each; `sizes` how many are whose.
    """

    def __init__(self, bucket_day: Ints, sizes: Sequence[int], snapshot_at: Ints, day: Ints) -> None:
        self._bucket_day = bucket_day
        of_view = np.repeat(np.arange(len(sizes), dtype=np.int64), np.array(sizes, dtype=np.int64))
        self._keys = of_view * _DAYS_PER_VIEW + self._bucket_day
        self._row_key = snapshot_at * _DAYS_PER_VIEW + day
        self._day = day
        self._end = np.searchsorted(self._keys, self._row_key, side="right")
        self._starts: dict[int, npt.NDArray[np.intp]] = {}

    def _start(self, window_days: int) -> npt.NDArray[np.intp]:
        if window_days not in self._starts:
            self._starts[window_days] = np.searchsorted(self._keys, self._row_key - window_days, side="right")
        return self._starts[window_days]

    def within(self, window_days: int, running: Ints) -> Ints:
        """Per row, the sum over the days of its window, as a difference of `_running_sums`."""
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


def _breadth(snapshots: Sequence[CustomerSnapshot], snapshot_at: Ints, day: Ints) -> Ints:
    """How many channels may be used on each row's day."""
    channels = [snapshot.permissions.channels for snapshot in snapshots]
    widest = max(map(len, channels), default=0)
    if widest == 0:
        return np.zeros(len(day), dtype=np.int64)
    sizes = np.array(list(map(len, channels)), dtype=np.int64)
    last_days = np.full((len(snapshots), widest), NO_DAY)
    held = np.arange(widest) < sizes[:, None]
    last_days[held] = [last_day for of_view in channels for _, last_day in of_view]
    return np.asarray((last_days[snapshot_at] >= day[:, None]).sum(axis=1), dtype=np.int64)
