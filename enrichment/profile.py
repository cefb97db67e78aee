"""Documents made of one feature row: the profile, and the scores and traits that changes carry too.

Keys come in the order of the contract; every key is always there, and what is not defined is null.
"""

from __future__ import annotations

import math
from collections import Counter

from enrichment.customer import View
from enrichment.days import format_day, format_time
from enrichment.decision import Decision, Ranks
from enrichment.engagement import COUNT_WINDOW_DAYS
from enrichment.features import NO_DAY, Features
from enrichment.model import Model
from enrichment.money import format_micros
from enrichment.reactivation import preferred_channels
from enrichment.scores import SCORES, Scored
from enrichment.standing import STANDINGS
from schemas.profiles import DIMENSIONS, TRAIT_NAMES

Document = dict[str, object]

CATEGORY_WINDOW_DAYS = 365
MAX_CATEGORIES = 5

NO_SCORES: Document = dict.fromkeys(SCORES)
NO_TRAITS: Document = dict.fromkeys(TRAIT_NAMES)


def model_document(model: Model) -> Document:
    """Which model decided."""
    return {"name": model.name, "version": model.version}


def scores_document(scored: Scored, row: int) -> Document:
    """The scores of a row whose profiling is allowed."""
    return dict(zip(SCORES, scored.scores[row].tolist(), strict=True))


def baseline_scores_document(scores: tuple[float, ...] | None) -> Document:
    """The scores of an earlier evaluation; null each where there is none."""
    return dict(NO_SCORES) if scores is None else dict(zip(SCORES, scores, strict=True))


def standing_document(standing: Ranks | None) -> Document:
    """A standing by its names; null each where there is none."""
    if standing is None:
        return dict.fromkeys(DIMENSIONS)
    return {name: STANDINGS[at][standing[at]] for at, name in enumerate(DIMENSIONS)}


def traits_document(features: Features, scored: Scored, row: int, model: Model) -> Document:
    """Traits of a row whose profiling is allowed."""
    view, day = features.view(row), int(features.day[row])
    has_order = bool(features.order_count[row] > 0)
    lifetime = float(scored.customer_lifetime_value_365d[row])
    return {
        "recency_days": int(scored.recency_days[row]) if has_order else None,
        "tenure_days": int(scored.tenure_days[row]) if has_order else None,
        "rfm": str(scored.rfm[row]) if has_order else None,
        "probability_active": _number(scored.probability_active[row]),
        "expected_orders_365d": _number(scored.expected_orders_365d[row]),
        "customer_lifetime_value_365d": (
            format_micros(round(lifetime * 1e6), model.minor_unit_digits) if has_order else None
        ),
        "churn_risk": _number(scored.churn_risk[row]),
        "preferred_categories": preferred_categories(view, day),
        "preferred_channels": preferred_channels(view, day, model),
        "attributes": view.attributes,
        "declared": {key: latest.value for key, latest in sorted(view.declared.items())},
    }


def preferred_categories(view: View, day: int) -> list[str]:
    """The item categories found in most counted orders of 365 days, then by name; at most five."""
    orders: Counter[str] = Counter()
    for bucket in view.money.buckets:
        if day - CATEGORY_WINDOW_DAYS < bucket.day <= day:
            orders.update(bucket.categories)
    return sorted(orders, key=lambda category: (-orders[category], category))[:MAX_CATEGORIES]


def engagements_90d(view: View, day: int) -> dict[str, int]:
    """Interactions by `channel.kind` over 90 days, sorted by key."""
    counts: Counter[str] = Counter()
    for bucket in view.engagement_days:
        if day - COUNT_WINDOW_DAYS < bucket.day <= day:
            counts.update(bucket.counts)
    return dict(sorted(counts.items()))


def aggregates_document(features: Features, row: int, model: Model) -> Document:
    """The aggregates of a row; money rounded half-even to the base currency's minor unit."""
    digits = model.minor_unit_digits

    def money(column: str) -> str:
        return format_micros(int(getattr(features, column)[row]), digits)

    orders_365d = int(features.order_count_365d[row])
    counted = int(features.counted_365d_micros[row])
    return {
        "first_order_on": _day(features.first_order_day[row]),
        "last_order_on": _day(features.last_order_day[row]),
        "last_engaged_on": _day(features.last_engaged_day[row]),
        "order_count": int(features.order_count[row]),
        "purchase_days": int(features.purchase_days[row]),
        "revenue": money("revenue_micros"),
        "refunded": money("refunded_micros"),
        "margin": money("margin_micros"),
        "order_count_30d": int(features.order_count_30d[row]),
        "order_count_90d": int(features.order_count_90d[row]),
        "order_count_365d": orders_365d,
        "revenue_30d": money("revenue_30d_micros"),
        "revenue_90d": money("revenue_90d_micros"),
        "revenue_365d": money("revenue_365d_micros"),
        "margin_365d": money("margin_365d_micros"),
        "average_order_value_365d": format_micros(counted, digits, orders_365d) if orders_365d else None,
        "engagements_90d": engagements_90d(features.view(row), int(features.day[row])),
        "cost_to_serve_365d": money("cost_to_serve_365d_micros"),
        "cost_to_acquire": money("cost_to_acquire_micros"),
    }


def profile_document(
    customer_id: str,
    as_of_us: int,
    decision: Decision,
    features: Features,
    scored: Scored,
    row: int,
    model: Model,
) -> Document:
    """The value of `customer-profiles` (contract, section 4)."""
    allowed = bool(features.profiling_allowed[row])
    return {
        "customer_id": customer_id,
        "as_of": format_time(as_of_us),
        "sequence": decision.sequence,
        "aggregates": aggregates_document(features, row, model),
        "scores": scores_document(scored, row) if allowed else dict(NO_SCORES),
        "traits": traits_document(features, scored, row, model) if allowed else dict(NO_TRAITS),
        "standing": standing_document(decision.standing),
        "consents": features.view(row).permissions.on_day(int(features.day[row])),
        "model": model_document(model),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _day(day: int) -> str | None:
    return None if day == NO_DAY else format_day(int(day))
