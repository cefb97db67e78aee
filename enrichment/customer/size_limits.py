"""How much text one customer may hold: profiles and changes must stay well below what a Kafka record can carry."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from enrichment.customer.consent import PROFILING, ConsentState
from enrichment.customer.engagement import COUNT_WINDOW_DAYS, EngagementState, Latest, count_key, with_latest
from enrichment.customer.validation import topic_of
from schemas.events import MAX_NAME_CHARACTERS, Consent, Engagement, Event
from schemas.rejection import OUT_OF_RANGE, Rejection, rejection
from schemas.topics import InputTopic

MAX_HELD_BYTES = 65_536
"""As JSON: for all attributes, all declared answers, all names of interactions, and all purposes of consent."""
MOST_NAME_BYTES = 6 * (2 * MAX_NAME_CHARACTERS + 1)
CONSENT_BYTES = len("false")
"""What the profile says of a purpose, at most."""


def check_held(
    event: Event, attributes: Mapping[InputTopic, dict[str, Latest]], engagement: EngagementState
) -> Rejection | None:
    """A record that would make its customer hold too much text; `attributes` are by topic."""
    if event.attributes and _attribute_bytes(event, attributes) > MAX_HELD_BYTES:
        return _too_much("attributes")
    if type(event) is not Engagement:
        return None
    if event.declared:
        declared = with_latest(engagement.declared, event.declared, event.occurred_at_us, event.event_id)
        if sum(_held_bytes(declared).values()) > MAX_HELD_BYTES:
            return _too_much("declared")
    return _check_names(event, engagement)


def check_purpose(consent: Consent, held: ConsentState) -> Rejection | None:
    """A consent to a purpose that would make its customer hold too many; one that is held already never does.

    Nor does `profiling`, which is in every profile.
    """
    purpose = consent.purpose
    if purpose is None or purpose == PROFILING or purpose in held.latest:
        return None
    if (len(held.latest) + 1) * (MOST_NAME_BYTES // 2 + CONSENT_BYTES) < MAX_HELD_BYTES:
        return None
    names = [purpose, *(known for known in held.latest if known != PROFILING)]
    size = _bytes(names) - len("[]") - (len(names) - 1) + len(names) * CONSENT_BYTES
    return _too_much("purpose") if size > MAX_HELD_BYTES else None


def _attribute_bytes(event: Event, attributes: Mapping[InputTopic, dict[str, Latest]]) -> int:
    """What all attributes take after a record: of a key that several topics have, the longest value counts."""
    topic = topic_of(event)
    after = with_latest(attributes.get(topic, {}), event.attributes, event.occurred_at_us, event.event_id)
    longest = _held_bytes(after)
    for other, latest in attributes.items():
        if other != topic:
            for key, size in _held_bytes(latest).items():
                longest[key] = max(size, longest.get(key, 0))
    return sum(longest.values())


def _check_names(event: Engagement, engagement: EngagementState) -> Rejection | None:
    """Distinct `channel.kind` names; counted out only where there are many, and this is a new one."""
    recent, name = engagement.days[-COUNT_WINDOW_DAYS:], count_key(event)
    if any(name in bucket.counts for bucket in reversed(recent)):
        return None
    if sum([len(bucket.counts) for bucket in recent]) * MOST_NAME_BYTES < MAX_HELD_BYTES:
        return None
    names = {name}.union(*(bucket.counts for bucket in recent))
    return _too_much("channel") if sum(map(_bytes, names)) > MAX_HELD_BYTES else None


def _held_bytes(held: Mapping[str, Latest]) -> dict[str, int]:
    """The bytes of each key with its value."""
    return {key: _bytes(key) + _bytes(latest.value) for key, latest in held.items()}


def _bytes(value: object) -> int:
    return len(orjson.dumps(value))


def _too_much(field: str) -> Rejection:
    return rejection(OUT_OF_RANGE, (field,), f"the customer would hold more than {MAX_HELD_BYTES} bytes")
