"""Everyone as they were at the end of a day: what a model is fitted to, and what it is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import Customer, CustomerSnapshot, empty_state
from enrichment.customer.validation import Horizons, topic_of
from enrichment.days import day_of
from enrichment.lifetime.lifetime_value import RECENT_DAYS
from enrichment.model import Model
from enrichment.scoring.features import Features, build_features, repeat_days_within
from schemas.events import Event
from schemas.rejection import Rejection

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All known customers, by id, with every record up to the end of a UTC day; no later one shows through.

    Customers who do not allow profiling on that day are left out: nothing is fitted to them either.
    """

    day: int
    customer_ids: tuple[str, ...]
    views: tuple[CustomerSnapshot, ...]
    denied: int
    """How many were left out."""
    refunds_without_order: int

    def __len__(self) -> int:
        return len(self.views)

    def also_in(self, later: Snapshot) -> Snapshot:
        """Those of its customers who are in a later one too: of the others it is not known what they did since."""
        kept = [place for place, found in enumerate(later.positions(self.customer_ids)) if found >= 0]
        return self._at(kept)

    def only(self, customer_ids: Container[str]) -> Snapshot:
        """Those of its customers whose ids are among these."""
        return self._at([place for place, own in enumerate(self.customer_ids) if own in customer_ids])

    def _at(self, places: Sequence[int]) -> Snapshot:
        return replace(
            self,
            customer_ids=tuple(self.customer_ids[place] for place in places),
            views=tuple(self.views[place] for place in places),
        )

    def features(self, model: Model) -> Features:
        """One row per customer, in the order of `customer_ids`, as seen on the snapshot's day."""
        return build_features(self.views, np.arange(len(self)), np.full(len(self), self.day), model)

    def positions(self, customer_ids: Sequence[str]) -> Ints:
        """Where these customers are in the snapshot; -1 for those who are not in it."""
        at = {customer_id: place for place, customer_id in enumerate(self.customer_ids)}
        return np.array([at.get(customer_id, -1) for customer_id in customer_ids], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Histories:
    """Purchase days of all customers with a counted order, as the models of `lifetime_value` take them.

    `at` is each one's place in the snapshot. `x` is the number of purchase days after the first, `t_x` the time of the
    last and `T` of the snapshot, both from the first, in whole days divided by `unit_days`. `mean_spend` is that of the
    `spend_days`, the purchase days after the first on which counted orders came to more than zero (base units; NaN
    without such a day). `recent`, (customers, 3), are the purchase days after the first within the last `RECENT_DAYS`.
    """

    unit_days: float
    at: Ints
    x: Floats
    t_x: Floats
    T: Floats
    spend_days: Floats
    mean_spend: Floats
    recent: Floats

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, snapshot: Snapshot, unit_days: float) -> Histories:
        """The histories that a snapshot holds."""
        rows = [
            (place, view.money.totals)
            for place, view in enumerate(snapshot.views)
            if view.money.totals.orders > 0
        ]
        table = np.array(
            [
                (
                    place,
                    totals.first_day,
                    totals.last_day,
                    totals.purchase_days,
                    totals.repeat_spend_days,
                    totals.repeat_spend_micros,
                )
                for place, totals in rows
            ],
            dtype=np.int64,
        ).reshape(len(rows), 6)
        at, first, last, days, spend_days, spend_micros = table.T
        mean = np.divide(spend_micros / 1e6, spend_days, out=np.full(len(rows), np.nan), where=spend_days > 0)
        return cls(
            unit_days,
            at=at,
            x=(days - 1).astype(np.float64),
            t_x=(last - first) / unit_days,
            T=(snapshot.day - first) / unit_days,
            spend_days=spend_days.astype(np.float64),
            mean_spend=mean,
            recent=_recent(snapshot, at),
        )


def _recent(snapshot: Snapshot, at: Ints) -> Floats:
    today = np.array([snapshot.day])
    counts = [repeat_days_within(snapshot.views[place], today) for place in at.tolist()]
    return np.concatenate(counts).astype(np.float64) if counts else np.zeros((0, len(RECENT_DAYS)))


@dataclass(frozen=True, slots=True)
class Later:
    """What came of customers in a later period: purchase days, revenue and margin (base units), per customer."""

    purchase_days: Ints
    revenue: Floats
    margin: Floats


def between(end: Snapshot, customer_ids: Sequence[str], after_day: int) -> Later:
    """What these customers did after a day, up to the end of `end`'s, by what is known at `end`.

    A customer who is not in `end` any more did nothing; no more than about 800 days are looked at.
    """
    counts = np.zeros((len(customer_ids), 3), dtype=np.int64)
    for row, place in enumerate(end.positions(customer_ids)):
        if place < 0:
            continue
        columns = end.views[place].money.columns  # day, orders, counted, revenue, margin, refunded, refunds
        late = columns[columns[:, 0] > after_day]
        counts[row] = np.count_nonzero(late[:, 1]), late[:, 3].sum(), late[:, 4].sum()
    return Later(counts[:, 0].copy(), counts[:, 1] / 1e6, counts[:, 2] / 1e6)


def take_snapshots(
    events: Iterable[Event],
    days: Sequence[int],
    model: Model,
    horizons: Horizons | None = None,
    outcomes: Counter[tuple[str, str]] | None = None,
    refuse: Callable[[int, Rejection], None] | None = None,
) -> Iterator[Snapshot]:
    """Snapshots at the ends of these days, ascending, from records in the order of replay.

    Nothing is decided on the way; duplicates, late records and erasures are treated as live. What became of each record
    is counted in `outcomes`, by topic and outcome; `refuse` is told which record was refused, counted from 0, and why.
    Records after the last day are not looked at.
    """
    customers: dict[str, Customer] = {}
    pending = list(days)
    horizons = horizons or Horizons()
    for at, event in enumerate(events):
        while pending and day_of(event.occurred_at_us) > pending[0]:
            yield _snapshot(pending.pop(0), customers)
        if not pending:
            return
        customer = customers.get(event.customer_id)
        if customer is None:
            customer = customers[event.customer_id] = Customer(event.customer_id, empty_state(), model)
        effect = customer.apply(event, horizons, 0)
        if outcomes is not None:
            outcomes[topic_of(event), "dead_letter" if isinstance(effect, Rejection) else effect.outcome] += 1
        if refuse is not None and isinstance(effect, Rejection):
            refuse(at, effect)
    for day in pending:
        yield _snapshot(day, customers)


def _snapshot(day: int, customers: dict[str, Customer]) -> Snapshot:
    kept: list[tuple[str, CustomerSnapshot]] = []
    denied = refunds = 0
    for customer_id, customer in sorted(customers.items()):
        if not customer.is_known:
            continue
        customer.forget_unallowed(day)
        view = customer.snapshot()
        if view.permissions.profiling_until_day < day:
            denied += 1
            continue
        kept.append((customer_id, view))
        entries = customer.state.orders.entries.values()
        waiting = (entry.refunds for entry in entries if entry.ordered_on is None)
        refunds += sum(refund.count for of_entry in waiting for refund in of_entry)
    return Snapshot(
        day,
        tuple(customer_id for customer_id, _ in kept),
        tuple(view for _, view in kept),
        denied,
        refunds,
    )
