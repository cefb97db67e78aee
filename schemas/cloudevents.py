"""CloudEvents 1.0 headers in Kafka's binary mode, as on every output record but dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

OutputTopic = Literal["segment-changes", "customer-profiles", "reactivation-triggers"]

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"
TYPES: Final[dict[OutputTopic, str]] = {
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


@dataclass(frozen=True, slots=True)
class CloudEventHeaders:
    """Makes the headers of one output topic's records; `namespace` tells installations apart."""

    topic: OutputTopic
    namespace: str

    @property
    def source(self) -> str:
        """A URI reference, such as `/ebbtide/production/segment-changes`; with `ce_id` it is unique."""
        return f"/ebbtide/{quote(self.namespace, safe='')}/{self.topic}"

    def build(self, event_id: str, time: str, customer_id: str) -> list[tuple[str, bytes]]:
        """The headers, in the order of `HEADER_NAMES`.

        `event_id` tells the record from all others of the namespace and topic; a repeat of it has the same.
        `time` is the value's `as_of` (RFC 3339), so that headers depend on the clock as little as values do.
        """
        return [
            ("ce_id", event_id.encode()),
            ("ce_type", TYPES[self.topic].encode()),
            ("ce_source", self.source.encode()),
            ("ce_specversion", SPEC_VERSION.encode()),
            ("ce_time", time.encode()),
            ("ce_subject", customer_id.encode()),
            ("content-type", CONTENT_TYPE.encode()),
        ]
