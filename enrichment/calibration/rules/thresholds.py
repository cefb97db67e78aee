"""Thresholds: the cuts, limits and thresholds by which scored customers get digits and standings.

Those of segments and tiers are set so that each has a sensible share of the customers; those of churn risk by what the
risk of a newcomer is, because a limit below that calls every new customer lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.calibration.rules.newcomers import newcomers
from enrichment.model import Model
from enrichment.scoring.features import Features
from enrichment.scoring.scores import Scored
from schemas.documents import Document

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_CUSTOMERS = 20
"""Fewer say nothing about a scale: a tenth of them is one customer or two."""
HIGH_HOLD, HIGH_SHARES = 0.5, (0.05, 0.25)
MEDIUM_HOLD, MEDIUM_SHARES = 0.8, (0.20, 0.60)
"""`high` are the fewest customers who hold this much of all lifetime value, within these shares of all; so on with
`medium`, those in `high` included. The bounds keep a whale from being the only one who counts."""
RELIABLE_SHARE = 0.75
EMERGING_SHARE, EMERGING_POINTS = 0.2, (10.0, 40.0)
"""`emerging` is this share of those below `medium`, by potential, within these points: from what is a real sign of
interest to what declared answers of 80 points give alone. Those without an order are taken likewise, and the higher
threshold holds."""
TIER_SHARES = {"strategic": 0.05, "named": 0.20, "field": 0.50}
"""Down to each tier, where no capacities are asked for."""
LEAST_CHANCE = 1e-4
LOOKED_AHEAD_DAYS = 1500


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What was set and why: `rfm`, `segments`, `tiers`, `lifecycle`."""

    report: Document
    warnings: list[str]


def fit_thresholds(document: Document, features: Features, scored: Scored, is_scaled: bool) -> Thresholds:
    """Set what decides standings in `document`, a model by which `features` were scored.

    `is_scaled` tells whether the points of lifetime value are ranks; else segments and tiers are left as they are.
    """
    has_order = features.order_count > 0
    customers = int(np.count_nonzero(has_order))
    too_few = f"only {customers} of the {MIN_CUSTOMERS} customers with an order that shares take"
    reason = too_few if customers < MIN_CUSTOMERS else None
    rfm = _kept(reason) if reason else _fit_rfm(document, features, scored, has_order)
    lifecycle = _fit_lifecycle(document, scored.churn_risk[has_order])
    reason = reason or (None if is_scaled else "lifetime value could not be scaled")
    segments = _kept(reason) if reason else _fit_segments(document, scored, has_order)
    tiers = _kept(reason) if reason else _fit_tiers(document, scored.value[has_order])
    report = {"rfm": rfm, "segments": segments, "tiers": tiers, "lifecycle": lifecycle}
    warnings = [f"segments and tiers keep their thresholds: {reason}"] if reason else []
    if lifecycle["action"] == "kept":
        warnings.append(f"lifecycle keeps its limits: {lifecycle['reason']}")
    return Thresholds(report, warnings)


def quintile_cuts(values: Floats) -> list[float]:
    """The four inner quintiles as `pandas.qcut(values, 5)` takes them; values up to a cut lie below it.

    Where values tie over a quintile, cuts coincide: equal values get one digit, the lowest that they could, and the
    digits between are given to nobody. The groups are those of `pandas.cut` at these quantiles. They are those of
    `qcut(duplicates="drop")` too, but where a fifth or more have the smallest value: that has a digit to itself here.
    """
    return [float(cut) for cut in np.percentile(values, [20, 40, 60, 80])]


def _kept(reason: str) -> Document:
    return {"action": "kept", "reason": f"{reason}: kept as it was"}


def _fit_rfm(document: Document, features: Features, scored: Scored, has_order: Bools) -> Document:
    columns = {
        "recency_days": scored.recency_days.astype(np.float64),
        "order_count_365d": features.order_count_365d.astype(np.float64),
        "revenue_365d": features.revenue_365d_micros / 1e6,
    }
    document["rfm"] = {name: quintile_cuts(values[has_order]) for name, values in columns.items()}
    tied = [name for name, cuts in document["rfm"].items() if len(set(cuts)) < len(cuts)]
    reason = f"quintiles of the {np.count_nonzero(has_order)} customers with an order"
    if tied:
        reason += f"; cuts coincide, so that some digits are given to nobody: {', '.join(tied)}"
    return {"action": "fitted", "reason": reason, "tied": tied}


def _fit_lifecycle(document: Document, churn_risk: Floats) -> Document:
    """Limits in between a newcomer's risk and certainty, and a margin that fits in between them.

    With c the chance that a newcomer who has been silent for all of `new` returns, `at_risk` begins where a customer's
    chance has fallen to two thirds of c and `lapsed` at one third: above every newcomer's risk, whatever the business.
    """
    rules, hysteresis = document["lifecycle"], document["hysteresis"]
    new_days = int(rules["new_days"])
    silent = newcomers(Model.model_validate(document), max(LOOKED_AHEAD_DAYS, new_days)).churn_risk
    newcomer = float(silent[: new_days + 1].max())
    chance = 1.0 - newcomer
    if chance < LEAST_CHANCE:
        reason = f"by its lifetime value fewer than one newcomer in {round(1 / LEAST_CHANCE):,} returns"
        return {**_kept(reason), "newcomer_churn_risk": newcomer}
    at_risk, lapsed = round(1.0 - chance * 2 / 3, 6), round(1.0 - chance / 3, 6)
    rules.update(at_risk_churn_risk=at_risk, lapsed_churn_risk=lapsed)
    hysteresis["churn_risk_margin"] = round(min(float(hysteresis["churn_risk_margin"]), chance / 6), 6)
    return {
        "action": "fitted",
        "reason": "where a customer's chance to return has fallen to two thirds, and to one third, of that of a "
        f"newcomer after {new_days} days of silence",
        "newcomer_churn_risk": newcomer,
        "at_risk_churn_risk": at_risk,
        "lapsed_churn_risk": lapsed,
        "churn_risk_margin": hysteresis["churn_risk_margin"],
        "one_order_at_risk_after_days": _first_day(silent >= at_risk),
        "one_order_lapsed_after_days": _first_day(silent >= lapsed),
        "share_at_risk": _share((churn_risk >= at_risk) & (churn_risk < lapsed)),
        "share_lapsed": _share(churn_risk >= lapsed),
    }


