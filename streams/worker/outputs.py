"""Output records: what the core decided, as values with CloudEvents headers."""

from __future__ import annotations

from typing import Final

import orjson

from enrichment.days import format_time
from enrichment.deciding.results import Results
from enrichment.identity import identifier
from schemas.cloudevents import CloudEventHeaders
from schemas.dead_letters import headers
from schemas.documents import ChangeDocument, ProfileDocument, PublishedDocument, TriggerDocument
from schemas.rejection import Rejection
from streams.outbox import OutputRecord

OFFSETS_HEADER: Final = "ebbtide_offsets"
"""On the dead letter of offsets that were skipped: the first and the last of them."""


class OutputWriter:
    """Writes records of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._changes = CloudEventHeaders("segment-changes", namespace)
        self._profiles = CloudEventHeaders("customer-profiles", namespace)
        self._triggers = CloudEventHeaders("reactivation-triggers", namespace)

    def change(self, document: ChangeDocument) -> OutputRecord:
        """The record of a segment change."""
        return self._record(self._changes, document, document["change_id"])

    def profile(self, document: ProfileDocument) -> OutputRecord:
        """The record of a profile."""
        parts = document["customer_id"], "profile", document["as_of"], document["sequence"]
        return self._record(self._profiles, document, identifier(self._namespace, *parts))

    def ends(self, results: Results) -> list[OutputRecord]:
        """The records of profiles, of which a micro-batch publishes only the last, and of re-activations."""
        records = []
        for customer_id, document in results.profiles:
            if document is None:
                records.append(self._tombstone(customer_id, format_time(results.tombstones_us[customer_id])))
            else:
                records.append(self.profile(document))
        records += [self._trigger(document) for document in results.triggers]
        return records

    def _trigger(self, document: TriggerDocument) -> OutputRecord:
        return self._record(self._triggers, document, document["trigger_id"])

    def _tombstone(self, customer_id: str, at: str) -> OutputRecord:
        event_id = identifier(self._namespace, customer_id, "tombstone", at)
        key = customer_id.encode()
        return OutputRecord("customer-profiles", key, None, self._profiles.build(event_id, at, key))

    def _record(
        self, headers_of: CloudEventHeaders, document: PublishedDocument, event_id: str
    ) -> OutputRecord:
        key = document["customer_id"].encode()
        headers_ = headers_of.build(event_id, document["as_of"], key)
        return OutputRecord(headers_of.topic, key, orjson.dumps(document), headers_)


def dead_letter(
    refused: Rejection, topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None
) -> OutputRecord:
    """The original bytes with the reason in headers; `topic` is the name as Kafka knows it, with its prefix."""
    return OutputRecord("dead-letters", key, value, tuple(headers(refused, topic, partition, offset)))
