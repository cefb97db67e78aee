"""Ebbtide's core called with one event at a time, as a program on another stream processor would call it."""

from __future__ import annotations

from typing import NamedTuple

from bench.state_codec import decode, encode
from enrichment.customer.validation import check_against_model, check_time
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from schemas import decode as wire
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.worker.outputs import OutputWriter, dead_letter


class Arrival(NamedTuple):
    """A record as it came; `topic` is without prefix, and the time is the broker's."""

    topic: InputTopic
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    timestamp_ms: int


class PerEvent:
    """State and record in, state and output records out; the last midnight stays the same."""

    def __init__(self, settings: Settings, midnight_day: int) -> None:
        self._settings = settings
        self._model = settings.load_model()
        self._midnight_day = midnight_day
        self._enricher = Enricher(self._model, settings.change_namespace, settings.horizons)
        self._writer = OutputWriter(settings.change_namespace)

    def take(self, arrival: Arrival, state: bytes | None) -> tuple[bytes | None, list[OutputRecord]]:
        """The new state, None where it stays as it is, and what is to be published."""
        event = self._event(arrival)
        if isinstance(event, Rejection):
            return None, [self._dead_letter(arrival, event)]
        customer = decode(event.customer_id, state, self._model)
        results = Results(self._model)
        self._enricher.process([event], {customer.id: customer}, self._midnight_day, results)
        results.finish()
        assert not results.erased, "the workload has no erasures"
        records = [self._writer.change(change) for change in results.changes]
        records += self._writer.ends(results)
        records += [self._dead_letter(arrival, refused) for _, refused in results.rejected]
        return encode(customer) if results.touched or results.rescheduled else None, records

    def _event(self, arrival: Arrival) -> Event | Rejection:
        event = wire.decode(arrival.topic, arrival.value, arrival.key)
        if isinstance(event, Rejection):
            return event
        refused = check_against_model(event, self._model) or check_time(event, arrival.timestamp_ms * 1_000)
        return refused or event

    def _dead_letter(self, arrival: Arrival, refused: Rejection) -> OutputRecord:
        topic = self._settings.topic(arrival.topic)
        return dead_letter(refused, topic, arrival.partition, arrival.offset, arrival.key, arrival.value)
