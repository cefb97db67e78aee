"""What is accepted, and with which reason and path the rest is refused (contract, sections 2 and 3)."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from schemas.decode import MAX_VALUE_BYTES, decode
from schemas.events import Consent, Engagement, Item, Purchase
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from tests.schemas.examples import (
    CONSENT,
    ENGAGEMENT,
    ERASURE,
    PURCHASE,
    RECORDS,
    accepted,
    decode_object,
    refused,
    without,
)

EMOJI_ID = "🦊" * 128


def test_a_purchase_keeps_every_field_with_its_unit() -> None:
    """Times are microseconds, amounts micro-units, and absent item fields are none or one."""
    event = accepted("purchases", PURCHASE)
    assert isinstance(event, Purchase)
    assert msgspec.structs.asdict(event) == {
        "event_id": "e-1",
        "customer_id": "c-1",
        "occurred_at_us": 1_736_425_800_000_000,
        "attributes": {"region": "EU", "vertical": "retail"},
        "kind": "order",
        "order_id": "o-1",
        "currency": "USD",
        "total_micros": 23_500_000,
        "cost_of_goods_micros": 11_750_000,
        "channel": "web",
        "items": (
            Item(sku="s-1", category="tea", quantity=2.0, unit_price_micros=10_000_000),
            Item(sku="s-2", category="mugs", quantity=0.5, unit_price_micros=7_000_000),
            Item(sku=None, category=None, quantity=1.0, unit_price_micros=None),
        ),
    }


def test_an_engagement_keeps_every_field_with_its_unit() -> None:
    """Declared values keep their types."""
    event = accepted("engagements", ENGAGEMENT)
    assert isinstance(event, Engagement)
    assert msgspec.structs.asdict(event) == {
        "event_id": "e-2",
        "customer_id": "c-1",
        "occurred_at_us": 1_736_425_800_000_000,
        "attributes": {},
        "kind": "opened",
        "channel": "email",
        "campaign_id": "spring",
        "automated": False,
        "cost_micros": 2_000,
        "currency": "EUR",
        "score": 9.0,
        "declared": {"budget": 12000, "urgency": "high", "growth_plans": True, "annual_value": 1.5},
    }
    assert event.declared["growth_plans"] is True
    assert type(event.declared["budget"]) is int


def test_a_consent_keeps_every_field_with_its_unit() -> None:
    """An offset is taken off, and the expiry is a time like any other."""
    event = accepted("consents", CONSENT)
    assert isinstance(event, Consent)
    assert msgspec.structs.asdict(event) == {
        "event_id": "e-3",
        "customer_id": "c-1",
        "occurred_at_us": 1_736_445_600_250_000,
        "attributes": {},
        "kind": "consent",
        "purpose": "email",
        "granted": True,
        "expires_at_us": 1_767_916_800_000_000,
    }


def test_an_erasure_needs_neither_purpose_nor_granted() -> None:
    """`purpose`, `granted` and `expires_at` belong to the other kind."""
    event = accepted("consents", ERASURE)
    assert (event.kind, event.purpose, event.granted, event.expires_at_us) == ("erasure", None, None, None)


@pytest.mark.parametrize("bad", [None, 7, "", "no time", [{}], {"a": 1}, "x" * 200])
@pytest.mark.parametrize("name", ["attributes", "purpose", "granted", "expires_at", "unknown"])
def test_an_erasure_is_never_refused_for_what_stands_beside_it(name: str, bad: Any) -> None:
    """Of an erasure only `event_id`, `customer_id`, `occurred_at` and `kind` are read."""
    assert accepted("consents", ERASURE | {name: bad}) == accepted("consents", ERASURE)


def test_nothing_beside_an_erasure_is_read() -> None:
    """Also where it would be a good value of a consent."""
    beside = {**CONSENT, "attributes": {"region": "EU"}, **ERASURE}
    assert accepted("consents", beside) == accepted("consents", ERASURE)


@pytest.mark.parametrize("name", ["event_id", "customer_id", "occurred_at"])
def test_an_erasure_needs_to_say_whom_and_when(name: str) -> None:
    """These three are read."""
    assert refused(decode_object("consents", without(ERASURE, name))) == ("Malformed", name)
    assert refused(decode_object("consents", ERASURE | {name: 7})) == ("Malformed", name)


@pytest.mark.parametrize(
    ("topic", "change", "message"),
    [
        (
            "purchases",
            {"kind": "purchase"},
            "kind: `purchase` is no kind of purchase: order, order_updated, refund, cancellation",
        ),
        (
            "purchases",
            {"kind": "merge"},
            "kind: `merge` is no kind of purchase (it is reserved): order, order_updated, refund, cancellation",
        ),
        (
            "purchases",
            {"kind": 7},
            "kind: a kind of purchase is one of: order, order_updated, refund, cancellation",
        ),
        ("consents", {"kind": "granted"}, "kind: `granted` is no kind of consent: consent, erasure"),
        (
            "purchases",
            {"kind": "x\n" * 60},
            f"kind: `{('x' + chr(92) + 'n') * 13}…` is no kind of purchase: order, order_updated, refund, cancellation",
        ),
        (
            "purchases",
            {"items": [{}, {}, {}, {"quantity": "two"}]},
            "items[3].quantity: Input should be a valid number",
        ),
        ("purchases", {"items": [{}, "tea"]}, "items[1]: Input should be an object"),
        (
            "engagements",
            {"channel": "none"},
            "channel: a channel may not be named `none`: counts keep this name for themselves",
        ),
    ],
)
def test_a_message_makes_the_cause_plain(topic: InputTopic, change: dict[str, Any], message: str) -> None:
    """It names what was written where that is a kind, and which kinds there are."""
    event = decode_object(topic, RECORDS[topic] | change)
    assert isinstance(event, Rejection)
    assert event.message == message


@pytest.mark.parametrize("topic", RECORDS)
def test_null_in_an_optional_field_is_the_same_as_its_absence(topic: InputTopic) -> None:
    """An optional field may be null, in an item too."""
    required = {"event_id", "customer_id", "occurred_at", "kind"} | {
        "purchases": {"order_id", "currency", "total"},
        "engagements": set[str](),
        "consents": {"purpose", "granted"},
    }[topic]
    record = RECORDS[topic]
    nulls = {name: value if name in required else None for name, value in record.items()}
    assert accepted(topic, nulls | {"attributes": None}) == accepted(
        topic, {name: record[name] for name in record if name in required}
    )
    item = {"sku": None, "category": None, "quantity": None, "unit_price": None}
    assert accepted("purchases", PURCHASE | {"items": [item]}).items == (Item(),)


def test_unknown_and_reserved_fields_are_ignored() -> None:
    """`contact_id` is reserved; the names of attributes are no wire names."""
    extra = {"contact_id": 7, "total_micros": 1, "occurred_at_us": 1, "x": [{"y": None}]}
    assert accepted("purchases", PURCHASE | extra) == accepted("purchases", PURCHASE)


def test_of_duplicate_keys_the_last_wins() -> None:
    """As in most readers of JSON."""
    value = orjson.dumps(ERASURE)[:-1] + b',"event_id":"second"}'
    event = decode("consents", value)
    assert isinstance(event, Consent)
    assert event.event_id == "second"


@pytest.mark.parametrize(
    "text",
    [
        EMOJI_ID,
        "x' OR '1'='1'; DROP TABLE customers; --",
        "{{7*7}}${7*7}<%= 7*7 %>",
        "a\x00b\nc",
        " ",
        "e\u0301",
        "..",
    ],
)
def test_any_text_of_1_to_128_characters_is_an_id(text: str) -> None:
    """Text that looks like SQL or a template is ordinary text, and is kept as it came."""
    record = PURCHASE | {"event_id": text, "customer_id": text, "order_id": text}
    event = decode_object("purchases", record, key=text.encode())
    assert isinstance(event, Purchase)
    assert (event.event_id, event.customer_id, event.order_id) == (text, text, text)


def test_empty_optional_text_is_the_same_as_its_absence() -> None:
    """An empty channel counts as no channel."""
    assert accepted("engagements", ENGAGEMENT | {"channel": "", "campaign_id": ""}).channel is None
    assert accepted("purchases", PURCHASE | {"items": [{"category": "", "sku": ""}]}).items == (Item(),)


def test_an_amount_above_the_limit_of_the_contract_is_left_to_the_models_rates() -> None:
    """10^9 base units can be far more units of another currency."""
    assert accepted("purchases", PURCHASE | {"total": "2000000000"}).total_micros == 2_000_000_000_000_000


def test_an_integer_beyond_64_bits_is_declared_as_a_float() -> None:
    """The nearest double stands for it."""
    value = (
        orjson.dumps(without(ENGAGEMENT, "declared"))[:-1] + b',"declared":{"a":' + b"1" + b"0" * 30 + b"}}"
    )
    event = decode("engagements", value)
    assert isinstance(event, Engagement)
    assert event.declared == {"a": 1e30}


def test_a_record_of_exactly_1_mib_is_not_too_large() -> None:
    """The limit is on what is larger."""
    value = orjson.dumps(PURCHASE).ljust(MAX_VALUE_BYTES)
    assert isinstance(decode("purchases", value), Purchase)
    assert refused(decode("purchases", value + b" ")) == ("OutOfRange", "$")


def test_nesting_within_the_limit_is_ignored_in_an_unknown_field() -> None:
    """Depth alone is no fault up to 1,024 levels."""
    value = orjson.dumps(ERASURE)[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert isinstance(decode("consents", value), Consent)


@pytest.mark.parametrize("name", ["event_id", "occurred_at", "total", "attributes", "items"])
def test_nesting_within_the_limit_is_a_wrong_type_in_a_known_field(name: str) -> None:
    """Its depth does not exhaust the stack."""
    nested = b"[" * 1000 + b"]" * 1000
    value = orjson.dumps(without(PURCHASE, name))[:-1] + b',"' + name.encode() + b'":' + nested + b"}"
    assert refused(decode("purchases", value))[0] == "Malformed"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "Malformed"),
        (b"", "Malformed"),
        (b" ", "Malformed"),
        (b"\x00", "Malformed"),
        (b"not json", "Malformed"),
        (b"null", "Malformed"),
        (b"[]", "Malformed"),
        (b'"text"', "Malformed"),
        (b"7", "Malformed"),
        (b"{}{}", "Malformed"),
        (b"{'a': 1}", "Malformed"),
        (b"\xef\xbb\xbf{}", "Malformed"),
        ('{"a":"b"}'.encode("utf-16"), "Malformed"),
        (b'{"x":"\xff"}', "Malformed"),
        (b'{"x":"\xed\xa0\x80"}', "Malformed"),
        (b'{"x":"\\ud800"}', "Malformed"),
        (b'{"\\udc00":1}', "Malformed"),
        (b'{"x":NaN}', "Malformed"),
        (b'{"x":[{"y":-Infinity}]}', "Malformed"),
        (b'{"x":Infinity}', "Malformed"),
        (b'{"x":1e999}', "Malformed"),
        (b'{"x":' + b"9" * 5000 + b"}", "Malformed"),
        (b'{"x":' * 100_000 + b"1" + b"}" * 100_000, "Malformed"),
        (b"[" * 1_000_000, "Malformed"),
        (b'{"x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "OutOfRange"),
        (b"\xff" * (MAX_VALUE_BYTES + 1), "OutOfRange"),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("topic", RECORDS)
def test_a_value_that_is_no_json_object_is_refused_as_a_whole(
    topic: InputTopic, value: bytes | None, reason: str
) -> None:
    """Size comes before parsing; nothing in the bytes, not even in unknown fields, ends the process."""
    assert refused(decode(topic, value)) == (reason, "$")


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b'"\\ud83d"', b'"\xc3"'])
def test_what_json_does_not_allow_is_refused_in_unknown_fields_too(constant: bytes) -> None:
    """An otherwise valid record with an ignored field."""
    value = orjson.dumps(PURCHASE)[:-1] + b',"unknown":[' + constant + b"]}"
    assert refused(decode("purchases", value)) == ("Malformed", "$")


@pytest.mark.parametrize("topic", RECORDS)
@pytest.mark.parametrize("name", ["event_id", "customer_id"])
@pytest.mark.parametrize("bad", ["", "x" * 129, "🦊" * 129, 7, None, True, ["a"], {"a": "b"}])
def test_an_id_is_text_of_1_to_128_characters(topic: InputTopic, name: str, bad: Any) -> None:
    """Numbers are not turned into text."""
    assert refused(decode_object(topic, RECORDS[topic] | {name: bad})) == ("Malformed", name)


@pytest.mark.parametrize("topic", RECORDS)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("2025-01-09T12:00:00", "Malformed"),
        ("2025-01-09", "Malformed"),
        ("yesterday", "Malformed"),
        (1_736_424_000, "Malformed"),
        (1_736_424_000.5, "Malformed"),
        (None, "Malformed"),
        (True, "Malformed"),
        ("1969-12-31T23:59:59Z", "OutOfRange"),
        ("0001-01-01T00:00:00Z", "OutOfRange"),
        ("10000-01-01T00:00:00Z", "OutOfRange"),
        ("9999-12-31T23:59:59-01:00", "OutOfRange"),
    ],
)
def test_occurred_at_is_a_time_with_an_offset(topic: InputTopic, bad: Any, reason: str) -> None:
    """A naive time is refused, never guessed at."""
    assert refused(decode_object(topic, RECORDS[topic] | {"occurred_at": bad})) == (reason, "occurred_at")


@pytest.mark.parametrize("topic", RECORDS)
@pytest.mark.parametrize("name", ["event_id", "customer_id", "occurred_at", "kind"])
def test_a_missing_field_is_named(topic: InputTopic, name: str) -> None:
    """The path is that of the field that is not there."""
    assert refused(decode_object(topic, without(RECORDS[topic], name))) == ("Malformed", name)


PURCHASE_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "merge"}, "Malformed", "kind"),
    ({"kind": "Order"}, "Malformed", "kind"),
    ({"kind": "opened"}, "Malformed", "kind"),
    ({"kind": None}, "Malformed", "kind"),
    ({"kind": ["order"]}, "Malformed", "kind"),
    ({"order_id": ""}, "Malformed", "order_id"),
    ({"order_id": "x" * 129}, "Malformed", "order_id"),
    ({"order_id": 12}, "Malformed", "order_id"),
    ({"currency": "usd"}, "Malformed", "currency"),
    ({"currency": "US"}, "Malformed", "currency"),
    ({"currency": "USDT"}, "Malformed", "currency"),
    ({"currency": "USD\n"}, "Malformed", "currency"),
    ({"currency": "ÄÖÜ"}, "Malformed", "currency"),
    ({"currency": None}, "Malformed", "currency"),
    ({"total": 12}, "Malformed", "total"),
    ({"total": 12.5}, "Malformed", "total"),
    ({"total": True}, "Malformed", "total"),
    ({"total": None}, "Malformed", "total"),
    ({"total": "-0.01"}, "Malformed", "total"),
    ({"total": "1e3"}, "Malformed", "total"),
    ({"total": "NaN"}, "Malformed", "total"),
    ({"total": "1.1234567"}, "OutOfRange", "total"),
    ({"total": "1" + "0" * 30}, "OutOfRange", "total"),
    ({"cost_of_goods": 1}, "Malformed", "cost_of_goods"),
    ({"cost_of_goods": "-1"}, "Malformed", "cost_of_goods"),
    ({"cost_of_goods": "1" + "0" * 30}, "OutOfRange", "cost_of_goods"),
    ({"channel": 3}, "Malformed", "channel"),
    ({"channel": "x" * 129}, "Malformed", "channel"),
    ({"channel": "automated"}, "Malformed", "channel"),
    ({"channel": "none"}, "Malformed", "channel"),
    ({"attributes": []}, "Malformed", "attributes"),
    ({"attributes": "region"}, "Malformed", "attributes"),
    ({"attributes": {"a": "b", "region": 7}}, "Malformed", "attributes.region"),
    ({"attributes": {"region": None}}, "Malformed", "attributes.region"),
    ({"attributes": {"region": {"name": "EU"}}}, "Malformed", "attributes.region"),
    ({"items": {}}, "Malformed", "items"),
    ({"items": "tea"}, "Malformed", "items"),
    ({"items": ["tea"]}, "Malformed", "items[0]"),
    ({"items": [{}, None]}, "Malformed", "items[1]"),
    ({"items": [{}, {}, {"unit_price": 7}]}, "Malformed", "items[2].unit_price"),
    ({"items": [{"unit_price": "0.1234567"}]}, "OutOfRange", "items[0].unit_price"),
    ({"items": [{"quantity": "2"}]}, "Malformed", "items[0].quantity"),
    ({"items": [{"quantity": True}]}, "Malformed", "items[0].quantity"),
    ({"items": [{"quantity": -1}]}, "Malformed", "items[0].quantity"),
    ({"items": [{"quantity": 1e300}]}, "OutOfRange", "items[0].quantity"),
    ({"items": [{"sku": 5}]}, "Malformed", "items[0].sku"),
    ({"items": [{"category": ["tea"]}]}, "Malformed", "items[0].category"),
]
ENGAGEMENT_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": ""}, "UnknownKind", "kind"),
    ({"kind": "x" * 129}, "UnknownKind", "kind"),
    ({"kind": 7}, "Malformed", "kind"),
    ({"kind": None}, "Malformed", "kind"),
    ({"channel": ["email"]}, "Malformed", "channel"),
    ({"channel": "automated"}, "Malformed", "channel"),
    ({"channel": "none"}, "Malformed", "channel"),
    ({"campaign_id": 7}, "Malformed", "campaign_id"),
    ({"automated": "true"}, "Malformed", "automated"),
    ({"automated": 1}, "Malformed", "automated"),
    ({"cost": 0.002}, "Malformed", "cost"),
    ({"cost": "-0.002"}, "Malformed", "cost"),
    ({"cost": "0.0000002"}, "OutOfRange", "cost"),
    ({"currency": None}, "Malformed", "currency"),
    ({"currency": "eur"}, "Malformed", "currency"),
    ({"cost": None, "currency": "eur"}, "Malformed", "currency"),
    ({"score": "9"}, "Malformed", "score"),
    ({"score": True}, "Malformed", "score"),
    ({"declared": [1]}, "Malformed", "declared"),
    ({"declared": {"a": 1, "budget": None}}, "Malformed", "declared.budget"),
    ({"declared": {"budget": [1]}}, "Malformed", "declared.budget"),
    ({"declared": {"budget": {"min": 1}}}, "Malformed", "declared.budget"),
    ({"attributes": {"region": True}}, "Malformed", "attributes.region"),
]
CONSENT_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "merge"}, "Malformed", "kind"),
    ({"kind": "granted"}, "Malformed", "kind"),
    ({"purpose": None}, "Malformed", "purpose"),
    ({"purpose": ""}, "Malformed", "purpose"),
    ({"purpose": 7}, "Malformed", "purpose"),
    ({"granted": None}, "Malformed", "granted"),
    ({"granted": "true"}, "Malformed", "granted"),
    ({"granted": 1}, "Malformed", "granted"),
    ({"expires_at": "2026-01-09"}, "Malformed", "expires_at"),
    ({"expires_at": 1_767_916_800}, "Malformed", "expires_at"),
    ({"expires_at": "10000-01-01T00:00:00Z"}, "OutOfRange", "expires_at"),
]
FAULTS: list[tuple[InputTopic, dict[str, Any], str, str]] = [
    *(("purchases", *fault) for fault in PURCHASE_FAULTS),
    *(("engagements", *fault) for fault in ENGAGEMENT_FAULTS),
    *(("consents", *fault) for fault in CONSENT_FAULTS),
]


@pytest.mark.parametrize(("topic", "change", "reason", "path"), FAULTS, ids=lambda part: str(part)[:40])
def test_a_fault_has_its_reason_and_path(
    topic: InputTopic, change: dict[str, Any], reason: str, path: str
) -> None:
    """One field of a valid record is changed."""
    assert refused(decode_object(topic, RECORDS[topic] | change)) == (reason, path)


@pytest.mark.parametrize("name", ["order_id", "currency", "total"])
def test_a_purchase_needs_its_order_and_total(name: str) -> None:
    """A cancellation too says what it takes back."""
    record = without(PURCHASE | {"kind": "cancellation"}, name)
    assert refused(decode_object("purchases", record)) == ("Malformed", name)


@pytest.mark.parametrize("name", ["purpose", "granted"])
def test_a_consent_needs_its_purpose_and_whether_it_is_granted(name: str) -> None:
    """A purpose alone grants nothing."""
    assert refused(decode_object("consents", without(CONSENT, name))) == ("Malformed", name)


def test_a_cost_needs_a_currency_and_nothing_else_does() -> None:
    """A currency without a cost is harmless."""
    assert refused(decode_object("engagements", without(ENGAGEMENT, "currency"))) == ("Malformed", "currency")
    assert accepted("engagements", without(ENGAGEMENT, "cost")).currency == "EUR"
    assert accepted("engagements", without(ENGAGEMENT, "cost", "currency")).currency is None


def test_an_engagement_kind_that_no_model_lists_yet_is_left_to_the_model() -> None:
    """`merge` is one of them, as no model may list it."""
    assert accepted("engagements", ENGAGEMENT | {"kind": "merge"}).kind == "merge"


@pytest.mark.parametrize("topic", RECORDS)
@pytest.mark.parametrize("key", [None, b"", b"c-2", b"c-1 ", b"\xff"])
def test_a_key_that_is_not_the_customer_id_is_a_mismatch(topic: InputTopic, key: bytes | None) -> None:
    """A missing key is one too."""
    assert refused(decode_object(topic, RECORDS[topic], key=key))[0] == "KeyMismatch"
    assert not isinstance(decode_object(topic, RECORDS[topic], key=b"c-1"), Rejection)


def test_checks_go_from_size_to_json_to_fields_to_key() -> None:
    """A record with several faults has the reason of the first check that fails."""
    assert refused(decode("purchases", b"{" * (MAX_VALUE_BYTES + 1), None)) == ("OutOfRange", "$")
    assert refused(decode("purchases", b"{", None)) == ("Malformed", "$")
    late = PURCHASE | {"occurred_at": "1969-01-01T00:00:00Z"}
    assert refused(decode_object("purchases", late, key=None)) == ("OutOfRange", "occurred_at")
    assert refused(decode_object("purchases", late | {"total": 7}, key=None)) == ("Malformed", "total")


@pytest.mark.parametrize(
    "name", ["a\nb\r\tc", "x" * 100_000, "\u2028\u202e\x00", "🦊" * 500, "\n" * 5000, 'a": "b']
)
def test_a_message_is_one_short_printable_line(name: str) -> None:
    """Even where a path holds what the sender wrote."""
    event = decode_object("engagements", ENGAGEMENT | {"declared": {name: None}})
    assert isinstance(event, Rejection)
    assert event.message.startswith("declared.")
    assert event.message.isprintable()
    assert len(event.message) < 300


def test_a_message_does_not_quote_values() -> None:
    """A dead letter's headers hold no personal data."""
    secret = "4111-1111"
    for topic, change, _, _ in FAULTS:
        record = RECORDS[topic] | change | {"customer_id": [secret]}
        event = decode_object(topic, record)
        assert isinstance(event, Rejection)
        assert secret not in event.message


def test_a_message_speaks_of_json() -> None:
    """Its reader need not know in which language it was written."""
    wrong: list[Any] = [{}, ["tea"]]
    for items in wrong:
        event = decode_object("purchases", PURCHASE | {"items": items})
        assert isinstance(event, Rejection)
        assert event.message.endswith(("Input should be a list", "Input should be an object"))


def test_many_faults_in_one_record_are_reported_once() -> None:
    """The first item at fault is named; the others are not looked at."""
    items = [{"quantity": -1}] * 50_000
    assert refused(decode_object("purchases", PURCHASE | {"items": items})) == (
        "Malformed",
        "items[0].quantity",
    )


def test_an_unknown_topic_is_an_error_of_the_caller() -> None:
    """It is no property of the record."""
    with pytest.raises(KeyError):
        decode("orders", b"{}")  # type: ignore[arg-type]  # what is tested
