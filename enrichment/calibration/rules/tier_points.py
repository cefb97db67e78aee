"""Tiers by what customers are expected to bring: points of the expected margin, and the thresholds on them.

A tier is service for what a customer will bring, so by default it goes by next year's expected margin: lifetime value
less cost to serve. Points are ranks, as those of the metrics are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from enrichment.calibration.rules.quantile_curve import quantile_curve
from enrichment.calibration.rules.thresholds import MIN_CUSTOMERS, TIER_SHARES, down_to
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import Model
from enrichment.scoring.scores import score
from schemas.documents import Document


@dataclass(frozen=True, slots=True)
class TierPoints:
    """A document whose tiers go by expected margin, and a report; as it was, and a warning, if too little is known."""

    document: Document
    report: Document | None
    warnings: list[str]


def fit_tier_points(document: Document, snapshot: Snapshot) -> TierPoints:
    """Points and thresholds of expected margin for a document that has its final `lifetime_value` and costs.

    Thresholds are down to the same shares as those of value, and so low that they can be passed by the margin of
    hysteresis. Capacities, if there are any, replace them.
    """
    model = Model.model_validate(document)
    features = snapshot.features(model)
    margin = score(features, model).expected_margin[features.order_count > 0]
    used = margin[margin > 0]
    if len(used) < MIN_CUSTOMERS or used.min() == used.max():
        reason = f"{len(used)} of {len(margin)} customers with an order are expected to bring a margin: too few to rank"
        kept = f"tiers: {reason}: they go by {model.tiers.by.replace('_', ' ')} as before"
        return TierPoints(document, None, [kept])
    curve = quantile_curve(used, "more_is_better")
    at, of = (np.array(column) for column in zip(*curve, strict=True))
    points = np.asarray(np.round(np.interp(margin, at, of), 6), dtype=np.float64)
    most = max(100.0 - 2 * model.hysteresis.tier_margin, 0.0)
    thresholds = {tier: min(down_to(points, share), most) for tier, share in TIER_SHARES.items()}
    fitted = copy.deepcopy(document)
    fitted["tiers"] |= {"by": "expected_margin", "breakpoints": curve, "by_expected_margin": thresholds}
    shares = ", ".join(f"{tier} {share:.0%}" for tier, share in TIER_SHARES.items())
    report = {
        "action": "fitted",
        "by": "expected_margin",
        "reason": f"points of expected margin down to which there are, of the customers with an order: {shares}",
        **thresholds,
        "expected_margin_from": {
            tier: round(float(np.interp(t, of, at)), 2) for tier, t in thresholds.items()
        },
    }
    return TierPoints(fitted, report, [])
