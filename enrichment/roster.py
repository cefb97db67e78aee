"""Everyone with a standing, as columns: what sizes of tiers, costs and moves are counted over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from enrichment.money import MICROS_PER_UNIT
from enrichment.standing import LIFECYCLE, LIFECYCLE_PROSPECT, STANDINGS, TIER

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNKNOWN_AGE = -1
MONEY: tuple[str, ...] = ("revenue_365d", "cost_to_serve_365d", "customer_lifetime_value_365d")
"""The columns of `Roster.money_micros`."""


@dataclass(frozen=True, slots=True)
class Roster:
    """One element per customer who has scores and a standing, in the order in which they were given.

    `tier` is a rank, 0 the top; `tier_age_days` the UTC days since its last change (`UNKNOWN_AGE` where that is not
    known). `changed_sides` tells of customers whose first counted order has come, or whose last has gone, since their
    standing was decided. `money_micros` (customers, 3) has the columns of `MONEY` in micro-units of the base currency;
    where a lifetime value is not defined it is 0.
    """

    customer_ids: tuple[str, ...]
    has_order: Bools
    changed_sides: Bools
    value: Floats
    potential: Floats
    tier: Ints
    tier_age_days: Ints
    money_micros: Ints
    without_standing: int
    """Customers who are left out, since they have no scores or no standing: profiling is not allowed, mostly."""

    def __len__(self) -> int:
        return len(self.customer_ids)


def roster_of(profiles: Iterable[tuple[Mapping[str, Any], int | None]]) -> Roster:
    """The roster of profiles (contract, section 4), each with the UTC days since its tier last changed, if known."""
    rows: list[tuple[bool, bool, int, int]] = []
    points: list[tuple[float, float]] = []
    money: list[tuple[int, ...]] = []
    ids: list[str] = []
    without = 0
    for profile, tier_age_days in profiles:
        standing, scores, aggregates = profile["standing"], profile["scores"], profile["aggregates"]
        if standing["tier"] is None or scores["value"] is None:
            without += 1
            continue
        has_order = aggregates["order_count"] > 0
        was_prospect = standing["lifecycle"] == STANDINGS[LIFECYCLE][LIFECYCLE_PROSPECT]
        ids.append(profile["customer_id"])
        rows.append(
            (
                has_order,
                has_order == was_prospect,
                STANDINGS[TIER].index(standing["tier"]),
                UNKNOWN_AGE if tier_age_days is None else tier_age_days,
            )
        )
        points.append((scores["value"], scores["potential"]))
        amounts = [(aggregates | profile["traits"])[name] for name in MONEY]
        money.append(tuple(0 if amount is None else _micros(amount) for amount in amounts))
    numbers = np.array(rows, dtype=np.int64).reshape(len(ids), 4)
    scored = np.array(points, dtype=np.float64).reshape(len(ids), 2)
    return Roster(
        tuple(ids),
        has_order=numbers[:, 0].astype(np.bool_),
        changed_sides=numbers[:, 1].astype(np.bool_),
        value=scored[:, 0],
        potential=scored[:, 1],
        tier=numbers[:, 2],
        tier_age_days=numbers[:, 3],
        money_micros=np.array(money, dtype=np.int64).reshape(len(ids), len(MONEY)),
        without_standing=without,
    )


def _micros(amount: str) -> int:
    return int(Decimal(amount) * MICROS_PER_UNIT)
