"""Rebuilding a partition's Redis from Kafka: aggregates from the inputs, decisions from `ebbtide-decisions`.

Nothing is decided and nothing published: the inputs are folded exactly up to the committed offsets, and what was
decided from them is taken as it was published.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from enrichment.acceptance import TOPICS, Topic
from enrichment.customer import Customer, empty_state
from enrichment.days import day_of
from enrichment.enricher import Enricher
from enrichment.model import Model
from schemas.dead_letters import Rejection
from streams.decisions import TOPIC as DECISIONS
from streams.decisions import DecisionTable
from streams.errors import EbbtideError
from streams.inputs import LOG_APPEND_TIME, event_of
from streams.settings import Settings
from streams.state_store import StateStore, StoredMark, stored_state
from streams.step import Mark

log = logging.getLogger(__name__)

FETCH_TIMEOUT_MS = 1_000
STALLED_AFTER_S = 60.0


class LogTooShortError(EbbtideError):
    """The inputs no longer reach back to where a rebuild must begin."""


async def rebuild(
    settings: Settings,
    model: Model,
    store: StateStore,
    partition: int,
    stored: StoredMark | None,
    committed: Mark,
    beginnings: Mapping[Topic, int],
) -> None:
    """Make Redis what it was at Kafka's committed step.

    1. Mark the partition as rebuilding, and delete what is held of it.
    2. Read the decisions.
    3. Fold the inputs from their beginning to the committed offsets: consents first, so that nothing is kept that a
       denial has deleted.
    4. Write the states, and only then the committed mark.
    """
    _check_reach(settings, partition, beginnings)
    log.warning("partition %d: rebuilding Redis up to step %d", partition, committed.step)
    await store.begin(committed, model.fingerprint, "rebuilding")
    await store.wipe()
    table = await _read_decisions(settings, partition)
    customers = _Customers(table, store, model)
    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    folded = 0
    for topic in TOPICS:
        tp = TopicPartition(settings.topic(topic), partition)
        async for records in read_between(settings, tp, beginnings[topic], committed.offsets[topic]):
            folded += _fold(records, topic, enricher, customers, model, settings.clock == "wall")
            await asyncio.sleep(0)
    states = [customers.restored(customer_id, committed.midnight_day) for customer_id in sorted(customers)]
    erased = [(hashed, store.erased_value(*entry)) for hashed, entry in sorted(table.erased.items())]
    await store.put_rebuilt([stored_state(customer) for customer in states if customer.is_known], erased)
    await store.begin(committed, model.fingerprint, "ready")
    log.warning("partition %d: rebuilt %d customers from %d records", partition, len(states), folded)


async def read_between(
    settings: Settings, tp: TopicPartition, start: int, end: int
) -> AsyncIterator[list[ConsumerRecord]]:
    """The committed records of a topic partition from one offset up to, and without, another."""
    if start >= end:
        return
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
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
            fetched = await consumer.getmany(tp, timeout_ms=FETCH_TIMEOUT_MS)
            records = [record for record in fetched.get(tp, []) if record.offset < end]
            if records:
                yield records
            before, position = position, await consumer.position(tp)
            now = asyncio.get_running_loop().time()
            if position > before:
                deadline = now + STALLED_AFTER_S
            elif now > deadline:
                raise EbbtideError(
                    f"{tp.topic} partition {tp.partition}: no progress at offset {position}, short of {end}"
                )
    finally:
        await consumer.stop()


class _Customers(dict[str, Customer]):
    """Customers by id; one asked for first begins with what was decided about them, or what their erasure left."""

    def __init__(self, table: DecisionTable, store: StateStore, model: Model) -> None:
        super().__init__()
        self._table = table
        self._store = store
        self._model = model

    def __missing__(self, customer_id: str) -> Customer:
        state = empty_state(*self._table.erased.get(self._store.hash_of(customer_id), (0, None)))
        decision = self._table.decisions.get(customer_id)
        if decision is not None:
            state.decision = decision
        customer = self[customer_id] = Customer(customer_id, state, self._model)
        return customer

    def restored(self, customer_id: str, midnight_day: int) -> Customer:
        """The customer, due from the day after the last on which anything was decided or came."""
        customer = self[customer_id]
        state = customer.state
        last_day = max(state.profiled_day, *state.decision.changed_days)
        state.due_day = last_day + 1
        customer.forget_unallowed(max(last_day, midnight_day))
        return customer


def _fold(
    records: list[ConsumerRecord],
    topic: Topic,
    enricher: Enricher,
    customers: _Customers,
    model: Model,
    by_wall_clock: bool,
) -> int:
    """By the wall clock, the broker's time tells as of which day a record was evaluated; else its own does."""
    for record in records:
        event = event_of(record, topic, model)
        if isinstance(event, Rejection):
            continue
        customer = customers[event.customer_id]
        enricher.fold([event], customers)
        if by_wall_clock and record.timestamp_type == LOG_APPEND_TIME and customer.is_known:
            customer.state.profiled_day = max(
                customer.state.profiled_day, day_of(int(record.timestamp) * 1_000)
            )
    return len(records)


async def _read_decisions(settings: Settings, partition: int) -> DecisionTable:
    table = DecisionTable()
    tp = TopicPartition(settings.topic(DECISIONS), partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers, group_id=None, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        start = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
    finally:
        await consumer.stop()
    async for records in read_between(settings, tp, start, end):
        for record in records:
            table.put(record.key, record.value, record.headers)
    return table


def _check_reach(settings: Settings, partition: int, beginnings: Mapping[Topic, int]) -> None:
    if settings.rebuild_from_short_log:
        return
    for topic, offset in beginnings.items():
        if offset > 0:
            raise LogTooShortError(
                f"partition {partition}: stopped: Redis must be rebuilt, but {settings.topic(topic)} begins at offset "
                f"{offset}: older records are gone. EBBTIDE_REBUILD_FROM_SHORT_LOG=true rebuilds from what is left"
            )
