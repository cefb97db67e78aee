"""Actions: what a customer could do next, as records, taken by a copy of the customer as the stream would take them.

An action is a row of the same record: an order a month, an interaction a week, an answer, a consent. After each one the
copy is looked at on the day of that record.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from enrichment.customer.customer import Customer, CustomerSnapshot, Effect
from enrichment.customer.engagement import COUNT_WINDOW_DAYS
from enrichment.customer.validation import Horizons, check_against_model
from enrichment.days import DAY_US, day_of, midnight_us
from enrichment.model import DeclaredIntent, Model
from enrichment.money import MAX_AMOUNT_MICROS, MICROS_PER_UNIT, divide_half_even
from schemas.events import Consent, Engagement, Event, Purchase

MONTHLY_DAYS = 30
WEEKLY_DAYS = 7
MOST_ORDERS = 6
MOST_INTERACTIONS = 12


class Action(NamedTuple):
    """The same kind of record `most` times, every so many days, the first one now. `told` is what JSON says of it."""

    told: dict[str, Any]
    every_days: int
    most: int


class Taken(NamedTuple):
    """The customer after so many records of an action, and the day of the last of them."""

    action: Action
    times: int
    snapshot: CustomerSnapshot
    day: int


def actions_of(customer: Customer, day: int) -> list[Action]:
    """What could be asked of this customer: an order, interactions, answers, consent to a channel once refused."""
    snapshot, model = customer.snapshot(), customer.model
    amount, own = _order_amount(snapshot, day, model)
    order = Action(
        {"action": "order", "amount_micros": amount, "own_average": own}, MONTHLY_DAYS, MOST_ORDERS
    )
    # Several orders of one day, or a model's mean, may come to more than a single order is accepted with.
    accepted = check_against_model(_record(customer, order, 0, midnight_us(day)), model) is None
    actions = [order] if amount > 0 and accepted else []
    recent = _recent_kinds(snapshot, day)
    # An answer counts for what it says, below; what is declared again says nothing new.
    kinds = sorted((kind not in recent, kind) for kind in model.scored_kinds if kind != "declared")
    actions += [
        Action({"action": "engagement", "kind": kind, "usual": not unusual}, WEEKLY_DAYS, MOST_INTERACTIONS)
        for unusual, kind in kinds
    ]
    if "declared" in model.engagement.kinds:
        for key, part in sorted(model.declared.items()):
            known = snapshot.declared.get(key)
            answer, points = _best_answer(part)
            if known is None or part.points(known.value) < points:
                actions.append(Action({"action": "declare", "key": key, "answer": answer}, 0, 1))
    granted = snapshot.permissions.granted_channels(day)
    refused = [channel for channel, _ in snapshot.permissions.channels if channel not in granted]
    actions += [Action({"action": "consent", "channel": channel}, 0, 1) for channel in refused]
    return actions


def take(customer: Customer, action: Action, as_of_us: int, horizons: Horizons) -> Iterator[Taken]:
    """The customer after one record, after two, and so on; the customer given is left as they are."""
    after = Customer(customer.id, copy.deepcopy(customer.state), customer.model)
    for number in range(action.most):
        time_us = as_of_us + number * action.every_days * DAY_US
        effect = after.apply(_record(customer, action, number, time_us), horizons, time_us)
        if not isinstance(effect, Effect) or not effect.changed:
            return  # such as beyond what one customer's amounts may add up to
        yield Taken(action, number + 1, after.snapshot(), day_of(time_us))


def _record(customer: Customer, action: Action, number: int, time_us: int) -> Event:
    told, model = action.told, customer.model
    common: dict[str, Any] = {
        "event_id": f"what if: {told['action']} {number}",
        "customer_id": customer.id,
        "occurred_at_us": time_us,
        "attributes": {},
    }
    if told["action"] == "order":
        return Purchase(
            **common,
            kind="order",
            order_id=f"what if: order {number}",
            currency=model.base_currency,
            total_micros=told["amount_micros"],
            cost_of_goods_micros=_cost_of_goods(customer.snapshot(), told["amount_micros"]),
        )
    if told["action"] == "consent":
        return Consent(**common, kind="consent", purpose=told["channel"], granted=True, expires_at_us=None)
    declared = {told["key"]: told["answer"]} if told["action"] == "declare" else {}
    return Engagement(**common, kind=told.get("kind", "declared"), declared=declared)


def _order_amount(snapshot: CustomerSnapshot, day: int, model: Model) -> tuple[int, bool]:
    """The customer's average order of 365 days, else of all time; else what the model expects of anyone.

    Micro-units, rounded to the minor unit; and whether it is the customer's own. It may be beyond what acceptance
    allows.
    """
    year = [bucket for bucket in snapshot.money.buckets if day - 365 < bucket.day <= day]
    orders, counted = sum(bucket.orders for bucket in year), sum(bucket.counted_micros for bucket in year)
    totals = snapshot.money.totals
    if counted <= 0:
        orders, counted = totals.repeat_spend_days, totals.repeat_spend_micros
    own = orders > 0 and counted > 0
    if not own:
        spend = model.lifetime_value.spend
        mean = spend.p * spend.gamma / (spend.q - 1)
        orders, counted = 1, round(min(mean * MICROS_PER_UNIT, float(2 * MAX_AMOUNT_MICROS)))
    minor = 10 ** (6 - model.minor_unit_digits)
    return divide_half_even(counted, orders * minor) * minor, own


def _cost_of_goods(snapshot: CustomerSnapshot, amount_micros: int) -> int | None:
    """Goods of such an order at the customer's margin so far; None, so that the model's ratio counts, without one."""
    totals = snapshot.money.totals
    if totals.revenue_micros <= 0:
        return None
    cost = totals.revenue_micros - totals.margin_micros
    return max(divide_half_even(amount_micros * cost, totals.revenue_micros), 0)


def _recent_kinds(snapshot: CustomerSnapshot, day: int) -> set[str]:
    """Kinds of interaction of the last 90 days, automated ones left out."""
    keys = {
        key
        for bucket in snapshot.engagement_days
        if day - COUNT_WINDOW_DAYS < bucket.day <= day
        for key in bucket.counts
    }
    return {key.rpartition(".")[2] for key in keys if not key.startswith("automated.")}


def _best_answer(part: DeclaredIntent) -> tuple[str | float, float]:
    """The answer of the most points, and these; of several the first."""
    answers: list[tuple[str | float, float]] = [*part.values.items(), *part.breakpoints]
    answer, points = max(answers, key=lambda told: told[1], default=("any", part.other))
    return (int(answer) if isinstance(answer, float) and answer.is_integer() else answer), points
