"""What the model and the customer's own history say about a well-formed record: taken, dropped or refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from enrichment.days import DAY_US, HOUR_US, day_of, format_time
from enrichment.model import Model
from schemas.events import Consent, Engagement, Event, Purchase
from schemas.rejection import (
    FROM_THE_FUTURE,
    OUT_OF_RANGE,
    TOO_LATE,
    UNKNOWN_CURRENCY,
    UNKNOWN_KIND,
    Rejection,
    rejection,
)
from schemas.topics import InputTopic

MAX_GROSS_MICROS = 2**61
"""What one customer's amounts may add up to, in base micro-units: sums of money are 64-bit integers."""
FUTURE_TOLERANCE_US = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Horizons:
    """How many days before the customer's newest record of a topic a record is still taken."""

    purchases_days: int = 400
    engagements_days: int = 30


_TOPIC_BY_TYPE: dict[type[Event], InputTopic] = {
    Purchase: "purchases",
    Engagement: "engagements",
    Consent: "consents",
}


def topic_of(event: Event) -> InputTopic:
    """The input topic that an event belongs to."""
    return _TOPIC_BY_TYPE[type(event)]


def check_against_model(event: Event, model: Model) -> Rejection | None:
    """Kind, currency and size of amounts; needs no customer."""
    if isinstance(event, Purchase):
        return _check_purchase(event, model)
    if isinstance(event, Consent):
        return None
    if event.kind not in model.engagement.kinds:
        return rejection(UNKNOWN_KIND, ("kind",), f"the model lists no engagement kind {event.kind!r}")
    if event.currency is None:
        return None
    largest_micros = model.largest_micros_by_currency.get(event.currency)
    if largest_micros is None:
        return _unknown_currency(event.currency)
    if event.cost_micros is not None and event.cost_micros > largest_micros:
        return _too_large("cost", model)
    return None


def check_time(event: Event, broker_timestamp_us: int) -> Rejection | None:
    """A record dated more than 24 hours after the broker's own timestamp for it."""
    if event.occurred_at_us <= broker_timestamp_us + FUTURE_TOLERANCE_US:
        return None
    return Rejection(
        FROM_THE_FUTURE,
        f"occurred_at: {format_time(event.occurred_at_us)} is more than 24 h after the broker's timestamp, "
        f"{format_time(broker_timestamp_us)}",
    )


def _check_purchase(purchase: Purchase, model: Model) -> Rejection | None:
    largest_micros = model.largest_micros_by_currency.get(purchase.currency)
    if largest_micros is None:
        return _unknown_currency(purchase.currency)
    if purchase.total_micros > largest_micros:
        return _too_large("total", model)
    if purchase.cost_of_goods_micros is not None and purchase.cost_of_goods_micros > largest_micros:
        return _too_large("cost_of_goods", model)
    for at, item in enumerate(purchase.items):
        if item.unit_price_micros is not None and item.unit_price_micros > largest_micros:
            return _too_large(f"items[{at}].unit_price", model)
    return None


def _unknown_currency(currency: str) -> Rejection:
    return Rejection(UNKNOWN_CURRENCY, f"currency: the model has no rate for {currency}")


def _too_large(path: str, model: Model) -> Rejection:
    return Rejection(
        OUT_OF_RANGE, f"{path}: above 10^9 {model.base_currency}, or 2^63 micro-units of its own currency"
    )


class Seen(msgspec.Struct, array_like=True, gc=False):
    """Digests of the ids of one customer's records of one topic, for as long as those are not too late."""

    newest_us: int | None = None
    time_us_by_digest: dict[bytes, int] = {}


def identity_of(event: Event) -> str:
    """What a record is known by in its topic: its event id, and for a consent its purpose and whether it grants.

    So a denial is never taken for a grant that came under the same event id.
    """
    if type(event) is not Consent:
        return event.event_id
    purpose = event.purpose or ""
    return f"{event.granted}/{len(purpose)}/{purpose}{event.event_id}"


def digest_of(event_id: str) -> bytes:
    """Eight bytes that stand for an id: among 10,000 records of one customer, two collide once in 10^11."""
    return hashlib.blake2b(event_id.encode(), digest_size=8).digest()


def check_lateness(seen: Seen, occurred_at_us: int, horizon_days: int | None) -> Rejection | None:
    """A record dated more than `horizon_days` before the newest of its topic; None means never too late."""
    if not _is_late(seen, occurred_at_us, horizon_days):
        return None
    assert seen.newest_us is not None
    return Rejection(
        TOO_LATE,
        f"occurred_at: {format_time(occurred_at_us)} is more than {horizon_days} days before "
        f"the customer's newest, {format_time(seen.newest_us)}",
    )


def is_repeat(seen: Seen, digest: bytes, occurred_at_us: int, horizon_days: int | None) -> bool:
    """Whether a record of this id was accepted, and is not too old beside this one to be remembered."""
    known_us = seen.time_us_by_digest.get(digest)
    if known_us is None or horizon_days is None or seen.newest_us is None:
        return known_us is not None
    return known_us >= max(seen.newest_us, occurred_at_us) - horizon_days * DAY_US


def remember(seen: Seen, digest: bytes, occurred_at_us: int, horizon_days: int | None) -> None:
    """Note an accepted record, and now and then drop those that would by now be too late."""
    newest_us = seen.newest_us
    seen.time_us_by_digest[digest] = occurred_at_us
    if newest_us is not None and occurred_at_us <= newest_us:
        return
    seen.newest_us = occurred_at_us
    if (
        newest_us is not None
        and horizon_days is not None
        and day_of(occurred_at_us) >> 4 != day_of(newest_us) >> 4
    ):
        seen.time_us_by_digest = {
            known: at_us
            for known, at_us in seen.time_us_by_digest.items()
            if not _is_late(seen, at_us, horizon_days)
        }


def _is_late(seen: Seen, time_us: int, horizon_days: int | None) -> bool:
    return (
        horizon_days is not None
        and seen.newest_us is not None
        and time_us < seen.newest_us - horizon_days * DAY_US
    )
