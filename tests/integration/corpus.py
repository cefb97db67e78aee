"""Bad input: an example of each row of docs/contract.md section 3, and what is only odd and must be taken.

Each example is sent between records of the same customer; those before it are only there where the example
needs a past, and the one after it must be processed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from schemas.topics import InputTopic
from tests.integration.harness import Record

Document = dict[str, Any]

OF_EACH_TOPIC: dict[InputTopic, Document] = {
    "purchases": {"kind": "order", "order_id": "o-example", "currency": "USD", "total": "5.00"},
    "engagements": {"kind": "opened", "channel": "email"},
    "consents": {"kind": "consent", "purpose": "sms", "granted": True},
}
"""Valid records, which an example spoils in one place."""
AFTERWARDS: dict[InputTopic, Document] = {
    "purchases": {"kind": "order", "order_id": "o-after", "currency": "USD", "total": "10.00"},
    "engagements": {"kind": "clicked", "channel": "web"},
    "consents": {"kind": "consent", "purpose": "push", "granted": True},
}
"""The record that follows each example; that it was taken shows in the customer's attributes."""
TAKEN = {"after": "taken"}
EMOJI_ID = "🌊" * 128
BIG_NUMBER = str(10**30)


@dataclass(frozen=True)
class Example:
    """One record and what becomes of it: `reason` and `path` of its dead letter, or no reason if there is none."""

    name: str
    topic: InputTopic
    value: bytes | None
    reason: str | None = None
    path: str = "$"
    key: bytes | None = b""
    customer_id: str = ""
    before: tuple[Document, ...] = field(default=())
    outcome: str = "accepted"
    after_at: str = "2025-01-09T12:00:00Z"

    @property
    def customer(self) -> str:
        """The customer whose records surround it."""
        return self.customer_id or f"of {self.name}"

    def records(self) -> list[Record]:
        """What is sent; the example itself is the last but one."""
        key = self.customer.encode()
        own_key = key if self.key == b"" else self.key
        past = [Record(self.topic, key, orjson.dumps(document)) for document in self.before]
        fields = {**AFTERWARDS[self.topic], "attributes": TAKEN, "occurred_at": self.after_at}
        after = document_of(self.topic, self.customer, fields, "after")
        return [*past, Record(self.topic, own_key, self.value), Record(self.topic, key, orjson.dumps(after))]


def document_of(topic: InputTopic, customer_id: str, fields: Document, event_id: str = "example") -> Document:
    """A record of 9 January 2025, unless the fields say otherwise."""
    return {
        "event_id": event_id,
        "customer_id": customer_id,
        "occurred_at": "2025-01-09T12:00:00Z",
        **fields,
    }


def spoilt(
    name: str, topic: InputTopic, changed: Document, reason: str | None, path: str, **more: Any
) -> Example:
    """A valid record with other fields; a field of Ellipsis is left out."""
    document = document_of(topic, more.get("customer_id") or f"of {name}", OF_EACH_TOPIC[topic])
    document.update(changed)
    value = orjson.dumps({key: entry for key, entry in document.items() if entry is not ...})
    return Example(name, topic, value, reason, path, **more)


def with_text(
    name: str, topic: InputTopic, field_name: str, text: bytes, path: str, reason: str = "Malformed"
) -> Example:
    """A valid record with one field written as these bytes, which no writer of JSON would write."""
    document = document_of(topic, f"of {name}", {**OF_EACH_TOPIC[topic], field_name: "@@"})
    return Example(name, topic, orjson.dumps(document).replace(b'"@@"', text), reason, path)


def _now(**offset: float) -> str:
    return (datetime.now(UTC) + timedelta(**offset)).isoformat()


def _repeat(name: str, topic: InputTopic) -> Example:
    document = document_of(topic, f"of {name}", OF_EACH_TOPIC[topic])
    return Example(name, topic, orjson.dumps(document), before=(document,), outcome="duplicate")


def _late(name: str, topic: InputTopic, occurred_at: str, reason: str | None) -> Example:
    """A record after a newer one, of 9 January 2025, at noon."""
    before = document_of(topic, f"of {name}", OF_EACH_TOPIC[topic], "newest")
    if topic == "purchases":
        before["order_id"] = "o-newest"
    changed = {"occurred_at": occurred_at}
    return spoilt(name, topic, changed, reason, "occurred_at", before=(before,))


