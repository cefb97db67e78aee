"""The level of a season: what the same days of last year brought, against what was expected of them then.

No family knows the time of the year. Over a whole year that is no loss; over some weeks before Christmas it is. Where
the history has seen these weeks once, they tell by how much.
"""

from __future__ import annotations

from typing import Final

from enrichment.calibration.choice import LEAST_HOLDOUT_PURCHASES, Choice, fit_candidates, some_of, use
from enrichment.calibration.holdout import hold_out, predictions
from enrichment.calibration.snapshot import Snapshot
from enrichment.days import format_day
from schemas.documents import Document

YEAR_OF_WEEKS_DAYS: Final = 364
"""A year of whole weeks, so that the days of last year are the same days of the week."""


def seasonal_level(before: Snapshot, after: Snapshot, chosen: Choice, unit_days: float) -> Document:
    """What came between two snapshots, a year before a holdout, against what a fit to the first expected of it.

    `level` is actual over expected purchase days of the customers known at `before`, and None, with a `reason`, where
    too little came or nothing could be fitted. `from` and `until` are dates, both included; of very many customers some
    are looked at.
    """
    before = some_of(before)
    told = {"from": format_day(before.day + 1), "until": format_day(after.day), "level": None}
    candidates = fit_candidates(before, unit_days)
    used = use(chosen, candidates)
    if used.family is None:
        return {**told, "reason": used.reason}
    holdout = hold_out(before, after, unit_days)
    expected = float(predictions(candidates.models[used.family], holdout).expected_purchases.sum())
    actual = int(holdout.purchases.sum())
    if actual < LEAST_HOLDOUT_PURCHASES or expected <= 0.0:
        return {**told, "reason": f"these days of last year have only {actual} purchases"}
    return {
        **told,
        "family": used.family,
        "expected": round(expected, 6),
        "actual": actual,
        "level": round(actual / expected, 6),
    }
