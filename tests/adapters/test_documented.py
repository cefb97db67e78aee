"""Events as their systems describe them, beside those of tests/data/payloads: one of each way in which they come."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from streams.adapters.converter import Converter, Outcome
from streams.adapters.documents import parsed
from streams.adapters.mapping import load_mapping, shipped

Json = dict[str, Any]
NOON = "2025-01-09T12:00:00Z"
NOON_S = 1736424000


def outcomes(mapping: str, document: Any, currency: str | None = None) -> list[Outcome]:
    """What becomes of a document, through JSON."""
    return list(Converter(load_mapping(mapping), currency).convert(parsed(json.dumps(document).encode())))


def records(mapping: str, document: Any, currency: str | None = None) -> list[tuple[str, Json]]:
    """The records that it makes; nothing of it is a dead letter."""
    found = outcomes(mapping, document, currency)
    assert [why.message for one in found for why in one.unmapped] == []
    return [(made.topic, made.record) for one in found for made in one.made]


def only(mapping: str, document: Any, topic: str, **fields: Any) -> None:
    """Its one record has these fields."""
    ((of, record),) = records(mapping, document)
    assert of == topic
    assert {name: record.get(name) for name in fields} == fields


TRACK: Json = {"type": "track", "messageId": "m", "userId": "u", "timestamp": NOON}
ADDRESS: Json = {"email": "A@b.example", "timestamp": NOON_S, "sg_event_id": "e"}
BRAZE: Json = {"id": "b", "user": {"user_id": "braze-1", "external_user_id": "u"}, "time": 1477502783}
CIO: Json = {"event_id": "01E4", "timestamp": NOON_S}
ITERABLE: Json = {"createdAt": "2025-01-09 12:00:00 +00:00"}
CE: Json = {
    "specversion": "1.0",
    "id": "e",
    "source": "/shop",
    "subject": "u",
    "time": "2025-01-09T12:00:00+01:00",
}


def track(event: str, **properties: Any) -> Json:
    return {**TRACK, "event": event, "properties": properties}


def klaviyo(metric: str, **attributes: Any) -> Json:
    """As the Events API answers, with `include=metric,profile`."""
    return {
        "data": {
            "type": "event",
            "id": "4vRpBT",
            "attributes": {"timestamp": NOON_S, "datetime": "2025-01-09T12:00:00+00:00", **attributes},
            "relationships": {"profile": {"data": {"type": "profile", "id": "01GD"}}},
        },
        "included": [
            {"type": "profile", "id": "01GD", "attributes": {"email": "A@example.com"}},
            {"type": "metric", "id": "WLVYBd", "attributes": {"name": metric}},
        ],
    }


def snowplow(event: str, **fields: Any) -> Json:
    own = {"event": event, "event_name": event, "event_id": "c6ef3124", "user_id": "u", "domain_userid": "d"}
    return {**own, "platform": "web", "derived_tstamp": "2025-01-09T12:00:00.123Z", **fields}


EXAMPLES: list[tuple[str, Json | list[Any], str, Json]] = [
    ("segment", {**TRACK, "type": "page"}, "engagements", {"kind": "visited", "channel": "web"}),
    ("segment", {**TRACK, "type": "screen"}, "engagements", {"kind": "visited", "channel": "app"}),
    (
        "segment",
        track("Order Completed", order_id=7, revenue=0, total=9),
        "purchases",
        {"total": "0", "order_id": "7", "currency": "USD"},
    ),
    (
        "segment",
        track("Order Completed", order_id="7", total=30, tax=2.5, shipping=3),
        "purchases",
        {"total": "24.5"},
    ),
    (
        "segment",
        track("order_completed", order_id="7", revenue="12.30", currency="eur"),
        "purchases",
        {"total": "12.30", "currency": "EUR"},
    ),
    ("segment", {"batch": [track("Product Viewed")]}, "engagements", {"kind": "viewed"}),
    (
        "segment",
        {
            **TRACK,
            "type": "identify",
            "traits": {"region": "north", "age": 7, "email": "x@y.z", "address": {}},
        },
        "engagements",
        {"kind": "declared", "automated": True, "attributes": {"region": "north", "age": "7"}},
    ),
    (
        "rudderstack",
        {
            "event": "Order Refunded",
            "message_id": "m",
            "anonymous_id": "a",
            "sent_at": NOON,
            "properties": {"order_id": "o", "revenue": -5},
        },
        "purchases",
        {"kind": "refund", "total": "5", "customer_id": "a", "event_id": "m"},
    ),
    (
        "sendgrid",
        [{**ADDRESS, "event": "open", "sg_machine_open": True}],
        "engagements",
        {"automated": True, "customer_id": "a@b.example"},
    ),
    ("sendgrid", [{**ADDRESS, "event": "spamreport"}], "consents", {"purpose": "email", "granted": False}),
    ("sendgrid", [{**ADDRESS, "event": "group_resubscribe"}], "consents", {"granted": True}),
    (
        "mailgun",
        {
            "signature": {},
            "event-data": {
                "event": "opened",
                "id": "e",
                "timestamp": NOON_S + 0.5,
                "recipient": "a@b.example",
                "client-info": {"bot": "apple"},
            },
        },
        "engagements",
        {"automated": True, "occurred_at": "2025-01-09T12:00:00.500Z"},
    ),
    (
        "mandrill",
        [{"event": "unsub", "ts": NOON_S, "_id": "e", "msg": {"email": "a@b.example"}}],
        "consents",
        {"granted": False},
    ),
    (
        "brevo",
        {"event": "complaint", "email": "a@b.example", "date": "2025-07-09 12:00:00"},
        "consents",
        {"granted": False, "occurred_at": "2025-07-09T10:00:00Z"},
    ),
    ("mailjet", {"event": "spam", "time": NOON_S, "email": "a@b.example"}, "consents", {"granted": False}),
    (
        "klaviyo",
        klaviyo("Placed Order", event_properties={"$value": 32.5, "OrderId": "o-1", "$currency_code": "EUR"}),
        "purchases",
        {"total": "32.5", "order_id": "o-1", "currency": "EUR", "customer_id": "a@example.com"},
    ),
    (
        "klaviyo",
        klaviyo("Opened Email", event_properties={"machine_open": True}),
        "engagements",
        {"kind": "opened", "automated": True, "channel": "email"},
    ),
    ("klaviyo", klaviyo("Unsubscribed from Email Marketing"), "consents", {"granted": False}),
    (
        "klaviyo",
        {
            "data": {
                "type": "event",
                "attributes": {
                    "properties": {"OrderId": "o-1"},
                    "time": "2025-01-09T12:00:00",
                    "value": 9.99,
                    "value_currency": "USD",
                    "unique_id": "q",
                    "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
                    "profile": {"data": {"attributes": {"email": "a@b.example", "external_id": "63f64"}}},
                },
            }
        },
        "purchases",
        {"total": "9.99", "event_id": "q", "customer_id": "63f64", "occurred_at": NOON},
    ),
    (
        "braze",
        {
            "events": [
                {**BRAZE, "event_type": "users.messages.email.Open", "properties": {"machine_open": "true"}}
            ]
        },
        "engagements",
        {"kind": "opened", "automated": True, "customer_id": "u", "occurred_at": "2016-10-26T17:26:23Z"},
    ),
    ("braze", {**BRAZE, "event_type": "users.messages.email.MarkAsSpam"}, "consents", {"granted": False}),
    (
        "braze",
        {
            **BRAZE,
            "event_type": "users.behaviors.Purchase",
            "properties": {"product_id": "p", "price": 12.5, "currency": "USD", "quantity": 2},
        },
        "purchases",
        {"total": "25.0", "order_id": "b", "items": [{"sku": "p", "quantity": 2, "unit_price": "12.5"}]},
    ),
    (
        "braze",
        {
            **BRAZE,
            "event_type": "users.behaviors.subscriptiongroup.StateChange",
            "properties": {"channel": "sms", "subscription_status": "Unsubscribed"},
        },
        "consents",
        {"purpose": "sms", "granted": False},
    ),
    (
        "customerio",
        {**CIO, "object_type": "email", "metric": "opened", "data": {"customer_id": "0200", "proxied": True}},
        "engagements",
        {"kind": "opened", "automated": True, "customer_id": "0200", "channel": "email"},
    ),
    (
        "customerio",
        {**CIO, "object_type": "customer", "metric": "unsubscribed", "data": {"customer_id": "0200"}},
        "consents",
        {"purpose": "email", "granted": False},
    ),
    (
        "iterable",
        {
            "email": "A@b.example",
            "eventName": "emailOpen",
            "dataFields": {**ITERABLE, "campaignId": 49313, "proxySource": "Apple"},
        },
        "engagements",
        {"automated": True, "campaign_id": "49313", "customer_id": "a@b.example", "occurred_at": NOON},
    ),
    (
        "iterable",
        {"email": "a@b.example", "eventName": "emailComplaint", "dataFields": ITERABLE},
        "consents",
        {"granted": False},
    ),
    (
        "iterable",
        {
            "userId": "u",
            "eventName": "purchase",
            "dataFields": {
                **ITERABLE,
                "purchaseId": "p",
                "total": 14.75,
                "shoppingCartItems": [{"sku": "s", "price": 14.75, "quantity": 1}],
            },
        },
        "purchases",
        {"total": "14.75", "order_id": "p", "items": [{"sku": "s", "quantity": 1, "unit_price": "14.75"}]},
    ),
    (
        "snowplow",
        snowplow("transaction", tr_orderid="o", tr_total=30.5, tr_tax=2, tr_shipping=3.5, tr_currency="GBP"),
        "purchases",
        {"total": "25.0", "currency": "GBP", "order_id": "o", "occurred_at": "2025-01-09T12:00:00.123Z"},
    ),
    (
        "snowplow",
        snowplow("page_view", user_id=None, derived_tstamp="2025-01-09 12:00:00.000"),
        "engagements",
        {"kind": "visited", "customer_id": "d", "channel": "web", "occurred_at": NOON},
    ),
    (
        "snowplow",
        snowplow("page_view", contexts_com_iab_snowplow_spiders_and_robots_1=[{"spiderOrRobot": True}]),
        "engagements",
        {"automated": True},
    ),
    (
        "cloudevents",
        {
            **CE,
            "type": "com.example.order.created",
            "data": {"order_id": "o", "total": 12.5, "currency": "EUR"},
        },
        "purchases",
        {
            "kind": "order",
            "total": "12.5",
            "customer_id": "u",
            "event_id": "e",
            "occurred_at": "2025-01-09T11:00:00Z",
        },
    ),
    (
        "cloudevents",
        {
            "headers": {"ce_id": "e", "ce_type": "consent", "ce_subject": "u", "ce_time": NOON},
            "data": {"purpose": "sms", "granted": True},
        },
        "consents",
        {"purpose": "sms", "granted": True, "customer_id": "u", "event_id": "e"},
    ),
    ("cloudevents", {**CE, "type": "erasure", "data": {"kind": "erasure"}}, "consents", {"kind": "erasure"}),
    (
        "unomi",
        {
            "events": [
                {
                    "eventType": "modifyConsent",
                    "itemId": "i",
                    "profileId": "p",
                    "properties": {
                        "consent": {"typeIdentifier": "email", "status": "REVOKED", "statusDate": NOON}
                    },
                }
            ]
        },
        "consents",
        {"purpose": "email", "granted": False},
    ),
]


@pytest.mark.parametrize(("mapping", "document", "topic", "fields"), EXAMPLES)
def test_an_event_makes_its_record(mapping: str, document: Any, topic: str, fields: Json) -> None:
    """Names, amounts, times, consents and machines as each system writes them."""
    only(mapping, document, topic, **fields)


def test_every_shipped_mapping_has_an_example() -> None:
    """Here or among the payloads."""
    assert {mapping for mapping, *_ in EXAMPLES} | {"postmark", "shopify"} == set(shipped())


def test_the_clock_of_a_device_is_taken_out() -> None:
    """Its clock was a year behind; what counts is that it sent the event ten seconds after it happened."""
    wrong = {
        "originalTimestamp": "2024-01-09T11:59:50Z",
        "sentAt": "2024-01-09T12:00:00Z",
        "receivedAt": NOON,
    }
    event = {**track("Product Viewed"), **wrong}
    del event["timestamp"]
    only("segment", event, "engagements", occurred_at="2025-01-09T11:59:50Z")
    corrected = {**event, "timestamp": "2025-01-01T00:00:00Z"}
    only("segment", corrected, "engagements", occurred_at="2025-01-01T00:00:00Z")


def test_consents_come_with_any_event() -> None:
    """An order makes its record, and each category of `context.consent` one more; RudderStack's lists do the same."""
    event = track("Order Completed", order_id="o", revenue=5)
    consents = {"categoryPreferences": {"Advertising": True, "Analytics": False}}
    made = records("segment", {**event, "context": {"consent": consents}})
    assert [(topic, one.get("purpose"), one.get("granted")) for topic, one in made] == [
        ("purchases", None, None),
        ("consents", "advertising", True),
        ("consents", "analytics", False),
    ]
    lists = {"allowedConsentIds": ["C0001"], "deniedConsentIds": ["C0002"]}
    made = records("rudderstack", {**event, "context": {"consentManagement": lists}})
    assert [(one.get("purpose"), one.get("granted")) for _, one in made[1:]] == [
        ("c0001", True),
        ("c0002", False),
    ]


