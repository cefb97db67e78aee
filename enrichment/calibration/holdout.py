"""Predictions held against what came later, beside predictions that need no model.

Customers are those with a counted order at the earlier snapshot who are still in the later one: of a customer who has
withdrawn from profiling or was erased in between, nothing later is known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from enrichment.calibration.snapshot import Histories, Snapshot, between
from enrichment.lifetime.lifetime_value import Predictor, predict

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_EXPECTED = 1e-6
"""A prediction of less counts as this much: no finite deviance forgives a purchase that was ruled out."""

TOP_SHARE = 0.1

MEASURES = (
    "correlation",
    "mean_absolute_error",
    "top_decile_share",
    "total_bias",
    "mean_poisson_deviance",
)


@dataclass(frozen=True, slots=True)
class Holdout:
    """Histories up to one snapshot, and the purchase days of the `days` after it.

    `left_out` is how many of the earlier snapshot's customers are not in the later one. `naive` are predictions without
    a model: by `constant_rate` each goes on at their purchase days after the first over the time since (0 on the first
    day), by `repeat_last_period` they buy as often as in the last `days` days, the first purchase day not counted.
    """

    days: int
    histories: Histories
    purchases: Floats
    left_out: int
    naive: dict[str, Floats]

    @property
    def horizon(self) -> float:
        """`days` in the unit of the histories."""
        return self.days / self.histories.unit_days


@dataclass(frozen=True, slots=True)
class Predicted:
    """A model's predictions for a holdout, one per customer."""

    probability_active: Floats
    probability_of_no_purchase: Floats
    expected_purchases: Floats


def hold_out(before: Snapshot, after: Snapshot, unit_days: float) -> Holdout:
    """What `before` knows, and what came of it by `after`; times in units of so many days."""
    everyone = Histories.of(before, unit_days)
    customer_ids = [before.customer_ids[place] for place in everyone.at]
    known = after.positions(customer_ids) >= 0
    histories = _only(everyone, known)
    days = after.day - before.day
    recent = np.zeros(len(histories))
    for row, place in enumerate(histories.at):
        money = before.views[place].money
        bought = money.columns[money.columns[:, 1] > 0, 0]
        first = before.day if money.totals.first_day is None else money.totals.first_day
        recent[row] = np.count_nonzero(bought > max(before.day - days, first))
    rate = np.divide(histories.x, histories.T, out=np.zeros(len(histories)), where=histories.T > 0)
    later = between(after, [customer_ids[row] for row in np.flatnonzero(known)], before.day)
    return Holdout(
        days=days,
        histories=histories,
        purchases=later.purchase_days.astype(np.float64),
        left_out=int((~known).sum()),
        naive={"constant_rate": rate * (days / unit_days), "repeat_last_period": recent},
    )


def predictions(model: Predictor, holdout: Holdout) -> Predicted:
    """What the model says of the holdout; its unit of time must be that of the histories."""
    histories = holdout.histories
    columns = histories.x, histories.t_x, histories.T, holdout.horizon
    return Predicted(*predict(model, *columns, histories.recent))


def accuracy(expected: Floats, actual: Floats) -> dict[str, float | None]:
    """How expected purchases met the actual ones; None where a figure is not defined.

    `correlation` is Pearson's; `top_decile_share` the share of all purchases that fell to the tenth of the customers of
    whom most was expected (of equals, as many as have a place, at their mean); `total_bias` the expected total over the
    actual one, less 1; `mean_poisson_deviance` the mean of 2 (y log(y / m) - y + m), a score that is least, on average,
    for the true mean m (Gneiting 2011, "Making and Evaluating Point Forecasts", JASA 106, section 2).
    """
    total, customers = float(actual.sum()), len(actual)
    if customers == 0:
        return dict.fromkeys(MEASURES)
    varies = customers > 1 and bool(np.ptp(expected) > 0 and np.ptp(actual) > 0)
    figures = (
        float(np.corrcoef(expected, actual)[0, 1]) if varies else None,
        float(np.abs(expected - actual).mean()),
        _top_share(expected, actual) / total if total > 0 else None,
        float(expected.sum()) / total - 1.0 if total > 0 else None,
        float(poisson_deviance(expected, actual).mean()),
    )
    return dict(zip(MEASURES, figures, strict=True))


def poisson_deviance(expected: Floats, actual: Floats) -> Floats:
    """Each customer's Poisson deviance: 0 where the expectation was right, more the further it was off."""
    mean = np.maximum(expected, LEAST_EXPECTED)
    surprise = actual * np.log(np.where(actual > 0, actual, 1.0) / mean) * (actual > 0)
    return np.asarray(2.0 * (surprise - actual + mean), dtype=np.float64)


def area_under_curve(scores: Floats, positive: Bools) -> float | None:
    """Probability that a positive outranks a negative (Mann and Whitney; equals count half); None without both."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    ranks = float(rankdata(scores)[positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def ranking(predicted: Predicted, actual: Floats) -> dict[str, float | None]:
    """Areas under the curve for any purchase at all: of the probability of being active, and of churn risk reversed."""
    bought = actual > 0
    return {
        "auc_probability_active": area_under_curve(predicted.probability_active, bought),
        "auc_churn_risk": area_under_curve(-predicted.probability_of_no_purchase, bought),
    }


def holdout_report(predicted: dict[str, Predicted | None], holdout: Holdout) -> dict[str, Any]:
    """Accuracy and ranking per model (None for one that is missing), of the naive predictions, and of recency."""
    histories, actual = holdout.histories, holdout.purchases
    return {
        "days": holdout.days,
        "customers": len(actual),
        "left_out": holdout.left_out,
        "purchases": int(actual.sum()),
        **{
            family: None
            if each is None
            else accuracy(each.expected_purchases, actual) | ranking(each, actual)
            for family, each in predicted.items()
        },
        "naive": {name: accuracy(expected, actual) for name, expected in holdout.naive.items()},
        "auc_recency": area_under_curve(_recency_days(histories), actual > 0),
    }


def _recency_days(histories: Histories) -> Floats:
    """Minus the whole days since the last purchase; in another unit, equals would differ by rounding."""
    return np.rint((histories.t_x - histories.T) * histories.unit_days)


def _only(histories: Histories, rows: Bools) -> Histories:
    columns = {f.name: getattr(histories, f.name)[rows] for f in fields(histories) if f.name != "unit_days"}
    return replace(histories, **columns)


def _top_share(expected: Floats, actual: Floats) -> float:
    places = max(int(len(expected) * TOP_SHARE), 1)
    least = np.partition(expected, len(expected) - places)[len(expected) - places]
    above, level = expected > least, expected == least
    return float(actual[above].sum() + actual[level].mean() * (places - above.sum()))
