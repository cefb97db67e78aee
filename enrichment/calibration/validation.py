"""How a model that knows nothing later than a cut did on what came after it.

Everyone with a counted order at the cut is held against their purchases from the day after it to the end: in all, by
decile, by frequency, by rank, and by the standing that the rules gave them at the cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from enrichment.calibration.bootstrap import interval, quotient, resampled
from enrichment.calibration.holdout import area_under_curve
from enrichment.calibration.snapshot import Histories, Later, Snapshot, between
from enrichment.calibration.standing_outcomes import standing_outcomes
from enrichment.days import format_day
from enrichment.lifetime import lifetime_value
from enrichment.model import Model
from enrichment.scoring.features import Features
from enrichment.scoring.scores import Scored, score
from schemas.documents import Document

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DECILES = 10
CURVE_GROUPS = 20
CONFIDENCE = 0.95
MOST_FREQUENT = 7
"""By frequency, customers with this many repeat purchase days or more are one group."""
RANKINGS = (
    "probability_active",
    "churn_risk_reversed",
    "probability_of_purchase",
    "recency_reversed",
    "frequency",
)
"""Orders of customers by who is likeliest to purchase. `churn_risk` is the trait, of 365 days; the probability of a
purchase is that within the holdout, whose complement is churn risk over its days."""
ROC_POINTS = 100
"""A curve is thinned to about this many points."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Customers with a counted order at the cut who are still seen at the end, one element each.

    `row` is their row in the cut's features. Predictions are made at the cut, for the days of the holdout: `expected`
    purchase days, and the probability of `buying` at all.
    """

    days: int
    row: Ints
    frequency: Floats
    expected: Floats
    buying: Floats
    later: Later

    def __len__(self) -> int:
        return len(self.row)

    @property
    def bought(self) -> Bools:
        """Who purchased in the holdout."""
        return np.asarray(self.later.purchase_days > 0)


def validate(model: Model, cut: Snapshot, end: Snapshot) -> Document:
    """Hold a model, as it is at the cut, against what came after it; `model` must be fitted up to the cut.

    Purchases are purchase days, money is in base units. Customers who are in `cut` and not in `end` (erased, or
    profiling denied meanwhile) are left out and counted: what they did is not known. Standings are those of the plain
    rules, without hysteresis. What cannot be told is null, and `warnings` says why. Keys that end in `_interval` are of
    resampled customers (see `bootstrap`).

    Raises:
        ValueError: `end` is not after `cut`.
    """
    if end.day <= cut.day:
        raise ValueError(f"the end, {format_day(end.day)}, must be after the cut, {format_day(cut.day)}")
    seen = end.positions(cut.customer_ids) >= 0
    held = _holdout(model, cut, end, seen)
    ranking: Document = {name: {"auc": None, "auc_interval": None, "roc": []} for name in RANKINGS}
    standings: dict[str, list[Document]] = {}
    standing_warnings: list[str] = []
    if len(cut):
        features = cut.features(model)
        scored = score(features, model)
        ranking = _rankings(held, features, scored)
        standings, standing_warnings = standing_outcomes(features, scored, model, cut, end, seen)
    return {
        "period": {
            "cut": format_day(cut.day),
            "from": format_day(cut.day + 1),
            "until": format_day(end.day),
            "days": held.days,
        },
        "customers": len(held),
        "not_seen_at_end": int(np.count_nonzero(~seen)),
        "newcomers": int(np.count_nonzero(cut.positions(end.customer_ids) < 0)),
        "purchases": _in_all(held),
        "deciles": _deciles(held),
        "calibration_curve": _calibration_curve(held),
        "by_frequency": _by_frequency(held),
        "probability_of_purchase": _reliability(held),
        "ranking": ranking,
        "standings": standings,
        "warnings": [*_warnings(held), *standing_warnings],
    }


def _holdout(model: Model, cut: Snapshot, end: Snapshot, seen: Bools) -> HeldOut:
    unit_days = model.lifetime_value.days_per_unit
    histories = Histories.of(cut, unit_days)
    kept = seen[histories.at]
    days = end.day - cut.day
    rows, x = histories.at[kept], histories.x[kept]
    silent, expected = np.zeros(0), np.zeros(0)
    if len(rows):
        _, silent, expected = lifetime_value.predict(
            model.lifetime_value.purchase_model,
            x,
            histories.t_x[kept],
            histories.T[kept],
            days / unit_days,
            histories.recent[kept],
        )
    later = between(end, [cut.customer_ids[row] for row in rows], cut.day)
    return HeldOut(days, rows, x, expected, 1.0 - silent, later)


def _in_all(held: HeldOut) -> Document:
    """Totals; bias is expected ÷ actual − 1."""
    expected, actual = float(held.expected.sum()), int(held.later.purchase_days.sum())
    errors = np.abs(held.expected - held.later.purchase_days)
    return {
        "expected": _rounded(expected),
        "actual": actual,
        "total_bias": _rounded(expected / actual - 1) if actual else None,
        "mean_absolute_error": _rounded(float(errors.mean())) if len(held) else None,
        "correlation": correlation(held.expected, held.later.purchase_days.astype(np.float64)),
        **_intervals_in_all(held),
        "buyers": int(np.count_nonzero(held.bought)),
        "revenue": _rounded(float(held.later.revenue.sum())),
    }


def _intervals_in_all(held: HeldOut) -> Document:
    names = ("total_bias_interval", "mean_absolute_error_interval", "correlation_interval")
    if not len(held):
        return dict.fromkeys(names)
    expected, actual = held.expected, held.later.purchase_days.astype(np.float64)
    errors = np.abs(expected - actual)

    def figures(drawn: Floats) -> Floats:
        customers = float(drawn.sum())
        bias = quotient(float((drawn * expected).sum()), float((drawn * actual).sum())) - 1
        off = expected - (drawn * expected).sum() / customers, actual - (drawn * actual).sum() / customers
        covariance, *variances = (float((drawn * a * b).sum()) for a, b in (off, off[:1] * 2, off[1:] * 2))
        related = quotient(covariance, float(np.sqrt(variances[0] * variances[1])))
        return np.array([bias, float((drawn * errors).sum()) / customers, related])

    found = resampled(len(held), figures)
    if correlation(expected, actual) is None:
        found[:, 2] = np.nan
    return {name: interval(found[:, at]) for at, name in enumerate(names)}


def correlation(left: Floats, right: Floats) -> float | None:
    """Pearson's correlation; None where one of the two does not vary."""
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return _rounded(float(np.corrcoef(left, right)[0, 1]))


