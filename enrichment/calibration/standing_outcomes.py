"""What customers of each standing at a cut brought later: whether the rules part them as they should."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from enrichment.calibration.snapshot import Later, Snapshot, between
from enrichment.model import Model
from enrichment.scoring.features import Features
from enrichment.scoring.scores import Scored
from enrichment.scoring.standing import STANDINGS, candidates
from schemas.documents import Document
from schemas.profiles import DIMENSIONS

Bools = npt.NDArray[np.bool_]

ORDERED: dict[str, tuple[str, ...]] = {
    "segment": ("high", "medium", "low"),
    "tier": ("strategic", "named", "field", "inside"),
    "lifecycle": ("active", "at_risk", "lapsed"),
}
"""Of which standings the first should bring more per customer than the next; `emerging` is a bet, `new` is young."""
TWO_SIDED_95 = 1.96


def standing_outcomes(
    features: Features, scored: Scored, model: Model, cut: Snapshot, end: Snapshot, seen: Bools
) -> tuple[dict[str, list[Document]], list[str]]:
    """Per dimension and standing, size at the cut and later revenue and purchases; and warnings.

    Standings are those of the plain rules. `seen` (one per customer of `cut`) leaves out those of whom it is not known
    what they did. Money is in base units; `revenue_error` is the standard error of the mean revenue.
    """
    later = between(end, cut.customer_ids, cut.day)
    ranks = candidates(features, scored, model).plain
    counted = seen & features.profiling_allowed
    found: dict[str, list[Document]] = {}
    warnings: list[str] = []
    for at, dimension in enumerate(DIMENSIONS):
        found[dimension] = [
            _outcome(name, counted & (ranks[:, at] == rank), later, int(np.count_nonzero(counted)))
            for rank, name in enumerate(STANDINGS[at])
        ]
        warnings += _out_of_order(dimension, {row["standing"]: row for row in found[dimension]})
    return found, warnings


def _outcome(name: str, chosen: Bools, later: Later, in_all: int) -> Document:
    customers = int(np.count_nonzero(chosen))
    revenue, purchases = later.revenue[chosen], later.purchase_days[chosen]
    error = float(np.std(revenue, ddof=1) / np.sqrt(customers)) if customers > 1 else None
    return {
        "standing": name,
        "customers": customers,
        "share": round(customers / in_all, 6) if in_all else None,
        "revenue": _rounded(float(revenue.sum())),
        "revenue_per_customer": _rounded(float(revenue.mean())) if customers else None,
        "revenue_error": None if error is None else _rounded(error),
        "margin_per_customer": _rounded(float(later.margin[chosen].mean())) if customers else None,
        "purchases_per_customer": _rounded(float(purchases.mean())) if customers else None,
        "buyers_share": _rounded(float((purchases > 0).mean())) if customers else None,
    }


def _out_of_order(dimension: str, rows: dict[str, Document]) -> list[str]:
    """Standings that later brought less per customer than one below them."""
    held = [rows[name] for name in ORDERED[dimension] if rows[name]["customers"]]
    warnings = []
    for upper, lower in pairwise(held):
        short = lower["revenue_per_customer"] - upper["revenue_per_customer"]
        if short <= 0:
            continue
        errors = (upper["revenue_error"], lower["revenue_error"])
        beyond_chance = None not in errors and short > TWO_SIDED_95 * float(np.hypot(*errors))
        warnings.append(
            f"{dimension}: {lower['standing']} later brought more per customer than {upper['standing']} "
            f"({lower['revenue_per_customer']:.2f} against {upper['revenue_per_customer']:.2f}), "
            f"{'beyond' if beyond_chance else 'though not beyond'} what chance explains"
        )
    return warnings


def _rounded(value: float) -> float:
    return round(value, 6) + 0.0
