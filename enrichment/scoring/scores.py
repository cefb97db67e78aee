"""Scores and traits of feature rows, on arrays: one definition for live, replay, calibration and explain.

docs/scores.md gives each formula in words. Every score and fractional trait is rounded half-even to 6
decimals before anything is decided by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from enrichment.lifetime import lifetime_value
from enrichment.model import GROUPS, METRICS, Model
from enrichment.scoring.features import NO_DAY, Features

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HORIZON_DAYS = 365
RATIO_CAP = 10.0
"""Cost ratios end here; a cost against nothing coming in counts as this much."""
GROWTH_CAP = 10.0
GROWTH_MIN_DAYS = 90

SCORES: tuple[str, ...] = (*GROUPS, "value")
"""The columns of `Scored.scores`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row per feature row. Two-dimensional arrays have a column per metric, in the order of METRICS.

    `contributions` are a metric's points times its share of value (cost inverted): a row of them adds up to
    value. `silence_risk` is NaN in a model without `lifecycle.window_days`.
    `value_at_stake`, in base units, is what lifetime value would be above what it is if the last purchase were today.
    `expected_margin`, in base units, is lifetime value less the cost to serve of 365 days; NaN without a counted order.
    `tier_points` (0–100) are what tiers of customers with an order go by.
    """

    metrics: Floats
    points: Floats
    contributions: Floats
    scores: Floats
    recency_days: Ints
    tenure_days: Ints
    probability_active: Floats
    expected_orders_365d: Floats
    customer_lifetime_value_365d: Floats
    churn_risk: Floats
    silence_risk: Floats
    value_at_stake: Floats
    expected_margin: Floats
    tier_points: Floats
    rfm: Ints

    @property
    def value(self) -> Floats:
        """The score that tiers go by: 0–100 per row."""
        return self.scores[:, SCORES.index("value")]

    @property
    def potential(self) -> Floats:
        """The score that decides where there is no order: 0–100 per row."""
        return self.scores[:, SCORES.index("potential")]

    @property
    def lifetime_value_score(self) -> Floats:
        """The points of lifetime value, which segments go by: 0–100 per row."""
        return self.points[:, METRICS.index("customer_lifetime_value_365d")]


def round6(values: Floats) -> Floats:
    """Half-even to 6 decimals; -0 becomes 0."""
    return values.round(6) + 0.0


def score(features: Features, model: Model) -> Scored:
    """Score all rows."""
    has_order = features.order_count > 0
    recency = np.where(has_order, features.day - features.last_order_day, NO_DAY)
    tenure = np.where(has_order, features.day - features.first_order_day, NO_DAY)
    purchasing = _purchasing(features, has_order, recency, tenure, model)
    worth = _spend_per_day(features, model) * _margin_rate(features, model)
    discount = model.lifetime_value.discount_factor
    lifetime = round6(purchasing.expected * worth * discount)
    lifetime[~has_order] = np.nan
    if_back = round6(purchasing.expected_if_back * worth * discount)
    metrics = _metrics(features, has_order, recency, tenure, lifetime, model)
    points = _points(metrics, model)
    signed = points.copy()
    cost_weights = model.group_weights["cost"]
    inverted = cost_weights > 0
    signed[:, inverted] = 100.0 - points[:, inverted]
    contributions = signed * model.value_weights
    columns = [_weighted_sum(points, model.group_weights[group]) for group in GROUPS]
    columns.append(_weighted_sum(signed, model.value_weights))
    scores = round6(np.stack(columns, axis=1))
    margin = round6(lifetime - features.cost_to_serve_365d_micros / 1e6)
    return Scored(
        metrics=metrics,
        points=points,
        contributions=contributions,
        scores=scores,
        recency_days=recency,
        tenure_days=tenure,
        probability_active=purchasing.active,
        expected_orders_365d=purchasing.expected,
        customer_lifetime_value_365d=lifetime,
        churn_risk=purchasing.silent,
        silence_risk=purchasing.silent_in_window,
        value_at_stake=round6(np.maximum(if_back - lifetime, 0.0)),
        expected_margin=margin,
        tier_points=tier_points(scores[:, SCORES.index("value")], margin, model),
        rfm=_rfm(features, has_order, recency, model),
    )


def tier_points(value: Floats, expected_margin: Floats, model: Model) -> Floats:
    """What tiers of customers with an order go by: the value score, or points of the expected margin (base units)."""
    if model.tiers.by == "value":
        return value
    return round6(np.interp(expected_margin, *model.tiers.curve))


def _weighted_sum(points: Floats, weights: Floats) -> Floats:
    """A row's sum in a fixed order of columns, so that no row depends on how many others there are."""
    total = np.zeros(len(points))
    for at, weight in enumerate(weights.tolist()):
        if weight:
            total += points[:, at] * weight
    return total


