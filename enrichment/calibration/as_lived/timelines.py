"""Purchase days and standings over time, as arrays: what was true of a customer at the end of a day.

Customers are places in a list, such as the ids of a snapshot. Days are UTC days since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.snapshot import Snapshot
from enrichment.days import FOREVER_DAY, day_of
from enrichment.scoring.features import NO_DAY
from schemas.changes import LEVELS
from schemas.documents import ChangeDocument
from schemas.profiles import DIMENSIONS, Dimension
from schemas.timestamps import parse_timestamp

Ints = npt.NDArray[np.int64]

NO_STANDING: Final = -1
"""In place of a rank, for a customer without a standing."""


def _keys(customer: Ints, day: Ints) -> Ints:
    """One number each that sorts by customer, then day."""
    return customer * FOREVER_DAY + day


@dataclass(frozen=True, slots=True)
class PurchaseDays:
    """Days with a counted order, sorted by customer and day; `number` counts each customer's from 1."""

    customer: Ints
    day: Ints
    number: Ints

    @classmethod
    def of(cls, snapshot: Snapshot) -> PurchaseDays:
        """Those that a snapshot knows: in detail about 800 days of them, which `number` goes on counting."""
        customers, days, numbers = [], [], []
        for place, view in enumerate(snapshot.views):
            columns = view.money.columns  # day, orders, ...
            found = columns[columns[:, 1] > 0, 0]
            customers.append(np.full(len(found), place))
            days.append(found)
            numbers.append(np.arange(len(found)) + view.money.totals.purchase_days - len(found) + 1)
        return cls(*(np.concatenate([np.zeros(0, np.int64), *part]) for part in (customers, days, numbers)))

    def last_by(self, customer: Ints, day: Ints) -> Ints:
        """Each customer's last purchase day that is not after a day; NO_DAY without one."""
        return _of(customer, self.customer, self.day, self._after(customer, day) - 1, NO_DAY)

    def next_after(self, customer: Ints, day: Ints) -> Ints:
        """Each customer's first purchase day after a day; FOREVER_DAY without one."""
        return _of(customer, self.customer, self.day, self._after(customer, day), FOREVER_DAY)

    def _after(self, customer: Ints, day: Ints) -> Ints:
        return np.searchsorted(_keys(self.customer, self.day), _keys(customer, day), side="right")


@dataclass(frozen=True, slots=True)
class Moves:
    """Changes of one dimension, sorted by customer and day, those of a day in their order; standings as ranks.

    A rank is a position in `LEVELS`, from the top; NO_STANDING stands for null.
    """

    customer: Ints
    day: Ints
    previous: Ints
    current: Ints

    def __len__(self) -> int:
        return len(self.day)

    def at(self, customer: Ints, day: Ints) -> Ints:
        """Each customer's rank at the end of a day: that of their last change up to then."""
        return _of(customer, self.customer, self.current, self._after(customer, day) - 1, NO_STANDING)

    def first_day_in(self, ranks: Iterable[int], customer: Ints, from_day: Ints) -> Ints:
        """The first day, not before `from_day`, at whose end each customer has one of these ranks; else FOREVER_DAY."""
        chosen = np.array(list(ranks))
        ends = self._of_days()
        is_in = np.isin(ends.current, chosen)
        # For each change of a day, the first one from there on, of whichever customer, that leads into the ranks.
        places = np.where(is_in, np.arange(len(ends)), len(ends))
        following = np.append(np.minimum.accumulate(places[::-1])[::-1], len(ends))
        at = following[ends._after(customer, from_day)]
        later = _of(customer, ends.customer, ends.day, at, FOREVER_DAY)
        return np.where(np.isin(self.at(customer, from_day), chosen), from_day, later)

    def _of_days(self) -> Moves:
        """The last change of each customer's day."""
        keys = _keys(self.customer, self.day)
        last = np.append(keys[1:] != keys[:-1], True) if len(self) else np.zeros(0, dtype=np.bool_)
        return Moves(self.customer[last], self.day[last], self.previous[last], self.current[last])

    def _after(self, customer: Ints, day: Ints) -> Ints:
        return np.searchsorted(_keys(self.customer, self.day), _keys(customer, day), side="right")


def moves_of(changes: Iterable[ChangeDocument], customer_ids: Iterable[str]) -> dict[Dimension, Moves]:
    """The moves of each dimension, of these customers only; each customer's changes must be in their order."""
    places: Mapping[str, int] = {customer_id: place for place, customer_id in enumerate(customer_ids)}
    rank_of = {
        dimension: {name: rank for rank, name in enumerate(LEVELS[dimension])} for dimension in DIMENSIONS
    }
    rows: dict[str, list[tuple[int, int, int, int]]] = {dimension: [] for dimension in DIMENSIONS}
    for change in changes:
        place = places.get(change["customer_id"])
        if place is None:
            continue
        ranks = rank_of[change["dimension"]]  # type: ignore[index]  # a dimension, by its schema
        rows[change["dimension"]].append(
            (
                place,
                day_of(parse_timestamp(change["as_of"])),
                NO_STANDING if change["previous"] is None else ranks[change["previous"]],
                NO_STANDING if change["current"] is None else ranks[change["current"]],
            )
        )
    return {dimension: _moves(rows[dimension]) for dimension in DIMENSIONS}


def _moves(rows: list[tuple[int, int, int, int]]) -> Moves:
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 4)
    order = np.lexsort((table[:, 1], table[:, 0]))  # stable
    return Moves(*table[order].T)


def _of(customer: Ints, customers: Ints, values: Ints, at: Ints, otherwise: int) -> Ints:
    """The values at these places, where the place is one of the array and of the customer asked for."""
    if not len(customers):
        return np.full(len(at), otherwise, dtype=np.int64)
    held = np.clip(at, 0, len(customers) - 1)
    return np.where((held == at) & (customers[held] == customer), values[held], otherwise)