def _of_every_topic() -> list[Example]:
    """What holds alike for the three inputs."""
    examples: list[Example] = []
    for topic in OF_EACH_TOPIC:
        examples += [
            Example(f"{topic}: null value", topic, None, "Malformed"),
            Example(f"{topic}: empty value", topic, b"", "Malformed"),
            Example(f"{topic}: not JSON", topic, b"{'event_id': 1", "Malformed"),
            Example(f"{topic}: not an object", topic, b'["order"]', "Malformed"),
            Example(f"{topic}: invalid UTF-8", topic, b'{"event_id": "\xff\xfe"}', "Malformed"),
            spoilt(f"{topic}: missing field", topic, {"event_id": ...}, "Malformed", "event_id"),
            spoilt(f"{topic}: wrong type", topic, {"event_id": 7}, "Malformed", "event_id"),
            spoilt(f"{topic}: empty id", topic, {"event_id": ""}, "Malformed", "event_id"),
            spoilt(f"{topic}: id of 129", topic, {"event_id": "x" * 129}, "Malformed", "event_id"),
            spoilt(
                f"{topic}: attributes not flat", topic, {"attributes": {"a": {}}}, "Malformed", "attributes.a"
            ),
            spoilt(
                f"{topic}: naive time",
                topic,
                {"occurred_at": "2025-01-09T12:00:00"},
                "Malformed",
                "occurred_at",
            ),
            spoilt(
                f"{topic}: no such day",
                topic,
                {"occurred_at": "2025-02-30T12:00:00Z"},
                "Malformed",
                "occurred_at",
            ),
            spoilt(
                f"{topic}: year 1969",
                topic,
                {"occurred_at": "1969-12-31T23:59:59Z"},
                "OutOfRange",
                "occurred_at",
            ),
            spoilt(
                f"{topic}: year 9999",
                topic,
                {"occurred_at": "9999-12-31T23:59:59Z"},
                "FromTheFuture",
                "occurred_at",
            ),
            spoilt(
                f"{topic}: in 25 hours",
                topic,
                {"occurred_at": _now(hours=25)},
                "FromTheFuture",
                "occurred_at",
            ),
            spoilt(f"{topic}: null key", topic, {}, "KeyMismatch", "$", key=None),
            spoilt(f"{topic}: another key", topic, {}, "KeyMismatch", "$", key=b"someone else"),
            with_text(f"{topic}: lone surrogate", topic, "event_id", b'"\\ud800"', "$"),
            with_text(f"{topic}: NaN in a field", topic, "event_id", b"NaN", "$"),
            with_text(f"{topic}: Infinity in an ignored field", topic, "ignored", b"Infinity", "$"),
            Example(
                f"{topic}: 2 MiB, deeply nested",
                topic,
                b'{"a":' * 349_525 + b"1" + b"}" * 349_525,
                "OutOfRange",
            ),
            Example(f"{topic}: nested 100,000 deep", topic, b"[" * 100_000 + b"]" * 100_000, "Malformed"),
            spoilt(f"{topic}: over 1 MiB", topic, {"ignored": "x" * 1_048_576}, "OutOfRange", "$"),
            _repeat(f"{topic}: the same event again", topic),
        ]
    return examples


def _of_purchases() -> list[Example]:
    def bad(name: str, changed: Document, path: str, reason: str = "Malformed") -> Example:
        return spoilt(f"purchases: {name}", "purchases", changed, reason, path)

    return [
        bad("amount as a number", {"total": 5.0}, "total"),
        bad("negative amount", {"total": "-5.00"}, "total"),
        bad("amount with an exponent", {"total": "1e3"}, "total"),
        with_text("purchases: NaN as a total", "purchases", "total", b"NaN", "$"),
        bad("NaN as text", {"total": "NaN"}, "total"),
        bad("10^30", {"total": BIG_NUMBER}, "total", "OutOfRange"),
        bad("above 10^9", {"total": "1000000000.01"}, "total", "OutOfRange"),
        bad("seven decimals", {"total": "1.0000001"}, "total", "OutOfRange"),
        bad("negative cost of goods", {"cost_of_goods": "-1"}, "cost_of_goods"),
        bad("unit price as a number", {"items": [{}, {"unit_price": 1}]}, "items[1].unit_price"),
        bad("negative quantity", {"items": [{"quantity": -1}]}, "items[0].quantity"),
        bad("unknown kind", {"kind": "gift"}, "kind"),
        bad("merge", {"kind": "merge"}, "kind"),
        bad("no order id", {"order_id": ...}, "order_id"),
        bad("a channel named automated", {"channel": "automated"}, "channel"),
        bad("currency in small letters", {"currency": "usd"}, "currency"),
        bad("currency without a rate", {"currency": "XAU"}, "currency", "UnknownCurrency"),
        _late("purchases: 401 days late", "purchases", "2023-12-05T11:59:59Z", "TooLate"),
    ]