def test_a_consent_stands_though_the_order_beside_it_cannot_be_mapped() -> None:
    """A withdrawal is not lost with a broken order."""
    consents = {"consent": {"categoryPreferences": {"Advertising": False}}}
    (outcome,) = outcomes("segment", {**track("Order Completed", revenue=5), "context": consents})
    assert [made.topic for made in outcome.made] == ["consents"]
    assert [why.message for why in outcome.unmapped] == [
        "segment: properties.order_id, properties.orderId: missing, and order_id needs it"
    ]


SHOPIFY: Json = {
    "id": 1,
    "created_at": "2025-01-09T12:00:00+01:00",
    "updated_at": "2025-01-09T12:00:00+01:00",
    "currency": "EUR",
    "subtotal_price": "119.00",
    "total_price": "124.00",
    "taxes_included": True,
    "customer": {"id": 42},
    "line_items": [{"sku": "s", "price": "119.00", "quantity": 1, "tax_lines": [{"price": "19.00"}]}],
}


def test_an_order_of_a_shop_without_its_tax() -> None:
    """Where prices hold the tax, it is taken off."""
    only("shopify", SHOPIFY, "purchases", total="100.00", customer_id="42")
    only("shopify", {**SHOPIFY, "taxes_included": False}, "purchases", total="119.00")


