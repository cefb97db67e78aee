"""What one customer can hold: no record about them outgrows its topic, and many records cost no more than few, each."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, event_of, model, order, purchase, refund
from enrichment.customer import orders
from enrichment.customer.customer import Customer, empty_state
from enrichment.customer.orders import Refund
from enrichment.customer.size_limits import MAX_HELD_BYTES
from enrichment.customer.validation import check_against_model
from enrichment.deciding.results import Results
from streams.state.changelog import changelog_records
from streams.state.codec import decode, encode
from streams.worker.outputs import OutputWriter
from tests.enrichment.driver import WorkerLikeStream
from tests.oracles.recount import read_log, recount

MAX_RECORD_BYTES = 1_000_000
"""What Kafka takes unless told otherwise, but for the batch's own bytes."""
WIDE = ("\x01", "é", "漢", "🦊", '"', "a")
"""Characters of one to six bytes as JSON."""


class Greedy:
    """Writes records of one customer that take as much as records may, in every field that is kept."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.number = 0
        self.customer = "\x01" * 128

    def text(self, characters: int) -> str:
        """Of so many characters, and a different one each time."""
        self.number += 1
        name = f"{self.number:x}"
        return name + self.rng.choice(WIDE) * (characters - len(name))

    def record(self, topic: str, on: date) -> dict[str, Any]:
        """A record of a day."""
        at = f"{on}T{self.rng.randrange(24):02}:{self.rng.randrange(60):02}:00Z"
        many = self.rng.choice((0, 0, 1, 5))
        attributes = {self.text(60): self.text(self.rng.choice((8, 300))) for _ in range(many)}
        common = {
            "event_id": self.text(128),
            "customer_id": self.customer,
            "occurred_at": at,
            "attributes": attributes,
        }
        if topic == "consents":
            granted = self.rng.random() < 0.9
            return {**common, "kind": "consent", "purpose": self.text(128), "granted": granted}
        if topic == "engagements":
            answers = {self.text(60): self.text(self.rng.choice((8, 300))) for _ in range(many)}
            kind = self.rng.choice(("declared", "clicked", "opened"))
            return {**common, "kind": kind, "channel": self.text(128), "declared": answers}
        items = [{"category": self.text(128), "sku": self.text(500)} for _ in range(many)]
        order_id = self.text(128)
        return {
            **common,
            "kind": "order",
            "order_id": order_id,
            "currency": "USD",
            "total": "1",
            "items": items,
        }


def published(partition: LocalStream, results: Results) -> list[int]:
    """The bytes of each record that a step would publish, its key and headers too."""
    writer = OutputWriter("n" * 200)
    records = [writer.change(change) for change in results.changes]
    records += writer.ends(results.finish())
    records += changelog_records(results, {}, "g" * 200)
    return [
        len(record.key or b"")
        + len(record.value or b"")
        + sum(len(name) + len(value) for name, value in record.headers)
        for record in records
    ]


def test_no_sequence_of_records_outgrows_a_published_record(random_seed: int) -> None:
    """Long texts of wide characters in all fields, thousands of them; every published record stays below 1 MB."""
    greedy = Greedy(random_seed)
    partition = LocalStream(model(hysteresis={"dwell_days": 0}))
    partition.customers[greedy.customer] = Customer(greedy.customer, empty_state(), partition.model)
    largest = 0
    for number in range(60):
        on = date(2025, 1, 1) + timedelta(number)
        topics = greedy.rng.choices(("consents", "engagements", "purchases"), k=200)
        events = [event_of(topic, greedy.record(topic, on)) for topic in topics]
        results = Results(partition.model)
        partition.enricher.process(events, partition.customers, day(str(on)), results)
        partition.outcomes += results.outcomes
        largest = max(largest, *published(partition, results), 0)
    assert 3 * MAX_HELD_BYTES < largest < MAX_RECORD_BYTES
    for topic in ("consents", "engagements", "purchases"):
        assert partition.outcomes[topic, "dead_letter"] > 0
        assert partition.outcomes[topic, "accepted"] > 0


def test_purposes_are_limited_like_attributes() -> None:
    """20,000 consents with distinct long purposes: what 64 KiB hold is taken, the rest is `OutOfRange`."""
    partition = LocalStream(model())
    purposes = [f"{number:05}".ljust(128, "x") for number in range(20_000)]
    for start in range(0, len(purposes), 5_000):
        partition.take(
            *(
                consent("2025-01-01", purpose, True, event_id=purpose)
                for purpose in purposes[start : start + 5_000]
            )
        )
    held = 65_536 // (128 + len('""') + len("false"))
    assert partition.outcomes["consents", "accepted"] == held
    assert {reason for _, _, reason in partition.dead_letters} == {"OutOfRange"}
    assert len(partition.profile()["consents"]) == held + 1


def test_consents_to_purposes_that_are_held_are_never_refused() -> None:
    """Nor is one to profiling, however much is held: a denial must always get through."""
    partition = LocalStream(model())
    purposes = [f"{number:05}".ljust(128, "\x01") for number in range(200)]
    partition.take(*(consent("2025-01-01", purpose, True, event_id=purpose) for purpose in purposes))
    refused = {event_id for _, event_id, _ in partition.dead_letters}
    assert 0 < len(refused) < 200
    partition.dead_letters.clear()
    partition.take(
        *(consent("2025-01-02", one, False, event_id=one) for one in purposes if one not in refused),
        consent("2025-01-02", "profiling", False),
    )
    assert partition.dead_letters == []
    assert set(partition.profile()["consents"].values()) == {False}


def test_a_state_that_holds_more_purposes_than_allowed_is_read_and_goes_on() -> None:
    """One from before there was a limit: what it holds may change, and nothing is added."""
    partition = WorkerLikeStream(model(), stored=True)
    partition.take(consent("2025-01-01", "email", True))
    held = partition.customers["c"].state.consent.latest
    held.update({f"{number:05}".ljust(128, "x"): held["email"] for number in range(1_000)})
    partition.customers["c"] = Customer("c", decode(encode(partition.customers["c"].state)), partition.model)
    partition.take(
        consent("2025-01-02", "00000".ljust(128, "x"), False, event_id="d"),
        consent("2025-01-02", "sms", True),
    )
    assert [reason for _, _, reason in partition.dead_letters] == ["OutOfRange"]
    assert len(partition.profile()["consents"]) == 1_002
    assert partition.profile()["consents"]["00000".ljust(128, "x")] is False


def many_refunds(count: int) -> list[dict[str, Any]]:
    """One order, and so many refunds of it on two days, in two currencies."""
    common = {"customer_id": "c", "order_id": "o", "currency": "USD"}
    first = {**common, "event_id": "o", "occurred_at": "2025-01-01T00:00:00Z", "kind": "order", "total": "90"}
    return [first] + [
        {
            **common,
            "event_id": f"r{number}",
            "occurred_at": f"2025-01-0{2 + number % 2}T00:00:{number % 60:02}Z",
            "kind": "refund",
            "total": f"0.0{number % 10}",
            "currency": "USD" if number % 3 else "EUR",
        }
        for number in range(count)
    ]


REFUNDED = {"rates": {"EUR": "1.10"}}


def test_many_refunds_of_one_order_come_to_what_a_recount_finds() -> None:
    """2,000 of them, held as one per day and currency; oracle: pandas."""
    records = many_refunds(2_000)
    partition = WorkerLikeStream(model(**REFUNDED), stored=True)
    for start in range(0, len(records), 500):
        partition.take(*(event_of("purchases", record) for record in records[start : start + 500]))
    expected = recount(read_log(records), partition.model.model_dump(mode="json"))
    assert partition.profile()["aggregates"] == expected["c"]
    (entry,) = partition.customers["c"].state.orders.entries.values()
    assert sum(held.count for held in entry.refunds) == 2_000
    assert len(entry.refunds) == 4


def test_each_of_many_refunds_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an order adds to its days is told anew for each record, of as many parts as the order has days."""
    parts = 0
    told = orders._contributions

    def counting(entry: orders.Entry) -> Any:
        nonlocal parts
        found = told(entry)
        parts += len(found)
        return found

    monkeypatch.setattr(orders, "_contributions", counting)
    records = many_refunds(2_000)
    LocalStream(model(**REFUNDED)).take(*(event_of("purchases", record) for record in records))
    assert parts < 12 * len(records)


