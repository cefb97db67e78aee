"""Whether `at_risk` and `lapsed` named beforehand who then stayed away, beside a ranking by silence alone.

Everything is told per customer first, so that figures of resampled customers are sums with weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from enrichment.calibration.as_lived.timelines import NO_STANDING, Moves, PurchaseDays
from enrichment.calibration.bootstrap import interval, quotient, ratio, resampled, rounded
from enrichment.days import format_day
from enrichment.scoring.features import NO_DAY
from enrichment.scoring.standing import AT_RISK, LAPSED
from schemas.documents import Document

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PANEL_EVERY_DAYS: Final = 7
WARNINGS: Final[dict[str, tuple[int, ...]]] = {
    "at_risk": (AT_RISK,),
    "lapsed": (LAPSED,),
    "at_risk_or_lapsed": (AT_RISK, LAPSED),
}
LONG_SILENCE_DAYS: Final = 45
"""A warning on an earlier day of a silence is early; and how many panel rows are that long silent is told."""


@dataclass(frozen=True, slots=True)
class Panels:
    """One row per customer and panel day, of those who bought less than a window ago and have a standing.

    `stays_away`: no purchase day in the `window_days` after the panel's day.
    """

    days: range
    window_days: int
    customer: Ints
    recency_days: Ints
    lifecycle: Ints
    stays_away: Bools

    def __len__(self) -> int:
        return len(self.customer)

    @classmethod
    def of(
        cls, purchases: PurchaseDays, lifecycle: Moves, customers: int, days: range, window: int
    ) -> Panels:
        """The panels of these days; the purchases must be known for a window after the last of them."""
        everyone = np.arange(customers)
        parts = []
        for day in days:
            on = np.full(customers, day)
            last, rank = purchases.last_by(everyone, on), lifecycle.at(everyone, on)
            stays_away = purchases.next_after(everyone, on) > day + window
            rows = np.column_stack([everyone, day - last, rank, stays_away])
            parts.append(rows[(last != NO_DAY) & (day - last < window) & (rank != NO_STANDING)])
        table = np.concatenate(parts)
        return cls(days, window, table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.bool_))


def panel_days(cut: int, end: int, window_days: int) -> range:
    """Every 7th day from the cut that leaves a window until the end; empty where there is none."""
    return range(cut, end - window_days + 1, PANEL_EVERY_DAYS)


def panel_report(panels: Panels) -> Document:
    """What the panels hold, and what a warning of everyone who is silent for 45 days would come to."""
    silent = panels.recency_days >= LONG_SILENCE_DAYS
    hits = np.count_nonzero(silent & panels.stays_away)
    return {
        "first": format_day(panels.days[0]),
        "last": format_day(panels.days[-1]),
        "count": len(panels.days),
        "every_days": PANEL_EVERY_DAYS,
        "customers": len(np.unique(panels.customer)),
        "customer_days": len(panels),
        "stayed_away": int(np.count_nonzero(panels.stays_away)),
        "base_rate": ratio(np.count_nonzero(panels.stays_away), len(panels)),
        "alarms_of_recency_45": int(np.count_nonzero(silent)),
        "precision_of_recency_45": ratio(hits, np.count_nonzero(silent)),
        "recall_of_recency_45": ratio(hits, np.count_nonzero(panels.stays_away)),
    }


FIGURES: Final = ("recall", "precision", "recency_recall", "recency_precision", "recall_ratio")


def warnings_beside_recency(panels: Panels) -> Document:
    """Per warning: alarms, precision and recall, and those of as many rows that were silent longest.

    Rows of all panels are ranked together; of those who are silent equally long, as large a part as has a place.
    Intervals are of resampled customers.
    """
    customers, of = np.unique(panels.customer, return_inverse=True)
    window, rows = panels.window_days, len(panels)
    # Columns: rows by recency, those of them who stay away; then alarms, and alarms that stay away, by warning.
    counted = [
        (panels.recency_days, np.ones(rows, np.bool_)),
        (window + panels.recency_days, panels.stays_away),
    ]
    for at, rank in enumerate((AT_RISK, LAPSED)):
        alarms = panels.lifecycle == rank
        counted.append((np.full(rows, 2 * window + 2 * at), alarms))
        counted.append((np.full(rows, 2 * window + 2 * at + 1), alarms & panels.stays_away))
    column = np.concatenate([places[chosen] for places, chosen in counted])
    customer = np.concatenate([of[chosen] for _, chosen in counted])
    shape = (2 * window + 4, len(customers))
    counts = sparse.coo_array((np.ones(len(column)), (column, customer)), shape=shape).tocsr()

    def figures(weights: Floats) -> Floats:
        return _panel_figures(counts @ weights, window)

    totals = counts @ np.ones(len(customers))
    found = _panel_figures(totals, window).reshape(len(WARNINGS), len(FIGURES))
    drawn = resampled(len(customers), figures).reshape(-1, *found.shape)
    return {
        name: {
            "customer_days": rows,
            "alarms": int(np.count_nonzero(np.isin(panels.lifecycle, WARNINGS[name]))),
            "base_rate": ratio(np.count_nonzero(panels.stays_away), rows),
            **_with_interval("precision", found[at], drawn[:, at]),
            **_with_interval("recall", found[at], drawn[:, at]),
            "recency": {
                "precision": rounded(found[at, FIGURES.index("recency_precision")]),
                "recall": rounded(found[at, FIGURES.index("recency_recall")]),
            },
            **_with_interval("recall_ratio", found[at], drawn[:, at]),
        }
        for at, name in enumerate(WARNINGS)
    }


def _panel_figures(totals: Floats, window: int) -> Floats:
    """FIGURES of each warning, one after the other, from the sums of the columns; NaN where not defined."""
    by_silence, positive_by_silence = totals[:window][::-1], totals[window : 2 * window][::-1]
    ranked = np.append(0.0, np.cumsum(by_silence))
    reached = np.append(0.0, np.cumsum(positive_by_silence))
    at_risk, at_risk_hits, lapsed, lapsed_hits = totals[2 * window :]
    found = []
    for alarms, hits in (
        (at_risk, at_risk_hits),
        (lapsed, lapsed_hits),
        (at_risk + lapsed, at_risk_hits + lapsed_hits),
    ):
        recency_hits = float(np.interp(alarms, ranked, reached))
        recall, recency_recall = (quotient(part, reached[-1]) for part in (hits, recency_hits))
        found += [
            recall,
            quotient(hits, alarms),
            recency_recall,
            quotient(recency_hits, alarms),
            quotient(recall, recency_recall),
        ]
    return np.array(found)


def _with_interval(name: str, found: Floats, drawn: Floats) -> Document:
    at = FIGURES.index(name)
    return {name: rounded(found[at]), f"{name}_interval": interval(drawn[:, at])}