class Purchasing(NamedTuple):
    """What each row will buy, rounded; NaN without a counted order.

    `silent` and `expected` look HORIZON_DAYS ahead: the probability of no purchase day, and the purchase days expected.
    `expected_if_back` are those expected if the last purchase day were today. `silent_in_window` is the probability of
    no purchase day in the window of the model's lifecycle, NaN where it has none.
    """

    active: Floats
    silent: Floats
    expected: Floats
    expected_if_back: Floats
    silent_in_window: Floats


def purchasing_of(
    repeats: Ints, to_last_days: Ints, tenure_days: Ints, model: Model, recent: Ints | None = None
) -> Purchasing:
    """What histories with a counted order will buy: a number each.

    Args:
        repeats: purchase days after the first.
        to_last_days: days from the first purchase day to the last.
        tenure_days: days from the first purchase day to the day of the evaluation.
        model: the value model whose parameters apply.
        recent: `Features.recent`, for a family that looks back.
    """
    unit_days, predictor = model.lifetime_value.days_per_unit, model.lifetime_value.purchase_model
    x = repeats.astype(np.float64)
    t_x, T = to_last_days / unit_days, tenure_days / unit_days
    horizon = HORIZON_DAYS / unit_days
    window_days = model.lifecycle.window_days
    if window_days is None:
        active, silent, expected = lifetime_value.predict(predictor, x, t_x, T, horizon, recent)
        in_window = np.full(len(x), np.nan)
    else:
        active, silent, expected, in_window = lifetime_value.predict_with_window(
            predictor, x, t_x, T, horizon, window_days / unit_days, recent
        )
    if_back = predictor.expected_after_purchase(horizon, x, T, recent)
    return Purchasing(*map(round6, (active, silent, expected, if_back, in_window)))


def _purchasing(
    features: Features, has_order: npt.NDArray[np.bool_], recency: Ints, tenure: Ints, model: Model
) -> Purchasing:
    results = Purchasing(*(np.full(len(features), np.nan) for _ in Purchasing._fields))
    if not has_order.any():
        return results
    recent = features.recent[has_order] if model.lifetime_value.purchase_model.looks_back else None
    found = purchasing_of(
        features.purchase_days[has_order] - 1, (tenure - recency)[has_order], tenure[has_order], model, recent
    )
    for result, values in zip(results, found, strict=True):
        result[has_order] = values
    return results


def _spend_per_day(features: Features, model: Model) -> Floats:
    """Expected spend per purchase day (Gamma-Gamma), base units."""
    spend = model.lifetime_value.spend
    days = features.repeat_spend_days
    mean = np.divide(features.repeat_spend_micros / 1e6, days, out=np.zeros(len(features)), where=days > 0)
    return lifetime_value.GammaGamma(spend.p, spend.q, spend.gamma).expected_spend(
        days.astype(np.float64), mean
    )


def _margin_rate(features: Features, model: Model) -> Floats:
    """Lifetime margin per revenue, between -1 and 1; the model's where nothing has come in."""
    default = float(1 - model.cost_ratio)
    revenue = features.revenue_micros.astype(np.float64)
    rate = np.divide(
        features.margin_micros.astype(np.float64),
        revenue,
        out=np.full(len(features), default),
        where=revenue > 0,
    )
    return np.asarray(np.clip(rate, -1.0, 1.0), dtype=np.float64)


