"""Standings: where a customer stands in each dimension, and when they move.

Every rule is evaluated three times: plainly, with all thresholds made harder by a margin, and made easier.
A standing moves only when it lies outside the last two (hysteresis) and has lasted its dwell time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from enrichment.model import Model, TierThresholds
from enrichment.scoring.features import Features
from enrichment.scoring.scores import Scored
from schemas.changes import LEVELS
from schemas.profiles import DIMENSIONS

Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SEGMENT, TIER, LIFECYCLE = range(3)
STANDINGS: tuple[tuple[str, ...], ...] = tuple(LEVELS[dimension] for dimension in DIMENSIONS)
"""Per dimension, the standings from the top; a rank is the position in it."""
HIGH, MEDIUM, EMERGING, LOW, SEGMENT_PROSPECT = range(5)
ACTIVE, NEW, AT_RISK, LAPSED, LIFECYCLE_PROSPECT = range(5)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Ranks by the plain rule and by the harder and easier ones: (rows, 3), columns as in DIMENSIONS.

    `past_new` tells of customers whose first order is longer ago than `new` lasts.
    """

    plain: Ranks
    hard: Ranks
    easy: Ranks
    past_new: Bools


def candidates(features: Features, scored: Scored, model: Model) -> Candidates:
    """Evaluate all rules on all rows."""
    has_order = features.order_count > 0
    tier_margin = model.hysteresis.tier_margin
    by_worth = _limits(model.tiers.thresholds, tier_margin)
    by_potential = _limits(model.tiers.by_potential, tier_margin)
    tiers = np.where(
        has_order, _tier_ranks(scored.tier_points, by_worth), _tier_ranks(scored.potential, by_potential)
    )
    ranks = (_segments(scored, has_order, model), tiers, _lifecycles(scored, has_order, model))
    plain, hard, easy = np.stack(ranks, axis=2)
    return Candidates(plain, hard, easy, scored.tenure_days > model.lifecycle.new_days)


def next_standing(
    current: tuple[int, int, int] | None,
    changed_days: tuple[int, int, int],
    day: int,
    plain: list[int],
    hard: list[int],
    easy: list[int],
    past_new: bool,
    dwell_days: tuple[int, int, int],
) -> tuple[int, int, int]:
    """Where a customer stands after an evaluation on `day`; `dwell_days` are those of each dimension.

    Entering, the first and the last counted order, and the end of `new` follow the plain rule at once.
    """
    if current is None or (current[LIFECYCLE] == LIFECYCLE_PROSPECT) != (
        plain[LIFECYCLE] == LIFECYCLE_PROSPECT
    ):
        return plain[0], plain[1], plain[2]
    ranks = list(current)
    for dimension in (SEGMENT, TIER, LIFECYCLE):
        rank = current[dimension]
        if dimension == LIFECYCLE and rank == NEW and past_new:
            ranks[dimension] = plain[dimension]
        elif day - changed_days[dimension] >= dwell_days[dimension]:
            ranks[dimension] = min(max(rank, easy[dimension]), hard[dimension])
    return ranks[0], ranks[1], ranks[2]


def keeps_standing(
    current: Ranks, changed_days: Ranks, day: Ints, found: Candidates, dwell_days: tuple[int, int, int]
) -> Bools:
    """Rows that `next_standing` leaves where they stand, which is not None; (rows, 3) of ranks and of days."""
    lasts = day[:, None] - changed_days < np.array(dwell_days)
    keeps = (((current >= found.easy) & (current <= found.hard)) | lasts).all(axis=1)
    lifecycle = current[:, LIFECYCLE]
    keeps &= ~((lifecycle == NEW) & found.past_new)
    keeps &= (lifecycle == LIFECYCLE_PROSPECT) == (found.plain[:, LIFECYCLE] == LIFECYCLE_PROSPECT)
    return np.asarray(keeps, dtype=np.bool_)


def moved(threshold: float, margin: float) -> float:
    """A threshold moved by a margin, as the two are written: 0.2 and 0.1 make 0.3, not 0.30000000000000004."""
    return round(threshold + margin, 12)


@lru_cache(maxsize=1_000)
def _each_way(threshold: float, margin: float) -> Floats:
    """A threshold as it is, made harder by a margin, and made easier: shape (3, 1).

    Kept, since each evaluation asks for the same dozen again; a model's numbers are few.
    """
    return np.array([[moved(threshold, way * margin)] for way in (0, 1, -1)])


def _segments(scored: Scored, has_order: Bools, model: Model) -> Ranks:
    rules, margin = model.segments, model.hysteresis.segment_margin
    lifetime, potential = scored.lifetime_value_score, scored.potential
    is_high = lifetime >= _each_way(rules.high, margin)
    is_loyal = scored.churn_risk <= _each_way(
        rules.high_churn_risk_limit, -model.hysteresis.churn_risk_margin
    )
    is_medium = lifetime >= _each_way(rules.medium, margin)
    is_emerging = potential >= _each_way(rules.emerging_potential, margin)
    otherwise = np.where(is_emerging, EMERGING, np.where(has_order, LOW, SEGMENT_PROSPECT))
    by_worth = np.where(is_high & is_loyal, HIGH, np.where(is_high | is_medium, MEDIUM, otherwise))
    return np.where(has_order, by_worth, otherwise)


def tier_ranks(points: Floats, thresholds: TierThresholds, margin: float = 0.0) -> Ranks:
    """Ranks of the tiers that these points come to, every threshold raised by a margin: shape (rows,)."""
    return _tier_ranks(points, _limits(thresholds, margin)[:, 1])


def _limits(thresholds: TierThresholds, margin: float) -> Floats:
    """Of each tier but the last, from below, as `_each_way`: shape (3, 3, 1)."""
    in_order = (thresholds.field, thresholds.named, thresholds.strategic)
    return np.stack([_each_way(threshold, margin) for threshold in in_order])


def _tier_ranks(points: Floats, limits: Floats) -> Ranks:
    ranks: Ranks = 3 - (points >= limits).sum(axis=0)
    return ranks


def _lifecycles(scored: Scored, has_order: Bools, model: Model) -> Ranks:
    risk: Floats = getattr(scored, model.lifecycle.risk)
    at_risk, lapsed = model.lifecycle.limits
    calm = np.where(scored.tenure_days <= model.lifecycle.new_days, NEW, ACTIVE)
    at_risk_or_calm = np.where(risk >= _each_way(at_risk, -model.lifecycle_margin), AT_RISK, calm)
    with_order = np.where(risk >= _each_way(lapsed, -model.lifecycle_margin), LAPSED, at_risk_or_calm)
    return np.where(has_order, with_order, LIFECYCLE_PROSPECT)
