"""Does potential foretell anything? What `emerging` customers spent later, against whom they would else be with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from enrichment.calibration.snapshot import Later, Snapshot, between
from enrichment.model import Model
from enrichment.scoring.scores import Scored, score
from enrichment.scoring.standing import EMERGING, LOW, SEGMENT, SEGMENT_PROSPECT, candidates
from schemas.documents import Document

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_CUSTOMERS = 30
"""A mean of fewer than this many says little, and a bootstrap of it less than it seems to."""
CONFIDENCE = 0.95
RESAMPLES = 1000
_SEED = 1987
_DRAWN_AT_ONCE = 4_000_000


def validate_potential(model: Model, cut: Snapshot, end: Snapshot) -> Document:
    """Later revenue per customer of `emerging` and of the segment below it, by the plain rules at `cut`.

    `model` must know nothing of what came after `cut`. `with_order` compares `emerging` to `low`, `before_first_order`
    to `prospect`. Each has both segments (`customers`, and the means per customer of `later_revenue`, `later_margin`
    and `customer_lifetime_value_365d`, which the model expected at the cut; base units; `bought_share`) and what
    `compare_means` says of later revenue: its `verdict` is on whether `emerging` spends more. `beyond_lifetime_value`
    says so for customers of equal lifetime value, which the segments differ in too. A difference is no effect: nobody
    was made to be `emerging`.
    """
    days = end.day - cut.day
    cut = cut.also_in(end)
    if not len(cut):
        nobody = compare_means(np.zeros(0), np.zeros(0))
        return {"days": days, "with_order": nobody, "before_first_order": nobody}
    features = cut.features(model)
    scored = score(features, model)
    segment = candidates(features, scored, model).plain[:, SEGMENT]
    later = between(end, cut.customer_ids, cut.day)
    has_order, is_emerging = features.order_count > 0, segment == EMERGING

    def held_against(name: str, chosen: Bools, others: Bools) -> Document:
        return {
            "emerging": _group(chosen, scored, later),
            name: _group(others, scored, later),
            **compare_means(later.revenue[chosen], later.revenue[others]),
        }

    with_order = held_against("low", is_emerging & has_order, segment == LOW)
    with_order["beyond_lifetime_value"] = _beyond_lifetime_value(
        is_emerging & has_order, segment == LOW, scored, later
    )
    without = held_against("prospect", is_emerging & ~has_order, segment == SEGMENT_PROSPECT)
    return {"days": days, "with_order": with_order, "before_first_order": without}


def compare_means(first: Floats, second: Floats) -> Document:
    """Whether values of one group are larger in the mean than those of another.

    `difference` of the means, its bootstrap `interval` (percentiles, of `confidence`), and a `verdict`: `yes`, `no` or
    `cannot be told`, with its `reason`. No interval where either group has fewer than MIN_CUSTOMERS values.
    """
    sizes = len(first), len(second)
    difference = round(float(first.mean() - second.mean()), 6) if min(sizes) else None
    if min(sizes) < MIN_CUSTOMERS:
        interval, verdict = None, "cannot be told"
        reason = f"{sizes[0]} customers against {sizes[1]}: it takes {MIN_CUSTOMERS} of each"
    else:
        interval = _bootstrap_interval(first, second)
        low, high = interval
        verdict = "yes" if low > 0 else "no" if high < 0 else "cannot be told"
        where = {"yes": "lies above zero", "no": "lies below zero"}.get(verdict, "holds zero")
        reason = f"the interval of the difference {where}"
    return {
        "difference": difference,
        "interval": interval,
        "confidence": CONFIDENCE,
        "verdict": verdict,
        "reason": reason,
    }


def _bootstrap_interval(first: Floats, second: Floats) -> list[float]:
    result = stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=RESAMPLES,
        batch=max(_DRAWN_AT_ONCE // max(len(first), len(second)), 1),
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return [round(float(bound), 6) for bound in result.confidence_interval]


def _beyond_lifetime_value(chosen: Bools, others: Bools, scored: Scored, later: Later) -> Document:
    """The same comparison of what is over the mean of those `others` who are in the same tenth by lifetime value."""
    if not others.any():
        return compare_means(later.revenue[chosen], later.revenue[others])
    lifetime = scored.customer_lifetime_value_365d
    tenth = np.searchsorted(np.quantile(lifetime[others], np.arange(1, 10) / 10), lifetime, side="left")
    count = np.bincount(tenth[others], minlength=10)
    total = np.bincount(tenth[others], weights=later.revenue[others], minlength=10)
    usual = np.divide(total, count, out=np.zeros(10), where=count > 0)
    # Where many tie at the top nobody is above them: who is, is held against those at the top.
    last = int(np.flatnonzero(count)[-1])
    usual[last:] = usual[last]
    over = later.revenue - usual[tenth]
    return compare_means(over[chosen], over[others])


def _group(chosen: Bools, scored: Scored, later: Later) -> Document:
    def mean(values: Floats) -> float | None:
        return round(float(values.mean()), 6) if len(values) else None

    return {
        "customers": int(np.count_nonzero(chosen)),
        "later_revenue": mean(later.revenue[chosen]),
        "later_margin": mean(later.margin[chosen]),
        "bought_share": mean((later.purchase_days[chosen] > 0).astype(np.float64)),
        "customer_lifetime_value_365d": mean(np.nan_to_num(scored.customer_lifetime_value_365d[chosen])),
    }
