"""Restoring a partition's Redis from Kafka: aggregates from the inputs, decisions from `ebbtide-decisions`.

Nothing is decided and nothing published: the inputs are folded exactly up to the committed offsets, and what was
decided from them is taken as it was published.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from enrichment.enricher import Enricher
from enrichment.kernel import DeclinedError
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint, FirstLoad, Skipped
from streams.errors import EbbtideError
from streams.kafka.fetched_batch import FetchedBatch, ReadBatch
from streams.kafka.fetching import UnreadableError
from streams.settings import Settings
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import DecisionTable
from streams.state.partition_facts import Facts, facts_after
from streams.state.store import CHUNK_CUSTOMERS, StateStore
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clients import Clients
from streams.worker.compiled_core import CompiledCore
from streams.worker.restoring.compiled_restore import CompiledFold
from streams.worker.restoring.restored_states import Beginnings, Fold, PythonFold
from streams.worker.runtime import Runtime

log = logging.getLogger(__name__)

FETCH_TIMEOUT_MS = 1_000
SLICE_RECORDS = 200
"""Records read before other partitions and heartbeats get their turn; or batches."""
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
    begun = Beginnings(table, store.erasure_keys)
    fold = await _folded(runtime, begun, partition, list(_ranges(beginnings, committed, table)), load)
    erased = [
        (hashed, store.erased_value(kept.life, kept.erased_up_to_us))
        for hashed, kept in sorted(table.erased.items())
    ]
    await store.put_restored([], erased, table.skipped)
    ids = sorted(begun.decided_ids() | (fold.known_ids() if committed.is_loading else set()))
    for start in range(0, len(ids), CHUNK_CUSTOMERS):
        await store.put_restored(fold.restored(ids[start : start + CHUNK_CUSTOMERS], committed))
    await store.end_restore(committed, model.fingerprint)
    log.warning("partition %d: restored %d customers from %d records", partition, len(ids), fold.records)
    return fold.records, table.facts


async def _folded(
    runtime: Runtime,
    begun: Beginnings,
    partition: int,
    ranges: Sequence[tuple[InputTopic, int, int]],
    load: FirstLoad | None,
) -> Fold:
    """The records of some ranges, taken by the compiled core, or, if that declines any of them, by the Python core."""
    settings, model = runtime.settings, runtime.model
    core = CompiledCore.of(settings, model, settings.change_namespace)
    own = begun, model, settings.clock, load
    if core is not None:
        try:
            return await _fold(CompiledFold(core, *own), runtime, partition, ranges)
        except DeclinedError as error:
            log.info("partition %d: the Python core restores: %s", partition, error)
    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    return await _fold(PythonFold(enricher, *own), runtime, partition, ranges)


async def _fold(
    fold: Fold, runtime: Runtime, partition: int, ranges: Sequence[tuple[InputTopic, int, int]]
) -> Fold:
    for topic, start, end in ranges:
        tp = TopicPartition(runtime.settings.topic(topic), partition)
        async for fetched in read_between(runtime.clients, tp, start, end, fold.read_batch):
            await fold.take(fetched, topic, end)
    return fold


def _ranges(
    beginnings: Mapping[InputTopic, int], committed: Checkpoint, table: DecisionTable
) -> Iterator[tuple[InputTopic, int, int]]:
    """What is to be read, in its order, without what was skipped."""
    for offsets in _parts(beginnings, committed):
        for topic, (first, last) in offsets.items():
            skipped = [entry for entry in table.skipped if entry.topic == topic]
            for start, end in kept_ranges(first, last, skipped):
                yield topic, start, end


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
    clients: Clients, tp: TopicPartition, start: int, end: int, read_batch: ReadBatch | None = None
) -> AsyncIterator[list[Any]]:
    """The committed records of a topic partition from one offset up to, and without, another, in slices.

    With `read_batch` these may be whole batches (`FetchedBatch`), the last of which may reach beyond the end. Between
    two slices others get their turn, however many records have come at once. Raises `UnreadableError` where one of
    their batches cannot be read.
    """
    if start >= end:
        return
    consumer = clients.consumer(
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    consumer.give_batches(read_batch)
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
            records = [
                one for one in fetched.get(tp, []) if isinstance(one, FetchedBatch) or one.offset < end
            ]
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
