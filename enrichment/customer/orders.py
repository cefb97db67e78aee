"""The order ledger: orders, updates, refunds and cancellations as one customer's exact money, by UTC day.

Records of one order converge to the same money whatever the order in which they arrive: an entry keeps the
earliest `order`, the latest version, whether it was cancelled, and every refund, and what it contributes to
each day is computed from those alone. `MoneyHistory` is the sum of all contributions, kept as immutable day
buckets.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable
from fractions import Fraction
from operator import itemgetter
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from enrichment.days import day_of
from enrichment.model import Model
from enrichment.money import MAX_STORED, convert_micros, divide_half_even
from schemas.events import MAX_NAME_CHARACTERS, Purchase

MONEY_ONLY_AFTER_DAYS = 400
"""A record more than so many days after its order's day changes money only."""


class Version(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What one `order` or `order_updated` says: money in its own currency and in the base currency.

    `rate` is the exact rate of the conversion as a fraction, empty for the base currency.
    """

    occurred_at_us: int
    event_id: str
    currency: str
    total_micros: int
    base_total_micros: int
    base_cost_micros: int
    rate: str = ""
    categories: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, str]:
        """The order in which versions override each other."""
        return self.occurred_at_us, self.event_id


class Refund(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Money given back on a day. A late one (see `apply_purchase`) cannot make its order uncounted.

    Refunds of one order and day that differ in nothing but their amounts are held as one, of `count` records: however
    many there are, what the order adds to each day is told at the cost of its days.
    """

    day: int
    late: bool
    currency: str
    amount_micros: int
    base_amount_micros: int
    base_cost_micros: int
    rate: str = ""
    count: int = 1

    def with_more(self, other: Refund) -> Refund | None:
        """Both as one; None where they differ in more than their amounts, or 64 bits do not hold the sum."""
        if (self.day, self.late, self.currency, self.rate) != (
            other.day,
            other.late,
            other.currency,
            other.rate,
        ):
            return None
        amount_micros = self.amount_micros + other.amount_micros
        if amount_micros > MAX_STORED:
            return None
        return Refund(
            self.day,
            self.late,
            self.currency,
            amount_micros,
            self.base_amount_micros + other.base_amount_micros,
            self.base_cost_micros + other.base_cost_micros,
            self.rate,
            self.count + other.count,
        )


class Entry(msgspec.Struct, array_like=True, gc=False):
    """Everything known about one order. Without `ordered_on` its `order` has not come."""

    ordered_on: int | None = None
    version: Version | None = None
    late_version: Version | None = None
    cancelled: bool = False
    cancelled_late: bool = False
    refunds: list[Refund] = []
    newest_day: int = 0


NUMBERS = 7
"""How many of a day's fields are numbers: all but the categories."""
NO_DAY = -1
"""Stands in arrays for a day that is not defined."""

DAY_BYTES = 8 * NUMBERS

_pack_day = struct.Struct(f"<{NUMBERS}q").pack
_pack_totals = struct.Struct("<9q").pack
_day_of_bucket = itemgetter(0)


class DayMoney(NamedTuple):
    """One UTC day of one customer's counted orders and money; money in base micro-units."""

    day: int
    orders: int = 0
    counted_micros: int = 0
    revenue_micros: int = 0
    margin_micros: int = 0
    refunded_micros: int = 0
    refunds: int = 0
    categories: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of this day."""
        return not any(self[1:])

    @property
    def packed(self) -> bytes:
        """The numbers as int64, in the order of the fields."""
        return _pack_day(*self[:NUMBERS])


class Folded(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Days so old that no record can change them, as lifetime totals."""

    first_day: int | None = None
    last_day: int | None = None
    orders: int = 0
    purchase_days: int = 0
    revenue_micros: int = 0
    margin_micros: int = 0
    refunded_micros: int = 0
    repeat_spend_days: int = 0
    repeat_spend_micros: int = 0

    def with_days(self, buckets: Iterable[DayMoney]) -> Folded:
        """The totals with more days, given in ascending order and younger than all that are in."""
        first_day, last_day = self.first_day, self.last_day
        orders, purchase_days = self.orders, self.purchase_days
        revenue, margin, refunded = self.revenue_micros, self.margin_micros, self.refunded_micros
        repeat_days, repeat_spend = self.repeat_spend_days, self.repeat_spend_micros
        for bucket in buckets:
            revenue += bucket.revenue_micros
            margin += bucket.margin_micros
            refunded += bucket.refunded_micros
            if bucket.orders:
                if first_day is None:
                    first_day = bucket.day
                elif bucket.counted_micros > 0:
                    repeat_days += 1
                    repeat_spend += bucket.counted_micros
                last_day = bucket.day
                orders += bucket.orders
                purchase_days += 1
        return Folded(
            first_day, last_day, orders, purchase_days, revenue, margin, refunded, repeat_days, repeat_spend
        )

    @property
    def packed(self) -> bytes:
        """All totals as int64, in the order of the fields."""
        first_day = NO_DAY if self.first_day is None else self.first_day
        last_day = NO_DAY if self.last_day is None else self.last_day
        return _pack_totals(
            first_day,
            last_day,
            self.orders,
            self.purchase_days,
            self.revenue_micros,
            self.margin_micros,
            self.refunded_micros,
            self.repeat_spend_days,
            self.repeat_spend_micros,
        )


class MoneyHistory:
    """A customer's purchases at one moment: day buckets in ascending order, and lifetime totals. Immutable.

    `repeat_spend_*` covers purchase days after the first whose counted orders came to more than zero: the
    mean spend per repeat purchase day that Gamma-Gamma takes. `packed` and `packed_totals` are the same numbers as
    bytes of int64: arrays of many customers are made by joining them.
    """

    __slots__ = ("buckets", "packed", "packed_totals", "totals")

    def __init__(self, buckets: tuple[DayMoney, ...], totals: Folded, packed: bytes | None = None) -> None:
        self.buckets = buckets
        self.totals = totals
        self.packed = b"".join(bucket.packed for bucket in buckets) if packed is None else packed
        self.packed_totals = totals.packed

    @property
    def columns(self) -> npt.NDArray[np.int64]:
        """The buckets' numbers, (days, 7), in the order of `DayMoney`'s fields."""
        return np.frombuffer(self.packed, dtype=np.int64).reshape(-1, NUMBERS)

    @classmethod
    def of(cls, buckets: tuple[DayMoney, ...], folded: Folded) -> MoneyHistory:
        """The history of these days and of those that were folded away before them."""
        return cls(buckets, folded.with_days(buckets))

    def with_later_day(self, bucket: DayMoney) -> MoneyHistory:
        """The history with one more day, after all others."""
        totals = self.totals.with_days((bucket,))
        return MoneyHistory((*self.buckets, bucket), totals, self.packed + bucket.packed)

    def without_days_before(self, at: int) -> MoneyHistory:
        """The history without its first `at` buckets, which stay in the totals."""
        return MoneyHistory(self.buckets[at:], self.totals, self.packed[at * DAY_BYTES :])


class Ledger(msgspec.Struct, array_like=True, gc=False):
    """One customer's orders, by order id, and what was folded away."""

    entries: dict[str, Entry] = {}
    folded: Folded = Folded()
    gross_micros: int = 0
    newest_day: int = 0


class PurchaseEffect(NamedTuple):
    """Whether a record was an `order` sent again, and whether it brought a new counted order."""

    repeated_order: bool
    new_counted_order: bool


def apply_purchase(
    ledger: Ledger, history: MoneyHistory, purchase: Purchase, model: Model, late_after_days: int
) -> tuple[MoneyHistory, PurchaseEffect]:
    """Enter one accepted record in the ledger; gives the new history.

    A record dated more than `late_after_days` UTC days after its order's day changes money only.
    """
    entry = ledger.entries.get(purchase.order_id)
    if entry is None:
        entry = ledger.entries[purchase.order_id] = Entry()
        before: tuple[DayMoney, ...] = ()
        counted_before = False
    else:
        before = _contributions(entry)
        counted_before = _is_counted(entry)
    repeated_order = purchase.kind == "order" and entry.ordered_on is not None
    _enter(entry, ledger, purchase, model, late_after_days)
    after = _contributions(entry)
    if before == after:
        later = history
    elif not before and len(after) == 1 and _is_later(after[0], history) and not after[0].is_empty:
        later = history.with_later_day(after[0])
    else:
        later = MoneyHistory.of(_replaced(history.buckets, *_differing(before, after)), ledger.folded)
    buckets = _fold(ledger, later.buckets, day_of(purchase.occurred_at_us), 2 * late_after_days)
    effect = PurchaseEffect(
        repeated_order,
        purchase.kind == "order" and not counted_before and not repeated_order and _is_counted(entry),
    )
    if len(buckets) < len(later.buckets):
        later = later.without_days_before(len(later.buckets) - len(buckets))
    return later, effect


def history_of(ledger: Ledger) -> MoneyHistory:
    """The history that a stored ledger stands for."""
    by_day: dict[int, DayMoney] = {}
    for entry in ledger.entries.values():
        for part in _contributions(entry):
            known = by_day.get(part.day)
            by_day[part.day] = part if known is None else _combined(known, part, 1)
    buckets = [by_day[day] for day in sorted(by_day)]
    held = tuple([bucket for bucket in buckets if bucket.orders or not bucket.is_empty])
    return MoneyHistory.of(held, ledger.folded)


def _enter(entry: Entry, ledger: Ledger, purchase: Purchase, model: Model, late_after_days: int) -> None:
    day = day_of(purchase.occurred_at_us)
    late = entry.ordered_on is not None and day > entry.ordered_on + late_after_days
    rate = model.rate_by_currency[purchase.currency]
    rate_text = "" if rate == 1 else str(rate)
    base_amount_micros = convert_micros(purchase.total_micros, rate)
    ledger.gross_micros += base_amount_micros
    entry.newest_day = max(entry.newest_day, day)
    if purchase.kind == "cancellation":
        entry.cancelled |= not late
        entry.cancelled_late |= late
        return
    if purchase.cost_of_goods_micros is not None:
        base_cost_micros = convert_micros(purchase.cost_of_goods_micros, rate)
    else:
        ratio = model.cost_ratio_fraction
        base_cost_micros = divide_half_even(base_amount_micros * ratio.numerator, ratio.denominator)
    if purchase.kind == "refund":
        money = purchase.currency, purchase.total_micros, base_amount_micros, base_cost_micros, rate_text
        _add_refund(entry.refunds, Refund(day, late, *money))
        return
    if purchase.kind == "order" and (entry.ordered_on is None or day < entry.ordered_on):
        entry.ordered_on = day
    named = {item.category for item in purchase.items if item.category is not None}
    categories = tuple(sorted(name for name in named if len(name) <= MAX_NAME_CHARACTERS))
    version = Version(
        purchase.occurred_at_us,
        purchase.event_id,
        purchase.currency,
        purchase.total_micros,
        base_amount_micros,
        base_cost_micros,
        rate_text,
        categories,
    )
    if late:
        if entry.late_version is None or version.key > entry.late_version.key:
            entry.late_version = version
    elif entry.version is None or version.key > entry.version.key:
        entry.version = version


def _add_refund(refunds: list[Refund], refund: Refund) -> None:
    for at, known in enumerate(refunds):
        both = known.with_more(refund)
        if both is not None:
            refunds[at] = both
            return
    refunds.append(refund)


def _is_counted(entry: Entry) -> bool:
    """Counted orders are those not cancelled and not fully refunded; zero-total orders count."""
    if entry.ordered_on is None or entry.cancelled or entry.version is None:
        return False
    return not _is_fully_refunded(entry.version, entry.refunds)


def _is_fully_refunded(version: Version, refunds: list[Refund]) -> bool:
    """Total above zero and refunds not below it, compared in the order's currency."""
    if version.total_micros == 0 or not refunds:
        return False
    timely = [refund for refund in refunds if not refund.late]
    if all(refund.currency == version.currency for refund in timely):
        return sum(refund.amount_micros for refund in timely) >= version.total_micros
    refunded = sum(refund.amount_micros * Fraction(refund.rate or 1) for refund in timely)
    return refunded >= version.total_micros * Fraction(version.rate or 1)


def _contributions(entry: Entry) -> tuple[DayMoney, ...]:
    """What an entry adds to each day, at present."""
    version, ordered_on = entry.version, entry.ordered_on
    if version is None or ordered_on is None:
        return tuple(map(_refunded, entry.refunds))
    if entry.cancelled:
        return ()
    counted = _is_counted(entry)
    categories = version.categories if counted else ()
    if entry.cancelled_late:
        return (DayMoney(ordered_on, 1, categories=categories),) if counted else ()
    money = entry.late_version or version
    total_micros = money.base_total_micros
    margin_micros = total_micros - money.base_cost_micros
    counted_micros = total_micros if counted else 0
    day = DayMoney(ordered_on, int(counted), counted_micros, total_micros, margin_micros, 0, 0, categories)
    return (day, *map(_refunded, entry.refunds)) if entry.refunds else (day,)


def _refunded(refund: Refund) -> DayMoney:
    return DayMoney(
        refund.day,
        revenue_micros=-refund.base_amount_micros,
        margin_micros=refund.base_cost_micros - refund.base_amount_micros,
        refunded_micros=refund.base_amount_micros,
        refunds=refund.count,
    )


def _combined(left: DayMoney, right: DayMoney, sign: int) -> DayMoney:
    if sign > 0:
        categories = (
            tuple(sorted(left.categories + right.categories)) if right.categories else left.categories
        )
    else:
        remaining = list(left.categories)
        for category in right.categories:
            remaining.remove(category)
        categories = tuple(remaining)
    return DayMoney(
        left.day,
        left.orders + sign * right.orders,
        left.counted_micros + sign * right.counted_micros,
        left.revenue_micros + sign * right.revenue_micros,
        left.margin_micros + sign * right.margin_micros,
        left.refunded_micros + sign * right.refunded_micros,
        left.refunds + sign * right.refunds,
        categories,
    )


def _differing(
    before: tuple[DayMoney, ...], after: tuple[DayMoney, ...]
) -> tuple[list[DayMoney], list[DayMoney]]:
    """What `before` has and `after` has not, and the reverse; the same parts are mostly in the same places."""
    differing = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
    same = min(len(before), len(after))
    return [old for old, _ in differing] + list(before[same:]), [new for _, new in differing] + list(
        after[same:]
    )


def _replaced(
    buckets: tuple[DayMoney, ...], taken: Iterable[DayMoney], added: Iterable[DayMoney]
) -> tuple[DayMoney, ...]:
    """The buckets without what `taken` had put in, and with `added`; empty days are left out."""
    days = list(buckets)
    for parts, sign in ((added, 1), (taken, -1)):
        for part in parts:
            at = bisect_left(days, part.day, key=_day_of_bucket)
            known = days[at : at + 1] if at < len(days) and days[at].day == part.day else []
            combined = _combined(known[0] if known else DayMoney(part.day), part, sign)
            days[at : at + len(known)] = [] if combined.is_empty else [combined]
    return tuple(days)


def _is_later(bucket: DayMoney, history: MoneyHistory) -> bool:
    return not history.buckets or bucket.day > history.buckets[-1].day


def _fold(
    ledger: Ledger, buckets: tuple[DayMoney, ...], newest_day: int, keep_days: int
) -> tuple[DayMoney, ...]:
    """Fold days that no acceptable record can change any more into lifetime totals.

    A record may change an order up to `late_after_days` after its day, and may itself arrive as many days
    late, hence twice that. Entries whose order is folded keep only refunds younger than the cut.
    """
    if newest_day <= ledger.newest_day:
        return buckets
    time_to_look = newest_day >> 6 != ledger.newest_day >> 6
    ledger.newest_day = newest_day
    cut = newest_day - keep_days
    if not time_to_look and (not buckets or buckets[0].day >= cut):
        return buckets
    cut = _cut_between_entries(ledger, cut)
    for order_id in [key for key, entry in ledger.entries.items() if _anchor_day(entry) < cut]:
        _fold_entry(ledger, order_id, cut)
    at = bisect_left(buckets, cut, key=_day_of_bucket)
    ledger.folded = ledger.folded.with_days(buckets[:at])
    return buckets[at:]


def _cut_between_entries(ledger: Ledger, cut: int) -> int:
    """The newest day up to `cut` before which no entry that stays has money (a refund dated before its order)."""
    while True:
        staying = [entry for entry in ledger.entries.values() if _anchor_day(entry) >= cut]
        oldest = min((refund.day for entry in staying for refund in entry.refunds), default=cut)
        if oldest >= cut:
            return cut
        cut = oldest


def _fold_entry(ledger: Ledger, order_id: str, cut: int) -> None:
    entry = ledger.entries[order_id]
    recent = [refund for refund in entry.refunds if refund.day >= cut]
    if entry.ordered_on is None:
        entry.refunds = recent
        if not recent and entry.newest_day < cut:
            del ledger.entries[order_id]
    elif recent and not entry.cancelled and not entry.cancelled_late:
        ledger.entries[order_id] = Entry(refunds=recent, newest_day=entry.newest_day)
    else:
        del ledger.entries[order_id]


def _anchor_day(entry: Entry) -> int:
    """The day an entry's age goes by: of its order, else its oldest refund, else its newest record."""
    if entry.ordered_on is not None:
        return entry.ordered_on
    return min((refund.day for refund in entry.refunds), default=entry.newest_day)
