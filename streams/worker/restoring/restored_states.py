"""The states of a restore: what records say, after what was decided and what was erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from aiokafka import ConsumerRecord

from enrichment.customer.customer import Customer, CustomerState, empty_state
from enrichment.days import day_of, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import UNDECIDED_DAY, Enricher
from enrichment.model import Model
from schemas.events import Consent, Event
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint, FirstLoad
from streams.kafka.fetched_batch import FetchedBatch, ReadBatch
from streams.micro_batch import StoredState
from streams.settings.erasure_keys import ErasureKeys
from streams.state.changelog import DecisionTable, Remembered
from streams.state.store import stored_state
from streams.worker.reading.arrived import LOG_APPEND_TIME, arrived_of


class Beginnings:
    """What is known of customers before their first record: what was decided about them, or their erasure left."""

    def __init__(self, table: DecisionTable, erasure_keys: ErasureKeys) -> None:
        self._table = table
        self._erasure_keys = erasure_keys

    def is_decided(self, customer_id: str) -> bool:
        """Whether anything was decided about a customer, be it that nothing may be decided."""
        return customer_id in self._table.decisions

    def decided_ids(self) -> set[str]:
        """Of whom that is true."""
        return set(self._table.decisions)

    def state(self, customer_id: str) -> CustomerState | None:
        """The state of a customer without any record; None where nothing is known."""
        kept, decision = self.remembered(customer_id), self._table.decisions.get(customer_id)
        if kept is None and decision is None:
            return None
        state = empty_state() if kept is None else empty_state(kept.life, kept.erased_up_to_us)
        if decision is not None:
            state.decision = decision
        return state

    def remembered(self, customer_id: str) -> Remembered | None:
        """What the last erasure of a customer left; None where there was none."""
        hashes = self._erasure_keys.hashes_of(customer_id)
        found = [kept for hashed in hashes if (kept := self._table.erased.get(hashed)) is not None]
        return max(found, key=lambda kept: kept.life, default=None)


class Fold(Protocol):
    """Takes the records of one topic after the other into states."""

    records: int

    @property
    def read_batch(self) -> ReadBatch | None:
        """Reads the batches that it takes whole; None where it takes records."""

    async def take(
        self, fetched: Sequence[ConsumerRecord | FetchedBatch], topic: InputTopic, end: int
    ) -> None:
        """Take what was fetched of a topic, as far as it lies before an offset."""

    def known_ids(self) -> set[str]:
        """Of whom anything but an erasure is known by their records."""

    def restored(self, ids: Sequence[str], committed: Checkpoint) -> list[StoredState]:
        """The states of customers as they are stored, once all records up to this checkpoint have been taken.

        Each is due from the day after the last on which anything was decided or came. One whose records are all gone
        from the log is still known by what was decided about them. One who was not decided on is due at the end of the
        first load.
        """


class _Customers(dict[str, Customer]):
    """Customers by id; one asked for first begins as it is known."""

    def __init__(self, begun: Beginnings, model: Model) -> None:
        super().__init__()
        self._begun = begun
        self._model = model

    def __missing__(self, customer_id: str) -> Customer:
        state = self._begun.state(customer_id) or empty_state()
        customer = self[customer_id] = Customer(customer_id, state, self._model)
        return customer


class PythonFold:
    """By the Python core. It notes as of which day each record was evaluated.

    By the wall clock the broker's time tells that day; by the event clock the newest event of the topic so far does.
    """

    def __init__(
        self,
        enricher: Enricher,
        begun: Beginnings,
        model: Model,
        clock: Literal["wall", "event"],
        load: FirstLoad | None,
    ) -> None:
        self.records = 0
        self._load = load
        self._enricher = enricher
        self._begun = begun
        self._customers = _Customers(begun, model)
        self._model = model
        self._clock = clock
        self._erased_at_ms: dict[str, int] = {}
        self._erased_up_to_us: dict[str, int] = {}
        self._newest_day: dict[InputTopic, int] = {}

    @property
    def read_batch(self) -> ReadBatch | None:
        """It takes records."""
        return None

    def known_ids(self) -> set[str]:
        """Of whom anything but an erasure is known by their records."""
        return {customer_id for customer_id, customer in self._customers.items() if customer.is_known}

    def restored(self, ids: Sequence[str], committed: Checkpoint) -> list[StoredState]:
        """The states of customers as they are stored."""
        found = []
        for customer_id in ids:
            customer = self._customers[customer_id]
            is_decided = self._begun.is_decided(customer_id)
            finish(customer, committed, is_decided=is_decided)
            found.append(stored_state(customer))
        return found

    async def take(
        self, fetched: Sequence[ConsumerRecord | FetchedBatch], topic: InputTopic, end: int
    ) -> None:
        """Take the records of a topic before an offset."""
        for record in fetched:
            assert isinstance(record, ConsumerRecord)
            if record.offset >= end:
                break
            self.records += 1
            event = arrived_of(record, topic, self._model).event
            assert event is not None
            if isinstance(event, Rejection):
                continue
            if self._load is not None and record.offset < self._load.ends[topic]:
                self._take_loaded(event, self._load.midnight_day)
            elif not self._is_erased(event, record):
                customer = self._customers[event.customer_id]
                self._enricher.fold([event], self._customers)
                if customer.is_known:
                    day = self._evaluated_on(event, record, topic)
                    customer.state.profiled_day = max(customer.state.profiled_day, day)

    def _take_loaded(self, event: Event, midnight_day: int) -> None:
        """As it was taken in the first load, where erasures act by their date alone."""
        customer_id = event.customer_id
        if isinstance(event, Consent) and event.kind == "erasure":
            known_us = self._erased_up_to_us.get(customer_id, -1)
            self._erased_up_to_us[customer_id] = max(known_us, event.occurred_at_us)
        self._enricher.load([event], self._customers, midnight_day, Results(self._model))
        state = self._customers[customer_id].state
        if state.latest_us is not None:
            state.profiled_day = max(state.profiled_day, day_of(state.latest_us))

    def _is_erased(self, event: Event, record: ConsumerRecord) -> bool:
        """Whether a record came before its customer's erasure, which deleted it whatever its date.

        It was taken before it only if Kafka had it before, and if the erasure knew of so late a date: by the event
        clock what Kafka took first may have been taken last. An erasure that comes again, dated no later than the last
        one, erases nothing.
        """
        customer_id = event.customer_id
        if isinstance(event, Consent) and event.kind == "erasure":
            if event.occurred_at_us <= self._erased_up_to_us.get(customer_id, -1):
                return True
            self._erased_up_to_us[customer_id] = event.occurred_at_us
            self._erased_at_ms[customer_id] = record.timestamp
            customer = self._customers[customer_id]
            customer.reset(customer.decision)
            return True
        erased_at_ms = self._erased_at_ms.get(customer_id)
        if erased_at_ms is None or int(record.timestamp) >= erased_at_ms:
            return False
        kept = self._begun.remembered(customer_id)
        return kept is None or kept.as_of_us is None or event.occurred_at_us <= kept.as_of_us

    def _evaluated_on(self, event: Event, record: ConsumerRecord, topic: InputTopic) -> int:
        day = day_of(event.occurred_at_us)
        if self._clock == "wall":
            stamped = record.timestamp_type == LOG_APPEND_TIME
            return day_of(int(record.timestamp) * 1_000) if stamped else day
        self._newest_day[topic] = max(day, self._newest_day.get(topic, day))
        return self._newest_day[topic]


def finish(customer: Customer, committed: Checkpoint, *, is_decided: bool) -> None:
    """Make a customer, all of whose records have been taken, what they were at a checkpoint."""
    state, decision = customer.state, customer.decision
    if not is_decided:
        state.due_day = UNDECIDED_DAY
        return
    last_day = max(state.profiled_day, decision.model_day, *decision.changed_days)
    if state.latest_us is None:
        state.latest_us = midnight_us(last_day)
    # Who was decided on in a first load, and by another model, is looked at again as soon as it is over.
    is_outdated = committed.is_loading and decision.model != customer.model.fingerprint
    state.due_day = last_day if is_outdated else last_day + 1
    customer.forget_unallowed(max(last_day, committed.midnight_day))
