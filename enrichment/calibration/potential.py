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
Ints = npt.NDArray[np.int64]

MIN_CUSTOMERS = 30
"""A mean of fewer than this many says little, and a bootstrap of it less than it seems to."""
CONFIDENCE = 0.95
LARGEST_P_VALUE = 0.05
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
    was made to be `emerging`. `growers` of `with_order` is what `compare_growers` says of those who brought more in the
    days after the cut than in as many before.
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
    before = between(cut, cut.customer_ids, cut.day - days)
    pool = has_order & (is_emerging | (segment == LOW))
    with_order["growers"] = compare_growers(
        is_emerging[pool], scored.recency_days[pool], later.revenue[pool] > before.revenue[pool]
    )
    without = held_against("prospect", is_emerging & ~has_order, segment == SEGMENT_PROSPECT)
    return {"days": days, "with_order": with_order, "before_first_order": without}


def compare_growers(is_emerging: Bools, recency_days: Ints, grew: Bools) -> Document:
    """Whether `emerging` finds more who grow than as many customers taken by the latest purchase do.

    Arrays over customers with an order who are `emerging` or `low`; of equals by recency, the first come first. Who is
    in both selections tells nothing, and the two hold equally many others. So the growers of these are compared, by an
    exact test of their numbers against halves (McNemar 1947, "Note on the sampling error of the difference between
    correlated proportions", Psychometrika 12). `emerging` and `most_recent` are the shares who grew, and `p_value` the
    chance of so many more in `emerging` if it were no better; `verdict` is `yes` up to LARGEST_P_VALUE, `no` above it,
    and `cannot be told` of fewer than MIN_CUSTOMERS who are in one selection only.
    """
    customers = int(np.count_nonzero(is_emerging))
    is_recent = np.zeros(len(grew), dtype=np.bool_)
    is_recent[np.argsort(recency_days, kind="stable")[:customers]] = True
    only_emerging, only_recent = grew[is_emerging & ~is_recent], grew[is_recent & ~is_emerging]
    found = {
        "customers": customers,
        "emerging": _share(grew[is_emerging]),
        "most_recent": _share(grew[is_recent]),
        "in_one_only": len(only_emerging),
    }
    if len(only_emerging) < MIN_CUSTOMERS:
        return {**found, "p_value": None, "verdict": "cannot be told"}
    more, less = int(only_emerging.sum()), int(only_recent.sum())
    p_value = 1.0
    if more + less:
        p_value = float(stats.binomtest(more, more + less, alternative="greater").pvalue)
    verdict = "yes" if p_value <= LARGEST_P_VALUE else "no"
    return {**found, "p_value": round(p_value, 6), "verdict": verdict}


def unproven(potential: Document) -> list[str]:
    """The warning that `emerging` may as well be left out, where its customers did not grow more often."""
    found = potential["with_order"].get("growers")
    if found is None or found["verdict"] != "no":
        return []
    return [
        f"emerging: of its {found['customers']:,} customers with an order, {found['emerging']:.0%} brought more in the "
        f"{potential['days']} days after the cut than in as many before it; of as many who bought last, "
        f"{found['most_recent']:.0%}. So it is not shown to find those who grow better than the latest purchase: "
        "consider leaving it out (segments.emerging_potential: 100)"
    ]


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


def _share(values: Bools) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None


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
