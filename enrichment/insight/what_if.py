"""What other sizes of tiers would do: who would move, and which costs and values with them. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.model import Model, TierThresholds
from enrichment.money import format_micros
from enrichment.scoring.standing import STANDINGS, TIER, next_standing, tier_ranks
from enrichment.tiers.capacity import (
    SIZED_TIERS,
    CapacityError,
    FittedTiers,
    TierDrift,
    capacity_drift,
    fit_tiers,
)
from enrichment.tiers.population import MONEY, Population
from schemas.documents import Document

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TIERS: tuple[str, ...] = STANDINGS[TIER]
"""All tiers, from the top."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Everyone's tier now, and what it would be; one element per customer of the population, ranks from the top.

    Attributes:
        fitted: The thresholds that the capacities come to.
        capacities: Those asked for, and the model's for the tiers that were not asked for.
        asked: The tiers asked for.
        then: Where the stream would put everyone at its next evaluation, which a new model brings at once: with the
            margins of hysteresis, and with dwell for those of whom the day of their last change is known.
        alone: Where the thresholds alone would put everyone, which is what capacities are counted by.
        anyway: Who would move without any new threshold: whom only dwell holds, or whose profile is newer than their
            standing.
        dwelling: Who would move, did not dwell hold them.
    """

    model: Model
    population: Population
    fitted: FittedTiers
    capacities: Mapping[str, str]
    asked: frozenset[str]
    then: Ints
    alone: Ints
    anyway: Bools
    dwelling: Bools

    @property
    def moved(self) -> Bools:
        """Who would be in another tier."""
        return np.asarray(self.then != self.population.tier, dtype=np.bool_)


def what_if(model: Model, population: Population, asked: Mapping[str, str]) -> WhatIf:
    """Thresholds for these capacities over the customers of the population, and where they would put everyone.

    Raises:
        CapacityError: Neither `asked` nor the model has a capacity, or see `capacity.fit_tiers`.
    """
    capacities: dict[str, str] = {str(tier): kept for tier, kept in model.tiers.capacities.items()}
    capacities.update(asked)
    if not capacities:
        raise CapacityError(
            f"model {model.name!r} keeps no capacities to compare with: say some, such as --tier strategic=50"
        )
    present_thresholds = model.tiers.thresholds
    fitted = fit_tiers(population.tier_points[population.has_order], capacities, present_thresholds)
    then, held = _next_tiers(population, model, fitted.thresholds)
    present, _ = _next_tiers(population, model, present_thresholds)
    return WhatIf(
        model,
        population,
        fitted,
        capacities,
        frozenset(asked),
        then,
        _ruled(population, model, fitted.thresholds, 0.0),
        np.asarray(present != population.tier, dtype=np.bool_),
        held,
    )


def what_if_document(found: WhatIf) -> Document:
    """Everything that a what-if tells, as JSON has it: money in base units as decimal strings."""
    population, model = found.population, found.model
    with_order = int(np.count_nonzero(population.has_order))
    return {
        "customers": {
            "with_order": with_order,
            "without_order": len(population) - with_order,
            "without_standing": population.without_standing,
        },
        "tiers": [_tier(found, rank) for rank in range(len(TIERS))],
        "thresholds_on": model.tiers.by,
        "thresholds": {
            "now": model.tiers.thresholds.model_dump(),
            "then": found.fitted.thresholds.model_dump(),
        },
        "moves": _moves(found),
        "moved": _moved(found),
        "would_move_anyway": int(np.count_nonzero(found.anyway)),
        "held_by_dwell": int(np.count_nonzero(found.dwelling)),
        "held_by_hysteresis": int(np.count_nonzero((found.alone != found.then) & ~found.dwelling)),
        "drift": drift_document(capacity_drift(model, population)) if model.tiers.capacities else None,
        "warnings": list(found.fitted.warnings),
    }


def drift_document(drift: tuple[TierDrift, ...]) -> list[Document]:
    """How far each tier has drifted from its capacity."""
    return [
        {
            "tier": tier.tier,
            "capacity": tier.capacity,
            "places": tier.places,
            "customers": tier.customers,
            "over": tier.over,
            "by_thresholds_alone": tier.by_thresholds,
            "threshold": tier.threshold,
            "threshold_today": tier.threshold_today,
        }
        for tier in drift
    ]


def _next_tiers(population: Population, model: Model, thresholds: TierThresholds) -> tuple[Ints, Bools]:
    """Everyone's tier at their next evaluation, and whom dwell alone holds; see `WhatIf.then`."""
    margin = model.hysteresis.tier_margin
    plain, hard, easy = (
        _ruled(population, model, thresholds, add).tolist() for add in (0.0, margin, -margin)
    )
    dwell_days = model.hysteresis.dwell_by_dimension[TIER]
    ages, sides = population.tier_age_days.tolist(), population.changed_sides.tolist()
    then = np.empty(len(population), dtype=np.int64)
    held = np.zeros(len(population), dtype=np.bool_)
    for row, tier in enumerate(population.tier.tolist()):
        moves = _next_tier(tier, plain[row], hard[row], easy[row], sides[row])
        dwells = 0 <= ages[row] < dwell_days and not sides[row]
        then[row] = tier if dwells else moves
        held[row] = dwells and moves != tier
    return then, held


