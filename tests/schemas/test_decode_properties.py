"""Properties of decoding that hold for any record (Hypothesis; a failure prints what to run again)."""

from __future__ import annotations

import calendar
from datetime import datetime
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas.decode import decode
from schemas.events import Consent, Engagement, Purchase
from schemas.input_models import RECORD_TYPES
from schemas.rejection import REASONS, Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from tests.schemas.examples import RECORDS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
MICROS = st.integers(0, 10**21 - 1)
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999_999))
SCALARS = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf")),
)
JSON = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
WIRE_NAMES = sorted(
    {field.alias or name for model in RECORD_TYPES.values() for name, field in model.model_fields.items()}
)


def decimal_text(micros: int) -> str:
    return f"{micros // 10**6}.{micros % 10**6:06}"


def time_text(moment: datetime) -> str:
    return moment.isoformat() + "Z"


def time_us(moment: datetime) -> int:
    return calendar.timegm(moment.timetuple()) * 1_000_000 + moment.microsecond


def check_never_raises(topic: InputTopic, value: bytes, key: bytes | None) -> None:
    event = decode(topic, value, key)
    if isinstance(event, Rejection):
        assert event.reason in REASONS
        assert event.message.isprintable()
        assert 0 < len(event.message) < 300
        assert ": " in event.message
    else:
        assert key == event.customer_id.encode()


@given(st.sampled_from(INPUT_TOPICS), st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=8)))
def test_arbitrary_bytes_never_raise(topic: InputTopic, value: bytes, key: bytes | None) -> None:
    """They are refused with a printable message."""
    check_never_raises(topic, value, key)


@given(st.sampled_from(INPUT_TOPICS), st.dictionaries(st.sampled_from(WIRE_NAMES), JSON, max_size=4))
def test_arbitrary_values_in_a_valid_record_never_raise(topic: InputTopic, changes: dict[str, Any]) -> None:
    """Any JSON value may stand where another is expected."""
    check_never_raises(topic, orjson.dumps(RECORDS[topic] | changes), b"c-1")


@given(st.sampled_from(INPUT_TOPICS), st.data())
def test_a_changed_byte_never_raises(topic: InputTopic, data: st.DataObject) -> None:
    """A valid record with one byte replaced is an event or refused."""
    value = bytearray(orjson.dumps(RECORDS[topic]))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    check_never_raises(topic, bytes(value), b"c-1")


@given(
    ids=st.tuples(IDS, IDS, IDS),
    moment=MOMENTS,
    attributes=st.dictionaries(TEXT, TEXT, max_size=3),
    kind=st.sampled_from(["order", "order_updated", "refund", "cancellation"]),
    total=MICROS,
    cost=st.one_of(st.none(), MICROS),
    prices=st.lists(MICROS, max_size=3),
)
def test_a_valid_purchase_comes_back_as_it_was_written(
    ids: tuple[str, str, str],
    moment: datetime,
    attributes: dict[str, str],
    kind: str,
    total: int,
    cost: int | None,
    prices: list[int],
) -> None:
    """The oracle writes amounts with integer division and times with `datetime`."""
    record = {
        "event_id": ids[0],
        "customer_id": ids[1],
        "order_id": ids[2],
        "occurred_at": time_text(moment),
        "attributes": attributes,
        "kind": kind,
        "currency": "JPY",
        "total": decimal_text(total),
        "cost_of_goods": None if cost is None else decimal_text(cost),
        "items": [{"unit_price": decimal_text(price)} for price in prices],
    }
    event = decode("purchases", orjson.dumps(record), ids[1].encode())
    assert isinstance(event, Purchase)
    assert (event.event_id, event.customer_id, event.order_id) == ids
    assert event.occurred_at_us == time_us(moment)
    assert (event.kind, event.currency, event.attributes) == (kind, "JPY", attributes)
    assert (event.total_micros, event.cost_of_goods_micros) == (total, cost)
    assert [item.unit_price_micros for item in event.items] == prices


@given(st.dictionaries(TEXT, SCALARS, max_size=4), MOMENTS, IDS)
def test_a_valid_engagement_comes_back_as_it_was_written(
    declared: dict[str, Any], moment: datetime, kind: str
) -> None:
    """Declared values keep their value and their type."""
    record = RECORDS["engagements"] | {"declared": declared, "occurred_at": time_text(moment), "kind": kind}
    event = decode("engagements", orjson.dumps(record), b"c-1")
    assert isinstance(event, Engagement)
    assert event.declared == declared
    assert [type(value) for value in event.declared.values()] == [type(value) for value in declared.values()]
    assert (event.occurred_at_us, event.kind) == (time_us(moment), kind)


@given(IDS, st.booleans(), st.one_of(st.none(), MOMENTS))
def test_a_valid_consent_comes_back_as_it_was_written(
    purpose: str, granted: bool, expires: datetime | None
) -> None:
    """An expiry may be any time in range."""
    record = RECORDS["consents"] | {
        "purpose": purpose,
        "granted": granted,
        "expires_at": None if expires is None else time_text(expires),
    }
    event = decode("consents", orjson.dumps(record), b"c-1")
    assert isinstance(event, Consent)
    assert (event.purpose, event.granted) == (purpose, granted)
    assert event.expires_at_us == (None if expires is None else time_us(expires))