def _deciles(held: HeldOut) -> list[Document]:
    """Tenths of the customers by expected purchases, the highest first; ties stay in the order of ids."""
    order = np.argsort(-held.expected, kind="stable")
    purchases, revenue = held.later.purchase_days.sum(), held.later.revenue.sum()
    tenths = [part for part in np.array_split(order, DECILES) if len(part)]
    return [
        {
            "decile": number,
            "customers": len(part),
            "expected_purchases": _rounded(float(held.expected[part].sum())),
            "actual_purchases": int(held.later.purchase_days[part].sum()),
            "share_of_purchases": _share(held.later.purchase_days[part].sum(), purchases),
            "buyers_share": _rounded(float(held.bought[part].mean())),
            "revenue": _rounded(float(held.later.revenue[part].sum())),
            "share_of_revenue": _share(held.later.revenue[part].sum(), revenue),
            "margin": _rounded(float(held.later.margin[part].sum())),
        }
        for number, part in enumerate(tenths, start=1)
    ]


def _calibration_curve(held: HeldOut) -> list[Document]:
    """Expected against actual purchases per customer, in up to 20 groups of like expectation, lowest first."""
    return [_mean_group(held, part) for part in _groups_by(held.expected, CURVE_GROUPS)]


def _by_frequency(held: HeldOut) -> list[Document]:
    """The same by repeat purchase days until the cut, as in Fader, Hardie and Lee (2005), figure 3."""
    frequency = np.minimum(held.frequency, MOST_FREQUENT)
    return [
        {
            "repeat_purchase_days": int(many),
            "or_more": bool(many == MOST_FREQUENT),
            **_mean_group(held, np.flatnonzero(frequency == many)),
        }
        for many in np.unique(frequency)
    ]


def _mean_group(held: HeldOut, part: Ints) -> Document:
    """Means of a group; the interval is that of the actual mean (Student's t), null for fewer than two."""
    actual = held.later.purchase_days[part].astype(np.float64)
    low = high = None
    if len(part) > 1:
        mean, error = float(actual.mean()), float(stats.sem(actual))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(part) - 1)) * error
        low, high = _rounded(max(mean - reach, 0.0)), _rounded(mean + reach)
    return {
        "customers": len(part),
        "expected": _rounded(float(held.expected[part].mean())),
        "actual": _rounded(float(actual.mean())),
        "actual_low": low,
        "actual_high": high,
    }


