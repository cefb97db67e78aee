"""The JSON Schemas say what the decoder takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from schemas.export import MODELS, json_schema
from schemas.rejection import Rejection, rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from tests.schemas.examples import CONSENT, ENGAGEMENT, ERASURE, PURCHASE, RECORDS, decode_object, without
from tests.schemas.test_decode import FAULTS
from tests.schemas.test_decode_properties import JSON, WIRE_NAMES

VALIDATORS: dict[InputTopic, Draft202012Validator] = {
    topic: Draft202012Validator(json_schema(topic.removesuffix("s"))) for topic in INPUT_TOPICS
}
ACCEPTED: list[tuple[InputTopic, dict[str, Any]]] = [
    *RECORDS.items(),
    ("consents", ERASURE),
    ("consents", ERASURE | {"purpose": 7, "granted": "yes", "expires_at": [], "attributes": {"region": 1}}),
    ("consents", CONSENT | {"purpose": "none"}),
    ("engagements", ENGAGEMENT | {"channel": "None"}),
    ("consents", CONSENT | {"granted": False, "expires_at": None}),
    ("purchases", without(PURCHASE, "attributes", "cost_of_goods", "channel", "items")),
    ("purchases", PURCHASE | {"attributes": None, "cost_of_goods": None, "channel": None, "items": None}),
    ("purchases", PURCHASE | {"items": [{"quantity": None, "sku": None, "unit_price": None}], "channel": ""}),
    ("purchases", PURCHASE | {"total": "0", "kind": "refund", "customer_id": "🦊" * 128}),
    ("purchases", PURCHASE | {"total": "0000999999999999999.999999", "unknown": [1]}),
    ("purchases", PURCHASE | {"occurred_at": "2016-12-31t23:59:60.123456789z"}),
    ("purchases", PURCHASE | {"occurred_at": "9999-12-31 23:59:59-00:00"}),
    ("engagements", without(ENGAGEMENT, "cost", "currency")),
    ("engagements", ENGAGEMENT | {"cost": None, "currency": None, "automated": None, "declared": None}),
    ("engagements", ENGAGEMENT | {"score": -1.5, "declared": {"": ""}, "kind": "brand_new"}),
]
BEYOND_A_SCHEMA = ("UTC", "no such day", "leap second")


def paths(errors: Iterable[ValidationError]) -> Iterator[str]:
    """Of the errors, and of those within each alternative."""
    for error in errors:
        yield rejection("Malformed", tuple(error.absolute_path), "").message.partition(": ")[0]
        yield from paths(error.context or [])


@pytest.mark.parametrize("name", MODELS)
def test_every_schema_is_valid_draft_2020_12(name: str) -> None:
    """The oracle is jsonschema's copy of the meta-schema."""
    schema = json_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:ebbtide:schema:{name}:1"
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("name", MODELS)
def test_every_field_is_described(name: str) -> None:
    """A reference to an object that is described counts."""
    schema = json_schema(name)
    for owner in [schema, *schema.get("$defs", {}).values()]:
        assert owner["description"]
        for field, described in owner["properties"].items():
            assert "description" in described or "$ref" in described, field


@pytest.mark.parametrize(("topic", "record"), ACCEPTED)
def test_what_the_decoder_takes_the_schema_takes(topic: InputTopic, record: dict[str, Any]) -> None:
    """Wire names, lengths, null and defaults are those of the decoder."""
    assert not isinstance(decode_object(topic, record), Rejection)
    VALIDATORS[topic].validate(record)


@pytest.mark.parametrize(("topic", "change", "reason", "path"), FAULTS, ids=lambda part: str(part)[:40])
def test_what_the_decoder_refuses_the_schema_refuses(
    topic: InputTopic, change: dict[str, Any], reason: str, path: str
) -> None:
    """At the same path, except where the calendar or the range of years is at fault."""
    record = RECORDS[topic] | change
    event = decode_object(topic, record)
    assert isinstance(event, Rejection)
    if not any(words in event.message for words in BEYOND_A_SCHEMA):
        assert path in set(paths(VALIDATORS[topic].iter_errors(record)))


@given(st.sampled_from(INPUT_TOPICS), st.dictionaries(st.sampled_from(WIRE_NAMES), JSON, max_size=3))
def test_schema_and_decoder_agree_on_arbitrary_fields(topic: InputTopic, changes: dict[str, Any]) -> None:
    """What one takes the other takes, whatever JSON stands in whichever field."""
    record = RECORDS[topic] | changes
    event = decode_object(topic, record)
    if isinstance(event, Rejection) and any(words in event.message for words in BEYOND_A_SCHEMA):
        return
    assert VALIDATORS[topic].is_valid(record) == (not isinstance(event, Rejection))


@pytest.mark.parametrize(
    ("topic", "record"),
    [
        *((topic, without(RECORDS[topic], name)) for topic in INPUT_TOPICS for name in ("event_id", "kind")),
        ("purchases", without(PURCHASE, "total")),
        ("engagements", without(ENGAGEMENT, "currency")),
        ("consents", without(CONSENT, "purpose")),
        ("consents", without(CONSENT, "granted")),
    ],
)
def test_a_missing_field_is_refused_by_both(topic: InputTopic, record: dict[str, Any]) -> None:
    """Conditions between two fields are in the schema."""
    assert isinstance(decode_object(topic, record), Rejection)
    assert not VALIDATORS[topic].is_valid(record)