def test_refunds_of_a_state_from_before_they_were_counted_are_one_record_each() -> None:
    """Such a refund has seven fields; more of its day are added to it."""
    partition = LocalStream(model())
    partition.take(order("2025-01-01", "50", "o"), refund("2025-01-02", "o", "1", event_id="a"))
    (entry,) = partition.customers["c"].state.orders.entries.values()
    seven = msgspec.to_builtins(entry.refunds[0])[:7]
    entry.refunds[0] = msgspec.convert(seven, Refund)
    assert entry.refunds[0].count == 1
    partition.take(refund("2025-01-02", "o", "2", event_id="b"))
    assert [(held.count, held.amount_micros) for held in entry.refunds] == [(2, 3_000_000)]
    assert partition.profile()["aggregates"]["cost_to_serve_365d"] == "10.00"


@pytest.mark.parametrize(
    ("total", "reason"), [("9223372036854.775807", None), ("9223372036854.775808", "OutOfRange")]
)
def test_an_amount_that_no_state_can_hold_is_out_of_range(total: str, reason: str | None) -> None:
    """However little it is worth: 2^63 micro-units of its own currency and more. Sums of refunds stay below too."""
    poor = model(rates={"IRR": "0.00002"})
    event = order("2025-01-01", total, "o", currency="IRR")
    refused = check_against_model(event, poor)
    assert (refused and refused.reason) == reason
    if reason is None:
        partition = WorkerLikeStream(poor, stored=True)
        partition.take(
            event, *(refund("2025-01-02", "o", total, currency="IRR", event_id=f"{n}") for n in range(3))
        )
        assert partition.outcomes["purchases", "accepted"] == 4
        assert partition.profile()["aggregates"]["order_count"] == 0


def test_grants_of_profiling_are_kept_in_order_whatever_comes_when(random_seed: int) -> None:
    """Oracle: all records sorted, from the latest denial on."""
    rng = random.Random(random_seed)
    partition = LocalStream(model())
    events = [
        consent(f"2025-01-{rng.randint(1, 28):02}", "profiling", rng.random() < 0.8, event_id=f"{number}")
        for number in range(60)
    ]
    for event in events:
        partition.take(event)
        partition.take(event)
    taken = sorted((event.occurred_at_us, not event.granted, event.event_id) for event in events)  # type: ignore[union-attr]
    last_denial = max((at for at, (_, denied, _) in enumerate(taken) if denied), default=0)
    kept = [record.key for record in partition.customers["c"].state.consent.profiling]
    assert kept == taken[last_denial:]


def test_many_engagements_and_updates_are_held_by_day() -> None:
    """A thousand touches of one day are one bucket, a thousand updates of one order one version."""
    partition = LocalStream(model())
    partition.take(
        *(engagement("opened", "2025-01-01", event_id=f"e{number}") for number in range(1_000)),
        order("2025-01-01", "1", "o"),
        *(
            purchase("order_updated", "2025-01-02", "o", f"{number}", event_id=f"u{number}")
            for number in range(1_000)
        ),
    )
    state = partition.customers["c"].state
    assert len(state.engagement.days) == len(state.orders.entries) == 1
