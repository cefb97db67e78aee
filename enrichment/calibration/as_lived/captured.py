"""What the customers at the top at a cut brought later, beside as many customers chosen by plain rules."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.as_lived.timelines import Moves
from enrichment.calibration.bootstrap import interval, quotient, ratio, resampled, rounded
from enrichment.calibration.snapshot import Later, Snapshot, between
from enrichment.model import Model
from enrichment.scoring.scores import score
from schemas.changes import LEVELS
from schemas.documents import Document
from schemas.profiles import Dimension

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOPS: Final[dict[str, Dimension]] = {"high": "segment", "strategic": "tier"}
"""Standings at the top of a dimension whose customers should bring most."""


def captured(moves: dict[Dimension, Moves], model: Model, cut: Snapshot, end: Snapshot) -> Document:
    """Shares of revenue and margin that the customers of each top standing brought after the cut, until the end.

    Whole is what the customers of both snapshots brought. Beside them stand as many customers with the highest revenue
    of 365 days at the cut, the highest sum of RFM digits (ties by that revenue), and the highest lifetime value; ties
    are broken by customer id. The interval of `ratio_to_last_years_revenue` (of shares of revenue) is of resampled
    customers. `moves` are by the places of `end`; the lifetime value is that of `model` at the cut.
    """
    cut = cut.also_in(end)
    later = between(end, cut.customer_ids, cut.day)
    orders = _orders(cut, model)
    places = end.positions(cut.customer_ids)
    found: Document = {}
    for standing, dimension in TOPS.items():
        ranks = moves[dimension].at(places, np.full(len(cut), cut.day))
        members = ranks == LEVELS[dimension].index(standing)
        found[standing] = {"dimension": dimension, **_beside(members, orders, later)}
    return found


def _orders(cut: Snapshot, model: Model) -> dict[str, Ints]:
    """All customers of the cut from the top, by each plain rule."""
    if not len(cut):
        return dict.fromkeys(("last_years_revenue", "rfm", "lifetime_value"), np.zeros(0, dtype=np.int64))
    features = cut.features(model)
    scored = score(features, model)
    revenue = features.revenue_365d_micros
    digits = scored.rfm // 100 + scored.rfm // 10 % 10 + scored.rfm % 10
    lifetime = np.nan_to_num(scored.customer_lifetime_value_365d, nan=-np.inf)
    places = np.arange(len(cut))  # in the order of ids
    return {
        "last_years_revenue": np.lexsort((places, -revenue)),
        "rfm": np.lexsort((places, -revenue, -digits)),
        "lifetime_value": np.lexsort((places, -lifetime)),
    }


def _beside(members: Bools, orders: dict[str, Ints], later: Later) -> Document:
    size = int(np.count_nonzero(members))
    by_revenue = orders["last_years_revenue"]

    def to_plain(weights: Floats) -> Floats:
        chosen = float((weights * later.revenue)[members].sum())
        usual = _taken(by_revenue, float(weights[members].sum()), weights, later.revenue)
        return np.array([quotient(chosen, usual)])

    once = np.ones(len(members))
    drawn = resampled(len(members), to_plain) if size else np.zeros((0, 1))
    return {
        "customers": size,
        "customers_share": ratio(size, len(members)),
        "revenue_share": ratio(later.revenue[members].sum(), later.revenue.sum()),
        "margin_share": ratio(later.margin[members].sum(), later.margin.sum()),
        **{
            f"by_{name}": {
                "revenue_share": ratio(_taken(order, size, once, later.revenue), later.revenue.sum()),
                "margin_share": ratio(_taken(order, size, once, later.margin), later.margin.sum()),
            }
            for name, order in orders.items()
        },
        "ratio_to_last_years_revenue": rounded(to_plain(once)[0]) if size else None,
        "ratio_to_last_years_revenue_interval": interval(drawn[:, 0]),
    }


def _taken(order: Ints, size: float, weights: Floats, amounts: Floats) -> float:
    """What the first `size` customers of an order brought, each as often as drawn."""
    reached = np.append(0.0, np.cumsum(weights[order]))
    brought = np.append(0.0, np.cumsum(weights[order] * amounts[order]))
    return float(np.interp(size, reached, brought))
