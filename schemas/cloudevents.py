"""CloudEvents 1.0 headers in Kafka's binary mode, as on every output record but dead letters."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from schemas.topics import EventTopic

Header = tuple[str, bytes]

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"
TYPES: Final[dict[EventTopic, str]] = {
    "segment-changes": "io.ebbtide.segment-change.v1",
    "customer-profiles": "io.ebbtide.customer-profile.v1",
    "reactivation-triggers": "io.ebbtide.reactivation-trigger.v1",
}
"""`ce_type` by topic, whose name is without prefix."""
HEADER_NAMES: Final = (
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_specversion",
    "ce_time",
    "ce_subject",
    "content-type",
)
_SPEC_VERSION: Final[Header] = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_TYPE: Final[Header] = ("content-type", CONTENT_TYPE.encode())


class CloudEventHeaders:
    """Makes the headers of one output topic's records; `namespace` tells installations apart."""

    def __init__(self, topic: EventTopic, namespace: str) -> None:
        self.topic: Final = topic
        self.type: Final = TYPES[topic]
        self.source: Final = f"/ebbtide/{quote(namespace, safe='')}/{topic}"
        """A URI reference, such as `/ebbtide/production/segment-changes`; with `ce_id` it is unique."""
        self._type = ("ce_type", self.type.encode())
        self._source = ("ce_source", self.source.encode())

    def build(self, event_id: str, time: str, customer_id: bytes) -> tuple[Header, ...]:
        """The headers, in the order of `HEADER_NAMES`.

        `event_id` tells the record from all others of the namespace and topic; a repeat of it has the same.
        `time` is the value's `as_of` (RFC 3339), so that headers depend on the clock as little as values do.
        `customer_id` is in UTF-8, as in the record's key.
        """
        return (
            ("ce_id", event_id.encode()),
            self._type,
            self._source,
            _SPEC_VERSION,
            ("ce_time", time.encode()),
            ("ce_subject", customer_id),
            _CONTENT_TYPE,
        )
