"""Valid records of every kind, as they are on the wire; tests change one thing at a time."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.decode import NO_KEY, NoKey, decode
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.topics import InputTopic

PURCHASE: dict[str, Any] = {
    "event_id": "e-1",
    "customer_id": "c-1",
    "occurred_at": "2025-01-09T12:30:00Z",
    "attributes": {"region": "EU", "vertical": "retail"},
    "kind": "order",
    "order_id": "o-1",
    "currency": "USD",
    "total": "23.50",
    "cost_of_goods": "11.75",
    "channel": "web",
    "items": [
        {"sku": "s-1", "category": "tea", "quantity": 2, "unit_price": "10.00"},
        {"sku": "s-2", "category": "mugs", "quantity": 0.5, "unit_price": "7"},
        {},
    ],
}
ENGAGEMENT: dict[str, Any] = {
    "event_id": "e-2",
    "customer_id": "c-1",
    "occurred_at": "2025-01-09T13:30:00+01:00",
    "kind": "opened",
    "channel": "email",
    "campaign_id": "spring",
    "automated": False,
    "cost": "0.002",
    "currency": "EUR",
    "score": 9,
    "declared": {"budget": 12000, "urgency": "high", "growth_plans": True, "annual_value": 1.5},
}
CONSENT: dict[str, Any] = {
    "event_id": "e-3",
    "customer_id": "c-1",
    "occurred_at": "2025-01-09T12:30:00.25-05:30",
    "kind": "consent",
    "purpose": "email",
    "granted": True,
    "expires_at": "2026-01-09T00:00:00Z",
}
ERASURE: dict[str, Any] = {
    "event_id": "e-4",
    "customer_id": "c-1",
    "occurred_at": "2025-01-09T12:30:00Z",
    "kind": "erasure",
}
RECORDS: dict[InputTopic, dict[str, Any]] = {
    "purchases": PURCHASE,
    "engagements": ENGAGEMENT,
    "consents": CONSENT,
}


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def decode_object(
    topic: InputTopic, record: dict[str, Any], key: bytes | NoKey | None = NO_KEY
) -> Event | Rejection:
    return decode(topic, orjson.dumps(record), key)


def accepted(topic: InputTopic, record: dict[str, Any]) -> Any:
    event = decode_object(topic, record)
    assert not isinstance(event, Rejection), event
    return event


def refused(event: Event | Rejection) -> tuple[str, str]:
    """The reason and the path of a rejection."""
    assert isinstance(event, Rejection), event
    path, _, _ = event.message.partition(": ")
    return event.reason, path