def _of_engagements() -> list[Example]:
    def bad(name: str, changed: Document, path: str, reason: str = "Malformed") -> Example:
        return spoilt(f"engagements: {name}", "engagements", changed, reason, path)

    return [
        bad("kind not in the model", {"kind": "teleported"}, "kind", "UnknownKind"),
        bad("cost without currency", {"cost": "0.10"}, "currency"),
        bad("cost as a number", {"cost": 0.1, "currency": "USD"}, "cost"),
        bad("cost above 10^9", {"cost": BIG_NUMBER, "currency": "USD"}, "cost", "OutOfRange"),
        bad(
            "cost in a currency without a rate",
            {"cost": "1", "currency": "XAU"},
            "currency",
            "UnknownCurrency",
        ),
        bad("automated as text", {"automated": "yes"}, "automated"),
        bad("a channel named automated", {"channel": "automated"}, "channel"),
        bad("a channel named none", {"channel": "none"}, "channel"),
        bad("score as text", {"kind": "surveyed", "score": "9"}, "score"),
        bad("declared not flat", {"kind": "declared", "declared": {"budget": [1]}}, "declared.budget"),
        _late("engagements: 31 days late", "engagements", "2024-12-10T11:59:59Z", "TooLate"),
    ]


def _of_consents() -> list[Example]:
    def bad(name: str, changed: Document, path: str, reason: str = "Malformed") -> Example:
        return spoilt(f"consents: {name}", "consents", changed, reason, path)

    return [
        bad("unknown kind", {"kind": "maybe"}, "kind"),
        bad("no purpose", {"purpose": ...}, "purpose"),
        bad("granted as a number", {"granted": 1}, "granted"),
        bad("naive end", {"expires_at": "2026-01-01T00:00:00"}, "expires_at"),
    ]


def _odd_but_good() -> list[Example]:
    """What looks wrong and is not."""
    sql, template = "'; DROP TABLE customers; --", "{{7*7}}${jndi:ldap://x}%s{0}"
    star = "*[a-z]?\\{tag}:c:"
    return [
        spoilt(
            "128 emoji as ids",
            "purchases",
            {"event_id": EMOJI_ID, "order_id": EMOJI_ID},
            None,
            "",
            customer_id=EMOJI_ID,
        ),
        spoilt("SQL as ids", "purchases", {"event_id": sql, "order_id": sql}, None, "", customer_id=sql),
        spoilt("templates as ids", "engagements", {"event_id": template}, None, "", customer_id=template),
        spoilt("a Redis pattern as id", "consents", {"event_id": star}, None, "", customer_id=star),
        spoilt(
            "line breaks and NUL in ids",
            "purchases",
            {"event_id": "a\n\x00"},
            None,
            "",
            customer_id="a\r\n\x00b",
        ),
        spoilt(
            "an erasure beside what would be bad in a consent",
            "consents",
            {"kind": "erasure", "purpose": 7, "granted": "yes", "expires_at": "never", "attributes": [1]},
            None,
            "",
            after_at="2025-01-09T12:00:01Z",
        ),
        spoilt("unknown fields", "purchases", {"contact_id": 7, "x": {"y": [None]}}, None, ""),
        spoilt("a total of 10^9", "purchases", {"total": "1000000000"}, None, ""),
        spoilt(
            "in 23 hours", "purchases", {"occurred_at": _now(hours=23)}, None, "", after_at=_now(hours=23)
        ),
        spoilt("the day of the epoch", "purchases", {"occurred_at": "1970-01-01T00:00:00Z"}, None, ""),
        _late("purchases: 400 days late", "purchases", "2023-12-06T12:00:00Z", None),
        _late("engagements: 30 days late", "engagements", "2024-12-10T12:00:00Z", None),
        _late("consents: 20 years late", "consents", "2005-01-09T12:00:00Z", None),
    ]


EXAMPLES = (*_of_every_topic(), *_of_purchases(), *_of_engagements(), *_of_consents(), *_odd_but_good())
