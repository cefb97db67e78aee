"""Capacities of tiers as thresholds of points, and how far a stream has drifted from them.

The stream never ranks: a capacity becomes a threshold once, over the customers of one day, and from then on the
threshold decides. How many are above it changes with the customers, which `capacity_drift` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from enrichment.model import Capacity, Model, TierThresholds
from enrichment.scoring.standing import tier_ranks
from enrichment.tiers.population import Population

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SizedTier = Literal["strategic", "named", "field"]
SIZED_TIERS: Final[tuple[SizedTier, ...]] = ("strategic", "named", "field")
"""Tiers that can have a capacity, from the top; everyone else is `inside`."""
_POINT: Final = 1_000_000
"""Points are compared in millionths, to which scores are rounded."""


class CapacityError(ValueError):
    """Capacities that no threshold can meet; the message says why."""


@dataclass(frozen=True, slots=True)
class TierRoom:
    """How one tier's threshold came about.

    `places` is the capacity as a number of customers (None where the tier has none, and keeps its threshold);
    `customers` are those whom the thresholds let in; `tied` those for whom there would have been a place, had they not
    as many points as others for whom there is none.
    """

    tier: SizedTier
    capacity: str | None
    places: int | None
    threshold: float
    customers: int
    tied: int = 0


@dataclass(frozen=True, slots=True)
class FittedTiers:
    """Thresholds made from capacities; `rooms` from the top, `warnings` for people."""

    thresholds: TierThresholds
    rooms: tuple[TierRoom, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TierDrift:
    """One tier's present size against its capacity.

    Attributes:
        capacity: As the model keeps it; None for a tier without one.
        places: The capacity as a number of today's customers with an order.
        customers: Those with an order who stand in the tier now.
        by_thresholds: Those whom the model's thresholds alone let in today; the difference is hysteresis and dwell.
        threshold: The model's, in the points that its tiers go by.
        threshold_today: What the capacity would come to today.
    """

    tier: SizedTier
    capacity: str | None
    places: int | None
    customers: int
    by_thresholds: int
    threshold: float
    threshold_today: float

    @property
    def over(self) -> int | None:
        """By how many customers the tier is over its capacity; negative where places are left."""
        return None if self.places is None else self.customers - self.places


def capacity_of(tier: str, capacity: str) -> tuple[SizedTier, str]:
    """A tier and its capacity from what a person wrote; raises `CapacityError` with what is allowed."""
    known: dict[str, SizedTier] = {name: name for name in SIZED_TIERS}
    if tier not in known:
        raise CapacityError(
            f"a capacity is given as TIER=N or TIER=N%, with {', '.join(SIZED_TIERS)} as TIER"
        )
    try:
        return known[tier], TypeAdapter(Capacity).validate_python(capacity)
    except ValidationError:
        raise CapacityError(
            "a capacity is a count, such as 50, or a share of at most 100%, such as 5%"
        ) from None


def places(capacity: str, customers: int) -> int:
    """A capacity, such as `50` or `5%`, as a number of customers; a share is rounded down."""
    if capacity.endswith("%"):
        return int(Fraction(capacity[:-1]) / 100 * customers)
    return int(capacity)


def fit_tiers(points: Floats, capacities: Mapping[str, str], present: TierThresholds) -> FittedTiers:
    """Thresholds that let no more customers into a tier than it has places.

    From the top, each tier takes as many as it has places of those whom the tiers above left. Customers with the same
    points stay together: where a tier's last places would divide them, none of them is let in, so that a capacity is
    never exceeded. A threshold is the number with the fewest decimals between the last customer in and the first one
    out. A tier without a capacity keeps its present threshold, lowered to that of the tier above where it would be
    higher. Margins of hysteresis are not looked at: thresholds are those of the plain rule.

    Args:
        points: Those that tiers go by (0–100), of the customers with a counted order, in any order.
        capacities: Per tier a count (`50`) or a share of these customers (`5%`), as `Tiers.capacities` holds them.
        present: The thresholds of tiers without a capacity.

    Raises:
        CapacityError: There are no customers, a tier or a capacity is not known, or a tier would have to leave out
            customers of 100 points, which no threshold does.
    """
    for tier, capacity in capacities.items():
        capacity_of(tier, capacity)
    if not len(points):
        raise CapacityError("no customer has an order: there is nothing to make thresholds of")
    ranked = np.sort(np.rint(points * _POINT).astype(np.int64))[::-1]
    rooms: list[TierRoom] = []
    warnings: list[str] = []
    taken, above = 0, 100.0
    for name in SIZED_TIERS:
        if name in capacities:
            room = _sized(name, capacities[name], ranked, above, taken, warnings)
        else:
            room = _kept(name, ranked, getattr(present, name), above, taken, warnings)
        taken, above = taken + room.customers, room.threshold
        rooms.append(room)
    thresholds = TierThresholds(**{room.tier: room.threshold for room in rooms})
    return FittedTiers(thresholds, tuple(rooms), tuple(warnings))


def capacity_drift(model: Model, population: Population) -> tuple[TierDrift, ...]:
    """How far the present tiers have drifted from the model's capacities, from the top.

    Counted are customers with an order: those without one go by potential, and take no place.

    Raises:
        CapacityError: The model keeps no capacities, or see `fit_tiers`.
    """
    capacities = model.tiers.capacities
    if not capacities:
        raise CapacityError(
            f"model {model.name!r} keeps no capacities: its thresholds were not made from any"
        )
    points, standing = population.tier_points[population.has_order], population.tier[population.has_order]
    thresholds = model.tiers.thresholds
    ruled = tier_ranks(points, thresholds)
    today = fit_tiers(points, {str(tier): capacity for tier, capacity in capacities.items()}, thresholds)
    return tuple(
        TierDrift(
            room.tier,
            room.capacity,
            room.places,
            int(np.count_nonzero(standing == rank)),
            int(np.count_nonzero(ruled == rank)),
            getattr(thresholds, room.tier),
            room.threshold,
        )
        for rank, room in enumerate(today.rooms)
    )


def _sized(
    tier: SizedTier, capacity: str, points: Ints, above: float, taken: int, warnings: list[str]
) -> TierRoom:
    """A tier of so many places, below `taken` customers; `points` descend."""
    room = places(capacity, len(points))
    end = taken + room
    if end >= len(points):
        left = len(points) - taken
        if room > left and capacity != "100%":
            few = f"only {left:,} {'is' if left == 1 else 'are'} left: everyone gets in"
            warnings.append(f"{tier}: has room for {room:,}, and {few if left else 'nobody is left for it'}")
        return TierRoom(tier, capacity, room, 0.0, left)
    first_out = int(points[end])
    # Whoever has as many points as the first one out stays out too.
    last_in = int(np.count_nonzero(points > first_out))
    if last_in == 0 and first_out >= 100 * _POINT:
        raise CapacityError(
            f"{tier}={capacity} has room for {room:,}, but {int(np.count_nonzero(points == first_out)):,} customers "
            "have all 100 points: no threshold can leave some of them out"
        )
    highest = min(int(points[last_in - 1]) if last_in else 100 * _POINT, round(above * _POINT))
    tied = max(end - max(last_in, taken), 0)
    if tied:
        equal = int(np.count_nonzero(points == first_out))
        warnings.append(
            f"{tier}: {equal:,} customers have the same {first_out / _POINT:g} points, with places for "
            f"{tied:,} of them: none of them gets in"
        )
    return TierRoom(tier, capacity, room, _shortest(first_out, highest), max(last_in - taken, 0), tied)


def _kept(
    tier: SizedTier, points: Ints, threshold: float, above: float, taken: int, warnings: list[str]
) -> TierRoom:
    """A tier without a capacity: its threshold stays, unless the tier above begins lower."""
    if threshold > above:
        warnings.append(
            f"{tier}: has no capacity, and its threshold of {threshold:g} would be above that of the next higher tier: "
            f"lowered to {above:g}, so that nobody is in it"
        )
        threshold = above
    inside = int(np.count_nonzero(points >= round(threshold * _POINT)))
    return TierRoom(tier, None, None, threshold, max(inside - taken, 0))


def _shortest(above: int, up_to: int) -> float:
    """The number with the fewest decimals in (above, up_to], the largest of them; all in millionths."""
    step = _POINT
    while True:
        number = up_to // step * step
        if number > above:
            return number / _POINT
        step //= 10
