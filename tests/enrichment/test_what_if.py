"""Other sizes of tiers, tried before anyone is moved."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, model, order
from enrichment.insight.what_if import TIERS, WhatIf, what_if, what_if_document
from enrichment.model import Model
from enrichment.scoring.standing import TIER
from enrichment.tiers.capacity import CapacityError, FittedTiers
from enrichment.tiers.population import UNKNOWN_AGE, Population, PopulationBuilder
from schemas.documents import Document

TODAY = "2024-12-20"
CAPACITIES = {"strategic": "6", "named": "20%", "field": "10"}


def with_capacities(model: Model, fitted: FittedTiers, capacities: Mapping[str, str]) -> Model:
    """The model with these thresholds of value, and the capacities that they were made from."""
    # Validated anew rather than copied: a copy would keep what has been derived from the old thresholds.
    tiers = {
        **model.tiers.model_dump(),
        f"by_{model.tiers.by}": fitted.thresholds.model_dump(),
        "capacities": dict(capacities),
    }
    return Model.model_validate({**model.model_dump(), "tiers": tiers})


def population_of(
    profiles: Iterable[tuple[Mapping[str, Any], int | None]], by: Model | None = None
) -> Population:
    """The population of these profiles; see `PopulationBuilder.add`."""
    builder = PopulationBuilder(by or model())
    for profile, tier_age_days in profiles:
        builder.add(profile, tier_age_days)
    return builder.population()


def shop(used: Model, customers: int = 60) -> LocalStream:
    """Customers of every sort after a year, two of whom came yesterday; one denies profiling, three bought nothing."""
    chance = random.Random("what-if")
    partition = LocalStream(used)
    events = []
    for number in range(customers):
        name, price = f"c{number:02d}", f"{chance.uniform(5, 90):.2f}"
        for _ in range(chance.randint(1, 12)):
            date = f"2024-{chance.randint(1, 12):02d}-{chance.randint(1, 18):02d}"
            events.append((date, order(date, price, f"{name}/{date}", customer_id=name)))
            if chance.random() < 0.3:
                events.append((date, engagement("support_contacted", date, customer_id=name)))
    for name in ("p0", "p1", "p2"):
        events.append(("2024-06-01", engagement("visited", "2024-06-01", customer_id=name)))
    for name in ("c58", "c59"):
        events.append(("2024-12-19", order("2024-12-19", "300.00", f"{name}/new", customer_id=name)))
    events.append(("2024-12-10", consent("2024-12-10", "profiling", False, customer_id="c00")))
    events.sort(key=lambda dated: (dated[0], dated[1].event_id))
    partition.play(item for date, event in events for item in (day(date), event))
    partition.pass_midnight(TODAY)
    return partition


def population(partition: LocalStream, dwell_known: bool = True) -> Population:
    """Everyone as of now, with the age of their tier as the stream knows it."""
    today = partition.midnight_day
    return population_of(
        (
            (
                partition.profile(name),
                today - customer.decision.changed_days[TIER] if dwell_known else None,
            )
            for name, customer in sorted(partition.customers.items())
        ),
        partition.model,
    )


def tiers(partition: LocalStream, names: Sequence[str]) -> list[str | None]:
    """Where these customers stand."""
    return [partition.standing(name)[TIER] for name in names]


@pytest.fixture(scope="module")
def tried() -> tuple[LocalStream, WhatIf]:
    partition = shop(model())
    return partition, what_if(partition.model, population(partition), CAPACITIES)


def test_everyone_goes_where_the_stream_puts_them_when_it_gets_the_thresholds() -> None:
    """Oracle: the stream itself with the model of the what-if, at the same midnight; with hysteresis and dwell."""
    partition = shop(model())
    found = what_if(partition.model, population(partition), CAPACITIES)
    partition.restart(with_capacities(partition.model, found.fitted, CAPACITIES))
    partition.pass_midnight(TODAY)
    assert found.moved.any()
    assert found.dwelling.any()
    assert np.any(found.then != found.alone)
    assert tiers(partition, found.population.customer_ids) == [TIERS[rank] for rank in found.then]


def test_capacities_hold_exactly_by_the_thresholds_alone() -> None:
    """Without hysteresis and dwell, the stream has as many in each tier as it was given room for."""
    partition = shop(model(hysteresis={"score_margin": 0, "dwell_days": 0}))
    found = what_if(partition.model, population(partition), CAPACITIES)
    document = what_if_document(found)
    assert [tier["then"]["customers"] for tier in document["tiers"][:3]] == [6, 11, 10]
    assert document["customers"] == {"with_order": 59, "without_order": 3, "without_standing": 1}
    assert (document["held_by_hysteresis"], document["held_by_dwell"]) == (0, 0)


def test_where_dwell_is_not_known_nobody_is_held_by_it(tried: tuple[LocalStream, WhatIf]) -> None:
    """As from a file of profiles: those whom dwell held now count as moved, and are told of apart."""
    partition, known = tried
    unknown = what_if(partition.model, population(partition, dwell_known=False), CAPACITIES)
    assert set(unknown.population.tier_age_days.tolist()) == {UNKNOWN_AGE}
    assert not unknown.dwelling.any()
    assert np.array_equal(unknown.then != known.then, known.dwelling)


def profile_of(value: float, tier: str, lifecycle: str = "active") -> Document:
    """What a population needs of a customer with one order."""
    money = dict.fromkeys(("revenue_365d", "cost_to_serve_365d", "customer_lifetime_value_365d"), "1.00")
    return {
        "customer_id": f"{tier}/{value}",
        "standing": {"segment": "low", "tier": tier, "lifecycle": lifecycle},
        "scores": {"value": value, "potential": 0.0},
        "aggregates": {"order_count": 1, **money},
        "traits": money,
    }


def test_dwell_is_over_on_the_seventh_day() -> None:
    """As docs/scores.md has it: a dimension changes again `dwell_days` later at the earliest."""
    found = what_if(
        model(),
        population_of(
            [(profile_of(80, "inside"), 6), (profile_of(79, "inside"), 7), (profile_of(5, "inside"), 90)]
        ),
        {"named": "0"},
    )
    assert [TIERS[rank] for rank in found.then] == ["inside", "strategic", "inside"]
    assert found.dwelling.tolist() == [True, False, False]


def test_a_first_order_that_no_standing_knows_of_brings_the_plain_rule_at_once() -> None:
    """Without margin and dwell, which would keep the other customer of 41 points below the threshold of 40 inside."""
    profiles = [
        (profile_of(41, "inside", "prospect"), 1),
        (profile_of(41, "inside"), 90),
        (profile_of(5, "inside"), 90),
    ]
    found = what_if(model(), population_of(profiles), {"strategic": "0"})
    assert [TIERS[rank] for rank in found.then] == ["field", "inside", "inside"]


def test_moves_add_up_from_the_sizes_of_now_to_those_of_then(tried: tuple[LocalStream, WhatIf]) -> None:
    """In customers and in money; every mover is listed once, highest value first."""
    document = what_if_document(tried[1])
    for name in ("customers", "revenue_365d", "cost_to_serve_365d", "customer_lifetime_value_365d"):
        for tier in document["tiers"]:
            arrived = sum(float(m[name]) for m in document["moves"] if m["to"] == tier["tier"])
            gone = sum(float(m[name]) for m in document["moves"] if m["from"] == tier["tier"])
            assert float(tier["now"][name]) + arrived - gone == pytest.approx(float(tier["then"][name]))
    moved = document["moved"]
    assert len(moved) == sum(move["customers"] for move in document["moves"]) > 0
    assert [customer["value"] for customer in moved] == sorted((m["value"] for m in moved), reverse=True)


def test_money_is_that_of_the_profiles(tried: tuple[LocalStream, WhatIf]) -> None:
    """Oracle: the sum over the profiles of all customers with an order and a standing."""
    partition, found = tried
    document = what_if_document(found)
    profiles = [partition.profile(name) for name in found.population.customer_ids]
    for name, part in (("cost_to_serve_365d", "aggregates"), ("customer_lifetime_value_365d", "traits")):
        amounts = [float(profile[part][name] or 0) for profile in profiles]
        assert sum(float(tier["now"][name]) for tier in document["tiers"]) == pytest.approx(sum(amounts))
        assert sum(amounts) > 0


def test_what_if_changes_nothing(tried: tuple[LocalStream, WhatIf]) -> None:
    """Neither a standing nor the model."""
    partition, _ = tried
    before, fingerprint = tiers(partition, sorted(partition.customers)), partition.model.fingerprint
    what_if(partition.model, population(partition), {"strategic": "0", "named": "1", "field": "1"})
    assert tiers(partition, sorted(partition.customers)) == before
    assert partition.model.fingerprint == fingerprint


def test_capacities_that_the_model_keeps_hold_for_tiers_that_are_not_asked_for() -> None:
    """So that a question about one tier does not give up what was decided for another."""
    kept = model(tiers={"capacities": {"strategic": "3", "named": "50%"}})
    partition = shop(kept, customers=30)
    asked = what_if_document(what_if(kept, population(partition), {"strategic": "5"}))
    told: dict[str, Any] = {tier["tier"]: (tier["capacity"], tier["asked"]) for tier in asked["tiers"]}
    assert told["strategic"] == ("5", True)
    assert told["named"] == ("50%", False)
    assert told["field"] == (None, False)
    assert {tier["tier"]: tier["capacity"] for tier in asked["drift"]} == {
        "strategic": "3",
        "named": "50%",
        "field": None,
    }


def test_without_any_capacity_there_is_nothing_to_compare_with() -> None:
    """Neither asked for nor kept."""
    partition = shop(model(), customers=5)
    with pytest.raises(CapacityError, match="keeps no capacities"):
        what_if(partition.model, population(partition), {})
