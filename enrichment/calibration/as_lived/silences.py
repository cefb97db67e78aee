"""Silences after a purchase: how many that lasted were warned of early, and how many warnings were false."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.as_lived.panels import LONG_SILENCE_DAYS, WARNINGS, Panels
from enrichment.calibration.as_lived.timelines import NO_STANDING, Moves, PurchaseDays
from enrichment.calibration.bootstrap import interval, quotient, ratio, resampled, rounded
from enrichment.days import FOREVER_DAY, YEAR_DAYS
from enrichment.scoring.features import NO_DAY
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

LEAST_PURCHASE_DAYS: Final = 3
"""Silences are judged after at least as many purchase days: before, nobody has a pace."""
SILENCE_FIGURES: Final = ("base_rate", "warned_share", "precision")


def silences_report(
    purchases: PurchaseDays, lifecycle: Moves, cut: int, end: int, window_days: int
) -> Document:
    """Silences after a purchase day of the holdout, each as long as the window can be seen.

    A lapser is a silence that reaches `window_days` without a purchase; it is warned early if the customer was
    `at_risk` or `lapsed` at the end of one of its days 1 to 44, before any purchase. `days_of_lead` is the window less
    the median day of the first warning of the lapsers who were warned early.
    """
    chosen = (purchases.number >= LEAST_PURCHASE_DAYS) & (purchases.day >= cut)
    chosen &= purchases.day + window_days <= end
    customer, day = purchases.customer[chosen], purchases.day[chosen]
    following = purchases.next_after(customer, day)
    lapses = following > day + window_days
    warned_day = lifecycle.first_day_in(WARNINGS["at_risk_or_lapsed"], customer, day + 1)
    last_early = np.minimum(day + min(LONG_SILENCE_DAYS, window_days) - 1, following - 1)
    warned = warned_day <= last_early
    customers, of = np.unique(customer, return_inverse=True)
    per_customer = np.array(
        [
            np.bincount(of, weights=part.astype(np.float64), minlength=len(customers))
            for part in (np.ones(len(of)), lapses, warned, lapses & warned)
        ]
    )

    def figures(weights: Floats) -> Floats:
        silences, lapsers, alarms, hits = (float((row * weights).sum()) for row in per_customer)
        return np.array([quotient(lapsers, silences), quotient(hits, lapsers), quotient(hits, alarms)])

    found = figures(np.ones(len(customers)))
    drawn = resampled(len(customers), figures) if len(customers) else np.zeros((0, len(found)))
    first_days = (warned_day - day)[lapses & warned]
    told: Document = {
        "silences": len(customer),
        "customers": len(customers),
        "lapsers": int(np.count_nonzero(lapses)),
        "warned_early": int(np.count_nonzero(warned)),
        "lapsers_warned_early": int(np.count_nonzero(lapses & warned)),
    }
    for at, name in enumerate(SILENCE_FIGURES):
        told |= {name: rounded(found[at]), f"{name}_interval": interval(drawn[:, at])}
    told["days_of_lead"] = window_days - float(np.median(first_days)) if len(first_days) else None
    return told


def false_alarms(panels: Panels, purchases: PurchaseDays, lifecycle: Moves, cut: int, end: int) -> Document:
    """Downgrades to `at_risk` or `lapsed` after the cut in silences that a purchase ended within the window.

    Of the panels' customers, per year of each of them after the cut. Silences that last at the end are not counted:
    nobody knows yet whether their warnings were false.
    """
    customers = np.unique(panels.customer)
    warns = np.isin(lifecycle.current, WARNINGS["at_risk_or_lapsed"]) & (
        lifecycle.current > lifecycle.previous
    )
    warns &= (lifecycle.previous != NO_STANDING) & (lifecycle.day > cut) & (lifecycle.day <= end)
    warns &= np.isin(lifecycle.customer, customers)
    customer, day = lifecycle.customer[warns], lifecycle.day[warns]
    last, following = purchases.last_by(customer, day - 1), purchases.next_after(customer, day - 1)
    false = (last != NO_DAY) & (following != FOREVER_DAY) & (following <= last + panels.window_days)
    years = len(customers) * (end - cut) / YEAR_DAYS
    per_customer = np.bincount(np.searchsorted(customers, customer[false]), minlength=len(customers))
    drawn = resampled(len(customers), lambda weights: np.array([(per_customer * weights).sum() / years]))
    return {
        "false_alarms": int(np.count_nonzero(false)),
        "customer_years": round(years, 6),
        "false_alarms_per_customer_year": ratio(np.count_nonzero(false), years),
        "false_alarms_per_customer_year_interval": interval(drawn[:, 0]),
    }
