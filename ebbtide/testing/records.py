"""Events and models for tests, in one line each. Events pass through `decode`, as in the product."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, cast

import yaml

from enrichment.days import day_of
from enrichment.model import Model
from schemas.decode import decode
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.timestamps import parse_timestamp
from schemas.topics import InputTopic

Record = dict[str, Any]

DEFAULT_MODEL: Record = yaml.safe_load(
    resources.files("enrichment").joinpath("default_model.yaml").read_text("utf-8")
)


def model(**overrides: Any) -> Model:
    """The built-in model with other numbers, such as `hysteresis={"dwell_days": 0}` (one level deep)."""
    document = {**DEFAULT_MODEL}
    for key, value in overrides.items():
        known = document.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            document[key] = {**known, **value}
        else:
            document[key] = value
    return Model.model_validate(document)


def event_of(topic: str, record: Record) -> Event:
    """A record as `decode` gives it; it must be well-formed."""
    event = decode(cast(InputTopic, topic), json.dumps(record).encode())
    assert not isinstance(event, Rejection), event
    return event


def at(text: str) -> str:
    """A time: `2025-01-09` is noon of that day."""
    return text if "T" in text else f"{text}T12:00:00Z"


def day(text: str) -> int:
    """The UTC day of a date or time, since the epoch."""
    return day_of(parse_timestamp(at(text)))


def purchase(kind: str, when: str, order_id: str, total: str, **more: Any) -> Event:
    """A purchase in USD by customer `c`, unless told otherwise."""
    record: Record = {
        "event_id": f"{kind}/{order_id}/{when}",
        "customer_id": "c",
        "occurred_at": at(when),
        "kind": kind,
        "order_id": order_id,
        "currency": "USD",
        "total": total,
        **more,
    }
    return event_of("purchases", record)


def order(when: str, total: str = "50.00", order_id: str | None = None, **more: Any) -> Event:
    """An order of its own, by default."""
    return purchase("order", when, order_id or f"order/{when}", total, **more)


def refund(when: str, order_id: str, total: str, **more: Any) -> Event:
    """Money given back."""
    return purchase("refund", when, order_id, total, **more)


def cancellation(when: str, order_id: str) -> Event:
    """An order that is void."""
    return purchase("cancellation", when, order_id, "0")


def engagement(kind: str, when: str, **more: Any) -> Event:
    """An engagement of customer `c`, unless told otherwise."""
    record = {"event_id": f"{kind}/{when}", "customer_id": "c", "occurred_at": at(when), "kind": kind}
    return event_of("engagements", {**record, **more})


def consent(when: str, purpose: str, granted: bool, **more: Any) -> Event:
    """A consent given or withdrawn by customer `c`, unless told otherwise."""
    record = {
        "event_id": f"{purpose}/{granted}/{when}",
        "customer_id": "c",
        "occurred_at": at(when),
        "kind": "consent",
        "purpose": purpose,
        "granted": granted,
        **more,
    }
    return event_of("consents", record)


def erasure(when: str, **more: Any) -> Event:
    """Everything of customer `c` erased, unless told otherwise."""
    record = {"event_id": f"erasure/{when}", "customer_id": "c", "occurred_at": at(when), "kind": "erasure"}
    return event_of("consents", {**record, **more})
