"""A first load: records folded without deciding, consents first; then everyone decided on once, by the plain rules."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import orjson
import pytest

from ebbtide.testing.records import event_of
from enrichment.customer.customer import Customer, empty_state
from enrichment.customer.decision import NO_DWELL_DAY
from enrichment.days import day_of, format_time, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import UNDECIDED_DAY, Enricher
from enrichment.model import Model
from schemas.events import Event
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.replay.replay import NAMESPACE, replay
from tests.enrichment.driver import SEEDED_MODEL
from tests.oracles.seeded_log import SeededLog, make_log

NO_HYSTERESIS = {"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0}
MODEL = Model.model_validate(SEEDED_MODEL)
PLAIN = Model.model_validate({**SEEDED_MODEL, "hysteresis": NO_HYSTERESIS})


def loaded(
    log: dict[InputTopic, list[dict[str, Any]]], midnight_day: int, slices: int = 1
) -> tuple[dict[str, Customer], Results]:
    """Everyone after the load of these records, and what it brings; decided on in so many slices."""
    enricher, results = Enricher(MODEL, NAMESPACE), Results(MODEL)
    events: list[Event] = [event_of(topic, record) for topic in INPUT_TOPICS for record in log[topic]]
    customers = {event.customer_id: Customer(event.customer_id, empty_state(), MODEL) for event in events}
    enricher.load(events, customers, midnight_day, results)
    known = [customer for customer in customers.values() if customer.is_known]
    assert {customer.state.due_day for customer in known} <= {UNDECIDED_DAY}
    assert not results.changes
    for at in range(slices):
        enricher.enter(known[at::slices], midnight_day, results)
    return customers, results.finish()


def expected(
    log: dict[InputTopic, list[dict[str, Any]]], name: str, midnight_day: int
) -> dict[str, Any] | None:
    """Where the plain rules put a customer, by a replay of their records alone; None where nothing is known."""
    values = [
        (topic, orjson.dumps(record))
        for topic in INPUT_TOPICS
        for record in log[topic]
        if record["customer_id"] == name
    ]
    customer = replay(iter(values), PLAIN).customers[name]
    if not customer.is_known:
        return None
    as_of_us = customer.as_of_us(midnight_us(midnight_day))
    (profile,) = replay(iter(values), PLAIN, as_of_us).profiles
    return {"as_of": format_time(as_of_us), "life": customer.decision.life, **profile["standing"]}


def without_profiling(log: SeededLog) -> dict[InputTopic, list[dict[str, Any]]]:
    """What a word on profiling deletes depends on what came first: those are looked at elsewhere."""
    kept = [record for record in log["consents"] if record.get("purpose") != "profiling"]
    return {"purchases": log["purchases"], "engagements": log["engagements"], "consents": kept}


@pytest.mark.parametrize("disorder", [True, pytest.param(False, marks=pytest.mark.deep)])
def test_everyone_enters_once_where_the_plain_rules_put_them(random_seed: int, disorder: bool) -> None:
    """Whatever the order of records and the slices; erasures act by their date."""
    for seed in count(random_seed):
        log = without_profiling(
            make_log(seed, customers=15, days=120, events=600, disorder=disorder, late_money=False)
        )
        last_day = max(
            day_of(event_of(topic, record).occurred_at_us) for topic in INPUT_TOPICS for record in log[topic]
        )
        customers, results = loaded(log, last_day - 2, slices=3)
        if any(change["life"] for change in results.changes):
            break  # in a few logs nobody comes back after an erasure
    found: dict[str, dict[str, Any]] = {}
    for change in results.changes:
        assert change["reason"] == {"trigger": "load", "event_id": None, "drivers": []}
        assert (change["direction"], change["previous"]) == ("entered", None)
        place = found.setdefault(
            str(change["customer_id"]), {"as_of": change["as_of"], "life": change["life"]}
        )
        assert change["dimension"] not in place
        place[str(change["dimension"])] = change["current"]
    assert len({place["as_of"] for place in found.values()}) > 1
    assert {name: found.get(name) for name in customers} == {
        name: expected(log, name, last_day - 2) for name in customers
    }
    assert not results.triggers
    assert {name for name, _ in results.profiles} == found.keys() == results.decided
    assert {customer.decision.changed_days for customer in customers.values() if customer.is_known} == {
        (NO_DWELL_DAY,) * 3
    }


def record(topic: InputTopic, event_id: str, when: str, **more: Any) -> dict[str, Any]:
    kinds = {"purchases": "order", "engagements": "opened", "consents": "consent"}
    order = {"order_id": event_id, "currency": "USD", "total": "10"} if topic == "purchases" else {}
    return {
        "event_id": event_id,
        "customer_id": "c",
        "occurred_at": f"{when}T12:00:00Z",
        "kind": kinds[topic],
        **order,
        **more,
    }


CONSENTS = [
    record("consents", "g1", "2025-01-01", purpose="sms", granted=True, attributes={"region": "north"}),
    record("consents", "g2", "2025-01-09", purpose="email", granted=True, attributes={"size": "large"}),
    record("consents", "p1", "2025-01-02", purpose="profiling", granted=False),
    record("consents", "p2", "2025-01-06", purpose="profiling", granted=True),
    record("consents", "x", "2025-01-05", kind="erasure"),
    record("consents", "g3", "2025-01-04", purpose="push", granted=True),
]


def test_an_erasure_takes_what_is_dated_up_to_it_whenever_that_came(random_seed: int) -> None:
    """Consents, attributes, orders and engagement dated later stay; repeats of them are still known as such."""
    midnight_day = 20_200
    for number in range(20):
        consents = random.Random(f"{random_seed}/{number}").sample(CONSENTS, len(CONSENTS))
        log: dict[InputTopic, list[dict[str, Any]]] = {
            "consents": [*consents, CONSENTS[1]],
            "purchases": [record("purchases", "o1", "2025-01-03"), record("purchases", "o2", "2025-01-07")],
            "engagements": [
                record("engagements", "e1", "2025-01-04"),
                record("engagements", "e2", "2025-01-08"),
            ],
        }
        customers, results = loaded(log, midnight_day)
        (customer,) = customers.values()
        (profile,) = Enricher(MODEL, NAMESPACE).profiles([customer], [midnight_us(midnight_day)])
        assert profile["consents"] == {"email": True, "profiling": True}
        assert profile["traits"]["attributes"] == {"size": "large"}
        assert profile["aggregates"]["order_count"] == 1
        assert customer.decision.life == 1
        outcomes = {
            outcome: count for (topic, outcome), count in results.outcomes.items() if topic == "consents"
        }
        assert outcomes["duplicate"] == 1


def test_who_may_not_be_profiled_at_the_end_of_it_enters_nowhere() -> None:
    """They get a profile without standing, and what they engaged in is not kept."""
    log: dict[InputTopic, list[dict[str, Any]]] = {
        "consents": [record("consents", "p", "2025-01-09", purpose="profiling", granted=False)],
        "purchases": [record("purchases", "o1", "2025-01-03")],
        "engagements": [record("engagements", "e1", "2025-01-04")],
    }
    _, results = loaded(log, 20_200)
    assert not results.changes
    ((name, profile),) = results.profiles
    assert profile is not None
    assert profile["standing"] == {"segment": None, "tier": None, "lifecycle": None}
    assert profile["aggregates"]["engagements_90d"] == {}
    assert results.decided == {name}


def test_who_was_erased_and_came_no_more_leaves_a_life_only() -> None:
    log: dict[InputTopic, list[dict[str, Any]]] = {
        "consents": [record("consents", "x", "2025-01-09", kind="erasure")],
        "purchases": [record("purchases", "o1", "2025-01-03")],
        "engagements": [],
    }
    customers, results = loaded(log, 20_200)
    assert not results.changes
    assert not results.profiles
    assert not results.decided
    assert {name: decision.life for name, decision in results.erased.items()} == {"c": 1}
    assert not customers["c"].is_known
