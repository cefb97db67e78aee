"""The values and headers of the outputs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from schemas import changes, cloudevents, dead_letters, profiles, rejection, triggers
from schemas.dead_letters import DeadLetterLine
from schemas.export import json_schema
from schemas.rejection import Rejection

AGGREGATES: dict[str, Any] = {
    "first_order_on": "2025-01-09",
    "last_order_on": "2025-06-01",
    "last_engaged_on": None,
    "order_count": 12,
    "purchase_days": 11,
    "revenue": "812.40",
    "refunded": "20.00",
    "margin": "-301.10",
    "order_count_30d": 1,
    "order_count_90d": 3,
    "order_count_365d": 9,
    "revenue_30d": "-1.00",
    "revenue_90d": "0.00",
    "revenue_365d": "700",
    "margin_365d": "1.234",
    "average_order_value_365d": None,
    "engagements_90d": {"email.opened": 4, "none.visited": 2},
    "cost_to_serve_365d": "3.20",
    "cost_to_acquire": "0.00",
}
SCORES: dict[str, Any] = {
    "business": 71.2,
    "engagement": 40.0,
    "cost": 12.5,
    "potential": 33.0,
    "value": 64.1,
}
TRAITS: dict[str, Any] = {
    "recency_days": 12,
    "tenure_days": 410,
    "rfm": "554",
    "probability_active": 0.83,
    "expected_orders_365d": 4.1,
    "customer_lifetime_value_365d": "210.00",
    "churn_risk": 0.11,
    "silence_risk": 0.35,
    "value_at_stake": "12.40",
    "preferred_categories": ["tea"],
    "preferred_channels": [],
    "attributes": {"region": "EU"},
    "declared": {"budget": 12000, "urgency": "high", "growth": True},
}
MODEL = {"name": "default", "version": "1"}
PROFILE: dict[str, Any] = {
    "customer_id": "c-1",
    "as_of": "2025-06-13T00:00:00Z",
    "sequence": 7,
    "aggregates": AGGREGATES,
    "scores": SCORES,
    "traits": TRAITS,
    "standing": {"segment": "high", "tier": "named", "lifecycle": "active"},
    "consents": {"email": True, "profiling": True},
    "model": MODEL,
}
CHANGE: dict[str, Any] = {
    "change_id": "id-1",
    "customer_id": "c-1",
    "life": 0,
    "sequence": 8,
    "dimension": "segment",
    "previous": "high",
    "current": "medium",
    "direction": "downgrade",
    "as_of": "2025-06-13T00:00:00.5Z",
    "reason": {
        "trigger": "time",
        "event_id": None,
        "drivers": [{"metric": "recency_days", "before": 31, "after": 61, "effect_on_value": -9.3}],
    },
    "scores": SCORES,
    "previous_scores": dict.fromkeys(SCORES),
    "traits": dict.fromkeys(TRAITS),
    "permissions": ["email"],
    "model": MODEL,
}
TRIGGER: dict[str, Any] = {
    "trigger_id": "id-2",
    "customer_id": "c-1",
    "change_id": "id-1",
    "as_of": "2025-06-20T00:00:00Z",
    "due_at": "2025-06-20T00:00:00Z",
    "segment": "medium",
    "tier": "named",
    "lifecycle": "at_risk",
    "channels": ["email", "sms"],
    "preferred_categories": ["tea"],
    "value_at_stake": "12.40",
    "group": "treatment",
    "model": MODEL,
}
DEAD_LETTER = dead_letters.replay_line(
    "purchases", Rejection("Malformed", "$: not JSON"), b"\xff{", "a.jsonl", 3
)
OUTPUTS: list[tuple[str, type[BaseModel], dict[str, Any]]] = [
    ("customer-profile", profiles.CustomerProfile, PROFILE),
    ("segment-change", changes.SegmentChange, CHANGE),
    ("reactivation-trigger", triggers.ReactivationTrigger, TRIGGER),
    ("dead-letter-line", DeadLetterLine, DEAD_LETTER),
]


@pytest.mark.parametrize(("name", "model", "value"), OUTPUTS)
def test_model_and_schema_take_a_value_and_keep_its_key_order(
    name: str, model: type[BaseModel], value: dict[str, Any]
) -> None:
    """The oracle for names and order is the contract, copied above."""
    assert json.dumps(model.model_validate(value).model_dump()) == json.dumps(value)
    Draft202012Validator(json_schema(name)).validate(value)


@pytest.mark.parametrize(("name", "model", "value"), OUTPUTS)
def test_every_key_is_always_there_and_no_other_is(
    name: str, model: type[BaseModel], value: dict[str, Any]
) -> None:
    """Schemas ask for every key, but allow those of a later version."""
    validator = Draft202012Validator(json_schema(name))
    for key in value:
        less = {other: value[other] for other in value if other != key}
        with pytest.raises(ValidationError):
            model.model_validate(less)
        assert not validator.is_valid(less)
    with pytest.raises(ValidationError):
        model.model_validate(value | {"later": 1})
    assert validator.is_valid(value | {"later": 1})


def test_a_customer_without_standing_has_every_key_with_null() -> None:
    """Nested objects are there, and say null for each of their keys."""
    value = PROFILE | {
        "scores": dict.fromkeys(profiles.SCORE_NAMES),
        "traits": dict.fromkeys(profiles.TRAIT_NAMES),
        "standing": dict.fromkeys(profiles.DIMENSIONS),
    }
    assert profiles.CustomerProfile.model_validate(value).standing.segment is None
    Draft202012Validator(json_schema("customer-profile")).validate(value)


def test_names_and_levels_are_those_of_the_contract_in_its_order() -> None:
    """The oracle is sections 4 and 5 of the contract."""
    assert tuple(PROFILE) == profiles.PROFILE_NAMES
    assert tuple(AGGREGATES) == profiles.AGGREGATE_NAMES
    assert tuple(SCORES) == profiles.SCORE_NAMES
    assert tuple(TRAITS) == profiles.TRAIT_NAMES
    assert tuple(CHANGE) == changes.CHANGE_NAMES
    assert tuple(TRIGGER) == triggers.TRIGGER_NAMES
    assert profiles.DIMENSIONS == ("segment", "tier", "lifecycle")
    assert profiles.SEGMENTS == ("high", "medium", "emerging", "low", "prospect")
    assert profiles.TIERS == ("strategic", "named", "field", "inside")
    assert profiles.LIFECYCLES == ("active", "new", "at_risk", "lapsed", "prospect")
    assert changes.DIRECTIONS == ("entered", "left", "upgrade", "downgrade")
    assert changes.TRIGGERS == ("erasure", "consent", "correction", "event", "model", "time", "load")


@pytest.mark.parametrize(
    ("dimension", "previous", "current", "direction"),
    [
        ("segment", None, "low", "entered"),
        ("segment", "low", None, "left"),
        ("segment", "prospect", "low", "upgrade"),
        ("tier", "strategic", "inside", "downgrade"),
        ("lifecycle", "new", "active", "upgrade"),
        ("lifecycle", "at_risk", "lapsed", "downgrade"),
    ],
)
def test_direction_follows_from_the_levels(
    dimension: profiles.Dimension, previous: str | None, current: str | None, direction: str
) -> None:
    """A change of another direction is no valid record."""
    assert changes.direction_of(dimension, previous, current) == direction
    value = CHANGE | {"dimension": dimension, "previous": previous, "current": current}
    changes.SegmentChange.model_validate(value | {"direction": direction})
    for other in changes.DIRECTIONS:
        if other != direction:
            with pytest.raises(ValidationError, match="direction"):
                changes.SegmentChange.model_validate(value | {"direction": other})


@pytest.mark.parametrize("current", ["strategic", "active", "gone", "high"])
def test_a_level_belongs_to_its_dimension_and_differs_from_the_one_before(current: str) -> None:
    """`high` to `high` is no change; `active` is no segment."""
    with pytest.raises(ValidationError):
        changes.SegmentChange.model_validate(CHANGE | {"current": current})
    if current != "high":
        assert not Draft202012Validator(json_schema("segment-change")).is_valid(CHANGE | {"current": current})


@pytest.mark.parametrize(
    "as_of", ["2025-06-13T00:00:00+00:00", "2025-06-13T00:00:00.0Z", "2025-06-13T00:00:00.50Z", "2025-06-13"]
)
def test_output_times_have_one_form(as_of: str) -> None:
    """`Z`, and a fraction without trailing zeros."""
    with pytest.raises(ValidationError):
        profiles.CustomerProfile.model_validate(PROFILE | {"as_of": as_of})


def test_money_in_a_profile_is_a_decimal_string() -> None:
    """Never a number."""
    with pytest.raises(ValidationError):
        profiles.Aggregates.model_validate(AGGREGATES | {"revenue": 812.4})


def test_cloud_event_headers_are_utf_8_in_the_contracts_order() -> None:
    """The oracle is CloudEvents 1.0 and its Kafka binding (binary mode)."""
    headers = cloudevents.CloudEventHeaders("segment-changes", "team a/é")
    assert headers.build("id-1", "2025-06-13T00:00:00Z", "🦊".encode()) == (
        ("ce_id", b"id-1"),
        ("ce_type", b"io.ebbtide.segment-change.v1"),
        ("ce_source", b"/ebbtide/team%20a%2F%C3%A9/segment-changes"),
        ("ce_specversion", b"1.0"),
        ("ce_time", b"2025-06-13T00:00:00Z"),
        ("ce_subject", "🦊".encode()),
        ("content-type", b"application/json"),
    )
    assert tuple(name for name, _ in headers.build("i", "t", b"c")) == cloudevents.HEADER_NAMES


def test_dead_letter_headers_have_the_names_of_kip_1034() -> None:
    """Every value is text, offsets too."""
    refused = Rejection("OutOfRange", "items[2].unit_price: the amount is too large")
    assert dead_letters.headers(refused, "eu.purchases", 3, 41) == [
        ("__streams.errors.exception", b"OutOfRange"),
        ("__streams.errors.message", b"items[2].unit_price: the amount is too large"),
        ("__streams.errors.topic", b"eu.purchases"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"41"),
    ]


def test_a_replay_line_holds_the_original_bytes() -> None:
    """The oracle is the standard library's Base64."""
    assert list(DEAD_LETTER) == ["topic", "reason", "message", "value_base64", "file", "line"]
    assert base64.b64decode(str(DEAD_LETTER["value_base64"])) == b"\xff{"


def test_the_reasons_are_those_of_the_contract() -> None:
    """The oracle is the table of section 3."""
    assert rejection.REASONS == (
        "Malformed",
        "OutOfRange",
        "UnknownKind",
        "KeyMismatch",
        "UnknownCurrency",
        "FromTheFuture",
        "TooLate",
        "Unreadable",
        "Skipped",
        "Undelivered",
    )


def test_a_rejection_names_the_path_and_escapes_what_is_not_printable() -> None:
    """Paths are cut to length, so that the words that follow stay readable."""
    refused = rejection.rejection("Malformed", ("declared", "a\nb" * 200), "this is wrong")
    assert refused.message.startswith("declared.a\\nba\\nb")
    assert refused.message.endswith("…: this is wrong")
    assert rejection.rejection("OutOfRange", (), "x" * 5000).message.startswith("$: xxx")
    assert len(rejection.rejection("OutOfRange", (), "x" * 5000).message) < 300
