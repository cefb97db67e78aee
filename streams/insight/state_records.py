"""A customer's state as records: made so that a customer who gets them comes to hold the same.

A state keeps orders, refunds, consents and declared answers; engagement as counts by day; and purchases of long ago as
totals. So the records have other ids, times of the day and wordings than those that made the state. Aggregates come out
the same, but for what a state no longer tells:

- Orders that were folded away become orders evenly spread from the first day to the last, with the same totals.
- Engagement is dated at the end of its day, and what is older than the days that a state keeps is left out,
  except for the last day of each kind.
- Earlier consents that a later one of the same purpose has overridden are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from enrichment.customer.consent import PROFILING, ConsentRecord, ConsentState
from enrichment.customer.customer import CustomerState
from enrichment.customer.engagement import DayEngagement
from enrichment.customer.orders import Entry, Folded, Refund, Version
from enrichment.days import day_of, format_time, midnight_us
from enrichment.money import divide_half_even, format_micros
from schemas.topics import CONSENTS, ENGAGEMENTS, PURCHASES, InputTopic

Record = dict[str, Any]
_MICROS_DIGITS: Final = 6
_UNCOUNTED_DAYS_AGO, _PUT_RIGHT_AFTER_DAYS = 1_200, 800
"""So that no window of a year holds any of it, and the second is later than money alone follows an order."""


def records_of_state(
    customer_id: str, state: CustomerState, base_currency: str
) -> Iterator[tuple[InputTopic, Record]]:
    """Documents as they are in the input topics, by topic; of none that was erased."""
    for record in _purchases(state, base_currency):
        yield PURCHASES, {**record, "customer_id": customer_id}
    for record in _engagements(state, base_currency):
        yield ENGAGEMENTS, {**record, "customer_id": customer_id}
    for record in _consents(state.consent):
        yield CONSENTS, {**record, "customer_id": customer_id}


# ------------------------------------------------------------------ purchases


def _purchases(state: CustomerState, base_currency: str) -> Iterator[Record]:
    folded = state.orders.folded
    if folded.first_day is not None:
        yield from _folded_orders(folded, base_currency)
    elif state.latest_us is not None and (folded.revenue_micros or folded.refunded_micros):
        yield from _uncounted_money(folded, day_of(state.latest_us), base_currency)
    for order_id, entry in state.orders.entries.items():
        yield from _records_of_entry(order_id, entry, base_currency)


def _records_of_entry(order_id: str, entry: Entry, base_currency: str) -> Iterator[Record]:
    """The order on its day, with its latest version; then what came of it."""
    version, ordered_on = entry.version, entry.ordered_on
    if version is not None:
        amounts = _amounts(version)
        if ordered_on is not None:
            start_us = midnight_us(ordered_on)
            is_of_that_day = start_us <= version.occurred_at_us < midnight_us(ordered_on + 1)
            at_us = version.occurred_at_us if is_of_that_day else start_us
            yield _purchase(order_id, "order", at_us, "order", amounts)
        if ordered_on is None or not is_of_that_day:
            yield _purchase(order_id, "order_updated", version.occurred_at_us, "version", amounts)
    if (late := entry.late_version) is not None:
        yield _purchase(order_id, "order_updated", late.occurred_at_us, "late version", _amounts(late))
    for at, refund in enumerate(entry.refunds):
        for part in range(refund.count):
            yield _purchase(
                order_id, "refund", midnight_us(refund.day), f"refund {at}.{part}", _part(refund, part)
            )
    if entry.cancelled or entry.cancelled_late:
        money = version or next(iter(entry.refunds), None)
        currency = base_currency if money is None else money.currency
        nothing = {"currency": currency, "total": "0"}
        day = ordered_on if entry.cancelled and ordered_on is not None else entry.newest_day
        yield _purchase(order_id, "cancellation", midnight_us(day), "cancellation", nothing)


def _purchase(order_id: str, kind: str, at_us: int, what: str, amounts: Record) -> Record:
    return {
        "event_id": f"{what} of {order_id}",
        "occurred_at": format_time(at_us),
        "kind": kind,
        "order_id": order_id,
        **amounts,
    }


def _amounts(version: Version) -> Record:
    return {
        "currency": version.currency,
        "total": _decimal(version.total_micros),
        "cost_of_goods": _decimal(_own(version.base_cost_micros, version.rate)),
        "items": [{"category": category} for category in version.categories],
    }


def _part(refund: Refund, part: int) -> Record:
    """One of the refunds that are held as one: all are of the same size but the first, which has what is left over."""
    return {
        "currency": refund.currency,
        "total": _decimal(_share(refund.amount_micros, refund.count, part)),
        "cost_of_goods": _decimal(_own(_share(refund.base_cost_micros, refund.count, part), refund.rate)),
    }


def _share(whole: int, count: int, part: int) -> int:
    each, rest = divmod(whole, count)
    return each + rest if part == 0 else each


def _own(base_micros: int, rate: str) -> int:
    """An amount in its own currency again; `rate` is empty for the base currency."""
    if not rate:
        return base_micros
    exact = Fraction(rate)
    return divide_half_even(base_micros * exact.denominator, exact.numerator)


def _folded_orders(folded: Folded, base_currency: str) -> Iterator[Record]:
    """As many orders on as many days, from the first to the last; repeat days with money bring the same each.

    Where refunds took back more cost than is held of the orders, the refund of all takes back the difference.
    """
    first_day, last_day = folded.first_day, folded.last_day
    assert first_day is not None
    assert last_day is not None
    gaps = folded.purchase_days - 1
    days = [first_day + divide_half_even((last_day - first_day) * at, gaps or 1) for at in range(gaps + 1)]
    revenue_micros = max(folded.revenue_micros + folded.refunded_micros, folded.repeat_spend_micros)
    net_cost_micros = folded.revenue_micros - folded.margin_micros
    cost_micros = max(net_cost_micros, 0)
    amounts = [revenue_micros - folded.repeat_spend_micros]
    amounts += [
        _share(folded.repeat_spend_micros, folded.repeat_spend_days, at)
        for at in range(folded.repeat_spend_days)
    ]
    amounts += [0] * (folded.orders - len(amounts))
    for at, total_micros in enumerate(amounts):
        cost = cost_micros * total_micros // revenue_micros if revenue_micros else 0
        money = {
            "currency": base_currency,
            "total": _decimal(total_micros),
            "cost_of_goods": _decimal(cost),
        }
        day = days[min(at, gaps)]
        yield _purchase(f"folded {at}", "order", midnight_us(day), "order", money)
    if folded.refunded_micros:
        taken_back = _decimal(max(-net_cost_micros, 0))
        money = {
            "currency": base_currency,
            "total": _decimal(folded.refunded_micros),
            "cost_of_goods": taken_back,
        }
        yield _purchase("folded refunds", "refund", midnight_us(last_day), "refund", money)


def _uncounted_money(folded: Folded, newest_day: int, base_currency: str) -> Iterator[Record]:
    """Money of long ago without an order that counts, as of orders that were refunded whole.

    One order that is refunded whole at once, and whose amounts are put right so much later that only its money follows.
    """
    net_cost_micros = folded.revenue_micros - folded.margin_micros
    refunded_micros = max(folded.refunded_micros, 1)
    ordered_on = max(newest_day - _UNCOUNTED_DAYS_AGO, 0)
    parts = (
        ("order", ordered_on, refunded_micros, 0),
        ("refund", ordered_on, refunded_micros, max(-net_cost_micros, 0)),
        (
            "order_updated",
            ordered_on + _PUT_RIGHT_AFTER_DAYS,
            max(folded.revenue_micros + folded.refunded_micros, 0),
            max(net_cost_micros, 0),
        ),
    )
    for kind, day, total_micros, cost_micros in parts:
        money = {
            "currency": base_currency,
            "total": _decimal(total_micros),
            "cost_of_goods": _decimal(cost_micros),
        }
        yield _purchase("folded", kind, midnight_us(day), kind, money)


# ---------------------------------------------------- engagement and consents


def _engagements(whole: CustomerState, base_currency: str) -> Iterator[Record]:
    """Each interaction that was counted; the first of a day carries what the day has cost to serve.

    At the end of the day, since a consent of that day lets go what is older; but not later than all that is known.
    """
    state, latest_us = whole.engagement, whole.latest_us
    if latest_us is None:
        return
    declared = dict(state.declared)
    to_acquire = state.cost_to_acquire_micros
    made: list[Record] = []
    for kind, day in state.last_day_by_kind.items():
        if all(bucket.day != day for bucket in state.days):
            made.append(_engagement(day, latest_us, 0, kind, base_currency, 0))
    for bucket in state.days:
        made += _of_day(bucket, latest_us, base_currency)
    if to_acquire:
        own = next((record for record in made if record["kind"] == "acquired"), None)
        if own is None and made:
            own = {**made[0], "kind": "acquired", "event_id": "acquired"}
            made.append(own)
        if own is not None:
            own["cost"] = _decimal(to_acquire)
    if declared and made:
        made[-1]["declared"] = {key: latest.value for key, latest in declared.items()}
    yield from made


def _of_day(bucket: DayEngagement, latest_us: int, base_currency: str) -> Iterator[Record]:
    cost_micros, number = bucket.cost_micros, 0
    for key, count in sorted(bucket.counts.items()):
        for _ in range(count):
            bears = key.rpartition(".")[2] != "acquired"
            yield _engagement(bucket.day, latest_us, number, key, base_currency, cost_micros if bears else 0)
            cost_micros = 0 if bears else cost_micros
            number += 1


def _engagement(
    day: int, latest_us: int, number: int, key: str, base_currency: str, cost_micros: int
) -> Record:
    channel, _, kind = key.rpartition(".")
    record: Record = {
        "event_id": f"{day}.{number} {key}",
        "occurred_at": format_time(min(midnight_us(day + 1) - 1, latest_us)),
        "kind": kind,
        "currency": base_currency,
        "cost": _decimal(cost_micros),
    }
    if channel == "automated":
        record["automated"] = True
    elif channel not in ("", "none"):
        record["channel"] = channel
    return record


def _consents(state: ConsentState) -> Iterator[Record]:
    held = [(PROFILING, record) for record in state.profiling]
    held += [(purpose, record) for purpose, record in state.latest.items() if purpose != PROFILING]
    if PROFILING in state.latest and not state.profiling:
        held.append((PROFILING, state.latest[PROFILING]))
    for purpose, record in held:
        yield _consent(purpose, record)


def _consent(purpose: str, record: ConsentRecord) -> Record:
    document: Record = {
        "event_id": record.event_id,
        "occurred_at": format_time(record.occurred_at_us),
        "kind": "consent",
        "purpose": purpose,
        "granted": record.granted,
    }
    if record.expires_at_us is not None:
        document["expires_at"] = format_time(record.expires_at_us)
    return document


def _decimal(micros: int) -> str:
    return format_micros(micros, _MICROS_DIGITS)
