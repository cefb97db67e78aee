"""The recalibrated family: what earlier cuts of a history say of Pareto/NBD's predictions, as two regressions.

Only what the snapshot knows is used: each cut lies a horizon or more before its day, and what came until the end of
that horizon is the answer. Penalties keep a correction at 0 where the cuts say little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from enrichment.calibration.snapshot import Histories, Snapshot
from enrichment.lifetime.lifetime_value import RECENT_DAYS, ParetoNBD, predict
from enrichment.lifetime.recalibrated import FEATURES, Correction, RecalibratedParetoNBD, features_of
from enrichment.scoring.features import repeat_days_within

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_HORIZON_DAYS: Final = 90
LEAST_HORIZON_DAYS: Final = 28
"""The horizon is a third of the history, within these."""
CUTS_PER_HORIZON: Final = 3
MOST_CUTS: Final = 6
"""Cuts lie a third of the horizon apart, so many at most; before each lies at least one horizon of history."""
LEAST_OF_EACH: Final = 100
"""So many rows must have bought within the horizon, and so many not."""
MOST_CUSTOMERS: Final = 20_000
"""Of more customers, every second, third and so on is taken, by id."""

EXPECTED_PENALTY: Final = 1e-2
BUYS_PENALTY: Final = 1e-3
"""Of the squares of standardised coefficients, halved, against the mean deviance, halved (mean log loss)."""

_STEPS: Final = 60
_FARTHEST: Final = 3.0
"""Levels are searched within factors of exp(3), in so many halvings."""


@dataclass(frozen=True, slots=True)
class EarlierRows:
    """Customers as they were at earlier cuts, and what they bought in the horizon after: one row for each pair.

    Times in days; shapes (rows,), and (rows, 3) for `recent`.
    """

    x: Floats
    t_x: Floats
    T: Floats
    recent: Floats
    purchases: Floats

    @classmethod
    def of(cls, snapshot: Snapshot, cuts: Ints, horizon_days: int) -> EarlierRows:
        """All that the days kept by the snapshot's views (some 800) say of these cuts, as known at the snapshot."""
        parts = []
        for view in snapshot.views[:: -(-len(snapshot) // MOST_CUSTOMERS)]:
            totals, columns = view.money.totals, view.money.columns
            days = columns[columns[:, 1] > 0, 0]
            if totals.first_day is None or len(days) == 0:
                continue
            count = np.searchsorted(days, cuts, side="right")
            known = count > 0
            at, count = cuts[known], count[known]
            later = np.searchsorted(days, at + horizon_days, side="right") - count
            x = totals.purchase_days - len(days) + count - 1
            columns_ = [x, days[count - 1] - totals.first_day, at - totals.first_day, later]
            parts.append(np.column_stack([*columns_, repeat_days_within(view, at)]))
        width = 4 + len(RECENT_DAYS)
        table = np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, width))
        return cls(table[:, 0], table[:, 1], table[:, 2], table[:, 4:], table[:, 3])

    def __len__(self) -> int:
        return len(self.x)


