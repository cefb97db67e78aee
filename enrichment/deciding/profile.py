"""Documents made of one feature row: the profile, and the scores and traits that changes carry too.

Keys come in the order of the contract; every key is always there, and what is not defined is null.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

from enrichment.customer.customer import CustomerSnapshot
from enrichment.customer.decision import Decision, Ranks
from enrichment.customer.engagement import COUNT_WINDOW_DAYS
from enrichment.days import format_day, format_time
from enrichment.deciding.reactivation import preferred_channels
from enrichment.model import Model
from enrichment.money import format_micros
from enrichment.scoring.features import NO_DAY, Features, Ints
from enrichment.scoring.scores import SCORES, Scored
from enrichment.scoring.standing import STANDINGS
from schemas.documents import (
    AggregatesDocument,
    ModelDocument,
    ProfileDocument,
    ScoresDocument,
    StandingDocument,
    TraitsDocument,
)
from schemas.profiles import DIMENSIONS, TRAIT_NAMES

CATEGORY_WINDOW_DAYS = 365
MAX_CATEGORIES = 5

NO_SCORES: ScoresDocument = dict.fromkeys(SCORES)
NO_TRAITS = cast("TraitsDocument", dict.fromkeys(TRAIT_NAMES))


class ScoresAndTraits(NamedTuple):
    """What an evaluation shows of a customer, in its changes and in its profile."""

    scores: ScoresDocument
    traits: TraitsDocument


NO_SCORES_OR_TRAITS = ScoresAndTraits(NO_SCORES, NO_TRAITS)
"""Null each: profiling is not allowed, or the customer is gone."""


def model_document(model: Model) -> ModelDocument:
    """Which model decided."""
    return {"name": model.name, "version": model.version}


def scores_document(scored: Scored, row: int) -> ScoresDocument:
    """The scores of a row whose profiling is allowed."""
    return dict(zip(SCORES, scored.scores[row].tolist(), strict=True))


def baseline_scores_document(scores: tuple[float, ...] | None) -> ScoresDocument:
    """The scores of an earlier evaluation; null each where there is none."""
    return dict(NO_SCORES) if scores is None else dict(zip(SCORES, scores, strict=True))


def standing_document(standing: Ranks | None) -> StandingDocument:
    """A standing by its names; null each where there is none."""
    if standing is None:
        return dict.fromkeys(DIMENSIONS)
    return {name: STANDINGS[at][standing[at]] for at, name in enumerate(DIMENSIONS)}


def traits_document(features: Features, scored: Scored, row: int, model: Model) -> TraitsDocument:
    """Traits of a row whose profiling is allowed."""
    snapshot, day = features.snapshot(row), features.day.item(row)
    has_order = features.order_count.item(row) > 0
    return {
        "recency_days": scored.recency_days.item(row) if has_order else None,
        "tenure_days": scored.tenure_days.item(row) if has_order else None,
        "rfm": str(scored.rfm.item(row)) if has_order else None,
        "probability_active": _number(scored.probability_active.item(row)),
        "expected_orders_365d": _number(scored.expected_orders_365d.item(row)),
        "customer_lifetime_value_365d": _money(scored.customer_lifetime_value_365d.item(row), model),
        "churn_risk": _number(scored.churn_risk.item(row)),
        "silence_risk": _number(scored.silence_risk.item(row)),
        "value_at_stake": value_at_stake(scored, row, model),
        "preferred_categories": preferred_categories(snapshot, day),
        "preferred_channels": preferred_channels(snapshot, day, model),
        "attributes": snapshot.attributes,
        "declared": {key: latest.value for key, latest in sorted(snapshot.declared.items())},
    }


def value_at_stake(scored: Scored, row: int, model: Model) -> str | None:
    """A row's `value_at_stake`, rounded half-even to the base currency's minor unit; None without a counted order."""
    return _money(scored.value_at_stake.item(row), model)


def scores_and_traits_of(features: Features, scored: Scored, row: int, model: Model) -> ScoresAndTraits:
    """Scores and traits of a row, where profiling is allowed."""
    if not features.profiling_allowed[row]:
        return NO_SCORES_OR_TRAITS
    return ScoresAndTraits(scores_document(scored, row), traits_document(features, scored, row, model))


def preferred_categories(snapshot: CustomerSnapshot, day: int) -> list[str]:
    """The item categories found in most counted orders of 365 days, then by name; at most five."""
    orders: dict[str, int] = {}
    for bucket in snapshot.money.buckets:
        if bucket.categories and day - CATEGORY_WINDOW_DAYS < bucket.day <= day:
            for category in bucket.categories:
                orders[category] = orders.get(category, 0) + 1
    return sorted(sorted(orders), key=orders.__getitem__, reverse=True)[:MAX_CATEGORIES]


def engagements_90d(snapshot: CustomerSnapshot, day: int) -> dict[str, int]:
    """Interactions by `channel.kind` over 90 days, sorted by key."""
    counts: dict[str, int] = {}
    for bucket in snapshot.engagement_days:
        if day - COUNT_WINDOW_DAYS < bucket.day <= day:
            for key, count in bucket.counts.items():
                counts[key] = counts.get(key, 0) + count
    return dict(sorted(counts.items()))


def aggregates_document(features: Features, row: int, model: Model) -> AggregatesDocument:
    """The aggregates of a row; money rounded half-even to the base currency's minor unit."""
    digits = model.minor_unit_digits

    def money(micros: Ints) -> str:
        return format_micros(micros.item(row), digits)

    orders_365d = features.order_count_365d.item(row)
    counted = features.counted_365d_micros.item(row)
    return {
        "first_order_on": _day(features.first_order_day.item(row)),
        "last_order_on": _day(features.last_order_day.item(row)),
        "last_engaged_on": _day(features.last_engaged_day.item(row)),
        "order_count": features.order_count.item(row),
        "purchase_days": features.purchase_days.item(row),
        "revenue": money(features.revenue_micros),
        "refunded": money(features.refunded_micros),
        "margin": money(features.margin_micros),
        "order_count_30d": features.order_count_30d.item(row),
        "order_count_90d": features.order_count_90d.item(row),
        "order_count_365d": orders_365d,
        "revenue_30d": money(features.revenue_30d_micros),
        "revenue_90d": money(features.revenue_90d_micros),
        "revenue_365d": money(features.revenue_365d_micros),
        "margin_365d": money(features.margin_365d_micros),
        "average_order_value_365d": format_micros(counted, digits, orders_365d) if orders_365d else None,
        "engagements_90d": engagements_90d(features.snapshot(row), features.day.item(row)),
        "cost_to_serve_365d": money(features.cost_to_serve_365d_micros),
        "cost_to_acquire": money(features.cost_to_acquire_micros),
    }


def profile_document(
    customer_id: str,
    as_of_us: int,
    decision: Decision,
    features: Features,
    scored: Scored,
    row: int,
    model: Model,
    scores_and_traits: ScoresAndTraits | None = None,
) -> ProfileDocument:
    """The value of `customer-profiles` (contract, section 4); `scores_and_traits` are the row's, if they are there."""
    scores, traits = scores_and_traits or scores_and_traits_of(features, scored, row, model)
    return {
        "customer_id": customer_id,
        "as_of": format_time(as_of_us),
        "sequence": decision.sequence,
        "aggregates": aggregates_document(features, row, model),
        "scores": scores,
        "traits": traits,
        "standing": standing_document(decision.standing),
        "consents": features.snapshot(row).permissions.on_day(features.day.item(row)),
        "model": model_document(model),
    }


def _money(amount: float, model: Model) -> str | None:
    """Base units, which are NaN where not defined, as a decimal string."""
    return None if math.isnan(amount) else format_micros(round(amount * 1e6), model.minor_unit_digits)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _day(day: int) -> str | None:
    return None if day == NO_DAY else format_day(day)
