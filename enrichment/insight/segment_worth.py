"""What customers of each segment are worth on average, and by how much the segments differ.

A difference between the customers of two segments is not the effect of moving one of them: who is moved stays who they
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enrichment.customer.customer import Customer
from enrichment.days import day_of
from enrichment.model import Model
from enrichment.scoring.features import build_features
from enrichment.scoring.scores import score
from enrichment.scoring.standing import SEGMENT, STANDINGS
from schemas.documents import Document

SEGMENTS: tuple[str, ...] = STANDINGS[SEGMENT]


def expected_worth(customers: Sequence[Customer], last_midnight_us: int, model: Model) -> Document:
    """Mean `customer_lifetime_value_365d` of the customers in each segment, where it is defined: those with an order.

    Each customer is as of the later of their latest record and the midnight. Segments with nobody to ask are left out.
    """
    worth: Document = {"basis": "customer_lifetime_value_365d", "days": 365}
    if not customers:
        return {**worth, "segments": {}}
    days = np.array([day_of(customer.as_of_us(last_midnight_us)) for customer in customers], dtype=np.int64)
    snapshots = [customer.snapshot() for customer in customers]
    features = build_features(snapshots, np.arange(len(snapshots)), days, model)
    lifetime = score(features, model).customer_lifetime_value_365d
    ranks = np.array([-1 if (now := c.decision.standing) is None else now[SEGMENT] for c in customers])
    known = features.profiling_allowed & ~np.isnan(lifetime)
    segments = {}
    for rank, name in enumerate(SEGMENTS):
        rows = known & (ranks == rank)
        if rows.any():
            mean = round(float(lifetime[rows].mean()), 6)
            segments[name] = {"customers": int(np.count_nonzero(rows)), "mean": mean}
    return {**worth, "segments": segments}


def later_worth(model: Model) -> Document | None:
    """What customers of each segment brought after the cut of the model's calibration; None where it does not say."""
    if model.calibration is None or not model.calibration.segments:
        return None
    found = model.calibration.segments
    segments = {
        name: {"customers": found[name].customers, "mean": found[name].margin_per_customer}
        for name in SEGMENTS
        if name in found
    }
    return {"basis": "later_margin", "days": max(part.days for part in found.values()), "segments": segments}


def with_differences(worth: Mapping[str, Any], current: str) -> Document:
    """The worth of segments, with by how much those above `current` differ from it; from the top."""
    segments = worth["segments"]
    better = SEGMENTS[: SEGMENTS.index(current)]
    differences = {
        name: round(segments[name]["mean"] - segments[current]["mean"], 6)
        for name in better
        if name in segments and current in segments
    }
    return {**worth, "differences": differences}