def _fit_segments(document: Document, scored: Scored, has_order: Bools) -> Document:
    """Thresholds by who holds lifetime value, a limit of risk for `high`, and potential for `emerging`."""
    rules, hysteresis = document["segments"], document["hysteresis"]
    margin = float((hysteresis.get("segment") or hysteresis)["score_margin"])
    points = scored.lifetime_value_score[has_order]
    value = np.maximum(scored.customer_lifetime_value_365d[has_order], 0.0)
    risk, potential = scored.churn_risk[has_order], scored.potential[has_order]
    most = max(100.0 - 2 * margin, 0.0)  # nearer to the top nobody could rise
    high = min(down_to(points, _share_that_holds(value, HIGH_HOLD, HIGH_SHARES)), most)
    medium = min(down_to(points, _share_that_holds(value, MEDIUM_HOLD, MEDIUM_SHARES)), high)
    at_risk = float(document["lifecycle"]["at_risk_churn_risk"])
    reliable = float(np.quantile(risk[points >= high], RELIABLE_SHARE))
    rules.update(
        high=high, medium=medium, high_churn_risk_limit=round(min(max(at_risk / 2, reliable), at_risk), 6)
    )
    emerging = _emerging_from(potential[points < medium], scored.potential[~has_order])
    if emerging is not None:
        rules["emerging_potential"] = emerging
    is_high = (points >= high) & (risk <= rules["high_churn_risk_limit"])
    return {
        "action": "fitted",
        "reason": f"high: the fewest customers who hold {HIGH_HOLD:.0%} of lifetime value, medium: {MEDIUM_HOLD:.0%}, "
        f"within {_range(HIGH_SHARES)} and {_range(MEDIUM_SHARES)} of the customers with an order",
        "high_churn_risk_limit_reason": f"half of at_risk, or more where fewer than {RELIABLE_SHARE:.0%} of those "
        "above the threshold would be below it; at most at_risk",
        "emerging_reason": _why_emerging(emerging),
        **rules,
        "share_high": _share(is_high),
        "share_medium": _share((points >= medium) & ~is_high),
        "share_emerging": _share((points < medium) & (potential >= rules["emerging_potential"])),
    }


def _fit_tiers(document: Document, value: Floats) -> Document:
    if document["tiers"].get("capacities"):
        return {"action": "kept", "reason": "the model has capacities: left to them"}
    document["tiers"]["by_value"] = {tier: down_to(value, share) for tier, share in TIER_SHARES.items()}
    shares = ", ".join(f"{tier} {share:.0%}" for tier, share in TIER_SHARES.items())
    return {
        "action": "fitted",
        "reason": f"value down to which there are, of the customers with an order: {shares}",
        **document["tiers"]["by_value"],
    }


def _share_that_holds(value: Floats, held: float, bounds: tuple[float, float]) -> float:
    """The share of customers, largest first, who together hold this much of all value; within bounds."""
    largest_first = np.cumsum(np.sort(value)[::-1])
    if largest_first[-1] <= 0:
        return bounds[0]
    needed = int(np.searchsorted(largest_first, held * largest_first[-1])) + 1
    return min(max(needed / len(value), bounds[0]), bounds[1])


def down_to(points: Floats, share: float) -> float:
    """The threshold from which on there is this share of points, at least one, cut to two decimals."""
    rank = max(math.ceil(share * len(points)), 1)
    return max(math.floor(float(np.sort(points)[-rank]) * 100) / 100, 0.0)


def _emerging_from(below_medium: Floats, without_order: Floats) -> float | None:
    """The potential from which on a customer is `emerging`: no more than the share of either group, ties apart.

    None where there is next to no potential in either.
    """
    told = [group for group in (below_medium, without_order) if np.count_nonzero(group > 0) >= MIN_CUSTOMERS]
    if not told:
        return None
    lowest, highest = EMERGING_POINTS
    return min(max(lowest, *(down_to(group, EMERGING_SHARE) for group in told)), highest)


def _why_emerging(fitted: float | None) -> str:
    if fitted is None:
        return f"fewer than {MIN_CUSTOMERS} below medium have any potential: kept as it was"
    low, high = EMERGING_POINTS
    return (
        f"the potential of the first {EMERGING_SHARE:.0%} of those below medium, and of those without an order, "
        f"within {low:.0f} and {high:.0f} points"
    )


def _first_day(holds: Bools) -> int | None:
    return int(holds.argmax()) if holds.any() else None


def _share(holds: Bools) -> float:
    return round(float(holds.mean()), 4) if len(holds) else 0.0


def _range(shares: tuple[float, float]) -> str:
    return f"{shares[0]:.0%}–{shares[1]:.0%}"
