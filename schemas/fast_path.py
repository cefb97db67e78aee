"""The short way from a record to its event, for records that are plainly valid: nearly all that come.

`schemas.input_models` says what is valid, and why a record is not. What is taken here is taken there, as the same
event; what is not taken here may still be valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct, ValidationError, convert

from schemas.amounts import parse_amount
from schemas.events import (
    MAX_NAME_CHARACTERS,
    MAX_QUANTITY,
    OF_AN_ERASURE,
    RESERVED_CHANNELS,
    Consent,
    ConsentKind,
    Engagement,
    Event,
    Item,
    Purchase,
    PurchaseKind,
    Scalar,
)
from schemas.rejection import RefusedError
from schemas.timestamps import parse_timestamp
from schemas.topics import InputTopic

_Id = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
_Name = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS)]
_Currency = Annotated[str, Meta(min_length=3, max_length=3)]
_Quantity = Annotated[float, Meta(ge=0, le=MAX_QUANTITY)]


class _Record(Struct, kw_only=True, gc=False):
    event_id: _Id
    customer_id: _Id
    occurred_at: str
    attributes: dict[str, str] | None = None


class _Item(Struct, gc=False):
    sku: str | None = None
    category: str | None = None
    quantity: _Quantity | None = None
    unit_price: str | None = None


class _Purchase(_Record, kw_only=True, gc=False):
    kind: PurchaseKind
    order_id: _Id
    currency: _Currency
    total: str
    cost_of_goods: str | None = None
    channel: _Name | None = None
    items: tuple[_Item, ...] | None = None


class _Engagement(_Record, kw_only=True, gc=False):
    kind: _Id
    channel: _Name | None = None
    campaign_id: str | None = None
    automated: bool | None = None
    cost: str | None = None
    currency: _Currency | None = None
    score: float | None = None
    declared: dict[str, Scalar] | None = None


class _Consent(_Record, kw_only=True, gc=False):
    kind: ConsentKind
    purpose: _Id | None = None
    granted: bool | None = None
    expires_at: str | None = None


def _purchase(document: object) -> Purchase:
    record = convert(document, _Purchase)
    _check_currency(record.currency)
    _check_channel(record.channel)
    return Purchase(
        event_id=record.event_id,
        customer_id=record.customer_id,
        occurred_at_us=parse_timestamp(record.occurred_at),
        attributes=record.attributes or {},
        kind=record.kind,
        order_id=record.order_id,
        currency=record.currency,
        total_micros=parse_amount(record.total),
        cost_of_goods_micros=None if record.cost_of_goods is None else parse_amount(record.cost_of_goods),
        channel=record.channel or None,
        items=tuple([_item(item) for item in record.items]) if record.items else (),
    )


def _item(record: _Item) -> Item:
    return Item(
        sku=record.sku or None,
        category=record.category or None,
        quantity=1.0 if record.quantity is None else record.quantity,
        unit_price_micros=None if record.unit_price is None else parse_amount(record.unit_price),
    )


def _check_currency(text: str) -> None:
    """A pattern would do the same in six times the time."""
    if not (text.isascii() and text.isalpha() and text.isupper()):
        raise RefusedError("a currency is three capital letters")


def _check_channel(name: str | None) -> None:
    if name in RESERVED_CHANNELS:
        raise RefusedError("this name is kept for counts")


def _engagement(document: object) -> Engagement:
    record = convert(document, _Engagement)
    _check_channel(record.channel)
    if record.currency is not None:
        _check_currency(record.currency)
    elif record.cost is not None:
        raise RefusedError("a cost needs a currency")
    return Engagement(
        event_id=record.event_id,
        customer_id=record.customer_id,
        occurred_at_us=parse_timestamp(record.occurred_at),
        attributes=record.attributes or {},
        kind=record.kind,
        channel=record.channel or None,
        campaign_id=record.campaign_id or None,
        automated=bool(record.automated),
        cost_micros=None if record.cost is None else parse_amount(record.cost),
        currency=record.currency,
        score=record.score,
        declared=record.declared or {},
    )


def _consent(document: object) -> Consent:
    if type(document) is dict and document.get("kind") == "erasure":
        document = {name: document[name] for name in OF_AN_ERASURE if name in document}
    record = convert(document, _Consent)
    if record.kind == "erasure":
        return Consent(
            event_id=record.event_id,
            customer_id=record.customer_id,
            occurred_at_us=parse_timestamp(record.occurred_at),
            kind=record.kind,
        )
    if record.purpose is None or record.granted is None:
        raise RefusedError("required where kind is consent")
    return Consent(
        event_id=record.event_id,
        customer_id=record.customer_id,
        occurred_at_us=parse_timestamp(record.occurred_at),
        attributes=record.attributes or {},
        kind=record.kind,
        purpose=record.purpose,
        granted=record.granted,
        expires_at_us=None if record.expires_at is None else parse_timestamp(record.expires_at),
    )


EVENT_OF: Final[Mapping[InputTopic, Callable[[object], Event]]] = {
    "purchases": _purchase,
    "engagements": _engagement,
    "consents": _consent,
}
"""By topic: the event of a JSON document; raises one of `NOT_PLAIN`."""
NOT_PLAIN: Final = (ValidationError, RefusedError)