def _next_tier(tier: int, plain: int, hard: int, easy: int, changed_sides: bool) -> int:
    """The tier that `next_standing` gives once dwell is over."""
    current = None if changed_sides else (0, tier, 0)
    ruled = next_standing(current, (0, 0, 0), 0, [0, plain, 0], [0, hard, 0], [0, easy, 0], False, (0, 0, 0))
    return ruled[TIER]


def _ruled(population: Population, model: Model, thresholds: TierThresholds, margin: float) -> Ints:
    """Ranks by what tiers go by for customers with an order, by potential for all others."""
    return np.where(
        population.has_order,
        tier_ranks(population.tier_points, thresholds, margin),
        tier_ranks(population.potential, model.tiers.by_potential, margin),
    )


def _tier(found: WhatIf, rank: int) -> Document:
    """One tier: its room and threshold, and who and what is in it now and then, customers without an order apart."""
    population, name = found.population, TIERS[rank]
    room = found.fitted.rooms[rank] if rank < len(SIZED_TIERS) else None
    ordered = population.has_order
    return {
        "tier": name,
        "capacity": found.capacities.get(name),
        "asked": name in found.asked,
        "places": None if room is None else room.places,
        "by_thresholds_alone": int(np.count_nonzero(ordered & (found.alone == rank))),
        "now": _sums(found, ordered & (population.tier == rank)),
        "then": _sums(found, ordered & (found.then == rank)),
        "without_order": {
            "now": int(np.count_nonzero(~ordered & (population.tier == rank))),
            "then": int(np.count_nonzero(~ordered & (found.then == rank))),
        },
    }


def _moves(found: WhatIf) -> list[Document]:
    """From tier to tier, from the top: how many, and what they bring and cost."""
    population = found.population
    moves = []
    for now in range(len(TIERS)):
        for then in range(len(TIERS)):
            rows = (population.tier == now) & (found.then == then)
            if now != then and rows.any():
                moves.append(
                    {
                        "from": TIERS[now],
                        "to": TIERS[then],
                        "direction": "upgrade" if then < now else "downgrade",
                        **_sums(found, rows),
                    }
                )
    return moves


def _sums(found: WhatIf, rows: Bools) -> Document:
    """Customers, and their money in base units."""
    digits = found.model.minor_unit_digits
    totals = [sum(column) for column in found.population.money_micros[rows].T.tolist()]
    amounts = {name: format_micros(total, digits) for name, total in zip(MONEY, totals, strict=True)}
    return {"customers": int(np.count_nonzero(rows)), **amounts}


def _moved(found: WhatIf) -> list[Document]:
    """Everyone who would move, highest value first, then by id."""
    population, digits = found.population, found.model.minor_unit_digits
    rows = np.flatnonzero(found.moved).tolist()
    rows.sort(key=lambda row: (-population.value[row], population.customer_ids[row]))
    return [
        {
            "customer_id": population.customer_ids[row],
            "from": TIERS[population.tier[row]],
            "to": TIERS[found.then[row]],
            "value": float(population.value[row]),
            **{
                name: format_micros(int(population.money_micros[row, at]), digits)
                for at, name in enumerate(MONEY)
            },
        }
        for row in rows
    ]
