"""Long silence: when no window holds anything any more, years can pass at once.

A year after a customer's last record their windows are empty, and what is left only falls or only rises: recency grows
day by day, churn risk and silence risk rise towards 1, and lifetime value goes towards nothing. (With Pareto/NBD and
BG/NBD the likelihood of a silence is a mixture of exponentials in its length; such a mixture is log-convex, so that the
risk of more silence rises.) So what these are at the ends of a span bounds them within it, and where the standing is
the same by the best and by the worst of these bounds, nothing happens in the span.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import Customer
from enrichment.customer.engagement import COST_WINDOW_DAYS
from enrichment.days import FOREVER_DAY, day_of
from enrichment.deciding.decider import Decider
from enrichment.model import (
    METRICS,
    EmpiricalParameters,
    MBGCNBDParameters,
    Metric,
    Model,
    RecalibratedParameters,
)
from enrichment.scoring.evaluate import Table, evaluate
from enrichment.scoring.scores import SCORES, Scored
from enrichment.scoring.standing import candidates

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST_DAYS = 1_000
"""Shorter spans are walked day by day: with the days of many customers in one array, that is faster."""
MARGIN = 1e-5
"""By how much bounds are widened: more than rounding to 6 decimals moves anything."""
_RECENCY, _LIFETIME = METRICS.index("recency_days"), METRICS.index("customer_lifetime_value_365d")
_VALUE = SCORES.index("value")


def unchanged_until(customer: Customer, first_day: int, last_day: int, decider: Decider) -> int | None:
    """The end of a span of days from `first_day` on, `last_day` at most, in which nothing can happen.

    None where the customer is not silent for long enough, or no span of `LEAST_DAYS` is unchanged for sure.
    """
    if not _only_silence_is_left(customer, first_day, decider.model):
        return None
    while last_day - first_day >= LEAST_DAYS:
        if _is_unchanged(customer, first_day, last_day, decider):
            return last_day
        last_day = first_day + (last_day - first_day) // 2
    return None


def _only_silence_is_left(customer: Customer, day: int, model: Model) -> bool:
    """Whether all windows are empty from this day on, no consent ends, and nobody is to be written to."""
    latest_us, snapshot = customer.state.latest_us, customer.snapshot()
    if latest_us is None or customer.decision.pending is not None:
        return False
    silent_days = day - day_of(latest_us)
    purchases = model.lifetime_value.purchases
    if isinstance(purchases, (RecalibratedParameters, MBGCNBDParameters)):
        # A regression need not move one way, and a regular buyer's next purchase comes nearer: days are walked.
        return False
    if isinstance(purchases, EmpiricalParameters):
        # Its hazards may rise from one length of silence to the next, up to the last.
        silent_days -= round(purchases.silences[-1] * model.lifetime_value.days_per_unit)
    if silent_days <= max(COST_WINDOW_DAYS, model.lifecycle.new_days):
        return False
    permissions = snapshot.permissions
    ends = [last_day for _, last_day in permissions.channels] + [permissions.profiling_until_day]
    return all(end < day or end == FOREVER_DAY for end in ends)


def _is_unchanged(customer: Customer, first_day: int, last_day: int, decider: Decider) -> bool:
    steps = first_day + 2 ** np.arange((last_day - first_day).bit_length(), dtype=np.int64)
    days = np.unique(np.concatenate(([first_day], steps[steps < last_day], [last_day])))
    snapshot = customer.snapshot()
    seen = evaluate([snapshot], np.zeros(len(days), dtype=np.int64), days, decider.model).scored
    if not _moves_one_way(seen):
        return False
    ends = evaluate(
        [snapshot], np.zeros(2, dtype=np.int64), np.array([last_day, last_day], dtype=np.int64), decider.model
    )
    bounds = _bounds(seen, ends.scored, decider.model)
    found = candidates(ends.features, bounds, decider.model)
    return bool(decider.unchanged([customer.decision], Table(ends.features, bounds, found)).all())


def _moves_one_way(seen: Scored) -> bool:
    """Whether, of the days that were looked at, nothing but silence moves anything, and that in one direction."""
    others = np.delete(seen.points, (_RECENCY, _LIFETIME), axis=1)
    if (others != others[0]).any():
        return False
    lifetime = np.diff(seen.customer_lifetime_value_365d)
    falls = (np.diff(seen.churn_risk) < 0).any() or (np.diff(seen.silence_risk) < 0).any()
    return not (((lifetime > 0).any() and (lifetime < 0).any()) or falls)


def _bounds(seen: Scored, ends: Scored, model: Model) -> Scored:
    """Two rows, the best and the worst that a span can bring; `ends` has its last day twice."""
    points, scores = ends.points.copy(), ends.scores.copy()
    for at in (_RECENCY, _LIFETIME):
        worst, best = _range_of_points(seen.metrics[:, at], model.metrics[METRICS[at]])
        moved = np.array([best + MARGIN, worst - MARGIN]) - points[:, at]
        points[:, at] += moved
        scores[:, _VALUE] += moved * model.value_weights[at]
    scores[:, _VALUE] += (MARGIN, -MARGIN)
    churn_risk, silence_risk = (
        np.array([risk.min() - MARGIN, risk.max() + MARGIN]) for risk in (seen.churn_risk, seen.silence_risk)
    )
    return replace(
        ends,
        points=points,
        scores=scores,
        churn_risk=churn_risk,
        silence_risk=silence_risk,
        tier_points=_tier_bounds(seen, scores, model),
    )


def _tier_bounds(seen: Scored, scores: Floats, model: Model) -> Floats:
    """The most and the fewest points that tiers can go by; `scores` are bounds already."""
    if model.tiers.by == "value":
        return scores[:, _VALUE]
    margin = seen.expected_margin
    worst, best = (0.0, 0.0) if np.isnan(margin).any() else _range_on(model.tiers.curve, margin)
    return np.array([best + MARGIN, worst - MARGIN])


def _range_of_points(metric: Floats, rules: Metric) -> tuple[float, float]:
    """The fewest and the most points that a metric has between its least and its largest value."""
    if np.isnan(metric).any():
        return rules.missing, rules.missing
    return _range_on(rules.curve, metric)


def _range_on(curve: tuple[Floats, Floats], values: Floats) -> tuple[float, float]:
    least, largest = float(values.min()), float(values.max())
    at, points = curve
    found = [*np.interp((least, largest), at, points), *points[(at > least) & (at < largest)]]
    return float(min(found)), float(max(found))