def fit_recalibrated(
    snapshot: Snapshot, histories: Histories, base: ParetoNBD | None
) -> RecalibratedParetoNBD | str:
    """Correct a Pareto/NBD that was fitted to the snapshot's histories; a sentence where nothing can be corrected.

    1. Horizon and cuts, by the length of the history.
    2. Both regressions, on features that have a mean of 0 and a deviation of 1 over all rows.
    3. Levels: over the snapshot's customers, the purchases expected within the horizon, and the number of customers
       expected to buy, stay what they are by Pareto/NBD. So a season of the cuts moves nobody's level.
    """
    if base is None:
        return "Pareto/NBD, which it corrects, has no fit"
    history_days = round(float(histories.T.max(initial=0.0)) * histories.unit_days)
    horizon_days = min(MOST_HORIZON_DAYS, history_days // 3)  # 1
    if horizon_days < LEAST_HORIZON_DAYS:
        return f"{history_days} days of history are too few for an earlier cut; {3 * LEAST_HORIZON_DAYS} are needed"
    back = np.arange(MOST_CUTS) * (horizon_days // CUTS_PER_HORIZON) + horizon_days
    cuts = snapshot.day - back[history_days - back >= horizon_days]
    rows = EarlierRows.of(snapshot, cuts, horizon_days)
    bought = rows.purchases > 0
    if min(bought.sum(), len(rows) - bought.sum()) < LEAST_OF_EACH:
        return (
            f"at earlier cuts, {bought.sum()} of {len(rows)} bought within {horizon_days} days; "
            f"{LEAST_OF_EACH} who did and {LEAST_OF_EACH} who did not are needed"
        )
    gap_days = float(histories.T.sum() * histories.unit_days / max(histories.x.sum(), 1.0))
    unit = histories.unit_days
    columns = rows.x, rows.t_x / unit, rows.T / unit
    _, silent, expected = predict(base, *columns, horizon_days / unit)
    recent = tuple(np.ascontiguousarray(column) for column in rows.recent.T)
    features = features_of(base, columns, recent, expected, silent, unit, gap_days)
    table = np.stack([features[name] for name in FEATURES], axis=1)
    mean, deviation = table.mean(axis=0), table.std(axis=0)
    scaled = (table - mean) / np.where(deviation > 0, deviation, 1.0)
    least = np.maximum(expected, 1e-9)
    more = _unscaled(
        _regression(_poisson, scaled, rows.purchases / least, least, EXPECTED_PENALTY), mean, deviation
    )
    buys = _unscaled(
        _regression(_logistic, scaled, bought.astype(np.float64), np.ones(len(rows)), BUYS_PENALTY),
        mean,
        deviation,
    )
    buys[0][FEATURES.index("logit")] -= 1.0  # of the logit itself, only what goes beyond it is a correction
    found = RecalibratedParetoNBD(
        base=base,
        days_per_unit=unit,
        horizon_days=horizon_days,
        typical_gap_days=_rounded(gap_days),
        expected_intercept=more[1],
        buys_intercept=buys[1],
        features={
            name: Correction(
                least=_rounded(float(table[:, at].min())),
                most=_rounded(float(table[:, at].max())),
                expected=_rounded(float(more[0][at])),
                buys=_rounded(float(buys[0][at])),
            )
            for at, name in enumerate(FEATURES)
        },
    )
    return _levelled(found, histories)  # 3


Loss = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""Of linear predictors and answers: each row's loss, and its first and second derivative by the predictor."""


def _poisson(eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Half the deviance, but for what no coefficient changes (McCullagh and Nelder 1989, chapter 6)."""
    mean = np.exp(eta)
    return mean - y * eta, mean - y, mean


def _logistic(eta: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Log loss (McCullagh and Nelder 1989, chapter 4)."""
    chance = expit(eta)
    return np.logaddexp(0.0, eta) - y * eta, chance - y, chance * (1.0 - chance)


def _regression(loss: Loss, features: Floats, y: Floats, weights: Floats, penalty: float) -> Floats:
    """The intercept, and a coefficient for each feature: those of the least mean loss.

    To that comes half the penalty times the coefficients' squares; the intercept bears none. The problem is convex, so
    there is one answer.
    """
    design = np.column_stack([np.ones(len(features)), features])
    shares = weights / weights.sum()
    ridge = np.full(design.shape[1], penalty)
    ridge[0] = 0.0

    def value(found: Floats) -> tuple[float, Floats]:
        each, slope, _ = loss(design @ found, y)
        return float(shares @ each + ridge @ found**2 / 2), design.T @ (shares * slope) + ridge * found

    def curvature(found: Floats) -> Floats:
        _, _, second = loss(design @ found, y)
        curved: Floats = (design.T * (shares * second)) @ design + np.diag(ridge)
        return curved

    start = np.zeros(design.shape[1])
    least = minimize(value, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-10})
    return np.asarray(least.x, dtype=np.float64)


def _unscaled(found: Floats, mean: Floats, deviation: Floats) -> tuple[Floats, float]:
    """Coefficients and intercept for features as they are, from those for scaled ones, the intercept first."""
    own = np.where(deviation > 0, found[1:] / np.where(deviation > 0, deviation, 1.0), 0.0)
    return own, float(found[0] - (own * mean).sum())


def _levelled(found: RecalibratedParetoNBD, histories: Histories) -> RecalibratedParetoNBD:
    """The same corrections at other intercepts: those at which the totals within the horizon are Pareto/NBD's."""
    columns = histories.x, histories.t_x, histories.T
    _, silent, expected = predict(found.base, *columns, found.horizon_days / found.days_per_unit)
    own = found.corrections(*columns, histories.recent)

    def buying(shift: float) -> Floats:
        odds = (1.0 - silent) * np.exp(own[1] + shift)
        return np.divide(odds, silent + odds, out=np.zeros_like(odds), where=silent + odds > 0.0)

    of_buys = _level(lambda shift: float(buying(shift).sum()), float((1.0 - silent).sum()))
    chance = buying(of_buys)
    of_expected = _level(
        lambda shift: float(np.maximum(expected * np.exp(own[0] + shift), chance).sum()),
        float(expected.sum()),
    )
    return replace(
        found,
        expected_intercept=_rounded(found.expected_intercept + of_expected),
        buys_intercept=_rounded(found.buys_intercept + of_buys),
    )


def _level(total: Callable[[float], float], wanted: float) -> float:
    """Where a total that rises with the level is as wanted; the nearer end where it is nowhere."""
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if total(middle) < wanted else (low, middle)
    return (low + high) / 2.0


def _rounded(number: float) -> float:
    """To ten significant digits: what a solver leaves beyond them differs from machine to machine."""
    return float(f"{number:.10g}")
