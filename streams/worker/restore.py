"""Restoring a partition's Redis from Kafka: aggregates from the inputs, decisions from `ebbtide-decisions`.

Nothing is decided and nothing published: the inputs are folded exactly up to the committed offsets, and what was
decided from them is taken as it was published.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Literal

from aiokafka import ConsumerRecord, TopicPartition

from enrichment.customer.customer import Customer, empty_state
from enrichment.days import day_of, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import UNDECIDED_DAY, Enricher
from enrichment.model import Model
from schemas.events import Consent, Event
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint, FirstLoad, Skipped
from streams.errors import EbbtideError
from streams.kafka.fetching import UnreadableError
from streams.settings import Settings
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import DecisionTable, Remembered
from streams.state.partition_facts import Facts, facts_after
from streams.state.store import CHUNK_CUSTOMERS, StateStore, stored_state
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clients import Clients
from streams.worker.reading.arrived import LOG_APPEND_TIME, arrived_of
from streams.worker.runtime import Runtime

log = logging.getLogger(__name__)

FETCH_TIMEOUT_MS = 1_000
SLICE_RECORDS = 200
"""Records read before other partitions and heartbeats get their turn."""
STALLED_AFTER_S = 60.0


class LogTooShortError(EbbtideError):
    """The inputs no longer reach back to where a restore must begin."""


async def restore(
    runtime: Runtime,
    store: StateStore,
    partition: int,
    committed: Checkpoint,
    beginnings: Mapping[InputTopic, int],
) -> tuple[int, Facts | None]:
    """Make Redis what it was at Kafka's committed batch; gives how many records that took, and the facts in Kafka.

    1. Read the decisions, and check that the erasure keys are those by which they remember who was erased.
    2. Note that the partition is being restored, and delete what is held of it.
    3. Fold the inputs from their beginning to the committed offsets, without what was skipped, whether or not it can
       be read now: the first load before the rest, and of each the consents first, so that nothing is kept that a
       denial has deleted.
    4. Write the states of everyone about whom anything was decided, and only then the committed checkpoint. Whoever was
       known had a decision, be it that nothing may be decided; nobody else was. But in a first load who is known may
       not have been decided on yet.
    """
    settings, clients, model = runtime.settings, runtime.clients, runtime.model
    load = committed.load
    if committed.batch_id > 0:  # before the first micro-batch nothing was read
        check_reach(settings, partition, beginnings, {} if load is None else load.starts)
    log.warning("partition %d: restoring Redis up to micro-batch %d", partition, committed.batch_id)
    table = await read_changelog(settings, clients, partition)
    store.facts = facts_after(table.facts, settings, partition, is_begun=True)
    await store.begin_restore(committed, model.fingerprint)
    await store.wipe()
    customers = _Customers(table, store, model)
    fold = _Fold(
        Enricher(model, settings.change_namespace, settings.horizons), customers, model, settings.clock, load
    )
    for offsets in _parts(beginnings, committed):
        for topic, (first, last) in offsets.items():
            tp = TopicPartition(settings.topic(topic), partition)
            skipped = [entry for entry in table.skipped if entry.topic == topic]
            for start, end in kept_ranges(first, last, skipped):
                async for records in read_between(clients, tp, start, end):
                    fold.take(records, topic)
    erased = [
        (hashed, store.erased_value(kept.life, kept.erased_up_to_us))
        for hashed, kept in sorted(table.erased.items())
    ]
    await store.put_restored([], erased, table.skipped)
    ids = sorted(table.decisions.keys() | (customers.known_ids() if committed.is_loading else set()))
    for start in range(0, len(ids), CHUNK_CUSTOMERS):
        part = [
            customers.restored(customer_id, committed.midnight_day, is_loading=committed.is_loading)
            for customer_id in ids[start : start + CHUNK_CUSTOMERS]
        ]
        await store.put_restored([stored_state(customer) for customer in part])
    await store.end_restore(committed, model.fingerprint)
    log.warning("partition %d: restored %d customers from %d records", partition, len(ids), fold.records)
    return fold.records, table.facts


def _parts(
    beginnings: Mapping[InputTopic, int], committed: Checkpoint
) -> Iterator[dict[InputTopic, tuple[int, int]]]:
    """The offsets to fold, by topic: those of the first load, if there was one, and then the others."""
    starts = dict(beginnings)
    if committed.load is not None:
        ends = committed.load.ends
        yield {topic: (starts[topic], min(ends[topic], committed.offsets[topic])) for topic in INPUT_TOPICS}
        starts = {topic: max(starts[topic], ends[topic]) for topic in INPUT_TOPICS}
    yield {topic: (starts[topic], committed.offsets[topic]) for topic in INPUT_TOPICS}


def kept_ranges(start: int, end: int, skipped: Iterable[Skipped]) -> Iterator[tuple[int, int]]:
    """The offsets from one up to, and without, another that were not skipped, as ranges of the same kind."""
    for entry in sorted(skipped):
        if start < min(entry.first, end):
            yield start, min(entry.first, end)
        start = max(start, entry.next_offset)
    if start < end:
        yield start, end


async def read_between(
    clients: Clients, tp: TopicPartition, start: int, end: int
) -> AsyncIterator[list[ConsumerRecord]]:
    """The committed records of a topic partition from one offset up to, and without, another, in slices.

    Between two slices others get their turn, however many records have come at once. Raises `UnreadableError` where one
    of their batches cannot be read.
    """
    if start >= end:
        return
    consumer = clients.consumer(
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    consumer.assign([tp])
    await consumer.start()
    try:
        consumer.seek(tp, start)
        position, deadline = start, asyncio.get_running_loop().time() + STALLED_AFTER_S
        while position < end:
            try:
                fetched = await consumer.getmany(tp, timeout_ms=FETCH_TIMEOUT_MS, max_records=SLICE_RECORDS)
            except UnreadableError as error:
                if error.batches[0].first >= end:
                    return
                raise
            records = [record for record in fetched.get(tp, []) if record.offset < end]
            if records:
                yield records
                await asyncio.sleep(0)
            before, position = position, await consumer.position(tp)
            now = asyncio.get_running_loop().time()
            if position > before:
                deadline = now + STALLED_AFTER_S
            elif now > deadline:
                raise EbbtideError(
                    f"{tp.topic} partition {tp.partition}: no progress at offset {position}, short of {end}"
                )
    finally:
        await stop_within(STOP_TIMEOUT_S, consumer)


class _Customers(dict[str, Customer]):
    """Customers by id; one asked for first begins with what was decided about them, or what their erasure left."""

    def __init__(self, table: DecisionTable, store: StateStore, model: Model) -> None:
        super().__init__()
        self._table = table
        self._store = store
        self._model = model

    def __missing__(self, customer_id: str) -> Customer:
        kept = self.remembered(customer_id)
        state = empty_state() if kept is None else empty_state(kept.life, kept.erased_up_to_us)
        decision = self._table.decisions.get(customer_id)
        if decision is not None:
            state.decision = decision
        customer = self[customer_id] = Customer(customer_id, state, self._model)
        return customer

    def known_ids(self) -> set[str]:
        """Of whom anything but an erasure is known."""
        return {customer_id for customer_id, customer in self.items() if customer.is_known}

    def remembered(self, customer_id: str) -> Remembered | None:
        """What the last erasure of a customer left; None where there was none."""
        hashes = self._store.erasure_keys.hashes_of(customer_id)
        found = [kept for hashed in hashes if (kept := self._table.erased.get(hashed)) is not None]
        return max(found, key=lambda kept: kept.life, default=None)

    def restored(self, customer_id: str, midnight_day: int, *, is_loading: bool) -> Customer:
        """The customer, due from the day after the last on which anything was decided or came.

        One whose records are all gone from the log is still known by what was decided about them. One who was not
        decided on is due at the end of the first load.
        """
        customer = self[customer_id]
        state, decision = customer.state, customer.decision
        if customer_id not in self._table.decisions:
            state.due_day = UNDECIDED_DAY
            return customer
        last_day = max(state.profiled_day, decision.model_day, *decision.changed_days)
        if state.latest_us is None:
            state.latest_us = midnight_us(last_day)
        # Who was decided on in a first load, and by another model, is looked at again as soon as it is over.
        is_outdated = is_loading and decision.model != self._model.fingerprint
        state.due_day = last_day if is_outdated else last_day + 1
        customer.forget_unallowed(max(last_day, midnight_day))
        return customer


class _Fold:
    """Takes the records of one topic after the other, and notes as of which day each was evaluated.

    By the wall clock the broker's time tells that day; by the event clock the newest event of the topic so far does.
    """

    def __init__(
        self,
        enricher: Enricher,
        customers: _Customers,
        model: Model,
        clock: Literal["wall", "event"],
        load: FirstLoad | None,
    ) -> None:
        self.records = 0
        self._load = load
        self._enricher = enricher
        self._customers = customers
        self._model = model
        self._clock = clock
        self._erased_at_ms: dict[str, int] = {}
        self._erased_up_to_us: dict[str, int] = {}
        self._newest_day: dict[InputTopic, int] = {}

    def take(self, records: list[ConsumerRecord], topic: InputTopic) -> None:
        """Fold some records."""
        self.records += len(records)
        for record in records:
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
        kept = self._customers.remembered(customer_id)
        return kept is None or kept.as_of_us is None or event.occurred_at_us <= kept.as_of_us

    def _evaluated_on(self, event: Event, record: ConsumerRecord, topic: InputTopic) -> int:
        day = day_of(event.occurred_at_us)
        if self._clock == "wall":
            stamped = record.timestamp_type == LOG_APPEND_TIME
            return day_of(int(record.timestamp) * 1_000) if stamped else day
        self._newest_day[topic] = max(day, self._newest_day.get(topic, day))
        return self._newest_day[topic]


async def read_changelog(settings: Settings, clients: Clients, partition: int) -> DecisionTable:
    """Everything that was ever decided in a partition; raises `StoppedError` for decisions of another group."""
    table = DecisionTable(settings.group_id)
    tp = TopicPartition(settings.topic(DECISIONS), partition)
    consumer = clients.consumer(group_id=None, isolation_level="read_committed")
    await consumer.start()
    try:
        start = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
    finally:
        await stop_within(STOP_TIMEOUT_S, consumer)
    async for records in read_between(clients, tp, start, end):
        for record in records:
            table.put(record.key, record.value, record.headers)
    return table


def check_reach(
    settings: Settings, partition: int, beginnings: Mapping[InputTopic, int], starts: Mapping[InputTopic, int]
) -> None:
    """Raise `LogTooShortError` where a restore would miss records, unless that is allowed.

    `starts` are the offsets at which the partition began, as far as they are known; else they are 0.
    """
    if settings.restore_from_short_log:
        return
    for topic, offset in beginnings.items():
        if offset > starts.get(topic, 0):
            raise LogTooShortError(
                f"partition {partition}: stopped: Redis must be restored, but {settings.topic(topic)} begins at offset "
                f"{offset}: older records are gone. EBBTIDE_RESTORE_FROM_SHORT_LOG=true restores from what is left"
            )
