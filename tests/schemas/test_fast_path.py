"""The short way to an event gives what the long way gives (Hypothesis; a failure prints what to run again)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decode import validate
from schemas.events import Event
from schemas.fast_path import EVENT_OF, NOT_PLAIN
from schemas.input_models import RECORD_TYPES
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from tests.schemas.examples import ERASURE, RECORDS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LONGEST, LONGEST_EMOJI = "x" * 128, "\U0001f98a" * 128
NAMES = st.one_of(
    TEXT, st.sampled_from(["", LONGEST, LONGEST + "x", LONGEST_EMOJI, LONGEST_EMOJI + "x", "\x00"])
)
KINDS = st.sampled_from(
    ["order", "order_updated", "refund", "cancellation", "opened", "consent", "erasure", "merge", "Order"]
)
CURRENCIES = st.sampled_from(["USD", "EUR", "usd", "US", "USDT", "USD\n", "ÄÖÜ", "U1D", "   ", "\u01c5AB"])
ODD_AMOUNTS = [
    *[
        "0",
        "0.000001",
        "999999999999999.999999",
        "1000000000000000",
        "0001",
        "1.1234567",
        "1.",
        ".5",
        "-0",
        "+1",
        "1e3",
        "1_0",
        "1.2.3",
        "NaN",
    ],
    *("0" * 30 + "7", " 1", "1 ", "\u0661", "\u00b2", "1.\u0661", ""),
]
AMOUNTS = st.one_of(st.decimals(0, 10**15 - 1, places=2).map(str), st.sampled_from(ODD_AMOUNTS))
ODD_TIMES = [
    *["2016-12-31T23:59:60Z", "2016-12-31T12:59:60Z", "2025-02-29T00:00:00Z", "2024-02-29T24:00:00Z"],
    *["2025-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "12025-01-01T00:00:00Z", "-2025-01-01T00:00:00Z"],
    *["2025-01-09", "2025-W02-4T12:00:00Z", "٢025-01-09T12:00:00Z", "2025-01-09T12:00Z", "Z"],
    "",
]
TIMES = st.one_of(
    st.builds(
        "{:%Y-%m-%d}{}{:%H:%M:%S}{}{}".format,
        st.datetimes(datetime(1969, 12, 30), datetime(9999, 12, 31)),
        st.sampled_from(["T", "T", "T", "t", " ", "_", ""]),
        st.datetimes(),
        st.sampled_from(["", "", ".5", ".123", ".999999", ".9999999", ".", ",5", ".\u0661", ".1 "]),
        st.sampled_from(["Z", "Z", "Z", "z", "+00:00", "-23:59", "+24:00", "+0100", "", "ZZ"]),
    ),
    st.sampled_from(ODD_TIMES),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1, 10**9, 10**9 + 1, 1e9, 1.0, 2**53 + 1, 2**64 - 1, -(2**63), 5e-324]),
)
SCALARS = st.one_of(TEXT, NUMBERS, st.booleans())
ANYTHING = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=4,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "sku": st.one_of(st.none(), NAMES),
        "category": st.one_of(st.none(), NAMES),
        "quantity": st.one_of(st.none(), NUMBERS, st.booleans()),
        "unit_price": st.one_of(st.none(), AMOUNTS, NUMBERS),
        "else": ANYTHING,
    },
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "occurred_at": TIMES,
    "expires_at": TIMES,
    "kind": st.one_of(KINDS, NAMES),
    "currency": CURRENCIES,
    "total": AMOUNTS,
    "cost_of_goods": AMOUNTS,
    "cost": AMOUNTS,
    "items": st.lists(st.one_of(ITEMS, ITEMS, ITEMS, ANYTHING), max_size=3),
    "automated": st.booleans(),
    "granted": st.booleans(),
    "score": NUMBERS,
    "attributes": st.dictionaries(TEXT, TEXT, max_size=3),
    "declared": st.dictionaries(TEXT, st.one_of(SCALARS, SCALARS, SCALARS, ANYTHING), max_size=3),
}
"""What mostly fits, by name on the wire; other fields take names."""


@st.composite
def documents(draw: st.DrawFn) -> tuple[InputTopic, dict[str, Any]]:
    """A valid record of which some fields are other than they were: fitting, unfitting, null, or not there."""
    topic = draw(st.sampled_from(INPUT_TOPICS))
    document = dict(
        draw(st.sampled_from([RECORDS[topic], ERASURE])) if topic == "consents" else RECORDS[topic]
    )
    names = [field.alias or name for name, field in RECORD_TYPES[topic].model_fields.items()]
    for name in draw(st.sets(st.sampled_from([*names, "unknown"]), max_size=3)):
        fate = draw(st.sampled_from(["fits", "fits", "fits", "null", "absent", "anything"]))
        if fate == "absent":
            document.pop(name, None)
        else:
            document[name] = (
                None if fate == "null" else draw(FIELDS.get(name, NAMES) if fate == "fits" else ANYTHING)
            )
    return topic, document


def by_the_short_way(topic: InputTopic, document: object) -> Event | None:
    try:
        return EVENT_OF[topic](document)
    except NOT_PLAIN:
        return None


@given(documents())
def test_what_the_short_way_takes_is_the_event_of_the_long_way(
    topic_and_document: tuple[InputTopic, dict[str, Any]],
) -> None:
    """To the type of every value: `repr` tells 1 from 1.0 and True, and 0.0 from -0.0."""
    topic, written = topic_and_document
    document = orjson.loads(orjson.dumps(written))
    event = by_the_short_way(topic, document)
    validated = validate(topic, orjson.loads(orjson.dumps(written)))
    if event is not None:
        assert repr(event) == repr(validated)
        assert event == validated


@given(documents())
def test_the_short_way_takes_all_that_is_valid(topic_and_document: tuple[InputTopic, dict[str, Any]]) -> None:
    """Only what is refused has to go the long way."""
    topic, written = topic_and_document
    document = orjson.loads(orjson.dumps(written))
    if not isinstance(validate(topic, document), Rejection):
        assert by_the_short_way(topic, document) is not None


@given(st.sampled_from(INPUT_TOPICS), ANYTHING)
def test_a_document_that_is_no_record_is_not_taken(topic: InputTopic, document: object) -> None:
    """It is not even an object, or has no field of a record."""
    assert by_the_short_way(topic, document) is None


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_plain_records_take_the_short_way(topic: InputTopic) -> None:
    """Whatever they have of optional fields."""
    assert by_the_short_way(topic, RECORDS[topic]) == validate(topic, RECORDS[topic])
    assert by_the_short_way("consents", ERASURE) == validate("consents", ERASURE)


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_an_event_cannot_be_changed(topic: InputTopic) -> None:
    """Views of customers hold parts of it."""
    event = by_the_short_way(topic, RECORDS[topic])
    with pytest.raises(AttributeError, match="immutable"):
        event.event_id = "other"  # type: ignore[union-attr, misc]  # what is tested
