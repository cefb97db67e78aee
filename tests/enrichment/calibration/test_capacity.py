"""Capacities of tiers as thresholds of value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.testing.records import model
from enrichment.model import TierThresholds
from enrichment.scoring.scores import round6
from enrichment.scoring.standing import tier_ranks
from enrichment.tiers.capacity import (
    SIZED_TIERS,
    CapacityError,
    capacity_drift,
    capacity_of,
    fit_tiers,
    places,
)
from enrichment.tiers.population import Population

PRESENT = model().tiers.by_value
"""Thresholds 70, 55, 40."""
RANDOM = round6(np.random.default_rng(5).uniform(0, 100, 2_000))


def sizes(values: np.ndarray, thresholds: TierThresholds) -> list[int]:
    """Customers per tier by the rule that the stream goes by, from the top."""
    return np.bincount(tier_ranks(values, thresholds), minlength=4).tolist()  # type: ignore[no-any-return]


def test_counts_and_shares_are_met_exactly_where_nobody_ties() -> None:
    """Oracle: the rule of the stream, over 2,000 different values; 5% of them are 100."""
    fitted = fit_tiers(RANDOM, {"strategic": "50", "named": "5%", "field": "30%"}, PRESENT)
    assert len(np.unique(RANDOM)) == 2_000
    assert sizes(RANDOM, fitted.thresholds) == [50, 100, 600, 1_250]
    assert [room.customers for room in fitted.rooms] == [50, 100, 600]
    assert fitted.warnings == ()


def test_customers_with_the_same_points_stay_together_and_out_of_a_tier_too_small_for_all() -> None:
    """Two places and three customers with 80 points: one gets in, and it is said why."""
    values = np.array([90.0, 80.0, 80.0, 80.0, 10.0])
    fitted = fit_tiers(values, {"strategic": "2", "named": "3"}, PRESENT)
    assert sizes(values, fitted.thresholds)[:2] == [1, 3]
    assert fitted.rooms[0].tied == 1
    assert fitted.warnings == (
        "strategic: 3 customers have the same 80 points, with places for 1 of them: none of them gets in",
    )


def test_a_tier_that_ties_leave_empty_does_not_move_the_next_one() -> None:
    """All four have 60 points: nobody is strategic, and all of them fit into named."""
    values = np.full(4, 60.0)
    fitted = fit_tiers(values, {"strategic": "3", "named": "4"}, PRESENT)
    assert sizes(values, fitted.thresholds) == [0, 4, 0, 0]
    assert fitted.rooms[0].customers == 0


def test_a_threshold_has_no_more_decimals_than_it_takes_to_divide_two_customers() -> None:
    """Between 61.7 and 63.2 it is 63, between 63 and 63.28 it is 63.2, between 0.100001 and 0.100002 the latter."""
    assert fit_tiers(np.array([63.28, 63.0]), {"strategic": "1"}, PRESENT).thresholds.strategic == 63.2
    assert fit_tiers(np.array([63.2, 61.7]), {"strategic": "1"}, PRESENT).thresholds.strategic == 63.0
    close = fit_tiers(np.array([0.100002, 0.100001]), {"strategic": "1"}, PRESENT)
    assert close.thresholds.strategic == 0.100002


def test_a_tier_without_a_capacity_keeps_its_threshold() -> None:
    """The tiers below count from where it ends."""
    values = np.array([95.0, 75.0, 72.0, 60.0, 50.0, 45.0, 30.0])
    fitted = fit_tiers(values, {"named": "1"}, PRESENT)
    assert (fitted.thresholds.strategic, fitted.thresholds.field) == (70.0, 40.0)
    assert sizes(values, fitted.thresholds) == [3, 1, 2, 1]


def test_a_kept_threshold_above_that_of_a_higher_tier_is_lowered_to_it() -> None:
    """Strategic takes everyone from 30 up; named and field, kept at 55 and 40, could not be higher."""
    values = np.array([60.0, 50.0, 30.5, 20.0])
    fitted = fit_tiers(values, {"strategic": "3"}, PRESENT)
    assert fitted.thresholds == TierThresholds(strategic=30, named=30, field=30)
    assert sizes(values, fitted.thresholds) == [3, 0, 0, 1]
    assert [warning.partition(":")[0] for warning in fitted.warnings] == ["named", "field"]


def test_more_places_than_customers_let_everyone_in() -> None:
    """Newcomers of any value too; with a warning, unless all were asked for."""
    assert fit_tiers(np.array([50.0, 40.0]), {"strategic": "5"}, PRESENT).thresholds.strategic == 0.0
    assert "only 2 are left" in fit_tiers(np.array([50.0, 40.0]), {"strategic": "5"}, PRESENT).warnings[0]
    everyone = fit_tiers(np.array([90.0, 40.0]), {"strategic": "1", "named": "100%"}, PRESENT)
    assert everyone.thresholds.named == 0.0
    assert not any("only" in warning for warning in everyone.warnings)


@pytest.mark.parametrize(
    ("capacities", "warning"),
    [
        ({"strategic": "1", "named": "2"}, "named: has room for 2, and only 1 is left: everyone gets in"),
        ({"strategic": "100%", "named": "3"}, "named: has room for 3, and nobody is left for it"),
    ],
)
def test_a_tier_that_too_few_are_left_for_is_warned_of(capacities: dict[str, str], warning: str) -> None:
    """With their number; below a tier that takes everyone there is nobody."""
    assert fit_tiers(np.array([50.0, 40.0]), capacities, PRESENT).warnings[0] == warning


def test_no_places_let_nobody_in() -> None:
    """Below a kept threshold too: the order of the tiers is kept."""
    values = np.array([90.0, 50.0])
    assert sizes(values, fit_tiers(values, {"strategic": "0"}, PRESENT).thresholds)[0] == 0
    assert sizes(values, fit_tiers(values, {"named": "0"}, PRESENT).thresholds) == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("values", "capacities", "message"),
    [
        ([], {"strategic": "1"}, "no customer has an order"),
        ([100.0, 100.0, 3.0], {"strategic": "1"}, "2 customers have all 100 points"),
        ([1.0], {"inside": "1"}, "with strategic, named, field as TIER"),
        ([1.0], {"named": "-1"}, "a count, such as 50, or a share"),
        ([1.0], {"named": "101%"}, "of at most 100%"),
    ],
)
def test_what_no_threshold_can_do_is_refused_with_its_reason(
    values: list[float], capacities: dict[str, str], message: str
) -> None:
    """In one line for people."""
    with pytest.raises(CapacityError, match=message):
        fit_tiers(np.array(values), capacities, PRESENT)


def test_a_share_is_rounded_down_exactly() -> None:
    """As decimals, not as binary fractions: 2.3% of 1,000 are 23, though 2.3 / 100 * 1,000 is below in floats."""
    assert (places("2.3%", 1_000), places("5%", 39), places("12", 3)) == (23, 1, 12)
    assert capacity_of("named", "2.5%") == ("named", "2.5%")


@given(
    values=st.lists(st.integers(0, 30).map(lambda n: n * 3.2), min_size=1, max_size=60),
    counts=st.dictionaries(st.sampled_from(SIZED_TIERS), st.integers(0, 40)),
)
def test_a_capacity_is_never_exceeded(values: list[float], counts: dict[str, int]) -> None:
    """Whatever ties there are; and no tier with a capacity leaves out a group of equals that would fit."""
    points = np.array(values)
    fitted = fit_tiers(points, {tier: str(count) for tier, count in counts.items()}, PRESENT)
    found = sizes(points, fitted.thresholds)
    for rank, room in enumerate(fitted.rooms):
        assert room.customers == found[rank]
        if room.places is not None:
            assert found[rank] <= room.places
            below = points[tier_ranks(points, fitted.thresholds) > rank]
            if len(below):
                assert found[rank] + np.count_nonzero(below == below.max()) > room.places


def population(values: list[float], tiers: list[int]) -> Population:
    """Customers with an order, their value and the tier in which they stand."""
    size = len(values)
    return Population(
        tuple(map(str, range(size))),
        has_order=np.ones(size, dtype=np.bool_),
        changed_sides=np.zeros(size, dtype=np.bool_),
        value=np.array(values),
        potential=np.zeros(size),
        tier_points=np.array(values),
        tier=np.array(tiers, dtype=np.int64),
        tier_age_days=np.full(size, 100),
        money_micros=np.zeros((size, 3), dtype=np.int64),
        without_standing=0,
    )


def test_drift_counts_where_customers_stand_against_the_places_of_today() -> None:
    """25% of eight customers are two places; three stand there, one of them held by hysteresis alone."""
    tiers = {**model().model_dump()["tiers"], "capacities": {"strategic": "25%"}}
    kept = model(tiers=tiers)
    found = capacity_drift(kept, population([90, 80, 69, 60, 50, 45, 30, 20], [0, 0, 0, 1, 2, 2, 3, 3]))
    strategic = found[0]
    assert (strategic.places, strategic.customers, strategic.over, strategic.by_thresholds) == (2, 3, 1, 2)
    assert (strategic.threshold, strategic.threshold_today) == (70.0, 80.0)
    assert (found[1].capacity, found[1].over) == (None, None)


def test_there_is_no_drift_from_capacities_that_a_model_does_not_keep() -> None:
    """The built-in thresholds are guesses, made from no capacities."""
    with pytest.raises(CapacityError, match="keeps no capacities"):
        capacity_drift(model(), population([50.0], [2]))