def _metrics(
    features: Features,
    has_order: npt.NDArray[np.bool_],
    recency: Ints,
    tenure: Ints,
    lifetime: Floats,
    model: Model,
) -> Floats:
    """The raw metrics, NaN where not defined."""
    undefined = np.full(len(features), np.nan)
    orders = features.order_count_365d
    average = np.divide(features.counted_365d_micros / 1e6, orders, out=undefined.copy(), where=orders > 0)
    columns = {
        "recency_days": np.where(has_order, recency, np.nan),
        "order_count_365d": orders.astype(np.float64),
        "revenue_365d": features.revenue_365d_micros / 1e6,
        "margin_365d": features.margin_365d_micros / 1e6,
        "average_order_value_365d": average,
        "customer_lifetime_value_365d": lifetime,
        "weighted_engagement_90d": features.weighted_engagement_90d,
        "consent_breadth": features.consent_breadth.astype(np.float64),
        "cost_to_serve_ratio": _ratio(features.cost_to_serve_365d_micros, features.revenue_365d_micros),
        "cost_to_acquire_ratio": _ratio(features.cost_to_acquire_micros, features.margin_micros),
        "declared_intent": features.declared_intent,
        "engagement_ahead_of_spend": _ahead(features, model),
        "growth": _growth(features, has_order, tenure),
    }
    return round6(np.stack([columns[metric] for metric in METRICS], axis=1))


def _ratio(cost_micros: Ints, brought_micros: Ints) -> Floats:
    """Cost against what came in, at most RATIO_CAP; 0 without cost."""
    ratio = np.full(len(cost_micros), RATIO_CAP)
    np.divide(cost_micros, brought_micros, out=ratio, where=brought_micros > 0)
    return np.where(cost_micros > 0, np.minimum(ratio, RATIO_CAP), 0.0)


def _ahead(features: Features, model: Model) -> Floats:
    """By how many points engagement is ahead of spend: an interest that has not been met yet."""
    engaged = np.interp(
        round6(features.weighted_engagement_90d), *model.metrics["weighted_engagement_90d"].curve
    )
    spent = np.interp(features.revenue_365d_micros / 1e6, *model.metrics["revenue_365d"].curve)
    return np.maximum(engaged - spent, 0.0)


def _growth(features: Features, has_order: npt.NDArray[np.bool_], tenure: Ints) -> Floats:
    """Revenue per day in the last 90 days against the year's (or the tenure's, if shorter); 1 is steady."""
    days = np.minimum(tenure + 1, 365)
    defined = has_order & (tenure >= GROWTH_MIN_DAYS) & (features.revenue_365d_micros > 0)
    recent = features.revenue_90d_micros / 90.0
    yearly = np.divide(features.revenue_365d_micros, days, out=np.ones(len(features)), where=defined)
    growth = np.divide(recent, yearly, out=np.full(len(features), np.nan), where=defined)
    return np.asarray(np.clip(growth, -GROWTH_CAP, GROWTH_CAP), dtype=np.float64)


def _points(metrics: Floats, model: Model) -> Floats:
    """0–100 points by the model's breakpoints; an undefined metric takes the model's `missing` points."""
    rules = [model.metrics[name] for name in METRICS]
    points = np.empty_like(metrics)
    for at, rule in enumerate(rules):
        points[:, at] = np.interp(metrics[:, at], *rule.curve)
    return round6(np.where(np.isnan(metrics), [rule.missing for rule in rules], points))


def _rfm(features: Features, has_order: npt.NDArray[np.bool_], recency: Ints, model: Model) -> Ints:
    """Three digits, 5 the best, as one number; 0 where there is no counted order."""
    cuts = model.rfm
    recent = 5 - np.searchsorted(np.array(cuts.recency_days), recency, side="left")
    frequent = 1 + np.searchsorted(np.array(cuts.order_count_365d), features.order_count_365d, side="left")
    monetary = 1 + np.searchsorted(
        np.array(cuts.revenue_365d), features.revenue_365d_micros / 1e6, side="left"
    )
    return np.where(has_order, 100 * recent + 10 * frequent + monetary, 0).astype(np.int64)
