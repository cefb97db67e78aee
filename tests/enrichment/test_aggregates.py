"""Aggregates against the pandas oracle (tests/oracles/recount.py), which imports nothing of the product."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.testing.local_stream import Item, LocalStream, with_midnights
from ebbtide.testing.records import cancellation, event_of, order, purchase, refund
from enrichment.customer.validation import Horizons
from enrichment.days import day_of, midnight_us
from enrichment.model import Model
from schemas.events import Event
from tests.enrichment.driver import (
    SEEDED_MODEL,
    WorkerLikeStream,
    events_of,
    in_arrival_order,
    in_replay_order,
)
from tests.oracles.recount import read_log, recount
from tests.oracles.seeded_log import SeededLog, make_log

Aggregates = dict[str, dict[str, Any]]
MODEL = Model.model_validate(SEEDED_MODEL)


def end_us(events: list[Item] | list[Event]) -> int:
    """The time of the last record, or of the last midnight: late records arrive long after it."""
    return max(midnight_us(item) if isinstance(item, int) else item.occurred_at_us for item in events)


def aggregates_of(partition: LocalStream, time_us: int) -> Aggregates:
    """Everyone's aggregates at a time, after the midnights up to it."""
    partition.pass_midnight(max(partition.midnight_day, day_of(time_us)))
    return {customer: profile["aggregates"] for customer, profile in partition.profiles_at(time_us).items()}


def recounted(log: SeededLog, document: dict[str, Any], until: int | None = None) -> Aggregates:
    """The oracle's word."""
    return recount(read_log(log["purchases"], log["engagements"], log["consents"]), document, until)


@pytest.mark.parametrize("profiling", ["opt_out", "opt_in"])
@pytest.mark.parametrize("order_of_topics", ["replay", "arrival", "topic after topic"])
def test_aggregates_equal_the_recount_whatever_the_order(
    order_of_topics: str, profiling: str, random_seed: int, is_deep: bool
) -> None:
    """Replayed, late, or one topic after another: the aggregates of all customers are the oracle's."""
    document = {**SEEDED_MODEL, "profiling": profiling}
    customers, events = (12, 600) if is_deep else (5, 250)
    log = make_log(random_seed, customers=customers, days=700, events=events)
    if order_of_topics == "replay":
        items: list[Item] = with_midnights(in_replay_order(log))
    elif order_of_topics == "arrival":
        items = in_arrival_order(log, random_seed)
    else:
        items = [
            event for topic in ("consents", "purchases", "engagements") for event in events_of(log, topic)
        ]
    partition = WorkerLikeStream(Model.model_validate(document), stored=True).play(items)
    until_us = end_us(items)
    assert aggregates_of(partition, until_us) == recounted(log, document, until_us)
    assert not partition.dead_letters


def test_aggregates_equal_the_recount_where_old_orders_are_folded(random_seed: int) -> None:
    """Over four years, of which the older half is held as lifetime totals only, they are the oracle's still."""
    log = make_log(random_seed, customers=6, days=1_500, events=800, late_money=False)
    items = with_midnights(in_replay_order(log))
    partition = WorkerLikeStream(MODEL, stored=True).play(items)
    assert aggregates_of(partition, end_us(items)) == recounted(log, SEEDED_MODEL)


def test_aggregates_equal_the_recount_after_every_single_record(random_seed: int) -> None:
    """At every prefix of a log, as River checks its statistics, the aggregates are the oracle's."""
    log = make_log(random_seed, customers=4, days=430, events=70)
    rng = random.Random(random_seed)
    others = ["purchases"] * len(log["purchases"]) + ["engagements"] * len(log["engagements"])
    rng.shuffle(others)
    come: SeededLog = {topic: [] for topic in log}
    partition, now_us = WorkerLikeStream(MODEL, stored=True), 0
    for topic in ["consents"] * len(log["consents"]) + others:
        record = log[topic][len(come[topic])]
        come[topic].append(record)
        event = event_of(topic, record)
        now_us = max(now_us, event.occurred_at_us)
        partition.take(event)
        profiles = partition.profiles_at(now_us)
        actual = {customer: profile["aggregates"] for customer, profile in profiles.items()}
        assert actual == recounted(come, SEEDED_MODEL, now_us)


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_any_order_of_arrival_and_any_repeats_give_the_same_aggregates(
    seed: int, data: st.DataObject
) -> None:
    """Within the horizons, aggregates depend on the set of records; oracle: the records in their own order."""
    log = make_log(seed, customers=3, days=29, events=40, privacy=False, duplicates=False)
    events = in_replay_order(log)
    shuffled = data.draw(st.permutations(events))
    again = data.draw(st.lists(st.sampled_from(shuffled), max_size=10))
    time_us = end_us(events)
    partition = WorkerLikeStream(MODEL, stored=True).play([*shuffled, *again])
    assert aggregates_of(partition, time_us) == aggregates_of(LocalStream(MODEL).play(events), time_us)
    assert sum(partition.outcomes[topic, "duplicate"] for topic in log) >= len(again)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_after_the_consents_any_order_gives_the_same_aggregates(seed: int, data: st.DataObject) -> None:
    """Once denials and erasures are known, purchases and engagement may come in any order within the horizons."""
    log = make_log(seed, customers=3, days=29, events=60)
    consents = events_of(log, "consents")
    others = [*events_of(log, "purchases"), *events_of(log, "engagements")]
    time_us = end_us([*consents, *others])
    shuffled = [*consents, *data.draw(st.permutations(others))]
    plain = LocalStream(MODEL).play([*consents, *others])
    assert aggregates_of(WorkerLikeStream(MODEL, stored=True).play(shuffled), time_us) == aggregates_of(
        plain, time_us
    )
    assert aggregates_of(plain, time_us) == recounted(log, SEEDED_MODEL)


