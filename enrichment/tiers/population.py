"""Everyone with a standing, as columns: what sizes of tiers, costs and moves are counted over."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from enrichment.model import Model
from enrichment.money import MICROS_PER_UNIT
from enrichment.scoring.scores import tier_points
from enrichment.scoring.standing import LIFECYCLE, LIFECYCLE_PROSPECT, STANDINGS, TIER

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNKNOWN_AGE = -1
MONEY: tuple[str, ...] = ("revenue_365d", "cost_to_serve_365d", "customer_lifetime_value_365d")
"""The columns of `Population.money_micros`."""


@dataclass(frozen=True, slots=True)
class Population:
    """One element per customer who has scores and a standing, in the order in which they were given.

    `tier` is a rank, 0 the top; `tier_age_days` the UTC days since its last change (`UNKNOWN_AGE` where that is not
    known). `changed_sides` tells of customers whose first counted order has come, or whose last has gone, since their
    standing was decided. `tier_points` are what the model's tiers of customers with an order go by. `money_micros`
    (customers, 3) has the columns of `MONEY` in micro-units of the base currency; where a lifetime value is not defined
    it is 0.
    """

    customer_ids: tuple[str, ...]
    has_order: Bools
    changed_sides: Bools
    value: Floats
    potential: Floats
    tier_points: Floats
    tier: Ints
    tier_age_days: Ints
    money_micros: Ints
    without_standing: int
    """Customers who are left out, since they have no scores or no standing: profiling is not allowed, mostly."""

    def __len__(self) -> int:
        return len(self.customer_ids)


class PopulationBuilder:
    """A population in the making, of which a customer takes about 150 bytes; `model` says what tiers go by."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ids: list[str] = []
        self._rows = array("q")
        self._points = array("d")
        self._money = array("q")
        self._without_standing = 0

    def add(self, profile: Mapping[str, Any], tier_age_days: int | None) -> None:
        """A profile (contract, section 4), and the UTC days since its tier last changed, if they are known."""
        standing, scores, aggregates = profile["standing"], profile["scores"], profile["aggregates"]
        if standing["tier"] is None or scores["value"] is None:
            self._without_standing += 1
            return
        has_order = aggregates["order_count"] > 0
        was_prospect = standing["lifecycle"] == STANDINGS[LIFECYCLE][LIFECYCLE_PROSPECT]
        age = UNKNOWN_AGE if tier_age_days is None else tier_age_days
        self._ids.append(profile["customer_id"])
        self._rows.extend(
            (has_order, has_order == was_prospect, STANDINGS[TIER].index(standing["tier"]), age)
        )
        self._points.extend((scores["value"], scores["potential"]))
        amounts = ((aggregates if name in aggregates else profile["traits"])[name] for name in MONEY)
        self._money.extend(0 if amount is None else _micros(amount) for amount in amounts)

    def population(self) -> Population:
        """Everyone added so far."""
        size = len(self._ids)
        numbers = np.array(self._rows, dtype=np.int64).reshape(size, 4)
        points = np.array(self._points, dtype=np.float64).reshape(size, 2)
        money = np.array(self._money, dtype=np.int64).reshape(size, len(MONEY))
        cost, lifetime = (money[:, MONEY.index(name)] for name in MONEY[1:])
        return Population(
            tuple(self._ids),
            has_order=numbers[:, 0].astype(np.bool_),
            changed_sides=numbers[:, 1].astype(np.bool_),
            value=points[:, 0],
            potential=points[:, 1],
            tier_points=tier_points(points[:, 0], (lifetime - cost) / MICROS_PER_UNIT, self._model),
            tier=numbers[:, 2],
            tier_age_days=numbers[:, 3],
            money_micros=money,
            without_standing=self._without_standing,
        )


def _micros(amount: str) -> int:
    return int(Decimal(amount) * MICROS_PER_UNIT)