def test_a_test_order_is_left_out() -> None:
    """It is counted as one."""
    (outcome,) = outcomes("shopify", {**SHOPIFY, "test": True})
    assert (outcome.made, outcome.ignored) == ([], "test order")


def test_an_order_that_was_edited_refunded_and_cancelled() -> None:
    """The order's day stays; its latest total, its refunds and its cancellation are records of their own."""
    lines = [{"subtotal": 19.5}, {"subtotal": "0.50"}]
    document = {
        **SHOPIFY,
        "updated_at": "2025-01-13T12:00:00Z",
        "cancelled_at": "2025-01-13T11:00:00Z",
        "refunds": [{"id": 9, "created_at": "2025-01-12T12:00:00Z", "refund_line_items": lines}],
        "buyer_accepts_marketing": True,
    }
    made = records("shopify", {"orders": [document]})
    assert [(topic, one["kind"], one["occurred_at"], one.get("total")) for topic, one in made] == [
        ("purchases", "order", "2025-01-09T11:00:00Z", "100.00"),
        ("purchases", "order_updated", "2025-01-13T12:00:00Z", "100.00"),
        ("purchases", "cancellation", "2025-01-13T11:00:00Z", "100.00"),
        ("purchases", "refund", "2025-01-12T12:00:00Z", "20.00"),
        ("consents", "consent", "2025-01-09T11:00:00Z", None),
    ]
    assert len({one["event_id"] for _, one in made}) == len(made)


def test_the_currency_of_amounts_without_one_can_be_given() -> None:
    """An event's own currency stays."""
    ((_, record),) = records("segment", track("Order Completed", order_id="o", revenue=5), "EUR")
    assert record["currency"] == "EUR"
    event = track("Order Completed", order_id="o", revenue=5, currency="GBP")
    ((_, record),) = records("segment", event, "EUR")
    assert record["currency"] == "GBP"


@pytest.mark.parametrize(
    ("written", "total"),
    [("0.1", "0.1"), ("0.30000000000000004", "0.300000"), ("1e2", "100"), ("22.50", "22.50")],
)
def test_numbers_are_never_floats(written: str, total: str) -> None:
    """0.1 is a tenth; what binary fractions leave behind is rounded away, at a millionth."""
    assert parsed(b'{"a": 0.1}') == {"a": Decimal("0.1")}
    text = json.dumps(track("Order Completed", order_id="o", revenue="X")).replace('"X"', written)
    (outcome,) = Converter(load_mapping("segment")).convert(parsed(text.encode()))
    assert outcome.made[0].record["total"] == total
