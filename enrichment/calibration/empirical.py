"""The empirical hazard of buying again, counted over all gaps between purchase days that a snapshot holds.

Each purchase day begins a gap; it ends with the next purchase day, or is still open on the snapshot's day. The hazard
of a class of customers at a silence is purchases over days at risk, the maximum-likelihood estimate of a hazard that is
constant there. That it must not rise with silence, nor with a slower pace, leaves isotonic regression weighted by the
days at risk (Robertson, Wright, Dykstra 1988, "Order Restricted Statistical Inference", section 1.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from enrichment.calibration.snapshot import Snapshot
from enrichment.lifetime.empirical_hazard import EmpiricalHazard

Floats = npt.NDArray[np.float64]

SILENCES_DAYS = (0, 3, 7, 14, 28, 60, 120, 240, 480)
"""Silences at which a new hazard begins, as long as anyone has been silent for longer."""

PURCHASES_PER_PACE = 200
MOST_PACES = 8
"""As many classes of pace as there are purchases for, up to so many."""

_ROUNDS = 200
"""Rounds of alternating projections; they end earlier where nothing moves any more."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps between purchase days, all customers together, in days.

    `x` and `t_x` are those of the customer at the gap's beginning; `bought` says that a purchase ended it.
    """

    x: Floats
    t_x: Floats
    length: Floats
    bought: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Gaps:
        """All gaps that begin on a purchase day that a view still holds by day (some 800 days back)."""
        parts = []
        for view in snapshot.views:
            totals, columns = view.money.totals, view.money.columns
            days = columns[columns[:, 1] > 0, 0]
            if totals.first_day is None or len(days) == 0:
                continue
            x = np.arange(totals.purchase_days - len(days), totals.purchase_days)
            bought = np.arange(len(days)) < len(days) - 1
            parts.append(np.stack([x, days - totals.first_day, np.diff(days, append=snapshot.day), bought]))
        table = np.concatenate(parts, axis=1).astype(np.float64) if parts else np.zeros((4, 0))
        return cls(table[0], table[1], table[2], table[3].astype(np.bool_))


def fit_empirical_hazard(snapshot: Snapshot, unit_days: float) -> EmpiricalHazard | str:
    """The hazards of a snapshot's gaps, in units of so many days; a sentence where nothing can be counted."""
    gaps = Gaps.of(snapshot)
    purchases = int(gaps.bought.sum())
    if purchases == 0:
        if any(view.money.totals.purchase_days > 1 for view in snapshot.views):
            return "all purchases that followed another are too long ago to be held by day (800 days)"
        return "no customer has bought on a second day"
    longest = float(gaps.length.max())
    silences = np.array([days for days in SILENCES_DAYS if days < longest], dtype=np.float64)
    typical_gap = float(gaps.length.sum() / purchases)
    pace = np.log((gaps.t_x + typical_gap) / (gaps.x + 1.0))
    repeated = gaps.x > 0
    centres = _centres(pace[repeated], gaps.length[repeated], int(gaps.bought[repeated].sum()))
    middles = (centres[1:] + centres[:-1]) / 2.0
    group = np.where(repeated, 1 + np.searchsorted(middles, pace), 0)
    events, days = _at_risk(gaps, group, len(centres) + 1, silences)
    rates, weights = _smoothed(events, days, typical_gap)
    first = isotonic_regression(rates[0], weights=weights[0], increasing=False).x
    hazards = _descending_both_ways(rates[1:], weights[1:])
    return EmpiricalHazard(
        typical_gap=typical_gap / unit_days,
        active_within=longest / unit_days,
        silences=_numbers(silences / unit_days),
        after_first=_numbers(first * unit_days),
        paces=_numbers(np.exp(centres) / unit_days),
        hazards=tuple(_numbers(row * unit_days) for row in hazards),
    )


def mean_log_gap(snapshot: Snapshot, unit_days: float) -> float:
    """The mean logarithm of the gaps that a purchase ended, in units of so many days; 0 without one."""
    gaps = Gaps.of(snapshot)
    lengths = gaps.length[gaps.bought]
    return float(np.log(lengths / unit_days).mean()) if len(lengths) else 0.0


def _centres(pace: Floats, weight: Floats, purchases: int) -> Floats:
    """Logarithms of the paces, one in the middle of each equal share of the time at risk."""
    if len(pace) == 0 or weight.sum() == 0.0:
        return np.zeros(1)
    count = min(max(purchases // PURCHASES_PER_PACE, 1), MOST_PACES)
    order = np.argsort(pace, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    return np.unique(pace[order][np.searchsorted(share, (np.arange(count) + 0.5) / count)])


def _at_risk(
    gaps: Gaps, group: npt.NDArray[np.int64], groups: int, silences: Floats
) -> tuple[Floats, Floats]:
    """Purchases, and days at risk, by group and silence. A purchase on day 3 belongs to the silence until day 3."""
    events, days = np.zeros((groups, len(silences))), np.zeros((groups, len(silences)))
    for at, (begin, end) in enumerate(zip(silences, [*silences[1:], np.inf], strict=True)):
        within = np.clip(gaps.length, begin, end) - begin
        ended = gaps.bought & (gaps.length > begin) & (gaps.length <= end)
        days[:, at] = np.bincount(group, weights=within, minlength=groups)
        events[:, at] = np.bincount(group, weights=ended, minlength=groups)
    return events, days


def _smoothed(events: Floats, days: Floats, typical_gap: float) -> tuple[Floats, Floats]:
    """Hazards, and their weights, with some days added to each cell at the hazard of everyone at that silence.

    They are the days in which one purchase would be expected, at most a typical gap. So no hazard is 0.
    """
    overall = (events.sum(axis=0) + 1.0) / (days.sum(axis=0) + typical_gap)
    added = np.minimum(1.0 / overall, typical_gap)
    weights = days + added
    return (events + added * overall) / weights, weights


def _descending_both_ways(rates: Floats, weights: Floats) -> Floats:
    """The weighted least-squares fit that rises neither along rows nor along columns (Dykstra's algorithm)."""
    fitted = rates
    left = [np.zeros_like(rates), np.zeros_like(rates)]
    for _ in range(_ROUNDS):
        before = fitted
        for axis in (0, 1):
            wanted = fitted + left[axis]
            fitted = _descending(wanted, weights) if axis == 1 else _descending(wanted.T, weights.T).T
            left[axis] = wanted - fitted
        if np.abs(fitted - before).max() <= 1e-12 * rates.max():
            break
    # What is left of the last steps, and the rounding of means, must not break the order.
    return np.minimum.accumulate(np.minimum.accumulate(fitted, axis=0), axis=1)


def _descending(rows: Floats, weights: Floats) -> Floats:
    return np.stack(
        [
            isotonic_regression(row, weights=weight, increasing=False).x
            for row, weight in zip(rows, weights, strict=True)
        ]
    )


def _numbers(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