def _reliability(held: HeldOut) -> list[Document]:
    """The probability of any purchase in the holdout against the share who made one (Wilson interval)."""
    found = []
    for part in _groups_by(held.buying, DECILES):
        bought = int(np.count_nonzero(held.bought[part]))
        interval = stats.binomtest(bought, len(part)).proportion_ci(CONFIDENCE, method="wilson")
        found.append(
            {
                "customers": len(part),
                "expected": _rounded(float(held.buying[part].mean())),
                "actual": _rounded(bought / len(part)),
                "actual_low": _rounded(float(interval.low)),
                "actual_high": _rounded(float(interval.high)),
            }
        )
    return found


def _groups_by(values: Floats, groups: int) -> list[Ints]:
    """Groups of about equal size by ascending value; equal values are never parted, so there may be fewer."""
    if not len(values):
        return []
    rank = stats.rankdata(values, method="min") - 1
    group = (rank * groups // len(values)).astype(np.int64)
    return [np.flatnonzero(group == number) for number in np.unique(group)]


def _rankings(held: HeldOut, features: Features, scored: Scored) -> Document:
    """How well each order of customers tells who purchases in the holdout, the likeliest first."""
    orders = (
        scored.probability_active[held.row],
        -scored.churn_risk[held.row],
        held.buying,
        -scored.recency_days[held.row].astype(np.float64),
        features.purchase_days[held.row].astype(np.float64),
    )
    areas = [_area_of_draw(held.bought, by) for by in orders]
    drawn = np.zeros((0, len(areas)))
    if len(held):
        drawn = resampled(len(held), lambda weights: np.array([area(weights) for area in areas]))
    return {
        name: {
            "auc": auc(held.bought, by),
            "auc_interval": interval(drawn[:, at]),
            "roc": roc(held.bought, by),
        }
        for at, (name, by) in enumerate(zip(RANKINGS, orders, strict=True))
    }


def _area_of_draw(positive: Bools, by: Floats) -> Callable[[Floats], float]:
    """What `area_under_curve` is if each customer is there as often as drawn; NaN without positives or negatives."""
    order = np.argsort(by, kind="stable")
    firsts = np.flatnonzero(np.append(True, np.diff(by[order]) != 0))
    is_positive = positive[order]

    def area(drawn: Floats) -> float:
        hits = np.add.reduceat(drawn[order] * is_positive, firsts)
        misses = np.add.reduceat(drawn[order] * ~is_positive, firsts)
        below = np.cumsum(misses) - misses
        return quotient(float((hits * (below + misses / 2)).sum()), float(hits.sum() * misses.sum()))

    return area


def auc(positive: Bools, by: Floats) -> float | None:
    """Area under the ROC curve (see `area_under_curve`), rounded; None without both positives and negatives."""
    found = area_under_curve(by, positive)
    return None if found is None else _rounded(found)


def roc(positive: Bools, by: Floats) -> list[list[float]]:
    """The ROC curve, from (0, 0) to (1, 1): [share of negatives, share of positives] at each distinct value, thinned.

    Empty where `auc` is None.
    """
    positives = int(np.count_nonzero(positive))
    negatives = len(positive) - positives
    if not positives or not negatives:
        return []
    order = np.argsort(-by, kind="stable")
    last_of_value = np.append(np.flatnonzero(np.diff(by[order])), len(by) - 1)
    hits = np.cumsum(positive[order])[last_of_value]
    misses = last_of_value + 1 - hits
    curve = np.stack([np.append(0, misses) / negatives, np.append(0, hits) / positives], axis=1)
    at = np.unique(np.linspace(0, len(curve) - 1, ROC_POINTS + 1).round().astype(np.int64))
    return [[_rounded(float(x)), _rounded(float(y))] for x, y in curve[at]]


def _warnings(held: HeldOut) -> list[str]:
    if not len(held):
        return [
            "nobody had a counted order at the cut and is still seen at the end: nothing can be validated"
        ]
    actual, warnings = int(held.later.purchase_days.sum()), []
    if actual == 0:
        return [f"nobody purchased in the {held.days} days of the holdout: predictions cannot be judged"]
    bias = float(held.expected.sum()) / actual - 1
    if abs(bias) > 0.15:
        direction = "more" if bias > 0 else "fewer"
        warnings.append(
            f"{abs(bias):.0%} {direction} purchases were expected in the holdout than there were "
            f"({held.expected.sum():,.0f} against {actual:,})"
        )
    if np.all(held.bought):
        warnings.append("everyone purchased in the holdout: who does cannot be ranked (no AUC)")
    return warnings


def _share(part: Any, whole: Any) -> float | None:
    return _rounded(float(part) / float(whole)) if whole > 0 else None


def _rounded(value: float) -> float:
    return round(value, 6) + 0.0