@settings(max_examples=30)
@given(st.permutations(range(7)))
def test_the_records_of_one_order_converge(places: list[int]) -> None:
    """Order, update, refunds and a cancelled neighbour: the same money whatever comes first; counted by hand."""
    records = [
        order("2025-03-02", "100.00", "a", cost_of_goods="60.00"),
        purchase("order", "2025-03-04", "a", "90.00", cost_of_goods="50.00"),
        purchase("order_updated", "2025-03-03", "a", "80.00"),
        refund("2025-03-01", "a", "10.00", cost_of_goods="1.00"),
        order("2025-03-05", "40.00", "b"),
        cancellation("2025-03-06", "b"),
        refund("2025-03-07", "b", "5.00"),
    ]
    partition = WorkerLikeStream(MODEL, stored=True)
    for place in places:
        partition.take(records[place])
    aggregates = partition.profile()["aggregates"]
    assert aggregates["first_order_on"] == aggregates["last_order_on"] == "2025-03-02"
    assert (aggregates["order_count"], aggregates["purchase_days"]) == (1, 1)
    assert (aggregates["revenue"], aggregates["refunded"]) == ("80.00", "10.00")
    assert aggregates["margin"] == "31.00"  # 90 - 50 - (10 - 1)
    assert aggregates["average_order_value_365d"] == "90.00"


def test_a_refund_dated_before_its_order_is_folded_once() -> None:
    """A day is folded only when no order that stays has money on it, so reading a state back counts it once."""
    partition = WorkerLikeStream(MODEL, stored=True)
    partition.take(order("2023-03-10", "100.00", "a"), refund("2023-03-07", "a", "30.00"))
    for date in ("2025-05-15", "2025-05-17", "2025-05-20", "2025-08-01"):
        partition.take(order(date, "1.00"))
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["revenue"], aggregates["refunded"]) == ("74.00", "30.00")
    assert aggregates["order_count"] == 5


def test_a_short_horizon_does_not_shorten_the_year() -> None:
    """Windows of 365 days are whole where purchases may be 30 days late only."""
    partition = WorkerLikeStream(MODEL, horizons=Horizons(purchases_days=30), stored=True)
    for month in range(1, 13):
        partition.take(order(f"2024-{month:02d}-15", "10.00"))
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count_365d"], aggregates["revenue_365d"]) == (12, "120.00")


@pytest.mark.parametrize(("days_later", "counted"), [(400, 0), (401, 1)])
def test_a_record_more_than_400_days_after_its_order_changes_money_only(
    days_later: int, counted: int
) -> None:
    """A full refund 400 days after takes the order out of the counts; 401 days after, its money alone."""
    ordered = order("2024-01-10", "100.00", "a")
    partition = WorkerLikeStream(MODEL, stored=True)
    partition.take(ordered)
    later = event_of(
        "purchases",
        {
            "event_id": "late",
            "customer_id": "c",
            "occurred_at": f"{'2025-02-13' if days_later == 400 else '2025-02-14'}T00:00:00Z",
            "kind": "refund",
            "order_id": "a",
            "currency": "USD",
            "total": "100.00",
        },
    )
    assert day_of(later.occurred_at_us) - day_of(ordered.occurred_at_us) == days_later
    partition.take(later)
    aggregates = partition.profile()["aggregates"]
    assert (aggregates["order_count"], aggregates["revenue"]) == (counted, "0.00")
