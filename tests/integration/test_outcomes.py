"""`ebbtide outcomes` on what a worker keeps: who came back after a re-activation, against the control group."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest

from ebbtide.testing.services.worker import Record
from enrichment.insight.outcomes import CONTROL, TREATMENT
from streams.errors import EbbtideError
from streams.insight.outcomes import told_outcomes
from streams.settings import Settings
from tests.integration.harness import make_topics, produce, record_of, run_to_the_end

pytestmark = pytest.mark.real_kafka

CUSTOMERS = 60
DUE_AT = "2026-03-01T00:00:00Z"
LATER = "2026-05-20T00:00:00Z"


def order(customer_id: str, name: str, at: str) -> Record:
    """Of 100, which cost 60."""
    return record_of(
        "purchases",
        {
            "event_id": f"{customer_id}-{name}",
            "customer_id": customer_id,
            "occurred_at": at,
            "kind": "order",
            "order_id": f"{customer_id}-{name}",
            "currency": "USD",
            "total": "100",
            "cost_of_goods": "60",
        },
    )


def trigger(customer_id: str, group: str, at: str = DUE_AT, segment: str = "low") -> Record:
    document = {
        "trigger_id": f"{customer_id}-{at}",
        "customer_id": customer_id,
        "as_of": at,
        "due_at": at,
        "segment": segment,
        "group": group,
    }
    topic: Any = "reactivation-triggers"  # no input
    return Record(topic, customer_id.encode(), orjson.dumps(document), 0)


def group_of(number: int) -> str:
    return CONTROL if number % 3 == 0 else TREATMENT


def returns(number: int) -> bool:
    """Every second of the treatment, every fifth of the control group (of 20: 0, 15, 30, 45)."""
    return number % 2 == 0 if group_of(number) == TREATMENT else number % 15 == 0


async def told(settings: Settings, within_days: int = 30, since_day: int | None = None) -> Any:
    answer = await asyncio.to_thread(told_outcomes, settings, within_days, since_day, as_json=True)
    return json.loads(answer)


@pytest.fixture
async def lived(settings: Settings) -> Settings:
    """A log by its own time, with re-activations whose days are over, and others."""
    settings = settings.model_copy(update={"clock": "event"})
    await make_topics(settings)
    records = [order(f"c{number}", "first", "2026-01-01T12:00:00Z") for number in range(CUSTOMERS)]
    # Before the midnight, and on the first day after the last that counts: neither is a return.
    records += [order(f"c{number}", "before", "2026-02-28T23:59:59Z") for number in range(CUSTOMERS)]
    records += [
        order(f"c{number}", "back", "2026-03-30T23:59:59Z") for number in range(CUSTOMERS) if returns(number)
    ]
    records += [order(f"c{number}", "too late", "2026-03-31T00:00:00Z") for number in range(CUSTOMERS)]
    records.append(order("c0", "end", "2026-06-01T12:00:00Z"))
    records += [trigger(f"c{number}", group_of(number)) for number in range(CUSTOMERS)]
    records.append(trigger("c1", TREATMENT))  # published twice
    records += [trigger("c2", TREATMENT, "2026-04-01T00:00:00Z"), trigger("nobody", CONTROL)]
    records += [trigger("c4", TREATMENT, LATER)]
    await produce(settings, records)
    await run_to_the_end(settings)
    return settings


async def test_each_customer_is_followed_for_so_many_days(lived: Settings) -> None:
    """Half of the treatment came back, a fifth of the control group, at 40 of margin each."""
    document = await told(lived)
    (of_all, by_segment) = document["segments"]
    assert document["customers"] == CUSTOMERS
    assert document["left_out"] == {"too_recent": 1, "not_the_customers_first": 1, "no_longer_known": 1}
    assert (document["since"], document["before"]) == (None, "2026-05-03")
    assert (of_all["treatment"]["customers"], of_all["treatment"]["returned"]) == (40, 20)
    assert (of_all["control"]["customers"], of_all["control"]["returned"]) == (20, 4)
    assert of_all["effect"]["returns"]["value"] == pytest.approx(0.3)
    assert of_all["effect"]["margin_per_customer"]["value"] == pytest.approx(0.3 * 40)
    assert of_all["effect"]["margin"]["value"] == pytest.approx(40 * 0.3 * 40)
    assert of_all["effect"]["is_clear"]["returns"]
    assert by_segment == {**of_all, "segment": "low"}


async def test_days_and_beginning_can_be_chosen(lived: Settings) -> None:
    """With a day more all have come back; of later re-activations there are too few to compare."""
    (of_all, *_) = (await told(lived, within_days=31))["segments"]
    assert (of_all["treatment"]["returned"], of_all["control"]["returned"]) == (40, 20)
    document = await told(lived, since_day=20_544)  # 2026-04-01
    assert document["since"] == "2026-04-01"
    assert document["segments"][0]["effect"] is None
    text = await asyncio.to_thread(told_outcomes, lived, 30, 20_544, as_json=False)
    assert "Too few customers to compare" in text


async def test_people_read_a_table(lived: Settings) -> None:
    text = await asyncio.to_thread(told_outcomes, lived, 30, None, as_json=False)
    lines = text.splitlines()
    assert lines[0] == (
        "Re-activations that fell due before 2026-05-03, and the 30 days after each: 60 customers"
    )
    assert lines[3].split() == [
        "segment",
        "treatment",
        "came",
        "back",
        "control",
        "came",
        "back",
        "more",
        "by",
        "writing",
        "margin",
        "of",
        "all,",
        "USD",
    ]
    assert lines[4].split()[:6] == ["all", "40", "50.0%", "20", "20.0%", "+30.0%"]
    assert lines[-1] == "Writing brings back more than come by themselves."


async def test_where_no_days_are_over_it_says_so(lived: Settings) -> None:
    """Exit code 1: done with nothing would be no answer."""
    with pytest.raises(EbbtideError, match="no re-activation to look at: 1 fell due less than 30 days ago"):
        await asyncio.to_thread(told_outcomes, lived, 30, 20_590, as_json=False)
